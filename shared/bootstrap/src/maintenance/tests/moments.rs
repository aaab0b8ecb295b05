//! How long captured moments are kept.

use std::collections::BTreeSet;

use firebackup_control::{JobEnd, JobResult, ScheduleId};
use firebackup_engine::memory::MemoryDatabase;
use firebackup_engine::{Backup, Capture, CaptureOptions, Contents, Moments, Stop};
use firebackup_model::port::Clock;
use firebackup_model::{DatabaseName, Selection, Timestamp};

use super::*;

/// A change, and what it takes to be a moment.
pub(super) async fn captured(repository: &Repository, database: &MemoryDatabase, n: i64) {
    database.set("users/alice", n);
    let (source, options) = (Arc::new(database.clone()), CaptureOptions::default());
    let options = CaptureOptions { prove_cheaply_every_seconds: 0, ..options };
    let (changes, meter, stop) = (source.clone(), Arc::default(), Stop::default());
    let capture = Capture { repository: repository.clone(), source, changes, options, meter, stop };
    capture.until_now(&mut |_| {}).await.unwrap();
}

pub(super) async fn backed_up(repository: &Repository, database: &MemoryDatabase) {
    Backup::builder(repository.clone(), Arc::new(database.clone())).build().run().await.unwrap();
}

/// The database of the project, at the time of the clock.
pub(super) fn database() -> MemoryDatabase {
    let database = MemoryDatabase::new(name());
    database.pass_seconds(4_102_444_800 - database.now().seconds);
    database.flow();
    database.set("users/bob", 1);
    database
}

fn name() -> DatabaseName {
    DatabaseName::new("shop-1", "(default)")
}

/// How many moments are left of five after ten days, where somebody says for how many days they are kept, or nobody does.
async fn left(days: Option<u32>) -> usize {
    let home = Home::new().await;
    let database = database();
    let repository = home.repository(&home.started_backup().await).await;
    backed_up(&repository, &database).await;
    for n in 0..2 {
        captured(&repository, &database, n).await;
    }
    backed_up(&repository, &database).await;
    captured(&repository, &database, 2).await;
    assert_eq!(Moments::read(&repository, &name()).await.unwrap().points().count(), 5);
    if let Some(days) = days {
        let new = json!({ "projectId": home.project.id, "config": { "retentionDays": days } });
        home.control.enable_pitr(&home.owner, serde_json::from_value(new).unwrap()).await.unwrap();
    }
    home.clock.advance(10 * 24 * 3600);
    home.maintenance.run(&MaintenanceTask::Retention).await.unwrap();
    Moments::read(&repository, &name()).await.unwrap().points().count()
}

#[tokio::test]
async fn moments_are_kept_for_as_long_as_somebody_says() {
    // what the last backup was made behind
    let short = left(Some(7)).await;
    assert!(short < 5, "{short}");
    assert_eq!(left(Some(30)).await, 5);
    // what somebody has said may be gone with a project: then it is the longest that it may have been
    assert_eq!(left(None).await, 5);
}

/// A backup that a schedule asks for, made in steps and committed by the name of its job.
async fn scheduled(home: &Home, schedule: &ScheduleId, database: &MemoryDatabase) -> BackupJob {
    let backup = home.control.trigger_schedule(&home.owner, schedule, None).await.unwrap();
    let job = &backup.job.id;
    home.control.start_job(&home.worker, job).await.unwrap();
    let steps = Backup::builder(home.repository(&backup).await, Arc::new(database.clone())).steps();
    for chunk in 0..steps.plan(job).await.unwrap().chunks {
        assert!(steps.chunk(job, chunk, 0).await.unwrap().done);
    }
    let manifest = steps.finalize(job).await.unwrap();
    let end = JobEnd::Completed(Box::new(JobResult::of(&manifest)));
    home.control.finish_job(&home.worker, job, end).await.unwrap();
    backup
}

/// How many documents a moment holds that is offered.
async fn held(repository: &Repository, moments: &Moments, point: Timestamp) -> i64 {
    let moment = moments.resolve(point, true).unwrap();
    let everything = Selection::default();
    let mut contents = Contents::of_moment(repository, moments, &moment, &everything, &Arc::default()).unwrap();
    let mut documents = 0;
    while let Some(item) = contents.next().await.unwrap() {
        documents += i64::from(item.document.is_some());
    }
    documents
}

