//! What the product relies on in what carries its events, as one suite that every adapter passes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use firebackup_model::port::{DomainEvent, EventBus};
use firebackup_model::{ErrorKind, Timestamp};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::eventually::eventually;

const BOUND: Duration = Duration::from_secs(60);

/// Sees what arrived behind the bus.
#[async_trait]
pub trait ArrivedEvents: Send + Sync {
    /// All events that have arrived so far, in any order; those that came twice may be told twice.
    async fn arrived(&self) -> Vec<DomainEvent>;
}

/// Runs the suite.
///
/// # Panics
/// When the bus does not do what the product relies on.
pub async fn conforms(bus: Arc<dyn EventBus>, arrived: &dyn ArrivedEvents) {
    nothing_is_nothing(bus.as_ref()).await;
    fields_arrive(bus.as_ref(), arrived).await;
    many_at_once(bus.as_ref(), arrived).await;
    large_ones_together(bus.as_ref(), arrived).await;
    publishers_side_by_side(&bus, arrived).await;
    one_that_is_too_large_stops_no_other(bus.as_ref(), arrived).await;
}

/// The same of events for live clients alone: `kept` sees what webhooks would be told of, and must not see them.
///
/// # Panics
/// When the bus does not do what the product relies on.
pub async fn tells_live_clients(bus: &dyn EventBus, live: &dyn ArrivedEvents, kept: &dyn ArrivedEvents) {
    let events = numbered("live", 3, |index| json!({"index": index, "text": "ü\"\n"}));
    for event in &events {
        bus.publish_live(event).await.unwrap_or_else(|error| panic!("publish {}: {error:?}", event.id));
    }
    all_arrive(live, &events).await;
    let too_large = event("live-too-large", json!({"text": "x".repeat(300_000)}));
    let refused = bus.publish_live(&too_large).await.expect_err("an event of 300 KB was taken");
    assert_eq!(refused.kind, ErrorKind::InvalidArgument, "{refused:?}");
    // what is published behind them arrives, and they have not
    let behind = [event("behind-live", json!({}))];
    publish(bus, &behind).await;
    all_arrive(live, &behind).await;
    all_arrive(kept, &behind).await;
    let found = kept.arrived().await;
    assert!(found.iter().all(|found| !found.id.starts_with("evt_live-")), "{found:?}");
}

fn event(id: &str, data: Value) -> DomainEvent {
    DomainEvent {
        id: format!("evt_{id}"),
        kind: "backup.completed".to_owned(),
        timestamp: Timestamp::new(1_769_868_180, 123_456_000),
        organization: "org_01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
        data,
    }
}

async fn publish(bus: &dyn EventBus, events: &[DomainEvent]) {
    bus.publish(events).await.unwrap_or_else(|error| panic!("publish {} events: {error:?}", events.len()));
}

/// Waits until all of `expected` have arrived, as they were.
async fn all_arrive(arrived: &dyn ArrivedEvents, expected: &[DomainEvent]) {
    let found = eventually("the events arrive", BOUND, async || {
        let found: BTreeMap<String, DomainEvent> =
            arrived.arrived().await.into_iter().map(|event| (event.id.clone(), event)).collect();
        expected.iter().all(|event| found.contains_key(&event.id)).then_some(found)
    })
    .await;
    for event in expected {
        assert!(found[&event.id] == *event, "{} arrives as it was published", event.id);
    }
}

async fn nothing_is_nothing(bus: &dyn EventBus) {
    publish(bus, &[]).await;
}

async fn fields_arrive(bus: &dyn EventBus, arrived: &dyn ArrivedEvents) {
    let mut events = [
        event("plain", json!({"job": "bkp_1"})),
        event("nothing", json!({})),
        event("text", json!({"text": "ü 😀 \"quoted\" \\ <a>&\n", "empty": ""})),
        event(
            "nested",
            json!({"list": [1, -1, 0.5, true, null, []], "big": 9_007_199_254_740_993_i64, "in": {"in": {}}}),
        ),
        event("other", json!({"a": 1})),
    ];
    events[4].kind = "restore.failed".to_owned();
    events[4].timestamp = Timestamp::new(0, 0);
    events[4].organization = "org_other".to_owned();
    for event in &events {
        publish(bus, std::slice::from_ref(event)).await;
    }
    all_arrive(arrived, &events).await;
}

fn numbered(name: &str, count: usize, data: impl Fn(usize) -> Value) -> Vec<DomainEvent> {
    (0..count).map(|index| event(&format!("{name}-{index}"), data(index))).collect()
}

async fn many_at_once(bus: &dyn EventBus, arrived: &dyn ArrivedEvents) {
    let events = numbered("many", 35, |index| json!({"index": index}));
    publish(bus, &events).await;
    all_arrive(arrived, &events).await;
}

async fn large_ones_together(bus: &dyn EventBus, arrived: &dyn ArrivedEvents) {
    let events = numbered("large", 4, |index| json!({"index": index, "text": "x".repeat(200_000)}));
    publish(bus, &events).await;
    all_arrive(arrived, &events).await;
}

async fn publishers_side_by_side(bus: &Arc<dyn EventBus>, arrived: &dyn ArrivedEvents) {
    let mut tasks = JoinSet::new();
    let mut all = Vec::new();
    for publisher in 0..8 {
        let events = numbered(&format!("beside-{publisher}"), 5, |index| json!({"of": publisher, "index": index}));
        all.extend(events.iter().cloned());
        let bus = Arc::clone(bus);
        tasks.spawn(async move { publish(bus.as_ref(), &events).await });
    }
    tasks.join_all().await;
    all_arrive(arrived, &all).await;
}

async fn one_that_is_too_large_stops_no_other(bus: &dyn EventBus, arrived: &dyn ArrivedEvents) {
    let mut events = numbered("beside-too-large", 12, |index| json!({"index": index}));
    events[3].data = json!({"text": "x".repeat(300_000)});
    match bus.publish(&events).await {
        Ok(()) => panic!("an event of 300 KB was taken"),
        Err(error) => assert_eq!(error.kind, ErrorKind::InvalidArgument, "{error:?}"),
    }
    let too_large = events.remove(3);
    all_arrive(arrived, &events).await;
    assert!(arrived.arrived().await.iter().all(|event| event.id != too_large.id), "what was refused does not arrive");
}
