//! Where in a document something is, for errors.

use std::fmt;

use crate::document_value::MAX_DEPTH;

/// A place in a document: the document, a member of it, or a value at any depth. It borrows its parents, so that going
/// down costs nothing until an error needs the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'p> {
    step: Step<'p>,
    depth: usize,
}

#[derive(Debug, Clone, Copy)]
enum Step<'p> {
    Document,
    Member(&'static str),
    Field(&'p Place<'p>, &'p str),
    Element(&'p Place<'p>, usize),
}

impl<'p> Place<'p> {
    /// The document.
    pub(super) const DOCUMENT: Place<'static> = Place { step: Step::Document, depth: 0 };

    /// A member of the document that is no field.
    pub(super) const fn member(name: &'static str) -> Self {
        Self { step: Step::Member(name), depth: 0 }
    }

    /// The field `key` of the document or map here.
    pub(super) const fn field(&'p self, key: &'p str) -> Self {
        Self { step: Step::Field(self, key), depth: self.depth + 1 }
    }

    /// The element `index` of the array here.
    pub(super) const fn element(&'p self, index: usize) -> Self {
        Self { step: Step::Element(self, index), depth: self.depth + 1 }
    }

    /// Whether no value may lie here.
    pub(super) const fn is_too_deep(&self) -> bool {
        self.depth > MAX_DEPTH
    }

    fn path(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Step::Document | Step::Member(_) => Ok(()),
            Step::Field(parent, key) => {
                parent.path(f)?;
                f.write_str(if parent.depth == 0 { "" } else { "." })?;
                segment(key, f)
            }
            Step::Element(parent, index) => {
                parent.path(f)?;
                write!(f, "[{index}]")
            }
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Step::Document => f.write_str("the document"),
            Step::Member(name) => write!(f, "its {name}"),
            Step::Field(..) | Step::Element(..) => {
                f.write_str("field ")?;
                self.path(f)
            }
        }
    }
}

/// A segment of a field path as Firestore writes it: quoted, unless it is a simple name.
fn segment(key: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let starts_well = key.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if starts_well && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return f.write_str(key);
    }
    f.write_str("`")?;
    for c in key.chars() {
        match c {
            '`' | '\\' => write!(f, "\\{c}")?,
            // so that an error stays on one line
            c if c.is_control() => write!(f, "{}", c.escape_default())?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_field_paths_as_firestore_does() {
        let a = Place::DOCUMENT.field("a");
        let element = a.element(3);
        let quoted = element.field("x.`y\n");
        assert_eq!(Place::DOCUMENT.to_string(), "the document");
        assert_eq!(Place::member("createTime").to_string(), "its createTime");
        assert_eq!(a.to_string(), "field a");
        assert_eq!(quoted.to_string(), "field a[3].`x.\\`y\\n`");
        assert_eq!(Place::DOCUMENT.field("").to_string(), "field ``");
        assert_eq!(Place::DOCUMENT.field("1").to_string(), "field `1`");
    }
}
