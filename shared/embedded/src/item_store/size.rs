//! How large items may be, counted as DynamoDB counts.

use firebackup_model::PortError;
use firebackup_model::port::{ItemKey, NewItem};
use serde_json::{Map, Value};

use super::invalid;

const MAX_ITEM_BYTES: usize = 400 * 1024;
const MAX_TRANSACTION_BYTES: usize = 4 * 1024 * 1024;
const MAX_PARTITION_BYTES: usize = 2048;
const MAX_SORT_BYTES: usize = 1024;
const MAX_DEPTH: usize = 32;
/// What every list and object costs, and every element of one.
const COLLECTION_BYTES: usize = 3;
const ELEMENT_BYTES: usize = 1;

/// Whether a key can name an item, or its place in the index.
pub(super) fn check_key(key: &ItemKey, operation: &str) -> Result<(), PortError> {
    if key.partition.is_empty() || key.sort.is_empty() {
        return Err(invalid(operation, "a part of a key is empty"));
    }
    if key.partition.len() > MAX_PARTITION_BYTES || key.sort.len() > MAX_SORT_BYTES {
        return Err(invalid(operation, "a part of a key is too long"));
    }
    Ok(())
}

/// Whether these items can be stored, each and together.
pub(super) fn check_items<'a>(items: impl Iterator<Item = &'a NewItem>, operation: &str) -> Result<(), PortError> {
    let mut total = 0;
    for item in items {
        if let Some(index) = &item.index {
            check_key(index, operation)?;
        }
        let size = size(item).ok_or_else(|| invalid(operation, format!("an item is more than {MAX_DEPTH} deep")))?;
        if size > MAX_ITEM_BYTES {
            return Err(invalid(operation, format!("an item has {size} bytes, more than {MAX_ITEM_BYTES}")));
        }
        total += size;
    }
    if total > MAX_TRANSACTION_BYTES {
        return Err(invalid(operation, format!("the items have {total} bytes, more than {MAX_TRANSACTION_BYTES}")));
    }
    Ok(())
}

/// Nothing when it is too deep to be counted.
fn size(item: &NewItem) -> Option<usize> {
    let keys = [Some(&item.key), item.index.as_ref()].into_iter().flatten();
    let keys: usize = keys.map(|key| key.partition.len() + key.sort.len()).sum();
    Some(keys + object_size(&item.body, MAX_DEPTH)?)
}

fn object_size(object: &Map<String, Value>, depth: usize) -> Option<usize> {
    object.iter().map(|(name, value)| Some(ELEMENT_BYTES + name.len() + value_size(value, depth)?)).sum()
}

fn value_size(value: &Value, depth: usize) -> Option<usize> {
    let inner = depth.checked_sub(1)?;
    Some(match value {
        Value::Null | Value::Bool(_) => 1,
        // two digits a byte, a sign and an exponent
        Value::Number(number) => number.to_string().len() / 2 + 2,
        Value::String(text) => text.len(),
        Value::Array(list) => {
            let elements = list.iter().map(|value| Some(ELEMENT_BYTES + value_size(value, inner)?));
            COLLECTION_BYTES + elements.sum::<Option<usize>>()?
        }
        Value::Object(object) => COLLECTION_BYTES + object_size(object, inner)?,
    })
}

#[cfg(test)]
mod tests {
    use firebackup_model::ErrorKind;
    use serde_json::json;

    use super::*;

    fn item(body: Value) -> NewItem {
        NewItem::new(ItemKey::new("p", "s"), body.as_object().unwrap().clone())
    }

    #[track_caller]
    fn check(items: &[NewItem], says: Option<&str>) {
        let error = check_items(items.iter(), "write items").err();
        assert_eq!(error.as_ref().map(|error| error.kind), says.map(|_| ErrorKind::InvalidArgument));
        let text = error.map_or_else(String::new, |error| error.to_string());
        assert!(text.contains(says.unwrap_or_default()), "{text}");
    }

    #[test]
    fn an_item_may_be_just_as_large_as_this() {
        // key, name and element take 4 bytes
        let largest = item(json!({"a": "x".repeat(MAX_ITEM_BYTES - 4)}));
        check(std::slice::from_ref(&largest), None);
        check(&[item(json!({"a": "x".repeat(MAX_ITEM_BYTES - 3)}))], Some("an item has 409601 bytes"));
        check(&vec![largest.clone(); 10], None);
        check(&vec![largest; 11], Some("the items have"));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        check(&[item(json!({"a": nested(MAX_DEPTH - 1)}))], None);
        for depth in [MAX_DEPTH, MAX_DEPTH + 1, 100] {
            check(&[item(json!({"a": nested(depth)}))], Some("more than 32 deep"));
        }
    }

    #[test]
    fn keys_are_bounded() {
        let key = |partition, sort| ItemKey::new("p".repeat(partition), "s".repeat(sort));
        assert!(check_key(&key(MAX_PARTITION_BYTES, MAX_SORT_BYTES), "").is_ok());
        for refused in [key(MAX_PARTITION_BYTES + 1, 1), key(1, MAX_SORT_BYTES + 1), key(0, 1), key(1, 0)] {
            assert!(check_key(&refused, "").is_err());
        }
    }
}
