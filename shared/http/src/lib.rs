//! The HTTP face of the control plane: a router over its verbs, and the OpenAPI document of it.
//!
//! A handler decodes, calls one verb and wraps what it says. Nothing is decided here: who calls is proven by
//! [`Control::authenticate`](firebackup_control::Control), what the caller may do by the verbs. Three things hold for
//! every answer:
//!
//! - **One shape.** Answers, lists and failures are JSON in an envelope, those for unknown routes, oversized bodies and
//!   panics too; `failure.rs` is the one place where a kind of failure becomes a status.
//! - **What a client reads and what we log are two things.** The client gets a code, a message and the request's id;
//!   the log gets the causes, under the same id, and nothing of what the client sent in a body or a query.
//! - **The document is the code.** Routes and schemas are read from the handlers; a test fails when `docs/openapi.json`
//!   is another.

mod authentication;
mod body;
mod browser;
mod catalog;
mod client;
mod comparison;
mod drill_reports;
mod envelope;
mod exposition;
mod failure;
mod files;
mod folders;
mod migration;
mod moments;
mod needs;
mod observer;
mod openapi;
mod orphans;
mod page;
mod parameter;
mod preview;
mod realtime;
mod refusal;
mod remembered;
mod request;
mod router;
mod routes;
mod state;
mod unreadable;
mod verification;

pub use client::{ClientAddress, service};
pub use exposition::{Exposition, METRICS_PATH, metrics_service};
pub use observer::{Answered, Observer};
pub use realtime::LiveConnections;
pub use remembered::{Changes, Remembered};
pub use router::{CALLBACK_PATH, CONSENT_CALLBACK_PATH, EVENTS_PATH, openapi, router};
pub use state::{HttpState, Repositories, SignInPages};
