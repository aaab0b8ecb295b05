//! Which items a query finds: the order is that of UTF-8 bytes, and borders belong to what they bound.

use firebackup_model::ErrorKind;
use firebackup_model::port::{ItemQuery, ItemStore, ItemWrite, SortRange};

use super::{INDEX_LAG, create, in_index, refused, small, write};
use crate::eventually::eventually;

const SORTS: [&str; 22] = [
    "A",
    "a",
    "a#",
    "a\u{7f}",
    "a\u{7f}b",
    "ab",
    "b",
    "b\u{80}",
    "b\u{ff}",
    "b\u{7ff}",
    "b\u{800}",
    "b\u{d7ff}",
    "b\u{e000}",
    "b\u{fffd}",
    "b\u{10000}",
    "b\u{10ffff}",
    "b\u{10ffff}x",
    "c",
    "z",
    "é",
    "日本",
    "😀",
];
const PREFIXES: [&str; 14] = [
    "",
    "a",
    "a\u{7f}",
    "ab",
    "abc",
    "b",
    "b\u{7ff}",
    "b\u{d7ff}",
    "b\u{10ffff}",
    "b\u{10ffff}x",
    "é",
    "日",
    "😀",
    "\u{10ffff}",
];
const BORDERS: [(&str, &str); 10] = [
    ("a", "b"),
    ("a", "a"),
    ("a\u{7f}", "b\u{10ffff}"),
    ("b\u{d7ff}", "b\u{e000}"),
    ("b\u{10000}", "b\u{10ffff}"),
    ("A", "😀"),
    ("c", "é"),
    ("d", "y"),
    ("0", "9"),
    ("aa", "b\u{7fe}"),
];

pub(super) async fn check(store: &dyn ItemStore) {
    let creates = SORTS.map(|sort| ItemWrite::Create(in_index(small("ranges", sort), "ranges-index", sort)));
    write(store, creates.into()).await;
    for neighbour in ["range", "ranges#", "ranges-index", "s"] {
        write(store, vec![create(neighbour, "a"), create(neighbour, "b")]).await;
    }
    for prefix in PREFIXES {
        finds(store, SortRange::Prefix(prefix.to_owned()), |sort| sort.starts_with(prefix)).await;
    }
    for (first, last) in BORDERS {
        let range = SortRange::Between(first.to_owned(), last.to_owned());
        finds(store, range, |sort| (first..=last).contains(&sort)).await;
    }
    finds(store, SortRange::All, |_| true).await;
    unknown_partitions_are_empty(store).await;
    no_item_is_too_few(store).await;
}

async fn finds(store: &dyn ItemStore, range: SortRange, is_in: impl Fn(&str) -> bool) {
    let mut expected: Vec<&str> = SORTS.into_iter().filter(|sort| is_in(sort)).collect();
    expected.sort_unstable();
    for (by_index, descending) in [(false, false), (false, true), (true, false), (true, true)] {
        let partition = if by_index { "ranges-index" } else { "ranges" };
        let query = ItemQuery { by_index, descending, range: range.clone(), ..ItemQuery::prefix(partition, "") };
        let what = format!("{query:?} finds {expected:?}");
        let bound = if by_index { INDEX_LAG } else { std::time::Duration::ZERO };
        eventually(&what, bound, async || {
            let page = store.query(&query).await.unwrap_or_else(|error| panic!("{query:?}: {error:?}"));
            assert_eq!(page.next, None, "{query:?}: so few items are one page");
            assert!(page.items.iter().all(|item| item.key.partition == "ranges" && item.version == 1));
            let found: Vec<&str> = page.items.iter().map(|item| item.key.sort.as_str()).collect();
            assert!(page.items.iter().all(|item| item.body["sort"] == item.key.sort), "each with its own body");
            let is_right = if descending { found.iter().rev().eq(&expected) } else { found == expected };
            is_right.then_some(())
        })
        .await;
    }
}

async fn unknown_partitions_are_empty(store: &dyn ItemStore) {
    for by_index in [false, true] {
        let query = ItemQuery { by_index, ..ItemQuery::prefix("nobody's", "") };
        let page = store.query(&query).await.expect("an unknown partition is no error");
        assert_eq!((page.items.len(), page.next), (0, None));
    }
}

async fn no_item_is_too_few(store: &dyn ItemStore) {
    let query = ItemQuery { limit: 0, ..ItemQuery::prefix("ranges", "") };
    refused(store.query(&query).await, ErrorKind::InvalidArgument, "a page of no items");
}
