//! The deployed stack: the real template, state machines and functions on a local AWS, through the HTTP API alone.
//!
//! A test is one deployment with several things done to it, one after the other: deploying takes longer than they do.

mod api;
mod aws;
mod captured_history;
mod captures;
mod code;
mod counts;
mod deaths;
mod deployed;
mod drills;
mod endings;
mod events;
mod journey;
mod keeping;
mod live;
mod locks;
mod messages;
mod months;
mod moves;
mod secrets;
mod sign_in;
mod throttling;

use std::path::PathBuf;

/// The root of the workspace.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
