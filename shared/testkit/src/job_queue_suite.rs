//! What the product relies on in a queue, as one suite that every adapter passes.
//!
//! What it does not ask for, because servers differ: an order; whether a receipt of an earlier delivery still deletes;
//! what a receipt that never was gives; that nothing is ever delivered twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firebackup_model::ErrorKind;
use firebackup_model::port::{JobQueue, MAX_DELAY, MAX_MESSAGE_BYTES, MAX_MESSAGES, Message};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::eventually::eventually;

/// How long anything may take that should come about soon.
const BOUND: Duration = Duration::from_secs(30);
/// What clocks that are read at different places may differ by.
const SLACK: Duration = Duration::from_millis(30);

/// What the suite is run on.
#[derive(Clone)]
pub struct QueueUnderTest {
    /// An empty queue with an empty dead-letter queue.
    pub queue: Arc<dyn JobQueue>,
    /// The shortest delay that the queue can tell from none: a second for SQS.
    pub unit: Duration,
    /// A message that was delivered so often is not delivered once more.
    pub most_deliveries: u32,
}

/// Runs the suite.
///
/// # Panics
/// When the queue does not do what the product relies on.
pub async fn conforms(test: &QueueUnderTest) {
    bodies_round_trip(test).await;
    what_is_too_much_is_refused(test).await;
    an_empty_queue_answers_at_once(test).await;
    a_delay_is_kept(test).await;
    what_is_not_deleted_comes_again(test).await;
    deleting_twice_is_deleting_once(test).await;
    a_released_message_comes_again(test).await;
    no_more_than_asked_for(test).await;
    consumers_get_all(test).await;
    a_long_poll_ends_when_a_message_arrives(test).await;
    dead_letters_and_redrive(test).await;
}

impl QueueUnderTest {
    async fn send(&self, body: &str) {
        self.send_later(body, Duration::ZERO).await;
    }

    async fn send_later(&self, body: &str, delay: Duration) {
        self.queue.send(body, delay).await.unwrap_or_else(|error| panic!("send: {error:?}"));
    }

    async fn receive(&self, most: usize, wait: Duration, hidden: Duration) -> Vec<Message> {
        self.queue.receive(most, wait, hidden).await.unwrap_or_else(|error| panic!("receive: {error:?}"))
    }

    /// Waits for one message.
    async fn one(&self, hidden: Duration) -> Message {
        eventually("a message arrives", BOUND, async || self.receive(1, self.unit, hidden).await.pop()).await
    }

    /// Hidden for longer than the suite runs.
    async fn take(&self) -> Message {
        self.one(self.unit * 600).await
    }

    async fn delete(&self, message: &Message) {
        self.queue.delete(&message.receipt).await.unwrap_or_else(|error| panic!("delete: {error:?}"));
    }

    async fn release(&self, message: &Message, delay: Duration) {
        self.queue.release(&message.receipt, delay).await.unwrap_or_else(|error| panic!("release: {error:?}"));
    }

    async fn is_empty_for(&self, wait: Duration, what: &str) {
        let found = self.receive(MAX_MESSAGES, wait, self.unit).await;
        assert!(found.is_empty(), "{what}: {found:?}");
    }

    async fn dead_letters(&self) -> u64 {
        self.queue.dead_letters().await.unwrap_or_else(|error| panic!("dead letters: {error:?}"))
    }

    async fn dead_letters_become(&self, expected: u64) {
        let what = format!("there are {expected} dead letters");
        eventually(&what, BOUND, async || (self.dead_letters().await == expected).then_some(())).await;
    }
}

async fn bodies_round_trip(test: &QueueUnderTest) {
    let wide = "ü".repeat(MAX_MESSAGE_BYTES / 2);
    let full = "x".repeat(MAX_MESSAGE_BYTES);
    let bodies = [
        "x",
        " ",
        r#"{"job": "bkp_1", "text": "a\n\"b\""}"#,
        "line\r\n\tline",
        "日本語 😀 e\u{301}",
        "<a>&amp;</a>",
        "%20+=&",
        &wide,
        &full,
    ];
    for body in bodies {
        test.send(body).await;
        let message = test.take().await;
        assert!(message.body == body, "a message of {} bytes comes as it was sent", body.len());
        assert_eq!(message.deliveries, 1, "the first delivery is counted");
        test.delete(&message).await;
    }
}

