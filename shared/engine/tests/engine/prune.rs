//! What a prune keeps, marks and deletes.

use firebackup_engine::{EngineError, PrunePolicy, Repository, RestoreOptions, Resume, prune};
use firebackup_model::id::SnapshotId;
use firebackup_model::{Generations, Timestamp};

use crate::fixture::{Fixture, all_whole, backup, restore};

#[tokio::test]
async fn what_is_dropped_goes_a_grace_period_later() {
    let (fixture, repository) = Fixture::new(60).await;
    for _ in 0..3 {
        backup(&repository, &fixture.database).build().run().await.unwrap();
    }
    let policy = PrunePolicy { keep_last: Some(1), ..PrunePolicy::default() };
    let dry = prune(&repository, &PrunePolicy { dry_run: true, ..policy.clone() }).await.unwrap();
    assert_eq!((dry.dropped.len(), dry.kept, dry.deleted), (2, 1, 0));
    assert_eq!(all_whole(&repository).await.len(), 3, "a dry run changes nothing");
    let runs =
        |objects: std::collections::BTreeSet<String>| objects.iter().filter(|path| path.starts_with("runs/")).count();
    let before = runs(fixture.objects().await);
    let first = prune(&repository, &policy).await.unwrap();
    assert_eq!((first.dropped.len(), first.deleted), (2, 0));
    assert!(first.marked >= 2 && runs(fixture.objects().await) == before);
    fixture.clock.pass_hours(23);
    assert_eq!(prune(&repository, &policy).await.unwrap().deleted, 0);
    fixture.clock.pass_hours(2);
    let last = prune(&repository, &policy).await.unwrap();
    assert_eq!(last.deleted, first.marked);
    assert_eq!(all_whole(&repository).await.len(), 1);
    assert!(runs(fixture.objects().await) < before);
}

#[tokio::test]
async fn the_newest_backup_is_never_dropped() {
    let (fixture, repository) = Fixture::new(10).await;
    backup(&repository, &fixture.database).build().run().await.unwrap();
    fixture.clock.pass_hours(24 * 400);
    for policy in [
        PrunePolicy { keep_days: Some(1), ..PrunePolicy::default() },
        PrunePolicy { keep_last: Some(0), ..PrunePolicy::default() },
    ] {
        prune(&repository, &PrunePolicy { exclusive: true, ..policy }).await.unwrap();
        assert_eq!(all_whole(&repository).await.len(), 1);
    }
}

/// A backup at each of these moments, which are whole hours apart.
async fn backups_at(fixture: &Fixture, repository: &Repository, moments: &[&str]) -> Vec<SnapshotId> {
    let mut made = Vec::new();
    for moment in moments {
        let moment: Timestamp = moment.parse().unwrap();
        let seconds = moment.seconds - fixture.database.now().seconds;
        fixture.database.pass_seconds(seconds);
        fixture.clock.pass_hours(seconds / 3600);
        let manifest = backup(repository, &fixture.database).build().run().await.unwrap().manifest;
        assert_eq!(manifest.read_time().unwrap().seconds, moment.seconds);
        made.push(manifest.id);
    }
    made
}

#[tokio::test]
async fn of_the_last_days_weeks_months_and_years_the_newest_backup_is_kept() {
    let (fixture, repository) = Fixture::new(10).await;
    let moments = [
        "2023-11-14T22:13:20Z",
        "2023-11-14T23:13:20Z",
        "2023-11-15T00:13:20Z",
        // a Monday
        "2023-11-20T00:13:20Z",
        "2023-12-01T00:13:20Z",
        "2024-01-01T00:13:20Z",
    ];
    let made = backups_at(&fixture, &repository, &moments).await;
    let before = fixture.objects().await;
    let none = Generations::default();
    let dry = PrunePolicy { exclusive: true, dry_run: true, ..PrunePolicy::default() };
    let of = |keep_generations| PrunePolicy { keep_generations, ..dry.clone() };
    for (policy, dropped) in [
        (of(none), 0),
        (of(Generations { daily: 3, ..none }), 3),
        (of(Generations { daily: 5, ..none }), 1),
        (of(Generations { weekly: 4, ..none }), 2),
        (of(Generations { monthly: 2, ..none }), 4),
        (of(Generations { monthly: 9, ..none }), 3),
        (of(Generations { yearly: 1, ..none }), 5),
        (of(Generations { yearly: 2, ..none }), 4),
        // what any of them keeps is kept
        (of(Generations { yearly: 1, weekly: 3, ..none }), 3),
        (PrunePolicy { keep_last: Some(4), ..of(Generations { yearly: 2, ..none }) }, 2),
        (PrunePolicy { keep_last: Some(1), ..of(Generations { yearly: 2, ..none }) }, 4),
        (PrunePolicy { keep_days: Some(32), ..of(Generations { yearly: 1, ..none }) }, 4),
        (PrunePolicy { keep_days: Some(1), ..of(Generations { monthly: 3, ..none }) }, 3),
    ] {
        // of these the older ones go, whatever is counted
        assert_eq!(prune(&repository, &policy).await.unwrap().dropped, made[..dropped], "{policy:?}");
    }
    let dry = of(Generations { weekly: 4, ..none });
    let told = prune(&repository, &dry).await.unwrap();
    assert_eq!(fixture.objects().await, before, "a dry run changes nothing");
    assert_eq!(prune(&repository, &PrunePolicy { dry_run: false, ..dry }).await.unwrap(), told);
    assert_eq!(repository.snapshot_ids().await.unwrap(), made[2..]);
    all_whole(&repository).await;
}

