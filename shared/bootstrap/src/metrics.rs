//! Metrics as CloudWatch reads them out of a log: a line of JSON each (the embedded metric format).

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use firebackup_control::JobStatus;
use firebackup_model::id::{JobId, JobKind};
use serde_json::{Value, json};

const NAMESPACE: &str = "FireBackup";

static STACK: OnceLock<String> = OnceLock::new();

/// Begins to write metrics to standard output, for a stack of this name. Without, none are written.
pub fn start(stack: &str) {
    // the first one stays: it is the same process
    drop(STACK.set(stack.to_owned()));
}

/// Counts a job that has ended.
pub(crate) fn job_ended(job: &JobId, status: JobStatus) {
    let kind = match job.kind() {
        JobKind::Backup => "backup",
        JobKind::Restore => "restore",
        JobKind::Prune => "prune",
    };
    let name = match status {
        JobStatus::Completed => "JobsCompleted",
        JobStatus::Failed => "JobsFailed",
        JobStatus::Cancelled => "JobsCancelled",
        _ => return,
    };
    write(name, 1, Some(kind));
}

/// Counts due times of schedules that were not served.
pub(crate) fn schedules_missed(count: u64) {
    write("SchedulesMissed", count, None);
}

fn write(name: &str, count: u64, kind: Option<&str>) {
    let Some(stack) = STACK.get() else { return };
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    println!("{}", line(stack, name, count, kind, millis));
}

fn line(stack: &str, name: &str, count: u64, kind: Option<&str>, millis: u64) -> Value {
    let mut dimensions = vec![json!(["Stack"])];
    if kind.is_some() {
        dimensions.push(json!(["Stack", "Kind"]));
    }
    let mut line = json!({
        "_aws": {
            "Timestamp": millis,
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": dimensions,
                "Metrics": [{ "Name": name, "Unit": "Count" }],
            }],
        },
        "Stack": stack,
    });
    line[name] = count.into();
    if let Some(kind) = kind {
        line["Kind"] = kind.into();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_what_it_counts_and_for_whom() {
        let line = line("prod", "JobsFailed", 1, Some("backup"), 1_700_000_000_000);
        let metrics = json!([{
            "Namespace": "FireBackup",
            "Dimensions": [["Stack"], ["Stack", "Kind"]],
            "Metrics": [{ "Name": "JobsFailed", "Unit": "Count" }],
        }]);
        let told = json!({ "Timestamp": 1_700_000_000_000_u64, "CloudWatchMetrics": metrics });
        assert_eq!(line, json!({ "_aws": told, "Stack": "prod", "Kind": "backup", "JobsFailed": 1 }));
        assert!(!line.to_string().contains('\n'), "a metric is one line of the log");
    }
}