async fn what_is_too_much_is_refused(test: &QueueUnderTest) {
    let sent = [
        ("a byte too many", "x".repeat(MAX_MESSAGE_BYTES + 1), Duration::ZERO),
        ("a wide letter too many", "ü".repeat(MAX_MESSAGE_BYTES / 2 + 1), Duration::ZERO),
        ("a second too late", "x".to_owned(), MAX_DELAY + Duration::from_secs(1)),
    ];
    for (what, body, delay) in sent {
        match test.queue.send(&body, delay).await {
            Ok(()) => panic!("{what} was taken"),
            Err(error) => assert_eq!(error.kind, ErrorKind::InvalidArgument, "{what}: {error:?}"),
        }
    }
    test.is_empty_for(Duration::ZERO, "what was refused is not there").await;
}

async fn an_empty_queue_answers_at_once(test: &QueueUnderTest) {
    let begun = Instant::now();
    test.is_empty_for(Duration::ZERO, "the queue is empty").await;
    assert!(begun.elapsed() < Duration::from_secs(5), "who does not wait is answered at once");
    let begun = Instant::now();
    test.is_empty_for(test.unit * 2, "the queue is still empty").await;
    assert!(begun.elapsed() < BOUND, "who waits is answered in the end");
}

async fn a_delay_is_kept(test: &QueueUnderTest) {
    let (delay, begun) = (test.unit * 3, Instant::now());
    test.send_later("later", delay).await;
    test.send("now").await;
    let first = test.take().await;
    assert_eq!(first.body, "now", "what is not delayed does not wait for what is");
    test.delete(&first).await;
    let later = test.take().await;
    assert!(begun.elapsed() + SLACK >= delay, "a delayed message came after {:?}", begun.elapsed());
    assert_eq!((later.body.as_str(), later.deliveries), ("later", 1));
    test.delete(&later).await;
}

async fn what_is_not_deleted_comes_again(test: &QueueUnderTest) {
    let hidden = test.unit * 3;
    test.send("again").await;
    let mut before: Option<(Instant, Message)> = None;
    for delivery in 1..=test.most_deliveries.min(3) {
        let (begun, message) = eventually("it comes again", BOUND, async || {
            let begun = Instant::now();
            test.receive(1, test.unit, hidden).await.pop().map(|message| (begun, message))
        })
        .await;
        assert_eq!((message.body.as_str(), message.deliveries), ("again", delivery));
        if let Some((begun, earlier)) = before.replace((begun, message)) {
            assert!(begun.elapsed() + SLACK >= hidden, "it was to be hidden, and came after {:?}", begun.elapsed());
            assert!(before.as_ref().is_some_and(|(_, message)| message.receipt != earlier.receipt));
        }
    }
    if let Some((_, message)) = before {
        test.delete(&message).await;
    }
    test.is_empty_for(hidden + test.unit, "what was deleted does not come again").await;
}

async fn deleting_twice_is_deleting_once(test: &QueueUnderTest) {
    test.send("deleted").await;
    test.send("kept").await;
    let (first, second) = (test.take().await, test.take().await);
    let (deleted, kept) = if first.body == "deleted" { (first, second) } else { (second, first) };
    assert_eq!((deleted.body.as_str(), kept.body.as_str()), ("deleted", "kept"));
    test.delete(&deleted).await;
    test.delete(&deleted).await;
    test.release(&kept, Duration::ZERO).await;
    let again = test.take().await;
    assert_eq!(again.body, "kept", "only what was deleted is gone");
    test.delete(&again).await;
    test.is_empty_for(test.unit, "both are gone").await;
}

async fn a_released_message_comes_again(test: &QueueUnderTest) {
    test.send("released").await;
    let message = test.take().await;
    test.is_empty_for(test.unit, "a hidden message is hidden").await;
    test.release(&message, Duration::ZERO).await;
    let again = test.take().await;
    assert_eq!((again.body.as_str(), again.deliveries), ("released", 2));
    assert_ne!(again.receipt, message.receipt, "a receipt names a delivery");
    let (delay, begun) = (test.unit * 2, Instant::now());
    test.release(&again, delay).await;
    let last = test.take().await;
    assert!(begun.elapsed() + SLACK >= delay, "it was to come later, and came after {:?}", begun.elapsed());
    assert_eq!((last.body.as_str(), last.deliveries), ("released", 3));
    test.delete(&last).await;
}

