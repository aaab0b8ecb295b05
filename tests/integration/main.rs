//! The integration tests: one binary, a module a topic. Each starts the servers it needs, or fails.

mod arrows;
mod auth;
mod binary;
mod consistency;
mod fidelity;
mod house;
mod kill;
mod limits;
mod stage;
mod stores;
