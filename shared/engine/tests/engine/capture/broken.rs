//! Chains of which something is damaged or gone, and captures whose place others have taken.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use firebackup_engine::{EngineError, PrunePolicy, StatusBounds, capture_status, prune, verify, verify_segments};
use firebackup_model::port::{ChangeSource, ChangeStream, DocumentSource, DocumentStream, ListenFrom};
use firebackup_model::{ErrorKind, PathRange, PortError};
use object_store::ObjectStoreExt;

use super::*;

/// Three windows, and where the run of the last one's segment lies.
async fn with_a_run(fixture: &Fixture, repository: &Repository) -> String {
    let mut run = None;
    for round in 0..3 {
        fixture.database.set("users/u00000", round);
        let (_, events) = until_now(&capture(repository, &fixture.database)).await;
        run = events.iter().rev().find_map(|event| match event {
            CaptureEvent::Sealed(segment) => segment.runs.first().map(|run| run.id),
            _ => None,
        });
    }
    let run = run.expect("a segment with a run").to_string();
    fixture.objects().await.into_iter().find(|path| path.contains(&run)).unwrap()
}

#[tokio::test]
async fn behind_a_run_that_is_damaged_or_gone_a_chain_begins_anew_at_the_next_backup() {
    for cut in [Some(100), None] {
        let (fixture, repository, _) = begun(24).await;
        let database = &fixture.database;
        let run = with_a_run(&fixture, &repository).await;
        match cut {
            Some(bytes) => {
                let start = fixture.read(&run).await.slice(..bytes);
                drop(fixture.store.put(&run.as_str().into(), start.into()).await.unwrap());
            }
            None => fixture.store.delete(&run.as_str().into()).await.unwrap(),
        }
        // as long as the stream goes on nothing needs to be read
        database.set("users/u00004", 1);
        until_now(&capture(&repository, database)).await;
        database.listen_faults(|faults| faults.resets = 1);
        let error = capture(&repository, database).until_now(&mut |_| {}).await.unwrap_err();
        assert!(matches!(&error, EngineError::NoBase { source: Some(_), .. }), "{error:?}");
        assert!(error.in_full().contains("make a full backup") && error.in_full().contains(&run), "{error}");

        let newer = backup(&repository, database).build().run().await.unwrap().manifest;
        verify(&repository, &newer.id, &Arc::default()).await.unwrap();
        database.listen_faults(|faults| faults.resets = 1);
        database.pass_seconds(1);
        let (captured, events) = until_now(&capture(&repository, database)).await;
        assert!(matches!(captured, Captured::Through(_)), "{events:?}");
        let is_sealed = events.iter().any(|event| matches!(event, CaptureEvent::Sealed(_)));
        assert!(is_sealed, "the new beginning stands, though nothing has changed: {events:?}");
        database.set("users/u00004", 10);
        let (_, events) = until_now(&capture(&repository, database)).await;
        assert!(matches!(&events[..], [CaptureEvent::Sealed(_)]), "{events:?}");
        let moments = moments(&repository, database).await;
        let behind: Vec<_> = moments.points().filter(|point| Some(*point) >= newer.read_time()).collect();
        assert!(behind.len() >= 2, "{behind:?}");
        for point in behind {
            assert_eq!(held_at(&repository, &moments, point).await, database.documents_at(point));
        }
    }
}

/// A stream that does not begin before others have captured on, backed up, and dropped what there was.
struct Overtaking {
    database: MemoryDatabase,
    repository: Repository,
    is_done: AtomicBool,
}

#[async_trait]
impl ChangeSource for Overtaking {
    async fn listen(&self, groups: &BTreeSet<String>, from: ListenFrom) -> Result<ChangeStream, PortError> {
        if self.is_done.swap(true, Ordering::Relaxed) {
            return self.database.listen(groups, from).await;
        }
        for round in 100..103 {
            self.database.set("users/u00000", round);
            until_now(&capture(&self.repository, &self.database)).await;
            backup(&self.repository, &self.database).build().run().await.unwrap();
        }
        until_now(&capture(&self.repository, &self.database)).await;
        let policy =
            PrunePolicy { keep_last: Some(1), keep_moments_days: 0, exclusive: true, ..PrunePolicy::default() };
        let report = prune(&self.repository, &policy).await.unwrap();
        assert!(report.segments_dropped > 0 && !report.dropped.is_empty(), "{report:?}");
        Err(PortError::new(ErrorKind::ReadTimeTooOld, "listen", "the token is too old"))
    }

    async fn count_group(&self, group: &str, range: &PathRange, at: Timestamp) -> Result<u64, PortError> {
        self.database.count_group(group, range, at).await
    }

