//! Metrics as Prometheus asks for them: counted in memory from the start of the process on.

use std::sync::atomic::AtomicU64;

use firebackup_control::{Job, JobStatus, QueuedJobs};
use firebackup_http::{Answered, Observer};
use prometheus_client::encoding::prometheus_text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use crate::metrics::{Metrics, bytes_of, seconds_of};

/// From an answer out of memory to one that waits for a bucket.
const REQUEST_SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// From a second to the half day after which a backup may not commit.
const JOB_SECONDS: [f64; 11] = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 43_200.0];
const KIB: f64 = 1024.0;
/// From 64 KiB to 4 TiB.
const SIZE_BYTES: [f64; 8] = [
    64.0 * KIB,
    KIB * KIB,
    16.0 * KIB * KIB,
    256.0 * KIB * KIB,
    4.0 * KIB * KIB * KIB,
    64.0 * KIB * KIB * KIB,
    KIB * KIB * KIB * KIB,
    4.0 * KIB * KIB * KIB * KIB,
];

/// Values of a label, few of them: method, route and class of status; or what ended a job.
type RequestLabels = [(&'static str, String); 3];
type KindLabel = [(&'static str, &'static str); 1];
type OfRequests = Family<RequestLabels, Histogram, fn() -> Histogram>;

/// All that is counted.
pub(crate) struct Prometheus {
    registry: Registry,
    backup_seconds: Histogram,
    backup_bytes: Histogram,
    backup_success: Counter,
    backup_failure: Counter,
    restore_seconds: Histogram,
    restore_success: Counter,
    restore_failure: Counter,
    drill_success: Counter,
    drill_failure: Counter,
    cancelled: Family<KindLabel, Counter>,
    waiting: Gauge<f64, AtomicU64>,
    active: Gauge<f64, AtomicU64>,
    captures_degraded: Gauge<f64, AtomicU64>,
    requests: OfRequests,
}

impl Prometheus {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let all = &mut registry;
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        all.register("firebackup_build", "The version that runs", version);
        let of_requests: OfRequests = Family::new_with_constructor(|| Histogram::new(REQUEST_SECONDS));
        // a clone is the same metric
        all.register("api_request_duration_seconds", "How long answers took", of_requests.clone());
        Self {
            backup_seconds: registered(all, "backup_duration_seconds", "How long completed backups ran", job_seconds()),
            backup_bytes: registered(
                all,
                "backup_size_bytes",
                "Bytes of the documents of completed backups",
                Histogram::new(SIZE_BYTES),
            ),
            backup_success: registered(all, "backup_success", "Backups that were completed", Counter::default()),
            backup_failure: registered(all, "backup_failure", "Backups that failed", Counter::default()),
            restore_seconds: registered(
                all,
                "restore_duration_seconds",
                "How long completed restores and dry runs ran",
                job_seconds(),
            ),
            restore_success: registered(
                all,
                "restore_success",
                "Restores and dry runs that were completed",
                Counter::default(),
            ),
            restore_failure: registered(all, "restore_failure", "Restores that failed", Counter::default()),
            drill_success: registered(all, "drill_success", "Drills that passed", Counter::default()),
            drill_failure: registered(
                all,
                "drill_failure",
                "Drills that did not pass, or could not be run",
                Counter::default(),
            ),
            cancelled: registered(all, "jobs_cancelled", "Jobs that ran and ended on request", Family::default()),
            waiting: registered(all, "queue_jobs_waiting", "Jobs that wait for their turn", unknown()),
            active: registered(all, "queue_jobs_active", "Jobs that run", unknown()),
            captures_degraded: registered(
                all,
                "captures_degraded",
                "Captures that are degraded or in error",
                unknown(),
            ),
            requests: of_requests,
            registry,
        }
    }

    /// All of it, as Prometheus reads it.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            // a string takes what it is given; half a text would be read as a whole one
            tracing::warn!(error = %error, "metrics could not be written");
            text.clear();
        }
        text
    }

    /// Says that nobody knows how many jobs there are.
    pub(crate) fn forget_queue(&self) {
        self.waiting.set(f64::NAN);
        self.active.set(f64::NAN);
    }

    fn completed(&self, job: &Job) {
        let (success, seconds) = match job {
            Job::Backup(_) => (&self.backup_success, &self.backup_seconds),
            Job::Restore(_) => (&self.restore_success, &self.restore_seconds),
        };
        success.inc();
        if let Some(took) = seconds_of(job) {
            seconds.observe(took);
        }
        if let Some(bytes) = bytes_of(job) {
            self.backup_bytes.observe(bytes as f64);
        }
    }
}

