//! Metrics as CloudWatch reads them out of a log: a line of JSON each (the embedded metric format).
//!
//! CloudWatch is paid for by the metric, and each value of a dimension is another one: so the stack is the only dimension,
//! and for the oldest names the kind of job. What else is known stands in the line, where Logs Insights finds it.

use std::time::{SystemTime, UNIX_EPOCH};

use firebackup_control::{Job, JobStatus, QueuedJobs};
use firebackup_http::{Answered, Observer};
use serde_json::{Map, Value, json};

use crate::metrics::{Metrics, bytes_of, seconds_of};

const NAMESPACE: &str = "FireBackup";
const COUNT: &str = "Count";
const SECONDS: &str = "Seconds";
const BYTES: &str = "Bytes";

/// Writes metrics to standard output, for a stack of this name; without one, none.
pub(crate) struct Emf(Option<String>);

/// A metric: its name, its unit and its value.
type Counted = (String, &'static str, Value);

/// What a line says.
#[derive(Default)]
struct Line {
    /// What is counted by stack.
    by_stack: Vec<Counted>,
    /// What is counted by stack, and by stack and `Kind`.
    by_kind: Vec<Counted>,
    /// What else it says.
    said: Vec<(&'static str, Value)>,
}

impl Emf {
    pub(crate) fn new(stack: Option<&str>) -> Self {
        Self(stack.map(str::to_owned))
    }

    fn write(&self, line: Line) {
        let Some(stack) = &self.0 else { return };
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        println!("{}", line.json(stack, millis));
    }
}

impl Observer for Emf {
    fn answered(&self, answered: &Answered<'_>) {
        self.write(of_answer(answered));
    }
}

impl Metrics for Emf {
    fn job_ended(&self, job: &Job) {
        if let Some(line) = of_job(job) {
            self.write(line);
        }
    }

    fn schedules_missed(&self, count: u64) {
        let by_stack = vec![counted("SchedulesMissed", COUNT, count), counted("schedules_missed_total", COUNT, count)];
        self.write(Line { by_stack, ..Line::default() });
    }

    fn drill_ended(&self, has_passed: bool) {
        self.write(of_drill(has_passed));
    }

    fn captures_degraded(&self, count: u64) {
        if let Some(line) = of_captures(count) {
            self.write(line);
        }
    }

    fn jobs_queued(&self, queued: QueuedJobs) {
        self.write(of_queue(queued));
    }
}

fn counted(name: impl Into<String>, unit: &'static str, value: impl Into<Value>) -> Counted {
    (name.into(), unit, value.into())
}

fn of_answer(answered: &Answered<'_>) -> Line {
    let said = vec![
        ("Method", answered.method.into()),
        ("Route", answered.route.into()),
        ("Status", answered.status_class().into()),
    ];
    let by_stack = vec![counted("api_request_duration_seconds", SECONDS, answered.took.as_secs_f64())];
    Line { by_stack, said, ..Line::default() }
}

fn of_queue(queued: QueuedJobs) -> Line {
    let by_stack =
        vec![counted("queue_jobs_waiting", COUNT, queued.waiting), counted("queue_jobs_active", COUNT, queued.active)];
    Line { by_stack, ..Line::default() }
}

fn of_drill(has_passed: bool) -> Line {
    let name = if has_passed { "drill_success_total" } else { "drill_failure_total" };
    Line { by_stack: vec![counted(name, COUNT, 1)], ..Line::default() }
}

/// Nothing where all are well: then nobody pays for the metric, and no alarm waits for it.
fn of_captures(degraded: u64) -> Option<Line> {
    let by_stack = vec![counted("captures_degraded", COUNT, degraded)];
    (degraded > 0).then(|| Line { by_stack, ..Line::default() })
}

/// Nothing of a job whose end was counted long ago.
fn of_job(job: &Job) -> Option<Line> {
    let kind = job.noun();
    let (name, by_stack) = match job.status() {
        JobStatus::Completed => ("JobsCompleted", of_success(job)),
        JobStatus::Failed => ("JobsFailed", vec![counted(format!("{kind}_failure_total"), COUNT, 1)]),
        JobStatus::Cancelled => ("JobsCancelled", Vec::new()),
        _ => return None,
    };
    Some(Line { by_stack, by_kind: vec![counted(name, COUNT, 1)], said: vec![("Kind", kind.into())] })
}

fn of_success(job: &Job) -> Vec<Counted> {
    let kind = job.noun();
    let mut all = vec![counted(format!("{kind}_success_total"), COUNT, 1)];
    all.extend(seconds_of(job).map(|seconds| counted(format!("{kind}_duration_seconds"), SECONDS, seconds)));
    all.extend(bytes_of(job).map(|bytes| counted("backup_size_bytes", BYTES, bytes)));
    all
}

impl Line {
    fn json(self, stack: &str, millis: u64) -> Value {
        let groups = [(&self.by_stack, json!([["Stack"]])), (&self.by_kind, json!([["Stack"], ["Stack", "Kind"]]))];
        let groups: Vec<_> = groups
            .into_iter()
            .filter(|(counted, _)| !counted.is_empty())
            .map(|(counted, dimensions)| directive(counted, &dimensions))
            .collect();
        let mut line = Map::new();
        line.insert("_aws".to_owned(), json!({ "Timestamp": millis, "CloudWatchMetrics": groups }));
        line.insert("Stack".to_owned(), stack.into());
        line.extend(self.said.into_iter().map(|(name, value)| (name.to_owned(), value)));
        line.extend(self.by_stack.into_iter().chain(self.by_kind).map(|(name, _, value)| (name, value)));
        line.into()
    }
}

fn directive(counted: &[Counted], dimensions: &Value) -> Value {
    let metrics: Vec<_> = counted.iter().map(|(name, unit, _)| json!({ "Name": name, "Unit": unit })).collect();
    json!({ "Namespace": NAMESPACE, "Dimensions": dimensions, "Metrics": metrics })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::samples::{backup, restore};

    /// What a line counts, without when and for which stack.
    fn values(line: Line) -> Value {
        let mut line = line.json("prod", 0);
        let fields = line.as_object_mut().unwrap();
        assert_eq!((fields.remove("_aws").is_some(), fields.remove("Stack")), (true, Some("prod".into())));
        line
    }

    #[test]
    fn a_line_names_what_it_counts_and_for_whom() {
        let line = of_job(&backup(JobStatus::Failed)).unwrap().json("prod", 1_700_000_000_000);
        let group = |name: &str, dimensions: Value| {
            json!({
                "Namespace": "FireBackup",
                "Dimensions": dimensions,
                "Metrics": [{ "Name": name, "Unit": "Count" }],
            })
        };
        let metrics = json!([
            group("backup_failure_total", json!([["Stack"]])),
            group("JobsFailed", json!([["Stack"], ["Stack", "Kind"]])),
        ]);
        let told = json!({ "Timestamp": 1_700_000_000_000_u64, "CloudWatchMetrics": metrics });
        let expect = json!({
            "_aws": told, "Stack": "prod", "Kind": "backup", "JobsFailed": 1, "backup_failure_total": 1,
        });
        assert_eq!(line, expect);
        assert!(!line.to_string().contains('\n'), "a metric is one line of the log");
    }

    #[test]
    fn a_job_is_counted_by_how_it_ended() {
        let completed = json!({
            "Kind": "backup", "JobsCompleted": 1, "backup_success_total": 1, "backup_duration_seconds": 90.5,
            "backup_size_bytes": 4096,
        });
        assert_eq!(values(of_job(&backup(JobStatus::Completed)).unwrap()), completed);
        let restored = json!({
            "Kind": "restore", "JobsCompleted": 1, "restore_success_total": 1, "restore_duration_seconds": 90.5,
        });
        assert_eq!(values(of_job(&restore(JobStatus::Completed)).unwrap()), restored);
        let cancelled = json!({ "Kind": "restore", "JobsCancelled": 1 });
        assert_eq!(values(of_job(&restore(JobStatus::Cancelled)).unwrap()), cancelled);
        assert!(of_job(&backup(JobStatus::Deleting)).is_none(), "it was counted when it ended");
    }

    #[test]
    fn an_answer_says_its_route_and_is_one_metric() {
        let answered = Answered { method: "GET", route: "/health", status: 503, took: Duration::from_millis(250) };
        let line = of_answer(&answered).json("prod", 0);
        assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["Stack"]]));
        let expect =
            json!({ "Method": "GET", "Route": "/health", "Status": "5xx", "api_request_duration_seconds": 0.25 });
        assert_eq!(values(of_answer(&answered)), expect);
        assert_eq!(values(of_drill(true)), json!({ "drill_success_total": 1 }));
        assert_eq!(values(of_drill(false)), json!({ "drill_failure_total": 1 }));
        assert_eq!(values(of_captures(2).unwrap()), json!({ "captures_degraded": 2 }));
        assert!(of_captures(0).is_none(), "an idle stack pays for no metric");
        let queued = json!({ "queue_jobs_waiting": 3, "queue_jobs_active": 2 });
        assert_eq!(values(of_queue(QueuedJobs { waiting: 3, active: 2 })), queued);
    }
}
