//! The first 132 bytes of a run.

use firebackup_model::Timestamp;
use firebackup_model::id::{KeyId, RunId};
use firebackup_model::manifest::{Cipher, Compression, FORMAT_VERSION, Level, RunKind};

use crate::compress;
use crate::error::{FormatError, FormatErrorKind};
use crate::limit::MAX_BLOCK_SIZE;
use crate::primitive::{Cursor, is_time};

/// Bytes of a header.
pub const HEADER: usize = 132;

const MAGIC: [u8; 8] = *b"\x89FBRUN\r\n";
const CHECKED: usize = HEADER - 4;
const LEVEL_AUTO: u8 = 255;
const NO_READ_TIME: u32 = u32::MAX;

/// What the first bytes of a run say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunHeader {
    /// What kind of records it holds.
    pub kind: RunKind,
    /// How it is sealed.
    pub cipher: Cipher,
    /// The compression that was asked for; each block says which it got.
    pub compression: Compression,
    /// The run's id.
    pub run: RunId,
    /// The data key; nothing without a cipher.
    pub key: Option<KeyId>,
    /// Random bytes that make the run's keys its own.
    pub salt: [u8; 32],
    /// Proves which key it was sealed with; zero without a cipher.
    pub commitment: [u8; 32],
    /// Bytes before compression that blocks were aimed at.
    pub block_size: u32,
    /// The read time of its documents, where there is one.
    pub read_time: Option<Timestamp>,
}

const fn kind_code(kind: RunKind) -> u8 {
    match kind {
        RunKind::Base => 1,
        RunKind::Delta => 2,
        RunKind::Users => 3,
    }
}

fn kind(code: u8) -> Result<RunKind, FormatError> {
    match code {
        1 => Ok(RunKind::Base),
        2 => Ok(RunKind::Delta),
        3 => Ok(RunKind::Users),
        _ => Err(FormatError::new(FormatErrorKind::Unsupported, 10, format!("unknown kind of run {code}"))),
    }
}

