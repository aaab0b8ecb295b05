//! Keys that change, and failures that are told, over ports in memory and a folder.

use std::sync::Arc;

use async_trait::async_trait;
use firebackup_codec::wrap::{RecoveryKeyPair, WrapKind};
use firebackup_control::{
    AuditFilter, BackupJob, Caller, CollectionFindings, ControlError, ControlSettings, DestinationAccess,
    DestinationFindings, ItemEventBuffer, JobStatus, NewCredentials, NewDestination, NewProject, OrganizationChange,
    Origin, Page, Ports, Probes, Project, ProjectAccess, ProjectFindings,
};
use firebackup_engine::{Meter, Repository, World};
use firebackup_http::Exposition;
use firebackup_model::ErrorKind;
use firebackup_model::port::{KeyService, Random, StepErrorKind, Steps};
use firebackup_testkit::memory_issuer::MemoryIssuer;
use firebackup_testkit::memory_items::MemoryItems;
use firebackup_testkit::memory_ports::{
    CountedRandom, MemoryEvents, MemoryKeys, MemoryQueue, MemoryScheduler, MemoryWorkflows, OTHER_MASTER,
};
use firebackup_testkit::memory_push::MemoryPush;
use firebackup_testkit::{HandClock, Log};
use futures::StreamExt;
use futures::future::ready;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use tempfile::TempDir;

use super::*;
use crate::local_metrics::LocalMetrics;
use crate::metrics::{Emf, Prometheus};
use crate::places::{MasterKeys, Places};
use crate::projects::Projects;
use crate::steps::{Counted, StepSettings};

mod captures;
mod copies;
mod drills;
mod merges;
mod migrations;
mod moments;

/// An installation with a project and a folder to keep its backups in.
struct Home {
    control: Control,
    keys: Arc<MemoryKeys>,
    clock: Arc<HandClock>,
    /// Where captures and folds are asked for.
    captures: Arc<MemoryQueue>,
    maintenance: Maintenance,
    owner: Caller,
    worker: Worker,
    project: Project,
    folder: TempDir,
}

/// Finds everything in order.
struct Content;

#[async_trait]
impl Probes for Content {
    async fn project(&self, _: &ProjectAccess) -> Result<ProjectFindings, ControlError> {
        Ok(ProjectFindings { databases: vec!["(default)".to_owned()], ..ProjectFindings::default() })
    }

    async fn collections(&self, _: &ProjectAccess, _: &str) -> Result<CollectionFindings, ControlError> {
        Ok(CollectionFindings::default())
    }

    async fn destination(&self, _: &DestinationAccess) -> Result<DestinationFindings, ControlError> {
        Ok(DestinationFindings { kind: "folder".to_owned(), ..DestinationFindings::default() })
    }
}

impl Home {
    async fn new() -> Self {
        let (clock, random) = (Arc::new(HandClock::default()), Arc::new(CountedRandom::default()));
        let keys = Arc::new(MemoryKeys::default());
        let (_, own) = keys.generate(None, &Default::default()).await.unwrap();
        let masters = MasterKeys::Service { service: keys.clone(), own: own.master };
        let world = World { clock: clock.clone(), random: random.clone() };
        let places = Places::new(masters, world, Vec::new());
        let (items, captures) = (Arc::new(MemoryItems::new(clock.clone())), Arc::new(MemoryQueue::default()));
        let buffer = ItemEventBuffer::new(items.clone(), clock.clone()).waking(captures.clone());
        let control = Control::new(Ports {
            items,
            queue: Arc::new(MemoryQueue::default()),
            workflows: Arc::new(MemoryWorkflows::default()),
            scheduler: Arc::new(MemoryScheduler::default()),
            events: Arc::new(MemoryEvents::default()),
            keys: keys.clone(),
            clock: clock.clone(),
            random,
            probes: Arc::new(Content),
            archive: Arc::new(places.clone()),
            identity: None,
            consents: None,
            webhooks: None,
            notify: Arc::new(MemoryQueue::default()),
            push: Arc::new(MemoryPush::default()),
            buffer: Some(Arc::new(buffer)),
            accounts: Some(Arc::new(MemoryIssuer::default())),
            settings: ControlSettings {
                allow_folders: true,
                allow_emulators: true,
                captures_changes: true,
                starts_emulators: true,
                ..ControlSettings::default()
            },
        });
        let first = control.first_owner("Acme").await.unwrap().unwrap();
        let owner = control.authenticate(&first.api_key, None).await.unwrap();
        let worker = control.worker(&owner.organization());
        let folder = tempfile::tempdir().unwrap();
        control.add_destination(&owner, destination(&folder)).await.unwrap();
        let project = control.connect_project(&owner, new_project()).await.unwrap();
        let steps = AppSteps::new(
            control.clone(),
            places,
            Projects::default(),
            StepSettings::default(),
            None,
            Arc::new(Emf::new(None)),
        );
        Self { control, keys, clock, captures, maintenance: Maintenance::new(steps), owner, worker, project, folder }
    }

