//! Requests that are repeated: the same key with the same request is answered by what the first one made.
//!
//! The key is stored in the transaction that makes the job, so there is no moment at which one is there without the
//! other, and of two requests at one time one makes the job and the other finds it.

use firebackup_model::Timestamp;
use firebackup_model::id::JobId;
use firebackup_model::port::{ItemKey, ItemWrite, NewItem};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::control::Control;
use crate::error::{Code, ControlError, Result};
use crate::job_records::in_days;
use crate::limit;
use crate::record::new_item;
use crate::tenant::Caller;

/// For how long a key is known.
const KEPT_DAYS: i64 = 1;
/// The most characters a key may have.
const MAX_KEY: usize = 255;

/// An idempotency key, and the request that came with it.
#[derive(Debug, Clone)]
pub(crate) struct Once {
    key: ItemKey,
    request: String,
    kept_days: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct OnceRecord {
    /// The hash of the request.
    request: String,
    /// What it made: the id of a job, or of a destination that is moved.
    job: String,
}

impl Once {
    /// Takes the key of a request to do `verb`. Keys of different callers are different keys.
    pub(crate) fn new<T: Serialize>(
        caller: &Caller,
        key: Option<&str>,
        verb: &str,
        request: &T,
    ) -> Result<Option<Self>> {
        let Some(key) = key else { return Ok(None) };
        limit::ascii("Idempotency-Key", key, MAX_KEY)?;
        let request = serde_json::to_string(request).map_err(ControlError::internal)?;
        let key = hash(&[&caller.actor().to_string(), key]);
        let key = caller.scope().idempotency_key(&key);
        Ok(Some(Self { key, request: hash(&[verb, &request]), kept_days: KEPT_DAYS }))
    }

    /// Something that is named by a key of its own, so that its request can be no other.
    pub(crate) const fn new_for_days(key: ItemKey, kept_days: i64) -> Self {
        Self { key, request: String::new(), kept_days }
    }

    /// Stores what the request makes, with the writes that make it.
    pub(crate) fn write(&self, made: &impl ToString, now: Timestamp) -> Result<ItemWrite> {
        let record = OnceRecord { request: self.request.clone(), job: made.to_string() };
        let item = new_item(self.key.clone(), &record, None)?;
        Ok(ItemWrite::Create(NewItem { expires: Some(in_days(now, self.kept_days)), ..item }))
    }
}

/// A hash of texts that tells `ab`, `c` from `a`, `bc`.
fn hash(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hex::encode(hash.finalize())
}

impl Control {
    /// What the same request has made before, if it has.
    ///
    /// # Errors
    /// [`IdempotencyKeyReused`](Code::IdempotencyKeyReused) where the key came with another request.
    pub(crate) async fn made_before(&self, once: Option<&Once>) -> Result<Option<JobId>> {
        let made = self.thing_made_before(once).await?;
        made.map(|made| made.parse().map_err(ControlError::internal)).transpose()
    }

    /// The same of a request that makes no job: what it was about, as it was written.
    pub(crate) async fn thing_made_before(&self, once: Option<&Once>) -> Result<Option<String>> {
        let Some(once) = once else { return Ok(None) };
        match self.load::<OnceRecord>(&once.key).await? {
            None => Ok(None),
            Some(before) if before.value.request == once.request => Ok(Some(before.value.job)),
            Some(_) => {
                let message = "the idempotency key was used for another request within 24 hours";
                Err(ControlError::conflict(Code::IdempotencyKeyReused, message))
            }
        }
    }
}
