//! One machine: every port on SQLite, tokio and a master key, and the workers that the stack has functions for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use firebackup_codec::secret::SecretKey;
use firebackup_control::{Control, ControlSettings, FirstOwner, Ports};
use firebackup_embedded::{
    DataVersion, Database, FireIntoQueue, LocalEventBus, LocalPush, SoleWorker, SqliteEventBuffer, SqliteItemStore,
    SqliteJobQueue, SqliteScheduler, SqliteWorkflows, SystemAlarm, SystemClock, SystemRandom, WorkflowOptions,
};
use firebackup_engine::World;
use firebackup_http::{Changes, HttpState, Remembered, SignInPages};
use firebackup_model::PortError;
use firebackup_model::port::{Clock, JobQueue, Message, Random, StepError, StepErrorKind};
use futures::{StreamExt, stream};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::captures::Captures;
use crate::drills::DueDrills;
use crate::failure::{of_control, unreadable};
use crate::folds::Folds;
use crate::live_clients::{LiveClients, tell_live};
use crate::local_keys::LocalKeys;
use crate::local_metrics::LocalMetrics;
use crate::maintenance::{Maintenance, MaintenanceTask};
use crate::metrics::Prometheus;
use crate::oauth_client::OauthClient;
use crate::places::{MasterKeys, Places};
use crate::probes::WorldProbes;
use crate::projects::Projects;
use crate::sign_in::{SignInSettings, accounts_of, consents_of, provider_of};
use crate::steps::{AppSteps, StepSettings};
use crate::triggers::{Due, notify, schedule_due, start_job};
use crate::webhooks::webhooks;

/// The file that holds everything but the key.
const DATABASE: &str = "firebackup.db";
/// A message that failed so often is put aside.
const MOST_DELIVERIES: u32 = 10;
/// How long a queue is listened to before it is asked anew.
const WAIT: Duration = Duration::from_secs(20);
/// How long a message that is being dealt with is hidden.
const HIDDEN: Duration = Duration::from_secs(120);
/// When a message that failed comes again.
const AGAIN: Duration = Duration::from_secs(5);
/// How many events and deliveries are dealt with at a time: a receiver that is slow must not hold up the others.
const NOTICES: usize = 16;
/// Events that a slow listener may be behind.
const BACKLOG: usize = 1024;
/// How often jobs are looked after.
const SWEEP: Duration = Duration::from_secs(60);
/// How often it is looked for destinations that are to be moved.
const MIGRATE: Duration = Duration::from_secs(15);
/// How many databases are captured at a time.
const CAPTURES: usize = 4;
/// How often retention is applied.
const RETENTION: Duration = Duration::from_secs(6 * 3600);

/// How often locks of objects are made longer.
const LOCKS: Duration = Duration::from_secs(24 * 3600);
/// How often keys are looked after.
const KEYS: Duration = Duration::from_secs(24 * 3600);
/// How often months of the audit log that are over are looked for.
const AUDIT: Duration = Duration::from_secs(24 * 3600);

/// How an installation on one machine is set up.
pub struct LocalSettings {
    /// How large steps are.
    pub steps: StepSettings,
    /// How many chunks of a job are done at a time.
    pub parallel: usize,
    /// Options for destinations that bring none, such as `AWS_REGION`.
    pub ambient: Vec<(String, String)>,
    /// How people sign in.
    pub sign_in: SignInSettings,
    /// Who makes the tokens of accounts that post events.
    pub events_issuer: String,
    /// Where they post them to, with `{projectId}` in the place of a project's id, where that is known.
    pub events_url: Option<String>,
    /// Host and port of a Firestore emulator that stands in Google's place for projects that are let in by consent.
    pub emulator: Option<String>,
    /// Whether issuers, webhooks and endpoints of destinations may lead to this machine and its networks.
    pub allow_private_addresses: bool,
}

