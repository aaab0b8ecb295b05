//! Captures of the stack: a tick of the scheduler is a message to each database that is due, and a message is a window. Events that
//! were posted have messages beside these: whoever takes the first one sends one, and each tick one where any wait.
//!
//! Messages only save time. Who captures is decided by the claim of a window, and a chain cannot fork; a batch of events is the same
//! one until it is folded, and then gone. So a message may come twice, late or never, and what was forgotten is due at the next tick.

use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::event::sqs::SqsMessage;
use firebackup_control::{Control, DueCapture, DueWindow, FoldMessage};
use firebackup_model::PortError;
use firebackup_model::port::{JobQueue, StepError, StepErrorKind, Turn};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use tokio::time::Instant;

use crate::failure::{of_control, of_port, unreadable};
use crate::steps::{AppSteps, FOLD_LIMIT, WatchGuard, WindowOutcome};

/// How many databases a tick asks for at most: those that wait longest.
const MOST: u32 = 1000;
/// Of how many databases a tick asks at most for events to be folded: those that wait longest.
const MOST_WAITING: u32 = 200;
/// How many messages are sent at one time.
const AT_ONCE: usize = 16;
/// After how long a message comes again whose holder says nothing more. The queue itself would wait for hours, and with it all
/// of the message's group.
const HIDDEN: Duration = Duration::from_secs(60);
/// After how long what is no message comes again: it is a dead letter the sooner, and whoever moves dead letters back is done
/// before it is one again.
const PAUSE: Duration = Duration::from_secs(5);
/// How often its holder says so.
const HOLD: Duration = Duration::from_secs(20);
/// How long is waited for events that come with the one that was first: one write of a program is several.
const GATHER: Duration = Duration::from_secs(2);

/// What the queue brings.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum PitrMessage {
    /// A database whose changes are to be captured.
    Capture(DueCapture),
    /// A database of which events wait.
    Fold(FoldMessage),
    /// It is time to look what is due.
    Tick {
        /// When it was sent: two alike would be one to a queue that takes the same once.
        #[allow(dead_code, reason = "it makes the message another one than the last")]
        tick: String,
    },
}

/// Does what the queue of captures brings.
pub struct Ingest {
    steps: AppSteps,
    queue: Arc<dyn JobQueue>,
    time: Duration,
}

impl Ingest {
    /// Captures with these steps, for so long at most.
    #[must_use]
    pub fn new(steps: AppSteps, queue: Arc<dyn JobQueue>, time: Duration) -> Self {
        Self { steps, queue, time }
    }

    /// Does what a message asks for.
    ///
    /// # Errors
    /// Retryable when a service failed: the message is to come again. Fatal when it is no message of ours: after some tries it
    /// lies in the dead-letter queue. What goes wrong with a database or its destination is noted, and no error.
    pub async fn message(&self, message: &SqsMessage) -> Result<(), StepError> {
        let held = hold(&self.queue, message.receipt_handle.clone()).await;
        let done = self.work(message).await;
        drop(held);
        if let (Err(error), Some(receipt)) = (&done, &message.receipt_handle)
            && error.kind == StepErrorKind::Fatal
        {
            told(self.queue.release(receipt, PAUSE).await);
        }
        done
    }

    async fn work(&self, message: &SqsMessage) -> Result<(), StepError> {
        match serde_json::from_str(message.body.as_deref().unwrap_or_default()).map_err(unreadable)? {
            PitrMessage::Tick { .. } => {
                let Sent { captures, folds } = send_due(&self.steps.control, self.queue.as_ref()).await?;
                tracing::info!(due = captures, folds, "databases are to be captured");
            }
            PitrMessage::Fold(FoldMessage { fold }) => self.fold(fold).await,
            PitrMessage::Capture(due) => self.capture(due).await?,
        }
        Ok(())
    }

    async fn capture(&self, due: DueCapture) -> Result<(), StepError> {
        let project = due.project;
        let done = self.steps.capture_within(due, self.time).await?;
        match done.outcome {
            WindowOutcome::NotDue => tracing::debug!(project = %project, "a window is not due any more"),
            outcome => tracing::info!(project = %project, outcome = ?outcome, "a window was due"),
        }
        Ok(())
    }
}

impl Ingest {
    /// Folds batch after batch until none is left of what waited when it was begun, or time is nearly up. What came since is the
    /// next tick's: a database that changes all the time has a batch a minute, and not a function that never ends.
    async fn fold(&self, of: DueCapture) {
        let begun = Instant::now();
        tokio::time::sleep(GATHER.min(self.time)).await;
        loop {
            match self.steps.fold_events(&of).await {
                Ok(Some(done)) => {
                    tracing::info!(project = %of.project, events = done.events, "events were folded");
                    if !done.has_more || begun.elapsed() + FOLD_LIMIT > self.time {
                        return;
                    }
                }
                // none is left, or there is no repository yet, or its destination is about to be moved
                Ok(None) => return,
                Err(error) => {
                    // what cannot be folded now is asked for again, and no reason to call somebody
                    tracing::warn!(project = %of.project, error = %error, "events could not be folded: they wait");
                    return;
                }
            }
        }
    }
}

