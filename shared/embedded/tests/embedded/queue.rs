//! What queues in a database file promise beyond the port.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use firebackup_embedded::{Database, SqliteJobQueue, SystemClock};
use firebackup_model::port::JobQueue;
use firebackup_testkit::HandClock;
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn two_handles_deliver_each_message_once() {
    const MESSAGES: usize = 60;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let mut tasks = JoinSet::new();
    for _ in 0..2 {
        let database = Database::open(&path).await.unwrap();
        let queue = SqliteJobQueue::new(database, Arc::new(SystemClock), "jobs", 3);
        for _ in 0..3 {
            let queue = queue.clone();
            tasks.spawn(async move {
                let mut bodies = Vec::new();
                loop {
                    let messages = queue.receive(3, Duration::from_secs(2), Duration::from_secs(600)).await.unwrap();
                    if messages.is_empty() {
                        return bodies;
                    }
                    bodies.extend(messages.into_iter().map(|message| message.body));
                }
            });
        }
    }
    let sender = SqliteJobQueue::new(Database::open(&path).await.unwrap(), Arc::new(SystemClock), "jobs", 3);
    for index in 0..MESSAGES {
        sender.send(&index.to_string(), Duration::ZERO).await.unwrap();
    }
    let bodies: Vec<String> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(bodies.len(), MESSAGES, "none is delivered twice while it is hidden");
    assert_eq!(bodies.iter().collect::<BTreeSet<_>>().len(), MESSAGES, "and all are delivered");
}

#[tokio::test]
async fn a_receipt_of_an_earlier_delivery_deletes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let database = Database::open(folder.path().join("state.db")).await.unwrap();
    let queue = SqliteJobQueue::new(database, clock.clone(), "jobs", 2);
    let hidden = Duration::from_secs(10);
    let receive = async || queue.receive(1, Duration::ZERO, hidden).await.unwrap().pop();
    queue.send("x", Duration::from_secs(5)).await.unwrap();
    assert_eq!(receive().await, None);
    clock.advance(5);
    let first = receive().await.unwrap();
    clock.advance(9);
    assert_eq!(receive().await, None, "hidden to the last second");
    clock.advance(1);
    let second = receive().await.unwrap();
    assert_eq!((first.deliveries, second.deliveries), (1, 2));
    queue.delete(&first.receipt).await.unwrap();
    queue.release(&first.receipt, Duration::ZERO).await.unwrap();
    assert_eq!(receive().await, None, "an old receipt gives nothing back");
    clock.advance(10);
    assert_eq!(receive().await, None);
    assert_eq!(queue.dead_letters().await.unwrap(), 1, "it was not deleted, and delivered often enough");
    queue.delete(&second.receipt).await.unwrap();
    assert_eq!(queue.redrive().await.unwrap(), 1, "a dead letter is not deleted by a receipt");
    let third = receive().await.unwrap();
    assert_eq!(third.deliveries, 1, "what was redriven begins anew");
    assert!(![first.receipt, second.receipt].contains(&third.receipt));
    queue.delete(&third.receipt).await.unwrap();
    clock.advance(1000);
    assert_eq!(receive().await, None);
}
