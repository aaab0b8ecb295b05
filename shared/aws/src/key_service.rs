//! Master keys in KMS.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::DataKeySpec;
use firebackup_model::port::{EncryptionContext, KeyBytes, KeyService, WrappedKey};
use firebackup_model::{ErrorKind, PortError};
use zeroize::Zeroizing;

use crate::config::AwsClients;
use crate::error::port_error;

const GENERATE: &str = "make a data key with KMS";
const WRAP: &str = "wrap a key with KMS";
const UNWRAP: &str = "unwrap a key with KMS";
const OPEN: &str = "open a secret with KMS";
const REWRAP: &str = "wrap a key anew with KMS";

/// KMS, with one key of its own for whoever brings none. Master keys are named by their ARNs; an alias is taken too,
/// and the ARN behind it is what a [`WrappedKey`] says.
///
/// The bytes of a key that KMS gave are cleared. The copy that the SDK makes of a key to be wrapped cannot be.
#[derive(Debug, Clone)]
pub struct KmsKeyService {
    client: aws_sdk_kms::Client,
    own: String,
}

impl KmsKeyService {
    /// The service whose own master key is `own`.
    #[must_use]
    pub fn new(clients: &AwsClients, own: impl Into<String>) -> Self {
        Self { client: clients.kms(), own: own.into() }
    }

    /// Wraps a wrapped key anew, within KMS.
    async fn re_encrypt(
        &self,
        wrapped: &WrappedKey,
        master: &str,
        context: &EncryptionContext,
    ) -> Result<WrappedKey, PortError> {
        let context = context_of(context);
        let request = self.client.re_encrypt().source_key_id(&wrapped.master).destination_key_id(master);
        let request = request.ciphertext_blob(Blob::new(wrapped.bytes.clone()));
        let request = request.set_source_encryption_context(Some(context.clone()));
        let request = request.set_destination_encryption_context(Some(context));
        let answer = request.send().await.map_err(|error| port_error(REWRAP, error))?;
        wrapped_of(REWRAP, answer.key_id, answer.ciphertext_blob)
    }

    /// Opens a text that was encrypted under a master key, with these names and values as its context.
    ///
    /// # Errors
    /// As [`KeyService::unwrap`]; [`Corrupt`](ErrorKind::Corrupt) when it is no text.
    pub async fn open(&self, sealed: &WrappedKey, context: &EncryptionContext) -> Result<Zeroizing<String>, PortError> {
        let plaintext = self.decrypt(OPEN, sealed, context).await?;
        let bytes = Zeroizing::new(plaintext.map(Blob::into_inner).unwrap_or_default());
        let text = std::str::from_utf8(&bytes).ok().filter(|text| !text.is_empty());
        Ok(Zeroizing::new(text.ok_or_else(|| corrupt(OPEN, "it is no text"))?.to_owned()))
    }

    async fn decrypt(
        &self,
        operation: &'static str,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<Option<Blob>, PortError> {
        // the master key is named, though KMS could find it: a wrapped key of somebody else's is not opened
        let request = self.client.decrypt().key_id(&wrapped.master).ciphertext_blob(Blob::new(wrapped.bytes.clone()));
        let request = request.set_encryption_context(Some(context_of(context)));
        Ok(request.send().await.map_err(|error| port_error(operation, error))?.plaintext)
    }

    fn master<'a>(&'a self, master: Option<&'a str>) -> &'a str {
        master.unwrap_or(&self.own)
    }
}

/// The region in which a key stands, from its ARN; nothing when the text is no ARN of a key or an alias.
#[must_use]
pub fn region_of_key(arn: &str) -> Option<&str> {
    let mut parts = arn.splitn(6, ':');
    let (start, _partition, service) = (parts.next()?, parts.next()?, parts.next()?);
    let (region, _account, resource) = (parts.next()?, parts.next()?, parts.next()?);
    let is_key = resource.starts_with("key/") || resource.starts_with("alias/");
    (start == "arn" && service == "kms" && !region.is_empty() && is_key).then_some(region)
}

