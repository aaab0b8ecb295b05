//! The objects of a repository, as its store lists them.

use std::collections::BTreeMap;

use firebackup_control::{Code, ControlError, Kind, MAX_PAGE_LIMIT, Paged, ProjectId};
use firebackup_engine::{EngineError, Repository};
use firebackup_model::Timestamp;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::failure::Failure;
use crate::unreadable::unreachable_place;

/// Which repository of a destination is looked at.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct RepositoryParameters {
    /// Whose: each project has a repository of its own.
    pub(crate) project_id: ProjectId,
    /// Whether the encrypted one; what is not encrypted has another.
    #[serde(default = "yes")]
    #[param(default = true)]
    pub(crate) encrypted: bool,
}

/// Which of its objects are listed.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FileParameters {
    /// How many.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u32>,
    /// Where to go on: `meta.cursor` of the page before.
    cursor: Option<String>,
}

const fn yes() -> bool {
    true
}

/// An object of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StoredFile {
    /// Its name in the repository; says nothing of documents.
    #[schema(example = "snapshots/bkp_01JZ8Q6V7C9X2M4T5B8K1N3R6W")]
    name: String,
    /// Its bytes.
    bytes: u64,
    /// When it was put.
    #[schema(value_type = String, format = DateTime)]
    modified_at: Timestamp,
}

/// What a repository's objects come to.
#[derive(Debug, PartialEq, Eq, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FileStats {
    /// Objects.
    files: u64,
    /// Their bytes.
    bytes: u64,
    /// By folder, in order of name; what lies in none has an empty name.
    folders: Vec<FolderStats>,
    /// When the newest was put.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    newest: Option<Timestamp>,
    /// Whether there are more than were counted, which are 100,000.
    partial: bool,
}

/// What the objects of one folder come to.
#[derive(Debug, PartialEq, Eq, Default, Serialize, ToSchema)]
pub(crate) struct FolderStats {
    /// Its name, such as `runs`.
    name: String,
    /// Objects.
    files: u64,
    /// Their bytes.
    bytes: u64,
}

/// How many entries a page has where nothing is said.
const DEFAULT_LIMIT: u32 = 20;
/// The longest name a store gives.
const MAX_NAME: usize = 1024;
/// The most objects that are counted in one request: a hundred pages of S3.
const MOST: usize = 100_000;

/// A page of the objects, in order of name. A store that lists in that order is asked for no more than the page; of others
/// everything is looked at.
pub(crate) async fn files(
    repository: &Repository,
    lists_in_order: bool,
    asked: &FileParameters,
) -> Result<Paged<StoredFile>, Failure> {
    let limit = asked.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_PAGE_LIMIT).contains(&limit) {
        return Err(ControlError::field("limit", format!("expected 1 to {MAX_PAGE_LIMIT}")).into());
    }
    let wanted = limit as usize;
    let mut listed = match offset(asked.cursor.as_deref())? {
        Some(offset) => repository.store().list_with_offset(None, &offset),
        None => repository.store().list(None),
    };
    let mut first: BTreeMap<Path, ObjectMeta> = BTreeMap::new();
    while let Some(object) = listed.next().await {
        let object = object.map_err(failed)?;
        first.insert(object.location.clone(), object);
        let has_more = first.len() > wanted;
        if has_more && lists_in_order {
            break;
        }
        if first.len() > wanted + 1 {
            first.pop_last();
        }
    }
    let has_more = first.len() > wanted;
    let items: Vec<_> = first.into_values().take(wanted).map(StoredFile::of).collect();
    let next = items.last().filter(|_| has_more).map(|last| last.name.clone());
    Ok(Paged { items, next, page: 1, limit, total: None })
}

fn offset(cursor: Option<&str>) -> Result<Option<Path>, Failure> {
    let Some(cursor) = cursor.filter(|cursor| !cursor.is_empty()) else { return Ok(None) };
    let path = Path::parse(cursor).ok().filter(|_| cursor.len() <= MAX_NAME);
    let wrong = || ControlError::new(Kind::Invalid, Code::InvalidCursor, "the cursor is not one of this list");
    path.map(Some).ok_or_else(|| wrong().into())
}

/// Counts the objects.
pub(crate) async fn file_stats(repository: &Repository) -> Result<FileStats, Failure> {
    let listed = repository.store().list(None).take(MOST + 1);
    let objects: Vec<ObjectMeta> = listed.try_collect().await.map_err(failed)?;
    Ok(FileStats::of(&objects))
}

fn failed(source: object_store::Error) -> Failure {
    unreachable_place(EngineError::Store { operation: "list objects", path: String::new(), source })
}

fn modified_at(object: &ObjectMeta) -> Timestamp {
    Timestamp::new(object.last_modified.timestamp(), object.last_modified.timestamp_subsec_nanos())
}

impl StoredFile {
    fn of(object: ObjectMeta) -> Self {
        Self { modified_at: modified_at(&object), name: object.location.to_string(), bytes: object.size }
    }
}

impl FileStats {
    fn of(objects: &[ObjectMeta]) -> Self {
        let counted = &objects[..objects.len().min(MOST)];
        let mut folders: BTreeMap<&str, FolderStats> = BTreeMap::new();
        for object in counted {
            let name = object.location.as_ref().split_once('/').map_or("", |(folder, _)| folder);
            let folder =
                folders.entry(name).or_insert_with(|| FolderStats { name: name.to_owned(), ..Default::default() });
            folder.files += 1;
            folder.bytes += object.size;
        }
        Self {
            files: counted.len() as u64,
            bytes: counted.iter().map(|object| object.size).sum(),
            folders: folders.into_values().collect(),
            newest: counted.iter().map(modified_at).max(),
            partial: objects.len() > MOST,
        }
    }
}
