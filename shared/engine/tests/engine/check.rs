//! What a look at a snapshot's structure finds, and what only reading it back does.

use std::sync::Arc;

use firebackup_engine::{EngineError, Meter, Repository, check, verify};
use firebackup_model::id::SnapshotId;
use object_store::ObjectStoreExt;

use crate::fixture::{Fixture, backup};

/// A backup of several runs, of several blocks each.
async fn snapshot() -> (Fixture, Repository, SnapshotId) {
    let (fixture, repository) = Fixture::new(400).await;
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
    assert!(snapshot.runs.len() > 1 && snapshot.runs.iter().any(|run| run.blocks > 2));
    (fixture, repository, snapshot.id)
}

async fn runs(fixture: &Fixture) -> Vec<String> {
    fixture.objects().await.into_iter().filter(|path| path.starts_with("runs/")).collect()
}

/// Where the damage is, by what is done to a run's bytes.
type Damage = fn(&mut Vec<u8>);

#[tokio::test]
async fn a_whole_snapshot_is_told_as_reading_it_back_tells_it() {
    let (_fixture, repository, snapshot) = snapshot().await;
    let (looked, read) = (Arc::new(Meter::default()), Arc::new(Meter::default()));
    let checked = check(&repository, &snapshot, &looked).await.unwrap();
    let verified = verify(&repository, &snapshot, &read).await.unwrap();
    assert_eq!((checked.runs, checked.blocks), (verified.runs, verified.blocks));
    assert_eq!((checked.records, checked.origin_proven), (400, true));
    assert_eq!(looked.documents.get(), looked.expected.get());
    assert_eq!(checked.bytes, looked.stored.get());
    assert!(0 < checked.bytes && checked.bytes < verified.bytes, "{} of {}", checked.bytes, verified.bytes);
}

#[tokio::test]
async fn what_is_missing_or_no_run_is_found_and_named() {
    let damages: [(&str, Damage); 4] = [
        ("bytes, not", |run| run.truncate(run.len() - 1)),
        ("bytes, not", |run| run.push(0)),
        ("", |run| *run.last_mut().unwrap() ^= 1),
        ("", |run| run[0] ^= 1),
    ];
    let (fixture, repository, snapshot) = snapshot().await;
    let looks = async || check(&repository, &snapshot, &Arc::default()).await;
    for run in runs(&fixture).await {
        let whole = fixture.read(&run).await;
        for (said, damage) in damages {
            let mut bytes = whole.to_vec();
            damage(&mut bytes);
            fixture.store.put(&run.as_str().into(), bytes.into()).await.unwrap();
            let text = looks().await.unwrap_err().in_full();
            assert!(text.contains(&run) && text.contains(said), "{text}");
        }
        fixture.store.delete(&run.as_str().into()).await.unwrap();
        let error = looks().await.unwrap_err();
        let EngineError::Store { source: object_store::Error::NotFound { .. }, .. } = &error else {
            panic!("{error:?}")
        };
        assert!(error.in_full().contains(&run), "{error:?}");
        fixture.store.put(&run.as_str().into(), whole.into()).await.unwrap();
    }
    looks().await.unwrap();
}

#[tokio::test]
async fn a_run_in_anothers_place_is_found() {
    let (fixture, repository, snapshot) = snapshot().await;
    let runs = runs(&fixture).await;
    let (first, second) = (fixture.read(&runs[0]).await, fixture.read(&runs[1]).await);
    fixture.store.put(&runs[0].as_str().into(), second.into()).await.unwrap();
    fixture.store.put(&runs[1].as_str().into(), first.into()).await.unwrap();
    assert!(check(&repository, &snapshot, &Arc::default()).await.is_err());
}

#[tokio::test]
async fn damage_inside_a_block_is_found_only_by_reading_it() {
    let (fixture, repository, snapshot) = snapshot().await;
    let manifest = repository.manifest(&snapshot).await.unwrap().0;
    let run = manifest.runs.iter().max_by_key(|run| run.blocks).unwrap();
    let id = run.id.to_string();
    let path = format!("runs/{}/{id}.run", &id[..2]);
    let mut bytes = fixture.read(&path).await.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fixture.store.put(&path.as_str().into(), bytes.into()).await.unwrap();
    check(&repository, &snapshot, &Arc::default()).await.unwrap();
    let text = verify(&repository, &snapshot, &Arc::default()).await.unwrap_err().in_full();
    assert!(text.contains(&path), "{text}");
}