/// Everything on one machine. Cheap to clone.
#[derive(Clone)]
pub struct LocalApp {
    /// The verbs of the control plane.
    pub control: Control,
    /// The steps of jobs.
    pub steps: AppSteps,
    /// Who is told what happened.
    pub events: Arc<LocalEventBus>,
    pages: SignInPages,
    places: Places,
    clock: Arc<dyn Clock>,
    jobs: Arc<dyn JobQueue>,
    due: Arc<dyn JobQueue>,
    notify: Arc<dyn JobQueue>,
    push: LocalPush,
    workflows: SqliteWorkflows,
    scheduler: SqliteScheduler,
    metrics: Arc<Prometheus>,
    changes: Arc<dyn Changes>,
    database: PathBuf,
}

impl LocalApp {
    /// Opens, or makes, the installation in a folder.
    ///
    /// # Errors
    /// When its database cannot be opened, or the issuer not be used.
    pub async fn open(folder: &Path, master: SecretKey, settings: LocalSettings) -> Result<Self, PortError> {
        let (clock, random): (Arc<dyn Clock>, Arc<dyn Random>) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let path = folder.join(DATABASE);
        let database = Database::open(path.clone()).await?;
        let changes: Arc<dyn Changes> = Arc::new(LocalChanges(database.version()?));
        let queue = |name| Arc::new(SqliteJobQueue::new(database.clone(), Arc::clone(&clock), name, MOST_DELIVERIES));
        let (jobs, due, notify) = (queue("jobs"), queue("due"), queue("notify"));
        let options = WorkflowOptions { parallel_chunks: settings.parallel.max(1), ..WorkflowOptions::default() };
        let workflows = SqliteWorkflows::new(database.clone(), Arc::clone(&random), options);
        let scheduler = SqliteScheduler::new(database.clone(), Arc::clone(&clock));
        let events = Arc::new(LocalEventBus::new(BACKLOG).keeping(notify.clone()));
        let push = LocalPush::default();
        let webhooks = webhooks(settings.allow_private_addresses)?;
        let world = World { clock: Arc::clone(&clock), random: Arc::clone(&random) };
        let SignInSettings { issuer, pages, sign_up } = settings.sign_in;
        let emulator = settings.emulator.as_deref();
        let consents = consents_of(issuer.as_ref(), emulator, settings.allow_private_addresses, &clock)?;
        let client = issuer.as_ref().and_then(|client| OauthClient::open(client, settings.emulator.clone()));
        let projects = Projects::new(client);
        let accounts = accounts_of(settings.events_issuer, settings.allow_private_addresses, &clock)?;
        let events_url = settings.events_url;
        let buffer = Arc::new(SqliteEventBuffer::new(database.clone(), Arc::clone(&clock)));
        let identity = provider_of(issuer, settings.allow_private_addresses, &clock)?;
        let allow_federation = has_aws_identity(&settings.ambient);
        let places = Places::new(MasterKeys::Local(master.clone()), world, settings.ambient);
        let places = places.reaching(settings.allow_private_addresses);
        let control = Control::new(Ports {
            items: Arc::new(SqliteItemStore::new(database, Arc::clone(&clock))),
            queue: jobs.clone(),
            workflows: Arc::new(workflows.clone()),
            scheduler: Arc::new(scheduler.clone()),
            events: events.clone(),
            keys: Arc::new(LocalKeys::new(master, Arc::clone(&random))),
            clock: Arc::clone(&clock),
            random,
            probes: Arc::new(WorldProbes::new(places.clone(), projects.clone())),
            archive: Arc::new(places.clone()),
            identity,
            consents,
            webhooks: Some(webhooks),
            notify: notify.clone(),
            push: Arc::new(push.clone()),
            buffer: Some(buffer),
            accounts: Some(accounts),
            settings: ControlSettings {
                allow_folders: true,
                allow_emulators: true,
                allow_federation,
                allow_private_addresses: settings.allow_private_addresses,
                captures_changes: true,
                starts_emulators: true,
                events_url,
                sign_up,
                ..ControlSettings::default()
            },
        });
        let metrics = Arc::new(Prometheus::new());
        let settings = StepSettings { parallel: settings.parallel.max(1) as u64, ..settings.steps };
        let steps = AppSteps::new(control.clone(), places.clone(), projects, settings, None, metrics.clone());
        Ok(Self {
            control,
            steps,
            events,
            pages,
            places,
            clock,
            jobs,
            due,
            notify,
            push,
            workflows,
            scheduler,
            metrics,
            changes,
            database: path,
        })
    }

