//! What the product relies on in a buffer of events, as one suite that every adapter passes.

use std::sync::Arc;

use firebackup_model::port::{
    BufferBounds, BufferState, Buffered, BufferedEvent, EventBuffer, MAX_BUFFER_NAME, Settled,
};
use tokio::task::JoinSet;

use crate::hand_clock::HandClock;

/// Seconds for which the names of events are known that were dealt with.
const KNOWN: i64 = 3600;
const WIDE: BufferBounds = BufferBounds { events: 1000, bytes: 1 << 20 };

/// Runs the suite on buffers in which nothing is, and whose clock is `clock`.
///
/// # Panics
/// When the buffers do not do what the product relies on.
pub async fn conforms(buffers: Arc<dyn EventBuffer>, clock: &HandClock) {
    what_was_put_is_given_in_order_until_it_is_settled(&*buffers).await;
    an_event_is_known_by_its_name_for_an_hour(&*buffers, clock).await;
    no_more_waits_than_may(&*buffers).await;
    a_batch_is_bounded_and_stays_the_same(&*buffers).await;
    settling_twice_is_settling_once(&*buffers).await;
    those_that_wait_longest_come_first(&*buffers, clock).await;
    many_at_one_time_are_each_kept_once(buffers).await;
}

fn event(key: &str, body: &str) -> BufferedEvent {
    BufferedEvent { key: key.to_owned(), body: body.as_bytes().to_vec() }
}

async fn put(buffers: &dyn EventBuffer, buffer: &str, key: &str) -> Buffered {
    buffers.put(buffer, event(key, "body"), WIDE).await.unwrap_or_else(|error| panic!("put: {error:?}"))
}

async fn batch(buffers: &dyn EventBuffer, buffer: &str, bounds: BufferBounds) -> Vec<String> {
    let events = buffers.batch(buffer, bounds).await.unwrap_or_else(|error| panic!("batch: {error:?}"));
    events.into_iter().map(|event| event.key).collect()
}

async fn settle(buffers: &dyn EventBuffer, buffer: &str, keys: &[&str], settled: Settled) {
    let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
    buffers.settle(buffer, &keys, settled).await.unwrap_or_else(|error| panic!("settle: {error:?}"));
}

async fn state(buffers: &dyn EventBuffer, buffer: &str) -> BufferState {
    buffers.state(buffer).await.unwrap_or_else(|error| panic!("state: {error:?}"))
}

async fn what_was_put_is_given_in_order_until_it_is_settled(buffers: &dyn EventBuffer) {
    assert_eq!(state(buffers, "order").await, BufferState::default());
    for key in ["b", "a", "c"] {
        assert_eq!(put(buffers, "order", key).await, Buffered::Taken);
    }
    assert_eq!(put(buffers, "another", "a").await, Buffered::Taken, "names are of one buffer");
    for _ in 0..2 {
        assert_eq!(batch(buffers, "order", WIDE).await, ["b", "a", "c"]);
    }
    let given = buffers.batch("order", WIDE).await.unwrap_or_default();
    assert!(given.iter().all(|event| event.body == b"body"));
    settle(buffers, "order", &["b", "c"], Settled::Folded).await;
    assert_eq!(batch(buffers, "order", WIDE).await, ["a"]);
    settle(buffers, "order", &["a"], Settled::Refused).await;
    buffers.refuse("order").await.unwrap_or_else(|error| panic!("refuse: {error:?}"));
    let found = state(buffers, "order").await;
    assert_eq!((found.received, found.folded, found.refused), (3, 2, 2));
    assert_eq!((found.waiting, found.waiting_bytes), (0, 0));
    assert!(batch(buffers, "order", WIDE).await.is_empty());
    buffers.forget("another").await.unwrap_or_else(|error| panic!("forget: {error:?}"));
    assert_eq!(state(buffers, "another").await, BufferState::default());
    let long = "x".repeat(MAX_BUFFER_NAME + 1);
    assert!(buffers.put("order", event(&long, ""), WIDE).await.is_err());
    assert!(buffers.put(&long, event("a", ""), WIDE).await.is_err());
}

