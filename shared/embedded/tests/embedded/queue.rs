//! What queues in a database file promise beyond the port.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use firebackup_embedded::{Database, SqliteJobQueue, SystemClock};
use firebackup_model::port::JobQueue;
use firebackup_testkit::HandClock;
use tokio::task::JoinSet;

const HIDDEN: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread")]
async fn two_handles_deliver_each_message_once() {
    const MESSAGES: usize = 60;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let open = async || {
        let database = Database::open(&path).await.unwrap();
        SqliteJobQueue::new(database, Arc::new(SystemClock), "jobs", 3)
    };
    let (count, mut tasks) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    for _ in 0..2 {
        let queue = open().await;
        for _ in 0..3 {
            let (queue, count) = (queue.clone(), Arc::clone(&count));
            tasks.spawn(async move {
                let mut bodies = Vec::new();
                while count.load(Ordering::SeqCst) < MESSAGES {
                    let messages = queue.receive(3, Duration::from_millis(200), HIDDEN).await.unwrap();
                    count.fetch_add(messages.len(), Ordering::SeqCst);
                    bodies.extend(messages.into_iter().map(|message| message.body));
                }
                bodies
            });
        }
    }
    let sender = open().await;
    for index in 0..MESSAGES {
        sender.send(&index.to_string(), Duration::ZERO).await.unwrap();
    }
    let bodies = tokio::time::timeout(Duration::from_secs(60), tasks.join_all()).await.expect("all are delivered");
    let bodies: Vec<String> = bodies.into_iter().flatten().collect();
    assert_eq!(bodies.len(), MESSAGES);
    assert_eq!(bodies.iter().collect::<BTreeSet<_>>().len(), MESSAGES, "none is delivered twice while it is hidden");
    assert!(sender.receive(10, Duration::ZERO, HIDDEN).await.unwrap().is_empty());
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
