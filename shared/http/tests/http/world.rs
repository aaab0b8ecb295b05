//! An installation in memory, and a client of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use firebackup_codec::secret::SecretKey;
use firebackup_control::{
    Archive, ArchivePlace, BucketMade, BucketToMake, Code, CollectionFacts, CollectionFindings, Control, ControlError,
    ControlSettings, Credentials, DatabaseEdition, DatabaseFacts, DatabaseType, DestinationAccess, DestinationFindings,
    JobEnd, JobResult, OpenedPlace, OrganizationId, Ports, Probes, ProjectAccess, ProjectFindings, ProjectId, SignUp,
    asked_permissions,
};
use firebackup_engine::memory::MemoryDatabase;
use firebackup_engine::{Backup, EngineError, Repository, Secrets};
use firebackup_http::{
    Answered, Changes, ClientAddress, HttpState, Observer, Remembered, Repositories, SignInPages, router,
};
use firebackup_model::id::JobId;
use firebackup_model::manifest::Manifest;
use firebackup_model::port::{ItemKey, ItemStore, ItemWrite};
use firebackup_model::{DatabaseName, Timestamp};
use firebackup_testkit::HandClock;
use firebackup_testkit::memory_buffer::MemoryBuffer;
use firebackup_testkit::memory_issuer::{MemoryIssuer, identity};
use firebackup_testkit::memory_items::MemoryItems;
use firebackup_testkit::memory_ports::{
    CountedRandom, MemoryEvents, MemoryKeys, MemoryQueue, MemoryScheduler, MemoryWorkflows,
};
use firebackup_testkit::memory_push::MemoryPush;
use firebackup_testkit::memory_receiver::MemoryReceiver;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::contract;

/// A text that stands in secrets only.
pub const PLANTED: &str = "planted-secret";
/// The largest answer that is read.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

pub struct World {
    pub router: Router,
    state: HttpState,
    pub control: Control,
    pub clock: Arc<HandClock>,
    pub items: Arc<MemoryItems>,
    pub keys: Arc<MemoryKeys>,
    pub store: Arc<InMemory>,
    pub repositories: Arc<MemoryRepositories>,
    pub issuer: Arc<MemoryIssuer>,
    pub buffer: Arc<MemoryBuffer>,
    pub archive: Arc<TestArchive>,
    pub answers: Arc<Answers>,
    pub organization: OrganizationId,
    pub owner: String,
}

/// What an observer is told: method, route and class of status of each answer.
#[derive(Default)]
pub struct Answers(pub Mutex<Vec<(&'static str, String, &'static str)>>);

impl Observer for Answers {
    fn answered(&self, answered: &Answered<'_>) {
        let told = (answered.method, answered.route.to_owned(), answered.status_class());
        self.0.lock().unwrap().push(told);
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
    pub text: String,
}

/// A request on its way.
pub struct Call<'w> {
    world: &'w World,
    method: String,
    path: String,
    token: Option<String>,
    headers: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
    is_documented: bool,
}

impl World {
    pub async fn new() -> Self {
        Self::with(ControlSettings {
            allow_folders: true,
            allow_emulators: true,
            captures_changes: true,
            starts_emulators: true,
            sign_up: SignUp::Anyone,
            ..ControlSettings::default()
        })
        .await
    }

