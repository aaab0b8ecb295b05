//! What the product relies on in the way to live clients, as one suite that every adapter passes.

use std::time::Duration;

use async_trait::async_trait;
use firebackup_model::ErrorKind;
use firebackup_model::port::{MAX_PUSH_BYTES, Push, Pushed};

use crate::eventually::eventually;

const BOUND: Duration = Duration::from_secs(60);

/// A live client's end of its connection.
#[async_trait]
pub trait LiveEnd: Send {
    /// The next message; nothing when the connection has ended.
    async fn next(&mut self) -> Option<String>;

    /// Ends the connection.
    async fn close(self: Box<Self>);
}

/// Opens connections, as live clients do.
#[async_trait]
pub trait OpensConnections: Send + Sync {
    /// One more: by which name it is known, and its other end.
    async fn open(&self) -> (String, Box<dyn LiveEnd>);
}

/// Runs the suite.
///
/// # Panics
/// When the way is not as the product relies on.
pub async fn conforms(push: &dyn Push, connections: &dyn OpensConnections) {
    let (one, mut end) = connections.open().await;
    let (other, mut other_end) = connections.open().await;
    assert_ne!(one, other, "each connection has a name of its own");
    texts_arrive(push, &one, end.as_mut()).await;
    each_hears_its_own_in_order(push, (&one, end.as_mut()), (&other, other_end.as_mut())).await;
    the_largest_arrives_and_a_larger_one_is_refused(push, &one, end.as_mut()).await;
    who_never_came_is_gone(push, &one).await;
    who_has_closed_is_gone_and_the_others_are_not(push, (one, end), (&other, other_end.as_mut())).await;
}

async fn sent(push: &dyn Push, connection: &str, text: &str) {
    match push.push(connection, text).await {
        Ok(Pushed::Sent) => {}
        other => panic!("{} bytes to {connection}: {other:?}", text.len()),
    }
}

async fn hears(end: &mut dyn LiveEnd, text: &str) {
    let heard = tokio::time::timeout(BOUND, end.next()).await.expect("nothing was heard");
    let heard = heard.unwrap_or_else(|| panic!("the connection has ended"));
    assert!(heard == text, "heard {} bytes, not the {} that were sent: {heard:.100}", heard.len(), text.len());
}

async fn texts_arrive(push: &dyn Push, connection: &str, end: &mut dyn LiveEnd) {
    for text in ["{}", "{\"text\":\"ü 😀 \\\"quoted\\\" \\\\ <a>&\\n\"}", " blanks around ", "two\nlines\u{0}"] {
        sent(push, connection, text).await;
        hears(end, text).await;
    }
}

async fn each_hears_its_own_in_order(
    push: &dyn Push,
    (one, end): (&str, &mut dyn LiveEnd),
    (other, other_end): (&str, &mut dyn LiveEnd),
) {
    for number in 0..30 {
        sent(push, one, &format!("one {number}")).await;
        sent(push, other, &format!("other {number}")).await;
    }
    for number in 0..30 {
        hears(end, &format!("one {number}")).await;
        hears(other_end, &format!("other {number}")).await;
    }
}

async fn the_largest_arrives_and_a_larger_one_is_refused(push: &dyn Push, connection: &str, end: &mut dyn LiveEnd) {
    // bytes count, not characters
    let largest = "ü".repeat(MAX_PUSH_BYTES / 2);
    sent(push, connection, &largest).await;
    hears(end, &largest).await;
    match push.push(connection, &format!("{largest}x")).await {
        Ok(pushed) => panic!("more than {MAX_PUSH_BYTES} bytes are {pushed:?}"),
        Err(error) => assert_eq!(error.kind, ErrorKind::InvalidArgument, "{error:?}"),
    }
    sent(push, connection, "next").await;
    hears(end, "next").await;
}

/// A name like one that there is.
async fn who_never_came_is_gone(push: &dyn Push, like: &str) {
    let unknown: String = like.chars().rev().collect();
    assert!(matches!(push.push(&unknown, "{}").await, Ok(Pushed::Gone)), "nobody has come as {unknown}");
}

async fn who_has_closed_is_gone_and_the_others_are_not(
    push: &dyn Push,
    (one, end): (String, Box<dyn LiveEnd>),
    (other, other_end): (&str, &mut dyn LiveEnd),
) {
    end.close().await;
    eventually("a connection that was closed is gone", BOUND, async || {
        let pushed = push.push(&one, "{}").await.unwrap_or_else(|error| panic!("push to who has closed: {error:?}"));
        (pushed == Pushed::Gone).then_some(())
    })
    .await;
    sent(push, other, "still here").await;
    hears(other_end, "still here").await;
}
