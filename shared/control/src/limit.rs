//! What may be written into a field.

use firebackup_model::Selection;
use firebackup_model::manifest::Compression;
use firebackup_model::range::PathRange;

use crate::backup::{BackupConfig, BackupType};
use crate::error::{ControlError, Result};
use crate::job::Rename;

/// The most characters a name may have.
pub(crate) const MAX_NAME: usize = 100;
/// The most entries a list may have.
pub(crate) const MAX_LIST: usize = 100;
/// The most bytes an entry of a list may have.
const MAX_ENTRY: usize = 1500;
/// The most bytes all patterns of one request may have together.
const MAX_PATTERNS: usize = 64 * 1024;
/// The most projects, destinations, schedules, members, invites and keys an organization may have, of each.
pub(crate) const MAX_RECORDS: usize = 1000;
/// The most webhooks an organization may have: each event is written once for every one of them.
pub(crate) const MAX_WEBHOOKS: usize = 50;
/// The most unfinished jobs an organization may have. They are counted before one more is stored, so those that are asked for
/// at one moment may come to a few more: they shall not wait for each other at every full hour.
pub(crate) const MAX_ACTIVE: usize = 200;
/// The most jobs an organization may run at one time, whatever it asks for.
pub(crate) const MAX_RUNNING: u32 = 100;

/// A name for people, without blanks around it.
pub(crate) fn name(field: &str, text: &str) -> Result<String> {
    let name = text.trim();
    let length = name.chars().count();
    if length == 0 || length > MAX_NAME {
        return Err(ControlError::field(field, format!("expected 1 to {MAX_NAME} characters")));
    }
    if name.chars().any(char::is_control) {
        return Err(ControlError::field(field, "control characters have no place in it"));
    }
    Ok(name.to_owned())
}

/// A text of at most so many bytes, printable ASCII.
pub(crate) fn ascii(field: &str, text: &str, most: usize) -> Result<()> {
    if text.is_empty() || text.len() > most || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ControlError::field(field, format!("expected 1 to {most} printable ascii characters")));
    }
    Ok(())
}

/// A list that is not too long, of entries that are not too long.
pub(crate) fn list(field: &str, entries: &[String]) -> Result<()> {
    if entries.len() > MAX_LIST {
        return Err(ControlError::field(field, format!("at most {MAX_LIST} entries")));
    }
    match entries.iter().any(|entry| entry.len() > MAX_ENTRY) {
        true => Err(ControlError::field(field, format!("at most {MAX_ENTRY} bytes an entry"))),
        false => Ok(()),
    }
}

/// A number between two others.
pub(crate) fn between(field: &str, number: u32, least: u32, most: u32) -> Result<()> {
    match (least..=most).contains(&number) {
        true => Ok(()),
        false => Err(ControlError::field(field, format!("expected {least} to {most}"))),
    }
}

/// What a backup is asked for.
pub(crate) fn backup(config: &BackupConfig) -> Result<()> {
    list("collections", &config.collections)?;
    list("excludeCollections", &config.exclude_collections)?;
    database(config.database.as_deref())?;
    let compression = config.compression.parse::<Compression>();
    compression.map_err(|error| ControlError::field("compression", &error).with_source(error))?;
    type_of_backup(config)?;
    patterns(&[("collections", &config.collections, false), ("excludeCollections", &config.exclude_collections, false)])
}

/// What goes with the type of a backup: Auth users are read as a whole, and captures are of whole databases.
fn type_of_backup(config: &BackupConfig) -> Result<()> {
    if config.kind != BackupType::Full && config.include_auth {
        return Err(ControlError::field("includeAuth", "only a full backup includes Auth users"));
    }
    match config.kind == BackupType::Synthetic && !config.is_everything() {
        true => Err(ControlError::field("collections", "a synthetic backup is of the whole database")),
        false => Ok(()),
    }
}

/// The id of a database, if one is given.
pub(crate) fn database(id: Option<&str>) -> Result<()> {
    id.map_or(Ok(()), |id| ascii("database", id, 100))
}

