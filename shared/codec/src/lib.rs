//! Bytes both ways: records, blocks, sealing, runs, sealed objects and key wraps.
//!
//! Everything here is synchronous and pure. The bytes come from and go to the caller, keys and random bytes are handed
//! in, and `docs/format.md` says what every byte means. Readers treat what they read as hostile: a length is compared
//! with its limit before memory is taken, nothing panics, and the error says which object is wrong, where and how.
//!
//! - A run is written with [`run::block`] and [`run::writer`] and read with [`run::reader`].
//! - Manifests, plans, receipts and intents are sealed with [`object`] and signed with [`signature`].
//! - Keys are kept in the wraps of [`wrap`].
//! - What Firestore tells of a change is read by [`cloud_event`].

pub mod canonical;
pub mod cloud_event;
pub mod compress;
#[cfg(test)]
mod document_generator;
mod document_value;
pub mod error;
mod lenient_json;
pub mod limit;
pub mod object;
mod primitive;
pub mod record;
pub mod rewrite;
pub mod run;
pub mod sealing;
pub mod secret;
pub mod secret_box;
pub mod signature;
pub mod typed_json;
pub mod wrap;

pub use error::{FormatError, FormatErrorKind};
pub use sealing::Sealing;
pub use secret::SecretKey;
