//! What is wrong with bytes of the repository.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

/// What kind of wrong it is; a caller decides by it, a person reads the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FormatErrorKind {
    /// The bytes are not what was written.
    Damaged,
    /// The bytes are whole, but sealed with another key (or, with the same key, in another repository).
    WrongKey,
    /// The bytes are another run's or of another type than expected.
    Foreign,
    /// The bytes are in the clear although a key was given.
    Unencrypted,
    /// The bytes use a version or an algorithm that this build does not know.
    Unsupported,
    /// A length or count is beyond its limit.
    Limit,
    /// Records or blocks do not ascend.
    Order,
    /// There is a signature, and it is not valid.
    Signature,
}

/// Why bytes cannot be read or must not be written. Names the object, once the caller told it, and the offset.
pub struct FormatError(Box<Inner>);

struct Inner {
    kind: FormatErrorKind,
    object: Option<String>,
    offset: u64,
    reason: Cow<'static, str>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl FormatError {
    /// A failure at `offset`, in bytes from the start of the object.
    #[must_use]
    pub fn new(kind: FormatErrorKind, offset: u64, reason: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, object: None, offset, reason: reason.into(), source: None }))
    }

    pub(crate) fn damaged(offset: u64, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(FormatErrorKind::Damaged, offset, reason)
    }

    pub(crate) fn limit(offset: u64, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(FormatErrorKind::Limit, offset, reason)
    }

    /// Names the object. The first name stays.
    #[must_use]
    pub fn in_object(mut self, object: impl Into<String>) -> Self {
        self.0.object.get_or_insert_with(|| object.into());
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Places a failure among the records of block `index` at that block's offset in the run.
    #[must_use]
    pub(crate) fn in_block(mut self, index: u64, offset: u64) -> Self {
        self.0.reason = format!("block {index}, byte {} of its records: {}", self.0.offset, self.0.reason).into();
        self.0.offset = offset;
        self
    }

    /// What kind of wrong it is.
    #[must_use]
    pub fn kind(&self) -> FormatErrorKind {
        self.0.kind
    }

    /// The object's path in the repository, where it is known.
    #[must_use]
    pub fn object(&self) -> Option<&str> {
        self.0.object.as_deref()
    }

    /// Where it is wrong, in bytes from the start of the object.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.0.offset
    }

    /// What exactly is wrong.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0.reason
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.object {
            Some(object) => write!(f, "`{object}`")?,
            None => f.write_str("the object")?,
        }
        let what = match self.0.kind {
            FormatErrorKind::Damaged => "is damaged",
            FormatErrorKind::WrongKey => "is sealed with another key",
            FormatErrorKind::Foreign => "is not the object that belongs here",
            FormatErrorKind::Unencrypted => "is not encrypted",
            FormatErrorKind::Unsupported => "needs another version of firebackup",
            FormatErrorKind::Limit => "passes a limit of the format",
            FormatErrorKind::Order => "is not in order",
            FormatErrorKind::Signature => "has a signature that is not valid",
        };
        write!(f, " {what} at byte {}: {}", self.0.offset, self.0.reason)
    }
}

impl fmt::Debug for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FormatError")
            .field("kind", &self.0.kind)
            .field("object", &self.0.object)
            .field("offset", &self.0.offset)
            .field("reason", &self.0.reason)
            .field("source", &self.0.source)
            .finish()
    }
}

impl Error for FormatError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_names_object_offset_and_reason() {
        let error = FormatError::damaged(17, "cut short").in_object("runs/ab/x.run").in_object("other");
        assert_eq!(error.to_string(), "`runs/ab/x.run` is damaged at byte 17: cut short");
        let error = FormatError::damaged(17, "cut short").in_block(3, 4096);
        assert_eq!(error.to_string(), "the object is damaged at byte 4096: block 3, byte 17 of its records: cut short");
    }
}
