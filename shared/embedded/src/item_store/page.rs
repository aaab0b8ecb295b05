//! One page of a query.

use firebackup_model::port::{Item, ItemKey, ItemPage, ItemQuery, MAX_PAGE_ITEMS, SortRange};
use rusqlite::types::Value;
use rusqlite::{Row, Transaction, params_from_iter};

use super::cursor::{self, Place};
use super::{QUERY, invalid};
use crate::database::Outcome;

/// A page ends once its bodies have so many bytes, whatever its limit: DynamoDB's do too.
const MAX_PAGE_BYTES: usize = 1024 * 1024;

/// Reads the page that `query` asks for.
pub(super) fn read(transaction: &Transaction<'_>, query: &ItemQuery, now: i64) -> Outcome<ItemPage> {
    if query.limit == 0 {
        return Err(invalid(QUERY, "a page holds one item at least").into());
    }
    let limit = query.limit.min(MAX_PAGE_ITEMS) as usize;
    let (sql, values) = select(query, cursor::read(query)?, now);
    let mut statement = transaction.prepare(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let (mut items, mut bytes, mut last) = (Vec::new(), 0, None);
    while let Some(row) = rows.next()? {
        if items.len() == limit || bytes >= MAX_PAGE_BYTES {
            let next = last.map(|place| cursor::write(query, &place)).transpose()?;
            return Ok(ItemPage { items, next });
        }
        let (item, length, place) = read_row(row)?;
        items.push(item);
        bytes += length;
        last = Some(place);
    }
    Ok(ItemPage { items, next: None })
}

fn read_row(row: &Row<'_>) -> Outcome<(Item, usize, Place)> {
    let key = ItemKey::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?);
    let body: String = row.get(2)?;
    let place = Place::new(row.get(4)?, &key);
    let version = row.get::<_, i64>(3)?.cast_unsigned();
    let item = Item { key, body: serde_json::from_str(&body)?, version };
    Ok((item, body.len(), place))
}

/// The statement and its values: rows in the order asked for, behind `after`.
fn select(query: &ItemQuery, after: Option<Place>, now: i64) -> (String, Vec<Value>) {
    let (partition, sort) =
        if query.by_index { ("index_partition", "index_sort") } else { ("partition_key", "sort_key") };
    let (behind, order) = if query.descending { ("<", "DESC") } else { (">", "ASC") };
    let mut conditions = format!("{partition} = ? AND (expires IS NULL OR expires > ?)");
    let mut values: Vec<Value> = vec![query.partition.clone().into(), now.into()];
    for (comparison, border) in borders(&query.range) {
        conditions.push_str(&format!(" AND {sort} {comparison} ?"));
        values.push(border.into());
    }
    if let Some(place) = after {
        conditions.push_str(&format!(" AND ({sort}, partition_key, sort_key) {behind} (?, ?, ?)"));
        values.extend([place.sort, place.key.0, place.key.1].map(Value::from));
    }
    let sql = format!(
        "SELECT partition_key, sort_key, body, version, {sort} FROM items WHERE {conditions}
         ORDER BY {sort} {order}, partition_key {order}, sort_key {order}"
    );
    (sql, values)
}

fn borders(range: &SortRange) -> Vec<(&'static str, String)> {
    match range {
        SortRange::All => vec![],
        SortRange::Between(first, last) => vec![(">=", first.clone()), ("<=", last.clone())],
        SortRange::Prefix(prefix) => {
            let end = end_of_prefix(prefix).map(|end| ("<", end));
            [(">=", prefix.clone())].into_iter().chain(end).collect()
        }
    }
}

/// The first text behind all that begin with `prefix`; nothing when there is none.
fn end_of_prefix(prefix: &str) -> Option<String> {
    let mut letters: Vec<char> = prefix.chars().collect();
    while let Some(last) = letters.pop() {
        // the letter behind it: ranges of letters leave the surrogates out
        if let Some(next) = (last..=char::MAX).nth(1) {
            letters.push(next);
            return Some(letters.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_text_behind_it() {
        for (prefix, end) in [
            ("", None),
            ("a", Some("b")),
            ("a\u{7f}", Some("a\u{80}")),
            ("\u{d7ff}", Some("\u{e000}")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}\u{10ffff}", None),
        ] {
            assert_eq!(end_of_prefix(prefix).as_deref(), end, "{prefix:?}");
        }
    }
}
