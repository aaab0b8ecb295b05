//! How an item stands in the table: every attribute is named here, and nowhere else but in the template that makes the
//! table.
//!
//! | attribute | type | is |
//! |---|---|---|
//! | `pk`, `sk` | S | the key |
//! | `body` | M | what the item holds |
//! | `v` | N | its version; of counters, how often they were added to |
//! | `ttl` | N | the second from which on it is gone |
//! | `g1pk`, `g1sk` | S | its place in the index `index1` |
//! | `n:<name>` | N | a counter |
//!
//! DynamoDB's numbers have no type: a number without decimals comes back as an integer (3.0 as 3).

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use firebackup_model::port::{Item, ItemBody, ItemKey, NewItem};
use firebackup_model::{ErrorKind, PortError, Timestamp};
use serde_json::Value;

pub(crate) const PARTITION: &str = "pk";
pub(crate) const SORT: &str = "sk";
pub(crate) const BODY: &str = "body";
pub(crate) const VERSION: &str = "v";
pub(crate) const EXPIRES: &str = "ttl";
pub(crate) const INDEX: &str = "index1";
pub(crate) const INDEX_PARTITION: &str = "g1pk";
pub(crate) const INDEX_SORT: &str = "g1sk";
/// What the name of a counter begins with, so that none can be taken for another attribute.
const COUNTER: &str = "n:";

/// An item as DynamoDB has it.
pub(crate) type Attributes = HashMap<String, AttributeValue>;

/// A number.
pub(crate) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// The attribute of a counter.
pub(crate) fn counter_name(name: &str) -> String {
    format!("{COUNTER}{name}")
}

/// The key of an item.
pub(crate) fn key_attributes(key: &ItemKey) -> Attributes {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    HashMap::from([(PARTITION.to_owned(), text(&key.partition)), (SORT.to_owned(), text(&key.sort))])
}

/// The first whole second at which an item that ends at `expires` is gone.
pub(crate) fn expiry_second(expires: Timestamp) -> i64 {
    if expires.nanos == 0 { expires.seconds } else { expires.seconds.saturating_add(1) }
}

/// An item to be stored at `version`.
pub(crate) fn item_attributes(operation: &str, item: NewItem, version: u64) -> Result<Attributes, PortError> {
    let mut attributes = key_attributes(&item.key);
    let body = serde_dynamo::to_attribute_value(item.body).map_err(|error| {
        PortError::new(ErrorKind::InvalidArgument, operation, "the item cannot be stored").with_source(error)
    })?;
    attributes.insert(BODY.to_owned(), body);
    attributes.insert(VERSION.to_owned(), number(version));
    if let Some(expires) = item.expires {
        attributes.insert(EXPIRES.to_owned(), number(expiry_second(expires)));
    }
    if let Some(place) = item.index {
        attributes.insert(INDEX_PARTITION.to_owned(), AttributeValue::S(place.partition));
        attributes.insert(INDEX_SORT.to_owned(), AttributeValue::S(place.sort));
    }
    Ok(attributes)
}

/// An item that was read. One of counters shows them as its body.
pub(crate) fn item_of(operation: &str, mut attributes: Attributes) -> Result<Item, PortError> {
    let key = ItemKey {
        partition: text_of(operation, &attributes, PARTITION)?,
        sort: text_of(operation, &attributes, SORT)?,
    };
    let version = attributes.get(VERSION).and_then(|value| value.as_n().ok()).and_then(|text| text.parse().ok());
    let version = version.ok_or_else(|| corrupt(operation, VERSION))?;
    let body = match attributes.remove(BODY) {
        Some(body) => {
            serde_dynamo::from_attribute_value(body).map_err(|error| corrupt(operation, BODY).with_source(error))?
        }
        None => counters_of(operation, &attributes)?,
    };
    Ok(Item { key, body, version })
}

/// The counters among `attributes`.
pub(crate) fn counters_of(operation: &str, attributes: &Attributes) -> Result<ItemBody, PortError> {
    let named = attributes.iter().filter_map(|(name, value)| Some((name.strip_prefix(COUNTER)?, value)));
    named
        .map(|(name, value)| {
            let count: Option<i64> = value.as_n().ok().and_then(|text| text.parse().ok());
            Ok((name.to_owned(), Value::from(count.ok_or_else(|| corrupt(operation, name))?)))
        })
        .collect()
}

/// A text attribute.
pub(crate) fn text_of(operation: &str, attributes: &Attributes, name: &str) -> Result<String, PortError> {
    let text = attributes.get(name).and_then(|value| value.as_s().ok());
    text.cloned().ok_or_else(|| corrupt(operation, name))
}

/// Whether an item that was read is gone at `now`.
pub(crate) fn is_expired(attributes: &Attributes, now: Timestamp) -> bool {
    let second = attributes.get(EXPIRES).and_then(|value| value.as_n().ok()).and_then(|text| text.parse::<i64>().ok());
    second.is_some_and(|second| second <= now.seconds)
}

