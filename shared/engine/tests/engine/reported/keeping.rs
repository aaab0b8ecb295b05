//! Folding that dies, merges, and what a prune, a lock, a copy and a verification make of reported versions.

use std::collections::BTreeSet;

use firebackup_engine::{Layer, PrunePolicy, copy_object, extend_locks, prune, prune_versions, verify_segments};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use super::*;
use crate::capture::compaction;
use crate::faults::{DyingStore, Fuse};
use crate::fixture::{Fixture, backup, master};
use crate::locks::{Locks, RULE};

const PATH: &str = "users/u00000";

async fn in_folder(fixture: &Fixture, folder: &str) -> BTreeSet<String> {
    fixture.objects().await.into_iter().filter(|path| path.starts_with(folder)).collect()
}

async fn manifests(fixture: &Fixture) -> BTreeSet<String> {
    in_folder(fixture, "reported/").await
}

/// So many batches of one event each, of one document, a minute apart.
async fn batches(fixture: &Fixture, repository: &Repository, number: i64) {
    for n in 0..number {
        fixture.database.pass_seconds(60);
        let event = set(&fixture.database, PATH, 1000 + n);
        folded(repository, &[event]).await;
    }
}

async fn shown(fixture: &Fixture) -> Vec<String> {
    let versions = versions(&fixture.open().await, &fixture.database, PATH).await;
    let show = |version: &Version| format!("{:?} {:?} {:?}", version.time(), version.origin, version.document);
    versions.iter().map(show).collect()
}

