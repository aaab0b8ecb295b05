//! Destinations.

use firebackup_control::{
    AuditFilter, BackupJob, BulkDeletion, Code, ControlSettings, Destination, DestinationChange, JobEnd, JobErrorCode,
    JobResult, Kind, NewBackup, NewDestination, NewSchedule, Page, Project, Role, ServerSideEncryption,
};
use firebackup_model::id::JobId;
use serde_json::json;

use crate::world::{PLANTED_OPTION, World, code, new_backup, new_destination, new_project, new_schedule};

#[tokio::test]
async fn the_first_is_the_default_and_there_is_never_more_than_one() {
    let world = World::new().await;
    let owner = world.owner().await;
    let first = world.destination().await;
    let second = world.destination().await;
    assert!(first.is_default && !second.is_default);
    let third = NewDestination { is_default: true, ..new_destination("third") };
    let third = world.control.add_destination(&owner, third).await.unwrap();
    assert!(third.is_default);
    let change = DestinationChange { is_default: Some(true), ..DestinationChange::default() };
    assert!(world.control.update_destination(&owner, &second.id, change).await.unwrap().is_default);
    let listed = world.control.destinations(&owner, &Page::default()).await.unwrap().items;
    let defaults: Vec<_> = listed.iter().filter(|listed| listed.is_default).map(|listed| listed.id).collect();
    assert_eq!((listed.len(), defaults), (3, vec![second.id]));
}

#[tokio::test]
async fn names_of_options_are_shown_and_never_values() {
    let world = World::new().await;
    let destination = world.destination().await;
    assert_eq!(destination.options, ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]);
    let shown = serde_json::to_string(&destination).unwrap();
    assert!(!shown.contains("planted") && !shown.contains("sealed"), "{shown}");
    let read = world.control.destination(&world.owner().await, &destination.id).await.unwrap();
    assert_eq!(read, destination);
}

