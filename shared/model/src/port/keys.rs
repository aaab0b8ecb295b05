//! Master keys that never leave where they are: they wrap and unwrap data keys.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;

use crate::error::PortError;

/// What a wrapped key is bound to: names and values that are no secret, and must be given again to unwrap it.
pub type EncryptionContext = BTreeMap<String, String>;

/// 32 bytes of a key in the clear. `Debug` does not show them; whoever takes them clears them.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyBytes([u8; 32]);

impl KeyBytes {
    /// From bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for KeyBytes {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyBytes")
    }
}

/// A key under a master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// The master key: for KMS its ARN.
    pub master: String,
    /// The wrapped bytes.
    pub bytes: Vec<u8>,
}

/// Wraps and unwraps keys under master keys.
#[async_trait]
pub trait KeyService: Send + Sync {
    /// A new random key, in the clear and wrapped. Without a master key, the service's own.
    async fn generate(
        &self,
        master: Option<&str>,
        context: &EncryptionContext,
    ) -> Result<(KeyBytes, WrappedKey), PortError>;

    /// Wraps a key that there is.
    async fn wrap(
        &self,
        master: Option<&str>,
        key: &KeyBytes,
        context: &EncryptionContext,
    ) -> Result<WrappedKey, PortError>;

    /// Unwraps a key.
    ///
    /// Another context, another master key or damage is [`PermissionDenied`](crate::ErrorKind::PermissionDenied) or
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument), and nothing is told of which.
    async fn unwrap(&self, wrapped: &WrappedKey, context: &EncryptionContext) -> Result<KeyBytes, PortError>;

    /// Wraps a wrapped key anew, under another master key or a newer version of its own, without it being seen in the
    /// clear where the service can do that.
    async fn rewrap(
        &self,
        wrapped: &WrappedKey,
        master: Option<&str>,
        context: &EncryptionContext,
    ) -> Result<WrappedKey, PortError>;
}
