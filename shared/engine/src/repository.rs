//! An open repository: a store, its keys, and what may be believed of what it holds.

use std::sync::Arc;

use bytes::Bytes;
use firebackup_codec::object::{self, ObjectType};
use firebackup_codec::sealing::Sealing;
use firebackup_codec::secret::SecretKey;
use firebackup_codec::signature::WriterPublicKey;
use firebackup_codec::wrap::{KeyError, PassphraseParams, RecoveryPublicKey, Wrap, WrapIds, WrapKind};
use firebackup_model::Timestamp;
use firebackup_model::id::{JobId, JobKind, KeyId, RepositoryId, SnapshotId, WrapId};
use firebackup_model::manifest::{FORMAT_VERSION, Manifest, RepositoryConfig};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{EngineError, Result};
use crate::keyring::{self, Keyring, Secrets, Trust};
use crate::layout;
use crate::plan::MAX_JOB_SECONDS;
use crate::world::World;

/// How long after its beginning a backup may still read: as long as a job may take, and what clocks differ by.
const LATEST_READ_MILLIS: i64 = (MAX_JOB_SECONDS + 600) * 1000;
/// The largest wrap file that is read.
const MAX_WRAP_BYTES: u64 = 64 * 1024;
/// The largest sealed object that is read; `docs/format.md`, *Limits*, with room for its envelope.
const MAX_OBJECT_BYTES: u64 = 64 * 1024 * 1024 + 4096;

/// An open repository. Cheap to clone.
#[derive(Clone)]
pub struct Repository(Arc<Inner>);

struct Inner {
    store: Arc<dyn ObjectStore>,
    config: RepositoryConfig,
    keys: Keyring,
    secrets: Secrets,
    world: World,
}

/// What came of a put that must not replace anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is there now.
    Stored,
    /// Something was there before.
    Existed,
}

/// Whether it is known who wrote an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProvenOrigin {
    /// By a writer that is believed.
    Proven(WriterPublicKey),
    /// Nobody said whom to believe.
    NotProven,
}

impl Repository {
    /// Makes a new repository. Without secrets it is not encrypted.
    ///
    /// # Errors
    /// When there is one already, or the store fails.
    pub async fn init(store: Arc<dyn ObjectStore>, secrets: Secrets, world: World) -> Result<Self> {
        if read_small(&*store, &layout::config(), MAX_WRAP_BYTES).await?.is_some() {
            return Err(EngineError::Refused("there is a repository already: nothing was changed".to_owned()));
        }
        let repository = RepositoryId(world.bytes());
        let key = if secrets.is_empty() { None } else { Some(KeyId(world.bytes())) };
        if let Some(key) = key {
            put_root_key(&*store, repository, key, &secrets, &world).await?;
        }
        let config = RepositoryConfig { format: FORMAT_VERSION, repository, key, created: world.now() };
        let json = serde_json::to_vec_pretty(&config).map_err(json_error(&layout::config()))?;
        match put_new(&*store, &layout::config(), json.into()).await? {
            Put::Stored => Self::open(store, secrets, world).await,
            Put::Existed => {
                Err(EngineError::Refused("another process made a repository here at the same time".to_owned()))
            }
        }
    }

    /// Opens a repository with what the user holds.
    ///
    /// # Errors
    /// When there is none, it is of a newer format, no secret opens it, or it is not encrypted although a key was given.
    pub async fn open(store: Arc<dyn ObjectStore>, secrets: Secrets, world: World) -> Result<Self> {
        let path = layout::config();
        let json = read_small(&*store, &path, MAX_WRAP_BYTES).await?.ok_or_else(|| {
            EngineError::NotFound("there is no repository here: make one with `firebackup init`".to_owned())
        })?;
        let config: RepositoryConfig = serde_json::from_slice(&json).map_err(json_error(&path))?;
        if config.format != FORMAT_VERSION {
            let format = config.format;
            return Err(EngineError::Refused(format!("the repository has format {format}: use a newer firebackup")));
        }
        let keys =
            match config.key {
                None if secrets.is_empty() || secrets.allow_unencrypted => {
                    Keyring::unencrypted(config.repository, &secrets)
                }
                None => return Err(EngineError::Refused(
                    "a key was given, but the repository is not encrypted: refused unless --allow-unencrypted is given"
                        .to_owned(),
                )),
                Some(key) => Keyring::new(config.repository, unlock(&*store, &config, key, &secrets).await?, &secrets),
            };
        Ok(Self(Arc::new(Inner { store, config, keys, secrets, world })))
    }