/// Has a message come again soon, unless it is said again and again that it should not yet.
async fn hold(queue: &Arc<dyn JobQueue>, receipt: Option<String>) -> Option<WatchGuard> {
    let (receipt, queue) = (receipt?, Arc::clone(queue));
    told(queue.release(&receipt, HIDDEN).await);
    Some(WatchGuard(tokio::spawn(async move {
        loop {
            tokio::time::sleep(HOLD).await;
            told(queue.release(&receipt, HIDDEN).await);
        }
    })))
}

/// A message that cannot be held comes late, or once too often: no reason not to do what it asks for.
fn told(held: Result<(), PortError>) {
    if let Err(error) = held {
        tracing::warn!(error = %error, "a message could not be held");
    }
}

/// How many messages were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    /// For captures.
    pub(crate) captures: u64,
    /// For events.
    pub(crate) folds: u64,
}

/// Sends a message for each database that is due, and for each of which events wait; says how many. Sent again they are not taken
/// again, unless they were held up for minutes.
///
/// # Errors
/// When the store or the queue fails.
pub(crate) async fn send_due(control: &Control, queue: &dyn JobQueue) -> Result<Sent, StepError> {
    let due = control.due_windows(MOST).await.map_err(of_control)?;
    send_all(control, queue, due).await
}

/// The same for whoever knows which windows are due.
///
/// # Errors
/// As [`send_due`].
pub(crate) async fn send_all(control: &Control, queue: &dyn JobQueue, due: Vec<DueWindow>) -> Result<Sent, StepError> {
    let due = due.into_iter().take(MOST as usize);
    let captures = due.len() as u64;
    let sending = stream::iter(due).map(|window| send(queue, window)).buffer_unordered(AT_ONCE);
    sending.try_collect::<()>().await?;
    let folds = control.ask_for_folds(queue, MOST_WAITING).await.map_err(of_control)?;
    Ok(Sent { captures, folds })
}

async fn send(queue: &dyn JobQueue, window: DueWindow) -> Result<(), StepError> {
    let body = serde_json::to_string(&window.capture).map_err(unwritable)?;
    let (group, id) = (window.capture.project.to_string(), window.id());
    queue.send_in_turn(&body, Turn { group: &group, id: &id }).await.map_err(of_port)
}

fn unwritable(error: serde_json::Error) -> StepError {
    StepError::new(StepErrorKind::Fatal, format!("a message cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use firebackup_testkit::memory_ports::MemoryQueue;

    use super::*;

    fn read(text: &str) -> Option<PitrMessage> {
        serde_json::from_str(text).ok()
    }

    #[test]
    fn a_message_is_a_tick_or_a_database() {
        let tick = PitrMessage::Tick { tick: "2026-03-10T02:00:00Z".to_owned() };
        assert_eq!(read(r#"{"tick":"2026-03-10T02:00:00Z"}"#), Some(tick));
        let ids = r#""organization":"org_01JZ0000000000000000000000","project":"proj_01JZ0000000000000000000001""#;
        let capture = read(&format!(r#"{{{ids},"database":"(default)"}}"#));
        assert!(matches!(capture, Some(PitrMessage::Capture(due)) if due.database == "(default)"));
        let fold = read(&format!(r#"{{"fold":{{{ids},"database":"(default)"}}}}"#));
        assert!(matches!(fold, Some(PitrMessage::Fold(message)) if message.fold.database == "(default)"));
        for poison in ["", "no json", "{}", &format!("{{{ids}}}"), r#"{"job":"bkp_01JZ0000000000000000000003"}"#] {
            assert_eq!(read(poison), None, "{poison}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_hidden_while_it_is_held_and_a_minute_more_and_not_for_hours() {
        let queue: Arc<dyn JobQueue> = Arc::new(MemoryQueue::default());
        queue.send("a window", Duration::ZERO).await.unwrap();
        let taken = queue.receive(1, Duration::ZERO, Duration::from_secs(5400)).await.unwrap().remove(0);
        let held = hold(&queue, Some(taken.receipt)).await;
        let seen = async |seconds| {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            queue.receive(1, Duration::ZERO, HIDDEN).await.unwrap().len()
        };
        assert_eq!(seen(600).await, 0);
        drop(held);
        assert_eq!((seen(30).await, seen(31).await), (0, 1));
    }
}
