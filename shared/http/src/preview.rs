//! What a backup holds, by its manifest: no document is read.

use firebackup_engine::{ProvenOrigin, Repository};
use firebackup_model::Timestamp;
use firebackup_model::id::JobId;
use firebackup_model::manifest::{AuthUsers, Consistency, Manifest};
use serde::Serialize;
use utoipa::ToSchema;

use crate::failure::Failure;
use crate::unreadable::unreadable;

/// What a backup holds.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BackupPreview {
    /// The backup.
    #[schema(value_type = String, example = "bkp_01JZ8Q6V7C9X2M4T5B8K1N3R6W")]
    backup_id: JobId,
    /// The database it was made of: `<project>/<database>`.
    #[schema(example = "my-app-1234/(default)")]
    source: String,
    /// `snapshot` where all was read at one time, else `ranged`.
    consistency: ConsistencyName,
    /// The read times, ascending; several where the backup is `ranged`.
    #[schema(value_type = Vec<String>)]
    read_times: Vec<Timestamp>,
    /// Documents.
    documents: u64,
    /// Bytes of the documents.
    bytes: u64,
    /// Bytes that are stored.
    stored_bytes: u64,
    /// By collection (its id, wherever it stands), in order of name.
    collections: Vec<CollectionPreview>,
    /// Auth users, where they were included.
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<UsersPreview>,
    /// How it is compressed, such as `brotli:auto`.
    compression: String,
    /// Whether it is encrypted.
    encrypted: bool,
    /// Whether it is proven who wrote it.
    origin_proven: bool,
    /// The version of FireBackup that wrote it.
    tool: String,
}

/// What a backup holds of one collection.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct CollectionPreview {
    /// The collection's id.
    name: String,
    /// Documents.
    documents: u64,
    /// Their bytes.
    bytes: u64,
}

/// What a backup holds of Auth users.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UsersPreview {
    /// Users, tenants' included.
    users: u64,
    /// Users without their password hash, which the credentials could not read.
    redacted: u64,
    /// Tenants.
    tenants: u64,
    /// When listing them began.
    #[schema(value_type = String, format = DateTime)]
    listed_from: Timestamp,
    /// When listing them ended.
    #[schema(value_type = String, format = DateTime)]
    listed_until: Timestamp,
}

/// Whether a backup is of one moment.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ConsistencyName {
    /// All was read at one time.
    Snapshot,
    /// Parts were read at different times.
    Ranged,
}

/// Reads the manifest of a backup.
pub(crate) async fn preview(repository: &Repository, backup: &JobId) -> Result<BackupPreview, Failure> {
    let (manifest, origin) = repository.manifest(backup).await.map_err(unreadable)?;
    Ok(BackupPreview::of(manifest, matches!(origin, ProvenOrigin::Proven(_))))
}

impl BackupPreview {
    fn of(manifest: Manifest, origin_proven: bool) -> Self {
        let collections = manifest.collections.into_iter();
        let collection = |(name, counts): (String, firebackup_model::manifest::Counts)| CollectionPreview {
            name,
            documents: counts.documents,
            bytes: counts.bytes,
        };
        Self {
            backup_id: manifest.id,
            source: manifest.source.to_string(),
            consistency: match manifest.consistency {
                Consistency::Snapshot => ConsistencyName::Snapshot,
                Consistency::Ranged => ConsistencyName::Ranged,
            },
            read_times: manifest.read_times,
            documents: manifest.totals.documents,
            bytes: manifest.totals.bytes,
            stored_bytes: manifest.stored_bytes,
            collections: collections.map(collection).collect(),
            users: manifest.auth.map(UsersPreview::of),
            compression: manifest.compression.to_string(),
            encrypted: manifest.key.is_some(),
            origin_proven,
            tool: manifest.tool,
        }
    }
}

impl UsersPreview {
    fn of(auth: AuthUsers) -> Self {
        Self {
            users: auth.users,
            redacted: auth.redacted,
            tenants: auth.tenants.len() as u64,
            listed_from: auth.listed_from,
            listed_until: auth.listed_until,
        }
    }
}
