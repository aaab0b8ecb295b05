//! Drills of a server on one machine: whatever is due, one at a time.

use std::time::Duration;

use async_trait::async_trait;
use firebackup_embedded::{Emulator, EmulatorOptions};
use firebackup_model::{ErrorKind, PortError};

use crate::failure::of_control;
use crate::steps::{AppSteps, DrillBounds, ScratchEmulators, StartedEmulator};

/// How often it is looked what is due.
const TICK: Duration = Duration::from_secs(2);
/// How many are looked at in one go.
const MOST: u32 = 10;
/// How long a drill may empty its scratch database once the server is to stop. What is cut off the next one takes over.
const PATIENCE: Duration = Duration::from_secs(10);
/// Heap of an emulator: what it needs at rest, and MiB for each thousand documents.
const HEAP_MIB: u64 = 1024;
const HEAP_MIB_PER_THOUSAND: u64 = 20;

/// Drills what is due.
pub(crate) struct DueDrills(pub(crate) AppSteps);

impl DueDrills {
    /// Drills until it is stopped; then one that runs empties its scratch database.
    pub(crate) async fn run(self, stopped: impl Future<Output = ()>) {
        let bounds = DrillBounds::default();
        tokio::pin!(stopped);
        loop {
            let drilling = self.drill_due(&bounds);
            tokio::pin!(drilling);
            tokio::select! {
                () = &mut drilling => {}
                () = &mut stopped => {
                    bounds.stop.request();
                    if tokio::time::timeout(PATIENCE, drilling).await.is_err() {
                        tracing::warn!("a drill did not end in time: the next one takes over what it has left");
                    }
                    return;
                }
            }
            tokio::select! {
                () = &mut stopped => return,
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    async fn drill_due(&self, bounds: &DrillBounds) {
        let due = match self.0.control.due_drills(MOST).await.map_err(of_control) {
            Ok(due) => due,
            Err(error) => return tracing::warn!(error = %error, "it cannot be looked which drills are due"),
        };
        for due in due {
            if bounds.stop.is_requested() {
                return;
            }
            // one that loses its claim is asked to stop, and the others are not
            let own = DrillBounds::default();
            let watched = until_stopped(bounds, &own);
            let drilled = async {
                if let Err(error) = self.0.drill(&due, Some(&LocalEmulators), &own).await {
                    tracing::warn!(project = %due.project, error = %error, "what came of a drill could not be noted");
                }
            };
            tokio::select! {
                () = drilled => {}
                () = watched => {}
            }
        }
    }
}

/// Asks the one to stop once the other is; never ends.
async fn until_stopped(all: &DrillBounds, one: &DrillBounds) {
    while !all.stop.is_requested() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    one.stop.request();
    std::future::pending().await
}

/// Google's emulator on this machine.
struct LocalEmulators;

#[async_trait]
impl ScratchEmulators for LocalEmulators {
    async fn start(&self, documents: u64) -> Result<StartedEmulator, PortError> {
        let heap_mib = u32::try_from(HEAP_MIB + documents / 1000 * HEAP_MIB_PER_THOUSAND).unwrap_or(u32::MAX);
        let options = EmulatorOptions { heap_mib, ..EmulatorOptions::default() };
        let emulator = Emulator::start_with(&options).await.map_err(|error| {
            let message = error.to_string();
            PortError::new(ErrorKind::FailedPrecondition, "start an emulator", message).with_source(error)
        })?;
        Ok(StartedEmulator { host: emulator.host().to_owned(), guard: Box::new(emulator) })
    }
}
