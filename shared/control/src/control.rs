//! What the verbs are methods of.

use std::fmt;
use std::sync::Arc;

use firebackup_model::Timestamp;
use firebackup_model::port::{Clock, EventBus, ItemStore, JobQueue, KeyService, Random, Scheduler, Workflows};

use crate::probes::Probes;
use crate::secrets::DataKeys;

/// The control plane. Cheap to clone.
#[derive(Clone)]
pub struct Control(Arc<Inside>);

struct Inside {
    ports: Ports,
    data_keys: DataKeys,
}

/// What the verbs need from the world.
pub struct Ports {
    /// Where records are kept.
    pub items: Arc<dyn ItemStore>,
    /// Where jobs wait to be started.
    pub queue: Arc<dyn JobQueue>,
    /// What runs jobs.
    pub workflows: Arc<dyn Workflows>,
    /// What fires schedules.
    pub scheduler: Arc<dyn Scheduler>,
    /// Who is told what happened.
    pub events: Arc<dyn EventBus>,
    /// What wraps the keys that secrets are sealed with.
    pub keys: Arc<dyn KeyService>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub random: Arc<dyn Random>,
    /// Looks at projects and destinations.
    pub probes: Arc<dyn Probes>,
    /// How this installation is set up.
    pub settings: ControlSettings,
}

/// How an installation is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlSettings {
    /// Whether destinations may be folders (`file://`): on one machine only.
    pub allow_folders: bool,
    /// Whether projects may be emulators.
    pub allow_emulators: bool,
    /// Whether projects may be opened by the AWS identity of this installation: where it has one.
    pub allow_federation: bool,
    /// The master key of the stack, a KMS ARN; nothing for the key service's own.
    pub master_key: Option<String>,
    /// How many jobs an organization may run at one time, where it has no number of its own.
    pub max_running_jobs: u32,
}

impl Default for ControlSettings {
    fn default() -> Self {
        Self {
            allow_folders: false,
            allow_emulators: false,
            allow_federation: false,
            master_key: None,
            max_running_jobs: 5,
        }
    }
}

impl Control {
    /// The control plane over these ports.
    #[must_use]
    pub fn new(ports: Ports) -> Self {
        Self(Arc::new(Inside { ports, data_keys: DataKeys::default() }))
    }

    pub(crate) fn ports(&self) -> &Ports {
        &self.0.ports
    }

    pub(crate) fn data_keys(&self) -> &DataKeys {
        &self.0.data_keys
    }

    pub(crate) fn items(&self) -> &dyn ItemStore {
        self.0.ports.items.as_ref()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.ports.clock.now()
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("settings", &self.0.ports.settings).finish_non_exhaustive()
    }
}
