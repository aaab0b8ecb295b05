//! Events on a bus of EventBridge.

use async_trait::async_trait;
use aws_sdk_eventbridge::primitives::DateTime;
use aws_sdk_eventbridge::types::{PutEventsRequestEntry, PutEventsResultEntry};
use firebackup_model::port::{DomainEvent, EventBus};
use firebackup_model::{ErrorKind, PortError};

use crate::config::AwsClients;
use crate::error::{kind_of_code, port_error};

const PUBLISH: &str = "publish events";
/// What rules match as `source`.
const SOURCE: &str = "firebackup";
/// The same of what is for live clients alone.
const LIVE_SOURCE: &str = "firebackup.live";
/// The most events one request may hold.
const MAX_EVENTS: usize = 10;
/// The most bytes one request may hold.
const MAX_BYTES: usize = 256 * 1024;
/// EventBridge counts 14 bytes for the time of an event.
const TIME_BYTES: usize = 14;

/// A bus. An event's `detail` is the whole event as JSON, its `detail-type` the event's type, its `source`
/// `firebackup`, or `firebackup.live` of what is for live clients alone.
#[derive(Debug, Clone)]
pub struct EventBridgeBus {
    client: aws_sdk_eventbridge::Client,
    bus: String,
}

impl EventBridgeBus {
    /// The bus of this name or ARN.
    #[must_use]
    pub fn new(clients: &AwsClients, bus: impl Into<String>) -> Self {
        Self { client: clients.eventbridge(), bus: bus.into() }
    }

    fn entry(&self, source: &str, event: &DomainEvent) -> Result<Entry, PortError> {
        let detail = serde_json::to_string(event)
            .map_err(|error| PortError::new(ErrorKind::Internal, PUBLISH, "").with_source(error))?;
        let bytes = TIME_BYTES + source.len() + event.kind.len() + detail.len();
        let time = DateTime::from_secs_and_nanos(event.timestamp.seconds, event.timestamp.nanos);
        let request = PutEventsRequestEntry::builder().event_bus_name(&self.bus).source(source).time(time);
        Ok(Entry { bytes, request: request.detail_type(&event.kind).detail(detail).build() })
    }

    async fn publish_as(&self, source: &str, events: &[DomainEvent]) -> Result<(), PortError> {
        let entries = events.iter().map(|event| self.entry(source, event)).collect::<Result<Vec<_>, _>>()?;
        let (entries, too_large) = fitting(entries);
        let mut codes = Vec::new();
        for batch in batches(entries) {
            codes.extend(self.send(batch).await?);
        }
        not_taken(&codes, too_large, events.len())
    }

    /// Sends one request; why each event that was not taken was not.
    async fn send(&self, entries: Vec<PutEventsRequestEntry>) -> Result<Vec<String>, PortError> {
        let request = self.client.put_events().set_entries(Some(entries));
        let answer = request.send().await.map_err(|error| port_error(PUBLISH, error))?;
        Ok(refusals(answer.failed_entry_count, answer.entries.as_deref().unwrap_or_default()))
    }
}

/// An event to be sent, and what EventBridge counts for it.
struct Entry {
    bytes: usize,
    request: PutEventsRequestEntry,
}

/// The entries that a request can hold, and how many are too large for any.
fn fitting(entries: Vec<Entry>) -> (Vec<Entry>, usize) {
    let all = entries.len();
    let fitting: Vec<_> = entries.into_iter().filter(|entry| entry.bytes <= MAX_BYTES).collect();
    let too_large = all - fitting.len();
    (fitting, too_large)
}

/// Cuts entries into requests, in order.
fn batches(entries: Vec<Entry>) -> Vec<Vec<PutEventsRequestEntry>> {
    let mut batches: Vec<Vec<PutEventsRequestEntry>> = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        match batches.last_mut() {
            Some(last) if last.len() < MAX_EVENTS && bytes + entry.bytes <= MAX_BYTES => {
                last.push(entry.request);
                bytes += entry.bytes;
            }
            _ => {
                batches.push(vec![entry.request]);
                bytes = entry.bytes;
            }
        }
    }
    batches
}

/// The codes of the entries that failed: as many as the service counts, though it gave a code to fewer.
fn refusals(failed: i32, entries: &[PutEventsResultEntry]) -> Vec<String> {
    let mut codes: Vec<String> = entries.iter().filter_map(|entry| entry.error_code.clone()).collect();
    let failed = usize::try_from(failed).unwrap_or_default();
    if codes.len() < failed {
        codes.resize(failed, "InternalFailure".to_owned());
    }
    codes
}

/// What a service did not take is told before what cannot be taken: sending all again may still bring that one.
fn not_taken(codes: &[String], too_large: usize, all: usize) -> Result<(), PortError> {
    let Some(code) = codes.first() else { return all_fit(too_large, all) };
    let message = format!("{} of {all} were not taken ({code})", codes.len());
    Err(PortError::new(kind_of_code(code), PUBLISH, message))
}

fn all_fit(too_large: usize, all: usize) -> Result<(), PortError> {
    let message = format!("{too_large} of {all} are larger than 256 KiB");
    if too_large == 0 { Ok(()) } else { Err(PortError::new(ErrorKind::InvalidArgument, PUBLISH, message)) }
}

#[async_trait]
impl EventBus for EventBridgeBus {
    async fn publish(&self, events: &[DomainEvent]) -> Result<(), PortError> {
        self.publish_as(SOURCE, events).await
    }

    async fn publish_live(&self, event: &DomainEvent) -> Result<(), PortError> {
        self.publish_as(LIVE_SOURCE, std::slice::from_ref(event)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(sizes: &[usize]) -> Vec<Entry> {
        sizes.iter().map(|bytes| Entry { bytes: *bytes, request: PutEventsRequestEntry::builder().build() }).collect()
    }

    #[test]
    fn requests_keep_to_both_limits() {
        for (sizes, counts) in [
            (&[][..], &[][..]),
            (&[1; 10], &[10]),
            (&[1; 23], &[10, 10, 3]),
            (&[MAX_BYTES, 1, MAX_BYTES - 1, 1], &[1, 2, 1]),
            (&[MAX_BYTES / 2; 5], &[2, 2, 1]),
        ] {
            let found: Vec<_> = batches(entries(sizes)).iter().map(Vec::len).collect();
            assert_eq!(found, counts, "{} entries", sizes.len());
        }
    }

    #[test]
    fn what_was_not_taken_is_told() {
        let entry = |code: Option<&str>| PutEventsResultEntry::builder().set_error_code(code.map(Into::into)).build();
        let codes = refusals(1, &[entry(None), entry(Some("ThrottlingException"))]);
        let error = not_taken(&codes, 0, 2).unwrap_err();
        assert_eq!(error.kind, ErrorKind::ResourceExhausted);
        assert_eq!(error.to_string(), "could not publish events: 1 of 2 were not taken (ThrottlingException)");
        let error = not_taken(&refusals(2, &[]), 1, 3).unwrap_err();
        assert_eq!((error.kind, error.can_be_retried()), (ErrorKind::Internal, true));
        assert!(not_taken(&refusals(0, &[entry(None)]), 0, 1).is_ok());
        assert_eq!(not_taken(&[], 1, 3).unwrap_err().kind, ErrorKind::InvalidArgument);
    }
}