fn corrupt(operation: &str, attribute: &str) -> PortError {
    PortError::new(ErrorKind::Corrupt, operation, format!("the item's attribute `{attribute}` cannot be read"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body() -> ItemBody {
        let body = json!({
            "name": "Ünïcödé 😀", "empty": "", "nothing": null, "yes": true, "few": [1, "two", [], {}],
            "largest": i64::MAX, "smallest": i64::MIN, "unsigned": u64::MAX, "exact": 9_007_199_254_740_993_i64,
            "half": 0.5, "tenth": 0.1, "deep": {"deeper": {"deepest": [null]}},
        });
        body.as_object().unwrap().clone()
    }

    fn item() -> NewItem {
        NewItem {
            key: ItemKey::new("org#org_1", "job#bkp_1"),
            body: body(),
            index: Some(ItemKey::new("state#running", "2026-01-31T14:03:00Z")),
            expires: Some(Timestamp::new(1_800_000_000, 1)),
        }
    }

    /// The attributes as DynamoDB's own JSON.
    fn shown(attributes: &Attributes) -> Value {
        fn value_of(value: &AttributeValue) -> Value {
            match value {
                AttributeValue::S(text) => json!({"S": text}),
                AttributeValue::N(text) => json!({"N": text}),
                AttributeValue::Bool(value) => json!({"BOOL": value}),
                AttributeValue::Null(_) => json!({"NULL": true}),
                AttributeValue::L(values) => json!({"L": values.iter().map(value_of).collect::<Vec<_>>()}),
                AttributeValue::M(values) => json!({"M": shown(values)}),
                other => panic!("no item has {other:?}"),
            }
        }
        Value::Object(attributes.iter().map(|(name, value)| (name.clone(), value_of(value))).collect())
    }

    #[test]
    fn an_item_looks_like_this() {
        let golden = json!({
            "pk": {"S": "org#org_1"},
            "sk": {"S": "job#bkp_1"},
            "v": {"N": "7"},
            "ttl": {"N": "1800000001"},
            "g1pk": {"S": "state#running"},
            "g1sk": {"S": "2026-01-31T14:03:00Z"},
            "body": {"M": {
                "name": {"S": "Ünïcödé 😀"},
                "empty": {"S": ""},
                "nothing": {"NULL": true},
                "yes": {"BOOL": true},
                "few": {"L": [{"N": "1"}, {"S": "two"}, {"L": []}, {"M": {}}]},
                "largest": {"N": "9223372036854775807"},
                "smallest": {"N": "-9223372036854775808"},
                "unsigned": {"N": "18446744073709551615"},
                "exact": {"N": "9007199254740993"},
                "half": {"N": "0.5"},
                "tenth": {"N": "0.1"},
                "deep": {"M": {"deeper": {"M": {"deepest": {"L": [{"NULL": true}]}}}}},
            }},
        });
        assert_eq!(shown(&item_attributes("test", item(), 7).unwrap()), golden);
    }

    #[test]
    fn an_item_without_index_and_end_has_no_attribute_of_them() {
        let attributes = item_attributes("test", NewItem::new(ItemKey::new("p", "s"), ItemBody::new()), 1).unwrap();
        assert_eq!(shown(&attributes), json!({"pk": {"S": "p"}, "sk": {"S": "s"}, "v": {"N": "1"}, "body": {"M": {}}}));
    }

    #[test]
    fn what_was_stored_is_read() {
        let read = item_of("test", item_attributes("test", item(), 7).unwrap()).unwrap();
        assert_eq!(read, Item { key: item().key, body: body(), version: 7 });
    }

    #[test]
    fn counters_are_the_body_and_no_counter_hides_an_attribute() {
        let mut attributes = key_attributes(&ItemKey::new("p", "s"));
        attributes.insert(VERSION.to_owned(), number(2));
        for (name, count) in [("jobs", 3), ("pk", -4), ("n:x", 0)] {
            attributes.insert(counter_name(name), number(count));
        }
        let read = item_of("test", attributes).unwrap();
        assert_eq!(Value::Object(read.body), json!({"jobs": 3, "pk": -4, "n:x": 0}));
        assert_eq!((read.key, read.version), (ItemKey::new("p", "s"), 2));
    }

    #[test]
    fn an_item_is_gone_from_its_second_on() {
        let attributes = item_attributes("test", item(), 1).unwrap();
        assert!(!is_expired(&attributes, Timestamp::new(1_800_000_000, 999_999_999)));
        assert!(is_expired(&attributes, Timestamp::new(1_800_000_001, 0)));
        assert_eq!(expiry_second(Timestamp::new(5, 0)), 5);
    }

    #[test]
    fn what_is_no_item_of_ours_is_told() {
        for missing in [PARTITION, SORT, VERSION] {
            let mut attributes = item_attributes("test", item(), 1).unwrap();
            attributes.remove(missing);
            let error = item_of("test", attributes).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Corrupt);
            assert!(error.to_string().contains(missing), "{error}");
        }
    }
}
