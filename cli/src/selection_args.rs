//! Which documents: the arguments that several commands share.

use std::error::Error;

use clap::Args;
use firebackup_model::selection::{SelectionError, literal};
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
        check(&selection)?;
        Ok(selection)
    }
}

/// Refuses patterns that cannot be understood, with the one and what is wrong with it.
fn check(selection: &Selection) -> Result<()> {
    let just = |pattern: &String| vec![pattern.clone()];
    let collections = selection.include.iter().chain(&selection.exclude);
    let collections = collections.map(|p| (p, Selection { include: just(p), ..Selection::default() }));
    let globs = selection.paths.iter().map(|p| (p, Selection { paths: just(p), ..Selection::default() }));
    for (pattern, alone) in collections.chain(globs) {
        alone.filter().map_err(|error| refused(pattern, &error))?;
    }
    selection.ranges().map_err(|error| CliError::Usage(error.to_string()))?;
    Ok(())
}

/// What is wrong with the signs of a pattern says more than what it should be.
fn refused(pattern: &str, error: &SelectionError) -> CliError {
    let Some(cause) = error.source() else { return CliError::Usage(error.to_string()) };
    let cause = cause.to_string();
    let about = format!("error parsing glob '{pattern}': ");
    let reason = cause.strip_prefix(&about).unwrap_or(&cause).to_owned();
    CliError::Pattern { pattern: pattern.to_owned(), reason }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(document: &str, path: &str, expected: bool) {
        let paths = PathArgs { documents: vec![document.to_owned()], ..PathArgs::default() };
        let selection = CollectionArgs::default().with_paths(&paths).unwrap();
        let path = DocumentPath::new(path).unwrap();
        assert_eq!(selection.filter().unwrap().selects(&path), expected, "{document} {path}");
        let in_range = selection.ranges().unwrap().iter().any(|range| range.covers(&path));
        assert!(in_range || !expected, "{document} {path}");
    }

    #[test]
    fn a_document_is_itself_and_no_pattern() {
        selects("users/alice", "users/alice", true);
        selects("users/alice", "users/alice/orders/1", false);
        for hard in ["users/*", "users/{a,b}", "users/[ab]", "users/a?", "users/a\\b"] {
            selects(hard, hard, true);
            selects(hard, "users/a", false);
        }
    }

    #[test]
    fn a_pattern_that_cannot_be_understood_says_why_and_what_to_do() {
        for (bad, says) in [
            ("users[", "missing ']'"),
            ("users\\", "dangling '\\'"),
            ("{users", "missing '}'"),
            ("u\n[", "missing ']'"),
        ] {
            let collections = CollectionArgs { collections: vec![bad.to_owned()], ..CollectionArgs::default() };
            let excluded = CollectionArgs { exclude: vec![bad.to_owned()], ..CollectionArgs::default() };
            let paths = PathArgs { globs: vec![format!("a/{bad}")], ..PathArgs::default() };
            for refused in [
                collections.selection().unwrap_err(),
                excluded.selection().unwrap_err(),
                CollectionArgs::default().with_paths(&paths).unwrap_err(),
            ] {
                let report = refused.report();
                assert_eq!((refused.exit(), report.kind), (crate::exit::Exit::Usage, "usage"), "{bad:?}");
                assert!(report.message.contains(says) && !report.message.contains("glob"), "{report:?}");
                assert!(!report.message.contains("segments"), "it says what is wrong: {report:?}");
                assert!(report.hint.is_some_and(|hint| hint.contains("backslash")), "{bad:?}");
            }
        }
        // a path with an even number of segments is no collection, whatever its signs
        let even = CollectionArgs { collections: vec!["users/a".to_owned()], ..CollectionArgs::default() };
        assert!(even.selection().unwrap_err().to_string().contains("odd number of segments"));
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
