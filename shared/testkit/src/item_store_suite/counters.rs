//! Counters lose no addition.

use std::collections::BTreeSet;
use std::sync::Arc;

use firebackup_model::port::ItemStore;
use serde_json::json;
use tokio::task::JoinSet;

use super::{body, key, read};

const TASKS: i64 = 50;

pub(super) async fn check(store: &Arc<dyn ItemStore>) {
    begin_at_nothing(store.as_ref()).await;
    names_are_free(store.as_ref()).await;
    numbers_are_exact(store.as_ref()).await;
    additions_by_many(store).await;
}

async fn begin_at_nothing(store: &dyn ItemStore) {
    let key = key("counters", "one");
    assert_eq!(read(store, &key).await, None);
    let all = store.add(&key, &[("reads", 5), ("writes", -2)], None).await.expect("add to nothing");
    assert_eq!(all, body(json!({"reads": 5, "writes": -2})));
    let all = store.add(&key, &[("reads", 7), ("bytes", 0)], None).await.expect("add to some of them");
    let expected = body(json!({"reads": 12, "writes": -2, "bytes": 0}));
    assert_eq!(all, expected, "an addition returns all counters");
    assert_eq!(read(store, &key).await.map(|item| item.body), Some(expected), "counters are read as a body");
}

async fn names_are_free(store: &dyn ItemStore) {
    let names =
        ["count", "status", "2026-01-31", "a.b", "größe", "version", "expires", "body", "partition", "pk", "ttl"];
    let amounts: Vec<(&str, i64)> = names.iter().zip(1..).map(|(name, amount)| (*name, amount)).collect();
    for round in 1..3 {
        let all = store.add(&key("counters", "names"), &amounts, None).await.expect("add under any name");
        for (name, amount) in &amounts {
            assert_eq!(all[*name], json!(amount * round), "{name}");
        }
        assert_eq!(all.len(), names.len());
    }
}

async fn numbers_are_exact(store: &dyn ItemStore) {
    let key = key("counters", "exact");
    let odd = 9_007_199_254_740_993;
    store.add(&key, &[("n", odd)], None).await.expect("add a number that is no float");
    let all = store.add(&key, &[("n", 2)], None).await.expect("add to it");
    assert_eq!(all["n"], json!(odd + 2));
    let all = store.add(&key, &[("n", i64::MAX - odd - 2)], None).await.expect("add up to the largest");
    assert_eq!(all["n"], json!(i64::MAX));
}

async fn additions_by_many(store: &Arc<dyn ItemStore>) {
    let key = key("counters", "many");
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let (store, key) = (Arc::clone(store), key.clone());
        tasks.spawn(async move { store.add(&key, &[("a", 1), ("b", -3)], None).await.expect("add beside others") });
    }
    let results = tasks.join_all().await;
    let seen: BTreeSet<i64> = results.iter().filter_map(|all| all["a"].as_i64()).collect();
    assert!(seen.into_iter().eq(1..=TASKS), "each addition returns its own sum");
    assert!(results.iter().all(|all| all["b"].as_i64() == all["a"].as_i64().map(|a| a * -3)), "both are added at once");
    let found = read(store.as_ref(), &key).await.map(|item| item.body);
    assert_eq!(found, Some(body(json!({"a": TASKS, "b": -3 * TASKS}))));
}
