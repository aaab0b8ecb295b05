//! Backups that build on others or are merged: where they may be, what they keep, and when they are made by themselves.

use firebackup_control::{
    AuditFilter, BackupJob, BackupType, BulkDeletion, CapturedChain, Code, JobEnd, JobResult, JobStatus, NewBackup,
    Page, PitrChange, Project, Retention, RetentionType,
};
use firebackup_model::Timestamp;

use crate::pitr::{capture_once, capturing, find_no_backup, new_pitr};
use crate::world::{World, code, completed, failed, new_backup, new_destination, new_schedule};

const DAY: i64 = 24 * 60 * 60;

fn of_type(project: &Project, kind: BackupType) -> NewBackup {
    NewBackup { kind, ..new_backup(project) }
}

/// A backup that came to be on top of another one.
async fn increment(world: &World, project: &Project, parent: &BackupJob) -> BackupJob {
    let owner = world.owner().await;
    let backup = world.control.create_backup(&owner, of_type(project, BackupType::Incremental), None).await.unwrap();
    complete(world, &backup, parent).await
}

async fn complete(world: &World, backup: &BackupJob, parent: &BackupJob) -> BackupJob {
    let worker = world.worker().await;
    world.control.start_job(&worker, &backup.job.id).await.unwrap();
    let (kind, parent) = (Some(BackupType::Incremental), Some(parent.job.id.clone()));
    let end = JobEnd::Completed(Box::new(JobResult { kind, parent, ..JobResult::default() }));
    world.control.finish_job(&worker, &backup.job.id, end).await.unwrap();
    world.next_minute();
    world.control.backup(&world.owner().await, &backup.project_id, &backup.job.id).await.unwrap()
}

async fn chains(world: &World) -> Vec<CapturedChain> {
    world.control.captured_chains(&world.worker().await).await.unwrap()
}

#[tokio::test]
async fn only_what_is_captured_is_merged_and_only_where_it_is() {
    let (world, project, _) = capturing().await;
    let (owner, control) = (world.owner().await, &world.control);
    let synthetic = || of_type(&project, BackupType::Synthetic);
    let refused = async |new: NewBackup| code(control.create_backup(&owner, new, None).await);
    assert_eq!(refused(synthetic()).await, Code::PitrUnavailable, "nothing is captured yet");
    capture_once(&world).await;
    let captures = control.pitr(&owner, &project.id, None).await.unwrap().config.storage_destination_id.unwrap();
    let new = firebackup_control::NewDestination { is_default: true, ..new_destination("Another") };
    let default = control.add_destination(&owner, new).await.unwrap();
    let elsewhere = NewBackup { storage_destination_id: Some(default.id), ..synthetic() };
    assert_eq!(refused(elsewhere).await, Code::PitrUnavailable);
    assert_eq!(refused(NewBackup { encrypt: false, ..synthetic() }).await, Code::PitrUnavailable);
    let backup = control.create_backup(&owner, synthetic(), None).await.unwrap();
    assert_eq!((backup.storage_destination_id, backup.config.kind), (captures, BackupType::Synthetic));
    let named = NewBackup { storage_destination_id: Some(captures), ..synthetic() };
    control.create_backup(&owner, named, None).await.unwrap();
    let full = control.create_backup(&owner, new_backup(&project), None).await.unwrap();
    assert_eq!(full.storage_destination_id, default.id);
    control.disable_pitr(&owner, &project.id, None).await.unwrap();
    assert_eq!(refused(synthetic()).await, Code::PitrUnavailable);
    for wrong in [
        NewBackup { collections: vec!["users".to_owned()], ..synthetic() },
        NewBackup { include_auth: true, ..of_type(&project, BackupType::Incremental) },
    ] {
        assert_eq!(refused(wrong).await, Code::ValidationFailed);
    }
}

#[tokio::test]
async fn a_schedule_makes_backups_of_its_type_and_fails_where_nothing_is_captured() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, worker, control) = (world.owner().await, world.worker().await, &world.control);
    let mut new = new_schedule(&project);
    new.backup_config.kind = BackupType::Synthetic;
    let merging = control.create_schedule(&owner, new.clone()).await.unwrap();
    let due = merging.next_runs[0];
    world.clock.set(due);
    assert_eq!(code(control.schedule_due(&worker, &merging.id, due).await), Code::PitrUnavailable);
    assert_eq!(world.events_of("schedule.failed").len(), 1);
    new.backup_config.kind = BackupType::Incremental;
    let building = control.create_schedule(&owner, new.clone()).await.unwrap();
    let made = control.schedule_due(&worker, &building.id, due).await.unwrap().unwrap();
    assert_eq!(control.backup(&owner, &project.id, &made).await.unwrap().config.kind, BackupType::Incremental);
    new.backup_config.include_auth = true;
    assert_eq!(code(control.create_schedule(&owner, new).await), Code::ValidationFailed);
}

