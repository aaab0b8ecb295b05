//! Writes one object of any size, in bounded memory and without replacing one that is there.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::task::JoinSet;

use crate::error::{EngineError, Result};
use crate::objects::{Put, put_new};
use crate::world::Meter;

/// Parts on their way at one time.
const PARTS_IN_FLIGHT: usize = 2;
/// The size of every part but the last; stores want at least 5 MiB, and some want all alike.
pub(crate) const PART_BYTES: usize = 8 * 1024 * 1024;

/// An object written in equal parts; one that fits into a part is put at once.
pub(crate) struct Upload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    meter: Arc<Meter>,
    buffered: VecDeque<Bytes>,
    buffered_bytes: usize,
    /// Bytes in parts so far.
    sent_bytes: u64,
    multipart: Option<Box<dyn MultipartUpload>>,
    parts: JoinSet<object_store::Result<()>>,
}

impl Upload {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, path: Path, meter: Arc<Meter>) -> Self {
        Self {
            store,
            path,
            meter,
            buffered: VecDeque::new(),
            buffered_bytes: 0,
            sent_bytes: 0,
            multipart: None,
            parts: JoinSet::new(),
        }
    }

    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.meter.stored.add(bytes.len() as u64);
        self.buffered_bytes += bytes.len();
        self.buffered.push_back(bytes);
        while self.buffered_bytes > PART_BYTES {
            let part = self.take_part(PART_BYTES);
            self.put_part(part).await.map_err(EngineError::store("write", &self.path))?;
        }
        Ok(())
    }

    fn take_part(&mut self, size: usize) -> PutPayload {
        let mut part = Vec::new();
        let mut missing = size.min(self.buffered_bytes);
        self.buffered_bytes -= missing;
        while let Some(mut bytes) = self.buffered.pop_front() {
            if bytes.len() > missing {
                part.push(bytes.split_to(missing));
                self.buffered.push_front(bytes);
                break;
            }
            missing -= bytes.len();
            part.push(bytes);
            if missing == 0 {
                break;
            }
        }
        part.into_iter().collect()
    }

    async fn put_part(&mut self, part: PutPayload) -> object_store::Result<()> {
        if self.multipart.is_none() {
            self.multipart = Some(self.store.put_multipart(&self.path).await?);
        }
        while self.parts.len() >= PARTS_IN_FLIGHT {
            self.join_part().await?;
        }
        self.sent_bytes += part.content_length() as u64;
        if let Some(multipart) = &mut self.multipart {
            self.parts.spawn(multipart.put_part(part));
        }
        Ok(())
    }

    async fn join_part(&mut self) -> object_store::Result<()> {
        match self.parts.join_next().await {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(source)) => Err(object_store::Error::Generic { store: "upload", source: Box::new(source) }),
        }
    }

    pub(crate) async fn finish(&mut self) -> Result<()> {
        let rest = self.take_part(self.buffered_bytes);
        if self.multipart.is_some() {
            return self.complete(rest).await.map_err(EngineError::store("write", &self.path));
        }
        let mut put = put_new(&*self.store, &self.path, rest.clone()).await;
        if put.as_ref().is_err_and(EngineError::may_pass) {
            // clients do not send such a put again whose answer was lost; here what is there is told by its bytes
            put = put_new(&*self.store, &self.path, rest).await;
        }
        match put? {
            Put::Stored => Ok(()),
            Put::Existed => {
                Err(EngineError::Refused(format!("`{}` was there already: nothing was written", self.path)))
            }
        }
    }

    async fn complete(&mut self, rest: PutPayload) -> object_store::Result<()> {
        self.put_part(rest).await?;
        while !self.parts.is_empty() {
            self.join_part().await?;
        }
        let Some(mut multipart) = self.multipart.take() else { return Ok(()) };
        match multipart.complete().await {
            // of a run's name, 128 random bits, there is one writer: an answer was lost and the request sent again
            Err(object_store::Error::AlreadyExists { .. })
                if self.store.head(&self.path).await?.size == self.sent_bytes =>
            {
                Ok(())
            }
            completed => completed.map(|_| ()),
        }
    }
}

impl Drop for Upload {
    /// A run that was not finished leaves no parts behind, where the process lives long enough to say so.
    fn drop(&mut self) {
        self.parts.abort_all();
        if let (Some(mut multipart), Ok(runtime)) = (self.multipart.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { multipart.abort().await });
        }
    }
}
