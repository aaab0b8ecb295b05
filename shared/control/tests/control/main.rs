//! The verbs of the control plane over ports in memory.

mod backups;
mod destinations;
mod keys;
mod lists;
mod organizations;
mod projects;
mod races;
mod restores;
mod roles;
mod runs;
mod schedules;
mod secrets;
mod tenants;
mod world;
