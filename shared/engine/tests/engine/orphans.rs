//! Objects that somebody names: only what a prune would take may go, and nothing else goes with it.

use std::collections::BTreeSet;

use firebackup_engine::{
    EngineError, Fate, Orphans, PrunePolicy, PruneReport, Repository, RestoreOptions, fates, orphans, prune,
};
use object_store::ObjectStoreExt;

use crate::fixture::{Fixture, all_whole, backup, restore};

const ORPHAN: &str = "runs/ab/ab000000000000000000000000000000.run";
const OTHER: &str = "runs/cd/cd000000000000000000000000000000.run";

async fn with_orphans() -> (Fixture, Repository) {
    let (fixture, repository) = Fixture::new(60).await;
    for name in [ORPHAN, OTHER] {
        fixture.store.put(&name.into(), "12345".into()).await.unwrap();
    }
    (fixture, repository)
}

fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

async fn prune_only<'a>(repository: &Repository, only: impl IntoIterator<Item = &'a str>) -> PruneReport {
    let policy = PrunePolicy { only: Some(names(only)), ..PrunePolicy::default() };
    prune(repository, &policy).await.unwrap()
}

#[tokio::test]
async fn each_is_told_what_it_is_needed_for() {
    let (fixture, repository) = with_orphans().await;
    let kept = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
    let stopped = backup(&repository, &fixture.database).max_reads(Some(5)).build().run().await.unwrap_err();
    let EngineError::ReadBudget { .. } = stopped else { panic!("{stopped:?}") };
    let objects = fixture.objects().await;
    let found = fates(&repository, &objects).await.unwrap();
    for (name, fate) in &found {
        let expect = match name.split('/').next().unwrap() {
            "snapshots" => Fate::Snapshot,
            "firebackup.json" => Fate::Kept,
            _ if [ORPHAN, OTHER].contains(&name.as_str()) => Fate::Orphan(5),
            _ => Fate::Needed,
        };
        assert_eq!(*fate, expect, "{name}");
    }
    for folder in ["runs/", "keys/", "receipts/", "intents/"] {
        assert!(found.iter().any(|(name, fate)| name.starts_with(folder) && *fate == Fate::Needed), "{folder}");
    }
    let missing = names(["runs/ef/ef000000000000000000000000000000.run", "", "//", "../x", "nonsense"]);
    assert!(fates(&repository, &missing).await.unwrap().values().all(|fate| *fate == Fate::Missing));
    assert_eq!(fixture.objects().await, objects, "a look changes nothing");
    // once the job may not commit any more, what it wrote is needed by nobody
    fixture.clock.pass_hours(13);
    let later = fates(&repository, &objects).await.unwrap();
    let orphans = later.iter().filter(|(_, fate)| matches!(fate, Fate::Orphan(_))).count();
    assert!(orphans > 2, "{later:?}");
    assert!(kept.all_runs().all(|run| {
        let id = run.id.to_string();
        later[&format!("runs/{}/{id}.run", &id[..2])] == Fate::Needed
    }));
}

#[tokio::test]
async fn only_what_is_named_goes_and_a_grace_period_later() {
    let (fixture, repository) = with_orphans().await;
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    fixture.database.set("users/u00000", 77);
    let undo = restore(&repository, &snapshot, fixture.target(), RestoreOptions::default()).run().await.unwrap().job;
    fixture.clock.pass_hours(24 * 8);
    let everything = fixture.objects().await;
    let all = || everything.iter().map(String::as_str).filter(|name| *name != OTHER);
    let first = prune_only(&repository, all()).await;
    assert_eq!((first.marked, first.marked_bytes, first.deleted, first.dropped.len()), (1, 5, 0, 0));
    assert!(repository.snapshot_ids().await.unwrap().contains(&undo), "an old undo is not what was named");
    fixture.clock.pass_hours(23);
    assert_eq!(prune_only(&repository, all()).await.deleted, 0);
    fixture.clock.pass_hours(2);
    assert_eq!(prune_only(&repository, [OTHER]).await.deleted, 0, "the other one is marked only now");
    let last = prune_only(&repository, all()).await;
    assert_eq!((last.deleted, last.deleted_bytes), (1, 5));
    let left = fixture.objects().await;
    assert!(!left.contains(ORPHAN) && left.contains(OTHER));
    assert_eq!(all_whole(&repository).await.len(), 2);
}

#[tokio::test]
async fn what_is_marked_for_all_stays_marked() {
    let (fixture, repository) = with_orphans().await;
    let everything = prune(&repository, &PrunePolicy::default()).await.unwrap();
    assert_eq!(everything.marked, 2);
    fixture.clock.pass_hours(25);
    assert_eq!(prune_only(&repository, [ORPHAN]).await.deleted, 1);
    assert_eq!(
        prune(&repository, &PrunePolicy::default()).await.unwrap().deleted,
        1,
        "the grace period does not begin anew"
    );
    assert!(!fixture.objects().await.contains(OTHER));
}

#[tokio::test]
async fn they_are_counted_as_a_prune_will_find_them() {
    let (fixture, repository) = with_orphans().await;
    backup(&repository, &fixture.database).build().run().await.unwrap();
    let count = async || orphans(&repository, &PrunePolicy::default()).await.unwrap();
    let found = |due| Orphans { objects: 2, bytes: 10, due, due_bytes: 5 * due, undos: 0 };
    assert_eq!(count().await, found(0));
    let before = fixture.objects().await;
    assert_eq!(count().await, found(0));
    assert_eq!(fixture.objects().await, before, "counting changes nothing");
    assert_eq!(prune(&repository, &PrunePolicy::default()).await.unwrap().marked, 2);
    assert_eq!(count().await, found(0), "those that are marked count on");
    fixture.clock.pass_hours(25);
    assert_eq!(count().await, found(2));
    assert_eq!(prune(&repository, &PrunePolicy::default()).await.unwrap().deleted, 2);
    assert_eq!(count().await, Orphans::default());
}

#[tokio::test]
async fn nothing_is_told_to_be_an_orphan_while_a_manifest_cannot_be_read() {
    let (fixture, repository) = with_orphans().await;
    let one = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    fixture.store.put(&format!("snapshots/{one}.manifest").into(), "x".into()).await.unwrap();
    assert!(fates(&repository, &names([ORPHAN])).await.is_err());
}