async fn an_event_is_known_by_its_name_for_an_hour(buffers: &dyn EventBuffer, clock: &HandClock) {
    assert_eq!(put(buffers, "names", "a").await, Buffered::Taken);
    assert_eq!(put(buffers, "names", "a").await, Buffered::Repeated);
    assert_eq!(batch(buffers, "names", WIDE).await, ["a"]);
    settle(buffers, "names", &["a"], Settled::Folded).await;
    clock.advance(KNOWN - 1);
    assert_eq!(put(buffers, "names", "a").await, Buffered::Repeated);
    let found = state(buffers, "names").await;
    assert_eq!((found.received, found.repeated, found.waiting), (1, 2, 0));
    clock.advance(2);
    assert_eq!(put(buffers, "names", "a").await, Buffered::Taken);
    settle(buffers, "names", &["a"], Settled::Folded).await;
}

async fn no_more_waits_than_may(buffers: &dyn EventBuffer) {
    let bounds = BufferBounds { events: 2, bytes: 10 };
    let put = async |key: &str, body: &str| buffers.put("full", event(key, body), bounds).await.ok();
    assert_eq!(put("a", "12345").await, Some(Buffered::Taken));
    assert_eq!(put("b", "123456").await, Some(Buffered::Full), "too many bytes");
    assert_eq!(put("b", "12345").await, Some(Buffered::Taken));
    assert_eq!(put("c", "").await, Some(Buffered::Full), "too many events");
    assert_eq!(put("a", "12345").await, Some(Buffered::Repeated), "what is known takes no place");
    let found = state(buffers, "full").await;
    assert_eq!((found.received, found.waiting, found.waiting_bytes), (2, 2, 10));
    settle(buffers, "full", &["a"], Settled::Folded).await;
    assert_eq!(put("c", "123").await, Some(Buffered::Taken));
    settle(buffers, "full", &["b", "c"], Settled::Folded).await;
}

async fn a_batch_is_bounded_and_stays_the_same(buffers: &dyn EventBuffer) {
    for key in ["a", "b", "c"] {
        put(buffers, "bounded", key).await;
    }
    let one = BufferBounds { events: 10, bytes: 1 };
    assert_eq!(batch(buffers, "bounded", one).await, ["a"], "one is given however large it is");
    settle(buffers, "bounded", &["a"], Settled::Folded).await;
    let small = BufferBounds { events: 1, bytes: 1 << 20 };
    assert_eq!(batch(buffers, "bounded", small).await, ["b"]);
    put(buffers, "bounded", "d").await;
    assert_eq!(batch(buffers, "bounded", WIDE).await, ["b"], "until it is settled");
    settle(buffers, "bounded", &["b"], Settled::Folded).await;
    assert_eq!(batch(buffers, "bounded", WIDE).await, ["c", "d"]);
    settle(buffers, "bounded", &["c", "d"], Settled::Folded).await;
}

async fn settling_twice_is_settling_once(buffers: &dyn EventBuffer) {
    put(buffers, "twice", "a").await;
    for _ in 0..2 {
        settle(buffers, "twice", &["a", "never"], Settled::Folded).await;
    }
    let found = state(buffers, "twice").await;
    assert_eq!((found.folded, found.waiting, found.waiting_bytes), (1, 0, 0));
}

async fn those_that_wait_longest_come_first(buffers: &dyn EventBuffer, clock: &HandClock) {
    for buffer in ["later", "first", "last"] {
        put(buffers, buffer, "a").await;
        clock.advance(1);
    }
    put(buffers, "first", "b").await;
    settle(buffers, "later", &["a"], Settled::Folded).await;
    put(buffers, "later", "b").await;
    let found = buffers.waiting(10).await.unwrap_or_else(|error| panic!("waiting: {error:?}"));
    let found: Vec<_> = found.iter().map(|waiting| (waiting.buffer.as_str(), waiting.events)).collect();
    assert_eq!(found, [("first", 2), ("last", 1), ("later", 1)]);
    let one = buffers.waiting(1).await.unwrap_or_else(|error| panic!("waiting: {error:?}"));
    assert_eq!(one.len(), 1);
    for buffer in ["first", "last", "later"] {
        settle(buffers, buffer, &["a", "b"], Settled::Folded).await;
    }
    assert!(buffers.waiting(10).await.is_ok_and(|waiting| waiting.is_empty()));
}

async fn many_at_one_time_are_each_kept_once(buffers: Arc<dyn EventBuffer>) {
    let mut puts = JoinSet::new();
    for n in 0..40 {
        let buffers = Arc::clone(&buffers);
        puts.spawn(async move { put(&*buffers, "many", &format!("{}", n % 20)).await });
    }
    let taken = puts.join_all().await.into_iter().filter(|buffered| *buffered == Buffered::Taken).count();
    let found = state(&*buffers, "many").await;
    assert_eq!((taken, found.received, found.repeated, found.waiting), (20, 20, 20, 20));
}
