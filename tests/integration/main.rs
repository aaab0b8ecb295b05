//! The integration tests: one binary, a module a topic. Each starts the servers it needs, or fails.

mod arrows;
mod auth;
mod binary;
mod browser;
mod capture;
mod cli;
mod client;
mod consistency;
mod cost;
mod fidelity;
mod house;
mod kill;
mod limits;
mod live_client;
mod planted;
mod posted;
mod receiver;
mod serve;
mod stack;
mod stage;
mod stores;
mod template;
