//! The undo of a restore as a chain: nothing of it can be missing, nothing comes behind its end, and two processes of one
//! restore do not take each other's records away.

use std::collections::BTreeMap;
use std::sync::Arc;

use firebackup_engine::memory::MemoryDatabase;
use firebackup_engine::{EngineError, PrunePolicy, Repository, RestoreOptions, Target, prune, unfinished_restores};
use firebackup_model::id::{JobId, SnapshotId};
use firebackup_model::job::RestoreMode;
use firebackup_model::{DatabaseName, DocumentPath, Timestamp};
use object_store::ObjectStoreExt;

use crate::faults::{DyingStore, Fuse, Troubled};
use crate::fixture::{Fixture, backup, contents, restore};

type Documents = BTreeMap<DocumentPath, Vec<u8>>;

/// A restore that died when it had sealed several batches: fixture, repository, snapshot, job, and what was there before.
async fn killed_restore() -> (Fixture, Repository, SnapshotId, JobId, Documents) {
    for operations in 40.. {
        let (fixture, repository) = Fixture::new(400).await;
        let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
        for n in 0..100 {
            fixture.database.set(&format!("users/u{:05}", n * 4), -n);
        }
        let before = contents(&fixture.database);
        let dying = DyingStore::new(fixture.store.clone(), Fuse::new(operations), false);
        let dying = fixture.open_on(Arc::new(dying)).await.unwrap();
        restore(&dying, &snapshot, fixture.target(), RestoreOptions::default()).run().await.unwrap_err();
        let Some(plan) = unfinished_restores(&repository).await.unwrap().pop() else { continue };
        let prefix = format!("receipts/{}/undo/", plan.job);
        if fixture.objects().await.iter().filter(|path| path.starts_with(&prefix)).count() >= 3 {
            return (fixture, repository, snapshot, plan.job, before);
        }
    }
    unreachable!("some restore dies behind its third batch")
}

#[tokio::test]
async fn a_link_that_is_missing_is_named_and_nothing_is_written() {
    let (fixture, repository, snapshot, job, _) = killed_restore().await;
    let missing = format!("receipts/{job}/undo/00000001");
    fixture.store.delete(&missing.as_str().into()).await.unwrap();
    let before = contents(&fixture.database);
    for id in [&job, &snapshot] {
        let refused = restore(&repository, id, fixture.target(), RestoreOptions::default()).run().await;
        let text = refused.unwrap_err().in_full();
        assert!(text.contains(&missing) && text.contains("is gone"), "{text}");
    }
    assert_eq!(contents(&fixture.database), before);
}

#[tokio::test]
async fn a_restore_whose_plan_is_damaged_is_not_begun_anew_unasked() {
    let (fixture, repository, snapshot, job, _) = killed_restore().await;
    let plan = format!("receipts/{job}/plan");
    fixture.store.put(&plan.as_str().into(), "rubbish".into()).await.unwrap();
    let before = contents(&fixture.database);
    let refused = restore(&repository, &snapshot, fixture.target(), RestoreOptions::default()).run().await;
    let text = refused.unwrap_err().in_full();
    assert!(text.contains(&plan) && text.contains("--fresh"), "{text}");
    let undo = restore(&repository, &job, fixture.target(), RestoreOptions::default()).run().await;
    assert!(undo.unwrap_err().in_full().contains(&plan));
    assert_eq!(contents(&fixture.database), before);

    // another target is another restore
    let elsewhere = MemoryDatabase::new(DatabaseName::new("q", "(default)"));
    let target = crate::fixture::target(&elsewhere);
    restore(&repository, &snapshot, target, RestoreOptions::default()).run().await.unwrap();
    let fresh = RestoreOptions { fresh: true, ..RestoreOptions::default() };
    restore(&repository, &snapshot, fixture.target(), fresh).run().await.unwrap();
}

