//! Captured changes that are merged by themselves, by steps that open no database.

use firebackup_control::{BackupType, CaptureFacts, CapturedWindow, DueCapture, JobEnd, WindowEnd};
use firebackup_engine::memory::MemoryDatabase;

use super::moments::{backed_up, captured, database};
use super::*;

const DAY: i64 = 24 * 3600;

/// A project whose changes are captured behind a backup. No key opens it: whoever wanted to read it would fail.
async fn capturing() -> (Home, Repository, MemoryDatabase) {
    let home = Home::new().await;
    let begun = home.started_backup().await;
    let repository = home.repository(&begun).await;
    let database = database();
    backed_up(&repository, &database).await;
    home.control.finish_job(&home.worker, &begun.job.id, JobEnd::Completed(Box::default())).await.unwrap();
    let new = json!({ "projectId": home.project.id });
    home.control.enable_pitr(&home.owner, serde_json::from_value(new).unwrap()).await.unwrap();
    captured(&repository, &database, 1).await;
    note_captured(&home).await;
    (home, repository, database)
}

/// Whoever captures says so.
async fn note_captured(home: &Home) {
    let due: Vec<DueCapture> = home.control.due_captures(1).await.unwrap();
    let claimed = home.control.claim_window(&home.worker, &due[0], 30).await.unwrap().unwrap();
    let through = Some(home.maintenance.steps.places.world().now());
    let window = CapturedWindow { through, facts: Some(CaptureFacts::default()), ..CapturedWindow::default() };
    home.control.end_window(&home.worker, &claimed, &WindowEnd::Captured(Box::new(window))).await.unwrap();
}

/// Time passes, for the clock and for the database.
fn pass(home: &Home, database: &MemoryDatabase, seconds: i64) {
    home.clock.advance(seconds);
    database.pass_seconds(seconds);
}

async fn merges(home: &Home) -> u64 {
    let done = home.maintenance.run(&MaintenanceTask::Retention).await.unwrap();
    assert_eq!(done["failed"], 0, "{done}");
    done["merges"].as_u64().unwrap()
}

async fn synthetic(home: &Home) -> Vec<BackupJob> {
    let all = home.control.backups(&home.owner, None, &Page::default()).await.unwrap().items;
    all.into_iter().filter(|backup| backup.config.kind == BackupType::Synthetic).collect()
}

/// What the state machine does.
async fn run(home: &Home, backup: &BackupJob) -> BackupJob {
    home.control.start_job(&home.worker, &backup.job.id).await.unwrap();
    let steps = &home.maintenance.steps;
    let named = json!({ "job": backup.job.id, "organization": home.worker.organization() });
    let planned = steps.run("backup-plan", named.clone()).await.unwrap();
    for chunk in 0..planned["chunks"].as_u64().unwrap() {
        let mut input = named.clone();
        (input["chunk"], input["sequence"]) = (json!(chunk), json!(0));
        assert_eq!(steps.run("backup-chunk", input).await.unwrap()["done"], true);
    }
    steps.run("backup-finalize", named).await.unwrap();
    home.shown(backup).await
}

#[tokio::test]
async fn a_chain_that_stands_on_an_old_backup_is_merged_without_a_look_at_its_database() {
    let (home, repository, database) = capturing().await;
    pass(&home, &database, 7 * DAY - 60);
    assert_eq!(merges(&home).await, 0, "it is not a week old");
    pass(&home, &database, 120);
    captured(&repository, &database, 2).await;
    assert_eq!((merges(&home).await, merges(&home).await), (1, 0));
    let [merge] = &synthetic(&home).await[..] else { panic!("one was made") };
    assert_eq!(merge.job.created_by, "system");
    let done = run(&home, merge).await;
    let result = done.job.result.unwrap();
    assert_eq!((done.job.status, result.kind), (JobStatus::Completed, Some(BackupType::Synthetic)));
    assert_eq!((result.documents, result.reads, result.read_time), (2, 0, Some(database.now())));
    assert_eq!(repository.snapshot_ids().await.unwrap().len(), 2);
    // the chain stands on that one now
    for days in [1, 5] {
        pass(&home, &database, days * DAY);
        captured(&repository, &database, 3).await;
        assert_eq!(merges(&home).await, 0, "{days}");
    }
}

#[tokio::test]
async fn a_merge_that_failed_is_tried_again_the_next_day_and_one_of_two_at_once_is_made() {
    let (home, repository, database) = capturing().await;
    home.clock.advance(8 * DAY);
    captured(&repository, &database, 2).await;
    let (a, b) = tokio::join!(merges(&home), merges(&home));
    assert!(a + b >= 1, "{a} {b}");
    let [merge] = &synthetic(&home).await[..] else { panic!("one was made") };
    home.control.start_job(&home.worker, &merge.job.id).await.unwrap();
    let failed = json!({ "Error": "Fatal", "Cause": "it is so" });
    let input = json!({ "job": merge.job.id, "organization": home.worker.organization(), "failed": failed });
    home.maintenance.steps.run("backup-finalize", input).await.unwrap();
    assert_eq!((merges(&home).await, synthetic(&home).await.len()), (0, 1));
    home.clock.advance(DAY);
    assert_eq!((merges(&home).await, synthetic(&home).await.len()), (1, 2));
}

#[tokio::test]
async fn where_there_is_no_repository_any_more_nothing_is_merged_and_nothing_fails() {
    let (home, ..) = capturing().await;
    std::fs::remove_dir_all(home.folder.path()).unwrap();
    home.clock.advance(8 * DAY);
    assert_eq!((merges(&home).await, synthetic(&home).await.len()), (0, 0));
}