#[tokio::test]
async fn why_a_backup_became_full_is_told_with_what_it_came_to() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, worker, control) = (world.owner().await, world.worker().await, &world.control);
    let new = || of_type(&project, BackupType::Incremental);
    for fails in [false, true] {
        let backup = control.create_backup(&owner, new(), None).await.unwrap();
        let id = &backup.job.id;
        control.start_job(&worker, id).await.unwrap();
        for _ in 0..2 {
            control.note_full(&worker, id, &"there is no backup ".repeat(100)).await.unwrap();
        }
        control.finish_job(&worker, id, if fails { failed() } else { completed() }).await.unwrap();
        // late, and of a job that has ended
        control.note_full(&worker, id, "another reason").await.unwrap();
        let result = control.backup(&owner, &project.id, id).await.unwrap().job.result;
        assert_eq!(result.is_none(), fails);
        let reason = result.and_then(|result| result.reason).unwrap_or_default();
        assert_eq!(
            (reason.len(), reason.starts_with("there is no backup")),
            if fails { (0, false) } else { (500, true) }
        );
    }
}

#[tokio::test]
async fn what_others_build_on_is_not_deleted() {
    let world = World::new().await;
    let (project, destination) = world.set_up().await;
    let (owner, control) = (world.owner().await, &world.control);
    let full = world.completed(&project).await;
    world.next_minute();
    let first = increment(&world, &project, &full).await;
    let second = increment(&world, &project, &first).await;
    let error = control.delete_backup(&owner, &project.id, &full.job.id).await.unwrap_err();
    assert_eq!((error.code, error.details), (Code::InUse, Some(serde_json::json!({ "usedBy": [first.job.id] }))));
    let ids: Vec<_> = [&full, &first, &second].map(|backup| backup.job.id.clone()).into();
    let deletion = |backup_ids: &[_]| BulkDeletion { backup_ids: backup_ids.to_vec() };
    let outcomes = control.delete_backups(&owner, &destination.id, &deletion(&ids[..2])).await.unwrap().backups;
    assert!(outcomes.iter().all(|outcome| outcome.code == Some(Code::InUse)), "{outcomes:?}");
    // all of them together go, in whatever order they are named, and are told of in that order
    let outcomes = control.delete_backups(&owner, &destination.id, &deletion(&ids)).await.unwrap().backups;
    assert!(outcomes.iter().all(|outcome| outcome.deleting), "{outcomes:?}");
    assert_eq!(outcomes.into_iter().map(|outcome| outcome.id).collect::<Vec<_>>(), ids);
}

#[tokio::test]
async fn retention_keeps_what_a_kept_backup_builds_on() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, worker, control) = (world.owner().await, world.worker().await, &world.control);
    let mut new = new_schedule(&project);
    new.backup_config.kind = BackupType::Incremental;
    new.retention = Some(Retention { kind: RetentionType::Count, value: 1 });
    let schedule = control.create_schedule(&owner, new).await.unwrap();
    let full = world.completed(&project).await;
    let mut made = vec![full];
    for due in &schedule.next_runs[..3] {
        world.clock.set(*due);
        let id = control.schedule_due(&worker, &schedule.id, *due).await.unwrap().unwrap();
        let backup = control.backup(&owner, &project.id, &id).await.unwrap();
        made.push(complete(&world, &backup, made.last().unwrap()).await);
    }
    let kept = async || control.kept_by_schedule(&worker, &schedule.id, world.now()).await.unwrap();
    assert_eq!((kept().await.kept.len(), kept().await.dropped.len()), (3, 0));
    // a whole one behind them: nothing of the lineage is needed any more
    let due = schedule.next_runs[3];
    world.clock.set(due);
    let id = control.schedule_due(&worker, &schedule.id, due).await.unwrap().unwrap();
    control.finish_job(&worker, &id, completed()).await.unwrap();
    let outcome = kept().await;
    assert_eq!((outcome.kept, outcome.dropped.len()), (vec![id], 3));
}

#[tokio::test]
async fn a_chain_is_merged_once_a_day_and_not_beside_a_backup() {
    let (world, project, _) = capturing().await;
    let (owner, worker, control) = (world.owner().await, world.worker().await, &world.control);
    assert_eq!(chains(&world).await, [], "nothing is captured yet");
    capture_once(&world).await;
    let chain = chains(&world).await.remove(0);
    let week = world.now().plus_seconds(7 * DAY);
    assert_eq!((chain.is_due(world.now(), week.plus_seconds(-1)), chain.is_due(world.now(), week)), (false, true));
    let place = control.open_chain(&worker, &chain).await.unwrap();
    assert_eq!((place.project, place.encrypted), (project.id, true));
    let running = world.backup(&project).await;
    assert_eq!(control.merge_chain(&worker, &chain).await.unwrap(), None, "a backup runs");
    control.finish_job(&worker, &running.job.id, failed()).await.unwrap();

    let racers = (0..4).map(|_| control.merge_chain(&worker, &chain));
    let made: Vec<_> = futures::future::join_all(racers).await.into_iter().filter_map(|made| made.unwrap()).collect();
    assert!(!made.is_empty() && made.iter().all(|id| *id == made[0]), "{made:?}");
    let merge = control.backup(&owner, &project.id, &made[0]).await.unwrap();
    assert_eq!((merge.config.kind, merge.job.created_by.as_str()), (BackupType::Synthetic, "system"));
    let filter = AuditFilter { resource: Some(made[0].to_string()), ..AuditFilter::default() };
    let entries = control.audit(&owner, &filter, &Page::default()).await.unwrap().items;
    assert!(entries.iter().any(|entry| entry.action == "backup.requested"), "{entries:?}");
    control.finish_job(&worker, &made[0], failed()).await.unwrap();
    assert_eq!(control.merge_chain(&worker, &chain).await.unwrap(), None, "it failed today");
    world.clock.set(Timestamp::new(world.now().seconds + DAY, 0));
    assert!(control.merge_chain(&worker, &chain).await.unwrap().is_some());
    assert_eq!(merge.job.status, JobStatus::Pending);
}

