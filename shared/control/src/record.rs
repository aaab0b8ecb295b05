//! Records in items, and their change under a condition.

use firebackup_model::ErrorKind;
use firebackup_model::port::{Item, ItemBody, ItemKey, ItemWrite, NewItem};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::control::Control;
use crate::error::{ControlError, Result};

/// The number under which a body says which shape its record has.
const FORMAT_FIELD: &str = "record";
/// The shape that this build writes, and the newest that it reads.
const FORMAT: u64 = 1;
/// How often a change is decided anew because others were faster.
pub(crate) const MAX_ATTEMPTS: u32 = 64;

/// A field that tells what is left out (nothing) from what is `null` (nothing inside something).
pub(crate) fn present<'de, D, T>(deserializer: D) -> std::result::Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// A record as it was read: what it says, and of which version it is.
#[derive(Debug, Clone)]
pub(crate) struct Stored<T> {
    pub(crate) value: T,
    pub(crate) key: ItemKey,
    pub(crate) version: u64,
}

impl<T: Serialize> Stored<T> {
    /// Replaces the record by its value of now, if nobody else has changed it.
    pub(crate) fn replace(&self, index: Option<ItemKey>) -> Result<ItemWrite> {
        Ok(ItemWrite::Replace(new_item(self.key.clone(), &self.value, index)?, self.version))
    }
}

impl<T> Stored<T> {
    pub(crate) fn delete(&self) -> ItemWrite {
        ItemWrite::Delete(self.key.clone(), self.version)
    }

    /// Holds only if nobody has changed the record since it was read.
    pub(crate) fn check(&self) -> ItemWrite {
        ItemWrite::Check(self.key.clone(), self.version)
    }
}

/// An item that holds a record.
pub(crate) fn new_item<T: Serialize>(key: ItemKey, value: &T, index: Option<ItemKey>) -> Result<NewItem> {
    Ok(NewItem { index, ..NewItem::new(key, encode(value)?) })
}

fn encode<T: Serialize>(value: &T) -> Result<ItemBody> {
    match serde_json::to_value(value).map_err(ControlError::internal)? {
        Value::Object(mut body) => {
            body.insert(FORMAT_FIELD.to_owned(), FORMAT.into());
            Ok(body)
        }
        _ => Err(ControlError::internal("a record is not an object")),
    }
}

/// Reads the record of an item.
pub(crate) fn decode<T: DeserializeOwned>(item: Item) -> Result<Stored<T>> {
    let Item { key, mut body, version } = item;
    let format = body.remove(FORMAT_FIELD).and_then(|format| format.as_u64());
    if format != Some(FORMAT) {
        return Err(ControlError::internal(format!("item {}/{} has format {format:?}", key.partition, key.sort)));
    }
    let value = serde_json::from_value(Value::Object(body)).map_err(ControlError::internal)?;
    Ok(Stored { value, key, version })
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// All of it is done.
    Yes,
    /// Somebody else was faster: decide anew.
    Outrun,
}

impl Control {
    /// Reads a record.
    pub(crate) async fn load<T: DeserializeOwned>(&self, key: &ItemKey) -> Result<Option<Stored<T>>> {
        self.items().get(key).await?.map(decode).transpose()
    }

    /// Reads a record that should be there; `what` goes with the refusal.
    pub(crate) async fn found<T: DeserializeOwned>(&self, key: &ItemKey, what: &str) -> Result<Stored<T>> {
        self.load(key).await?.ok_or_else(|| ControlError::not_found(what))
    }

    /// Does a transaction of which no entry tells, and tells being outrun from failing: for what is no change that anybody
    /// asks about (marks, places, counters, tokens). All others are [`commit`](Self::commit)ted.
    pub(crate) async fn write_unrecorded(&self, writes: Vec<ItemWrite>) -> Result<Written> {
        match self.items().write(writes).await {
            Ok(()) => Ok(Written::Yes),
            Err(error) if matches!(error.kind, ErrorKind::FailedPrecondition | ErrorKind::Aborted) => {
                Ok(Written::Outrun)
            }
            Err(error) => Err(error.into()),
        }
    }
}