    pub async fn with(settings: ControlSettings) -> Self {
        // the memory database of the engine counts from a minute before this
        let clock = Arc::new(HandClock::new(Timestamp::new(1_700_000_060, 0)));
        let random = Arc::new(CountedRandom::default());
        let items = Arc::new(MemoryItems::new(clock.clone()));
        let keys = Arc::new(MemoryKeys::default());
        let issuer = Arc::new(MemoryIssuer::default());
        let archive = Arc::new(TestArchive::default());
        let buffer = Arc::new(MemoryBuffer::new(clock.clone()));
        let control = Control::new(Ports {
            items: items.clone(),
            queue: Arc::new(MemoryQueue::default()),
            workflows: Arc::new(MemoryWorkflows::default()),
            scheduler: Arc::new(MemoryScheduler::default()),
            events: Arc::new(MemoryEvents::default()),
            keys: keys.clone(),
            clock: clock.clone(),
            random: random.clone(),
            probes: Arc::new(TestProbes),
            archive: archive.clone(),
            identity: Some(issuer.clone()),
            consents: Some(issuer.clone()),
            webhooks: Some(Arc::new(MemoryReceiver::default())),
            notify: Arc::new(MemoryQueue::default()),
            push: Arc::new(MemoryPush::default()),
            buffer: Some(buffer.clone()),
            accounts: Some(issuer.clone()),
            settings,
        });
        let (store, answers) = (Arc::new(InMemory::new()), Arc::new(Answers::default()));
        let world = firebackup_engine::World { clock: clock.clone(), random: random.clone() };
        let repositories = Arc::new(MemoryRepositories {
            lying: Mutex::default(),
            store: store.clone(),
            elsewhere: Arc::default(),
            world,
            mood: AtomicU64::new(0),
        });
        let state = HttpState {
            control: control.clone(),
            repositories: repositories.clone(),
            random,
            version: "1.2.3",
            sign_in: SignInPages { app_url: None, is_secure: true },
            observer: answers.clone(),
            // the clock of these tests moves without anything being changed
            remembered: None,
        };
        let first = control.first_owner("First").await.unwrap().unwrap();
        let (organization, owner) = (first.organization.id, first.api_key.to_string());
        Self {
            router: router(state.clone()),
            state,
            control,
            clock,
            items,
            keys,
            store,
            repositories,
            issuer,
            buffer,
            archive,
            answers,
            organization,
            owner,
        }
    }

    /// The same, where answers are kept until `changes` says another number.
    pub fn remembering(self, changes: Arc<dyn Changes>) -> Self {
        let state = HttpState { remembered: Some(Remembered::new(changes)), ..self.state };
        Self { router: router(state.clone()), state, ..self }
    }

    /// Another organization of the same installation, and its owner's key.
    pub async fn another_organization(&self) -> (OrganizationId, String) {
        let marker = ItemKey::new("INSTALLATION", "OWNER");
        let version = self.items.get(&marker).await.unwrap().unwrap().version;
        self.items.write(vec![ItemWrite::Delete(marker, version)]).await.unwrap();
        let other = self.control.first_owner("Other").await.unwrap().unwrap();
        (other.organization.id, other.api_key.to_string())
    }

    /// The owner, for verbs that are called directly.
    pub async fn caller(&self) -> firebackup_control::Caller {
        self.control.authenticate(&self.owner, None).await.unwrap()
    }

