//! What the stack on AWS is put through, on one machine: time that is up, messages that come twice or are none, a store that
//! is asked too often, and death behind what was committed.

mod bucket;
#[cfg(target_os = "linux")] // elsewhere nobody can say which process a connection belongs to
mod deaths;
mod messages;
mod sequences;
mod throttling;
mod within;

use std::time::Duration;

use super::installation::Place;

/// How long anything may take but a job.
const BOUND: Duration = Duration::from_secs(60);

/// Ends the server as a power cut would, for another one on its folder.
fn cut_power(place: &mut Place) {
    let child = &mut place.server.running.child;
    child.kill().unwrap();
    child.wait().unwrap();
}