    /// What `firebackup.json` says.
    #[must_use]
    pub fn config(&self) -> &RepositoryConfig {
        &self.0.config
    }

    /// The repository's id.
    #[must_use]
    pub fn id(&self) -> RepositoryId {
        self.0.config.repository
    }

    /// The store it lives in.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.0.store
    }

    /// Time and randomness.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.0.world
    }

    /// Whom this reader believes.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.0.keys.trust
    }

    /// The public half of the key that signs what this process writes.
    #[must_use]
    pub fn writer_key(&self) -> Option<WriterPublicKey> {
        self.0.keys.writer.as_ref().map(firebackup_codec::signature::WriterKey::public)
    }

    /// Whether what is in the repository can be read, not only added to.
    #[must_use]
    pub fn can_read(&self) -> bool {
        self.0.config.key.is_none() || self.0.keys.root.is_some()
    }

    /// Makes a data key, puts its wrap, and returns how to seal with it.
    pub(crate) async fn new_data_key(&self) -> Result<Sealing> {
        if self.0.config.key.is_none() {
            return Ok(Sealing::Plain);
        }
        let id = KeyId(self.0.world.bytes());
        let key = SecretKey::from_bytes(self.0.world.bytes());
        let wrap = self.0.keys.wrap_data_key(id, &key, &self.0.secrets, &self.0.world)?;
        put_wrap(&*self.0.store, &wrap).await?;
        self.0.keys.remember(id, key.clone());
        Ok(Sealing::Key { id, key })
    }

    /// Opens a key of the repository.
    pub(crate) async fn sealing(&self, key: Option<KeyId>) -> Result<Sealing> {
        let Some(id) = key else { return self.plain_sealing() };
        if let Some(key) = self.0.keys.cached(id) {
            return Ok(Sealing::Key { id, key });
        }
        let wraps = read_wraps(&*self.0.store, self.id(), id).await?;
        let mut refusal = None;
        for wrap in &wraps.good {
            match self.0.keys.open_wrap(wrap, &self.0.secrets) {
                Ok(key) => {
                    self.0.keys.remember(id, key.clone());
                    return Ok(Sealing::Key { id, key });
                }
                Err(error) => refusal = Some(wrap_error(wrap, error)),
            }
        }
        Err(refusal.or(wraps.bad).unwrap_or_else(|| {
            EngineError::NotFound(format!("key {id} is gone: there is nothing in `{}`", layout::key(id)))
        }))
    }

    fn plain_sealing(&self) -> Result<Sealing> {
        if self.0.config.key.is_none() || self.0.secrets.allow_unencrypted {
            return Ok(Sealing::Plain);
        }
        Err(EngineError::Refused(
            "an object in the repository is not encrypted: refused unless --allow-unencrypted is given".to_owned(),
        ))
    }

    /// How intents and prune marks are sealed.
    pub(crate) fn root_sealing(&self) -> Sealing {
        self.0.keys.root_sealing()
    }

    /// Seals `value` and puts it, unless something is there.
    pub(crate) async fn put_sealed<T: Serialize>(
        &self,
        kind: ObjectType,
        path: &Path,
        sealing: &Sealing,
        value: &T,
    ) -> Result<Put> {
        let json = serde_json::to_vec(value).map_err(json_error(path))?;
        let signer = self.0.keys.writer.as_ref();
        let bytes = object::seal(kind, self.id(), path.as_ref(), sealing, signer, self.0.world.bytes(), &json)?;
        put_new(&*self.0.store, path, bytes.into()).await
    }

    /// Reads a sealed object; nothing when it is not there.
    pub(crate) async fn get_sealed<T: DeserializeOwned>(
        &self,
        kind: ObjectType,
        path: &Path,
    ) -> Result<Option<(T, ProvenOrigin)>> {
        let Some(bytes) = read_small(&*self.0.store, path, MAX_OBJECT_BYTES).await? else { return Ok(None) };
        let key = object::key_of(&bytes).map_err(|error| error.in_object(path.as_ref()))?;
        let sealing = self.sealing(key).await?;
        let opened = object::open(kind, self.id(), path.as_ref(), &sealing, &bytes)
            .map_err(|error| error.in_object(path.as_ref()))?;
        let origin = self.origin(path, opened.signer)?;
        let value = serde_json::from_slice(&opened.json).map_err(json_error(path))?;
        Ok(Some((value, origin)))
    }

    fn origin(&self, path: &Path, signer: Option<WriterPublicKey>) -> Result<ProvenOrigin> {
        match (&self.0.keys.trust, signer) {
            (Trust::Anybody, _) => Ok(ProvenOrigin::NotProven),
            (Trust::Only(believed), Some(signer)) if believed.contains(&signer) => Ok(ProvenOrigin::Proven(signer)),
            (Trust::Only(_), Some(signer)) => Err(EngineError::Refused(format!(
                "`{path}` was signed by {signer}, which is not a writer that is believed"
            ))),
            (Trust::Only(_), None) => Err(EngineError::Refused(format!("`{path}` is not signed"))),
        }
    }

    /// The names of all snapshots, oldest first. Listing them is all that is needed to know them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn snapshot_ids(&self) -> Result<Vec<SnapshotId>> {
        let metas = self.list("snapshots").await?;
        let mut ids: Vec<_> = metas.iter().filter_map(|meta| layout::snapshot_of(&meta.location)).collect();
        ids.sort_by(|a, b| ulid(a).cmp(ulid(b)));
        Ok(ids)
    }

    /// Reads a snapshot's manifest and says whether its origin is proven.
    ///
    /// # Errors
    /// When it is not there, damaged, of another repository, or by a writer that is not believed.
    pub async fn manifest(&self, snapshot: &SnapshotId) -> Result<(Manifest, ProvenOrigin)> {
        let path = layout::manifest(snapshot);
        let found: Option<(Manifest, _)> = self.get_sealed(ObjectType::Manifest, &path).await?;
        let (manifest, origin) =
            found.ok_or_else(|| EngineError::NotFound(format!("there is no snapshot {snapshot}")))?;
        if manifest.id != *snapshot || manifest.format != FORMAT_VERSION {
            return Err(EngineError::Refused(format!("`{path}` is the manifest of another snapshot or format")));
        }
        Ok((manifest, origin))
    }

    /// Whether a snapshot that was listed has been dropped since.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_dropped(&self, snapshot: &SnapshotId) -> Result<bool> {
        let path = layout::manifest(snapshot);
        match self.0.store.head(&path).await {
            Ok(_) => Ok(false),
            Err(object_store::Error::NotFound { .. }) => Ok(true),
            Err(source) => Err(EngineError::store("look for", path)(source)),
        }
    }

    /// Of the backups that `accepts` takes, the one of the newest moment: by read time, not by when it was made. An undo is
    /// a snapshot of what a restore replaced, and never the newest backup.
    ///
    /// # Errors
    /// When the store fails, or one that may be the newest cannot be read: an older one is never taken for it.
    pub async fn latest(&self, accepts: impl Fn(&Manifest) -> bool + Send) -> Result<Option<SnapshotId>> {
        let mut newest: Option<(Timestamp, SnapshotId)> = None;
        for id in self.snapshot_ids().await?.into_iter().rev().filter(|id| id.kind() == JobKind::Backup) {
            // no backup reads at a time much behind that at which it began: the rest is older
            let end = Timestamp::from_millis(id.millis().cast_signed() + LATEST_READ_MILLIS);
            if newest.as_ref().is_some_and(|(read_time, _)| *read_time > end) {
                break;
            }
            match self.manifest(&id).await {
                Ok((manifest, _)) if accepts(&manifest) => {
                    let moment = manifest.read_time().unwrap_or(manifest.started);
                    if newest.as_ref().is_none_or(|(read_time, _)| moment > *read_time) {
                        newest = Some((moment, id));
                    }
                }
                Ok(_) => {}
                // a prune dropped it since it was listed
                Err(EngineError::NotFound(_)) if self.is_dropped(&id).await? => {}
                Err(source) => return Err(EngineError::Latest { id, source: Box::new(source) }),
            }
        }
        Ok(newest.map(|(_, id)| id))
    }

    /// The snapshot that a user means: an id, the unique beginning of one, or `latest`.
    ///
    /// # Errors
    /// When there is none or more than one.
    pub async fn resolve(&self, text: &str) -> Result<SnapshotId> {
        if text == "latest" {
            let newest = self.latest(|_| true).await?;
            return newest.ok_or_else(|| EngineError::NotFound("there is no snapshot yet".to_owned()));
        }
        let ids = self.snapshot_ids().await?;
        let mut matching =
            ids.into_iter().filter(|id| id.as_str() == text || text.len() >= 4 && id.as_str().starts_with(text));
        match (matching.next(), matching.next()) {
            (Some(id), None) => Ok(id),
            (None, _) => Err(EngineError::NotFound(format!("there is no snapshot `{text}`: see `firebackup list`"))),
            (Some(a), Some(b)) => Err(EngineError::Refused(format!("`{text}` may be {a} or {b}: give more of the id"))),
        }
    }

    /// Every object under a folder of the repository.
    pub(crate) async fn list(&self, folder: &str) -> Result<Vec<ObjectMeta>> {
        let prefix = Path::from(folder);
        self.0.store.list(Some(&prefix)).try_collect().await.map_err(EngineError::store("list", folder))
    }

    /// Deletes objects; one that is gone already is no error.
    pub(crate) async fn delete_all(&self, paths: impl IntoIterator<Item = Path>) -> Result<u64> {
        let mut deleted = 0;
        for path in paths {
            match self.0.store.delete(&path).await {
                Ok(()) => deleted += 1,
                Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => return Err(EngineError::store("delete", path)(source)),
            }
        }
        Ok(deleted)
    }

    /// Removes what a finished job left besides its result.
    pub(crate) async fn clear_job(&self, job: &JobId) -> Result<()> {
        let receipts = self.list(layout::receipts(job).as_ref()).await?;
        self.delete_all(receipts.into_iter().map(|meta| meta.location)).await?;
        self.delete_all([layout::intent(job)]).await?;
        Ok(())
    }

    /// The wraps of the repository key, oldest first: who can open the repository.
    ///
    /// # Errors
    /// When the store fails or the repository is not encrypted.
    pub async fn holders(&self) -> Result<Vec<Wrap>> {
        let Some(key) = self.0.config.key else {
            return Err(EngineError::Refused("the repository is not encrypted: it has no keys".to_owned()));
        };
        let mut wraps = read_wraps(&*self.0.store, self.id(), key).await?.good;
        wraps.sort_by_key(|wrap| (wrap.ids().created, wrap.ids().wrap));
        Ok(wraps)
    }

    fn root(&self) -> Result<(KeyId, &SecretKey)> {
        let root = self.0.keys.root.as_ref().map(|(id, key)| (*id, key));
        root.ok_or_else(|| EngineError::Refused("changing keys needs one that opens the repository".to_owned()))
    }

    /// Lets another holder open the repository: every backup in it, old and new.
    ///
    /// # Errors
    /// When this process could not open the repository key, or the store fails.
    pub async fn add_holder(&self, holder: &Holder) -> Result<WrapId> {
        let (id, key) = self.root()?;
        let ids =
            WrapIds { repository: self.id(), key: id, wrap: WrapId(self.0.world.bytes()), created: self.0.world.now() };
        let wrap = holder.wrap(&ids, key, &self.0.world)?;
        put_wrap(&*self.0.store, &wrap).await?;
        // read back and checked before anybody may remove another wrap on the strength of it
        let there = read_wraps(&*self.0.store, self.id(), id).await?;
        if there.good.iter().any(|other| other == &wrap) {
            Ok(ids.wrap)
        } else {
            Err(EngineError::NotFound("the new wrap cannot be read back".to_owned()))
        }
    }

    /// Takes a holder's wrap away; never the last one. Data that the holder copied stays readable to him.
    ///
    /// # Errors
    /// When it is the last wrap, or not there.
    pub async fn remove_holder(&self, wrap: WrapId) -> Result<()> {
        let (id, _) = self.root()?;
        let wraps = read_wraps(&*self.0.store, self.id(), id).await?.good;
        let removed = wraps.iter().find(|other| other.ids().wrap == wrap);
        let removed = removed
            .ok_or_else(|| EngineError::NotFound(format!("there is no wrap {wrap}: see `firebackup key list`")))?;
        if wraps.len() < 2 {
            return Err(EngineError::Refused(
                "this is the last wrap: without it nobody could open the repository".to_owned(),
            ));
        }
        self.delete_all([layout::wrap(id, wrap)]).await?;
        if read_wraps(&*self.0.store, self.id(), id).await?.good.is_empty() {
            put_wrap(&*self.0.store, removed).await?;
            return Err(EngineError::Refused(
                "another process removed the other wraps at the same time: this one was put back".to_owned(),
            ));
        }
        Ok(())
    }

    /// Proves that a key can be opened from what the repository holds now, not from memory.
    pub(crate) async fn prove_key(&self, key: Option<KeyId>) -> Result<bool> {
        let Some(id) = key else { return Ok(true) };
        let wraps = read_wraps(&*self.0.store, self.id(), id).await?.good;
        if !self.can_read() {
            return Ok(!wraps.is_empty());
        }
        Ok(wraps.iter().any(|wrap| self.0.keys.open_wrap(wrap, &self.0.secrets).is_ok()))
    }
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository").field("config", &self.0.config).finish_non_exhaustive()
    }
}