fn context_of(context: &EncryptionContext) -> HashMap<String, String> {
    context.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn corrupt(operation: &str, message: &str) -> PortError {
    PortError::new(ErrorKind::Corrupt, operation, message)
}

/// The bytes of a key in the clear; the answer's own are cleared.
fn key_of(operation: &str, plaintext: Option<Blob>) -> Result<KeyBytes, PortError> {
    let bytes = Zeroizing::new(plaintext.map(Blob::into_inner).unwrap_or_default());
    let bytes = <&[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| corrupt(operation, "it is not 32 bytes long"))?;
    Ok(KeyBytes::new(*bytes))
}

fn wrapped_of(operation: &str, master: Option<String>, bytes: Option<Blob>) -> Result<WrappedKey, PortError> {
    match (master, bytes.map(Blob::into_inner)) {
        (Some(master), Some(bytes)) if !bytes.is_empty() => Ok(WrappedKey { master, bytes }),
        _ => Err(corrupt(operation, "the answer lacks the wrapped key")),
    }
}

#[async_trait]
impl KeyService for KmsKeyService {
    async fn generate(
        &self,
        master: Option<&str>,
        context: &EncryptionContext,
    ) -> Result<(KeyBytes, WrappedKey), PortError> {
        let request = self.client.generate_data_key().key_id(self.master(master)).key_spec(DataKeySpec::Aes256);
        let request = request.set_encryption_context(Some(context_of(context)));
        let answer = request.send().await.map_err(|error| port_error(GENERATE, error))?;
        let key = key_of(GENERATE, answer.plaintext)?;
        Ok((key, wrapped_of(GENERATE, answer.key_id, answer.ciphertext_blob)?))
    }

    async fn wrap(
        &self,
        master: Option<&str>,
        key: &KeyBytes,
        context: &EncryptionContext,
    ) -> Result<WrappedKey, PortError> {
        let request = self.client.encrypt().key_id(self.master(master)).plaintext(Blob::new(key.expose().as_slice()));
        let request = request.set_encryption_context(Some(context_of(context)));
        let answer = request.send().await.map_err(|error| port_error(WRAP, error))?;
        wrapped_of(WRAP, answer.key_id, answer.ciphertext_blob)
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &EncryptionContext) -> Result<KeyBytes, PortError> {
        key_of(UNWRAP, self.decrypt(UNWRAP, wrapped, context).await?)
    }

    async fn rewrap(
        &self,
        wrapped: &WrappedKey,
        master: Option<&str>,
        context: &EncryptionContext,
    ) -> Result<WrappedKey, PortError> {
        match self.re_encrypt(wrapped, self.master(master), context).await {
            // AWS can do it, a server that stands in KMS's place may not
            Err(error) if error.kind == ErrorKind::Unimplemented => {
                self.wrap(master, &self.unwrap(wrapped, context).await?, context).await
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_of_a_key_is_read_from_its_arn() {
        for (arn, region) in [
            ("arn:aws:kms:eu-central-1:111122223333:key/1234abcd", Some("eu-central-1")),
            ("arn:aws-cn:kms:cn-north-1:111122223333:alias/firebackup", Some("cn-north-1")),
            ("arn:aws:s3:eu-central-1:111122223333:key/1234abcd", None),
            ("arn:aws:kms::111122223333:key/1234abcd", None),
            ("alias/firebackup", None),
            ("1234abcd-12ab-34cd-56ef-1234567890ab", None),
            ("", None),
        ] {
            assert_eq!(region_of_key(arn), region, "{arn}");
        }
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        for length in [0, 16, 31, 33] {
            let error = key_of("test", Some(Blob::new(vec![7; length]))).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Corrupt, "{length}");
        }
        assert_eq!(key_of("test", None).unwrap_err().kind, ErrorKind::Corrupt);
        assert_eq!(key_of("test", Some(Blob::new(vec![7; 32]))).unwrap().expose(), &[7; 32]);
    }
}
