//! Everything a control plane needs, in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use firebackup_control::{
    ApiKeyId, Archive, ArchivePlace, AskedMoment, BackupConfig, BackupJob, Caller, Code, CollectionFindings, Control,
    ControlError, ControlSettings, Credentials, Destination, DestinationAccess, DestinationFindings, FindMoment,
    FoundMoment, JobEnd, JobErrorCode, JobResult, NewApiKey, NewBackup, NewCredentials, NewDestination, NewProject,
    NewRestore, NewSchedule, NewWebhook, OpenedPlace, Origin, Person, Ports, Probes, Project, ProjectAccess,
    ProjectFindings, RestoreModeName, RestoredReport, Result, Retention, RetentionType, Role, Schedule, SignUp, Tokens,
    Webhook, Worker,
};
use firebackup_model::port::{Clock, ConsentIssuer, DomainEvent, Identity, Random};
use firebackup_model::{DatabaseName, Timestamp};
use firebackup_testkit::HandClock;
use firebackup_testkit::memory_buffer::MemoryBuffer;
use firebackup_testkit::memory_issuer::MemoryIssuer;
use firebackup_testkit::memory_items::MemoryItems;
use firebackup_testkit::memory_ports::{
    CountedRandom, MemoryEvents, MemoryKeys, MemoryQueue, MemoryScheduler, MemoryWorkflows,
};
use firebackup_testkit::memory_push::MemoryPush;
use firebackup_testkit::memory_receiver::MemoryReceiver;

/// A secret in a service account's key; must be found nowhere.
pub const PLANTED_KEY: &str = "planted-private-key";
/// A secret in a destination's options; must be found nowhere.
pub const PLANTED_OPTION: &str = "planted-secret-access-key";

/// An address with a secret in it; must be found nowhere.
pub const PLANTED_ADDRESS: &str = "https://receiver.example/planted-path?token=planted-token";

pub struct World {
    pub control: Control,
    pub items: MemoryItems,
    pub queue: Arc<MemoryQueue>,
    pub workflows: Arc<MemoryWorkflows>,
    pub scheduler: Arc<MemoryScheduler>,
    pub events: Arc<MemoryEvents>,
    pub keys: Arc<MemoryKeys>,
    pub clock: Arc<HandClock>,
    pub probes: Arc<FakeProbes>,
    pub archive: Arc<MemoryArchive>,
    pub issuer: Arc<MemoryIssuer>,
    pub buffer: Arc<MemoryBuffer>,
    pub receiver: Arc<MemoryReceiver>,
    pub notify: Arc<MemoryQueue>,
    pub push: Arc<MemoryPush>,
    random: Arc<CountedRandom>,
    pub owner_key: String,
}

/// Objects by their names, below one destination.
#[derive(Default)]
pub struct MemoryArchive {
    pub objects: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Whether it cannot be reached.
    pub fails: Mutex<bool>,
    /// How many were read.
    pub reads: Mutex<u64>,
}

