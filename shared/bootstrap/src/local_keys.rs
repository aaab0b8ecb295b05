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

/// Wraps keys under a master key of this machine.
pub struct LocalKeys {
    master: SecretKey,
    name: String,
    random: Arc<dyn Random>,
}

impl LocalKeys {
    /// A service around a master key.
    #[must_use]
    pub fn new(master: SecretKey, random: Arc<dyn Random>) -> Self {
        let name = format!("{PREFIX}{}", fingerprint(&master));
        Self { master, name, random }
    }

    fn check(&self, master: Option<&str>) -> Result<(), PortError> {
        if master.is_none_or(|master| master == self.name) {
            return Ok(());
        }
        let message = "it is not the master key of this machine";
        Err(PortError::new(ErrorKind::PermissionDenied, "use a master key", message))
    }
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
        self.check(master)?;
        let bytes = secret_box::seal(&self.master, PURPOSE, context, &*self.random, key.expose());
        Ok(WrappedKey { master: self.name.clone(), bytes })
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &EncryptionContext) -> Result<KeyBytes, PortError> {
        let refused = || PortError::new(ErrorKind::PermissionDenied, "unwrap a key", "it is bound to something else");
        self.check(Some(&wrapped.master))?;
        let opened = secret_box::open(&self.master, PURPOSE, context, &wrapped.bytes).map_err(|_| refused())?;
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
        let keys = LocalKeys::new(SecretKey::from_bytes([7; 32]), Arc::new(SystemRandom));
        let other = LocalKeys::new(SecretKey::from_bytes([8; 32]), Arc::new(SystemRandom));
        firebackup_testkit::key_service_suite::conforms(&keys, &other.name).await;
    }
}
