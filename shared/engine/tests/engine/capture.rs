//! Change capture against a database in memory that keeps all its versions: it is the oracle.

mod beginning;
mod broken;
mod compacting;
pub use compacting::compaction;
pub use increments::back_up;
mod deaths;
mod held;
mod histories;
mod in_steps;
mod increments;
mod keeping;
mod merging;
mod proving;
mod ranged;
mod ways;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use firebackup_engine::memory::MemoryDatabase;
use firebackup_engine::{
    Capture, CaptureEvent, CaptureOptions, Captured, Contents, EngineError, Moments, Repository, Window,
};
use firebackup_model::manifest::Manifest;
use firebackup_model::{DocumentPath, Selection, Timestamp};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::JoinHandle;

use crate::fixture::{Fixture, backup};

/// Proves at every segment: the counts of these databases cost nothing.
pub fn options() -> CaptureOptions {
    CaptureOptions {
        prove_cheaply_every_seconds: 0,
        silence: Duration::from_millis(300),
        seal_every: Duration::from_millis(1),
        max_scans_a_day: None,
        scan_pause: Duration::from_millis(1),
        ..CaptureOptions::default()
    }
}

pub fn capture(repository: &Repository, database: &MemoryDatabase) -> Capture {
    Capture {
        repository: repository.clone(),
        source: Arc::new(database.clone()),
        changes: Arc::new(database.clone()),
        options: options(),
        meter: Arc::default(),
        stop: firebackup_engine::Stop::default(),
    }
}

/// Captures everything up to now; returns what happened.
pub async fn until_now(capture: &Capture) -> (Captured, Vec<CaptureEvent>) {
    let mut events = Vec::new();
    let captured = capture.until_now(&mut |event| events.push(event)).await.unwrap();
    (captured, events)
}

/// Has a capture follow: what may stop it, what it tells, and how it ends.
pub fn follow(
    capture: Capture,
) -> (Arc<Capture>, UnboundedReceiver<CaptureEvent>, JoinHandle<Result<Captured, EngineError>>) {
    let following = Arc::new(capture);
    let (tell, told) = mpsc::unbounded_channel();
    let task = tokio::spawn({
        let following = following.clone();
        async move { following.follow(&mut |event| drop(tell.send(event))).await }
    });
    (following, told, task)
}

/// A database with a backup to begin from.
pub async fn begun(documents: usize) -> (Fixture, Repository, Manifest) {
    let (fixture, repository) = Fixture::new(documents).await;
    fixture.database.flow();
    let manifest = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
    (fixture, repository, manifest)
}

pub async fn moments(repository: &Repository, database: &MemoryDatabase) -> Moments {
    let source: &dyn firebackup_model::port::DocumentSource = database;
    Moments::read(repository, source.database()).await.unwrap()
}

/// What the repository says that the database held at a moment.
pub async fn held_at(repository: &Repository, moments: &Moments, at: Timestamp) -> BTreeMap<DocumentPath, Bytes> {
    let moment = moments.resolve(at, true).unwrap();
    let everything = Selection::default();
    let mut contents = Contents::of_moment(repository, moments, &moment, &everything, &Arc::default()).unwrap();
    let mut documents = BTreeMap::new();
    while let Some(item) = contents.next().await.unwrap() {
        let before = documents.insert(item.path, item.document.expect("a moment holds documents"));
        assert!(before.is_none(), "a document stands twice");
    }
    documents
}

/// Every moment that is listed must be just what the database was then. Returns the windows.
pub async fn all_moments_are_right(repository: &Repository, database: &MemoryDatabase) -> Vec<Window> {
    let moments = moments(repository, database).await;
    for point in moments.points() {
        let (held, expected) = (held_at(repository, &moments, point).await, database.documents_at(point));
        let differing: Vec<_> =
            expected.keys().chain(held.keys()).filter(|path| held.get(*path) != expected.get(*path)).collect();
        assert!(differing.is_empty(), "at {point} of {:?}: {differing:?}", moments.windows());
    }
    moments.windows()
}
