//! The collections of a database, and how many documents each has.

use std::time::Duration;

use firebackup_model::error::PortError;
use firebackup_model::timestamp::Timestamp;
use futures::{StreamExt, stream};
use gcloud_sdk::google::firestore::v1::list_collection_ids_request::ConsistencySelector;
use gcloud_sdk::google::firestore::v1::{ListCollectionIdsRequest, ListCollectionIdsResponse};
use tokio::time::Instant;

use crate::firestore::Firestore;
use crate::proto::to_proto;
use crate::query;
use crate::status::Operation;

const LIST: Operation = Operation::reading("list collections");
const METHOD: &str = "/google.firestore.v1.Firestore/ListCollectionIds";
/// The most collections that a listing holds.
const MAX_COLLECTIONS: usize = 1000;
/// The most bytes that their ids have together: a listing is kept as one record.
const MAX_ID_BYTES: usize = 128 * 1024;
/// The most ids a page.
const PAGE: i32 = 300;
/// Up to so many documents of a collection are counted: one billed read a thousand.
const MAX_COUNTED: i64 = 1_000_000;
/// How many collections are counted at one time.
const AT_ONCE: usize = 8;

/// A collection at the root of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// Its id.
    pub id: String,
    /// How many documents lie directly in it; nothing where there was no time to count, or no right.
    pub documents: Option<u64>,
    /// Whether there may be more: so many are not counted any further.
    pub at_least: bool,
}

/// The collections at the root of a database, by id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Collections {
    /// The collections.
    pub collections: Vec<Collection>,
    /// Whether there are more than a listing holds.
    pub is_cut: bool,
}

impl Firestore {
    /// Lists the collections at the root as they were at `at`, and counts their documents for as long as `limit`: what is not
    /// counted by then is listed all the same. Collections below documents are not looked for: that takes a read a document.
    ///
    /// # Errors
    /// When the list cannot be had.
    pub async fn collections(&self, at: Timestamp, limit: Duration) -> Result<Collections, PortError> {
        let until = Instant::now() + limit;
        let (ids, is_cut) = self.collection_ids(at, until).await?;
        let counted = stream::iter(ids).map(|id| self.counted(id, at, until)).buffered(AT_ONCE);
        Ok(Collections { collections: counted.collect().await, is_cut })
    }

    /// The ids in order, and whether there are more.
    async fn collection_ids(&self, at: Timestamp, until: Instant) -> Result<(Vec<String>, bool), PortError> {
        let (mut ids, mut bytes, mut token): (Vec<String>, usize, String) = (Vec::new(), 0, String::new());
        loop {
            let page = self.page_of_ids(at, token).await?;
            for id in page.collection_ids {
                bytes += id.len();
                if ids.len() == MAX_COLLECTIONS || bytes > MAX_ID_BYTES {
                    ids.sort_unstable();
                    return Ok((ids, true));
                }
                ids.push(id);
            }
            token = page.next_page_token;
            if token.is_empty() || Instant::now() >= until {
                ids.sort_unstable();
                return Ok((ids, !token.is_empty()));
            }
        }
    }

    async fn page_of_ids(&self, at: Timestamp, page_token: String) -> Result<ListCollectionIdsResponse, PortError> {
        let request = ListCollectionIdsRequest {
            parent: self.database.documents_root(),
            page_size: PAGE,
            page_token,
            consistency_selector: Some(ConsistencySelector::ReadTime(to_proto(at))),
            ..ListCollectionIdsRequest::default()
        };
        self.rpc.unary(METHOD, request).await.map_err(|status| LIST.failed(status))
    }

    async fn counted(&self, id: String, at: Timestamp, until: Instant) -> Collection {
        let count = self.count_of(query::count_collection(&self.database, &id, at, MAX_COUNTED));
        let documents = match tokio::time::timeout_at(until, count).await {
            Ok(Ok(count)) => Some(count),
            Ok(Err(_)) | Err(_) => None,
        };
        let at_least = documents.is_some_and(|documents| documents >= MAX_COUNTED.unsigned_abs());
        Collection { id, documents, at_least }
    }
}