impl MemoryArchive {
    fn check(&self) -> Result<()> {
        match *self.fails.lock().unwrap() {
            true => Err(ControlError::destination("no answer")),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Archive for MemoryArchive {
    async fn put(&self, _: &ArchivePlace, name: &str, bytes: Vec<u8>) -> Result<bool> {
        self.check()?;
        let mut objects = self.objects.lock().unwrap();
        let is_new = !objects.contains_key(name);
        objects.entry(name.to_owned()).or_insert(bytes);
        Ok(is_new)
    }

    async fn get(&self, _: &ArchivePlace, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
        self.check()?;
        *self.reads.lock().unwrap() += 1;
        let found = self.objects.lock().unwrap().get(name).cloned();
        assert!(found.as_ref().is_none_or(|bytes| bytes.len() as u64 <= most));
        Ok(found)
    }
}

/// Finds what it is told to find, and keeps what it was shown.
#[derive(Default)]
pub struct FakeProbes {
    pub project: Mutex<ProjectFindings>,
    pub collections: Mutex<CollectionFindings>,
    pub destination: Mutex<DestinationFindings>,
    pub fails: Mutex<bool>,
    pub shown_key: Mutex<Option<String>>,
    pub shown_access: Mutex<Option<ProjectAccess>>,
    pub shown_options: Mutex<BTreeMap<String, String>>,
}

#[async_trait]
impl Probes for FakeProbes {
    async fn project(&self, access: &ProjectAccess) -> Result<ProjectFindings> {
        *self.shown_access.lock().unwrap() = Some(access.clone());
        if let Credentials::ServiceAccount { key_json } = &access.credentials {
            *self.shown_key.lock().unwrap() = Some(key_json.to_string());
        }
        match *self.fails.lock().unwrap() {
            true => Err(ControlError::google("google refused")),
            false => Ok(self.project.lock().unwrap().clone()),
        }
    }

    async fn collections(&self, access: &ProjectAccess, _: &str) -> Result<CollectionFindings> {
        *self.shown_access.lock().unwrap() = Some(access.clone());
        match *self.fails.lock().unwrap() {
            true => Err(ControlError::google("google refused")),
            false => Ok(self.collections.lock().unwrap().clone()),
        }
    }

    async fn destination(&self, place: &DestinationAccess) -> Result<DestinationFindings> {
        let options = place.options.iter().map(|(name, value)| (name.clone(), value.to_string()));
        *self.shown_options.lock().unwrap() = options.collect();
        match *self.fails.lock().unwrap() {
            true => Err(ControlError::destination("no answer")),
            false => Ok(self.destination.lock().unwrap().clone()),
        }
    }
}

impl World {
    pub async fn new() -> Self {
        let world = Self::empty();
        let first = world.control.first_owner("Acme").await.unwrap().unwrap();
        Self { owner_key: first.api_key.to_string(), ..world }
    }

    /// With a first organization.
    pub async fn first(settings: ControlSettings) -> Self {
        let world = Self::with(settings);
        let first = world.control.first_owner("Acme").await.unwrap().unwrap();
        Self { owner_key: first.api_key.to_string(), ..world }
    }

    /// Without an organization.
    pub fn empty() -> Self {
        let settings = ControlSettings {
            allow_emulators: true,
            captures_changes: true,
            starts_emulators: true,
            max_running_jobs: 2,
            sign_up: SignUp::Anyone,
            ..ControlSettings::default()
        };
        Self::with(settings)
    }

    pub fn with(settings: ControlSettings) -> Self {
        Self::over(settings, true)
    }

    /// As [`Self::with`], and nobody asks people whether we may into their projects.
    pub fn without_consents(settings: ControlSettings) -> Self {
        Self::over(settings, false)
    }

    fn over(settings: ControlSettings, has_consents: bool) -> Self {
        let clock = Arc::new(HandClock::default());
        let items = MemoryItems::new(clock.clone());
        let probes = Arc::new(FakeProbes::default());
        probes.project.lock().unwrap().databases = vec!["(default)".to_owned(), "orders".to_owned()];
        probes.destination.lock().unwrap().kind = "s3".to_owned();
        let (queue, workflows) = (Arc::new(MemoryQueue::default()), Arc::new(MemoryWorkflows::default()));
        let (scheduler, events) = (Arc::new(MemoryScheduler::default()), Arc::new(MemoryEvents::default()));
        let issuer = Arc::new(MemoryIssuer::default());
        let (receiver, notify) = (Arc::new(MemoryReceiver::default()), Arc::new(MemoryQueue::default()));
        let (keys, random) = (Arc::new(MemoryKeys::default()), Arc::new(CountedRandom::default()));
        let (push, archive) = (Arc::new(MemoryPush::default()), Arc::new(MemoryArchive::default()));
        let buffer = Arc::new(MemoryBuffer::new(clock.clone()));
        let control = Control::new(Ports {
            items: Arc::new(items.clone()),
            queue: queue.clone(),
            workflows: workflows.clone(),
            scheduler: scheduler.clone(),
            events: events.clone(),
            keys: keys.clone(),
            clock: clock.clone() as Arc<dyn Clock>,
            random: random.clone() as Arc<dyn Random>,
            probes: probes.clone(),
            identity: Some(issuer.clone()),
            consents: has_consents.then(|| issuer.clone() as Arc<dyn ConsentIssuer>),
            webhooks: Some(receiver.clone()),
            notify: notify.clone(),
            push: push.clone(),
            buffer: Some(buffer.clone()),
            accounts: Some(issuer.clone()),
            archive: archive.clone(),
            settings,
        });
        let owner_key = String::new();
        Self {
            control,
            items,
            queue,
            workflows,
            scheduler,
            events,
            keys,
            clock,
            probes,
            archive,
            issuer,
            buffer,
            receiver,
            notify,
            push,
            random,
            owner_key,
        }
    }

    /// Another organization in the same store, as a later version will make them: over an installation of its own whose
    /// items are then put in here.
    pub async fn second_organization(&self) -> Caller {
        let other = Self::with(ControlSettings { allow_emulators: true, ..ControlSettings::default() });
        // ids must not be those of the first organization
        self.random.fill(&mut [0; 10]);
        other.random.fill(&mut [0; 8 * 1000]);
        let first = other.control.first_owner("Rival").await.unwrap().unwrap();
        for item in other.items.all() {
            let new = firebackup_model::port::NewItem::new(item.key, item.body);
            if new.key.partition != "INSTALLATION" {
                let write = firebackup_model::port::ItemWrite::Create(new);
                firebackup_model::port::ItemStore::write(&self.items, vec![write]).await.unwrap();
            }
        }
        self.control.authenticate(&first.api_key, None).await.unwrap()
    }

    /// Signs somebody in, whoever it is: an access and a refresh token.
    pub async fn sign_in(&self, who: Identity) -> Result<Tokens> {
        let begun = self.control.begin_sign_in().await?;
        let (state, code) = self.issuer.sign_in(&begun.url, who);
        let code = self.control.finish_sign_in(&state, &code, Some(&begun.browser_secret), &Origin::default()).await?;
        self.control.begin_session(&code, &Origin::default()).await
    }

    /// Somebody who is signed in.
    pub async fn person(&self, who: Identity) -> Person {
        let tokens = self.sign_in(who).await.unwrap();
        self.control.signed_in(&tokens.access, Origin::default()).await.unwrap()
    }

    /// The id of the API key with which the caller calls.
    pub fn key_of(caller: &Caller) -> ApiKeyId {
        caller.actor().to_string().parse().unwrap()
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The events that were published of one kind of thing, such as `backup.`.
    pub fn events_of(&self, prefix: &str) -> Vec<DomainEvent> {
        self.events.published().into_iter().filter(|event| event.kind.starts_with(prefix)).collect()
    }

    /// Goes on to the beginning of the next minute.
    pub fn next_minute(&self) {
        self.clock.advance(60 - self.now().millis() / 1000 % 60);
    }

    pub async fn owner(&self) -> Caller {
        self.control.authenticate(&self.owner_key, None).await.unwrap()
    }

    pub async fn worker(&self) -> Worker {
        self.control.worker(&self.owner().await.organization())
    }

    pub async fn key(&self, role: Role) -> (firebackup_control::ApiKey, String) {
        let new = NewApiKey { name: role.name().to_owned(), role, expires_at: None };
        let (key, secret) = self.control.create_api_key(&self.owner().await, new).await.unwrap();
        (key, secret.to_string())
    }

    pub async fn caller(&self, role: Role) -> Caller {
        let (_, secret) = self.key(role).await;
        self.control.authenticate(&secret, None).await.unwrap()
    }

    pub async fn project(&self) -> Project {
        self.control.connect_project(&self.owner().await, new_project("Shop")).await.unwrap()
    }

    pub async fn destination(&self) -> Destination {
        self.control.add_destination(&self.owner().await, new_destination("Bucket")).await.unwrap()
    }

    /// A project and a destination.
    pub async fn set_up(&self) -> (Project, Destination) {
        (self.project().await, self.destination().await)
    }

    pub async fn backup(&self, project: &Project) -> BackupJob {
        self.control.create_backup(&self.owner().await, new_backup(project), None).await.unwrap()
    }

    /// A backup that was started and is completed.
    pub async fn completed(&self, project: &Project) -> BackupJob {
        self.completed_of(new_backup(project)).await
    }

    /// The same of what is asked for.
    pub async fn completed_of(&self, new: NewBackup) -> BackupJob {
        let backup = self.control.create_backup(&self.owner().await, new, None).await.unwrap();
        let worker = self.worker().await;
        self.control.start_job(&worker, &backup.job.id).await.unwrap();
        self.control.finish_job(&worker, &backup.job.id, completed()).await.unwrap();
        self.control.backup(&self.owner().await, &backup.project_id, &backup.job.id).await.unwrap()
    }

    /// A webhook that wants everything, and its secret.
    pub async fn webhook(&self) -> (Webhook, String) {
        let (webhook, secret) = self.control.create_webhook(&self.owner().await, new_webhook("Told")).await.unwrap();
        (webhook, secret.unwrap().to_string())
    }

    pub async fn schedule(&self, project: &Project) -> Schedule {
        self.control.create_schedule(&self.owner().await, new_schedule(project)).await.unwrap()
    }
}

/// Knows no moment.
pub struct NoMoments;

#[async_trait]
impl FindMoment for NoMoments {
    async fn find(&self, _: &OpenedPlace, database: &DatabaseName, _: AskedMoment) -> Result<FoundMoment> {
        Err(unknown(&database.to_string()))
    }

    async fn find_reported(
        &self,
        _: &OpenedPlace,
        _: &DatabaseName,
        reported: &RestoredReport,
    ) -> Result<firebackup_model::id::JobId> {
        Err(unknown(reported.document.as_str()))
    }
}

fn unknown(what: &str) -> ControlError {
    let message = format!("nothing is known of {what}");
    ControlError::new(firebackup_control::Kind::Unprocessable, Code::MomentUnavailable, message)
}

pub fn completed() -> JobEnd {
    JobEnd::Completed(Box::new(JobResult { documents: 7, undo: true, ..JobResult::default() }))
}

pub fn failed() -> JobEnd {
    JobEnd::Failed { code: JobErrorCode::JobFailed, message: "google refused".to_owned() }
}

pub fn new_project(name: &str) -> NewProject {
    let key = serde_json::json!({
        "type": "service_account", "project_id": "shop-1", "client_email": "backup@shop-1.example",
        "private_key": PLANTED_KEY, "token_uri": "https://oauth2.googleapis.com/token",
    });
    NewProject {
        name: name.to_owned(),
        google_project: "shop-1".to_owned(),
        credentials: NewCredentials::ServiceAccount { key: key.to_string().into() },
        databases: None,
    }
}

pub fn new_destination(name: &str) -> NewDestination {
    let options = [("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", PLANTED_OPTION)];
    NewDestination {
        name: name.to_owned(),
        url: "s3://bucket/prefix".to_owned(),
        endpoint: None,
        options: options.map(|(name, value)| (name.to_owned(), value.to_owned().into())).into(),
        is_default: false,
        retention_lock_days: None,
        server_side_encryption: None,
    }
}

pub fn new_webhook(name: &str) -> NewWebhook {
    serde_json::from_value(serde_json::json!({ "name": name, "url": PLANTED_ADDRESS })).unwrap()
}

pub fn new_backup(project: &Project) -> NewBackup {
    serde_json::from_value(serde_json::json!({ "projectId": project.id })).unwrap()
}

pub fn new_restore(backup: &BackupJob) -> NewRestore {
    let new: NewRestore = serde_json::from_value(serde_json::json!({ "backupId": backup.job.id })).unwrap();
    assert_eq!(new.mode, RestoreModeName::Overwrite);
    new
}

pub fn new_schedule(project: &Project) -> NewSchedule {
    NewSchedule {
        name: "Nightly".to_owned(),
        project_id: project.id,
        cron_expression: "0 3 * * *".to_owned(),
        timezone: "Europe/Berlin".to_owned(),
        backup_config: BackupConfig::default(),
        storage_destination_id: None,
        retention: Some(Retention { kind: RetentionType::Count, value: 2 }),
        gfs: None,
        enabled: true,
    }
}

/// What failed, by its code.
#[track_caller]
pub fn code<T>(result: Result<T>) -> Code {
    match result {
        Ok(_) => panic!("it should have failed"),
        Err(error) => error.code,
    }
}
