//! Which keys of the repository can be opened, and whom to believe.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use firebackup_codec::sealing::Sealing;
use firebackup_codec::secret::SecretKey;
use firebackup_codec::signature::{WriterKey, WriterPublicKey};
use firebackup_codec::wrap::{KeyError, RecoveryPrivateKey, RecoveryPublicKey, Wrap, WrapIds, WrapKind};
use firebackup_model::id::{KeyId, RepositoryId, WrapId};
use firebackup_model::port::{EncryptionContext, KeyService};

use crate::error::{EngineError, Result};
use crate::world::World;

/// What the user holds. Debug shows none of it.
#[derive(Clone, Default)]
pub struct Secrets {
    /// Local master keys; several while rotating.
    pub masters: Vec<SecretKey>,
    /// A passphrase.
    pub passphrase: Option<String>,
    /// The offline recovery key.
    pub recovery: Option<RecoveryPrivateKey>,
    /// The public half of a recovery key: enough to write full backups, not to read.
    pub recovery_public: Option<RecoveryPublicKey>,
    /// A signing key of a machine that holds no repository key.
    pub signing: Option<WriterKey>,
    /// A master key that is asked for instead of held.
    pub service: Option<ServiceKey>,
    /// Writer keys that are believed.
    pub pinned: Vec<WriterPublicKey>,
    /// Whether objects in the clear are accepted although a key was given.
    pub allow_unencrypted: bool,
}

impl Secrets {
    /// Whether there is anything that opens or makes keys.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.masters.is_empty()
            && self.passphrase.is_none()
            && self.recovery.is_none()
            && self.recovery_public.is_none()
            && self.service.is_none()
    }
}

/// A master key in AWS KMS or a service like it.
#[derive(Clone)]
pub struct ServiceKey {
    /// The service.
    pub service: Arc<dyn KeyService>,
    /// The ARNs of master keys that are believed, the one to wrap with first. With none, any is asked for that the
    /// repository names: whoever can write to it may then have chosen it.
    pub masters: Vec<String>,
    /// What wraps are bound to besides the repository: names and values such as the organization.
    pub context: EncryptionContext,
}

impl ServiceKey {
    /// The same, with the one master key alone that is wrapped with.
    pub(crate) fn first(&self) -> Self {
        Self { masters: self.masters.iter().take(1).cloned().collect(), ..self.clone() }
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").field("masters", &self.masters.len()).finish_non_exhaustive()
    }
}

/// Whom a reader believes; see `docs/format.md`, *Signatures and origin*.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Only these signers.
    Only(Vec<WriterPublicKey>),
    /// Anybody, and it is said so.
    Anybody,
}

/// The keys of an open repository.
pub(crate) struct Keyring {
    pub(crate) repository: RepositoryId,
    /// The repository key, when it could be opened.
    pub(crate) root: Option<(KeyId, SecretKey)>,
    pub(crate) writer: Option<WriterKey>,
    pub(crate) trust: Trust,
    opened: Mutex<HashMap<KeyId, SecretKey>>,
}

impl Keyring {
    /// A keyring of a repository in the clear.
    pub(crate) fn unencrypted(repository: RepositoryId, secrets: &Secrets) -> Self {
        let trust = if secrets.pinned.is_empty() { Trust::Anybody } else { Trust::Only(secrets.pinned.clone()) };
        Self { repository, root: None, writer: secrets.signing.clone(), trust, opened: Mutex::default() }
    }

    /// A keyring around an opened repository key, or around none (a machine that only writes).
    pub(crate) fn new(repository: RepositoryId, root: Option<(KeyId, SecretKey, WrapKind)>, secrets: &Secrets) -> Self {
        let own = root.as_ref().map(|(_, key, _)| WriterKey::derive(key, repository));
        let proven = root.as_ref().is_some_and(|(_, _, kind)| proves_origin(*kind, secrets));
        let trust = match &own {
            _ if !secrets.pinned.is_empty() => Trust::Only(secrets.pinned.clone()),
            Some(own) if proven => Trust::Only(vec![own.public()]),
            _ => Trust::Anybody,
        };
        let writer = own.or_else(|| secrets.signing.clone());
        Self { repository, root: root.map(|(id, key, _)| (id, key)), writer, trust, opened: Mutex::default() }
    }

    pub(crate) fn cached(&self, id: KeyId) -> Option<SecretKey> {
        if let Some((root, key)) = &self.root
            && *root == id
        {
            return Some(key.clone());
        }
        self.opened.lock().ok()?.get(&id).cloned()
    }

    pub(crate) fn remember(&self, id: KeyId, key: SecretKey) {
        if let Ok(mut opened) = self.opened.lock() {
            opened.insert(id, key);
        }
    }

    /// How intents and marks are sealed: with the repository key.
    pub(crate) fn root_sealing(&self) -> Sealing {
        self.root.as_ref().map_or(Sealing::Plain, |(id, key)| Sealing::Key { id: *id, key: key.clone() })
    }

    /// Opens a wrap with whatever fits it.
    pub(crate) fn open_wrap(&self, wrap: &Wrap, secrets: &Secrets) -> Result<SecretKey, KeyError> {
        match (wrap.kind(), &self.root) {
            (WrapKind::Key, Some((id, key))) => wrap.open_key(key, *id),
            _ => open_wrap(wrap, secrets),
        }
    }

    /// Wraps a new data key for whoever may read it: the repository key, or a recovery key alone.
    pub(crate) fn wrap_data_key(&self, id: KeyId, key: &SecretKey, secrets: &Secrets, world: &World) -> Result<Wrap> {
        let ids = WrapIds { repository: self.repository, key: id, wrap: WrapId(world.bytes()), created: world.now() };
        match (&self.root, &secrets.recovery_public) {
            (Some((root, root_key)), _) => Ok(Wrap::wrap_key(root_key, *root, &ids, key, world.random.as_ref())?),
            (None, Some(public)) => Ok(Wrap::wrap_recovery(public, &ids, key, world.random.as_ref())?),
            (None, None) => {
                Err(EngineError::Refused("no key to seal a backup with: give --master-key-file".to_owned()))
            }
        }
    }
}

/// Whether what a wrap of this kind holds can only come from somebody who may open it. A wrap under a public key could be
/// anybody's, and so could one under a master key that nobody here has named.
fn proves_origin(kind: WrapKind, secrets: &Secrets) -> bool {
    match kind {
        WrapKind::Recovery => false,
        WrapKind::Kms => secrets.service.as_ref().is_some_and(|service| !service.masters.is_empty()),
        WrapKind::Local | WrapKind::Passphrase | WrapKind::Key => true,
    }
}

/// Opens a wrap with the user's own secrets, except that a service may have to be asked.
pub(crate) fn open_wrap(wrap: &Wrap, secrets: &Secrets) -> Result<SecretKey, KeyError> {
    match wrap.kind() {
        WrapKind::Local => {
            let mut last = None;
            for master in &secrets.masters {
                match wrap.open_local(master) {
                    Ok(key) => return Ok(key),
                    Err(error) => last = Some(error),
                }
            }
            Err(last.unwrap_or(KeyError::NoSecret))
        }
        WrapKind::Passphrase => match &secrets.passphrase {
            Some(passphrase) => wrap.open_passphrase(passphrase),
            None => Err(KeyError::NoSecret),
        },
        WrapKind::Recovery => match &secrets.recovery {
            Some(recovery) => wrap.open_recovery(recovery),
            None => Err(KeyError::NoSecret),
        },
        WrapKind::Key | WrapKind::Kms => Err(KeyError::NoSecret),
    }
}
