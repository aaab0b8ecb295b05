//! All writes of a transaction are done, or none.

use firebackup_model::ErrorKind;
use firebackup_model::port::{Item, ItemStore, ItemWrite, MAX_TRANSACTION_WRITES};
use serde_json::json;

use super::{create, item, key, read, refused, small, write};

pub(super) async fn check(store: &dyn ItemStore) {
    conditions_fail_all(store).await;
    conditions_that_hold(store).await;
    hundred_writes(store).await;
    too_many_writes(store).await;
    one_write_an_item(store).await;
    nothing_to_do(store).await;
}

/// Version 2 stands at `here`, nothing at `nowhere`.
fn conditions_that_fail() -> Vec<(&'static str, ItemWrite)> {
    let partition = "conditions";
    let (here, nowhere) = (|| key(partition, "here"), || key(partition, "nowhere"));
    let replacement = |sort| item(partition, sort, json!({"must": "not be seen"}));
    vec![
        ("create of what exists", ItemWrite::Create(replacement("here"))),
        ("replace of an older version", ItemWrite::Replace(replacement("here"), 1)),
        ("replace of a version to come", ItemWrite::Replace(replacement("here"), 3)),
        ("replace of nothing", ItemWrite::Replace(replacement("nowhere"), 1)),
        ("replace of version 0 of nothing", ItemWrite::Replace(replacement("nowhere"), 0)),
        ("delete of another version", ItemWrite::Delete(here(), 1)),
        ("delete of nothing", ItemWrite::Delete(nowhere(), 1)),
        ("check of another version", ItemWrite::Check(here(), 3)),
        ("check of nothing", ItemWrite::Check(nowhere(), 1)),
        ("check that what exists is absent", ItemWrite::CheckAbsent(here())),
    ]
}

async fn state(store: &dyn ItemStore) -> Vec<Option<Item>> {
    let mut all = Vec::new();
    for sort in ["replaced", "deleted", "created", "created last", "here", "nowhere"] {
        all.push(read(store, &key("conditions", sort)).await);
    }
    all
}

async fn conditions_fail_all(store: &dyn ItemStore) {
    let partition = "conditions";
    let before = ["replaced", "deleted", "here"].map(|sort| create(partition, sort));
    write(store, before.into()).await;
    write(store, vec![ItemWrite::Replace(small(partition, "here"), 1)]).await;
    let before = state(store).await;
    for (what, failing) in conditions_that_fail() {
        let others = [
            ItemWrite::Replace(item(partition, "replaced", json!({"must": "not be seen"})), 1),
            ItemWrite::Delete(key(partition, "deleted"), 1),
            create(partition, "created"),
        ];
        let last = [create(partition, "created last")];
        let middle = others.iter().cloned().chain([failing.clone()]).chain(last.iter().cloned()).collect();
        refused(store.write(middle).await, ErrorKind::FailedPrecondition, what);
        let at_the_end = others.iter().cloned().chain(last).chain([failing.clone()]).collect();
        refused(store.write(at_the_end).await, ErrorKind::FailedPrecondition, what);
        refused(store.write(vec![failing]).await, ErrorKind::FailedPrecondition, what);
        assert_eq!(state(store).await, before, "{what}: nothing was done");
    }
}

async fn conditions_that_hold(store: &dyn ItemStore) {
    let partition = "held";
    write(store, ["a", "b", "c"].map(|sort| create(partition, sort)).into()).await;
    write(
        store,
        vec![
            ItemWrite::Check(key(partition, "a"), 1),
            ItemWrite::CheckAbsent(key(partition, "d")),
            ItemWrite::Replace(item(partition, "b", json!({"new": true})), 1),
            ItemWrite::Delete(key(partition, "c"), 1),
            create(partition, "e"),
        ],
    )
    .await;
    let mut versions = Vec::new();
    for sort in ["a", "b", "c", "d", "e"] {
        versions.push(read(store, &key(partition, sort)).await.map(|item| item.version));
    }
    assert_eq!(versions, [Some(1), Some(2), None, None, Some(1)]);
}

fn many(count: usize) -> Vec<ItemWrite> {
    (0..count).map(|index| create("many", &format!("{count}/{index:03}"))).collect()
}

async fn hundred_writes(store: &dyn ItemStore) {
    let keys = |writes: &[ItemWrite]| writes.iter().map(|write| write.key().clone()).collect::<Vec<_>>();
    let writes = many(MAX_TRANSACTION_WRITES);
    let all = keys(&writes);
    write(store, writes.clone()).await;
    for key in &all {
        assert!(read(store, key).await.is_some(), "{key:?}");
    }
    let mut again: Vec<ItemWrite> = all.iter().map(|key| ItemWrite::Delete(key.clone(), 1)).collect();
    again[MAX_TRANSACTION_WRITES - 1] = ItemWrite::Delete(all[MAX_TRANSACTION_WRITES - 1].clone(), 2);
    refused(store.write(again).await, ErrorKind::FailedPrecondition, "a hundred writes of which the last fails");
    for key in &all {
        assert!(read(store, key).await.is_some(), "{key:?} is still there");
    }
    write(store, all.into_iter().map(|key| ItemWrite::Delete(key, 1)).collect()).await;
}

async fn too_many_writes(store: &dyn ItemStore) {
    let writes = many(MAX_TRANSACTION_WRITES + 1);
    let first = writes[0].key().clone();
    refused(store.write(writes).await, ErrorKind::InvalidArgument, "a write too many");
    assert_eq!(read(store, &first).await, None, "nothing of it was done");
}

async fn one_write_an_item(store: &dyn ItemStore) {
    let key = key("twice", "a");
    for second in [
        create("twice", "a"),
        ItemWrite::Replace(small("twice", "a"), 1),
        ItemWrite::Delete(key.clone(), 1),
        ItemWrite::Check(key.clone(), 1),
        ItemWrite::CheckAbsent(key.clone()),
    ] {
        let writes = vec![create("twice", "a"), create("twice", "b"), second];
        refused(store.write(writes).await, ErrorKind::InvalidArgument, "two writes to one item");
        assert_eq!(read(store, &key).await, None, "nothing of it was done");
    }
}

async fn nothing_to_do(store: &dyn ItemStore) {
    write(store, Vec::new()).await;
}
