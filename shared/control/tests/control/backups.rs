//! Backups that are asked for, repeated, cancelled and deleted.

use firebackup_control::{Code, JobMessage, JobStatus, Kind, NewBackup, Role};
use firebackup_model::ErrorKind;

use crate::world::{World, code, completed, failed, new_backup, new_restore};

fn messages(world: &World) -> Vec<JobMessage> {
    world.queue.drain().iter().map(|body| serde_json::from_str(body).unwrap()).collect()
}

#[tokio::test]
async fn a_backup_is_stored_and_asked_for() {
    let world = World::new().await;
    let (project, destination) = world.set_up().await;
    let caller = world.caller(Role::Member).await;
    let backup = world.control.create_backup(&caller, new_backup(&project), None).await.unwrap();
    assert_eq!(backup.job.status, JobStatus::Pending);
    assert_eq!(backup.job.created_by, caller.actor().to_string());
    assert_eq!((backup.database.as_str(), backup.storage_destination_id), ("(default)", destination.id));
    let message = JobMessage { job: backup.job.id.clone(), organization: caller.organization() };
    assert_eq!(messages(&world), [message]);
    let read = world.control.backup(&caller, &project.id, &backup.job.id).await.unwrap();
    assert_eq!(read.job.progress.unwrap().documents, 0);
}

#[tokio::test]
async fn a_backup_that_cannot_be_queued_waits_for_the_sweep() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    world.queue.fail(Some(ErrorKind::Unavailable));
    let backup = world.backup(&project).await;
    world.queue.fail(None);
    assert!(messages(&world).is_empty());
    world.clock.advance(5 * 60);
    let care = world.control.look_after(&world.worker().await, &backup.job.id).await.unwrap();
    assert_eq!(care, firebackup_control::Care::SentAgain);
    assert_eq!(messages(&world)[0].job, backup.job.id);
}

#[tokio::test]
async fn what_may_not_be_is_refused() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let owner = world.owner().await;
    let new = || new_backup(&project);
    for new in [
        NewBackup { database: Some("nothing".to_owned()), ..new() },
        NewBackup { collections: vec!["users/alice".to_owned()], ..new() },
        NewBackup { collections: vec!["users".to_owned(); 101], ..new() },
        NewBackup { exclude_collections: vec!["[".to_owned()], ..new() },
        NewBackup { compression: "zip".to_owned(), ..new() },
    ] {
        let error = world.control.create_backup(&owner, new, None).await.unwrap_err();
        assert_eq!((error.kind, error.code), (Kind::Unprocessable, Code::ValidationFailed), "{error}");
    }
    assert!(messages(&world).is_empty());
}

