//! What one machine has counted, for whoever asks.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use firebackup_http::Exposition;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::maintenance::Maintenance;
use crate::metrics::{Metrics, Prometheus};

/// For how long the number of jobs is not looked for again, however often it is asked for: each look reads the marks of
/// every organization.
const FRESH: Duration = Duration::from_secs(15);

/// What was counted, and how many jobs there are.
pub struct LocalMetrics {
    metrics: Arc<Prometheus>,
    maintenance: Maintenance,
    looked: Mutex<Option<Instant>>,
}

impl LocalMetrics {
    pub(crate) fn new(metrics: Arc<Prometheus>, maintenance: Maintenance) -> Self {
        Self { metrics, maintenance, looked: Mutex::default() }
    }

    /// Counts the jobs, unless that was done a moment ago. Who comes meanwhile waits for it.
    async fn look(&self) {
        let mut looked = self.looked.lock().await;
        if looked.is_some_and(|looked| looked.elapsed() < FRESH) {
            return;
        }
        match self.maintenance.queued_jobs().await {
            Ok(queued) => self.metrics.jobs_queued(queued),
            Err(error) => {
                tracing::warn!(error = %error, "jobs could not be counted");
                self.metrics.forget_queue();
            }
        }
        *looked = Some(Instant::now());
    }
}

#[async_trait]
impl Exposition for LocalMetrics {
    async fn text(&self) -> String {
        self.look().await;
        self.metrics.text()
    }
}
