//! Resume tokens: opaque to clients, good until the proxy ends or is told to forget them.

use firebackup_model::Timestamp;

const BYTES: usize = 20;

/// Where a listen may go on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    /// Which tokens it belongs to: those of one proxy, given out since it last forgot all.
    pub generation: u64,
    /// The point that it was given out with.
    pub read_time: Timestamp,
}

impl Token {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.read_time.seconds.to_be_bytes());
        bytes.extend_from_slice(&self.read_time.nanos.to_be_bytes());
        bytes
    }

    /// The token of these bytes; none when no proxy gave them out.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (generation, rest) = bytes.split_first_chunk()?;
        let (seconds, nanos) = rest.split_first_chunk()?;
        let read_time = Timestamp::new(i64::from_be_bytes(*seconds), u32::from_be_bytes(nanos.try_into().ok()?));
        Some(Self { generation: u64::from_be_bytes(*generation), read_time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_and_rubbish_does_not() {
        let token = Token { generation: u64::MAX - 3, read_time: Timestamp::new(1_700_000_000, 123_456_000) };
        let bytes = token.encode();
        assert_eq!(Token::decode(&bytes), Some(token));
        for cut in 0..bytes.len() {
            assert_eq!(Token::decode(&bytes[..cut]), None);
        }
        assert_eq!(Token::decode(&[&bytes[..], b"x"].concat()), None);
    }
}