#[tokio::test]
async fn what_is_paused_disabled_or_never_to_be_merged_is_not() {
    let (world, project, _) = capturing().await;
    let (owner, control) = (world.owner().await, &world.control);
    capture_once(&world).await;
    let change = |days| PitrChange { merge_after_days: Some(days), ..PitrChange::default() };
    assert_eq!(code(control.update_pitr(&owner, &project.id, None, &change(366)).await), Code::ValidationFailed);
    control.update_pitr(&owner, &project.id, None, &change(0)).await.unwrap();
    assert_eq!(chains(&world).await, []);
    control.update_pitr(&owner, &project.id, None, &change(365)).await.unwrap();
    assert_eq!(chains(&world).await.len(), 1);
    control.pause_pitr(&owner, &project.id, None).await.unwrap();
    assert_eq!(chains(&world).await, []);
    control.disable_pitr(&owner, &project.id, None).await.unwrap();
    assert_eq!(chains(&world).await, []);
    let mut new = new_pitr(&project);
    new.config.merge_after_days = 366;
    assert_eq!(code(control.enable_pitr(&owner, new).await), Code::ValidationFailed);
}

#[tokio::test]
async fn a_merge_that_was_made_by_itself_goes_once_no_kept_moment_builds_on_it() {
    let (world, project, _) = capturing().await;
    let (owner, worker, control) = (world.owner().await, world.worker().await, &world.control);
    capture_once(&world).await;
    let end = |result| JobEnd::Completed(Box::new(JobResult { read_time: Some(world.now()), ..result }));
    let finish = async |id: &_| {
        control.start_job(&worker, id).await.unwrap();
        control.finish_job(&worker, id, end(JobResult::default())).await.unwrap();
    };
    let week_passes = async || {
        world.clock.set(world.now().plus_seconds(7 * DAY));
        capture_once(&world).await;
    };
    let outlived = async || control.outlived_merges(&worker, world.now()).await.unwrap();
    let merged = async || {
        let id = control.merge_chain(&worker, &chains(&world).await[0]).await.unwrap().unwrap();
        finish(&id).await;
        id
    };
    let asked = control.create_backup(&owner, of_type(&project, BackupType::Synthetic), None).await.unwrap();
    finish(&asked.job.id).await;
    // a backup to begin from is made by itself too, and no merge
    world.clock.set(world.now().plus_seconds(DAY));
    find_no_backup(&world).await;
    let begun = control.backups(&owner, Some(&project.id), &Page::default()).await.unwrap().items.remove(0);
    assert_eq!((begun.job.created_by.as_str(), begun.config.kind), ("system", BackupType::Full));
    finish(&begun.job.id).await;
    week_passes().await;
    let first = merged().await;
    week_passes().await;
    let second = merged().await;
    assert_eq!(outlived().await, [], "the moments of the last week begin from the first one");
    week_passes().await;
    assert_eq!(
        outlived().await,
        std::slice::from_ref(&first),
        "they begin from the second one, and nobody's own is dropped"
    );
    control
        .update_pitr(&owner, &project.id, None, &PitrChange { retention_days: Some(8), ..Default::default() })
        .await
        .unwrap();
    assert_eq!(outlived().await, [], "a day more is kept");
    world.clock.set(world.now().plus_seconds(DAY));
    assert_eq!(outlived().await, std::slice::from_ref(&first));
    // what others build on stays with them
    let on_top = control.create_backup(&owner, of_type(&project, BackupType::Incremental), None).await.unwrap();
    control.start_job(&worker, &on_top.job.id).await.unwrap();
    let parent = Some(first.clone());
    let built = JobResult { kind: Some(BackupType::Incremental), parent, ..JobResult::default() };
    control.finish_job(&worker, &on_top.job.id, end(built)).await.unwrap();
    assert_eq!(outlived().await, []);
    control.delete_backup(&owner, &project.id, &on_top.job.id).await.unwrap();
    control.drop_backup(&worker, &outlived().await[0]).await.unwrap();
    let dropped = control.backup(&owner, &project.id, &first).await.unwrap();
    assert_eq!(dropped.job.status, JobStatus::Deleting);
    assert_eq!(outlived().await, []);
    let newest = control.backup(&owner, &project.id, &second).await.unwrap();
    assert_eq!(newest.job.status, JobStatus::Completed);
}
