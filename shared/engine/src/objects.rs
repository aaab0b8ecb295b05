//! Small objects: put once, read whole.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use crate::error::{EngineError, Result};

/// What came of a put that must not replace anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is there now.
    Stored,
    /// Something was there before.
    Existed,
}

/// Puts an object unless there is one. What is there may be our own, put by a request whose answer was lost and which
/// the client sent again: what we put is random enough to be told by its bytes.
pub(crate) async fn put_new(store: &dyn ObjectStore, path: &Path, bytes: impl Into<PutPayload>) -> Result<Put> {
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    let payload = bytes.into();
    match store.put_opts(path, payload.clone(), options).await {
        Ok(_) => Ok(Put::Stored),
        Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
            match read_small(store, path, payload.content_length() as u64).await {
                Ok(Some(there)) if there == Bytes::from(payload) => Ok(Put::Stored),
                Ok(_) | Err(EngineError::Refused(_)) => Ok(Put::Existed),
                Err(error) => Err(error),
            }
        }
        Err(source) => Err(EngineError::store("put", path)(source)),
    }
}

/// Reads a whole small object; nothing when it is not there; refused before memory is taken when it is too large.
pub(crate) async fn read_small(store: &dyn ObjectStore, path: &Path, limit: u64) -> Result<Option<Bytes>> {
    let result = match store.get(path).await {
        Ok(result) => result,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(source) => return Err(EngineError::store("read", path)(source)),
    };
    if result.meta.size > limit {
        return Err(EngineError::Refused(format!(
            "`{path}` has {} bytes: at most {limit} are accepted",
            result.meta.size
        )));
    }
    let size = result.meta.size;
    let bytes = result.bytes().await.map_err(EngineError::store("read", path))?;
    if bytes.len() as u64 != size {
        let text = format!("the answer was cut short: {} of {size} bytes", bytes.len());
        let source = object_store::Error::Generic { store: "read", source: text.into() };
        return Err(EngineError::store("read", path)(source));
    }
    Ok(Some(bytes))
}

pub(crate) fn json_error(path: &Path) -> impl FnOnce(serde_json::Error) -> EngineError {
    let path = path.to_string();
    move |source| EngineError::Json { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn what_we_put_ourselves_is_stored_and_what_another_put_existed() {
        let (store, path) = (InMemory::new(), Path::from("a"));
        let put = async |bytes: &'static str| put_new(&store, &path, bytes).await.unwrap();
        assert_eq!(put("ours").await, Put::Stored);
        // as a client sends it again whose answer was lost
        assert_eq!(put("ours").await, Put::Stored);
        assert_eq!(put("other").await, Put::Existed);
        assert_eq!(put("much longer than that").await, Put::Existed);
        assert_eq!(put("x").await, Put::Existed);
        assert_eq!(read_small(&store, &path, 4).await.unwrap().unwrap(), "ours");
        assert!(read_small(&store, &path, 3).await.is_err());
    }
}
