//! The suites of the ports.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use firebackup_embedded::{
    Database, LocalEventBus, LocalPush, SqliteEventBuffer, SqliteItemStore, SqliteJobQueue, SqliteScheduler,
    SystemClock,
};
use firebackup_model::port::{BufferBounds, BufferedEvent, Clock, DomainEvent, EventBuffer, EventBus, JobQueue};
use firebackup_testkit::event_bus_suite::{self, ArrivedEvents};
use firebackup_testkit::job_queue_suite::{self, QueueUnderTest};
use firebackup_testkit::push_suite::{self, LiveEnd, OpensConnections};
use firebackup_testkit::scheduler_suite::{self, KeptSchedules};
use firebackup_testkit::{HandClock, event_buffer_suite, item_store_suite};
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::Receiver;

use crate::new_database;

#[tokio::test(flavor = "multi_thread")]
async fn the_item_store_conforms() {
    let (_folder, database) = new_database().await;
    let clock = Arc::new(HandClock::default());
    let store = SqliteItemStore::new(database, clock.clone());
    item_store_suite::conforms(Arc::new(store), &clock).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_job_queue_conforms() {
    let (_folder, database) = new_database().await;
    let queue = SqliteJobQueue::new(database.clone(), Arc::new(SystemClock), "jobs", 3);
    let other = SqliteJobQueue::new(database, Arc::new(SystemClock), "other", 3);
    let test = |queue| QueueUnderTest { queue: Arc::new(queue), unit: Duration::from_millis(150), most_deliveries: 3 };
    // side by side in one file, and out of each other's way
    let (queue, other) = (test(queue), test(other));
    tokio::join!(job_queue_suite::conforms(&queue), job_queue_suite::conforms(&other));
}

struct Kept(SqliteScheduler);

#[async_trait]
impl KeptSchedules for Kept {
    async fn kept(&self, name: &str) -> Option<(String, Value)> {
        let rule = self.0.get(name).await.unwrap()?;
        Some((rule.cron.timezone().to_owned(), rule.payload))
    }
}

#[tokio::test]
async fn the_scheduler_conforms() {
    let (_folder, database) = new_database().await;
    let scheduler = SqliteScheduler::new(database, Arc::new(SystemClock));
    scheduler_suite::conforms(Arc::new(scheduler.clone()), &Kept(scheduler)).await;
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<DomainEvent>>>);

#[async_trait]
impl ArrivedEvents for Heard {
    async fn arrived(&self) -> Vec<DomainEvent> {
        self.0.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn the_event_bus_conforms_for_all_who_listen() {
    let bus = LocalEventBus::new(1000);
    let heard = [Heard::default(), Heard::default()];
    for heard in &heard {
        let (mut listener, heard) = (bus.listen(), heard.clone());
        tokio::spawn(async move {
            while let Ok(event) = listener.recv().await {
                heard.0.lock().unwrap().push(event);
            }
        });
    }
    event_bus_suite::conforms(Arc::new(bus), &heard[0]).await;
    let (first, second) = (heard[0].arrived().await, heard[1].arrived().await);
    assert!(first == second, "each who listens gets all, in one order");
    let late = LocalEventBus::new(2);
    let mut slow = late.listen();
    for event in &first[..5] {
        late.publish(std::slice::from_ref(event)).await.unwrap();
    }
    assert_eq!(slow.recv().await, Err(RecvError::Lagged(3)), "who is too slow is told so");
    assert_eq!(slow.recv().await.as_ref(), Ok(&first[3]));
}

/// What a queue behind a bus has been sent.
struct InQueue(SqliteJobQueue, Mutex<Vec<DomainEvent>>);

#[async_trait]
impl ArrivedEvents for InQueue {
    async fn arrived(&self) -> Vec<DomainEvent> {
        let received = self.0.receive(10, Duration::from_millis(10), Duration::from_secs(60)).await.unwrap();
        let mut all = self.1.lock().unwrap();
        all.extend(received.iter().map(|message| serde_json::from_str::<DomainEvent>(&message.body).unwrap()));
        all.clone()
    }
}

#[tokio::test]
async fn what_is_for_live_clients_alone_is_kept_in_no_queue() {
    let (_folder, database) = new_database().await;
    let queue = SqliteJobQueue::new(database, Arc::new(SystemClock), "notify", 3);
    let bus = LocalEventBus::new(1000).keeping(Arc::new(queue.clone()));
    let (mut listener, live) = (bus.listen(), Heard::default());
    let heard = live.clone();
    tokio::spawn(async move {
        while let Ok(event) = listener.recv().await {
            heard.0.lock().unwrap().push(event);
        }
    });
    event_bus_suite::tells_live_clients(&bus, &live, &InQueue(queue, Mutex::default())).await;
}

#[tokio::test]
async fn the_event_bus_keeps_in_a_queue_what_nobody_hears() {
    let (_folder, database) = new_database().await;
    let queue = Arc::new(SqliteJobQueue::new(database, Arc::new(SystemClock), "notify", 3));
    let bus = LocalEventBus::new(1).keeping(queue.clone());
    let event = DomainEvent {
        id: "evt_1".to_owned(),
        kind: "project.created".to_owned(),
        timestamp: SystemClock.now(),
        organization: "org_1".to_owned(),
        data: Value::Null,
    };
    bus.publish(std::slice::from_ref(&event)).await.unwrap();
    let kept = queue.receive(2, Duration::from_secs(1), Duration::from_secs(1)).await.unwrap();
    let kept: Vec<DomainEvent> = kept.iter().map(|message| serde_json::from_str(&message.body).unwrap()).collect();
    assert_eq!(kept, [event]);
}

/// Connections of this process, each with a number.
struct Opens(LocalPush, AtomicUsize);

struct OpenEnd(LocalPush, String, Receiver<String>);

#[async_trait]
impl OpensConnections for Opens {
    async fn open(&self) -> (String, Box<dyn LiveEnd>) {
        let name = format!("client-{}", self.1.fetch_add(1, Ordering::Relaxed));
        let told = self.0.open(&name).unwrap();
        (name.clone(), Box::new(OpenEnd(self.0.clone(), name, told)))
    }
}

#[async_trait]
impl LiveEnd for OpenEnd {
    async fn next(&mut self) -> Option<String> {
        self.2.recv().await
    }

    async fn close(self: Box<Self>) {
        self.0.close(&self.1);
    }
}

#[tokio::test]
async fn the_way_to_live_clients_conforms() {
    let push = LocalPush::default();
    push_suite::conforms(&push, &Opens(push.clone(), AtomicUsize::default())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_event_buffer_conforms() {
    let (_folder, database) = new_database().await;
    let clock = Arc::new(HandClock::default());
    event_buffer_suite::conforms(Arc::new(SqliteEventBuffer::new(database, clock.clone())), &clock).await;
}

#[tokio::test]
async fn a_batch_of_events_outlives_whoever_took_it() {
    let (folder, database) = new_database().await;
    let bounds = BufferBounds { events: 1, bytes: 100 };
    let event = |key: &str| BufferedEvent { key: key.to_owned(), body: b"body".to_vec() };
    let buffer = SqliteEventBuffer::new(database, Arc::new(SystemClock));
    for key in ["a", "b"] {
        buffer.put("p", event(key), BufferBounds { events: 9, ..bounds }).await.unwrap();
    }
    assert_eq!(buffer.batch("p", bounds).await.unwrap(), [event("a")]);
    drop(buffer);
    let database = Database::open(folder.path().join("state.db")).await.unwrap();
    let buffer = SqliteEventBuffer::new(database, Arc::new(SystemClock));
    assert_eq!(buffer.batch("p", BufferBounds { events: 9, ..bounds }).await.unwrap(), [event("a")]);
    assert_eq!(buffer.state("p").await.unwrap().waiting, 2);
}