    async fn stream_group(&self, group: &str, at: Timestamp) -> Result<DocumentStream, PortError> {
        self.database.stream_group(group, at).await
    }
}

#[tokio::test]
async fn a_capture_that_was_overtaken_goes_on_where_others_are_though_what_it_stood_on_is_gone() {
    let (fixture, repository, _) = begun(24).await;
    let database = &fixture.database;
    for round in 0..2 {
        database.set("users/u00004", round);
        until_now(&capture(&repository, database)).await;
    }
    let is_done = AtomicBool::new(false);
    let changes = Overtaking { database: database.clone(), repository: repository.clone(), is_done };
    let late = Capture { changes: Arc::new(changes), ..capture(&repository, database) };
    let (captured, events) = until_now(&late).await;
    assert!(matches!(captured, Captured::Through(_)));
    let is_told = events.iter().any(|event| matches!(event, CaptureEvent::Overtaken));
    assert!(is_told, "{events:?}");
    database.set("users/u00004", 9);
    until_now(&capture(&repository, database)).await;
    assert_eq!(all_moments_are_right(&repository, database).await.len(), 1);
}

#[tokio::test]
async fn behind_a_segment_that_is_missing_nothing_is_put_back_and_it_is_told() {
    let (fixture, repository, _) = begun(24).await;
    let database = &fixture.database;
    let mut ends = Vec::new();
    for round in 0..5 {
        database.set("users/u00000", round);
        until_now(&capture(&repository, database)).await;
        ends.push(database.now());
    }
    let before = moments(&repository, database).await;
    assert!(before.gaps().is_empty());
    let points: Vec<_> = before.points().collect();
    let objects = fixture.objects().await;
    let segments: Vec<_> = objects.iter().filter(|path| path.starts_with("segments/")).collect();
    // the first of these says where the chain begins
    fixture.store.delete(&segments[3].as_str().into()).await.unwrap();
    let moments = moments(&repository, database).await;
    let last = moments.points().last().unwrap();
    assert_eq!(last, points[2]);
    for at in [points[3], *ends.last().unwrap()] {
        let error = moments.resolve(at, false).unwrap_err().to_string();
        assert!(error.contains("behind a hole") && error.contains(&last.to_string()), "{error}");
    }
    assert_eq!(moments.resolve(last, true).unwrap().point, last);
    let gaps = moments.gaps();
    assert_eq!((gaps.len(), gaps[0].after, gaps[0].until), (1, last, points[5]));
    let name = DocumentSource::database(database);
    let status = capture_status(&repository, name, StatusBounds::of_window(60.0)).await.unwrap();
    assert_eq!(status.gaps, gaps);
    // from the next backup on there are moments again, and between it and the last one is a gap
    backup(&repository, database).build().run().await.unwrap();
    let moments = super::moments(&repository, database).await;
    let at = points[4];
    for exact in [false, true] {
        let error = moments.resolve(at, exact).unwrap_err().to_string();
        assert!(error.contains("lies in a gap"), "exact {exact}: {error}");
    }
}

#[tokio::test]
async fn what_is_named_like_no_segment_is_told_and_keeps_nothing_else_from_being_verified() {
    let (fixture, repository, _) = begun(24).await;
    with_a_run(&fixture, &repository).await;
    let whole = verify_segments(&repository, &Arc::default()).await.unwrap();
    for stranger in ["segments/aa/foo.txt", "reported/foo.txt"] {
        fixture.store.put(&stranger.into(), "x".into()).await.unwrap();
        let verified = verify_segments(&repository, &Arc::default()).await.unwrap();
        let [(path, _)] = &verified.damaged[..] else { panic!("{verified:?}") };
        assert_eq!((path.as_str(), verified.segments), (stranger, whole.segments));
        assert!(matches!(prune(&repository, &PrunePolicy::default()).await, Err(EngineError::Refused(_))));
        fixture.store.delete(&stranger.into()).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_damaged_is_not_merged_and_keeps_nothing_else_from_being_merged() {
    let (fixture, repository, _) = begun(24).await;
    let database = &fixture.database;
    let run = with_a_run(&fixture, &repository).await;
    fixture.store.delete(&run.as_str().into()).await.unwrap();
    for round in 0..25 {
        database.set("users/u00004", round);
        until_now(&capture(&repository, database)).await;
    }
    for _ in 0..2 {
        let error = compaction(&repository, &fixture).run().await.unwrap_err();
        assert!(error.in_full().contains(&run), "{error:?}");
        let left = verify_segments(&repository, &Arc::default()).await.unwrap();
        // of 27 eight with the damage stay, and twice eight became two
        assert_eq!((left.segments, left.damaged.len()), (13, 1), "{left:?}");
    }
}