/// Patterns that can be understood: the field, its entries, and whether they are of documents rather than collections.
pub(crate) fn patterns(lists: &[(&str, &Vec<String>, bool)]) -> Result<()> {
    for (field, entries, are_paths) in lists {
        list(field, entries)?;
        let (include, paths) = if *are_paths { (&Vec::new(), *entries) } else { (*entries, &Vec::new()) };
        let selection = Selection { include: include.clone(), paths: paths.clone(), ..Selection::default() };
        let understood = selection.filter().map(|_| ()).and_then(|()| selection.ranges().map(|_| ()));
        understood.map_err(|error| ControlError::field(field, &error).with_source(error))?;
    }
    let total: usize = lists.iter().flat_map(|(_, entries, _)| entries.iter()).map(String::len).sum();
    match total > MAX_PATTERNS {
        true => Err(ControlError::field(lists[0].0, format!("at most {MAX_PATTERNS} bytes of patterns in all"))),
        false => Ok(()),
    }
}

/// Collections that get another path, each once.
pub(crate) fn renames(renames: &[Rename]) -> Result<()> {
    let wrong = |message: String| Err(ControlError::field("renames", message));
    if renames.len() > MAX_LIST {
        return wrong(format!("at most {MAX_LIST} entries"));
    }
    for (index, rename) in renames.iter().enumerate() {
        for path in [&rename.from, &rename.to] {
            if path.len() > MAX_ENTRY || PathRange::collection(path).is_err() {
                return wrong("expected paths of collections, such as `users` or `users/alice/orders`".to_owned());
            }
        }
        if renames[..index].iter().any(|before| before.from == rename.from) {
            return wrong(format!("`{}` is renamed twice", rename.from));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(name("name", "  Backups of März \n").unwrap(), "Backups of März");
        assert!(name("name", &"ä".repeat(MAX_NAME)).is_ok());
        for bad in ["", " ", "a\nb", &"ä".repeat(MAX_NAME + 1)] {
            assert!(name("name", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lists_are_bounded_and_understood() {
        let config = |collections: Vec<String>| BackupConfig { collections, ..BackupConfig::default() };
        assert!(backup(&config(vec!["users".to_owned(); MAX_LIST])).is_ok());
        for bad in [
            vec!["users".to_owned(); MAX_LIST + 1],
            vec!["u".repeat(MAX_ENTRY + 1)],
            vec!["users/alice".to_owned()],
            vec!["u".repeat(MAX_ENTRY); MAX_PATTERNS / MAX_ENTRY + 1],
        ] {
            let error = backup(&config(bad)).unwrap_err();
            assert_eq!(error.details.unwrap()["field"], "collections");
        }
        assert!(backup(&BackupConfig { compression: "zip".to_owned(), ..BackupConfig::default() }).is_err());
        assert!(backup(&BackupConfig { database: Some("a b".to_owned()), ..BackupConfig::default() }).is_err());
    }

    #[test]
    fn what_is_merged_or_built_upon_is_of_documents_and_what_is_merged_of_all() {
        let patterns = || vec!["users".to_owned()];
        for kind in [BackupType::Full, BackupType::Incremental, BackupType::Synthetic] {
            let config = || BackupConfig { kind, ..BackupConfig::default() };
            assert!(backup(&config()).is_ok());
            let with_auth = BackupConfig { include_auth: true, ..config() };
            assert_eq!(backup(&with_auth).is_ok(), kind == BackupType::Full, "{kind:?}");
            for selected in [
                BackupConfig { collections: patterns(), ..config() },
                BackupConfig { exclude_collections: patterns(), ..config() },
                BackupConfig { include_subcollections: false, ..config() },
            ] {
                assert_eq!(backup(&selected).is_ok(), kind != BackupType::Synthetic, "{selected:?}");
            }
        }
    }

    #[test]
    fn renames_are_of_collections_and_each_once() {
        let rename = |from: &str, to: &str| Rename { from: from.to_owned(), to: to.to_owned() };
        assert!(renames(&[rename("a", "b"), rename("b", "a"), rename("a/b/c", "d")]).is_ok());
        for bad in [vec![rename("a/b", "c")], vec![rename("a", "")], vec![rename("a", "b"), rename("a", "c")]] {
            assert!(renames(&bad).is_err(), "{bad:?}");
        }
    }
}