#[tokio::test]
async fn what_may_not_be_is_refused_and_nothing_is_kept() {
    let world = World::new().await;
    let owner = world.owner().await;
    let new = || new_destination("a");
    for new in [
        NewDestination { name: String::new(), ..new() },
        NewDestination { url: "file:///srv/x".to_owned(), ..new() },
        NewDestination { url: "ftp://bucket".to_owned(), ..new() },
        NewDestination { url: "s3://bucket/a/../b".to_owned(), ..new() },
        NewDestination { url: "s3://bucket/a/%2e%2E/b".to_owned(), ..new() },
        NewDestination { endpoint: Some("http://s3.example.com".to_owned()), ..new() },
        NewDestination { retention_lock_days: Some(0), ..new() },
        NewDestination { options: [("AWS_ALLOW_HTTP".to_owned(), "true".to_owned().into())].into(), ..new() },
    ] {
        let error = world.control.add_destination(&owner, new).await.unwrap_err();
        assert_eq!((error.kind, error.code), (Kind::Unprocessable, Code::ValidationFailed), "{error}");
    }
    *world.probes.fails.lock().unwrap() = true;
    assert_eq!(code(world.control.add_destination(&owner, new()).await), Code::DestinationFailed);
    assert!(world.control.destinations(&owner, &Page::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn folders_are_for_one_machine() {
    let world = World::with(ControlSettings { allow_folders: true, ..ControlSettings::default() });
    let first = world.control.first_owner("Acme").await.unwrap().unwrap();
    let caller = world.control.authenticate(&first.api_key, None).await.unwrap();
    let new = NewDestination {
        url: "file:///var/backups".to_owned(),
        options: std::collections::BTreeMap::new(),
        ..new_destination("folder")
    };
    let destination = world.control.add_destination(&caller, new).await.unwrap();
    assert!(destination.options.is_empty() && destination.is_default);
}

#[tokio::test]
async fn a_check_is_kept() {
    let world = World::new().await;
    let destination = world.destination().await;
    world.probes.destination.lock().unwrap().missing = vec!["delete".to_owned()];
    world.clock.advance(60);
    let owner = world.owner().await;
    let findings = world.control.verify_destination(&owner, &destination.id).await.unwrap();
    assert_eq!(findings.missing, ["delete"]);
    let read = world.control.destination(&owner, &destination.id).await.unwrap();
    assert_eq!((read.findings, read.verified_at), (findings, destination.verified_at.plus_seconds(60)));
}

#[tokio::test]
async fn changes_replace_options_and_the_lock() {
    let world = World::new().await;
    let destination = world.destination().await;
    let owner = world.owner().await;
    let change = DestinationChange {
        options: Some([("aws_region".to_owned(), "eu-west-1".to_owned().into())].into()),
        retention_lock_days: Some(Some(30)),
        ..DestinationChange::default()
    };
    let changed = world.control.update_destination(&owner, &destination.id, change).await.unwrap();
    assert_eq!((changed.options, changed.retention_lock_days), (vec!["AWS_REGION".to_owned()], Some(30)));
    assert_eq!(world.probes.shown_options.lock().unwrap().len(), 1);
    let none: DestinationChange = serde_json::from_str(r#"{"retentionLockDays":null}"#).unwrap();
    let changed = world.control.update_destination(&owner, &destination.id, none).await.unwrap();
    assert_eq!((changed.options.len(), changed.retention_lock_days), (1, None));
}

fn encryption(json: serde_json::Value) -> ServerSideEncryption {
    serde_json::from_value(json).unwrap()
}

#[tokio::test]
async fn how_a_store_encrypts_is_shown_tried_and_said_in_one_way() {
    let world = World::new().await;
    let owner = world.owner().await;
    let kms = encryption(json!({"type": "aws:kms", "kmsKeyId": "alias/backups"}));
    let new = || NewDestination { server_side_encryption: Some(kms.clone()), ..new_destination("a") };
    let added = world.control.add_destination(&owner, new()).await.unwrap();
    assert_eq!((added.options.len(), added.server_side_encryption), (2, Some(kms.clone())));
    let said = |name: &str| world.probes.shown_options.lock().unwrap().get(name).cloned();
    assert_eq!(said("AWS_SSE_KMS_KEY_ID").as_deref(), Some("alias/backups"), "the probe is put under it too");
    assert_eq!(said("AWS_SECRET_ACCESS_KEY").as_deref(), Some(PLANTED_OPTION));
    let by_option = || [("AWS_SERVER_SIDE_ENCRYPTION".to_owned(), "AES256".to_owned().into())].into();
    let both = NewDestination { options: by_option(), ..new() };
    let error = world.control.add_destination(&owner, both).await.unwrap_err();
    assert_eq!(
        (error.code, error.details.unwrap()["field"].clone()),
        (Code::ValidationFailed, json!("serverSideEncryption"))
    );
    let both = DestinationChange { options: Some(by_option()), ..DestinationChange::default() };
    assert_eq!(code(world.control.update_destination(&owner, &added.id, both).await), Code::ValidationFailed);

    let own: DestinationChange = serde_json::from_str(r#"{"serverSideEncryption":{"type":"AES256"}}"#).unwrap();
    let changed = world.control.update_destination(&owner, &added.id, own).await.unwrap();
    assert_eq!((changed.options.len(), said("AWS_SERVER_SIDE_ENCRYPTION").as_deref()), (2, Some("AES256")));
    assert_eq!(said("AWS_SSE_KMS_KEY_ID"), None);
    let none: DestinationChange = serde_json::from_str(r#"{"serverSideEncryption":null}"#).unwrap();
    let changed = world.control.update_destination(&owner, &added.id, none).await.unwrap();
    assert_eq!((changed.server_side_encryption, said("AWS_SERVER_SIDE_ENCRYPTION")), (None, None));
    assert_eq!(said("AWS_SECRET_ACCESS_KEY").as_deref(), Some(PLANTED_OPTION), "what opens it stayed");
    let by_option = DestinationChange { options: Some(by_option()), ..DestinationChange::default() };
    let changed = world.control.update_destination(&owner, &added.id, by_option).await.unwrap();
    assert_eq!(
        (changed.options, said("AWS_SERVER_SIDE_ENCRYPTION").as_deref()),
        (vec!["AWS_SERVER_SIDE_ENCRYPTION".to_owned()], Some("AES256"))
    );
}

#[tokio::test]
async fn trouble_is_told_when_it_begins_and_not_each_time() {
    let world = World::new().await;
    let destination = world.destination().await;
    let owner = world.owner().await;
    let verify = async || world.control.verify_destination(&owner, &destination.id).await;
    let told = || world.events.published().iter().filter(|event| event.kind == "storage.error").count();
    let error = async || world.control.destination(&owner, &destination.id).await.unwrap().error;
    *world.probes.fails.lock().unwrap() = true;
    for _ in 0..3 {
        assert_eq!(code(verify().await), Code::DestinationFailed);
        world.clock.advance(60);
    }
    let trouble = error().await.unwrap();
    assert_eq!((told(), trouble.message.as_str(), trouble.since), (1, "no answer", destination.created_at));
    *world.probes.fails.lock().unwrap() = false;
    verify().await.unwrap();
    assert_eq!((told(), error().await), (1, None));
    world.probes.destination.lock().unwrap().missing = vec!["write".to_owned()];
    verify().await.unwrap();
    verify().await.unwrap();
    assert_eq!((told(), error().await.unwrap().message.contains("write")), (2, true));
}

#[tokio::test]
async fn a_job_that_fails_by_its_destination_tells_of_it_once() {
    let world = World::new().await;
    let (project, destination) = world.set_up().await;
    let (owner, worker, control) = (world.owner().await, world.worker().await, &world.control);
    let told = || world.events.published().iter().filter(|event| event.kind == "storage.error").count();
    for (noted, expect) in
        [(JobErrorCode::JobFailed, 0), (JobErrorCode::DestinationFailed, 1), (JobErrorCode::DestinationFailed, 1)]
    {
        let backup = world.backup(&project).await.job.id;
        control.start_job(&worker, &backup).await.unwrap();
        control.note_failure(&worker, &backup, noted, "the bucket refuses").await.unwrap();
        let end = JobEnd::Failed { code: JobErrorCode::JobFailed, message: "the bucket refuses".to_owned() };
        let ended = control.finish_job(&worker, &backup, end).await.unwrap();
        assert_eq!(ended.facts().error.as_ref().unwrap().code, noted);
        assert_eq!(told(), expect, "{noted:?}");
    }
    let trouble = control.destination(&owner, &destination.id).await.unwrap().error.unwrap();
    assert_eq!(trouble.message, "the bucket refuses");
    // another reason than the one that was noted is told as it is
    let backup = world.backup(&project).await.job.id;
    control.start_job(&worker, &backup).await.unwrap();
    control.note_failure(&worker, &backup, JobErrorCode::DestinationFailed, "the bucket refuses").await.unwrap();
    let end = JobEnd::Failed { code: JobErrorCode::JobFailed, message: "out of time".to_owned() };
    let ended = control.finish_job(&worker, &backup, end).await.unwrap();
    assert_eq!(ended.facts().error.as_ref().unwrap().code, JobErrorCode::JobFailed);
}

#[tokio::test]
async fn a_destination_in_use_stays() {
    let world = World::new().await;
    let (project, first) = world.set_up().await;
    let owner = world.owner().await;
    let schedule = world.schedule(&project).await;
    let error = world.control.remove_destination(&owner, &first.id).await.unwrap_err();
    assert_eq!(error.code, Code::InUse, "a schedule that names none uses the default");
    assert_eq!(error.details.unwrap()["usedBy"][0], schedule.id.to_string());
    world.control.remove_schedule(&owner, &schedule.id).await.unwrap();
    let backup = world.completed(&project).await;
    assert_eq!(code(world.control.remove_destination(&owner, &first.id).await), Code::InUse, "a backup lies there");
    assert!(world.control.create_backup(&owner, new_backup(&project), None).await.is_ok(), "it can be used again");
    let second = world.destination().await;
    let mut new = new_schedule(&project);
    new.storage_destination_id = Some(second.id);
    world.control.create_schedule(&owner, new).await.unwrap();
    assert_eq!(code(world.control.remove_destination(&owner, &second.id).await), Code::InUse);
    assert_eq!(backup.storage_destination_id, first.id);
}

#[tokio::test]
async fn removing_the_default_leaves_none() {
    let world = World::new().await;
    let (project, destination) = world.set_up().await;
    let owner = world.owner().await;
    world.control.remove_destination(&owner, &destination.id).await.unwrap();
    assert_eq!(code(world.control.destination(&owner, &destination.id).await), Code::NotFound);
    let error = world.control.create_backup(&owner, new_backup(&project), None).await.unwrap_err();
    assert_eq!(error.details.unwrap()["field"], "storageDestinationId");
    assert!(world.destination().await.is_default, "the next one is the default again");
}

/// Another destination, which is not the default.
async fn another(world: &World) -> Destination {
    world.control.add_destination(&world.owner().await, new_destination("Another")).await.unwrap()
}

/// A completed backup in a destination.
async fn kept_in(world: &World, project: &Project, destination: &Destination, stored: u64) -> BackupJob {
    let (owner, worker) = (world.owner().await, world.worker().await);
    let new = NewBackup { storage_destination_id: Some(destination.id), ..new_backup(project) };
    let backup = world.control.create_backup(&owner, new, None).await.unwrap();
    world.control.start_job(&worker, &backup.job.id).await.unwrap();
    let end = JobEnd::Completed(Box::new(JobResult { stored, ..JobResult::default() }));
    world.control.finish_job(&worker, &backup.job.id, end).await.unwrap();
    world.clock.advance(60);
    backup
}

#[tokio::test]
async fn what_uses_a_destination_is_said() {
    let world = World::new().await;
    let (project, default) = world.set_up().await;
    let other = another(&world).await;
    let (owner, control) = (world.owner().await, &world.control);
    let by_default = world.schedule(&project).await;
    let new = NewSchedule { storage_destination_id: Some(other.id), ..new_schedule(&project) };
    let named = control.create_schedule(&owner, new).await.unwrap();
    kept_in(&world, &project, &other, 1).await;
    let gone = control.connect_project(&owner, new_project("Gone")).await.unwrap();
    kept_in(&world, &gone, &other, 1).await;
    control.remove_project(&owner, &gone.id).await.unwrap();
    let running = world.backup(&project).await;
    let links = control.destination_links(&owner, &default.id).await.unwrap();
    let schedules: Vec<_> = links.schedules.iter().map(|schedule| (schedule.id, schedule.named)).collect();
    assert_eq!((schedules, links.jobs), (vec![(by_default.id, false)], vec![running.job.id]));
    assert_eq!((links.projects.len(), links.projects[0].backups), (1, 0), "there will be some");
    let links = control.destination_links(&owner, &other.id).await.unwrap();
    let schedules: Vec<_> = links.schedules.iter().map(|schedule| (schedule.id, schedule.named)).collect();
    assert_eq!((schedules, links.jobs), (vec![(named.id, true)], vec![]));
    let mut projects: Vec<_> = links.projects.iter().map(|one| (one.name.as_deref(), one.backups)).collect();
    projects.sort_unstable();
    assert_eq!(projects, [(None, 1), (Some("Shop"), 1)]);
}

#[tokio::test]
async fn backups_are_listed_and_deleted_by_destination_each_by_itself() {
    let world = World::new().await;
    let (project, default) = world.set_up().await;
    world.clock.advance(1);
    let other = another(&world).await;
    let (owner, control) = (world.owner().await, &world.control);
    let first = kept_in(&world, &project, &default, 10).await;
    let second = kept_in(&world, &project, &default, 20).await;
    let elsewhere = kept_in(&world, &project, &other, 40).await;
    let running = world.backup(&project).await;
    let stats = control.storage_stats(&owner).await.unwrap();
    let told: Vec<_> =
        stats.destinations.iter().map(|one| (one.id, one.backups, one.stored_bytes, one.newest)).collect();
    let newest = |backup: &BackupJob| Some(backup.job.created_at);
    assert_eq!(told, [(default.id, 2, 30, newest(&second)), (other.id, 1, 40, newest(&elsewhere))]);
    assert_eq!((stats.backups, stats.stored_bytes, stats.partial), (3, 70, false));
    let listed = control.backups_in_destination(&owner, &default.id, &Page::default()).await.unwrap();
    let ids: Vec<_> = listed.items.into_iter().map(|backup| backup.job.id).collect();
    assert_eq!(ids, [running.job.id.clone(), second.job.id.clone(), first.job.id.clone()]);
    let unknown: JobId = "bkp_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    let backup_ids = vec![elsewhere.job.id, first.job.id.clone(), running.job.id, unknown, first.job.id];
    let outcomes = control.delete_backups(&owner, &default.id, &BulkDeletion { backup_ids }).await.unwrap();
    let codes: Vec<_> = outcomes.backups.iter().map(|outcome| (outcome.deleting, outcome.code)).collect();
    let (missing, unfinished) = ((false, Some(Code::NotFound)), (false, Some(Code::JobState)));
    assert_eq!(codes, [missing, (true, None), unfinished, missing, (true, None)]);
    assert_eq!(control.storage_stats(&owner).await.unwrap().destinations[0].stored_bytes, 20);
    for count in [0, 101] {
        let deletion = BulkDeletion { backup_ids: vec![second.job.id.clone(); count] };
        assert_eq!(code(control.delete_backups(&owner, &default.id, &deletion).await), Code::ValidationFailed);
    }
}

#[tokio::test]
async fn a_bucket_that_is_to_be_made_is_looked_at_and_noted() {
    let world = World::new().await;
    let owner = world.owner().await;
    let asked = async |body: serde_json::Value| {
        world.control.bucket_to_make(&owner, serde_json::from_value(body).unwrap()).await
    };
    let key = json!({ "type": "service_account", "client_email": "a@b.example", "private_key": "k" });
    let own_key = json!({ "GOOGLE_SERVICE_ACCOUNT_KEY": key.to_string() });
    for (body, field) in [
        (json!({ "url": "file:///srv/backups" }), "url"),
        (json!({ "url": "ftp://bucket" }), "url"),
        (json!({ "url": "gs://bucket", "options": own_key, "objectLock": true }), "objectLock"),
        (json!({ "url": "gs://bucket" }), "googleProject"),
        (json!({ "url": "gs://bucket", "googleProject": "a/b" }), "googleProject"),
        (json!({ "url": "s3://bucket", "googleProject": "my-app" }), "googleProject"),
        (json!({ "url": "s3://bucket", "location": "eu</x>" }), "location"),
        (json!({ "url": "s3://bucket", "location": "" }), "location"),
        (json!({ "url": "az://container", "location": "westeurope" }), "location"),
        (json!({ "url": "s3://bucket", "endpoint": "http://s3.example" }), "endpoint"),
    ] {
        let error = asked(body.clone()).await.unwrap_err();
        assert_eq!((error.code, &error.details.unwrap()["field"]), (Code::ValidationFailed, &field.into()), "{body}");
    }
    let noted = async || {
        let filter = AuditFilter { action: Some("storage.bucket_requested".to_owned()), ..AuditFilter::default() };
        world.control.audit(&owner, &filter, &Page::default()).await.unwrap().items.len()
    };
    assert_eq!(noted().await, 0, "what is refused was not asked for");
    let made = asked(json!({ "url": "gs://bucket/prefix", "options": own_key, "location": "EU" })).await;
    let made = made.unwrap();
    assert_eq!((made.location.as_deref(), made.google_project, noted().await), (Some("EU"), None, 1));
    let member = world.caller(Role::Member).await;
    let body = json!({ "url": "s3://bucket" });
    let refused = world.control.bucket_to_make(&member, serde_json::from_value(body).unwrap()).await;
    assert_eq!(code(refused), Code::Forbidden);
}