async fn no_more_than_asked_for(test: &QueueUnderTest) {
    let all: BTreeSet<String> = (0..25).map(|index| format!("one of many {index}")).collect();
    for body in &all {
        test.send(body).await;
    }
    let mut seen = BTreeSet::new();
    for most in [1, 3, MAX_MESSAGES].into_iter().cycle().take(200) {
        let messages = test.receive(most, test.unit, test.unit * 600).await;
        assert!(messages.len() <= most, "{} messages where {most} were asked for", messages.len());
        for message in messages {
            test.delete(&message).await;
            seen.insert(message.body);
        }
        if seen.len() == all.len() {
            break;
        }
    }
    assert_eq!(seen, all, "each was delivered");
}

async fn consumers_get_all(test: &QueueUnderTest) {
    const CONSUMERS: usize = 6;
    let all: BTreeSet<String> = (0..60).map(|index| format!("shared {index}")).collect();
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let mut tasks = JoinSet::new();
    for _ in 0..CONSUMERS {
        let (test, seen, count) = (test.clone(), Arc::clone(&seen), all.len());
        tasks.spawn(async move { consume(&test, &seen, count).await });
    }
    for body in &all {
        test.send(body).await;
    }
    let received = tasks.join_all().await;
    assert_eq!(*seen.lock().await, all, "what is sent while others receive is delivered");
    assert!(received.iter().filter(|count| **count > 0).count() > 1, "consumers share the work: {received:?}");
}

/// Receives until all consumers together have seen `count` messages; returns how many came here.
async fn consume(test: &QueueUnderTest, seen: &Mutex<BTreeSet<String>>, count: usize) -> usize {
    let (begun, mut received) = (Instant::now(), 0);
    while seen.lock().await.len() < count && begun.elapsed() < BOUND {
        for message in test.receive(2, test.unit, test.unit * 600).await {
            test.delete(&message).await;
            seen.lock().await.insert(message.body);
            received += 1;
        }
    }
    received
}

async fn a_long_poll_ends_when_a_message_arrives(test: &QueueUnderTest) {
    let wait = Duration::from_secs(10);
    let poll = tokio::spawn({
        let test = test.clone();
        async move {
            let begun = Instant::now();
            (test.receive(MAX_MESSAGES, wait, test.unit * 600).await, begun.elapsed())
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    test.send("at last").await;
    let (messages, elapsed) = poll.await.expect("the poll ends");
    assert_eq!(messages.iter().map(|message| message.body.as_str()).collect::<Vec<_>>(), ["at last"]);
    assert!(elapsed < wait / 2, "the poll went on for {elapsed:?} with a message there");
    test.delete(&messages[0]).await;
}

/// Delivers messages as often as the queue does, and sees them go.
async fn wear_out(test: &QueueUnderTest, bodies: &BTreeSet<&str>) {
    for delivery in 1..=test.most_deliveries {
        let mut round = Vec::new();
        for _ in bodies {
            round.push(test.take().await);
        }
        assert_eq!(round.iter().map(|message| message.body.as_str()).collect::<BTreeSet<_>>(), *bodies);
        for message in round {
            assert_eq!(message.deliveries, delivery);
            test.release(&message, Duration::ZERO).await;
        }
    }
    eventually("worn-out messages go to the dead-letter queue", BOUND, async || {
        test.is_empty_for(Duration::ZERO, "a message is not delivered once too often").await;
        (test.dead_letters().await == bodies.len() as u64).then_some(())
    })
    .await;
}

async fn dead_letters_and_redrive(test: &QueueUnderTest) {
    assert_eq!(test.queue.redrive().await.expect("redrive of nothing"), 0);
    test.dead_letters_become(0).await;
    let bodies = BTreeSet::from(["poison", "gift"]);
    for body in &bodies {
        test.send(body).await;
    }
    wear_out(test, &bodies).await;
    test.send("healthy").await;
    let healthy = test.take().await;
    assert_eq!(healthy.body, "healthy", "dead letters are in nobody's way");
    test.delete(&healthy).await;
    assert_eq!(test.queue.redrive().await.expect("redrive"), 2);
    let mut back = BTreeSet::new();
    for _ in 0..2 {
        let message = test.take().await;
        assert!(message.deliveries >= 1);
        test.delete(&message).await;
        back.insert(message.body);
    }
    assert_eq!(back.iter().map(String::as_str).collect::<BTreeSet<_>>(), bodies, "what was redriven is delivered");
    test.dead_letters_become(0).await;
    test.is_empty_for(test.unit, "and nothing else").await;
}
