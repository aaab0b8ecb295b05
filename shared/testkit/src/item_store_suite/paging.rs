//! Pages tile what a query finds, whatever their size.

use firebackup_model::ErrorKind;
use firebackup_model::port::{Item, ItemQuery, ItemStore, ItemWrite, SortRange};
use serde_json::json;

use super::{INDEX_LAG, create, in_index, item, key, refused, small, write};
use crate::eventually::eventually;

const COUNT: usize = 23;
/// More pages than any walk here has.
const MAX_PAGES: usize = 200;

pub(super) async fn check(store: &dyn ItemStore) {
    every_size_both_ways(store).await;
    large_items_come_in_several_pages(store).await;
    a_page_may_begin_behind_what_was_deleted(store).await;
    cursors_of_other_queries_are_refused(store).await;
    cursors_that_are_none_are_refused(store).await;
}

/// Three items share each place in the index.
fn sorts() -> Vec<String> {
    (0..COUNT).map(|index| format!("{}{index:02}", if index % 2 == 0 { "even-" } else { "odd-" })).collect()
}

async fn fill(store: &dyn ItemStore) {
    let creates = sorts().into_iter().enumerate().map(|(index, sort)| {
        let place = format!("{}{}", sort.split('-').next().unwrap_or_default(), index / 3);
        let value = json!({"place": place});
        ItemWrite::Create(in_index(item("pages", &sort, value), "pages-index", &place))
    });
    write(store, creates.collect()).await;
    write(store, vec![create("page", "even-00"), create("pages2", "even-00"), create("pages#", "odd-00")]).await;
}

/// Reads all pages.
async fn walk(store: &dyn ItemStore, query: &ItemQuery) -> Vec<Item> {
    let (mut query, mut all) = (query.clone(), Vec::new());
    for _ in 0..MAX_PAGES {
        let page = store.query(&query).await.unwrap_or_else(|error| panic!("{query:?}: {error:?}"));
        assert!(page.items.len() <= query.limit as usize, "{query:?}: a page has {} items", page.items.len());
        all.extend(page.items);
        match page.next {
            None => return all,
            Some(next) => query.after = Some(next),
        }
    }
    panic!("{query:?}: there is no end of pages");
}

async fn every_size_both_ways(store: &dyn ItemStore) {
    fill(store).await;
    let ranges = [
        SortRange::All,
        SortRange::Prefix("odd".to_owned()),
        SortRange::Between("even-04".to_owned(), "odd-11".to_owned()),
        SortRange::Between("even4".to_owned(), "odd2".to_owned()),
    ];
    for by_index in [false, true] {
        let partition = if by_index { "pages-index" } else { "pages" };
        index_is_complete(store, by_index).await;
        for range in &ranges {
            for descending in [false, true] {
                let whole =
                    ItemQuery { by_index, descending, range: range.clone(), ..ItemQuery::prefix(partition, "") };
                tiles(store, &whole).await;
            }
        }
    }
}

async fn index_is_complete(store: &dyn ItemStore, by_index: bool) {
    let query = ItemQuery { by_index, ..ItemQuery::prefix(if by_index { "pages-index" } else { "pages" }, "") };
    eventually("the index is complete", INDEX_LAG, async || (walk(store, &query).await.len() == COUNT).then_some(()))
        .await;
}

/// The place of an item in what `query` asks for.
fn place<'a>(query: &ItemQuery, item: &'a Item) -> &'a str {
    if query.by_index { item.body["place"].as_str().unwrap_or_default() } else { &item.key.sort }
}

fn is_in(range: &SortRange, place: &str) -> bool {
    match range {
        SortRange::All => true,
        SortRange::Prefix(prefix) => place.starts_with(prefix.as_str()),
        SortRange::Between(first, last) => (first.as_str()..=last.as_str()).contains(&place),
    }
}

async fn tiles(store: &dyn ItemStore, whole: &ItemQuery) {
    let all = walk(store, &ItemQuery { by_index: whole.by_index, ..ItemQuery::prefix(&whole.partition, "") }).await;
    let mut expected: Vec<&str> =
        all.iter().filter(|item| is_in(&whole.range, place(whole, item))).map(|item| item.key.sort.as_str()).collect();
    expected.sort_unstable();
    for limit in 1..=(COUNT as u32 + 1) {
        let query = ItemQuery { limit, ..whole.clone() };
        let found = walk(store, &query).await;
        let places: Vec<&str> = found.iter().map(|item| place(&query, item)).collect();
        let is_sorted = if query.descending { places.iter().rev().is_sorted() } else { places.iter().is_sorted() };
        assert!(is_sorted, "{query:?}: {places:?}");
        let mut sorts: Vec<&str> = found.iter().map(|item| item.key.sort.as_str()).collect();
        sorts.sort_unstable();
        assert_eq!(sorts, expected, "{query:?}: each item once");
    }
}