/// Somebody who can open a repository.
pub enum Holder {
    /// Whoever has this master key.
    Master(SecretKey),
    /// Whoever knows this passphrase.
    Passphrase(String),
    /// Whoever has the private half of this recovery key.
    Recovery(RecoveryPublicKey),
}

impl Holder {
    fn wrap(&self, ids: &WrapIds, key: &SecretKey, world: &World) -> Result<Wrap> {
        let random = world.random.as_ref();
        Ok(match self {
            Self::Master(master) => Wrap::wrap_local(master, ids, key, random)?,
            Self::Passphrase(passphrase) => {
                Wrap::wrap_passphrase(passphrase, &PassphraseParams::default(), ids, key, random)?
            }
            Self::Recovery(public) => Wrap::wrap_recovery(public, ids, key, random)?,
        })
    }

    fn all_of(secrets: &Secrets) -> Vec<Self> {
        let masters = secrets.masters.iter().cloned().map(Self::Master);
        let passphrase = secrets.passphrase.iter().cloned().map(Self::Passphrase);
        let recovery = secrets.recovery_public.iter().cloned().map(Self::Recovery);
        masters.chain(passphrase).chain(recovery).collect()
    }
}

fn ulid(id: &SnapshotId) -> &str {
    id.as_str().split_once('_').map_or("", |(_, ulid)| ulid)
}

