//! Bodies come back as they were.

use firebackup_model::ErrorKind;
use firebackup_model::port::{ItemStore, ItemWrite};
use serde_json::{Map, Value, json};

use super::{body, item, key, read, refused, write};

pub(super) async fn check(store: &dyn ItemStore) {
    values_round_trip(store).await;
    floats_keep_their_value(store).await;
    names_are_free(store).await;
    sizes(store).await;
}

async fn round_trip(store: &dyn ItemStore, sort: &str, value: Value) -> Map<String, Value> {
    write(store, vec![ItemWrite::Create(item("bodies", sort, value))]).await;
    read(store, &key("bodies", sort)).await.expect("what was written is there").body
}

async fn values_round_trip(store: &dyn ItemStore) {
    let values = [
        json!({}),
        json!({"text": ["", " ", "ü", "e\u{301}", "日本語", "😀", "\n\t\r\"\\", "{\"a\":1}", "1", "null"]}),
        json!({"truth": [true, false, null]}),
        json!({"integers": [0, 1, -1, i64::MAX, i64::MIN, 9_007_199_254_740_993_i64, -9_007_199_254_740_993_i64]}),
        json!({"floats": [0.5, -0.25, 0.1, 15_000_000_000.5, 123.456, -2.5e-10, 1.25e100]}),
        json!({"empty": {"object": {}, "list": [], "text": "", "nothing": null}}),
        json!({"lists": [[], [[]], [1, "1", null, [true, {"a": [2]}]], [1, 1, 1], ["b", "a", "b"]]}),
        nested(16),
    ];
    for (index, value) in values.into_iter().enumerate() {
        assert_eq!(round_trip(store, &format!("value-{index}"), value.clone()).await, body(value));
    }
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(json!("innermost"), |inner, level| json!({"level": level, "in": inner}))
}

async fn floats_keep_their_value(store: &dyn ItemStore) {
    let found = round_trip(store, "whole floats", json!({"three": 3.0, "nothing": 0.0, "much": 1e20})).await;
    let number = |name: &str| found[name].as_f64();
    assert_eq!((number("three"), number("nothing"), number("much")), (Some(3.0), Some(0.0), Some(1e20)));
}

/// The names that an adapter takes for itself are not taken from those who store something.
async fn names_are_free(store: &dyn ItemStore) {
    let names = [
        "partition",
        "sort",
        "key",
        "body",
        "version",
        "index",
        "expires",
        "ttl",
        "pk",
        "sk",
        "PK",
        "SK",
        "gsi1pk",
        "gsi1sk",
        "index_partition",
        "index_sort",
        "id",
        "name",
        "status",
        "count",
        "a.b",
        "a[0]",
        ":a",
        "#a",
        "$",
        "ä",
        "with space",
        "_",
        "N",
        "S",
        "M",
    ];
    let value: Map<String, Value> = names.into_iter().map(|name| (name.to_owned(), json!({name: name}))).collect();
    let value = Value::Object(value);
    assert_eq!(round_trip(store, "names", value.clone()).await, body(value));
}

async fn sizes(store: &dyn ItemStore) {
    let large = json!({"text": "x".repeat(390_000)});
    assert!(round_trip(store, "large", large.clone()).await == body(large), "390 KB come back as they were");
    let wide = json!({"text": "ü".repeat(195_000), "more": {"text": "€"}});
    assert!(round_trip(store, "wide", wide.clone()).await == body(wide), "two bytes a letter are counted as two");
    let several: Vec<Value> = (0..39).map(|index| json!(format!("{index:02}{}", "y".repeat(9_998)))).collect();
    let several = json!({"list": several});
    assert!(round_trip(store, "several", several.clone()).await == body(several), "39 texts of 10 KB fit");
    for (name, value) in [
        ("one text", json!({"text": "x".repeat(410_000)})),
        ("wide letters", json!({"text": "ü".repeat(205_000)})),
        ("many texts", json!({"list": vec!["z".repeat(10_000); 42]})),
        ("a long name", json!({"n".repeat(210_000): "x".repeat(210_000)})),
    ] {
        let beside = ItemWrite::Create(item("bodies", "beside", json!({})));
        let writes = vec![beside, ItemWrite::Create(item("bodies", name, value))];
        refused(store.write(writes).await, ErrorKind::InvalidArgument, name);
        for sort in ["beside", name] {
            assert_eq!(read(store, &key("bodies", sort)).await, None, "{name}: nothing was written");
        }
    }
}