#[tokio::test]
async fn the_last_days_are_those_of_each_database_for_itself() {
    use firebackup_engine::memory::MemoryDatabase;
    use firebackup_model::DatabaseName;
    let (fixture, repository) = Fixture::new(10).await;
    let other = MemoryDatabase::new(DatabaseName::new("other", "(default)"));
    let of_the_other = backup(&repository, &other).build().run().await.unwrap().manifest.id;
    let made = backups_at(&fixture, &repository, &["2023-11-14T22:13:20Z", "2023-11-16T00:13:20Z"]).await;
    let keep_generations = Generations { daily: 1, ..Generations::default() };
    let policy = PrunePolicy { keep_generations, ..PrunePolicy::default() };
    assert_eq!(prune(&repository, &policy).await.unwrap().dropped, made[..1]);
    assert_eq!(repository.snapshot_ids().await.unwrap(), [of_the_other, made[1].clone()]);
}

#[tokio::test]
async fn a_backup_that_grew_too_old_may_not_commit() {
    let (fixture, repository) = Fixture::new(40).await;
    let stopped = backup(&repository, &fixture.database).max_reads(Some(5)).build().run().await.unwrap_err();
    let EngineError::ReadBudget { job, .. } = stopped else { panic!("{stopped:?}") };
    fixture.clock.pass_hours(13);
    let error = backup(&repository, &fixture.database).resume(Resume::Job(job)).build().run().await.unwrap_err();
    assert!(matches!(error, EngineError::Incomplete { .. }), "{error:?}");
    assert!(!backup(&repository, &fixture.database).build().run().await.unwrap().resumed);
}

#[tokio::test]
async fn what_restores_replaced_is_kept_for_a_week() {
    let (fixture, repository) = Fixture::new(30).await;
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    fixture.database.set("users/u00000", 77);
    let report = restore(&repository, &snapshot, fixture.target(), RestoreOptions::default()).run().await.unwrap();
    let policy = PrunePolicy { keep_last: Some(1), exclusive: true, ..PrunePolicy::default() };
    prune(&repository, &policy).await.unwrap();
    assert!(repository.snapshot_ids().await.unwrap().contains(&report.job));
    fixture.clock.pass_hours(24 * 8);
    prune(&repository, &policy).await.unwrap();
    assert_eq!(repository.snapshot_ids().await.unwrap(), [snapshot]);
}

#[tokio::test]
async fn nothing_is_deleted_when_a_manifest_cannot_be_read() {
    use object_store::ObjectStoreExt;
    let (fixture, repository) = Fixture::new(30).await;
    let one = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
    backup(&repository, &fixture.database).build().run().await.unwrap();
    let path = format!("snapshots/{}.manifest", one.id);
    let mut bytes = fixture.read(&path).await.to_vec();
    bytes[200] ^= 1;
    fixture.store.put(&path.into(), bytes.into()).await.unwrap();
    let before = fixture.objects().await;
    assert!(prune(&repository, &PrunePolicy { exclusive: true, ..PrunePolicy::default() }).await.is_err());
    assert_eq!(fixture.objects().await, before);
}

#[tokio::test]
async fn a_policy_counts_each_database_and_selection_for_itself() {
    use firebackup_engine::memory::MemoryDatabase;
    use firebackup_model::{DatabaseName, Selection};
    let (fixture, repository) = Fixture::new(20).await;
    let other = MemoryDatabase::new(DatabaseName::new("other", "(default)"));
    let users = Selection { include: vec!["users".to_owned()], ..Selection::default() };
    let old = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    let kept = [
        backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id,
        backup(&repository, &other).build().run().await.unwrap().manifest.id,
        backup(&repository, &fixture.database).selection(users).build().run().await.unwrap().manifest.id,
    ];
    let policy = PrunePolicy { keep_last: Some(1), ..PrunePolicy::default() };
    assert_eq!(prune(&repository, &policy).await.unwrap().dropped, [old]);
    assert_eq!(repository.snapshot_ids().await.unwrap(), kept);
}

#[tokio::test]
async fn the_newest_backup_is_that_of_the_newest_moment() {
    use firebackup_model::port::DocumentSource;
    let (fixture, repository) = Fixture::new(20).await;
    let earlier = fixture.database.snapshot_time().await.unwrap();
    fixture.database.set("users/new", 1);
    let newest = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    fixture.clock.pass_hours(1);
    let of_the_past = backup(&repository, &fixture.database).read_time(Some(earlier)).build().run().await.unwrap();
    assert_eq!(repository.resolve("latest").await.unwrap(), newest);

    let keep_one = PrunePolicy { keep_last: Some(1), ..PrunePolicy::default() };
    assert_eq!(prune(&repository, &keep_one).await.unwrap().dropped, [of_the_past.manifest.id]);
    assert_eq!(repository.snapshot_ids().await.unwrap(), [newest]);
}

#[tokio::test]
async fn finding_the_newest_does_not_read_every_manifest() {
    let (fixture, repository) = Fixture::new(20).await;
    let old = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    fixture.clock.pass_hours(24);
    fixture.database.pass_seconds(24 * 3600);
    fixture.database.set("users/new", 1);
    let newest = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    // an old one that cannot be read does not matter, one that may be the newest does
    use object_store::ObjectStoreExt;
    fixture.store.put(&format!("snapshots/{old}.manifest").into(), "x".into()).await.unwrap();
    assert_eq!(repository.resolve("latest").await.unwrap(), newest);
    fixture.store.put(&format!("snapshots/{newest}.manifest").into(), "x".into()).await.unwrap();
    assert!(matches!(repository.resolve("latest").await.unwrap_err(), EngineError::Latest { .. }));
}