    pub fn call(&self, method: &str, path: &str) -> Call<'_> {
        Call {
            world: self,
            method: method.to_owned(),
            path: path.to_owned(),
            token: Some(self.owner.clone()),
            headers: Vec::new(),
            body: None,
            is_documented: true,
        }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.call("GET", path).send().await
    }

    /// Sends what must succeed, and returns what it gave.
    pub async fn post(&self, path: &str, body: Value) -> Value {
        let reply = self.call("POST", path).json(&body).send().await;
        assert!(reply.status < 300, "{path}: {}", reply.text);
        reply.body["data"].clone()
    }

    /// An API key with this role.
    pub async fn key(&self, role: &str) -> String {
        let made =
            self.post("/api/v1/organizations/current/service-account", json!({"name": role, "role": role})).await;
        made["apiKey"].as_str().unwrap().to_owned()
    }

    /// Somebody who signs in, in a browser: an access and a refresh token.
    pub async fn sign_in(&self, name: &str) -> (String, String) {
        let began = self.call("GET", "/api/v1/auth/google").stranger().send().await;
        assert_eq!(began.status, 302, "{}", began.text);
        let cookie = began.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let who = identity(name, &format!("{name}@example.com"));
        let (state, code) = self.issuer.sign_in(began.headers["location"].to_str().unwrap(), who);
        let back = format!("/api/v1/auth/google/callback?state={state}&code={code}");
        let ended = self.call("GET", &back).stranger().header("cookie", &cookie).send().await;
        let request = json!({"code": ended.data()["code"], "grant_type": "authorization_code"});
        let tokens = self.call("POST", "/api/v1/auth/token").stranger().json(&request).send().await;
        let text = |name: &str| tokens.data()[name].as_str().unwrap_or_else(|| panic!("{}", tokens.text)).to_owned();
        (text("accessToken"), text("refreshToken"))
    }

    /// Somebody who has joined the first organization with this role: their access token and user id.
    pub async fn member(&self, name: &str, role: &str) -> (String, String) {
        let invite = json!({"email": format!("{name}@example.com"), "role": role});
        let invite = self.post("/api/v1/organizations/current/invites", invite).await;
        let (access, _) = self.sign_in(name).await;
        let accepted = self.call("POST", "/api/v1/organizations/invites/accept").token(&access);
        let accepted = accepted.json(&json!({"token": invite["token"]})).send().await;
        assert_eq!(accepted.status, 200, "{}", accepted.text);
        let me = self.call("GET", "/api/v1/auth/me").token(&access).send().await;
        (access, id(&me.data()["user"]))
    }

    pub async fn project(&self) -> String {
        id(&self.post("/api/v1/projects", emulator_project("Shop")).await)
    }

    pub async fn destination(&self) -> String {
        id(&self.post("/api/v1/storage/destinations", folder("Here")).await)
    }

    /// A project, a destination, and a backup that was started and not done.
    pub async fn started_backup(&self) -> (String, String) {
        let project = self.project().await;
        self.destination().await;
        let backup = self.post("/api/v1/backups", json!({"projectId": project})).await;
        (project, id(&backup))
    }

    /// The same, with the backup done: it lies in the store.
    pub async fn completed_backup(&self, documents: i64) -> (String, String) {
        let (project, backup) = self.started_backup().await;
        self.complete(&backup, documents, 0).await;
        (project, backup)
    }

    /// Another backup of a project, which is done: of so many documents, the first ten of which were raised by so much.
    pub async fn another_backup(&self, project: &str, documents: i64, raised: i64) -> String {
        let backup = id(&self.post("/api/v1/backups", json!({"projectId": project})).await);
        self.complete(&backup, documents, raised).await;
        backup
    }

    /// One that keeps what changed since the one before, which had fewer documents.
    pub async fn incremental_backup(&self, project: &str, documents: i64) -> String {
        let body = json!({"projectId": project, "type": "incremental"});
        let backup = id(&self.post("/api/v1/backups", body).await);
        self.complete_as(&backup, (documents, 0), true).await;
        backup
    }

    async fn complete(&self, backup: &str, documents: i64, raised: i64) {
        self.complete_as(backup, (documents, raised), false).await;
    }

    async fn complete_as(&self, backup: &str, made_of: (i64, i64), is_incremental: bool) {
        let job: JobId = backup.parse().unwrap();
        let worker = self.control.worker(&self.organization);
        self.control.start_job(&worker, &job).await.unwrap();
        let manifest = self.repositories.back_up(&job, made_of, is_incremental).await;
        let result = JobResult::of(&manifest);
        self.control.finish_job(&worker, &job, JobEnd::Completed(Box::new(result))).await.unwrap();
    }
}

impl Call<'_> {
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    pub fn stranger(mut self) -> Self {
        self.token = None;
        self
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub fn json(mut self, body: &Value) -> Self {
        self.body = Some(serde_json::to_vec(body).unwrap());
        self.header("content-type", "application/json")
    }

    pub fn bytes(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// For what the document does not speak of.
    pub fn undocumented(mut self) -> Self {
        self.is_documented = false;
        self
    }

    pub async fn send(self) -> Reply {
        let operation = contract::operation(&self.method, &self.path);
        let sent: Option<Value> = self.body.as_ref().and_then(|body| serde_json::from_slice(body).ok());
        let is_documented = self.is_documented;
        let place = format!("{} {}", self.method, self.path);
        let reply = self.exchange().await;
        assert!(reply.headers.contains_key("x-request-id"), "{place}");
        assert_eq!(reply.headers["cache-control"], "no-store", "{place}");
        if reply.status != 302 {
            let expect = if place.contains("/audit/export") && reply.status == 200 {
                "application/x-ndjson"
            } else {
                "application/json"
            };
            assert_eq!(reply.headers["content-type"], expect, "{place}: {}", reply.text);
        }
        assert!(!reply.text.contains(PLANTED), "{place}: {}", reply.text);
        if is_documented {
            let operation = operation.unwrap_or_else(|| panic!("{place} is not documented"));
            assert_eq!(
                operation.check_answer(reply.status, &reply.body),
                Vec::<String>::new(),
                "{place}: {}",
                reply.text
            );
            if let (true, Some(sent)) = (reply.status < 300, sent) {
                assert_eq!(operation.check_request(&sent), Vec::<String>::new(), "{place}: {sent}");
            }
        }
        reply
    }

    async fn exchange(self) -> Reply {
        self.world.clock.advance(1);
        let mut request = Request::builder().method(self.method.as_str()).uri(&self.path);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let address = ClientAddress("192.0.2.7".parse().unwrap());
        let request = request.extension(address).body(self.body.map_or_else(Body::empty, Body::from)).unwrap();
        let response = self.world.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = to_bytes(response.into_body(), MAX_ANSWER).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Reply { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null), text }
    }
}

