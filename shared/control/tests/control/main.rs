//! The verbs of the control plane over ports in memory.

mod audit;
mod audit_months;
mod backups;
mod cleanups;
mod consents;
mod databases;
mod deletion;
mod deliveries;
mod destinations;
mod keys;
mod lists;
mod live;
mod organizations;
mod people;
mod projects;
mod races;
mod restores;
mod roles;
mod runs;
mod schedules;
mod secrets;
mod signatures;
mod teams;
mod tenants;
mod webhooks;
mod world;
