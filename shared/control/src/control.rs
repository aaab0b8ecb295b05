//! What the verbs are methods of.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex};

use firebackup_model::Timestamp;
use firebackup_model::port::{
    AccountTokens, Clock, ConsentIssuer, EventBuffer, EventBus, IdentityProvider, ItemKey, ItemStore, JobQueue,
    KeyService, Push, Random, Scheduler, WebhookSender, Workflows,
};

use crate::archive::Archive;
use crate::probes::Probes;
use crate::secrets::DataKeys;
use crate::sign_in::SignUp;
use crate::stranger::Strangers;

/// The control plane. Cheap to clone.
#[derive(Clone)]
pub struct Control(Arc<Inside>);

struct Inside {
    ports: Ports,
    data_keys: DataKeys,
    /// Entries of refused attempts that are known to be there.
    noted: Mutex<HashSet<ItemKey>>,
    strangers: Mutex<Strangers>,
}

/// The most entries that are remembered to be there; beyond, all are forgotten and found again.
const MOST_NOTED: usize = 10_000;

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
    /// Where months of the audit log lie once they are over.
    pub archive: Arc<dyn Archive>,
    /// Who keeps connections of live clients open.
    pub push: Arc<dyn Push>,
    /// Whom people sign in with, where that was set up.
    pub identity: Option<Arc<dyn IdentityProvider>>,
    /// Who asks people whether we may into their projects, where that was set up.
    pub consents: Option<Arc<dyn ConsentIssuer>>,
    /// What posts to webhooks; without it there are none.
    pub webhooks: Option<Arc<dyn WebhookSender>>,
    /// Where events and deliveries to webhooks wait.
    pub notify: Arc<dyn JobQueue>,
    /// Where events of changes wait that were posted; without it none are taken.
    pub buffer: Option<Arc<dyn EventBuffer>>,
    /// Who proves tokens of those who post them, where somebody does.
    pub accounts: Option<Arc<dyn AccountTokens>>,
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
    /// Whether addresses that others choose, such as endpoints of destinations, may lead to this machine and its networks.
    pub allow_private_addresses: bool,
    /// Whether somebody captures the changes of databases here: nothing is enabled that nobody does.
    pub captures_changes: bool,
    /// Whether whoever runs drills here starts emulators to restore into: on one machine only.
    pub starts_emulators: bool,
    /// So many seconds before its window is over a capture is due again, at most half a window. Where somebody looks once a
    /// minute, whoever looks a moment too early would come a whole minute late.
    pub captures_ahead_seconds: u32,
    /// The master key of the stack, a KMS ARN; nothing for the key service's own.
    pub master_key: Option<String>,
    /// Where events of a project's changes are posted to, with `{projectId}` in the place of its id; nothing where nobody knows
    /// how this installation is reached.
    pub events_url: Option<String>,
    /// How many jobs an organization may run at one time, where it has no number of its own.
    pub max_running_jobs: u32,
    /// Who may become a user without an invite.
    pub sign_up: SignUp,
}

impl Default for ControlSettings {
    fn default() -> Self {
        Self {
            allow_folders: false,
            allow_emulators: false,
            allow_federation: false,
            allow_private_addresses: false,
            captures_changes: false,
            starts_emulators: false,
            captures_ahead_seconds: 0,
            master_key: None,
            events_url: None,
            max_running_jobs: 5,
            sign_up: SignUp::Invited,
        }
    }
}

impl Control {
    /// The control plane over these ports.
    #[must_use]
    pub fn new(ports: Ports) -> Self {
        let (noted, strangers) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inside { ports, data_keys: DataKeys::default(), noted, strangers }))
    }

    pub(crate) fn ports(&self) -> &Ports {
        &self.0.ports
    }

    pub(crate) fn data_keys(&self) -> &DataKeys {
        &self.0.data_keys
    }

    /// Whether this process has seen that an entry is there.
    pub(crate) fn was_noted(&self, key: &ItemKey) -> bool {
        self.0.noted.lock().is_ok_and(|noted| noted.contains(key))
    }

    pub(crate) fn remember_noted(&self, key: ItemKey) {
        if let Ok(mut noted) = self.0.noted.lock() {
            if noted.len() >= MOST_NOTED {
                noted.clear();
            }
            noted.insert(key);
        }
    }

    /// As whom a stranger's address counts in a minute.
    pub(crate) fn stranger_of(&self, minute: Timestamp, address: String) -> String {
        match self.0.strangers.lock() {
            Ok(mut strangers) => strangers.counted_as(minute, address),
            Err(_) => address,
        }
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