async fn large_items_come_in_several_pages(store: &dyn ItemStore) {
    for index in 0..10 {
        let value = json!({"text": "x".repeat(300_000), "index": index});
        write(store, vec![ItemWrite::Create(item("large-pages", &index.to_string(), value))]).await;
    }
    for descending in [false, true] {
        let found = walk(store, &ItemQuery { descending, ..ItemQuery::prefix("large-pages", "") }).await;
        let mut indices: Vec<u64> = found.iter().filter_map(|item| item.body["index"].as_u64()).collect();
        if descending {
            indices.reverse();
        }
        assert!(indices.into_iter().eq(0..10), "3 MB are read to the end");
    }
}

async fn a_page_may_begin_behind_what_was_deleted(store: &dyn ItemStore) {
    let partition = "shrinking";
    write(store, ["a", "b", "c", "d", "e"].map(|sort| create(partition, sort)).into()).await;
    let mut query = ItemQuery { limit: 2, ..ItemQuery::prefix(partition, "") };
    let first = store.query(&query).await.expect("the first page");
    assert_eq!(first.items.iter().map(|item| item.key.sort.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let mut changes = vec![ItemWrite::Delete(key(partition, "b"), 1), ItemWrite::Delete(key(partition, "c"), 1)];
    changes.extend([create(partition, "aa"), create(partition, "bb")]);
    write(store, changes).await;
    query.after = first.next;
    let rest = walk(store, &query).await;
    assert_eq!(rest.iter().map(|item| item.key.sort.as_str()).collect::<Vec<_>>(), ["bb", "d", "e"]);
}

async fn cursor(store: &dyn ItemStore, query: &ItemQuery) -> String {
    let page = store.query(query).await.unwrap_or_else(|error| panic!("{query:?}: {error:?}"));
    page.next.unwrap_or_else(|| panic!("{query:?}: there is more than a page"))
}

async fn cursors_of_other_queries_are_refused(store: &dyn ItemStore) {
    let query = |partition: &str| ItemQuery { limit: 2, ..ItemQuery::prefix(partition, "even") };
    let indexed = |sort| ItemWrite::Create(in_index(small("pages2", sort), "pages", sort));
    write(store, ["even-02", "even-04", "even-06"].map(indexed).into()).await;
    let asked = query("pages");
    let by_index = ItemQuery { by_index: true, ..query("pages") };
    eventually("the index holds a page and more", INDEX_LAG, async || {
        store.query(&by_index).await.expect("query").next.map(drop)
    })
    .await;
    for other in [
        query("pages2"),
        by_index,
        ItemQuery { descending: true, ..query("pages") },
        ItemQuery { range: SortRange::Prefix("odd".to_owned()), ..query("pages") },
        ItemQuery { range: SortRange::Between("even-00".to_owned(), "even-99".to_owned()), ..query("pages") },
        ItemQuery { range: SortRange::All, ..query("pages") },
    ] {
        let taken = Some(cursor(store, &other).await);
        let what = format!("a cursor of {other:?}");
        let asked = ItemQuery { after: taken, ..asked.clone() };
        refused(store.query(&asked).await, ErrorKind::InvalidArgument, &what);
    }
    let own = Some(cursor(store, &asked).await);
    assert!(store.query(&ItemQuery { after: own, ..asked }).await.is_ok(), "its own cursor is taken");
}

async fn cursors_that_are_none_are_refused(store: &dyn ItemStore) {
    let query = ItemQuery { limit: 2, ..ItemQuery::prefix("pages", "even") };
    let own = cursor(store, &query).await;
    let cut: String = own.chars().take(own.chars().count() - 3).collect();
    let longer = format!("{own}AAAA");
    for text in ["", " ", "even-02", "e30", "bnVsbA", "{}", "ü", cut.as_str(), longer.as_str()] {
        let asked = ItemQuery { after: Some(text.to_owned()), ..query.clone() };
        refused(store.query(&asked).await, ErrorKind::InvalidArgument, &format!("the cursor `{text}`"));
    }
}