    async fn started_backup(&self) -> BackupJob {
        let backup = self.backup(&self.owner).await;
        self.control.start_job(&self.worker, &backup.job.id).await.unwrap();
        backup
    }

    async fn backup(&self, caller: &Caller) -> BackupJob {
        let new = serde_json::from_value(json!({ "projectId": self.project.id })).unwrap();
        self.control.create_backup(caller, new, None).await.unwrap()
    }

    /// The repository of a backup, made where there is none.
    async fn repository(&self, backup: &BackupJob) -> Repository {
        let work = self.control.work_to_end(&self.worker, &backup.job.id).await.unwrap();
        self.maintenance.steps.places.open_or_make(&work.place).await.unwrap()
    }

    async fn set_keys(&self, master: Option<&str>, recovery: Option<&str>) {
        let change = OrganizationChange {
            kms_key: Some(master.map(str::to_owned)),
            recovery_public_key: Some(recovery.map(str::to_owned)),
            ..OrganizationChange::default()
        };
        self.control.update_organization(&self.owner, change).await.unwrap();
    }

    async fn keys_task(&self) -> Value {
        self.maintenance.run(&MaintenanceTask::Keys).await.unwrap()
    }

    async fn shown(&self, backup: &BackupJob) -> BackupJob {
        self.control.backup(&self.owner, &self.project.id, &backup.job.id).await.unwrap()
    }
}

fn destination(folder: &TempDir) -> NewDestination {
    let url = format!("file://{}", folder.path().display());
    serde_json::from_value(json!({ "name": "Folder", "url": url })).unwrap()
}

fn new_project() -> NewProject {
    let key = json!({
        "type": "service_account", "project_id": "shop-1", "client_email": "backup@shop-1.example",
        "private_key": "none", "token_uri": "https://oauth2.googleapis.com/token",
    });
    NewProject {
        name: "Shop".to_owned(),
        google_project: "shop-1".to_owned(),
        credentials: NewCredentials::ServiceAccount { key: key.to_string().into() },
        databases: None,
    }
}

fn report(repositories: u64, added: u64, failed: u64) -> Value {
    json!({ "organizations": 1, "repositories": repositories, "added": added, "failed": failed })
}

async fn holders(repository: &Repository) -> Vec<(WrapKind, String)> {
    let holders = repository.holders().await.unwrap();
    holders.iter().map(|holder| (holder.kind(), holder.holder().unwrap_or_default())).collect()
}

#[tokio::test]
async fn keys_that_were_set_later_open_the_repositories_that_there_are() {
    let home = Home::new().await;
    let backup = home.started_backup().await;
    assert_eq!(home.keys_task().await, report(0, 0, 0), "no job came so far as to make one");
    let repository = home.repository(&backup).await;
    assert_eq!(home.keys_task().await, report(1, 0, 0));
    let made = holders(&repository).await;
    let pair = RecoveryKeyPair::generate(&CountedRandom::default() as &dyn Random);
    home.set_keys(Some(OTHER_MASTER), Some(&pair.public.to_string())).await;
    // jobs go on in between
    home.repository(&backup).await;
    assert_eq!(home.keys_task().await, report(1, 2, 0));
    assert_eq!(home.keys_task().await, report(1, 0, 0));
    let now = holders(&repository).await;
    assert_eq!(now.len(), 3);
    assert!(now.contains(&made[0]), "nobody is taken away");
    assert!(now.contains(&(WrapKind::Kms, OTHER_MASTER.to_owned())));
    assert!(now.contains(&(WrapKind::Recovery, pair.public.to_string())));
    // and back again: the former key is believed still
    home.set_keys(None, None).await;
    assert_eq!(home.keys_task().await, report(1, 0, 0));
    home.repository(&backup).await;
}

