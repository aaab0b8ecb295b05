//! What fires at given times.

use async_trait::async_trait;
use serde_json::Value;

use crate::cron::Cron;
use crate::error::PortError;

/// One schedule, as the scheduler knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleRule {
    /// Its name: letters, digits, `-` and `_`, at most 64.
    pub name: String,
    /// When it fires, in its time zone.
    pub cron: Cron,
    /// Sent each time, as `payload`, with the time that was due as `scheduled` (RFC 3339).
    pub payload: Value,
    /// Whether it fires at all.
    pub enabled: bool,
}

/// Keeps schedules and fires them: each due time at least once.
#[async_trait]
pub trait Scheduler: Send + Sync {
    /// Stores a schedule, replacing one of the same name.
    async fn put(&self, rule: &ScheduleRule) -> Result<(), PortError>;

    /// Removes a schedule. One that is gone already is no error.
    async fn remove(&self, name: &str) -> Result<(), PortError>;

    /// Whether there is a schedule of this name that fires as `rule` says: at its times, or not at all where it is not
    /// enabled.
    async fn fires_as(&self, rule: &ScheduleRule) -> Result<bool, PortError>;
}