    /// What the router stands on.
    #[must_use]
    pub fn http_state(&self) -> HttpState {
        HttpState {
            remembered: Some(Remembered::new(Arc::clone(&self.changes))),
            control: self.control.clone(),
            repositories: Arc::new(self.places.clone()),
            random: Arc::clone(&self.places.world().random),
            version: env!("CARGO_PKG_VERSION"),
            sign_in: self.pages.clone(),
            observer: self.metrics.clone(),
        }
    }

    /// The connections of live clients.
    #[must_use]
    pub fn live(&self) -> LiveClients {
        LiveClients::new(self.push.clone())
    }

    /// What was counted since this was opened, for whoever asks.
    #[must_use]
    pub fn metrics(&self) -> LocalMetrics {
        LocalMetrics::new(Arc::clone(&self.metrics), Maintenance::new(self.steps.clone()))
    }

    /// Makes the first organization and its owner's key; nothing if that was done before.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn first_owner(&self, name: &str) -> Result<Option<FirstOwner>, StepError> {
        self.control.first_owner(name).await.map_err(of_control)
    }

    /// That the master key is the one with which the database was begun.
    ///
    /// # Errors
    /// When it is not, or the database fails.
    pub async fn check_master_key(&self) -> Result<(), StepError> {
        self.control.check_master_key().await.map_err(of_control)
    }

    /// Makes another owner's key for the first organization; nothing if there is none yet.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn another_owner_key(&self) -> Result<Option<FirstOwner>, StepError> {
        self.control.another_owner_key().await.map_err(of_control)
    }

    /// A code with which whoever runs the server signs in as its owner, once and within a quarter of an hour; nothing where
    /// others have taken this owner out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn owner_code(&self) -> Result<Option<Zeroizing<String>>, StepError> {
        self.control.owner_code().await.map_err(of_control)
    }

    /// Starts jobs, does their steps, fires schedules, captures changes, drills and looks after all of it, until `stop` says so. What
    /// is under way then is dropped: it goes on where it was when this is run again. Only captures may seal what they heard, and a drill
    /// empty its scratch database.
    pub async fn work(&self, stop: watch::Receiver<bool>) {
        self.redrive().await;
        let stopped = || stopped(stop.clone());
        let fire = Arc::new(FireIntoQueue::new(Arc::clone(&self.due)));
        let steps = Arc::new(self.steps.clone());
        tokio::join!(
            until(stopped(), consume(&*self.jobs, 1, async |body| start_job(&self.control, body).await.map(drop))),
            until(stopped(), consume(&*self.due, 1, async |body| self.make_due(body).await)),
            until(stopped(), tell_live(&self.control, self.events.listen())),
            until(stopped(), consume(&*self.notify, NOTICES, async |body| notify(&self.control, body).await)),
            self.workflows.run(steps, stopped()),
            self.scheduler.run(fire, &SystemAlarm, stopped()),
            self.capture(stopped(), stopped()),
            DueDrills(self.steps.clone()).run(stopped()),
            until(stopped(), self.maintain(MaintenanceTask::Sweep, SWEEP)),
            until(stopped(), self.maintain(MaintenanceTask::Migrate, MIGRATE)),
            until(stopped(), self.maintain(MaintenanceTask::Retention, RETENTION)),
            until(stopped(), self.maintain(MaintenanceTask::Locks, LOCKS)),
            until(stopped(), self.maintain(MaintenanceTask::Keys, KEYS)),
            until(stopped(), self.maintain(MaintenanceTask::Audit, AUDIT)),
        );
    }

    /// Whoever starts a server again has mended what kept it from its work: messages that failed too often get another chance.
    async fn redrive(&self) {
        for queue in [&self.jobs, &self.due, &self.notify] {
            match queue.redrive().await {
                Ok(0) => {}
                Ok(moved) => tracing::info!(moved, "messages that had failed too often are tried again"),
                Err(error) => tracing::warn!(error = %error, "messages that failed too often stay where they are"),
            }
        }
    }

    /// Captures changes and folds events; of two servers on one folder one does.
    async fn capture(&self, stopped: impl Future<Output = ()>, folds_stopped: impl Future<Output = ()>) {
        tokio::pin!(stopped);
        let _sole = tokio::select! {
            sole = SoleWorker::wait(&self.database, "captures") => sole,
            () = &mut stopped => return,
        };
        let folds = Folds::new(self.steps.clone(), Arc::clone(&self.clock));
        tokio::join!(Captures::new(self.steps.clone(), CAPTURES).run(stopped), folds.run(folds_stopped));
    }

    async fn make_due(&self, body: &str) -> Result<(), StepError> {
        let due: Due = serde_json::from_str(body).map_err(unreadable)?;
        schedule_due(&self.control, &due, self.clock.now()).await.map(drop)
    }

    async fn maintain(&self, task: MaintenanceTask, every: Duration) {
        let maintenance = Maintenance::new(self.steps.clone());
        loop {
            if let Err(error) = maintenance.run(&task).await {
                tracing::warn!(error = %error, "what is to be done from time to time could not be done");
            }
            tokio::time::sleep(every).await;
        }
    }
}

