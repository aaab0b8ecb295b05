//! Protobuf's wire format, read without knowing the messages.
//!
//! Documents pass through FireBackup as the bytes they came in. The little that must be seen of them (a name, a
//! time, a reference) is found by walking tags, so that unknown fields and the order of map entries stay untouched.

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed protobuf at byte {offset}: {reason}")]
pub struct WireError {
    /// Offset in the message that was being read.
    pub offset: usize,
    reason: &'static str,
}

/// One field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The field number.
    pub number: u32,
    /// Its value.
    pub value: Value<'a>,
    /// Tag and value as they stand in the message.
    pub raw: &'a [u8],
}

/// The value of a field, by wire type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: a string, bytes or a message.
    Bytes(&'a [u8]),
    /// Wire type 3, whole: only its raw bytes are of use.
    Group,
    /// Wire type 5.
    Fixed32(u32),
}

/// Walks the fields of a message.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    message: &'a [u8],
    position: usize,
}

const MAX_GROUP_DEPTH: usize = 100;

impl<'a> Fields<'a> {
    /// The fields of `message`, in their order.
    #[must_use]
    pub const fn of(message: &'a [u8]) -> Self {
        Self { message, position: 0 }
    }

    /// The next field, or nothing at the end.
    ///
    /// # Errors
    /// When the message is cut short or malformed.
    #[allow(clippy::should_implement_trait)] // fallible, so not an iterator
    pub fn next(&mut self) -> Result<Option<Field<'a>>, WireError> {
        if self.position == self.message.len() {
            return Ok(None);
        }
        let start = self.position;
        let (number, wire_type) = self.tag()?;
        let value = self.value(number, wire_type, 0)?;
        Ok(Some(Field { number, value, raw: &self.message[start..self.position] }))
    }

    fn tag(&mut self) -> Result<(u32, u8), WireError> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number != 0);
        number.map(|number| (number, (tag & 7) as u8)).ok_or_else(|| self.error("bad field number"))
    }

    fn value(&mut self, number: u32, wire_type: u8, depth: usize) -> Result<Value<'a>, WireError> {
        match wire_type {
            0 => self.varint().map(Value::Varint),
            1 => self.take(8).map(|b| Value::Fixed64(u64::from_le_bytes(b.try_into().unwrap_or_default()))),
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| self.error("length out of bounds"))?;
                self.take(length).map(Value::Bytes)
            }
            3 => self.skip_group(number, depth).map(|()| Value::Group),
            5 => self.take(4).map(|b| Value::Fixed32(u32::from_le_bytes(b.try_into().unwrap_or_default()))),
            _ => Err(self.error("unknown wire type")),
        }
    }

    fn skip_group(&mut self, number: u32, depth: usize) -> Result<(), WireError> {
        if depth >= MAX_GROUP_DEPTH {
            return Err(self.error("groups nested too deep"));
        }
        loop {
            let (inner, wire_type) = self.tag()?;
            if wire_type == 4 {
                return if inner == number { Ok(()) } else { Err(self.error("group ends with another number")) };
            }
            self.value(inner, wire_type, depth + 1)?;
        }
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let (value, length) = varint(&self.message[self.position..]).ok_or_else(|| self.error("bad varint"))?;
        self.position += length;
        Ok(value)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let end = self.position.checked_add(length).filter(|end| *end <= self.message.len());
        let end = end.ok_or_else(|| self.error("cut short"))?;
        let bytes = &self.message[self.position..end];
        self.position = end;
        Ok(bytes)
    }

    const fn error(&self, reason: &'static str) -> WireError {
        WireError { offset: self.position, reason }
    }
}

/// Reads a varint from the start of `bytes`: its value and how many bytes it took. Nothing when cut or too long.
#[must_use]
pub fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if index == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

/// Appends `value` to `out` as a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length-delimited field to `out`.
pub fn put_bytes_field(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn walks_every_wire_type_and_keeps_the_raw_bytes() {
        let message = [
            0x08, 0x96, 0x01, 0x12, 2, b'h', b'i', 0x1d, 1, 0, 0, 0, 0x21, 2, 0, 0, 0, 0, 0, 0, 0, 0x2b, 0x08, 1, 0x2c,
        ];
        let mut fields = Fields::of(&message);
        let mut raw = Vec::new();
        let mut values = Vec::new();
        while let Some(field) = fields.next().unwrap() {
            raw.extend_from_slice(field.raw);
            values.push((field.number, field.value));
        }
        assert_eq!(raw, message);
        assert_eq!(
            values,
            [
                (1, Value::Varint(150)),
                (2, Value::Bytes(b"hi")),
                (3, Value::Fixed32(1)),
                (4, Value::Fixed64(2)),
                (5, Value::Group)
            ]
        );
    }

    #[test]
    fn refuses_what_is_cut_or_malformed() {
        for bad in [
            &[0x08][..],
            &[0x12, 5, 1],
            &[0x00],
            &[0x0f],
            &[0x0b, 0x14],
            &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ] {
            let mut fields = Fields::of(bad);
            assert!(fields.next().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn varints_round_trip(value: u64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(varint(&out), Some((value, out.len())));
        }

        #[test]
        fn rubbish_never_panics(bytes: Vec<u8>) {
            let mut fields = Fields::of(&bytes);
            while let Ok(Some(_)) = fields.next() {}
        }
    }
}