#[test]
fn unknown_fields_are_refused_and_defaults_are_the_documented_ones() {
    let id = "proj_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let parse = |text: String| serde_json::from_str::<NewBackup>(&text);
    assert!(parse(format!(r#"{{"projectId":"{id}","colections":["a"]}}"#)).is_err());
    assert!(parse(format!(r#"{{"projectId":"{id}","type":"differential"}}"#)).is_err());
    let new = parse(format!(r#"{{"projectId":"{id}"}}"#)).unwrap();
    assert!(new.include_subcollections && new.encrypt && !new.include_auth && new.compression == "brotli");
    let schedule =
        format!(r#"{{"name":"a","projectId":"{id}","cronExpression":"0 3 * * *","backupConfig":{{"x":1}}}}"#);
    assert!(serde_json::from_str::<firebackup_control::NewSchedule>(&schedule).is_err());
    let change = r#"{"backupConfig":{"colections":[]}}"#;
    assert!(serde_json::from_str::<firebackup_control::ScheduleChange>(change).is_err());
}

#[tokio::test]
async fn the_same_request_twice_makes_one_backup() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let owner = world.owner().await;
    let ask = async |key: &str| world.control.create_backup(&owner, new_backup(&project), Some(key)).await;
    let first = ask("a").await.unwrap();
    assert_eq!(ask("a").await.unwrap(), first);
    assert_ne!(ask("b").await.unwrap().job.id, first.job.id);
    assert_eq!(messages(&world).len(), 3, "the first one may have died before it asked for the start");
    let other = NewBackup { include_auth: true, ..new_backup(&project) };
    let error = world.control.create_backup(&owner, other, Some("a")).await.unwrap_err();
    assert_eq!((error.kind, error.code), (Kind::Conflict, Code::IdempotencyKeyReused));
    let member = world.caller(Role::Member).await;
    let theirs = world.control.create_backup(&member, new_backup(&project), Some("a")).await.unwrap();
    assert_ne!(theirs.job.id, first.job.id, "another caller's key is another key");
    world.clock.advance(24 * 60 * 60);
    assert_ne!(ask("a").await.unwrap().job.id, first.job.id);
    for bad in ["", " ", "ä", &"x".repeat(256)] {
        assert_eq!(code(ask(bad).await), Code::ValidationFailed);
    }
}

#[tokio::test]
async fn a_waiting_backup_is_cancelled_at_once() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, worker) = (world.owner().await, world.worker().await);
    let backup = world.backup(&project).await;
    for _ in 0..2 {
        let cancelled = world.control.cancel_backup(&owner, &project.id, &backup.job.id).await.unwrap();
        assert_eq!(cancelled.job.status, JobStatus::Cancelled);
    }
    assert_eq!(world.control.running_jobs(&worker).await.unwrap(), []);
    let told: Vec<_> = world.events_of("backup.").into_iter().map(|event| event.kind).collect();
    assert_eq!(told, ["backup.cancelled"]);
    let started = world.control.start_job(&worker, &backup.job.id).await.unwrap();
    assert_eq!(started, firebackup_control::StartOutcome::Ended);
}

#[tokio::test]
async fn a_running_backup_is_told_to_end() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, worker) = (world.owner().await, world.worker().await);
    let backup = world.backup(&project).await;
    world.control.start_job(&worker, &backup.job.id).await.unwrap();
    assert!(!world.control.is_cancelled(&worker, &backup.job.id).await.unwrap());
    for _ in 0..2 {
        let cancelling = world.control.cancel_backup(&owner, &project.id, &backup.job.id).await.unwrap();
        assert_eq!(cancelling.job.status, JobStatus::Cancelling);
    }
    assert!(world.control.is_cancelled(&worker, &backup.job.id).await.unwrap());
    assert_eq!(world.control.work(&worker, &backup.job.id).await.unwrap_err().kind, Kind::Cancelled);
    assert!(world.control.work_to_end(&worker, &backup.job.id).await.is_ok());
    let end = world.control.finish_job(&worker, &backup.job.id, firebackup_control::JobEnd::Cancelled).await.unwrap();
    assert_eq!(end.status(), JobStatus::Cancelled);
    let done = world.completed(&project).await;
    assert_eq!(code(world.control.cancel_backup(&owner, &project.id, &done.job.id).await), Code::JobState);
}

#[tokio::test]
async fn a_backup_that_has_ended_is_deleted_once_nobody_reads_it() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, worker) = (world.owner().await, world.worker().await);
    let control = &world.control;
    let running = world.backup(&project).await;
    assert_eq!(code(control.delete_backup(&owner, &project.id, &running.job.id).await), Code::JobState);
    let backup = world.completed(&project).await;
    let restore = control.create_restore(&owner, new_restore(&backup), &crate::world::NoMoments, None).await.unwrap();
    assert_eq!(code(control.delete_backup(&owner, &project.id, &backup.job.id).await), Code::InUse);
    control.finish_job(&worker, &restore.job.id, failed()).await.unwrap();
    for _ in 0..2 {
        let deleting = control.delete_backup(&owner, &project.id, &backup.job.id).await.unwrap();
        assert_eq!(deleting.job.status, JobStatus::Deleting);
    }
    assert_eq!(
        code(control.create_restore(&owner, new_restore(&backup), &crate::world::NoMoments, None).await),
        Code::JobState
    );
    assert_eq!(control.deleted_backups(&worker).await.unwrap(), std::slice::from_ref(&backup.job.id));
    for _ in 0..2 {
        control.backup_gone(&worker, &backup.job.id).await.unwrap();
    }
    assert!(control.deleted_backups(&worker).await.unwrap().is_empty());
    assert_eq!(code(control.backup(&owner, &project.id, &backup.job.id).await), Code::NotFound);
    assert_eq!(code(control.backup_gone(&worker, &running.job.id).await), Code::JobState);
}

#[tokio::test]
async fn a_backup_marked_while_a_restore_reads_it_is_left_for_later() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, worker) = (world.owner().await, world.worker().await);
    let backup = world.completed(&project).await;
    let restore =
        world.control.create_restore(&owner, new_restore(&backup), &crate::world::NoMoments, None).await.unwrap();
    world.control.drop_backup(&worker, &backup.job.id).await.unwrap();
    let still = world.control.backup(&owner, &project.id, &backup.job.id).await.unwrap();
    assert_eq!(still.job.status, JobStatus::Completed);
    world.control.finish_job(&worker, &restore.job.id, completed()).await.unwrap();
    world.control.drop_backup(&worker, &backup.job.id).await.unwrap();
    assert_eq!(world.control.deleted_backups(&worker).await.unwrap(), [backup.job.id]);
}

#[tokio::test]
async fn a_backup_is_looked_for_in_its_project() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let other = world.project().await;
    let backup = world.completed(&project).await;
    let owner = world.owner().await;
    assert_eq!(code(world.control.backup(&owner, &other.id, &backup.job.id).await), Code::NotFound);
    let restore =
        world.control.create_restore(&owner, new_restore(&backup), &crate::world::NoMoments, None).await.unwrap();
    assert_eq!(code(world.control.backup(&owner, &project.id, &restore.job.id).await), Code::NotFound);
    assert_eq!(code(world.control.restore(&owner, &backup.job.id).await), Code::NotFound);
}

#[tokio::test]
async fn only_a_completed_backup_is_opened() {
    let world = World::new().await;
    let (project, destination) = world.set_up().await;
    let owner = world.owner().await;
    let backup = world.backup(&project).await;
    assert_eq!(code(world.control.open_backup(&owner, &project.id, &backup.job.id).await), Code::JobState);
    let backup = world.completed(&project).await;
    let place = world.control.open_backup(&owner, &project.id, &backup.job.id).await.unwrap();
    assert_eq!((place.destination.id, place.access.options.len()), (destination.id, 2));
}

#[tokio::test]
async fn there_are_only_so_many_unfinished_jobs() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    for _ in 0..200 {
        world.backup(&project).await;
    }
    let error = world.control.create_backup(&world.owner().await, new_backup(&project), None).await.unwrap_err();
    assert_eq!((error.kind, error.code), (Kind::TooMany { retry_after: 60 }, Code::TooManyJobs));
    assert!(error.can_be_retried());
}
