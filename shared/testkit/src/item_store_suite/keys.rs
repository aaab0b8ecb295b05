//! Items are found under their key and no other, and count their replacements.

use firebackup_model::ErrorKind;
use firebackup_model::port::{Item, ItemStore, ItemWrite};
use serde_json::json;

use super::{body, create, in_index, index_holds, item, key, read, refused, small, write};

pub(super) async fn check(store: &dyn ItemStore) {
    versions_count(store).await;
    keys_do_not_run_into_each_other(store).await;
    empty_keys_are_refused(store).await;
    the_index_follows(store).await;
}

async fn versions_count(store: &dyn ItemStore) {
    let key = key("versions", "one");
    assert_eq!(read(store, &key).await, None, "nothing is there at first");
    write(store, vec![ItemWrite::Create(item("versions", "one", json!({"a": 1, "b": 2})))]).await;
    let found = read(store, &key).await;
    assert_eq!(found, Some(Item { key: key.clone(), body: body(json!({"a": 1, "b": 2})), version: 1 }));
    for version in 1..4 {
        write(store, vec![ItemWrite::Replace(item("versions", "one", json!({"c": version})), version)]).await;
        let found = read(store, &key).await.expect("what was replaced is there");
        assert_eq!(found.body, body(json!({"c": version})), "a replacement leaves nothing of what was there");
        assert_eq!(found.version, version + 1, "a replacement counts");
    }
    write(store, vec![ItemWrite::Check(key.clone(), 4)]).await;
    assert_eq!(read(store, &key).await.map(|item| item.version), Some(4), "a check does not count");
    write(store, vec![ItemWrite::Delete(key.clone(), 4)]).await;
    assert_eq!(read(store, &key).await, None, "a deleted item is gone");
    write(store, vec![create("versions", "one")]).await;
    assert_eq!(read(store, &key).await.map(|item| item.version), Some(1), "what is created anew begins at 1");
}

async fn keys_do_not_run_into_each_other(store: &dyn ItemStore) {
    let keys = [
        ("near", "a"),
        ("near", "A"),
        ("near", "a "),
        ("near", "a#b"),
        ("near#a", "b"),
        ("near#", "a#b"),
        ("Near", "a"),
        ("near", "ä"),
        ("near", "a\u{308}"),
        ("näher 😀", "日本/語?&=%20"),
    ];
    for (partition, sort) in keys {
        write(store, vec![ItemWrite::Create(item(partition, sort, json!({"is": [partition, sort]})))]).await;
    }
    for (partition, sort) in keys {
        let found = read(store, &key(partition, sort)).await.map(|item| item.body);
        assert_eq!(found, Some(body(json!({"is": [partition, sort]}))), "{partition}, {sort}");
    }
    assert_eq!(read(store, &key("near", "b")).await, None);
}

async fn empty_keys_are_refused(store: &dyn ItemStore) {
    for (partition, sort) in [("", "a"), ("a", ""), ("", "")] {
        let what = format!("an item named `{partition}`, `{sort}`");
        refused(store.write(vec![create(partition, sort)]).await, ErrorKind::InvalidArgument, &what);
        let indexed = in_index(small("indexed", "by nothing"), partition, sort);
        let what = format!("an item indexed by `{partition}`, `{sort}`");
        refused(store.write(vec![ItemWrite::Create(indexed)]).await, ErrorKind::InvalidArgument, &what);
    }
    assert_eq!(read(store, &key("indexed", "by nothing")).await, None);
}

async fn the_index_follows(store: &dyn ItemStore) {
    let first = in_index(small("indexed", "1"), "by-name", "b");
    let second = in_index(small("indexed", "2"), "by-name", "a");
    write(store, vec![ItemWrite::Create(first), ItemWrite::Create(second), create("indexed", "3")]).await;
    index_holds(store, "by-name", &["2", "1"]).await;
    write(store, vec![ItemWrite::Replace(in_index(small("indexed", "2"), "by-name", "c"), 1)]).await;
    index_holds(store, "by-name", &["1", "2"]).await;
    write(store, vec![ItemWrite::Replace(in_index(small("indexed", "1"), "by-age", "7"), 1)]).await;
    index_holds(store, "by-name", &["2"]).await;
    index_holds(store, "by-age", &["1"]).await;
    write(store, vec![ItemWrite::Replace(small("indexed", "2"), 2), ItemWrite::Delete(key("indexed", "1"), 2)]).await;
    index_holds(store, "by-name", &[]).await;
    index_holds(store, "by-age", &[]).await;
    assert!(read(store, &key("indexed", "2")).await.is_some(), "what left the index is still there");
}