async fn put_root_key(
    store: &dyn ObjectStore,
    repository: RepositoryId,
    key: KeyId,
    secrets: &Secrets,
    world: &World,
) -> Result<()> {
    let root = SecretKey::from_bytes(world.bytes());
    for holder in Holder::all_of(secrets) {
        let ids = WrapIds { repository, key, wrap: WrapId(world.bytes()), created: world.now() };
        put_wrap(store, &holder.wrap(&ids, &root, world)?).await?;
    }
    Ok(())
}

async fn unlock(
    store: &dyn ObjectStore,
    config: &RepositoryConfig,
    key: KeyId,
    secrets: &Secrets,
) -> Result<Option<(KeyId, SecretKey, WrapKind)>> {
    if secrets.is_empty() {
        return Err(EngineError::Refused(
            "the repository is encrypted: give --master-key-file (or FIREBACKUP_MASTER_KEY), --passphrase-file or --recovery-key-file".to_owned(),
        ));
    }
    let wraps = read_wraps(store, config.repository, key).await?;
    let mut refusal = None;
    // symmetric wraps first: they prove where the key comes from
    let (symmetric, recovery): (Vec<_>, Vec<_>) = wraps.good.iter().partition(|wrap| wrap.kind() != WrapKind::Recovery);
    for wrap in symmetric.into_iter().chain(recovery) {
        match keyring::open_wrap(wrap, secrets) {
            Ok(opened) => return Ok(Some((key, opened, wrap.kind()))),
            Err(error) if error.is_no_secret() => {}
            // that the right key does not open it says more than that another key is wanted
            Err(error) if refusal.is_none() || error == KeyError::Damaged => refusal = Some(wrap_error(wrap, error)),
            Err(_) => {}
        }
    }
    let writes_only = secrets.masters.is_empty() && secrets.passphrase.is_none() && secrets.recovery.is_none();
    match refusal {
        Some(error) => Err(error),
        None if writes_only => Ok(None),
        None => Err(wraps.bad.unwrap_or_else(|| {
            EngineError::Refused("none of the keys given is one that the repository was made for".to_owned())
        })),
    }
}

