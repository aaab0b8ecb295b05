//! The name of a Firestore database.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::path::{DocumentPath, PathError};

/// The id of a project's first database.
pub const DEFAULT_DATABASE: &str = "(default)";

/// A project and one of its databases.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DatabaseName {
    /// The Google Cloud project id.
    pub project: String,
    /// The database id; `(default)` for the first one.
    pub database: String,
}

impl DatabaseName {
    /// Names `database` in `project`.
    #[must_use]
    pub fn new(project: impl Into<String>, database: impl Into<String>) -> Self {
        Self { project: project.into(), database: database.into() }
    }

    /// `projects/<project>/databases/<database>`.
    #[must_use]
    pub fn resource(&self) -> String {
        format!("projects/{}/databases/{}", self.project, self.database)
    }

    /// The documents root, the parent of every query: `<resource>/documents`.
    #[must_use]
    pub fn documents_root(&self) -> String {
        format!("{}/documents", self.resource())
    }

    /// The full name of a document in this database.
    #[must_use]
    pub fn document_name(&self, path: &str) -> String {
        format!("{}/documents/{path}", self.resource())
    }

    /// The relative path in a full document name, when the name lies in this database.
    #[must_use]
    pub fn relative<'n>(&self, name: &'n str) -> Option<&'n str> {
        name.strip_prefix("projects/")?
            .strip_prefix(self.project.as_str())?
            .strip_prefix("/databases/")?
            .strip_prefix(self.database.as_str())?
            .strip_prefix("/documents/")
    }

    /// As [`Self::relative`], checked to be a document path.
    ///
    /// # Errors
    /// When the name lies in another database or is not a document's.
    pub fn path_of(&self, name: &str) -> Result<DocumentPath, PathError> {
        DocumentPath::new(self.relative(name).unwrap_or_default())
    }
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.database)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_its_path_are_inverse() {
        let database = DatabaseName::new("p", DEFAULT_DATABASE);
        let name = database.document_name("a/b");
        assert_eq!(name, "projects/p/databases/(default)/documents/a/b");
        assert_eq!(database.relative(&name), Some("a/b"));
        assert_eq!(DatabaseName::new("p", "(default)2").relative(&name), None);
        assert_eq!(DatabaseName::new("p2", DEFAULT_DATABASE).relative(&name), None);
        assert!(DatabaseName::new("p2", DEFAULT_DATABASE).path_of(&name).is_err());
    }
}
