//! Where a query goes on: the place of the last item, in a text that only the same query takes.

use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use firebackup_model::port::{ItemKey, ItemQuery, SortRange};
use firebackup_model::{ErrorKind, PortError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::item_attributes::{Attributes, INDEX_PARTITION, INDEX_SORT, PARTITION, SORT, key_attributes, text_of};

/// What a cursor says. The partition asked for is not in it: it comes from the query.
#[derive(Debug, Serialize, Deserialize)]
struct Cursor {
    /// Of which query it is.
    #[serde(rename = "q")]
    query: String,
    /// The last item's sort key in what was queried.
    #[serde(rename = "s")]
    sort: String,
    /// Of a query of the index: the last item's own key.
    #[serde(rename = "k", skip_serializing_if = "Option::is_none")]
    key: Option<(String, String)>,
}

/// The cursor behind the item `last`.
pub(crate) fn encode(operation: &str, query: &ItemQuery, last: &Attributes) -> Result<String, PortError> {
    let text = |name| text_of(operation, last, name);
    let cursor = if query.by_index {
        Cursor { query: fingerprint(query), sort: text(INDEX_SORT)?, key: Some((text(PARTITION)?, text(SORT)?)) }
    } else {
        Cursor { query: fingerprint(query), sort: text(SORT)?, key: None }
    };
    let json = serde_json::to_vec(&cursor)
        .map_err(|error| PortError::new(ErrorKind::Internal, operation, "").with_source(error))?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

/// The place that `cursor` speaks of, as DynamoDB wants it.
pub(crate) fn decode(operation: &str, query: &ItemQuery, cursor: &str) -> Result<Attributes, PortError> {
    let foreign = || PortError::new(ErrorKind::InvalidArgument, operation, "the cursor is not one of this query");
    let json = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| foreign())?;
    let cursor: Cursor = serde_json::from_slice(&json).map_err(|_| foreign())?;
    if cursor.query != fingerprint(query) || cursor.sort.is_empty() {
        return Err(foreign());
    }
    match (query.by_index, cursor.key) {
        (false, None) => Ok(key_attributes(&ItemKey::new(&query.partition, cursor.sort))),
        (true, Some((partition, sort))) if !partition.is_empty() && !sort.is_empty() => {
            let mut place = key_attributes(&ItemKey::new(partition, sort));
            place.insert(INDEX_PARTITION.to_owned(), AttributeValue::S(query.partition.clone()));
            place.insert(INDEX_SORT.to_owned(), AttributeValue::S(cursor.sort));
            Ok(place)
        }
        _ => Err(foreign()),
    }
}

/// Tells queries apart; the limit may differ from page to page.
fn fingerprint(query: &ItemQuery) -> String {
    let (name, from, to) = match &query.range {
        SortRange::All => ("all", "", ""),
        SortRange::Prefix(prefix) => ("prefix", prefix.as_str(), ""),
        SortRange::Between(from, to) => ("between", from.as_str(), to.as_str()),
    };
    let mut hash = Sha256::new();
    for part in [query.partition.as_str(), name, from, to] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.update([u8::from(query.by_index), u8::from(query.descending)]);
    URL_SAFE_NO_PAD.encode(&hash.finalize()[..9])
}

#[cfg(test)]
mod tests {
    use firebackup_model::port::NewItem;

    use super::*;
    use crate::item_attributes::item_attributes;

    fn query() -> ItemQuery {
        ItemQuery::prefix("org#1", "job#")
    }

    fn last() -> Attributes {
        let mut item = NewItem::new(ItemKey::new("org#1", "job#7"), Default::default());
        item.index = Some(ItemKey::new("org#1", "2026"));
        item_attributes("test", item, 1).unwrap()
    }

    #[test]
    fn a_cursor_leads_back_to_its_place() {
        let cursor = encode("test", &query(), &last()).unwrap();
        assert_eq!(decode("test", &query(), &cursor).unwrap(), key_attributes(&ItemKey::new("org#1", "job#7")));
        let by_index = ItemQuery { by_index: true, range: SortRange::All, ..query() };
        let place = decode("test", &by_index, &encode("test", &by_index, &last()).unwrap()).unwrap();
        let texts = [PARTITION, SORT, INDEX_PARTITION, INDEX_SORT].map(|name| text_of("test", &place, name).unwrap());
        assert_eq!((texts, place.len()), (["org#1", "job#7", "org#1", "2026"].map(ToOwned::to_owned), 4));
    }

    #[test]
    fn a_cursor_may_be_used_with_another_limit() {
        let cursor = encode("test", &query(), &last()).unwrap();
        assert!(decode("test", &ItemQuery { limit: 3, ..query() }, &cursor).is_ok());
    }

    #[test]
    fn a_cursor_of_another_query_is_refused() {
        let cursor = encode("test", &query(), &last()).unwrap();
        for other in [
            ItemQuery { partition: "org#2".to_owned(), ..query() },
            ItemQuery { range: SortRange::All, ..query() },
            ItemQuery { range: SortRange::Prefix("job".to_owned()), ..query() },
            ItemQuery { range: SortRange::Between("job#".to_owned(), String::new()), ..query() },
            ItemQuery { descending: true, ..query() },
            ItemQuery { by_index: true, ..query() },
        ] {
            let error = decode("test", &other, &cursor).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidArgument, "{other:?}");
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let encoded = |json: &str| URL_SAFE_NO_PAD.encode(json.replace("Q", &fingerprint(&query())));
        let long = "x".repeat(10_000);
        for text in ["", "!", "e30", &encoded("[]"), &encoded(r#"{"q":"Q"}"#), &encoded(r#"{"q":"Q","s":""}"#), &long] {
            let error = decode("test", &query(), text).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidArgument, "{text}");
        }
        let with_key = encoded(r#"{"q":"Q","s":"job#7","k":["a","b"]}"#);
        assert!(decode("test", &query(), &with_key).is_err(), "a place of the index is none of the table");
    }
}