impl Reply {
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    /// The status and the code, for comparing.
    pub fn outcome(&self) -> (u16, &str) {
        (self.status, self.code())
    }

    pub fn data(&self) -> &Value {
        &self.body["data"]
    }
}

pub fn id(thing: &Value) -> String {
    thing["id"].as_str().unwrap_or_else(|| panic!("{thing} has no id")).to_owned()
}

pub fn emulator_project(name: &str) -> Value {
    json!({"name": name, "googleProject": "demo-shop", "credentials": {"type": "emulator", "host": "127.0.0.1:8080"}})
}

/// A key file of Google's, as far as it is looked at.
pub fn key_file() -> String {
    json!({
        "type": "service_account",
        "project_id": "demo-shop",
        "client_email": "backup@demo-shop.iam.gserviceaccount.com",
        "private_key_id": "1",
        "private_key": format!("-----BEGIN PRIVATE KEY-----\n{PLANTED}\n-----END PRIVATE KEY-----\n"),
        "token_uri": "https://oauth2.googleapis.com/token",
    })
    .to_string()
}

pub fn folder(name: &str) -> Value {
    json!({"name": name, "url": "file:///srv/backups"})
}

pub fn bucket(name: &str) -> Value {
    let options = json!({"AWS_ACCESS_KEY_ID": "AKIA0", "AWS_SECRET_ACCESS_KEY": PLANTED});
    json!({"name": name, "url": "s3://backups/shop", "options": options})
}

pub fn schedule(project: &str) -> Value {
    json!({"name": "Nightly", "projectId": project, "cronExpression": "0 3 * * *", "timezone": "Europe/Berlin"})
}

/// Finds everything in order, unless the name of the thing asks for trouble.
struct TestProbes;

/// Keeps objects by name, until they are out of reach.
#[derive(Default)]
pub struct TestArchive {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    pub is_down: AtomicBool,
}

impl TestArchive {
    fn check(&self) -> Result<(), ControlError> {
        if self.is_down.load(Ordering::SeqCst) {
            return Err(ControlError::destination("the bucket does not answer").with_source(PLANTED));
        }
        Ok(())
    }
}

#[async_trait]
impl Archive for TestArchive {
    async fn put(&self, _: &ArchivePlace, name: &str, bytes: Vec<u8>) -> Result<bool, ControlError> {
        self.check()?;
        let mut objects = self.objects.lock().unwrap();
        let is_new = !objects.contains_key(name);
        objects.entry(name.to_owned()).or_insert(bytes);
        Ok(is_new)
    }

    async fn get(&self, _: &ArchivePlace, name: &str, _: u64) -> Result<Option<Vec<u8>>, ControlError> {
        self.check()?;
        Ok(self.objects.lock().unwrap().get(name).cloned())
    }
}

#[async_trait]
impl Probes for TestProbes {
    async fn project(&self, access: &ProjectAccess) -> Result<ProjectFindings, ControlError> {
        if let Credentials::Emulator { host, .. } = &access.credentials
            && host.starts_with("nowhere")
        {
            return Err(ControlError::google("the emulator does not answer")
                .with_source(format!("the probe's cause: {PLANTED}")));
        }
        let facts = DatabaseFacts {
            id: "(default)".to_owned(),
            location: Some("nam5".to_owned()),
            database_type: Some(DatabaseType::Native),
            edition: Some(DatabaseEdition::Enterprise),
            realtime_updates: Some(!access.google_project.ends_with("silent")),
            ..DatabaseFacts::default()
        };
        let databases = vec!["(default)".to_owned()];
        let has_no_users = access.google_project.ends_with("without-users");
        let of_documents = asked_permissions().into_iter().filter(|name| name.starts_with("datastore."));
        let granted = has_no_users.then(|| of_documents.map(str::to_owned).collect());
        Ok(ProjectFindings { databases, facts: vec![facts], granted, ..ProjectFindings::default() })
    }

