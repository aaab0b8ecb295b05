//! What production refuses and the emulator takes.

use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

use firebackup_model::Timestamp;
use gcloud_sdk::google::firestore::v1::run_aggregation_query_request::QueryType;
use gcloud_sdk::google::firestore::v1::{RunAggregationQueryRequest, structured_aggregation_query};
use prost::Message;
use tonic::Status;

use super::batch::Batch;
use super::control::Control;
use crate::method::Method;

/// The most writes a `BatchWrite` or `Commit` may hold.
const MAX_WRITES: usize = 500;
/// The most bytes a request may have.
pub(super) const MAX_REQUEST_BYTES: usize = 10 * 1024 * 1024;
const HOUR_SECONDS: i64 = 60 * 60;

/// Refuses what production would; counts the writes of what passes.
pub(super) fn check(control: &Control, method: Method, request: &[u8]) -> Result<(), Status> {
    if let Some(read_time) = method.read_time(request) {
        check_read_time(read_time, now(), control.oldest_read_time())?;
    }
    if let (Method::RunAggregationQuery, Some(code)) = (method, control.kindless_counts())
        && is_kindless(request)
    {
        return Err(Status::new(code, "an aggregation over all collections is refused on demand"));
    }
    if !matches!(method, Method::BatchWrite | Method::Commit) {
        return Ok(());
    }
    let batch = Batch::read(request)?;
    match broken_limit(method, &batch, request.len()) {
        Some(message) => {
            control.count_violation(&message);
            Err(Status::invalid_argument(message))
        }
        None => {
            control.count_writes(batch.paths().count(), request.len());
            Ok(())
        }
    }
}

/// Whether an aggregation is over all collections.
fn is_kindless(request: &[u8]) -> bool {
    let query = RunAggregationQueryRequest::decode(request).ok().and_then(|request| request.query_type);
    let Some(QueryType::StructuredAggregationQuery(aggregation)) = query else { return false };
    let Some(structured_aggregation_query::QueryType::StructuredQuery(query)) = aggregation.query_type else {
        return false;
    };
    query.from.iter().all(|from| from.collection_id.is_empty())
}

fn broken_limit(method: Method, batch: &Batch<'_>, bytes: usize) -> Option<String> {
    let writes = batch.paths().count();
    if writes > MAX_WRITES {
        return Some(format!("maximum {MAX_WRITES} writes allowed per request, got {writes}"));
    }
    if bytes > MAX_REQUEST_BYTES {
        return Some(format!("request payload size exceeds the limit: {MAX_REQUEST_BYTES} bytes, got {bytes}"));
    }
    let mut seen = HashSet::with_capacity(writes);
    if method == Method::BatchWrite && !batch.paths().all(|path| seen.insert(path)) {
        return Some("cannot write to the same document twice in one BatchWrite".to_owned());
    }
    None
}

fn check_read_time(read_time: Timestamp, now: Timestamp, oldest: Option<Timestamp>) -> Result<(), Status> {
    let hour_ago = now.plus_seconds(-HOUR_SECONDS);
    let is_whole_minute = read_time.nanos == 0 && read_time.seconds % 60 == 0;
    let is_too_old = read_time < oldest.unwrap_or(hour_ago) || read_time < hour_ago && !is_whole_minute;
    if is_too_old { Err(Status::failed_precondition("The requested 'read_time' is too old.")) } else { Ok(()) }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::new(since.as_secs().cast_signed(), since.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_times_age() {
        let now = Timestamp::new(1_700_000_000, 0);
        let ago = |seconds: i64| Timestamp::new(now.seconds - seconds, 0);
        let is_taken = |time, oldest| check_read_time(time, now, oldest).is_ok();
        assert!(is_taken(ago(3600), None));
        assert!(!is_taken(ago(3601), None));
        // a configured bound replaces the hour, in both directions
        assert!(!is_taken(ago(20), Some(ago(10))));
        // 1,700,000,000 is 20 seconds into a minute
        assert!(is_taken(ago(7220), Some(ago(86_400))));
        assert!(!is_taken(ago(7221), Some(ago(86_400))));
        assert!(!is_taken(ago(90_020), Some(ago(86_400))));
    }
}