/// A document a day, a backup every night, and captures in between: after six weeks a week of moments is left, each of which
/// can be put back, and the backups that the schedule keeps of days, weeks and months.
#[tokio::test]
async fn a_week_of_moments_is_kept_beside_the_backups_of_some_days_weeks_and_months() {
    const DAY: i64 = 24 * 3600;
    let home = Home::new().await;
    let name = DatabaseName::new("shop-1", "(default)");
    let database = MemoryDatabase::new(name.clone());
    database.flow();
    let pass = |seconds| {
        home.clock.advance(seconds);
        // Firestore's clock and ours show the same
        database.pass_seconds(home.clock.now().seconds - database.now().seconds);
    };
    let new = json!({
        "name": "Nightly", "projectId": home.project.id, "cronExpression": "0 0 * * *", "timezone": "Etc/UTC",
        "gfs": { "daily": 3, "weekly": 2, "monthly": 2 },
    });
    let schedule = home.control.create_schedule(&home.owner, serde_json::from_value(new).unwrap()).await.unwrap();
    let pitr = json!({ "projectId": home.project.id, "config": { "retentionDays": 7 } });
    home.control.enable_pitr(&home.owner, serde_json::from_value(pitr).unwrap()).await.unwrap();

    let (mut backups, mut points) = (Vec::new(), Vec::new());
    // from the first of January of 2100, a Friday, to the fourteenth of February
    for day in 0..45 {
        pass(0);
        database.set(&format!("days/{day}"), day);
        let backup = scheduled(&home, &schedule.id, &database).await;
        for half in 0..2 {
            pass(DAY / 2);
            captured(&home.repository(&backup).await, &database, 2 * day + half).await;
            // what was written every day, and what every capture writes
            points.push((database.now(), day + 2));
        }
        home.maintenance.run(&MaintenanceTask::Retention).await.unwrap();
        backups.push(backup);
    }

    let repository = home.repository(&backups[44]).await;
    let kept: Vec<_> = repository.snapshot_ids().await.unwrap();
    // moments build on that of the seventh, and on that of the eleventh next
    let january_31_and_february_7_11_12_13_14 = [30, 37, 41, 42, 43, 44];
    let expected: BTreeSet<_> = january_31_and_february_7_11_12_13_14.map(|day| backups[day].job.id.clone()).into();
    assert_eq!(kept.into_iter().collect::<BTreeSet<_>>(), expected);
    let moments = Moments::read(&repository, &name).await.unwrap();
    let week = home.clock.now().plus_seconds(-7 * DAY);
    let offered: BTreeSet<_> = moments.points().collect();
    for (point, documents) in points.into_iter().filter(|(point, _)| *point > week) {
        let moment = moments.points().filter(|moment| *moment <= point).last().unwrap();
        assert_eq!(held(&repository, &moments, moment).await, documents, "at {point} of {offered:?}");
    }
    for moment in offered {
        held(&repository, &moments, moment).await;
    }
}

#[tokio::test]
async fn the_oldest_moment_follows_where_a_schedule_keeps_one_backup() {
    const DAY: i64 = 24 * 3600;
    let home = Home::new().await;
    let database = MemoryDatabase::new(name());
    database.flow();
    database.set("users/bob", 1);
    let new = json!({
        "name": "Nightly", "projectId": home.project.id, "cronExpression": "0 0 * * *", "timezone": "Etc/UTC",
        "retention": { "type": "count", "value": 1 },
    });
    let schedule = home.control.create_schedule(&home.owner, serde_json::from_value(new).unwrap()).await.unwrap();
    let pitr = json!({ "projectId": home.project.id, "config": { "retentionDays": 7 } });
    home.control.enable_pitr(&home.owner, serde_json::from_value(pitr).unwrap()).await.unwrap();
    let mut points = Vec::new();
    for day in 0..22 {
        database.pass_seconds(home.clock.now().seconds - database.now().seconds);
        let repository = home.repository(&scheduled(&home, &schedule.id, &database).await).await;
        home.clock.advance(DAY);
        database.pass_seconds(home.clock.now().seconds - database.now().seconds);
        captured(&repository, &database, day).await;
        points.extend(Moments::read(&repository, &name()).await.unwrap().points().last());
        let retained = home.maintenance.run(&MaintenanceTask::Retention).await.unwrap();
        assert_eq!(retained["failed"], 0, "{retained}");
        // what moments build on, what they build on next, and the newest
        assert!(repository.snapshot_ids().await.unwrap().len() <= 3, "day {day}: {retained}");
        let moments = Moments::read(&repository, &name()).await.unwrap();
        let left: BTreeSet<_> = moments.points().collect();
        let days_ago = |days: i64| home.clock.now().plus_seconds(-days * DAY);
        assert!(left.first() >= Some(&days_ago(14)), "day {day}: {left:?}");
        assert!(points.iter().all(|point| *point < days_ago(7) || left.contains(point)), "day {day}: {left:?}");
    }
}