fn wrap_error(wrap: &Wrap, source: KeyError) -> EngineError {
    let ids = wrap.ids();
    EngineError::Wrap { object: layout::wrap(ids.key, ids.wrap).to_string(), source }
}

async fn put_wrap(store: &dyn ObjectStore, wrap: &Wrap) -> Result<()> {
    let path = layout::wrap(wrap.ids().key, wrap.ids().wrap);
    let json = serde_json::to_vec_pretty(wrap).map_err(json_error(&path))?;
    match put_new(store, &path, json.into()).await? {
        Put::Stored => Ok(()),
        Put::Existed => Err(EngineError::Refused(format!("`{path}` exists already"))),
    }
}

/// The wraps of a key.
struct Wraps {
    good: Vec<Wrap>,
    /// What was wrong with the last one that is of no use; it must not keep anybody from the others.
    bad: Option<EngineError>,
}

async fn read_wraps(store: &dyn ObjectStore, repository: RepositoryId, key: KeyId) -> Result<Wraps> {
    let folder = layout::key(key);
    let metas: Vec<ObjectMeta> =
        store.list(Some(&folder)).try_collect().await.map_err(EngineError::store("list", &folder))?;
    let mut wraps = Wraps { good: Vec::with_capacity(metas.len()), bad: None };
    for meta in metas {
        match read_wrap(store, repository, key, &meta.location).await {
            Ok(wrap) => wraps.good.extend(wrap),
            Err(error) if error.is_of_the_object() => {
                tracing::warn!(object = %meta.location, error = %error, "a wrap is of no use: passed over");
                wraps.bad = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(wraps)
}

async fn read_wrap(store: &dyn ObjectStore, repository: RepositoryId, key: KeyId, path: &Path) -> Result<Option<Wrap>> {
    let Some(json) = read_small(store, path, MAX_WRAP_BYTES).await? else { return Ok(None) };
    let wrap: Wrap = serde_json::from_slice(&json).map_err(json_error(path))?;
    if belongs(&wrap, repository, key, path) {
        return Ok(Some(wrap));
    }
    Err(EngineError::Refused(format!("`{path}` is the wrap of another key, or of another repository")))
}

fn belongs(wrap: &Wrap, repository: RepositoryId, key: KeyId, path: &Path) -> bool {
    let ids = wrap.ids();
    ids.repository == repository && ids.key == key && layout::wrap(key, ids.wrap) == *path
}

/// Puts an object unless there is one.
pub(crate) async fn put_new(store: &dyn ObjectStore, path: &Path, bytes: Bytes) -> Result<Put> {
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    match store.put_opts(path, PutPayload::from(bytes), options).await {
        Ok(_) => Ok(Put::Stored),
        Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(Put::Existed),
        Err(source) => Err(EngineError::store("put", path)(source)),
    }
}

/// Reads a whole small object; nothing when it is not there; refused before memory is taken when it is too large.
pub(crate) async fn read_small(store: &dyn ObjectStore, path: &Path, limit: u64) -> Result<Option<Bytes>> {
    let result = match store.get(path).await {
        Ok(result) => result,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(source) => return Err(EngineError::store("read", path)(source)),
    };
    if result.meta.size > limit {
        return Err(EngineError::Refused(format!(
            "`{path}` has {} bytes: at most {limit} are accepted",
            result.meta.size
        )));
    }
    let size = result.meta.size;
    let bytes = result.bytes().await.map_err(EngineError::store("read", path))?;
    if bytes.len() as u64 != size {
        return Err(EngineError::Refused(format!("`{path}` came cut short: {} of {size} bytes", bytes.len())));
    }
    Ok(Some(bytes))
}

fn json_error(path: &Path) -> impl FnOnce(serde_json::Error) -> EngineError {
    let path = path.to_string();
    move |source| EngineError::Json { path, source }
}