#[tokio::test]
async fn a_repository_made_under_a_key_that_was_given_up_stays_open() {
    let home = Home::new().await;
    home.set_keys(Some(OTHER_MASTER), None).await;
    let backup = home.started_backup().await;
    let repository = home.repository(&backup).await;
    home.set_keys(None, None).await;
    home.repository(&backup).await;
    assert_eq!(home.keys_task().await, report(1, 1, 0));
    assert_eq!(holders(&repository).await.len(), 2);
}

#[tokio::test]
async fn an_outage_is_made_up_for_and_two_at_once_lose_nothing() {
    let home = Home::new().await;
    let backup = home.started_backup().await;
    let repository = home.repository(&backup).await;
    home.set_keys(Some(OTHER_MASTER), None).await;
    home.keys.fail(Some(ErrorKind::Unavailable));
    assert_eq!(home.keys_task().await["added"], 0);
    assert!(home.keys_task().await["failed"].as_u64().unwrap() > 0);
    home.keys.fail(None);
    let at_once = tokio::join!(home.keys_task(), home.keys_task(), home.set_keys(None, None), home.keys_task());
    for done in [at_once.0, at_once.1, at_once.3] {
        assert_eq!(done["failed"], 0, "{done}");
    }
    home.set_keys(Some(OTHER_MASTER), None).await;
    home.keys_task().await;
    assert_eq!(home.keys_task().await, report(1, 0, 0));
    assert!(holders(&repository).await.contains(&(WrapKind::Kms, OTHER_MASTER.to_owned())));
    home.repository(&backup).await;
}

#[tokio::test]
async fn what_a_chunk_failed_with_is_what_the_user_is_told() {
    let home = Home::new().await;
    let backup = home.started_backup().await;
    let named = json!({"job": backup.job.id, "organization": home.worker.organization()});
    let with = |more: Value| {
        let mut input = named.clone();
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        input
    };
    let chunk = with(json!({"chunk": 3, "sequence": 0}));
    let error = home.maintenance.steps.run("backup-chunk", chunk).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Fatal);
    assert!(error.message.contains("there is no repository here"), "{error}");
    assert_eq!(home.shown(&backup).await.job.error, None);
    let generic = json!({"Error": "States.ExceedToleratedFailureThreshold", "Cause": "1 of 40 failed"});
    let ended = home.maintenance.steps.run("backup-finalize", with(json!({"failed": generic}))).await.unwrap();
    assert_eq!(ended["status"], "failed");
    assert_eq!(home.shown(&backup).await.job.error.unwrap().message, error.message);
}

#[tokio::test]
async fn a_chunk_that_was_cancelled_is_no_failure() {
    let home = Home::new().await;
    let backup = home.started_backup().await;
    home.control.cancel_backup(&home.owner, &home.project.id, &backup.job.id).await.unwrap();
    let named = json!({"job": backup.job.id, "organization": home.worker.organization(), "chunk": 0, "sequence": 0});
    let error = home.maintenance.steps.run("backup-chunk", named.clone()).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Cancelled);
    let mut input = named;
    input["failed"] = json!({"Error": "States.ExceedToleratedFailureThreshold", "Cause": "1 of 40 failed"});
    let ended = home.maintenance.steps.run("backup-finalize", input).await.unwrap();
    assert_eq!(ended["status"], "cancelled");
    let shown = home.shown(&backup).await;
    assert_eq!((shown.job.status, shown.job.error), (JobStatus::Cancelled, None));
}

