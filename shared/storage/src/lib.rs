//! Destinations: where a repository lives, behind one `ObjectStore`.
//!
//! A [`Destination`] is opened from a URL (`file:///folder`, `s3://bucket/prefix`, `gs://bucket/prefix`,
//! `az://container/prefix`) and [`DestinationSettings`]; the store it gives is scoped to the prefix. What every
//! destination gives on top of the vendor's client:
//!
//! - a put in mode `Create` is exact: one of many racing writers wins, all others get `AlreadyExists`, and nobody gets
//!   `AlreadyExists` for an object that is not there (S3 answers 409 while another write is in flight);
//! - an upload in parts does not replace an object at S3 either, where the service knows `If-None-Match` there; other
//!   vendors' uploads do (runs, the only objects in parts, have names of 128 random bits);
//! - a put or a completed multipart upload that returned is durable, in a folder too (file and directory are synced);
//! - no credential shows in `Debug`, `Display` or an error;
//! - suffix ranges work everywhere;
//! - at S3 objects can be locked in the request that puts them ([`Destination::locked`]).
//!
//! Retries of single requests are the clients' own and bounded. A long download that breaks after its retry time has
//! passed ends with an error: read in ranges. A range that reaches past the end of an object is answered short by
//! every store: check lengths.
//!
//! *Invariant*: nothing here reads an environment variable. (Google's client looks for the well-known credential file
//! in the home directory when it is given no credential; that is its own search.)

mod destination;
mod error;
mod folder;
mod gcs_requests;
mod guard;
mod location;
mod locked_store;
mod new_bucket;
mod probe;
mod public_connector;
mod remote;
mod s3_requests;
mod settings;
mod staging;

pub use destination::{Destination, DestinationKind};
pub use error::{causes, describe, is_gone_or_short, port_error};
pub use new_bucket::{BucketWishes, MadeBucket, MakeBucketError};
pub use probe::ProbeReport;
pub use settings::DestinationSettings;
pub use staging::Staging;