impl RunHeader {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER] {
        let level = match self.compression.level {
            Level::Auto => LEVEL_AUTO,
            Level::Fixed(level) => level,
        };
        let read_time = self.read_time.unwrap_or(Timestamp { seconds: 0, nanos: NO_READ_TIME });
        let mut out = [0; HEADER];
        out[..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[10] = kind_code(self.kind);
        out[11] = super::cipher_code(self.cipher);
        out[12] = compress::code(self.compression.algorithm);
        out[13] = level;
        out[16..32].copy_from_slice(&self.run.0);
        out[32..48].copy_from_slice(&self.key.map_or([0; 16], |key| key.0));
        out[48..80].copy_from_slice(&self.salt);
        out[80..112].copy_from_slice(&self.commitment);
        out[112..116].copy_from_slice(&self.block_size.to_le_bytes());
        out[116..124].copy_from_slice(&read_time.seconds.to_le_bytes());
        out[124..128].copy_from_slice(&read_time.nanos.to_le_bytes());
        let crc = crc32c::crc32c(&out[..CHECKED]);
        out[CHECKED..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header. It is known to be whole, not to be genuine: that shows with the first thing that opens.
    ///
    /// # Errors
    /// When it is damaged, no run's, or of an unknown version.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(bytes, 0);
        if cursor.array()? != MAGIC {
            return Err(FormatError::damaged(0, "it does not begin like a run"));
        }
        let version = cursor.u16()?;
        super::check_crc(bytes, CHECKED)?;
        super::check_version(version)?;
        let kind = kind(cursor.byte()?)?;
        let cipher = super::cipher(cursor.byte()?, 11)?;
        let compression = compression(cursor.array()?)?;
        cursor.reserved(2)?;
        let (run, key, salt, commitment) = (RunId(cursor.array()?), cursor.array()?, cursor.array()?, cursor.array()?);
        let key = super::key_of_cipher(cipher, key, &commitment, 32)?;
        let block_size = cursor.u32()?;
        if block_size > MAX_BLOCK_SIZE {
            return Err(FormatError::limit(112, format!("a block size of {block_size}, at most {MAX_BLOCK_SIZE}")));
        }
        let read_time = read_time(cursor.array()?, cursor.array()?)?;
        Ok(Self { kind, cipher, compression, run, key, salt, commitment, block_size, read_time })
    }
}

fn compression([algorithm, level]: [u8; 2]) -> Result<Compression, FormatError> {
    let algorithm = compress::algorithm(algorithm, 12)?;
    let (low, high) = algorithm.levels();
    let level = match level {
        LEVEL_AUTO => Level::Auto,
        level if (low..=high).contains(&level) => Level::Fixed(level),
        _ => return Err(FormatError::damaged(13, format!("{} has no level {level}", algorithm.name()))),
    };
    Ok(Compression { algorithm, level })
}

fn read_time(seconds: [u8; 8], nanos: [u8; 4]) -> Result<Option<Timestamp>, FormatError> {
    let time = Timestamp { seconds: i64::from_le_bytes(seconds), nanos: u32::from_le_bytes(nanos) };
    match time.nanos {
        NO_READ_TIME if time.seconds == 0 => Ok(None),
        _ if is_time(time) => Ok(Some(time)),
        _ => Err(FormatError::damaged(116, "its read time is not a time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebackup_model::manifest::Algorithm;
    use proptest::prelude::*;

    fn any_header() -> impl Strategy<Value = RunHeader> {
        let kind = prop_oneof![Just(RunKind::Base), Just(RunKind::Delta), Just(RunKind::Users)];
        let compression = prop_oneof![
            Just("none".to_owned()),
            (0u8..12).prop_map(|level| format!("brotli:{level}")),
            (1u8..23).prop_map(|level| format!("zstd:{level}")),
            Just("gzip:auto".to_owned()),
        ];
        let time = proptest::option::of((any::<i64>(), 0u32..1_000_000_000));
        let key = proptest::option::of((any::<[u8; 16]>(), any::<[u8; 32]>()));
        (kind, compression, any::<[u8; 16]>(), key, any::<[u8; 32]>(), 0..=MAX_BLOCK_SIZE, time).prop_map(
            |(kind, compression, run, key, salt, block_size, time)| RunHeader {
                kind,
                cipher: if key.is_some() { Cipher::Aes256Gcm } else { Cipher::None },
                compression: compression.parse().unwrap(),
                run: RunId(run),
                key: key.map(|(key, _)| KeyId(key)),
                salt,
                commitment: key.map_or([0; 32], |(_, commitment)| commitment),
                block_size,
                read_time: time.map(|(seconds, nanos)| Timestamp::new(seconds, nanos)),
            },
        )
    }

    proptest! {
        #[test]
        fn headers_round_trip_and_no_flip_passes(header in any_header(), bit in 0..HEADER * 8) {
            let mut bytes = header.encode();
            prop_assert_eq!(RunHeader::parse(&bytes).unwrap(), header);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(RunHeader::parse(&bytes).is_err());
        }
    }

    fn refused(change: impl FnOnce(&mut [u8; HEADER])) -> FormatErrorKind {
        let header = RunHeader {
            kind: RunKind::Base,
            cipher: Cipher::None,
            compression: Compression { algorithm: Algorithm::Zstd, level: Level::Fixed(3) },
            run: RunId([1; 16]),
            key: None,
            salt: [2; 32],
            commitment: [0; 32],
            block_size: 1 << 20,
            read_time: None,
        };
        let mut bytes = header.encode();
        change(&mut bytes);
        let crc = crc32c::crc32c(&bytes[..CHECKED]);
        bytes[CHECKED..].copy_from_slice(&crc.to_le_bytes());
        RunHeader::parse(&bytes).unwrap_err().kind()
    }

    #[test]
    fn what_a_right_checksum_covers_is_still_checked() {
        assert_eq!(refused(|bytes| bytes[8] = 2), FormatErrorKind::Unsupported);
        assert_eq!(refused(|bytes| bytes[10] = 4), FormatErrorKind::Unsupported);
        assert_eq!(refused(|bytes| bytes[11] = 2), FormatErrorKind::Unsupported);
        assert_eq!(refused(|bytes| bytes[12] = 9), FormatErrorKind::Unsupported);
        assert_eq!(refused(|bytes| bytes[13] = 23), FormatErrorKind::Damaged);
        assert_eq!(refused(|bytes| bytes[14] = 1), FormatErrorKind::Unsupported);
        assert_eq!(refused(|bytes| bytes[32] = 1), FormatErrorKind::Damaged);
        assert_eq!(refused(|bytes| bytes[80] = 1), FormatErrorKind::Damaged);
        assert_eq!(refused(|bytes| bytes[115] = 1), FormatErrorKind::Limit);
        assert_eq!(refused(|bytes| bytes[124] = 0), FormatErrorKind::Damaged);
        assert_eq!(refused(|bytes| bytes[116] = 1), FormatErrorKind::Damaged);
    }

    #[test]
    fn a_cut_header_is_refused() {
        for length in 0..HEADER {
            assert!(RunHeader::parse(&vec![0x89; length]).is_err());
        }
    }
}