#[tokio::test]
async fn a_lost_intent_loses_no_undo() {
    let (fixture, repository, _, job, before) = killed_restore().await;
    fixture.store.delete(&format!("intents/{job}").as_str().into()).await.unwrap();
    let jobs = firebackup_engine::unfinished_jobs(&repository).await.unwrap();
    assert_eq!(jobs.iter().map(|job| job.job()).collect::<Vec<_>>(), [&job]);
    prune(&repository, &PrunePolicy { exclusive: true, ..PrunePolicy::default() }).await.unwrap();
    let undo = restore(&repository, &job, fixture.target(), RestoreOptions::default()).run().await.unwrap();
    assert!(undo.tally.written > 0);
    assert_eq!(contents(&fixture.database), before);
}

#[tokio::test]
async fn a_restore_that_runs_keeps_its_undo_whatever_the_policy_of_a_prune() {
    let (fixture, repository, snapshot, _, before) = killed_restore().await;
    let policy = PrunePolicy { keep_undo_days: 0, ..PrunePolicy::default() };
    fixture.clock.pass_hours(11);
    let report = prune(&repository, &policy).await.unwrap();
    assert!(report.abandoned.is_empty(), "{report:?}");
    let report = restore(&repository, &snapshot, fixture.target(), RestoreOptions::default()).run().await.unwrap();
    assert!(report.resumed);
    restore(&repository, &report.job, fixture.target(), RestoreOptions::default()).run().await.unwrap();
    assert_eq!(contents(&fixture.database), before);
}

#[tokio::test]
async fn a_slow_process_replaces_nothing_once_another_has_ended_the_restore() {
    for nth in [1, 2, 4] {
        let (fixture, repository) = Fixture::new(160).await;
        let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
        fixture.database.set("zoo/ü3", -3);
        let before = contents(&fixture.database);
        let source = Arc::new(Troubled::gated(fixture.database.clone(), nth));
        let gate = source.gate.as_ref().unwrap();
        let slow_target = Target { source: source.clone(), sink: Arc::new(fixture.database.clone()) };
        let mut slow = restore(&repository, &snapshot, slow_target, RestoreOptions::default());
        slow.options.parallel = 1;
        let slow = tokio::spawn(async move { slow.run().await });
        gate.reached.notified().await;
        let other = fixture.open().await;
        let quick = restore(&other, &snapshot, fixture.target(), RestoreOptions::default()).run().await.unwrap();
        assert!(quick.resumed);
        // somebody edits what the slow one has not come to yet, and it may not be replaced without an undo
        for path in ["orders/__id2__", "users/u00000", "zoo/ü3", "zoo/ü159"] {
            fixture.database.set(path, 77);
        }
        let edited = contents(&fixture.database);
        gate.open.notify_one();
        let ended = slow.await.unwrap().unwrap_err();
        assert!(ended.to_string().contains("has ended it"), "{ended:?}");
        assert_eq!(contents(&fixture.database), edited, "read {nth}");
        restore(&repository, &quick.job, fixture.target(), RestoreOptions::default()).run().await.unwrap();
        assert_eq!(contents(&fixture.database)["zoo/ü3"], before["zoo/ü3"]);
    }
}

#[tokio::test]
async fn two_processes_of_one_restore_keep_each_others_records() {
    for round in 0..24_i64 {
        let (fixture, repository) = Fixture::new(160).await;
        let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
        for n in 0..40 {
            match round % 2 {
                0 => fixture.database.set(&format!("users/u{:05}", n * 4), -n - round),
                _ => fixture.database.remove(&format!("users/u{:05}", n * 4)),
            }
        }
        let before = contents(&fixture.database);
        let mode = if round % 2 == 0 { RestoreMode::Overwrite } else { RestoreMode::SkipExisting };
        let options = RestoreOptions { mode, ..RestoreOptions::default() };
        let job = restore(&repository, &snapshot, fixture.target(), options.clone());
        job.stop.request();
        job.run().await.unwrap_err();
        let (one, two) = (fixture.open().await, fixture.open().await);
        let mut slow = restore(&one, &snapshot, fixture.target(), options.clone());
        let mut quick = restore(&two, &snapshot, fixture.target(), options);
        (slow.options.batch_writes, quick.options.batch_writes) = (7, 3 + round as usize);
        let (a, b) = tokio::join!(slow.run(), quick.run());
        let report = [&a, &b].into_iter().flatten().next().unwrap_or_else(|| panic!("{a:?} {b:?}"));
        for error in [&a, &b].into_iter().filter_map(|result| result.as_ref().err()) {
            assert!(error.to_string().contains("has ended it"), "{error:?}");
        }
        restore(&repository, &report.job, fixture.target(), RestoreOptions::default()).run().await.unwrap();
        assert_eq!(contents(&fixture.database), before, "round {round}");
    }
}