    async fn collections(&self, _: &ProjectAccess, _: &str) -> Result<CollectionFindings, ControlError> {
        let facts = |id: &str, documents| CollectionFacts { id: id.to_owned(), documents, at_least: false };
        Ok(CollectionFindings { collections: vec![facts("orders", None), facts("users", Some(7))], partial: false })
    }

    async fn destination(&self, place: &DestinationAccess) -> Result<DestinationFindings, ControlError> {
        if place.url.contains("nowhere") {
            return Err(ControlError::destination("the bucket does not answer").with_source(PLANTED));
        }
        let kind = if place.url.starts_with("file:") { "folder" } else { "s3" };
        Ok(DestinationFindings { kind: kind.to_owned(), ..DestinationFindings::default() })
    }
}

/// One repository in memory, whatever destination is asked for.
pub struct MemoryRepositories {
    /// What lies in every destination.
    pub lying: Mutex<Vec<(ProjectId, bool)>>,
    store: Arc<InMemory>,
    /// What lies in a destination whose URL says that it is elsewhere.
    pub elsewhere: Arc<InMemory>,
    world: firebackup_engine::World,
    mood: AtomicU64,
}

const PANICKING: u64 = 1;
const FAILING: u64 = 2;

impl MemoryRepositories {
    pub fn panic_from_now_on(&self) {
        self.mood.store(PANICKING, Ordering::SeqCst);
    }

    pub fn fail_from_now_on(&self) {
        self.mood.store(FAILING, Ordering::SeqCst);
    }

    fn secrets() -> Secrets {
        Secrets { masters: vec![SecretKey::from_bytes([7; 32])], ..Secrets::default() }
    }

    /// The repository in which backups lie.
    pub async fn repository(&self) -> Repository {
        Repository::open(self.store.clone(), Self::secrets(), self.world.clone()).await.unwrap()
    }

    /// Makes the backup of this id, as the steps of a workflow would.
    pub async fn back_up(&self, job: &JobId, (documents, raised): (i64, i64), is_incremental: bool) -> Manifest {
        let repository = match Repository::open(self.store.clone(), Self::secrets(), self.world.clone()).await {
            Ok(repository) => repository,
            Err(_) => Repository::init(self.store.clone(), Self::secrets(), self.world.clone()).await.unwrap(),
        };
        let database = MemoryDatabase::new(DatabaseName::new("demo-shop", "(default)"));
        for n in 0..documents {
            database.set(
                &format!("{}/d{n:05}", if n % 3 == 0 { "orders" } else { "users" }),
                if n < 10 { n + raised } else { n },
            );
        }
        let backup = Backup::builder(repository, Arc::new(database));
        let steps = if is_incremental { backup.incremental() } else { backup }.steps();
        for chunk in 0..steps.plan(job).await.unwrap().chunks {
            let mut sequence = 0;
            loop {
                let step = steps.chunk(job, chunk, sequence).await.unwrap();
                if step.done {
                    break;
                }
                sequence = step.sequence;
            }
        }
        steps.finalize(job).await.unwrap()
    }
}

#[async_trait]
impl Repositories for MemoryRepositories {
    async fn open(&self, _: &OpenedPlace) -> Result<Repository, ControlError> {
        match self.mood.load(Ordering::SeqCst) {
            PANICKING => panic!("{PLANTED}"),
            FAILING => return Err(ControlError::destination("the bucket does not answer").with_source(PLANTED)),
            _ => {}
        }
        let opened = Repository::open(self.store.clone(), Self::secrets(), self.world.clone()).await;
        opened.map_err(|error: EngineError| ControlError::destination("it cannot be opened").with_source(error))
    }

    async fn objects(&self, place: &OpenedPlace) -> Result<Arc<dyn ObjectStore>, ControlError> {
        self.all_objects(&place.access).await
    }

