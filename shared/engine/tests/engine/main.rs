//! The engine against a database and a store in memory, with every fault at every place.

mod crash;
mod damage;
mod faults;
mod fixture;
mod keys;
mod nothing;
mod progress;
mod prune;
mod race;
mod restore;
mod round_trip;
mod steps;
mod undo_chain;
