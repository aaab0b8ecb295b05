//! The verbs of the control plane over ports in memory.

mod audit;
mod backups;
mod deletion;
mod destinations;
mod keys;
mod lists;
mod organizations;
mod people;
mod projects;
mod races;
mod restores;
mod roles;
mod runs;
mod schedules;
mod secrets;
mod teams;
mod tenants;
mod world;
