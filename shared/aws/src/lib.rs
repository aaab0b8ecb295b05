//! The only user of the AWS SDKs: the ports of the control plane on DynamoDB, SQS, Step Functions, EventBridge and KMS.
//!
//! | port | is |
//! |---|---|
//! | `ItemStore` | [`DynamoItemStore`]: one DynamoDB table with one index; its attributes are named in one file |
//! | `JobQueue` | [`SqsJobQueue`]: a queue of SQS and its dead-letter queue |
//! | `Workflows` | [`StepFunctions`]: a state machine a workflow, an execution a job |
//! | `Scheduler` | [`EventBridgeScheduler`]: a schedule of EventBridge Scheduler a schedule |
//! | `EventBus` | [`EventBridgeBus`]: a bus of EventBridge |
//! | `KeyService` | [`KmsKeyService`]: keys of KMS, each use bound to an encryption context |
//!
//! Beside them stands what S3 can do and `object_store` cannot: [`WorkBucket`] keeps the list of chunks that a state
//! machine reads, [`Bucket`] prolongs the locks of objects, removes versions and tells how well a bucket is guarded;
//! [`BucketFolder`] is `ObjectVersions` on it, for the repository at a prefix.
//!
//! - Everything is made from [`AwsClients`], which are made from [`AwsSettings`]. Making them speaks to nobody, so that
//!   a function is ready at once; credentials are looked for with the first request.
//! - Time-outs and retries are the clients' own, set on purpose in one place and bounded. What still fails then is told
//!   as one of the model's kinds, by one map. Nothing here tries again on its own.
//! - No error holds a request, an answer, a credential or a key.
//!
//! *Invariant*: nothing here reads an environment variable. (The SDK's own chain does: `AWS_REGION`, `AWS_PROFILE`,
//! `AWS_ENDPOINT_URL`, credentials.)
//!
//! With the feature `kms` alone only the key service is built, for the command line; `workstation` adds the ways in
//! which people sign in on their own machines (single sign-on, a credential process).

#[cfg(feature = "control")]
mod bucket;
#[cfg(feature = "control")]
mod bucket_access;
#[cfg(feature = "control")]
mod bucket_folder;
#[cfg(feature = "control")]
mod bucket_report;
mod config;
#[cfg(feature = "kms")]
mod error;
#[cfg(feature = "control")]
mod event_bus;
#[cfg(feature = "control")]
mod item_attributes;
#[cfg(feature = "control")]
mod item_cursor;
#[cfg(feature = "control")]
mod item_store;
#[cfg(feature = "control")]
mod job_queue;
#[cfg(feature = "kms")]
mod key_service;
mod public_names;
#[cfg(feature = "control")]
mod push;
#[cfg(feature = "control")]
mod scheduler;
#[cfg(feature = "control")]
mod work_bucket;
#[cfg(feature = "control")]
mod workflows;

#[cfg(feature = "control")]
pub use bucket::{Bucket, ObjectVersion, Retention};
#[cfg(feature = "control")]
pub use bucket_access::BucketAccess;
#[cfg(feature = "control")]
pub use bucket_folder::BucketFolder;
#[cfg(feature = "control")]
pub use bucket_report::BucketReport;
pub use config::{AwsClients, AwsSettings, config_loader};
#[cfg(feature = "control")]
pub use event_bus::EventBridgeBus;
#[cfg(feature = "control")]
pub use item_store::DynamoItemStore;
#[cfg(feature = "control")]
pub use job_queue::SqsJobQueue;
#[cfg(feature = "kms")]
pub use key_service::{KmsKeyService, region_of_key};
#[cfg(feature = "control")]
pub use push::GatewayPush;
#[cfg(feature = "control")]
pub use scheduler::{EventBridgeScheduler, SchedulerSettings};
#[cfg(feature = "control")]
pub use work_bucket::{ChunkList, WorkBucket};
#[cfg(feature = "control")]
pub use workflows::StepFunctions;