/// Registers a metric; a clone is the same metric.
fn registered<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

fn job_seconds() -> Histogram {
    Histogram::new(JOB_SECONDS)
}

/// A number that nobody has looked for yet.
fn unknown() -> Gauge<f64, AtomicU64> {
    let gauge = Gauge::default();
    gauge.set(f64::NAN);
    gauge
}

impl Observer for Prometheus {
    fn answered(&self, answered: &Answered<'_>) {
        let labels = [
            ("method", answered.method.to_owned()),
            ("route", answered.route.to_owned()),
            ("status", answered.status_class().to_owned()),
        ];
        self.requests.get_or_create(&labels).observe(answered.took.as_secs_f64());
    }
}

impl Metrics for Prometheus {
    fn job_ended(&self, job: &Job) {
        match (job.status(), job) {
            (JobStatus::Completed, _) => self.completed(job),
            (JobStatus::Failed, Job::Backup(_)) => drop(self.backup_failure.inc()),
            (JobStatus::Failed, Job::Restore(_)) => drop(self.restore_failure.inc()),
            (JobStatus::Cancelled, _) => drop(self.cancelled.get_or_create(&[("kind", job.noun())]).inc()),
            _ => {}
        }
    }

    /// The scheduler of one machine serves late what it could not serve in time.
    fn schedules_missed(&self, _: u64) {}

    fn drill_ended(&self, has_passed: bool) {
        if has_passed {
            self.drill_success.inc()
        } else {
            self.drill_failure.inc()
        };
    }

    fn captures_degraded(&self, count: u64) {
        self.captures_degraded.set(count as f64);
    }

    fn jobs_queued(&self, queued: QueuedJobs) {
        self.waiting.set(queued.waiting as f64);
        self.active.set(queued.active as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::samples::{backup, restore};

    fn assert_says(metrics: &Prometheus, lines: &[&str]) {
        let text = metrics.text();
        for line in lines {
            assert!(text.lines().any(|said| said == *line), "{line}: {text}");
        }
    }

    #[test]
    fn a_job_is_counted_by_how_it_ended() {
        let metrics = Prometheus::new();
        assert_says(&metrics, &["backup_success_total 0", "backup_failure_total 0", "queue_jobs_waiting NaN"]);
        assert_says(&metrics, &["captures_degraded NaN"]);
        for status in [JobStatus::Completed, JobStatus::Failed, JobStatus::Cancelled, JobStatus::Deleting] {
            metrics.job_ended(&backup(status));
            metrics.job_ended(&restore(status));
        }
        metrics.jobs_queued(QueuedJobs { waiting: 3, active: 2 });
        metrics.captures_degraded(2);
        for has_passed in [true, false, false] {
            metrics.drill_ended(has_passed);
        }
        assert_says(
            &metrics,
            &[
                "backup_success_total 1",
                "backup_failure_total 1",
                "backup_duration_seconds_sum 90.5",
                "backup_duration_seconds_bucket{le=\"60\"} 0",
                "backup_duration_seconds_bucket{le=\"300\"} 1",
                "backup_size_bytes_sum 4096.0",
                "backup_size_bytes_count 1",
                "restore_success_total 1",
                "restore_failure_total 1",
                "restore_duration_seconds_count 1",
                "drill_success_total 1",
                "drill_failure_total 2",
                "jobs_cancelled_total{kind=\"backup\"} 1",
                "jobs_cancelled_total{kind=\"restore\"} 1",
                "queue_jobs_waiting 3.0",
                "queue_jobs_active 2.0",
                "captures_degraded 2.0",
            ],
        );
        metrics.forget_queue();
        assert_says(&metrics, &["queue_jobs_waiting NaN", "queue_jobs_active NaN"]);
    }

    #[test]
    fn answers_are_counted_by_method_route_and_class_of_status() {
        let metrics = Prometheus::new();
        for (status, millis) in [(200, 30), (204, 1), (404, 1)] {
            let took = Duration::from_millis(millis);
            metrics.answered(&Answered { method: "GET", route: "/api/v1/projects/{projectId}", status, took });
        }
        let of =
            |class: &str| format!("{{method=\"GET\",route=\"/api/v1/projects/{{projectId}}\",status=\"{class}\"}}");
        let count = |class: &str, count: u64| format!("api_request_duration_seconds_count{} {count}", of(class));
        assert_says(&metrics, &[&count("2xx", 2), &count("4xx", 1)]);
    }
}
