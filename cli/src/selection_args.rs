//! Which documents: the arguments that several commands share.

use clap::Args;
use firebackup_model::{DocumentPath, Selection};

use crate::dashed_value::DashedValue;
use crate::error::{CliError, Result};

const HEADING: &str = "Which documents";

/// Whole collections.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct CollectionArgs {
    /// Only this collection, with what lies below it (repeatable): `users`, `users/alice/orders`, `**/orders`
    #[arg(
        long = "collection",
        visible_alias = "include",
        value_name = "PATTERN",
        help_heading = HEADING,
        allow_hyphen_values = true,
        value_parser = DashedValue
    )]
    pub(crate) collections: Vec<String>,
    /// Without this collection and what lies below it (repeatable)
    #[arg(
        long,
        value_name = "PATTERN",
        help_heading = HEADING,
        allow_hyphen_values = true,
        value_parser = DashedValue
    )]
    pub(crate) exclude: Vec<String>,
    /// Only documents directly in the collections of --collection
    #[arg(long, help_heading = HEADING, requires = "collections")]
    pub(crate) no_subcollections: bool,
}

/// Single documents.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PathArgs {
    /// Only documents whose whole path fits (repeatable): `users/*`, `users/a*/orders/*`, `users/alice/**`
    #[arg(
        long = "path",
        value_name = "GLOB",
        help_heading = HEADING,
        allow_hyphen_values = true,
        value_parser = DashedValue
    )]
    pub(crate) globs: Vec<String>,
    /// Only this document (repeatable): `users/alice`
    #[arg(
        long = "document",
        value_name = "PATH",
        help_heading = HEADING,
        allow_hyphen_values = true,
        value_parser = DashedValue
    )]
    pub(crate) documents: Vec<String>,
}

impl CollectionArgs {
    /// Whether nothing was asked for.
    pub(crate) fn is_everything(&self) -> bool {
        self.collections.is_empty() && self.exclude.is_empty()
    }

    /// The selection, checked.
    ///
    /// # Errors
    /// When a pattern cannot be understood.
    pub(crate) fn selection(&self) -> Result<Selection> {
        self.with_paths(&PathArgs::default())
    }

    /// The selection with single documents, checked.
    ///
    /// # Errors
    /// When a pattern or path cannot be understood.
    pub(crate) fn with_paths(&self, paths: &PathArgs) -> Result<Selection> {
        let mut globs = paths.globs.clone();
        for document in &paths.documents {
            let path = DocumentPath::new(document.as_str())
                .map_err(|error| CliError::Usage(format!("--document `{document}`: {error}")))?;
            globs.push(literal(path.as_str()));
        }
        let selection = Selection {
            include: self.collections.clone(),
            exclude: self.exclude.clone(),
            paths: globs,
            subcollections: !self.no_subcollections,
        };
        selection.filter().map_err(|error| CliError::Usage(error.to_string()))?;
        selection.ranges().map_err(|error| CliError::Usage(error.to_string()))?;
        Ok(selection)
    }
}

/// How a selection of all documents is described.
pub(crate) const EVERYTHING: &str = "everything";

/// What a selection takes, for people.
pub(crate) fn describe(selection: &Selection) -> String {
    if selection.is_everything() {
        return EVERYTHING.to_owned();
    }
    let mut parts = Vec::new();
    if !selection.include.is_empty() {
        parts.push(selection.include.join(", "));
    }
    if !selection.paths.is_empty() {
        parts.push(format!("documents {}", selection.paths.join(", ")));
    }
    if !selection.exclude.is_empty() {
        parts.push(format!("without {}", selection.exclude.join(", ")));
    }
    if !selection.subcollections {
        parts.push("no sub-collections".to_owned());
    }
    parts.join("; ")
}

/// A glob that fits this text and nothing else.
fn literal(text: &str) -> String {
    let mut glob = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '{' | '}' | '\\') {
            glob.push('\\');
        }
        glob.push(character);
    }
    glob
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(document: &str, path: &str, expected: bool) {
        let paths = PathArgs { documents: vec![document.to_owned()], ..PathArgs::default() };
        let selection = CollectionArgs::default().with_paths(&paths).unwrap();
        let path = DocumentPath::new(path).unwrap();
        assert_eq!(selection.filter().unwrap().selects(&path), expected, "{document} {path}");
        let in_range = selection.ranges().unwrap().iter().any(|range| range.covers(&path));
        assert!(in_range || !expected, "{document} {path}");
    }

    #[test]
    fn a_document_is_itself_and_no_pattern() {
        check("users/alice", "users/alice", true);
        check("users/alice", "users/alice/orders/1", false);
        for hard in ["users/*", "users/{a,b}", "users/[ab]", "users/a?", "users/a\\b"] {
            check(hard, hard, true);
            check(hard, "users/a", false);
        }
    }

    #[test]
    fn what_names_no_document_is_bad_usage() {
        for bad in ["users", "users/", "/users/a", ""] {
            let paths = PathArgs { documents: vec![bad.to_owned()], ..PathArgs::default() };
            let refused = CollectionArgs::default().with_paths(&paths).unwrap_err();
            assert_eq!(refused.exit(), crate::exit::Exit::Usage, "{bad}");
        }
        let collections = CollectionArgs { collections: vec!["users/alice".to_owned()], ..CollectionArgs::default() };
        assert_eq!(collections.selection().unwrap_err().exit(), crate::exit::Exit::Usage);
    }

    #[test]
    fn a_selection_is_described_in_words() {
        assert_eq!(describe(&Selection::default()), "everything");
        let collections = CollectionArgs {
            collections: vec!["users".to_owned(), "**/orders".to_owned()],
            exclude: vec!["logs".to_owned()],
            no_subcollections: true,
        };
        let selection = collections.selection().unwrap();
        assert_eq!(describe(&selection), "users, **/orders; without logs; no sub-collections");
    }
}