#[tokio::test]
async fn folding_that_is_killed_at_any_operation_is_done_again() {
    for lost_answers in [false, true] {
        for operations in 1.. {
            let (fixture, repository, _) = begun(8).await;
            let database = &fixture.database;
            folded(&repository, &[set(database, PATH, 1)]).await;
            let events = [set(database, PATH, 2), remove(database, PATH), set(database, "fresh/1", 3)];
            let fuse = Fuse::new(operations);
            let store = Arc::new(DyingStore::new(fixture.store.clone(), fuse.clone(), lost_answers));
            let lived = match fixture.open_on(store).await {
                Ok(dying) => fold(&dying, &name(database), &events, &Arc::default()).await.is_ok(),
                Err(_) => false,
            };
            assert!(lived || fuse.blew());
            // whatever is listed is whole, before and after it comes again
            let verified = verify_segments(&fixture.open().await, &Arc::default()).await.unwrap();
            assert!(verified.damaged.is_empty(), "killed at {operations}: {:?}", verified.damaged);
            folded(&fixture.open().await, &events).await;
            assert_eq!(manifests(&fixture).await.len(), 2, "killed at {operations}");
            assert_eq!(versions(&fixture.open().await, database, PATH).await.len(), 4);
            if lived {
                assert!(operations > 6, "folding takes more operations than {operations}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn one_batch_that_two_fold_at_once_is_one_object() {
    let (fixture, repository, _) = begun(8).await;
    let database = &fixture.database;
    let events = [set(database, PATH, 1), set(database, "users/a", 2)];
    let (one, other) = tokio::join!(folded(&repository, &events), folded(&repository, &events));
    assert_eq!((one.versions, other.versions), (3, 3));
    assert_eq!(manifests(&fixture).await.len(), 1);
    let verified = verify_segments(&repository, &Arc::default()).await.unwrap();
    assert_eq!((verified.reported, verified.records, verified.damaged.len()), (1, 3, 0));
}

#[tokio::test]
async fn one_key_serves_for_the_batches_of_a_day() {
    let (fixture, repository, _) = begun(8).await;
    let keys = in_folder(&fixture, "keys/").await.len();
    batches(&fixture, &repository, 5).await;
    assert_eq!(in_folder(&fixture, "keys/").await.len(), keys + 1);
    fixture.clock.pass_hours(24);
    batches(&fixture, &repository, 2).await;
    assert_eq!(in_folder(&fixture, "keys/").await.len(), keys + 2);
}

#[tokio::test]
async fn batches_are_merged_by_eights_and_by_the_day_and_tell_the_same() {
    let (fixture, repository, _) = begun(8).await;
    batches(&fixture, &repository, 34).await;
    let before = shown(&fixture).await;
    assert_eq!(before.len(), 35);
    let stop = firebackup_engine::Stop::default();
    let merging = || firebackup_engine::Compaction { stop: stop.clone(), ..compaction(&repository, &fixture) };
    let report = merging().run().await.unwrap();
    assert_eq!(report.reported, 32);
    assert_eq!(manifests(&fixture).await.len(), 38, "what was merged stays until a prune");
    assert_eq!(shown(&fixture).await, before);
    assert_eq!(merging().run().await.unwrap().reported, 0);

    let pruned = prune(&repository, &PrunePolicy::default()).await.unwrap();
    assert_eq!((pruned.reported_dropped, pruned.reported_kept), (32, 6));
    assert_eq!(manifests(&fixture).await.len(), 6);
    assert_eq!(shown(&fixture).await, before);
    // what is left of a day that is over is one
    fixture.clock.pass_hours(49);
    assert_eq!(merging().run().await.unwrap().reported, 6);
    let exclusive = PrunePolicy { exclusive: true, ..PrunePolicy::default() };
    assert_eq!(prune(&repository, &exclusive).await.unwrap().reported_kept, 1);
    assert_eq!((manifests(&fixture).await.len(), shown(&fixture).await), (1, before));
    let verified = verify_segments(&fixture.open().await, &Arc::default()).await.unwrap();
    assert_eq!((verified.reported, verified.damaged.len()), (1, 0));
}

#[tokio::test]
async fn a_merge_that_is_killed_at_any_operation_loses_and_doubles_nothing() {
    for operations in 1.. {
        let (fixture, repository, _) = begun(4).await;
        batches(&fixture, &repository, 12).await;
        let before = shown(&fixture).await;
        let fuse = Fuse::new(operations);
        let store = Arc::new(DyingStore::new(fixture.store.clone(), fuse.clone(), operations % 2 == 0));
        let lived = match fixture.open_on(store).await {
            Ok(dying) => compaction(&dying, &fixture).run().await.is_ok(),
            Err(_) => false,
        };
        assert_eq!(shown(&fixture).await, before, "killed at {operations}");
        compaction(&fixture.open().await, &fixture).run().await.unwrap();
        assert_eq!(shown(&fixture).await, before, "killed at {operations}");
        if lived {
            assert!(operations > 15, "a merge takes more operations than {operations}");
            break;
        }
    }
}

#[tokio::test]
async fn reported_versions_go_with_the_moments_of_their_time_and_younger_ones_stay() {
    let (fixture, repository, _) = begun(8).await;
    let database = &fixture.database;
    folded(&repository, &[set(database, PATH, 1)]).await;
    database.pass_seconds(4 * 24 * 3600);
    fixture.clock.pass_hours(4 * 24);
    let late = [set(database, PATH, 2), set(database, "users/young", 2)];
    folded(&repository, &late).await;
    let (objects, runs) = (manifests(&fixture).await, in_folder(&fixture, "runs/").await);
    let policy = PrunePolicy { keep_moments_days: 5, ..PrunePolicy::default() };
    let dry = prune(&repository, &PrunePolicy { dry_run: true, ..policy.clone() }).await.unwrap();
    assert_eq!(manifests(&fixture).await, objects);
    assert_eq!((dry.reported_dropped, dry.reported_kept), (0, 2));
    let policy = PrunePolicy { keep_moments_days: 3, ..policy };
    let pruned = prune(&repository, &policy).await.unwrap();
    assert_eq!((pruned.reported_dropped, pruned.reported_kept, pruned.marked), (1, 1, 2), "{pruned:?}");
    assert_eq!(in_folder(&fixture, "runs/").await, runs, "what was kept of it goes a day later");
    fixture.clock.pass_hours(25);
    prune(&repository, &policy).await.unwrap();
    assert_eq!(in_folder(&fixture, "runs/").await.len(), runs.len() - 1);
    assert_eq!(versions(&repository, database, "users/young").await.len(), 1);
    // the one before it was told of by the younger event
    assert_eq!(versions(&repository, database, PATH).await.len(), 3);
}

#[tokio::test]
async fn what_cannot_be_read_or_has_a_strange_name_keeps_everything() {
    let (fixture, repository, _) = begun(8).await;
    batches(&fixture, &repository, 2).await;
    let policy = PrunePolicy { keep_last: Some(1), exclusive: true, ..PrunePolicy::default() };
    let stranger = object_store::path::Path::from("reported/strange/name.manifest");
    fixture.store.put(&stranger, "x".into()).await.unwrap();
    let refused = prune(&repository, &policy).await.unwrap_err().in_full();
    assert!(refused.contains("reported/strange"), "{refused}");
    fixture.store.delete(&stranger).await.unwrap();
    let manifest = manifests(&fixture).await.pop_first().unwrap();
    fixture.damage(&manifest).await;
    let objects = fixture.objects().await;
    let refused = prune(&fixture.open().await, &policy).await.unwrap_err().in_full();
    assert!(refused.contains(&manifest), "{refused}");
    assert_eq!(fixture.objects().await, objects);
    // and neither keeps events from being taken, nor a restore of everything from its work
    folded(&fixture.open().await, &[set(&fixture.database, PATH, 7)]).await;
    backup(&repository, &fixture.database).build().run().await.unwrap();
}

#[tokio::test]
async fn damage_is_found_by_a_verification_and_named() {
    let (fixture, repository, first) = begun(8).await;
    batches(&fixture, &repository, 3).await;
    let of_backup: BTreeSet<String> = first.all_runs().map(|run| run.id.to_string()).collect();
    let is_reported = |path: &String| {
        path.starts_with("reported/") || path.starts_with("runs/") && !of_backup.iter().any(|run| path.contains(run))
    };
    let objects: Vec<String> = fixture.objects().await.into_iter().filter(is_reported).collect();
    assert_eq!(objects.len(), 6);
    for object in objects {
        let bytes = fixture.read(&object).await;
        fixture.damage(&object).await;
        let verified = verify_segments(&fixture.open().await, &Arc::default()).await.unwrap();
        assert_eq!((verified.reported, verified.damaged.len()), (2, 1), "{object}");
        assert!(verified.damaged[0].1.in_full().contains(&object), "{:?}", verified.damaged);
        fixture.store.put(&object.as_str().into(), bytes.into()).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_kept_is_locked_with_all_that_it_needs_and_what_is_locked_is_kept() {
    let (fixture, repository, _) = begun(8).await;
    batches(&fixture, &repository, 2).await;
    let locks = Locks::new(&fixture);
    let report = extend_locks(&repository, &locks, RULE, &[], 7).await.unwrap();
    assert_eq!((report.reported, report.failed_reported), (2, 0));
    assert_eq!(locks.locked(), fixture.objects().await.into_iter().collect::<Vec<_>>());
    let none = PrunePolicy { keep_moments_days: 0, exclusive: true, ..PrunePolicy::default() };
    fixture.clock.pass_hours(1);
    let pruned = prune_versions(&repository, &none, &locks).await.unwrap();
    assert_eq!((pruned.reported_dropped, pruned.reported_kept, pruned.deleted), (0, 2, 0));
    assert_eq!(shown(&fixture).await.len(), 3);
}

#[tokio::test]
async fn a_copy_of_a_repository_tells_the_same() {
    let (fixture, repository, _) = begun(8).await;
    batches(&fixture, &repository, 12).await;
    compaction(&repository, &fixture).run().await.unwrap();
    let to: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    for layer in Layer::ALL {
        for object in layer.found(&*fixture.store).await.unwrap() {
            copy_object(&fixture.store, &to, &object, None).await.unwrap();
        }
    }
    let copy = Repository::open(to, master(7), fixture.world.clone()).await.unwrap();
    let there = versions(&copy, &fixture.database, PATH).await;
    let here = versions(&repository, &fixture.database, PATH).await;
    let brief =
        |versions: &[Version]| versions.iter().map(|one| (one.time(), one.document.clone())).collect::<Vec<_>>();
    assert_eq!((brief(&there), there.len()), (brief(&here), 13));
}
