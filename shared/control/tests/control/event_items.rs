//! Events that wait in the table of records: what a buffer promises, and what is left of it by whoever dies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firebackup_control::ItemEventBuffer;
use firebackup_model::port::{
    BufferBounds, Buffered, BufferedEvent, EventBuffer, ItemQuery, ItemStore, Settled, SortRange,
};
use firebackup_model::{ErrorKind, PortError};
use firebackup_testkit::memory_items::MemoryItems;
use firebackup_testkit::memory_ports::MemoryQueue;
use firebackup_testkit::{HandClock, event_buffer_suite};

const WIDE: BufferBounds = BufferBounds { events: 1000, bytes: 64 << 20 };
const BUFFER: &str = "org_01JZ0000000000000000000000/proj_01JZ0000000000000000000001/(default)";
/// Seconds for which the names of events are known that were settled.
const KNOWN: i64 = 3600;

struct Stage {
    clock: Arc<HandClock>,
    items: MemoryItems,
    queue: Arc<MemoryQueue>,
    buffer: ItemEventBuffer,
}

impl Stage {
    fn new() -> Self {
        let clock = Arc::new(HandClock::default());
        let items = MemoryItems::new(clock.clone());
        let queue = Arc::new(MemoryQueue::default());
        let buffer = ItemEventBuffer::new(Arc::new(items.clone()), clock.clone()).waking(queue.clone());
        Self { clock, items, queue, buffer }
    }

    async fn put(&self, key: &str, body: &[u8]) -> Result<Buffered, PortError> {
        self.buffer.put(BUFFER, BufferedEvent { key: key.to_owned(), body: body.to_vec() }, WIDE).await
    }

    async fn batch(&self) -> Result<Vec<BufferedEvent>, PortError> {
        self.buffer.batch(BUFFER, WIDE).await
    }

    async fn settle(&self, keys: &[&str]) -> Result<(), PortError> {
        let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
        self.buffer.settle(BUFFER, &keys, Settled::Folded).await
    }

    async fn is_marked(&self) -> bool {
        !self.buffer.waiting(10).await.unwrap().is_empty()
    }

    /// How many items there are besides the names that are known.
    fn left(&self) -> Vec<String> {
        let items = self.items.all().into_iter().filter(|item| item.key.partition.starts_with("EVENTS#"));
        items.map(|item| item.key.sort).collect()
    }
}

#[tokio::test]
async fn it_conforms() {
    for seed in 0..8 {
        let stage = Stage::new();
        stage.items.vary(seed * 1000);
        event_buffer_suite::conforms(Arc::new(stage.buffer), &stage.clock).await;
    }
}

#[tokio::test]
async fn an_event_of_any_size_comes_back_whole_or_is_not_taken() {
    let stage = Stage::new();
    let body = |bytes: usize| (0..bytes).map(|at| (at % 251) as u8).collect::<Vec<_>>();
    const PART: usize = 256 * 1024;
    for bytes in [0, 1, 4 * 1024, 4 * 1024 + 1, PART, PART + 1, 2 * 1024 * 1024, 11 * PART] {
        assert_eq!(stage.put("a", &body(bytes)).await.unwrap(), Buffered::Taken, "{bytes}");
        let given = stage.batch().await.unwrap();
        assert_eq!(given.len(), 1);
        assert!(given[0].body == body(bytes), "{bytes}");
        let state = stage.buffer.state(BUFFER).await.unwrap();
        assert_eq!((state.waiting, state.waiting_bytes), (1, bytes as u64));
        stage.settle(&["a"]).await.unwrap();
        assert_eq!(stage.left(), ["BATCH", "COUNTS", "SETTLED"], "{bytes}");
        stage.clock.advance(KNOWN + 1);
    }
    assert_eq!(stage.put("b", &body(11 * PART + 1)).await.unwrap(), Buffered::TooLarge);
    assert!(!stage.is_marked().await);
}

