//! Reads a run: last bytes, footer, then any block. The caller does the reading; here it is checked and opened.

use firebackup_model::id::{RepositoryId, RunId};
use firebackup_model::manifest::Algorithm;
use sha2::{Digest, Sha256};

use crate::compress;
use crate::error::{FormatError, FormatErrorKind};
use crate::limit::MAX_FOOTER;
use crate::primitive::Cursor;
use crate::record::{RecordRef, Records};
use crate::run::block::{Tally, span};
use crate::run::footer::{BlockInfo, Footer};
use crate::run::header::{HEADER, RunHeader};
use crate::run::ladder::Ladder;
use crate::run::{FRAME, RunCipher, TRAILER, TRAILER_MAGIC};
use crate::sealing::{NONCE_ZERO, Sealing, TAG};

/// The least bytes of a run: header, one block of one record, footer and trailer.
const LEAST_RUN: u64 = (HEADER + FRAME + 2 * TAG + TRAILER) as u64;

/// Opens the parts of one run.
#[derive(Debug, Clone)]
pub struct RunOpener {
    header: RunHeader,
    cipher: RunCipher,
}

/// What stands before a block's sealed bytes.
struct Frame {
    stored: u32,
    raw_length: u32,
    records: u32,
    algorithm: Algorithm,
    last: bool,
}

impl RunOpener {
    /// Checks the first 132 bytes of a run against the run that is expected and the key at hand. Pass
    /// [`Sealing::Plain`] only where a run in the clear is acceptable.
    ///
    /// # Errors
    /// When the header is damaged or another run's, the key is not the one it was sealed with, or it is in the clear
    /// although `sealing` is a key.
    pub fn open(
        header: &[u8],
        expected: RunId,
        repository: RepositoryId,
        sealing: &Sealing,
    ) -> Result<Self, FormatError> {
        let bytes: &[u8; HEADER] = header
            .try_into()
            .map_err(|_| FormatError::damaged(0, format!("{} bytes of header, not {HEADER}", header.len())))?;
        let header = RunHeader::parse(bytes)?;
        if header.run != expected {
            let reason = format!("it is run {}, not {expected}", header.run);
            return Err(FormatError::new(FormatErrorKind::Foreign, 16, reason));
        }
        let commitment = RunCipher::commitment(sealing, repository, &header);
        sealing.check_header(header.key, &header.commitment, commitment, 32)?;
        let cipher = RunCipher::new(sealing, repository, &header, bytes);
        Ok(Self { header, cipher })
    }

    /// What the run's header says.
    #[must_use]
    pub const fn header(&self) -> &RunHeader {
        &self.header
    }

    /// Opens and reads the footer. `footer` are the bytes before the trailer, as many as [`footer_length`] says.
    ///
    /// # Errors
    /// When it is damaged, of another run, or does not fit `object_size`, the bytes of the whole run.
    pub fn footer(&self, footer: &[u8], trailer: &[u8; TRAILER], object_size: u64) -> Result<Footer, FormatError> {
        let length = footer_length(trailer)?;
        let end = object_size.saturating_sub(TRAILER as u64);
        let offset = end.saturating_sub(u64::from(length));
        if object_size < LEAST_RUN || footer.len() != length as usize || offset < HEADER as u64 {
            return Err(FormatError::damaged(offset, "its footer is cut short"));
        }
        let crc = crc32c::crc32c_append(crc32c::crc32c(footer), &trailer[..4]);
        if trailer[4..8] != crc.to_le_bytes() {
            return Err(FormatError::damaged(offset, "the checksum of its footer is wrong"));
        }
        let mut payload = footer.to_vec();
        let data = self.cipher.footer_binding(offset);
        self.cipher
            .footer
            .open(NONCE_ZERO, &data, &mut payload)
            .map_err(|_| FormatError::damaged(offset, "its footer is not what was sealed, or another run's"))?;
        let footer = Footer::parse(&payload, offset, self.header.kind)?;
        if footer.offset() != offset {
            let reason = format!("its blocks end at byte {}, its footer begins elsewhere", footer.offset());
            return Err(FormatError::damaged(offset, reason));
        }
        Ok(footer)
    }

    /// Opens block `index` of the footer, given as the bytes from its offset on, as many as its length; `out` gets the
    /// records before compression. Their number, order, first and last paths are as the footer says.
    ///
    /// # Errors
    /// When the bytes are damaged or another block's, or there is no such block.
    pub fn block(&self, footer: &Footer, index: usize, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), FormatError> {
        let info = footer.blocks.get(index).ok_or_else(|| {
            FormatError::damaged(footer.offset(), format!("no block {index} of {}", footer.blocks.len()))
        })?;
        let last = index + 1 == footer.blocks.len();
        self.open_block(info, index as u64, last, bytes, out)?;
        let mut ladder = Ladder::new(self.header.kind);
        check_records(info, out, &mut ladder, &mut |_| ()).map_err(|error| error.in_block(index as u64, info.offset))
    }

