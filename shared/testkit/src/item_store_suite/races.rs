//! Writers that race: one wins, and nothing is lost.

use std::sync::Arc;

use firebackup_model::ErrorKind;
use firebackup_model::port::{Item, ItemStore, ItemWrite};
use serde_json::json;
use tokio::task::JoinSet;

use super::{create, item, key, read, write};

const RACERS: u64 = 16;
/// Attempts that a writer makes until it is sure that the store starves it.
const MAX_ATTEMPTS: usize = 2000;

pub(super) async fn check(store: &Arc<dyn ItemStore>) {
    creations(store).await;
    replacements(store).await;
    deletions(store).await;
    no_update_is_lost(store).await;
    transfers_keep_the_sum(store).await;
}

/// Writes until the store says something else than that another was in the way. Returns whether it was done.
async fn decide(store: &dyn ItemStore, writes: Vec<ItemWrite>) -> bool {
    for _ in 0..MAX_ATTEMPTS {
        match store.write(writes.clone()).await {
            Ok(()) => return true,
            Err(error) if error.kind == ErrorKind::Aborted => tokio::task::yield_now().await,
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::FailedPrecondition, "who loses a race is told so: {error:?}");
                return false;
            }
        }
    }
    panic!("a writer was put off {MAX_ATTEMPTS} times");
}

/// Lets writers race, each with what `writes` gives it; returns the one that won.
async fn race(store: &Arc<dyn ItemStore>, writes: impl Fn(u64) -> Vec<ItemWrite>) -> u64 {
    let mut tasks = JoinSet::new();
    for racer in 0..RACERS {
        let (store, writes) = (Arc::clone(store), writes(racer));
        tasks.spawn(async move { decide(store.as_ref(), writes).await.then_some(racer) });
    }
    let winners: Vec<u64> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(winners.len(), 1, "exactly one of {RACERS} wins: {winners:?}");
    winners[0]
}

async fn creations(store: &Arc<dyn ItemStore>) {
    for round in 0..4 {
        let sort = format!("created-{round}");
        let winner = race(store, |racer| vec![ItemWrite::Create(item("races", &sort, json!({"racer": racer})))]).await;
        let found = read(store.as_ref(), &key("races", &sort)).await.expect("what the winner created");
        let expected = (&json!(winner), 1);
        assert_eq!((&found.body["racer"], found.version), expected, "what is there is what the winner wrote");
    }
}

async fn replacements(store: &Arc<dyn ItemStore>) {
    write(store.as_ref(), vec![create("races", "replaced")]).await;
    for version in 1..5 {
        // each racer leaves a trace of its own: those of the losers must not be found
        let trace = |racer: u64| format!("trace-{version}-{racer}");
        let winner = race(store, |racer| {
            let replacement = item("races", "replaced", json!({"racer": racer}));
            vec![ItemWrite::Replace(replacement, version), create("races", &trace(racer))]
        })
        .await;
        let found = read(store.as_ref(), &key("races", "replaced")).await.expect("what the winner wrote");
        let expected = (&json!(winner), version + 1);
        assert_eq!((&found.body["racer"], found.version), expected, "what is there is what the winner wrote");
        for racer in 0..RACERS {
            let is_there = read(store.as_ref(), &key("races", &trace(racer))).await.is_some();
            assert_eq!(is_there, racer == winner, "the trace of {racer}, when {winner} won");
        }
    }
}

async fn deletions(store: &Arc<dyn ItemStore>) {
    write(store.as_ref(), vec![create("races", "deleted")]).await;
    race(store, |_| vec![ItemWrite::Delete(key("races", "deleted"), 1)]).await;
    assert_eq!(read(store.as_ref(), &key("races", "deleted")).await, None);
}

async fn no_update_is_lost(store: &Arc<dyn ItemStore>) {
    const WRITERS: u64 = 8;
    const EACH: u64 = 10;
    write(store.as_ref(), vec![ItemWrite::Create(item("races", "sum", json!({"sum": 0})))]).await;
    let mut tasks = JoinSet::new();
    for _ in 0..WRITERS {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            for _ in 0..EACH {
                change(store.as_ref(), &["sum"], |sum| sum[0] += 1).await;
            }
        });
    }
    tasks.join_all().await;
    let found = read(store.as_ref(), &key("races", "sum")).await.expect("the sum");
    let expected = (&json!(WRITERS * EACH), WRITERS * EACH + 1);
    assert_eq!((&found.body["sum"], found.version), expected, "no update is lost");
}

/// Reads items, changes their sums and writes them, until nobody was faster.
async fn change(store: &dyn ItemStore, sorts: &[&str], apply: impl Fn(&mut [i64])) {
    for _ in 0..MAX_ATTEMPTS {
        let mut items: Vec<Item> = Vec::new();
        for sort in sorts {
            items.push(read(store, &key("races", sort)).await.expect("what is changed is there"));
        }
        let mut sums: Vec<i64> = items.iter().filter_map(|item| item.body["sum"].as_i64()).collect();
        apply(&mut sums);
        let writes = items.iter().zip(&sums).map(|(old, sum)| {
            ItemWrite::Replace(item(&old.key.partition, &old.key.sort, json!({"sum": sum})), old.version)
        });
        if decide(store, writes.collect()).await {
            return;
        }
    }
    panic!("a writer was too slow {MAX_ATTEMPTS} times");
}

/// Transactions that take the same items in different orders neither block each other nor see half of another.
async fn transfers_keep_the_sum(store: &Arc<dyn ItemStore>) {
    const ACCOUNTS: [&str; 3] = ["account-a", "account-b", "account-c"];
    write(store.as_ref(), ACCOUNTS.map(|sort| ItemWrite::Create(item("races", sort, json!({"sum": 100})))).into())
        .await;
    let mut tasks = JoinSet::new();
    for task in 0..6 {
        let store = Arc::clone(store);
        let (from, to) = (ACCOUNTS[task % 3], ACCOUNTS[(task + 1 + task / 3) % 3]);
        tasks.spawn(async move {
            for _ in 0..5 {
                change(store.as_ref(), &[from, to], |sums| {
                    sums[0] -= 7;
                    sums[1] += 7;
                })
                .await;
            }
        });
    }
    tasks.join_all().await;
    let (mut sum, mut versions) = (0, 0);
    for sort in ACCOUNTS {
        let found = read(store.as_ref(), &key("races", sort)).await.expect("an account");
        sum += found.body["sum"].as_i64().unwrap_or_default();
        versions += found.version;
    }
    assert_eq!((sum, versions), (300, 3 + 2 * 30), "nothing is gained or lost, and every transfer was done");
}