    async fn all_objects(&self, place: &DestinationAccess) -> Result<Arc<dyn ObjectStore>, ControlError> {
        match self.mood.load(Ordering::SeqCst) {
            FAILING => Err(ControlError::destination("the bucket does not answer").with_source(PLANTED)),
            _ if place.url.ends_with("elsewhere") => Ok(self.elsewhere.clone()),
            _ => Ok(self.store.clone()),
        }
    }

    async fn found(&self, _: &DestinationAccess) -> Result<Vec<(ProjectId, bool)>, ControlError> {
        match self.mood.load(Ordering::SeqCst) {
            FAILING => Err(ControlError::destination("the bucket does not answer").with_source(PLANTED)),
            _ => Ok(self.lying.lock().unwrap().clone()),
        }
    }

    async fn folders(&self, place: &DestinationAccess) -> Result<Vec<String>, ControlError> {
        match place.url.as_str() {
            "s3://nowhere" => Err(ControlError::destination("the bucket does not answer").with_source(PLANTED)),
            "s3://many" => Ok((0..1001).map(|n| format!("{n:04}")).collect()),
            _ => Ok(vec!["a".to_owned(), "b".to_owned()]),
        }
    }

    async fn make_folder(&self, place: &DestinationAccess) -> Result<bool, ControlError> {
        Ok(place.url.starts_with("file:"))
    }

    async fn make_bucket(&self, bucket: &BucketToMake) -> Result<BucketMade, ControlError> {
        match bucket.access.url.as_str() {
            "s3://nowhere" => Err(ControlError::destination("the bucket does not answer").with_source(PLANTED)),
            "s3://taken" => Err(ControlError::conflict(Code::Conflict, "there is such a bucket already")
                .with_details(json!({ "owner": "other" }))),
            _ => Ok(BucketMade {
                kind: "s3".to_owned(),
                closed_to_public: true,
                keeps_versions: true,
                object_lock: bucket.object_lock,
                problems: Vec::new(),
            }),
        }
    }
}

pub fn webhook(name: &str) -> Value {
    json!({"name": name, "url": format!("https://receiver.example/{PLANTED}")})
}

/// Drills that are due on Sundays.
pub fn drills() -> Value {
    json!({"cronExpression": "0 4 * * 0", "scratch": {"kind": "emulator"}})
}

/// Everything that a role table needs, once: ids by name.
pub async fn furnish(world: &World) -> BTreeMap<&'static str, String> {
    let (project, backup) = world.completed_backup(30).await;
    let restore = id(&world.post("/api/v1/backups/restore", json!({"backupId": backup, "dryRun": true})).await);
    let schedule = id(&world.post("/api/v1/schedules", schedule(&project)).await);
    let pushed = json!({"projectId": project, "config": {"push": {"hmac": true}}});
    world.post("/api/v1/pitr/enable", pushed).await;
    world.call("PUT", &format!("/api/v1/drills/{project}/config")).json(&drills()).send().await;
    let moment = json!({"projectId": project, "pointInTime": "2023-11-14T22:14:00Z", "dryRun": true});
    let moment = id(&world.post("/api/v1/pitr/restore", moment).await);
    let destinations = world.get("/api/v1/storage/destinations").await;
    let destination = id(&destinations.data()[0]);
    let other = id(&world.post("/api/v1/storage/destinations", bucket("Other")).await);
    let (_, user) = world.member("furniture", "viewer").await;
    let new_invite = json!({"email": "guest@example.com", "role": "viewer"});
    let invite = id(&world.post("/api/v1/organizations/current/invites", new_invite).await);
    let new_key = json!({"name": "Key", "role": "viewer"});
    let key = id(&world.post("/api/v1/organizations/current/service-account", new_key).await);
    let webhook = id(&world.post("/api/v1/webhooks", webhook("Told")).await);
    let tried = world.call("POST", &format!("/api/v1/webhooks/{webhook}/test")).send().await;
    BTreeMap::from([
        ("webhookId", webhook),
        ("deliveryId", id(tried.data())),
        ("projectId", project),
        ("backupId", backup),
        ("restoreId", restore),
        ("jobId", moment),
        ("scheduleId", schedule),
        ("destinationId", destination),
        ("otherDestinationId", other),
        ("apiKeyId", key),
        ("userId", user),
        ("inviteId", invite),
    ])
}