#[tokio::test]
async fn a_restore_that_was_killed_while_it_ended_is_ended_and_begun_anew() {
    let mut ended = 0;
    for operations in 20..90 {
        let (fixture, repository) = Fixture::new(60).await;
        let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
        fixture.database.set("users/u00000", -1);
        let dying = DyingStore::new(fixture.store.clone(), Fuse::new(operations), false);
        let dying = fixture.open_on(Arc::new(dying)).await.unwrap();
        if restore(&dying, &snapshot, fixture.target(), RestoreOptions::default()).run().await.is_ok() {
            break;
        }
        fixture.database.set("users/u00004", -4);
        let report = restore(&repository, &snapshot, fixture.target(), RestoreOptions::default()).run().await;
        let report = report.unwrap_or_else(|error| panic!("killed at {operations}: {error:?}"));
        ended += u32::from(!report.resumed);
        let undo = restore(&repository, &report.job, fixture.target(), RestoreOptions::default()).run().await.unwrap();
        assert!(undo.tally.failed == 0 && undo.tally.written > 0, "{operations}");
    }
    assert!(ended > 3, "only {ended} restores were killed while they ended");
}

#[tokio::test]
async fn a_restore_that_is_refused_leaves_no_job() {
    let (fixture, repository) = Fixture::new(40).await;
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    let before = fixture.objects().await;
    let renamed = |from: &str, to: &str| RestoreOptions {
        renames: vec![(from.to_owned(), to.to_owned())],
        ..RestoreOptions::default()
    };
    let job = |options| restore(&repository, &snapshot, fixture.target(), options);
    // the snapshot holds `orders` itself; `user` is a mistake in writing; a guard that has not come yet guards nothing
    let in_the_way = job(renamed("users", "orders")).run().await.unwrap_err();
    assert!(matches!(&in_the_way, EngineError::Refused(text) if text.contains("`orders")), "{in_the_way:?}");
    for result in [
        job(renamed("user", "people")).run().await.map(drop),
        job(renamed("user", "people")).dry_run(3).await.map(drop),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(&error, EngineError::NotFound(text) if text.contains("`user`")), "{error:?}");
    }
    let guard = Some(Timestamp::new(4_000_000_000, 0));
    let error = job(RestoreOptions { guard, ..RestoreOptions::default() }).run().await.unwrap_err();
    assert!(error.to_string().contains("has not come yet"), "{error:?}");
    assert_eq!(fixture.objects().await, before);
}

#[tokio::test]
async fn one_document_that_cannot_be_moved_does_not_stop_the_others() {
    for mode in [RestoreMode::Overwrite, RestoreMode::Mirror] {
        let (fixture, repository) = Fixture::new(40).await;
        for n in 0..3 {
            fixture.database.set(&format!("users/u00000/a-collection-below/document-with-an-id-{n}"), n);
        }
        let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
        // so long that users fit below it, and what lies deeper does not
        let to = ["x".repeat(1400), "x".repeat(1400), "x".repeat(1400), "x".repeat(1400), "x".repeat(510)].join("/");
        let elsewhere = MemoryDatabase::new(DatabaseName::new("p", "(default)"));
        elsewhere.set(&format!("{to}/zzz"), 1);
        let options =
            RestoreOptions { renames: vec![("users".to_owned(), to.clone())], mode, ..RestoreOptions::default() };
        let job = restore(&repository, &snapshot, crate::fixture::target(&elsewhere), options);
        let dry = job.dry_run(3).await.unwrap();
        let report = job.run().await.unwrap();
        assert_eq!((report.tally.failed, report.tally.written), (3, 40), "{mode:?}");
        assert_eq!((dry.problems.len(), dry.difference.totals.created), (3, 40));
        assert!(report.tally.problems.iter().all(|problem| problem.path.contains("/a-collection-below/")));
        assert_eq!(report.tally.deleted, u64::from(mode == RestoreMode::Mirror));
    }
}
