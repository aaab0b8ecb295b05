//! The nouns of FireBackup, and the ports its verbs need.
//!
//! Everything here is a value or a trait. Nothing reads a clock, an environment variable or a random source, and
//! nothing knows a vendor's SDK: adapters depend on this crate, never the other way round.
//!
//! Start with [`path`]: the order of document paths is what every run, merge and range in the product rests on.

pub mod address;
pub mod cron;
pub mod database;
pub mod document;
pub mod drill;
pub mod error;
pub mod generations;
pub mod id;
pub mod job;
pub mod lock;
pub mod manifest;
pub mod path;
pub mod port;
pub mod range;
pub mod reported;
pub mod segment;
pub mod selection;
pub mod timestamp;
pub mod wire;

pub use database::DatabaseName;
pub use error::{ErrorKind, PortError};
pub use generations::Generations;
pub use lock::{LockMode, LockRule};
pub use path::DocumentPath;
pub use range::{PathRange, RangeStart};
pub use selection::Selection;
pub use timestamp::Timestamp;
