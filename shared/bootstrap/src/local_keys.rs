//! A key service on this machine: keys wrapped under one master key.

use std::sync::Arc;

use async_trait::async_trait;
use firebackup_codec::secret::SecretKey;
use firebackup_codec::secret_box;
use firebackup_codec::wrap::fingerprint;
use firebackup_model::port::{EncryptionContext, KeyBytes, KeyService, Random, WrappedKey};
use firebackup_model::{ErrorKind, PortError};

/// What a wrapped key is sealed for.
const PURPOSE: &str = "data key";
const PREFIX: &str = "local:";

/// Wraps keys under master keys of this machine.
pub struct LocalKeys {
    /// By name; the first is the one to wrap with.
    masters: Vec<(String, SecretKey)>,
    random: Arc<dyn Random>,
}

impl LocalKeys {
    /// A service around a master key.
    #[must_use]
    pub fn new(master: SecretKey, random: Arc<dyn Random>) -> Self {
        Self { masters: vec![(name_of(&master), master)], random }
    }

    /// The same with another master key, such as the one before: what it has wrapped is still opened.
    #[must_use]
    pub fn and(mut self, master: SecretKey) -> Self {
        self.masters.push((name_of(&master), master));
        self
    }

    /// The master key of this name; the first where none is named.
    fn master(&self, name: Option<&str>) -> Result<&(String, SecretKey), PortError> {
        let master = match name {
            None => self.masters.first(),
            Some(name) => self.masters.iter().find(|(known, _)| known == name),
        };
        let message = "it is no master key of this machine";
        master.ok_or_else(|| PortError::new(ErrorKind::PermissionDenied, "use a master key", message))
    }
}

fn name_of(master: &SecretKey) -> String {
    format!("{PREFIX}{}", fingerprint(master))
}

#[async_trait]
impl KeyService for LocalKeys {
    async fn generate(
        &self,
        master: Option<&str>,
        context: &EncryptionContext,
    ) -> Result<(KeyBytes, WrappedKey), PortError> {
        let mut bytes = [0; 32];
        self.random.fill(&mut bytes);
        let key = KeyBytes::new(bytes);
        let wrapped = self.wrap(master, &key, context).await?;
        Ok((key, wrapped))
    }

    async fn wrap(
        &self,
        master: Option<&str>,
        key: &KeyBytes,
        context: &EncryptionContext,
    ) -> Result<WrappedKey, PortError> {
        let (name, master) = self.master(master)?;
        let bytes = secret_box::seal(master, PURPOSE, context, &*self.random, key.expose());
        Ok(WrappedKey { master: name.clone(), bytes })
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &EncryptionContext) -> Result<KeyBytes, PortError> {
        let refused = || PortError::new(ErrorKind::PermissionDenied, "unwrap a key", "it is bound to something else");
        let (_, master) = self.master(Some(&wrapped.master))?;
        let opened = secret_box::open(master, PURPOSE, context, &wrapped.bytes).map_err(|_| refused())?;
        let bytes: [u8; 32] = opened.as_slice().try_into().map_err(|_| refused())?;
        Ok(KeyBytes::new(bytes))
    }

    async fn rewrap(
        &self,
        wrapped: &WrappedKey,
        master: Option<&str>,
        context: &EncryptionContext,
    ) -> Result<WrappedKey, PortError> {
        let key = self.unwrap(wrapped, context).await?;
        self.wrap(master, &key, context).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebackup_embedded::SystemRandom;

    #[tokio::test]
    async fn conforms() {
        let (first, second) = (SecretKey::from_bytes([7; 32]), SecretKey::from_bytes([8; 32]));
        let name = name_of(&second);
        let keys = LocalKeys::new(first, Arc::new(SystemRandom)).and(second);
        firebackup_testkit::key_service_suite::conforms(&keys, &name).await;
    }
}