/// SQLite says at no cost whether anything has changed.
struct LocalChanges(DataVersion);

impl Changes for LocalChanges {
    fn version(&self) -> Option<i64> {
        self.0.get()
    }
}

/// Whether the environment has AWS credentials, which a federation signs with.
fn has_aws_identity(ambient: &[(String, String)]) -> bool {
    let has = |wanted: &str| ambient.iter().any(|(name, value)| name == wanted && !value.is_empty());
    has("AWS_ACCESS_KEY_ID") && has("AWS_SECRET_ACCESS_KEY") && (has("AWS_REGION") || has("AWS_DEFAULT_REGION"))
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // whoever could ask for a stop is gone: that is one too
    drop(stop.wait_for(|stopped| *stopped).await);
}

async fn until(stop: impl Future<Output = ()>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = stop => {}
        () = work => {}
    }
}

/// Deals with the messages of a queue, so many at a time, for ever.
async fn consume(queue: &dyn JobQueue, most: usize, handle: impl AsyncFn(&str) -> Result<(), StepError>) {
    let messages = stream::repeat(()).then(|()| receive(queue)).flat_map(stream::iter);
    messages.for_each_concurrent(most, |message| deal(queue, message, &handle)).await;
}

/// The next message, if one comes soon. One at a time: what waits here for its turn would be hidden from others.
async fn receive(queue: &dyn JobQueue) -> Vec<Message> {
    match queue.receive(1, WAIT, HIDDEN).await {
        Ok(messages) => messages,
        Err(error) => {
            tracing::warn!(error = %error, "a queue cannot be listened to");
            tokio::time::sleep(AGAIN).await;
            Vec::new()
        }
    }
}

async fn deal(queue: &dyn JobQueue, message: Message, handle: &impl AsyncFn(&str) -> Result<(), StepError>) {
    let done = match handle(&message.body).await {
        Ok(()) => queue.delete(&message.receipt).await,
        Err(error) => {
            let is_ours = error.kind == StepErrorKind::Retryable;
            tracing::warn!(error = %error, deliveries = message.deliveries, is_ours, "a message failed");
            queue.release(&message.receipt, AGAIN).await
        }
    };
    if let Err(error) = done {
        tracing::warn!(error = %error, "a message could not be put away: it comes again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aws_identity_is_a_key_its_secret_and_a_region() {
        let has = |names: &[&str]| {
            let ambient: Vec<_> = names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
            has_aws_identity(&ambient)
        };
        assert!(has(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"]));
        assert!(!has(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]));
        assert!(!has(&["AWS_REGION", "AWS_ACCESS_KEY_ID"]));
        let empty = ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
        assert!(!has_aws_identity(&empty.map(|name| (name.to_owned(), String::new()))));
    }
}
