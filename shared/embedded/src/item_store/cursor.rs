//! Where a page of a query ended, as text: it says which query that was, so that no other takes it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use firebackup_model::PortError;
use firebackup_model::port::{ItemKey, ItemQuery, SortRange};
use serde::{Deserialize, Serialize};

use super::{QUERY, invalid};

/// Where the last item of a page stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Its sort key in what is queried: the table or the index.
    pub(super) sort: String,
    /// Its key, for items that share a place in the index.
    pub(super) key: (String, String),
}

impl Place {
    pub(super) fn new(sort: String, key: &ItemKey) -> Self {
        Self { sort, key: (key.partition.clone(), key.sort.clone()) }
    }
}

#[derive(PartialEq, Serialize, Deserialize)]
struct Asked {
    by_index: bool,
    partition: String,
    range: Vec<String>,
    descending: bool,
}

impl Asked {
    fn new(query: &ItemQuery) -> Self {
        let range = match &query.range {
            SortRange::All => vec![],
            SortRange::Prefix(prefix) => vec![prefix.clone()],
            SortRange::Between(first, last) => vec![first.clone(), last.clone()],
        };
        Self { by_index: query.by_index, partition: query.partition.clone(), range, descending: query.descending }
    }
}

/// The cursor behind `place`.
pub(super) fn write(query: &ItemQuery, place: &Place) -> Result<String, serde_json::Error> {
    Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(&(Asked::new(query), place))?))
}

/// The place behind which `query` goes on; nothing at its beginning.
pub(super) fn read(query: &ItemQuery) -> Result<Option<Place>, PortError> {
    let Some(text) = &query.after else { return Ok(None) };
    let refused = || invalid(QUERY, "the cursor is not one of this query");
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| refused())?;
    let (asked, place): (Asked, Place) = serde_json::from_slice(&bytes).map_err(|_| refused())?;
    if asked == Asked::new(query) { Ok(Some(place)) } else { Err(refused()) }
}