/// Whoever looks at a job that works on one large chunk sees what is a second old, and in the end what it came to: nothing
/// is counted twice.
#[tokio::test(start_paused = true)]
async fn progress_is_noted_each_second_and_replaced_by_the_end() {
    let home = Home::new().await;
    let backup = home.started_backup().await;
    let (steps, id) = (&home.maintenance.steps, &backup.job.id);
    let meter = Meter::default();
    let documents = async || home.shown(&backup).await.job.progress.unwrap().documents;
    let working = async {
        let mut seen = Vec::new();
        for _ in 0..4 {
            meter.documents.add(10);
            // past the second, so that what was noted in it is there
            tokio::time::sleep(Duration::from_millis(1001)).await;
            tokio::task::yield_now().await;
            seen.push(documents().await);
        }
        seen
    };
    let (seen, noted) = steps.watched(&home.worker, id, &meter, Box::pin(working)).await;
    assert!(seen.is_sorted() && seen[3] >= 30 && noted.documents >= 30, "{seen:?} {noted:?}");
    let came_to = Counted { documents: 41, chunks_done: 1, ..Counted::default() };
    steps.note_end(&home.worker, id, Some(came_to), noted).await;
    assert_eq!(documents().await, 41);

    // the same chunk once more, whose work was done by another try
    let again = async { tokio::time::sleep(Duration::from_millis(2500)).await };
    let ((), noted) = steps.watched(&home.worker, id, &meter, Box::pin(again)).await;
    assert_eq!((noted.documents, documents().await), (40, 81));
    steps.note_end(&home.worker, id, None, noted).await;
    let progress = home.shown(&backup).await.job.progress.unwrap();
    assert_eq!((progress.documents, progress.chunks_done), (41, 1));
}

#[tokio::test]
async fn what_is_logged_of_a_job_names_the_request_that_asked_for_it() {
    let home = Home::new().await;
    let origin = Origin { request: Some("find-me".to_owned()), ..Origin::default() };
    let backup = home.backup(&home.owner.clone().from(origin)).await;
    let named = json!({"job": backup.job.id, "organization": home.worker.organization()});
    let (log, _guard) = Log::listen();
    crate::triggers::start_job(&home.control, &named.to_string()).await.unwrap();
    let mut chunk = named.clone();
    (chunk["chunk"], chunk["sequence"]) = (json!(0), json!(0));
    home.maintenance.steps.run("backup-chunk", chunk).await.unwrap_err();
    let mut last = named;
    last["failed"] = json!({"Error": "Fatal", "Cause": "it is so"});
    home.maintenance.steps.run("backup-finalize", last).await.unwrap();
    let job = format!("job={}", backup.job.id);
    for (span, line) in [
        ("job-start", "a job was asked to start"),
        ("step=\"backup-chunk\"", "a step has failed"),
        ("step=\"backup-finalize\"", "a job has ended"),
        ("step=\"backup-finalize\"", "a step is done"),
    ] {
        let line = log.line(line);
        assert!([span, &job, "request_id=\"find-me\""].iter().all(|part| line.contains(part)), "{line}");
    }
}

#[tokio::test]
async fn a_job_that_nobody_asked_for_is_logged_without_a_request() {
    let home = Home::new().await;
    let backup = home.started_backup().await;
    let named = json!({"job": backup.job.id, "organization": home.worker.organization()});
    let (log, _guard) = Log::listen();
    crate::triggers::start_job(&home.control, &named.to_string()).await.unwrap();
    let line = log.line("a job was asked to start");
    assert!(line.contains(backup.job.id.as_str()) && !line.contains("request_id"), "{line}");
}

#[tokio::test]
async fn jobs_that_wait_and_run_are_counted_but_not_at_every_look() {
    let home = Home::new().await;
    home.started_backup().await;
    home.backup(&home.owner).await;
    home.backup(&home.owner).await;
    let said = async || {
        let metrics = LocalMetrics::new(Arc::new(Prometheus::new()), home.maintenance.clone());
        (metrics.text().await, metrics)
    };
    let (text, metrics) = said().await;
    assert!(text.contains("queue_jobs_waiting 2.0") && text.contains("queue_jobs_active 1.0"), "{text}");
    home.started_backup().await;
    assert_eq!(metrics.text().await, text, "it was looked at a moment ago");
    let (text, _) = said().await;
    assert!(text.contains("queue_jobs_waiting 2.0") && text.contains("queue_jobs_active 2.0"), "{text}");
    let swept = home.maintenance.run(&MaintenanceTask::Sweep).await.unwrap();
    assert_eq!((&swept["jobs"], &swept["waiting"]), (&json!(4), &json!(2)), "the sweep counts the same");
}

