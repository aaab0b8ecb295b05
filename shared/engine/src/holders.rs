//! Who can open a repository.

use firebackup_codec::secret::SecretKey;
use firebackup_codec::wrap::{PassphraseParams, RecoveryPublicKey, Wrap, WrapIds, WrapKind, kms_context};
use firebackup_model::id::{KeyId, WrapId};
use firebackup_model::port::KeyBytes;

use crate::error::{EngineError, Result};
use crate::keyring::{Secrets, ServiceKey};
use crate::layout;
use crate::repository::Repository;
use crate::world::World;
use crate::wraps::{put_wrap, read_wraps, unwrap_by};

impl Repository {
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
        let wrap = holder.wrap(&ids, key, &self.0.world).await?;
        put_wrap(&*self.0.store, &wrap).await?;
        // read back and checked before anybody may remove another wrap on the strength of it
        let there = read_wraps(&*self.0.store, self.id(), id).await?;
        if there.good.iter().any(|other| other == &wrap) {
            Ok(ids.wrap)
        } else {
            Err(EngineError::NotFound("the new wrap cannot be read back".to_owned()))
        }
    }

    /// Lets everybody that `secrets` name open the repository, except those who can already: wraps that are there are
    /// opened to know. Returns how many were added. Doing it again adds nothing; doing it twice at once may add a wrap
    /// twice, which harms nobody. Nothing is removed.
    ///
    /// Nobody here can open a wrap to a recovery key: one that names the key is taken for one.
    ///
    /// # Errors
    /// When this process could not open the repository key, a key service is out of reach, or the store fails.
    pub async fn add_missing_holders(&self, secrets: &Secrets) -> Result<u64> {
        let (id, key) = self.root()?;
        let mut added = 0;
        for holder in Holder::all_of(secrets) {
            let wraps = read_wraps(&*self.0.store, self.id(), id).await?.good;
            if !holder.opens_one_of(&wraps, key).await? {
                self.add_holder(&holder).await?;
                added += 1;
            }
        }
        Ok(added)
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
        self.delete_all(vec![layout::wrap(id, wrap)]).await?;
        if read_wraps(&*self.0.store, self.id(), id).await?.good.is_empty() {
            put_wrap(&*self.0.store, removed).await?;
            return Err(EngineError::Refused(
                "another process removed the other wraps at the same time: this one was put back".to_owned(),
            ));
        }
        Ok(())
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
    /// Whoever may use the first master key of this service.
    Service(ServiceKey),
}

impl Holder {
    pub(crate) async fn wrap(&self, ids: &WrapIds, key: &SecretKey, world: &World) -> Result<Wrap> {
        let random = world.random.as_ref();
        Ok(match self {
            Self::Master(master) => Wrap::wrap_local(master, ids, key, random)?,
            Self::Passphrase(passphrase) => {
                Wrap::wrap_passphrase(passphrase, &PassphraseParams::default(), ids, key, random)?
            }
            Self::Recovery(public) => Wrap::wrap_recovery(public, ids, key, random)?,
            Self::Service(service) => {
                let mut context = service.context.clone();
                context.extend(kms_context(ids));
                let master = service.masters.first().map(String::as_str);
                let wrapped = service.service.wrap(master, &KeyBytes::new(*key.expose()), &context).await?;
                Wrap::from_kms(ids, wrapped.master, context, wrapped.bytes)
            }
        })
    }

    /// Whether one of the wraps gives `key` to the holder.
    async fn opens_one_of(&self, wraps: &[Wrap], key: &SecretKey) -> Result<bool> {
        for wrap in wraps {
            let opened = match self {
                Self::Master(master) => wrap.open_local(master).ok(),
                Self::Passphrase(passphrase) if wrap.kind() == WrapKind::Passphrase => {
                    wrap.open_passphrase(passphrase).ok()
                }
                Self::Recovery(public) if wrap.kind() == WrapKind::Recovery => {
                    let is_theirs = wrap.holder() == Some(public.to_string());
                    is_theirs.then(|| key.clone())
                }
                Self::Service(service) if wrap.kind() == WrapKind::Kms => match unwrap_by(&service.first(), wrap).await
                {
                    Ok(opened) => opened,
                    // a stranger's wrap may name this holder, too
                    Err(error) if !error.may_pass() => None,
                    Err(error) => return Err(error),
                },
                _ => None,
            };
            if opened.is_some_and(|opened| opened.expose() == key.expose()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) fn all_of(secrets: &Secrets) -> Vec<Self> {
        let masters = secrets.masters.iter().cloned().map(Self::Master);
        let passphrase = secrets.passphrase.iter().cloned().map(Self::Passphrase);
        let recovery = secrets.recovery_public.iter().cloned().map(Self::Recovery);
        let service = secrets.service.iter().cloned().map(Self::Service);
        masters.chain(passphrase).chain(recovery).chain(service).collect()
    }
}
