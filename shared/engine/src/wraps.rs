//! Wraps in the repository: how keys are put, found and opened.

use firebackup_codec::secret::SecretKey;
use firebackup_codec::wrap::{KeyError, Wrap, WrapIds, WrapKind};
use firebackup_model::id::{KeyId, RepositoryId, WrapId};
use firebackup_model::manifest::RepositoryConfig;
use firebackup_model::port::WrappedKey;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use crate::error::{EngineError, Result};
use crate::holders::Holder;
use crate::keyring::{self, Secrets, ServiceKey};
use crate::layout;
use crate::objects::{Put, json_error, put_new, read_small};
use crate::world::World;

/// The largest wrap file that is read.
pub(crate) const MAX_WRAP_BYTES: u64 = 64 * 1024;

pub(crate) async fn put_root_key(
    store: &dyn ObjectStore,
    repository: RepositoryId,
    key: KeyId,
    secrets: &Secrets,
    world: &World,
) -> Result<()> {
    let root = SecretKey::from_bytes(world.bytes());
    for holder in Holder::all_of(secrets) {
        let ids = WrapIds { repository, key, wrap: WrapId(world.bytes()), created: world.now() };
        put_wrap(store, &holder.wrap(&ids, &root, world).await?).await?;
    }
    Ok(())
}

pub(crate) async fn unlock(
    store: &dyn ObjectStore,
    config: &RepositoryConfig,
    key: KeyId,
    secrets: &Secrets,
) -> Result<Option<(KeyId, SecretKey, WrapKind)>> {
    if secrets.is_empty() {
        return Err(EngineError::Refused(
            "the repository is encrypted: give --master-key-file (or FIREBACKUP_MASTER_KEY), --passphrase-file, --recovery-key-file or --kms".to_owned(),
        ));
    }
    let wraps = read_wraps(store, config.repository, key).await?;
    let mut refusal = None;
    // symmetric wraps first: they prove where the key comes from
    let (symmetric, recovery): (Vec<_>, Vec<_>) = wraps.good.iter().partition(|wrap| wrap.kind() != WrapKind::Recovery);
    for wrap in symmetric.into_iter().chain(recovery) {
        let opened = match (&secrets.service, wrap.kind()) {
            (Some(service), WrapKind::Kms) => match unwrap_by(service, wrap).await {
                Ok(Some(opened)) => return Ok(Some((key, opened, wrap.kind()))),
                Ok(None) => continue,
                // what a stranger put must not keep anybody from the other wraps
                Err(error) if !error.may_pass() => {
                    refusal.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(error),
            },
            _ => keyring::open_wrap(wrap, secrets),
        };
        match opened {
            Ok(opened) => return Ok(Some((key, opened, wrap.kind()))),
            Err(error) if error.is_no_secret() => {}
            // that the right key does not open it says more than that another key is wanted
            Err(error) if refusal.is_none() || error == KeyError::Damaged => refusal = Some(wrap_error(wrap, error)),
            Err(_) => {}
        }
    }
    let writes_only = secrets.masters.is_empty()
        && secrets.passphrase.is_none()
        && secrets.recovery.is_none()
        && secrets.service.is_none();
    match refusal {
        Some(error) => Err(error),
        None if writes_only => Ok(None),
        None if wraps.good.is_empty() && wraps.bad.is_none() => Err(EngineError::NotFound(format!(
            "nobody can open the repository: `firebackup.json` names key {key}, and there is nothing in `{}`",
            layout::key(key)
        ))),
        None => Err(wraps.bad.unwrap_or_else(|| {
            EngineError::Refused("none of the keys given is one that the repository was made for".to_owned())
        })),
    }
}

/// Asks a service to open a wrap; nothing when the wrap is under a master key that is not believed, or bound to something
/// else than we say.
pub(crate) async fn unwrap_by(service: &ServiceKey, wrap: &Wrap) -> Result<Option<SecretKey>> {
    let (arn, context, wrapped) = wrap.kms().map_err(|error| wrap_error(wrap, error))?;
    let is_believed = service.masters.is_empty() || service.masters.iter().any(|master| master == arn);
    let is_bound = service.context.iter().all(|(name, value)| context.get(name) == Some(value));
    if !is_believed || !is_bound {
        return Ok(None);
    }
    let wrapped = WrappedKey { master: arn.to_owned(), bytes: wrapped.to_vec() };
    let opened = service.service.unwrap(&wrapped, context).await?;
    Ok(Some(SecretKey::from_bytes(*opened.expose())))
}

pub(crate) fn wrap_error(wrap: &Wrap, source: KeyError) -> EngineError {
    let ids = wrap.ids();
    EngineError::Wrap { object: layout::wrap(ids.key, ids.wrap).to_string(), source }
}

pub(crate) async fn put_wrap(store: &dyn ObjectStore, wrap: &Wrap) -> Result<()> {
    let path = layout::wrap(wrap.ids().key, wrap.ids().wrap);
    let json = serde_json::to_vec_pretty(wrap).map_err(json_error(&path))?;
    match put_new(store, &path, json).await? {
        Put::Stored => Ok(()),
        Put::Existed => Err(EngineError::Refused(format!("`{path}` exists already"))),
    }
}

/// The wraps of a key.
pub(crate) struct Wraps {
    pub(crate) good: Vec<Wrap>,
    /// What was wrong with the last one that is of no use; it must not keep anybody from the others.
    pub(crate) bad: Option<EngineError>,
}

pub(crate) async fn read_wraps(store: &dyn ObjectStore, repository: RepositoryId, key: KeyId) -> Result<Wraps> {
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