#[tokio::test]
async fn who_comes_first_wakes_and_a_queue_that_fails_keeps_no_event_out() {
    let stage = Stage::new();
    for key in ["a", "b", "a"] {
        stage.put(key, b"body").await.unwrap();
    }
    let ids = r#""organization":"org_01JZ0000000000000000000000","project":"proj_01JZ0000000000000000000001""#;
    assert_eq!(stage.queue.drain(), [format!(r#"{{"fold":{{{ids},"database":"(default)"}}}}"#)]);
    stage.settle(&["a", "b"]).await.unwrap();
    stage.queue.fail(Some(ErrorKind::Unavailable));
    assert_eq!(stage.put("c", b"body").await.unwrap(), Buffered::Taken);
    assert!(stage.is_marked().await);
}

#[tokio::test]
async fn a_buffer_is_forgotten_whole_and_begun_anew() {
    let stage = Stage::new();
    for n in 0..30 {
        stage.put(&n.to_string(), &vec![7; 20_000]).await.unwrap();
    }
    stage.batch().await.unwrap();
    stage.settle(&["0", "1"]).await.unwrap();
    stage.buffer.forget(BUFFER).await.unwrap();
    assert!(stage.items.all().is_empty(), "{:?}", stage.left());
    assert_eq!(stage.put("0", b"body").await.unwrap(), Buffered::Taken);
    assert_eq!(stage.batch().await.unwrap().len(), 1);
}

#[tokio::test]
async fn many_are_settled_in_several_transactions_and_counted_once() {
    let stage = Stage::new();
    let keys: Vec<String> = (0..250).map(|n| format!("{n:03}")).collect();
    for key in &keys {
        stage.put(key, b"body").await.unwrap();
    }
    let bounds = BufferBounds { events: 200, bytes: 1 << 20 };
    let given = stage.buffer.batch(BUFFER, bounds).await.unwrap();
    assert_eq!(given.iter().map(|event| &event.key).collect::<Vec<_>>(), keys[..200].iter().collect::<Vec<_>>());
    let settle = || stage.buffer.settle(BUFFER, &keys[..200], Settled::Folded);
    // two who do it at one time, as after a message that came twice
    let (one, other) = tokio::join!(settle(), settle());
    assert_eq!((one.is_ok(), other.is_ok()), (true, true));
    let state = stage.buffer.state(BUFFER).await.unwrap();
    assert_eq!((state.received, state.folded, state.waiting), (250, 200, 50));
    assert!(stage.is_marked().await);
}

#[tokio::test]
async fn an_event_that_comes_while_the_mark_is_taken_away_is_found() {
    for seed in 0..200 {
        let stage = Stage::new();
        stage.items.vary(seed * 97);
        stage.put("a", b"body").await.unwrap();
        stage.batch().await.unwrap();
        let (settled, put) = tokio::join!(stage.settle(&["a"]), stage.put("b", b"body"));
        settled.unwrap();
        assert_eq!(put.unwrap(), Buffered::Taken);
        let waiting = stage.buffer.waiting(10).await.unwrap();
        assert_eq!(waiting.iter().map(|waiting| waiting.events).collect::<Vec<_>>(), [1], "seed {seed}");
    }
}

/// What somebody knows who posts and folds: what was answered as taken, and what was given.
#[derive(Default)]
struct Seen {
    taken: BTreeSet<String>,
    given: BTreeMap<String, Vec<u8>>,
}

/// Posts three events, folds, posts one more, folds that: the first error ends it, as a death does.
async fn some_work(stage: &Stage, seen: &mut Seen) -> Result<(), PortError> {
    for keys in [&["a", "b", "c"][..], &["d"]] {
        for key in keys {
            let buffered = stage.put(key, &body_of(key)).await?;
            assert!(matches!(buffered, Buffered::Taken | Buffered::Repeated));
            seen.taken.insert((*key).to_owned());
        }
        loop {
            let batch = stage.batch().await?;
            if batch.is_empty() {
                break;
            }
            let keys: Vec<_> = batch.iter().map(|event| event.key.clone()).collect();
            seen.given.extend(batch.into_iter().map(|event| (event.key, event.body)));
            stage.settle(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        }
    }
    Ok(())
}

/// One of them is larger than an item.
fn body_of(key: &str) -> Vec<u8> {
    if key == "b" { vec![3; 300_000] } else { key.as_bytes().to_vec() }
}

#[tokio::test]
async fn whoever_dies_at_any_write_loses_no_event_and_counts_none_twice() {
    let mut deaths = 0;
    for writes in 0..200 {
        let (stage, mut seen) = (Stage::new(), Seen::default());
        stage.items.stop_after(Some(writes));
        let died = some_work(&stage, &mut seen).await.is_err();
        stage.items.stop_after(None);
        deaths += u32::from(died);
        // what was answered as taken waits, and is found, or was given
        let state = stage.buffer.state(BUFFER).await.unwrap();
        assert!(state.folded <= seen.given.len() as u64, "{writes}: {state:?}");
        if seen.taken.iter().any(|key| !seen.given.contains_key(key)) {
            assert!(stage.is_marked().await, "{writes}");
        }
        // everything is done once more, as by those who send again and fold again
        some_work(&stage, &mut seen).await.unwrap();
        let all: Vec<&str> = seen.given.keys().map(String::as_str).collect();
        assert_eq!(all, ["a", "b", "c", "d"], "{writes}");
        assert!(seen.given.iter().all(|(key, body)| *body == body_of(key)), "{writes}");
        let state = stage.buffer.state(BUFFER).await.unwrap();
        assert_eq!((state.received, state.folded, state.waiting), (4, 4, 0), "{writes}");
        assert!(!stage.is_marked().await, "{writes}");
        assert!(stage.items.query(&index()).await.unwrap().items.is_empty(), "{writes}: a mark is left");
        if !died {
            break;
        }
    }
    assert!(deaths > 10, "{deaths}");
}

/// The marks of all buffers.
fn index() -> ItemQuery {
    ItemQuery { by_index: true, range: SortRange::All, ..ItemQuery::prefix("EVENTS", "") }
}

#[tokio::test]
async fn a_place_of_whoever_died_counts_only_until_those_before_it_are_gone() {
    let stage = Stage::new();
    let two = BufferBounds { events: 2, bytes: 1 << 20 };
    let put =
        async |key: &str| stage.buffer.put(BUFFER, BufferedEvent { key: key.to_owned(), body: vec![1] }, two).await;
    assert_eq!(put("a").await.unwrap(), Buffered::Taken);
    stage.items.stop_after(Some(0));
    assert!(put("b").await.is_err());
    stage.items.stop_after(None);
    assert_eq!(put("c").await.unwrap(), Buffered::Full);
    assert_eq!(stage.buffer.state(BUFFER).await.unwrap().waiting, 1);
    stage.settle(&["a"]).await.unwrap();
    assert_eq!(put("c").await.unwrap(), Buffered::Taken);
    assert_eq!(put("d").await.unwrap(), Buffered::Taken);
    assert_eq!(put("e").await.unwrap(), Buffered::Full);
}
