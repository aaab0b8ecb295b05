//! The API over memory: requests go through the whole router, and every answer is compared with the OpenAPI document.

mod audit;
mod bodies;
mod catalog;
mod compatibility;
mod contract;
mod drills;
mod events;
mod files;
mod frames;
mod idempotency;
mod lists;
mod logs;
mod migrations;
mod orphans;
mod people;
mod pitr;
mod projects;
mod reading;
mod remembered;
mod roles;
mod secrets;
mod slice;
mod world;
