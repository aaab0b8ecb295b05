//! The engine against a database and a store in memory, with every fault at every place.

mod capture;
mod check;
mod crash;
mod damage;
mod drill;
mod faults;
mod fixture;
mod history;
mod keys;
mod locks;
mod nothing;
mod orphans;
mod policed;
mod progress;
mod prune;
mod race;
mod reported;
mod restore;
mod round_trip;
mod scale;
mod service_keys;
mod steps;
mod undo_chain;