#[tokio::test]
async fn a_month_that_is_over_goes_into_the_folder_and_is_told_from_there() {
    let home = Home::new().await;
    let told = async || home.control.audit(&home.owner, &AuditFilter::default(), &Page::default()).await.unwrap().items;
    let before = told().await;
    assert!(before.len() >= 3, "an organization, a destination, a project");
    home.clock.advance(60 * 86_400);
    let done = home.maintenance.run(&MaintenanceTask::Audit).await.unwrap();
    assert_eq!(done, json!({ "organizations": 1, "parts": 1, "entries": before.len(), "failed": 0 }));
    let after = told().await;
    assert_eq!(after[0].action, "audit.sealed");
    assert_eq!(after[1..], before);
    let sealed = home.folder.path().join("audit").join(home.owner.organization().to_string());
    std::fs::remove_dir_all(sealed).unwrap();
    let lost = home.control.audit(&home.owner, &AuditFilter::default(), &Page::default()).await.unwrap_err();
    assert!(lost.to_string().contains("is not there any more"), "{lost}");
}

/// What somebody asks to be deleted goes by the way of every prune, in the next sweeps.
#[tokio::test]
async fn what_nothing_refers_to_is_deleted_on_request_a_day_later() {
    const ORPHAN: &str = "runs/ab/ab000000000000000000000000000000.run";
    let home = Home::new().await;
    let backup = home.started_backup().await;
    let repository = home.repository(&backup).await;
    let orphan = Path::from(ORPHAN);
    repository.store().put(&orphan, "12345".into()).await.unwrap();
    let sweep = async || home.maintenance.run(&MaintenanceTask::Sweep).await.unwrap()["cleanups"].clone();
    let request = async || home.control.request_cleanup(&home.owner, &backup.storage_destination_id).await.unwrap();
    let told = async || {
        let filter = AuditFilter { action: Some("storage.cleaned".to_owned()), ..AuditFilter::default() };
        let page = home.control.audit(&home.owner, &filter, &Page::default()).await.unwrap();
        page.items[0].details.clone().unwrap()
    };
    assert_eq!(sweep().await, 0, "nobody asked");
    request().await;
    assert_eq!((sweep().await, sweep().await), (json!(1), json!(0)));
    assert_eq!((told().await["marked"].clone(), told().await["deleted"].clone()), (json!(1), json!(0)));
    assert!(repository.store().head(&orphan).await.is_ok());
    home.clock.advance(25 * 3600);
    request().await;
    assert_eq!(sweep().await, 1);
    assert_eq!((told().await["deleted"].clone(), told().await["deletedBytes"].clone()), (json!(1), json!(5)));
    assert!(repository.store().head(&orphan).await.is_err());
}

#[tokio::test]
async fn where_it_is_not_known_what_is_needed_nothing_is_deleted_and_that_is_told() {
    let home = Home::new().await;
    let backup = home.started_backup().await;
    let repository = home.repository(&backup).await;
    for name in ["snapshots/stranger", "runs/ab/ab000000000000000000000000000000.run"] {
        repository.store().put(&Path::from(name), "12345".into()).await.unwrap();
    }
    home.control.request_cleanup(&home.owner, &backup.storage_destination_id).await.unwrap();
    let sweep = async || home.maintenance.run(&MaintenanceTask::Sweep).await.unwrap()["cleanups"].clone();
    for _ in 0..3 {
        assert_eq!((sweep().await, sweep().await), (json!(1), json!(0)), "again, and not at once");
        home.clock.advance(21 * 60);
    }
    assert_eq!(sweep().await, 0, "it is given up");
    let filter = AuditFilter { action: Some("storage.cleaned".to_owned()), ..AuditFilter::default() };
    let page = home.control.audit(&home.owner, &filter, &Page::default()).await.unwrap();
    let told: Vec<_> = page.items.iter().map(|entry| entry.details.clone().unwrap()["failed"].clone()).collect();
    assert_eq!(told, [json!(1)]);
    assert_eq!(repository.store().list(None).filter(|found| ready(found.as_ref().unwrap().size == 5)).count().await, 2);
}
