//! scratch
mod capture;
mod stage;