    fn open_block(
        &self,
        info: &BlockInfo,
        index: u64,
        last: bool,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), FormatError> {
        let cut = || FormatError::damaged(info.offset, format!("block {index} is cut short"));
        let (frame, stored) = bytes.split_first_chunk::<FRAME>().ok_or_else(cut)?;
        if bytes.len() != info.length as usize {
            return Err(cut());
        }
        let (nonce, data) = self.cipher.block_binding(index, frame);
        let mut payload = stored.to_vec();
        self.cipher.block.open(nonce, &data, &mut payload).map_err(|_| {
            let reason = format!("block {index} is not what was sealed, or stands in another place or run");
            FormatError::damaged(info.offset, reason)
        })?;
        // Only now is the frame known to be what was written: a flipped bit in it is damage, no unknown algorithm.
        let frame = Frame::parse(frame, info.offset)?;
        let fits = frame.stored as usize == stored.len()
            && (frame.raw_length, frame.records, frame.last) == (info.raw_length, info.records, last);
        if !fits {
            return Err(FormatError::damaged(info.offset, format!("block {index} is not the one in its footer")));
        }
        if frame.algorithm == Algorithm::None && payload.len() == info.raw_length as usize {
            *out = payload;
            return Ok(());
        }
        compress::decompress(frame.algorithm, &payload, info.raw_length as usize, out)
            .map_err(|error| error.in_block(index, info.offset))
    }
}

impl Frame {
    fn parse(bytes: &[u8; FRAME], offset: u64) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(bytes, offset);
        let (stored, raw_length, records) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
        let algorithm = compress::algorithm(cursor.byte()?, offset + 12)?;
        let level = cursor.byte()?;
        let flags = cursor.byte()?;
        cursor.reserved(1)?;
        let (low, high) = algorithm.levels();
        if flags > 1 || !(low..=high).contains(&level) {
            return Err(FormatError::new(
                FormatErrorKind::Unsupported,
                offset + 13,
                "a block has unknown flags or level",
            ));
        }
        Ok(Self { stored, raw_length, records, algorithm, last: flags == 1 })
    }
}

/// How long the footer is that stands before this trailer, the last 16 bytes of a run.
///
/// # Errors
/// When they are no trailer, or the footer would be beyond its limit.
pub fn footer_length(trailer: &[u8; TRAILER]) -> Result<u32, FormatError> {
    let mut cursor = Cursor::new(trailer, 0);
    let (length, _crc, magic) = (cursor.u32()?, cursor.u32()?, cursor.array()?);
    if magic != TRAILER_MAGIC {
        return Err(FormatError::damaged(0, "it does not end like a run: cut short, or something was appended"));
    }
    if length as usize > MAX_FOOTER || (length as usize) < TAG {
        return Err(FormatError::limit(0, format!("a footer of {length} bytes, at most {MAX_FOOTER}")));
    }
    Ok(length)
}

/// Walks the records of a block and compares them with what the footer says of it.
fn check_records<'a>(
    info: &BlockInfo,
    raw: &'a [u8],
    ladder: &mut Ladder,
    each: &mut dyn FnMut(RecordRef<'a>),
) -> Result<(), FormatError> {
    let mut records = Records::new(raw);
    let (mut count, mut last) = (0u32, None);
    loop {
        let offset = records.offset();
        let Some(record) = records.next() else { break };
        let record = record?;
        ladder.admit(&record, offset)?;
        if count == 0 && record.path != info.first.as_str() {
            return Err(FormatError::damaged(offset, "its first path is not the one in the footer"));
        }
        count += 1;
        last = Some(record.path);
        each(record);
    }
    if count != info.records || last != Some(info.last.as_str()) {
        return Err(FormatError::damaged(raw.len() as u64, "its records are not those in the footer"));
    }
    Ok(())
}

/// Checks all of a run that is in memory, its hash and totals too, and hands out each record in order.
///
/// # Errors
/// When anything in it is not as it was written, or another run's, or the key does not fit; records that were handed
/// out before must then not be relied on.
pub fn read_whole(
    bytes: &[u8],
    expected: RunId,
    repository: RepositoryId,
    sealing: &Sealing,
    mut each: impl FnMut(RecordRef<'_>),
) -> Result<Footer, FormatError> {
    let opener = RunOpener::open(bytes.get(..HEADER).unwrap_or(bytes), expected, repository, sealing)?;
    let footer = read_footer(&opener, bytes)?;
    let mut tally = Tally::default();
    let mut times = None;
    let mut ladder = Ladder::new(opener.header.kind);
    let mut raw = Vec::new();
    for (index, info) in footer.blocks.iter().enumerate() {
        let start = info.offset as usize;
        let block = bytes.get(start..start + info.length as usize).unwrap_or_default();
        opener.open_block(info, index as u64, index + 1 == footer.blocks.len(), block, &mut raw)?;
        let mut note = |record: RecordRef<'_>| {
            tally.add(&record);
            times = record.update_time.map_or(times, |time| span(times, (time, time)));
            each(record);
        };
        check_records(info, &raw, &mut ladder, &mut note).map_err(|error| error.in_block(index as u64, info.offset))?;
    }
    if tally.take() != footer.collections || times != footer.times {
        return Err(FormatError::damaged(footer.offset(), "the totals of its footer are not those of its records"));
    }
    Ok(footer)
}

fn read_footer(opener: &RunOpener, bytes: &[u8]) -> Result<Footer, FormatError> {
    let cut = || FormatError::damaged(bytes.len() as u64, "cut short");
    let (body, trailer) = bytes.split_last_chunk::<TRAILER>().ok_or_else(cut)?;
    let start = body.len().checked_sub(footer_length(trailer)? as usize).ok_or_else(cut)?;
    let footer = opener.footer(&body[start..], trailer, bytes.len() as u64)?;
    if footer.sha256 != <[u8; 32]>::from(Sha256::digest(&body[..start])) {
        return Err(FormatError::damaged(0, "its hash is not the one in its footer"));
    }
    Ok(footer)
}
