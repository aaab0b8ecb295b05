//! The only user of Google APIs: Firestore over gRPC, Firebase Auth users over Identity Toolkit's REST, and
//! permissions over Resource Manager's.
//!
//! [`Firestore`] is a [`DocumentSource`](firebackup_model::port::DocumentSource), a
//! [`DocumentSink`](firebackup_model::port::DocumentSink) and a
//! [`ChangeSource`](firebackup_model::port::ChangeSource); [`IdentityToolkit`] is a
//! [`UserSource`](firebackup_model::port::UserSource) and a [`UserSink`](firebackup_model::port::UserSink). Neither
//! tries anything twice: [`Retrying`] wraps a port and does.
//!
//! A document's bytes pass through as they came. Decoding and encoding them would reorder maps and drop fields that
//! this build does not know, so [`proto`] declares the few messages that carry a document with the document as bytes.

pub mod access;
mod batch;
mod channel;
mod collections;
mod consent;
pub mod corpus;
mod count;
mod databases;
mod document_bytes;
mod documents;
mod federation;
pub mod firestore;
pub mod identity;
mod identity_json;
mod listen;
mod listen_targets;
mod permissions;
pub mod proto;
mod query;
mod rest;
pub mod retry;
pub mod sample;
mod split;
mod status;

pub use access::{Access, ServiceAccountKey};
pub use collections::{Collection, Collections};
pub use consent::UserConsent;
pub use databases::{DatabaseEdition, DatabaseFacts, DatabaseType};
pub use federation::Federation;
pub use firestore::{Firestore, FirestoreOptions};
pub use identity::{IdentityOptions, IdentityToolkit};
pub use permissions::{ResourceManager, ResourceManagerOptions};
pub use retry::{RetryPolicy, Retrying};
