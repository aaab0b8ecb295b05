//! `firebackup serve` from end to end: one machine that has everything, asked through its API, killed, stopped and started again.

mod buckets;
mod catalog;
mod clocks;
mod consents;
mod databases;
mod demo;
mod doubles;
mod drills;
mod endings;
mod events;
mod faults;
mod increments;
pub mod installation;
mod jobs;
mod kills;
mod live;
mod migrations;
mod mistakes;
mod pitr;
mod schemathesis;
mod secrets;
mod sign_in;
mod starts;
mod webhooks;

use std::time::Duration;

/// How long a job may take on a machine that does other things too. A message that a killed server had in its hands is
/// hidden for two minutes.
const PATIENCE: Duration = Duration::from_secs(200);
