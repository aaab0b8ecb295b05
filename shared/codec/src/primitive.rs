//! The smallest pieces of the format: varints, times, texts, and a cursor over hostile bytes.

use firebackup_model::Timestamp;
use firebackup_model::wire::{put_varint, varint};

use crate::error::FormatError;

/// Nanoseconds in a second; a time's nanoseconds stay below.
const NANOS: u32 = 1_000_000_000;

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

pub(crate) fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    put_varint(out, zigzag(time.seconds));
    put_varint(out, u64::from(time.nanos));
}

pub(crate) const fn is_time(time: Timestamp) -> bool {
    time.nanos < NANOS
}

const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

const fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// Reads forward through bytes; every failure says where, counted from `base`.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
    base: u64,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8], base: u64) -> Self {
        Self { bytes, position: 0, base }
    }

    pub(crate) const fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    pub(crate) const fn offset(&self) -> u64 {
        self.base + self.position as u64
    }

    pub(crate) fn damaged(&self, reason: &'static str) -> FormatError {
        FormatError::damaged(self.offset(), reason)
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], FormatError> {
        let end = self.position.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.damaged("cut short"))?;
        let bytes = &self.bytes[self.position..end];
        self.position = end;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, FormatError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, FormatError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, FormatError> {
        let read = varint(&self.bytes[self.position..]);
        let (value, length) = read.ok_or_else(|| self.damaged("not a varint"))?;
        self.position += length;
        Ok(value)
    }

    /// A varint that is a length or count; `what` goes with the refusal of one beyond `limit`.
    pub(crate) fn size(&mut self, limit: usize, what: &'static str) -> Result<usize, FormatError> {
        let offset = self.offset();
        let value = self.varint()?;
        let size = usize::try_from(value).ok().filter(|size| *size <= limit);
        size.ok_or_else(|| FormatError::limit(offset, format!("{what}: {value}, at most {limit}")))
    }

    /// A varint that counts items of at least `least` bytes each: never more than the rest can hold.
    pub(crate) fn count(&mut self, least: usize, limit: u64, what: &'static str) -> Result<usize, FormatError> {
        let offset = self.offset();
        let value = self.varint()?;
        if value > limit {
            return Err(FormatError::limit(offset, format!("{what}: {value}, at most {limit}")));
        }
        let count = usize::try_from(value).ok().filter(|count| *count <= self.remaining() / least);
        count.ok_or_else(|| FormatError::damaged(offset, format!("{what}: {value}, more than fit")))
    }

    pub(crate) fn text(&mut self, limit: usize, what: &'static str) -> Result<&'a str, FormatError> {
        let length = self.size(limit, what)?;
        let offset = self.offset();
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes)
            .map_err(|error| FormatError::damaged(offset, format!("{what}: not UTF-8")).with_source(error))
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, FormatError> {
        let offset = self.offset();
        let seconds = unzigzag(self.varint()?);
        let nanos = u32::try_from(self.varint()?).ok().filter(|nanos| *nanos < NANOS);
        let nanos = nanos.ok_or_else(|| FormatError::damaged(offset, "a time's nanoseconds are out of bounds"))?;
        Ok(Timestamp { seconds, nanos })
    }

    /// Refuses anything but zeros in the next `length` bytes.
    pub(crate) fn reserved(&mut self, length: usize) -> Result<(), FormatError> {
        let offset = self.offset();
        if self.take(length)?.iter().any(|byte| *byte != 0) {
            return Err(FormatError::new(crate::FormatErrorKind::Unsupported, offset, "reserved bytes are in use"));
        }
        Ok(())
    }

    pub(crate) fn end(&self) -> Result<(), FormatError> {
        if self.remaining() == 0 { Ok(()) } else { Err(self.damaged("bytes follow where nothing may")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn times_and_texts_round_trip(seconds: i64, nanos in 0..NANOS, text in "\\PC{0,20}") {
            let mut out = Vec::new();
            put_time(&mut out, Timestamp::new(seconds, nanos));
            put_text(&mut out, &text);
            let mut cursor = Cursor::new(&out, 100);
            prop_assert_eq!(cursor.time().unwrap(), Timestamp::new(seconds, nanos));
            prop_assert_eq!(cursor.text(1000, "text").unwrap(), text);
            prop_assert!(cursor.end().is_ok());
            prop_assert_eq!(cursor.offset(), 100 + out.len() as u64);
        }
    }

    #[test]
    fn lengths_beyond_the_rest_or_the_limit_are_refused() {
        let bytes = [0xff, 0xff, 0xff, 0xff, 0x0f, b'x'];
        assert!(Cursor::new(&bytes, 0).text(usize::MAX, "text").is_err());
        assert!(Cursor::new(&bytes, 0).count(1, u64::MAX, "items").is_err());
        assert!(Cursor::new(&[5, b'x'], 0).size(4, "text").is_err());
        assert!(Cursor::new(&[0xff], 0).varint().is_err());
        assert!(Cursor::new(&[0, 0x80, 0x94, 0xeb, 0xdc, 0x03], 0).time().is_err());
        assert!(Cursor::new(&[0, 1], 0).reserved(2).is_err());
    }
}
