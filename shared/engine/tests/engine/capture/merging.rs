//! Full backups that are merged from what was captured.

use firebackup_engine::{Contents, PrunePolicy, Repository, prune, synthesize};
use firebackup_model::id::SnapshotId;
use firebackup_model::manifest::SnapshotKind;
use firebackup_model::{DocumentPath, Selection};

use super::{all_moments_are_right, begun, capture, moments, until_now};
use crate::faults::{DyingStore, Fuse};
use crate::fixture::{Fixture, all_whole, backup};

async fn captured(documents: usize) -> (Fixture, Repository) {
    let (fixture, repository, _) = begun(documents).await;
    let database = &fixture.database;
    for round in 0..5 {
        for n in 0..6 {
            database.set(&format!("users/u{:05}", 4 * n), 100 * round + n);
            database.set(&format!("fresh{round}/{n}/below/{n}"), n);
        }
        database.remove(&format!("zoo/ü{}", 3 + 4 * round));
        database.remove(&format!("fresh{}/1/below/1", round - 1));
        until_now(&capture(&repository, database)).await;
    }
    (fixture, repository)
}

pub async fn documents(repository: &Repository, id: &SnapshotId) -> Vec<(DocumentPath, bytes::Bytes)> {
    let mut contents =
        Contents::of_snapshot(repository, id, &Selection::default(), &std::sync::Arc::default()).await.unwrap();
    let mut documents = Vec::new();
    while let Some(item) = contents.next().await.unwrap() {
        documents.push((item.path, item.document.unwrap()));
    }
    documents
}

#[tokio::test]
async fn a_synthetic_backup_is_document_by_document_a_full_one_of_the_same_read_time() {
    let (fixture, repository) = captured(60).await;
    let all = moments(&repository, &fixture.database).await;
    for point in all.points().skip(1).collect::<Vec<_>>() {
        let moment = all.resolve(point, true).unwrap();
        let merged = synthesize(&repository, &all, &moment).unwrap().block_bytes(2048).parallel(2).build();
        let merged = merged.run().await.unwrap().manifest;
        let full = backup(&repository, &fixture.database).read_time(Some(point)).build().run().await.unwrap().manifest;
        assert_eq!((merged.kind, merged.read_time(), merged.reads), (SnapshotKind::Synthetic, Some(point), 0));
        assert_eq!((merged.totals, &merged.collections), (full.totals, &full.collections));
        assert_eq!(documents(&repository, &merged.id).await, documents(&repository, &full.id).await);
    }
    all_whole(&repository).await;
    all_moments_are_right(&repository, &fixture.database).await;
}

#[tokio::test]
async fn what_was_merged_stands_on_its_own_when_what_it_was_merged_from_is_gone() {
    let (fixture, repository) = captured(60).await;
    let all = moments(&repository, &fixture.database).await;
    let last = all.points().last().unwrap();
    let moment = all.resolve(last, true).unwrap();
    let merged = synthesize(&repository, &all, &moment).unwrap().build().run().await.unwrap().manifest;
    let policy = PrunePolicy { keep_last: Some(1), keep_moments_days: 0, exclusive: true, ..PrunePolicy::default() };
    fixture.clock.pass_hours(1);
    let report = prune(&repository, &policy).await.unwrap();
    assert!(report.dropped.contains(&moment.base) && report.deleted > 3, "{report:?}");
    assert_eq!(documents(&repository, &merged.id).await.len(), fixture.database.documents_at(last).len());
    fixture.database.set("users/u00000", 5);
    until_now(&capture(&repository, &fixture.database)).await;
    assert_eq!(all_moments_are_right(&repository, &fixture.database).await.last().unwrap().moments, 2);
}

#[tokio::test(start_paused = true)]
async fn a_merge_killed_at_any_operation_leaves_whole_snapshots_and_is_gone_on_with() {
    for operations in (1..).step_by(3) {
        let (fixture, repository) = captured(24).await;
        let all = moments(&repository, &fixture.database).await;
        let moment = all.resolve(all.points().last().unwrap(), true).unwrap();
        let fuse = Fuse::new(operations);
        let store = std::sync::Arc::new(DyingStore::new(fixture.store.clone(), fuse.clone(), true));
        let merge = async |repository: &Repository| {
            let steps = synthesize(repository, &all, &moment).unwrap().block_bytes(2048).step_bytes(700);
            steps.build().run().await
        };
        let lived = match fixture.open_on(store).await {
            Ok(dying) => merge(&dying).await.is_ok(),
            Err(_) => false,
        };
        all_whole(&fixture.open().await).await;
        let merged = merge(&fixture.open().await).await.unwrap().manifest;
        assert_eq!(merged.totals.documents, fixture.database.documents_at(moment.point).len() as u64);
        if lived {
            assert!(operations > 20, "{operations}");
            break;
        }
    }
}

#[tokio::test]
async fn the_moment_of_a_backup_is_not_merged_again() {
    let (fixture, repository, manifest) = begun(8).await;
    let all = moments(&repository, &fixture.database).await;
    let moment = all.resolve(manifest.read_time().unwrap(), true).unwrap();
    assert!(synthesize(&repository, &all, &moment).err().unwrap().to_string().contains("nothing to merge"));
}
