//! An open repository: a store, its keys, and what may be believed of what it holds.

use std::collections::HashSet;
use std::sync::Arc;

use firebackup_codec::object::{self, ObjectType};
use firebackup_codec::sealing::Sealing;
use firebackup_codec::secret::SecretKey;
use firebackup_codec::signature::WriterPublicKey;
use firebackup_model::id::{JobId, KeyId, RepositoryId};
use firebackup_model::manifest::{FORMAT_VERSION, RepositoryConfig};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{EngineError, Result};
use crate::keyring::{Keyring, Secrets, Trust};
use crate::layout;
use crate::objects::{Put, json_error, put_new, read_small};
use crate::world::World;
use crate::wraps::{MAX_WRAP_BYTES, put_root_key, put_wrap, read_wraps, unlock, wrap_error};

/// The largest sealed object that is read; `docs/format.md`, *Limits*, with room for its envelope.
const MAX_OBJECT_BYTES: u64 = 64 * 1024 * 1024 + 4096;

/// An open repository. Cheap to clone.
#[derive(Clone)]
pub struct Repository(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) config: RepositoryConfig,
    pub(crate) keys: Keyring,
    pub(crate) secrets: Secrets,
    pub(crate) world: World,
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
        match put_new(&*store, &layout::config(), json).await? {
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
        let config: RepositoryConfig = serde_json::from_slice(&json).map_err(|error| {
            json_error(&path)(error).explained(
                "the repository's own description is damaged, and nothing is lost with it: docs/format.md (Keys) says how it is \
                 written anew",
            )
        })?;
        if config.format != FORMAT_VERSION {
            let format = config.format;
            return Err(EngineError::Refused(format!(
                "`firebackup.json` names format {format}: use a newer firebackup"
            )));
        }
        let keys =
            match config.key {
                None if secrets.is_empty() || secrets.allow_unencrypted => {
                    Keyring::unencrypted(config.repository, &secrets)
                }
                None => return Err(EngineError::Refused(
                    "a key was given, but `firebackup.json` says that the repository is not encrypted: refused unless \
                     --allow-unencrypted is given"
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
        if matches!(sealing, Sealing::Plain) && self.0.config.key.is_some() {
            return Err(EngineError::Refused(format!("`{path}` was about to be written unencrypted: nothing was")));
        }
        let json = serde_json::to_vec(value).map_err(json_error(path))?;
        let signer = self.0.keys.writer.as_ref();
        let bytes = object::seal(kind, self.id(), path.as_ref(), sealing, signer, self.0.world.bytes(), &json)?;
        put_new(&*self.0.store, path, bytes).await
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

    /// Every object under a folder of the repository.
    pub(crate) async fn list(&self, folder: &str) -> Result<Vec<ObjectMeta>> {
        let prefix = Path::from(folder);
        self.0.store.list(Some(&prefix)).try_collect().await.map_err(EngineError::store("list", folder))
    }

    /// Deletes objects; one that is gone already is no error.
    pub(crate) async fn delete_all(&self, paths: Vec<Path>) -> Result<u64> {
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

    /// Removes what a finished job left besides its result: the plan first, so that nobody goes on with the rest.
    pub(crate) async fn clear_job(&self, job: &JobId) -> Result<()> {
        let receipts = self.list(layout::receipts(job).as_ref()).await?;
        self.delete_all(vec![layout::plan(job)]).await?;
        self.delete_all(receipts.into_iter().map(|meta| meta.location).collect()).await?;
        self.delete_all(vec![layout::intent(job)]).await?;
        Ok(())
    }

    /// The same where the job is done and its result there: what is left behind is a prune's to remove.
    pub(crate) async fn clear_quietly(&self, job: &JobId) {
        if let Err(error) = self.clear_job(job).await {
            tracing::warn!(job = %job, error = %error, "the job is done, but its traces could not be removed");
        }
    }

    /// Jobs that have begun and not been committed, newest first: by their intents, and by their plans should an intent
    /// be lost.
    pub(crate) async fn begun_jobs(&self) -> Result<Vec<JobId>> {
        let mut found: HashSet<JobId> =
            self.list("intents").await?.iter().filter_map(|meta| layout::job_of(&meta.location)).collect();
        let receipts = self.list("receipts").await?;
        let plans = receipts.iter().map(|meta| &meta.location).filter(|path| path.filename() == Some("plan"));
        found.extend(plans.filter_map(layout::job_of));
        let mut jobs = Vec::new();
        for job in found {
            // one that was committed, and killed before it could clean up, has ended
            if self.is_dropped(&job).await? {
                jobs.push(job);
            }
        }
        jobs.sort_by(|a, b| b.millis().cmp(&a.millis()).then_with(|| b.cmp(a)));
        Ok(jobs)
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
