//! Composition: the adapters behind the ports, and the steps of jobs as functions from JSON to JSON.
//!
//! Here, and only here, the parts meet: [`Places`] opens repositories, [`Projects`] connects to Google, [`AppSteps`] does
//! the steps that a state machine or a worker of this machine asks for, [`aws`] and [`local`] build all of it on AWS and on
//! one machine. What is decided is decided in `control` and `engine`.

mod absent;
mod archive;
pub mod aws;
mod aws_environment;
pub mod buckets;
mod captures;
mod drills;
mod failure;
mod folds;
mod ingest;
mod live_clients;
mod live_input;
pub mod local;
mod local_keys;
mod local_metrics;
mod maintenance;
mod metrics;
mod oauth_client;
mod places;
mod probes;
mod projects;
pub mod roles;
mod sealed_issuer;
pub mod server;
mod sign_in;
mod sqs;
mod stack_bucket;
mod steps;
pub mod tracing_setup;
mod triggers;
mod webhooks;

pub use aws_environment::AwsEnvironment;
/// How a browser is sent back.
pub use firebackup_http::SignInPages;
/// What this installation is to an issuer.
pub use firebackup_outbound::OidcSettings;
pub use ingest::Ingest;
pub use live_clients::LiveClients;
pub use live_input::{ConnectionContext, LiveAnswer, LiveInput, live};
pub use local_keys::LocalKeys;
pub use local_metrics::LocalMetrics;
pub use maintenance::{Maintenance, MaintenanceTask};
pub use places::Places;
pub use probes::WorldProbes;
pub use projects::Projects;
pub use sign_in::{GOOGLE, PublicUrl, SignInSettings, page};
pub use sqs::each_message;
pub use stack_bucket::StackBucket;
pub use steps::{
    AppSteps, ChunkDone, ChunkInput, FinalizeInput, Finalized, FoldDone, JobInput, Planned, StepSettings, WindowDone,
    WindowOutcome,
};
pub use triggers::{Due, notify_message, schedule_due, start_message};
