//! What has expired is not there, whether it was removed yet or not.

use firebackup_model::port::{Clock, ItemKey, ItemQuery, ItemStore, ItemWrite, NewItem};
use firebackup_model::{ErrorKind, Timestamp};
use serde_json::json;

use super::{INDEX_LAG, body, create, in_index, key, read, refused, small, write};
use crate::eventually::eventually;
use crate::hand_clock::HandClock;

const LIFE: i64 = 100;

pub(super) async fn check(store: &dyn ItemStore, clock: &HandClock) {
    gone_from_its_moment_on(store, clock).await;
    conditions_take_it_for_absent(store, clock).await;
    pages_leave_it_out(store, clock).await;
    a_replacement_decides_anew(store, clock).await;
    counters_begin_anew(store, clock).await;
}

fn expiring(sort: &str, expires: Timestamp) -> NewItem {
    NewItem { expires: Some(expires), ..in_index(small("expiry", sort), "expiry-index", sort) }
}

fn end_of_life(clock: &HandClock) -> Timestamp {
    clock.now().plus_seconds(LIFE)
}

async fn is_there(store: &dyn ItemStore, key: &ItemKey) -> bool {
    read(store, key).await.is_some()
}

async fn gone_from_its_moment_on(store: &dyn ItemStore, clock: &HandClock) {
    let key = key("expiry", "once");
    write(store, vec![ItemWrite::Create(expiring("once", end_of_life(clock)))]).await;
    assert!(is_there(store, &key).await);
    clock.advance(LIFE - 1);
    assert!(is_there(store, &key).await, "a second before it is still there");
    write(store, vec![ItemWrite::Check(key.clone(), 1)]).await;
    clock.advance(1);
    assert!(!is_there(store, &key).await, "at its moment it is gone");
    clock.advance(LIFE * 1000);
    assert!(!is_there(store, &key).await, "and stays gone");
}

async fn conditions_take_it_for_absent(store: &dyn ItemStore, clock: &HandClock) {
    let key = key("expiry", "condition");
    write(store, vec![ItemWrite::Create(expiring("condition", end_of_life(clock)))]).await;
    clock.advance(LIFE);
    for (what, failing) in [
        ("replace", ItemWrite::Replace(small("expiry", "condition"), 1)),
        ("delete", ItemWrite::Delete(key.clone(), 1)),
        ("check", ItemWrite::Check(key.clone(), 1)),
    ] {
        let what = format!("{what} of what has expired");
        refused(store.write(vec![failing]).await, ErrorKind::FailedPrecondition, &what);
    }
    write(store, vec![ItemWrite::CheckAbsent(key.clone()), create("expiry", "beside")]).await;
    write(store, vec![ItemWrite::Create(small("expiry", "condition"))]).await;
    let found = read(store, &key).await.expect("what was created in its place");
    assert_eq!((found.version, found.body), (1, body(json!({"sort": "condition"}))));
    clock.advance(LIFE * 1000);
    assert!(is_there(store, &key).await, "the new one does not inherit the old one's end");
}

async fn pages_leave_it_out(store: &dyn ItemStore, clock: &HandClock) {
    let partition = "expiry-pages";
    let creates = (0..12).map(|index| {
        let sort = format!("{index:02}");
        let mut item = in_index(small(partition, &sort), "expiry-pages-index", &sort);
        item.expires = (index % 4 != 3).then(|| end_of_life(clock));
        ItemWrite::Create(item)
    });
    write(store, creates.collect()).await;
    for (before, by_index) in [(true, false), (true, true), (false, false), (false, true)] {
        if !before && !by_index {
            clock.advance(LIFE);
        }
        let expected = if before { 12 } else { 3 };
        let partition = if by_index { "expiry-pages-index" } else { partition };
        for limit in [1, 2, 3, 5, 12] {
            let query = ItemQuery { by_index, limit, ..ItemQuery::prefix(partition, "") };
            eventually("pages hold what has not expired", INDEX_LAG, async || {
                (count(store, query.clone()).await == expected).then_some(())
            })
            .await;
        }
    }
}

async fn count(store: &dyn ItemStore, mut query: ItemQuery) -> usize {
    let mut found = 0;
    loop {
        let page = store.query(&query).await.unwrap_or_else(|error| panic!("{query:?}: {error:?}"));
        assert!(page.items.len() <= query.limit as usize);
        found += page.items.len();
        match page.next {
            None => return found,
            Some(next) => query.after = Some(next),
        }
    }
}

async fn a_replacement_decides_anew(store: &dyn ItemStore, clock: &HandClock) {
    let (longer, kept) = (key("expiry", "longer"), key("expiry", "kept"));
    let end = end_of_life(clock);
    let creates = ["longer", "kept"].map(|sort| ItemWrite::Create(expiring(sort, end)));
    write(store, creates.into()).await;
    write(
        store,
        vec![
            ItemWrite::Replace(expiring("longer", end.plus_seconds(LIFE)), 1),
            ItemWrite::Replace(small("expiry", "kept"), 1),
        ],
    )
    .await;
    clock.advance(LIFE);
    assert!(is_there(store, &longer).await && is_there(store, &kept).await);
    clock.advance(LIFE);
    assert!(!is_there(store, &longer).await, "it lives as long as its replacement says");
    assert!(is_there(store, &kept).await, "a replacement without an end stays");
}

async fn counters_begin_anew(store: &dyn ItemStore, clock: &HandClock) {
    let key = key("expiry", "counters");
    for round in 0..2 {
        let end = Some(end_of_life(clock));
        store.add(&key, &[("a", 2), ("b", 1)], end).await.expect("add");
        clock.advance(LIFE - 1);
        let all = store.add(&key, &[("a", 3)], end).await.expect("add shortly before the end");
        assert_eq!(all, body(json!({"a": 5, "b": 1})), "round {round}");
        clock.advance(1);
        assert!(!is_there(store, &key).await, "counters expire too");
    }
    let all = store.add(&key, &[("c", 1)], Some(end_of_life(clock))).await.expect("add after the end");
    assert_eq!(all, body(json!({"c": 1})), "nothing of what has expired is counted on");
}
