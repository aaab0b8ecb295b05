//! How a bucket is reached that may be somebody else's: with keys of its own, at a service of its own.

use std::fmt;

use aws_credential_types::Credentials;
use firebackup_model::PortError;

use crate::bucket::Bucket;
use crate::config::{AwsClients, AwsSettings, config_loader, with_region};

/// Where a bucket is, and what opens it. `Debug` shows no key.
#[derive(Clone, Default)]
pub struct BucketAccess {
    /// The region; nothing for that of this process.
    pub region: Option<String>,
    /// The base URL of the service; nothing for AWS's own.
    pub endpoint: Option<String>,
    /// Whether the endpoint was chosen by somebody who must not reach this machine and its networks by it.
    pub public_only: bool,
    /// The id of a key and its secret; nothing for the credentials of this process.
    pub key: Option<(String, String)>,
    /// What a key that ends after hours brings besides.
    pub session_token: Option<String>,
}

impl fmt::Debug for BucketAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.as_ref().map(|(id, _)| id);
        let mut shown = f.debug_struct("BucketAccess");
        shown.field("region", &self.region).field("endpoint", &self.endpoint).field("key", &key).finish_non_exhaustive()
    }
}

impl Bucket {
    /// The bucket of this name, reached as `access` says. Nobody is spoken to.
    ///
    /// # Errors
    /// [`InvalidArgument`](firebackup_model::ErrorKind::InvalidArgument) when there is no region.
    pub async fn reach(access: &BucketAccess, bucket: &str) -> Result<Self, PortError> {
        let settings = AwsSettings {
            region: access.region.clone(),
            endpoint: access.endpoint.clone(),
            profile: None,
            public_only: access.public_only,
        };
        let mut loader = config_loader(&settings);
        if let Some((id, secret)) = &access.key {
            let token = access.session_token.clone();
            loader = loader.credentials_provider(Credentials::new(id, secret, token, None, "destination"));
        }
        let config = with_region(loader.load().await)?;
        Ok(Self::new(&AwsClients::new(&config), bucket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_shown() {
        let key = Some(("AKIA".to_owned(), "hunter2".to_owned()));
        let access = BucketAccess { key, session_token: Some("hunter2".to_owned()), ..BucketAccess::default() };
        let shown = format!("{access:?}");
        assert!(shown.contains("AKIA") && !shown.contains("hunter2"), "{shown}");
    }
}
