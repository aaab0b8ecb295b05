//! Where months of the audit log lie: objects below a destination, put once.

use async_trait::async_trait;
use firebackup_control::{Archive, ArchivePlace, ControlError};
use firebackup_model::PortError;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, PutMode, PutOptions};

use crate::places::Places;

#[async_trait]
impl Archive for Places {
    async fn put(&self, place: &ArchivePlace, name: &str, bytes: Vec<u8>) -> Result<bool, ControlError> {
        let destination = self.locked_destination(&place.access.url, &place.access, place.retention_lock_days);
        let store = destination.map_err(refused)?.store();
        let once = PutOptions::from(PutMode::Create);
        match store.put_opts(&Path::from(name), bytes.into(), once).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(failed("put", name, error)),
        }
    }

    async fn get(&self, place: &ArchivePlace, name: &str, most: u64) -> Result<Option<Vec<u8>>, ControlError> {
        let destination = self.destination(&place.access.url, &place.access).map_err(refused)?;
        let found = match destination.store().get(&Path::from(name)).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(|error| failed("read", name, error))?,
        };
        if found.meta.size > most {
            let message = format!("{name} in the destination has {} bytes, more than was put there", found.meta.size);
            return Err(ControlError::destination(message));
        }
        let bytes = found.bytes().await.map_err(|error| failed("read", name, error))?;
        Ok(Some(bytes.into()))
    }
}

fn refused(error: PortError) -> ControlError {
    ControlError::destination(format!("the destination cannot be used: {error}")).with_source(error)
}

/// What the store said goes to the log only: it may name what is not the client's.
fn failed(operation: &str, name: &str, error: Error) -> ControlError {
    ControlError::destination(format!("the destination refused to {operation} {name}, or cannot be reached"))
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use firebackup_codec::secret::SecretKey;
    use firebackup_control::{DestinationAccess, Kind};
    use firebackup_embedded::{SystemClock, SystemRandom};
    use firebackup_engine::World;

    use super::*;
    use crate::places::MasterKeys;

    fn places() -> Places {
        let world = World { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom) };
        Places::new(MasterKeys::Local(SecretKey::from_bytes([1; 32])), world, Vec::new())
    }

    #[tokio::test]
    async fn an_object_is_put_once_and_read_as_it_was_put() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", folder.path().display());
        let access = DestinationAccess { url, endpoint: None, options: Vec::new() };
        let (places, place) = (places(), ArchivePlace { access, retention_lock_days: None });
        let name = "audit/org/2026-01/evt";
        assert_eq!(places.get(&place, name, 9).await.unwrap(), None);
        assert!(places.put(&place, name, b"first".to_vec()).await.unwrap());
        assert!(!places.put(&place, name, b"second".to_vec()).await.unwrap());
        assert_eq!(places.get(&place, name, 5).await.unwrap().as_deref(), Some(b"first".as_slice()));
        assert_eq!(std::fs::read(folder.path().join(name)).unwrap(), b"first");
        let error = places.get(&place, name, 4).await.unwrap_err();
        assert_eq!(error.kind, Kind::Upstream, "{error}");
    }
}
