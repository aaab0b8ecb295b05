//! The events of what is written, as a server that pushes sends them: some never, some twice, late, in any order.

use std::collections::BTreeSet;
use std::sync::Arc;

use firebackup_engine::{Change, Origin, Period, Window, fold, history};
use firebackup_model::reported::{ReportedChange, ReportedDocument, ReportedEvent};
use firebackup_model::{DatabaseName, DocumentPath, Timestamp};
use gcloud_sdk::google::firestore::v1::Document;
use prost::Message;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::oracle::{Commit, Known};
use super::place::Place;

/// What was told of so far.
#[derive(Default)]
pub struct Events(BTreeSet<(DocumentPath, Timestamp)>);

impl Events {
    /// Tells of some of what was committed, in batches of any size and order. Of what was told of before it may tell again.
    pub async fn tell(&mut self, random: &mut StdRng, place: &Place) -> usize {
        let mut events: Vec<_> = place.oracle.commits().into_iter().filter(|commit| commit.is_change).collect();
        events.retain(|_| random.random_ratio(1, 3));
        events.shuffle(random);
        let told = events.len();
        self.0.extend(events.iter().map(|commit| (commit.path.clone(), commit.at)));
        let mut events: Vec<_> = events.iter().map(|commit| event_of(&place.database, commit)).collect();
        while !events.is_empty() {
            let batch: Vec<_> = events.drain(..random.random_range(1..=events.len())).collect();
            for _ in 0..random.random_range(1..3u32) {
                fold(&place.repository, &place.database, &batch, &Arc::default()).await.unwrap();
            }
        }
        told
    }

    /// Of each document, what was told of within a window is in its history, and nothing is that never was.
    pub async fn assert_in_histories(&self, place: &Place, windows: &[Window]) {
        let commits = place.oracle.commits();
        let paths: BTreeSet<_> = self.0.iter().map(|(path, _)| path.clone()).collect();
        for path in paths {
            let found = history(&place.repository, &place.database, &path, Period::default(), &Arc::default()).await;
            let versions = found.unwrap().versions;
            let committed = |at, is_gone| {
                commits.iter().any(|commit| commit.path == path && commit.at == at && commit.is_gone() == is_gone)
            };
            for version in versions.iter().filter(|version| version.origin == Origin::Reported) {
                let is_gone = version.change == Change::Deleted;
                assert!(committed(version.time(), is_gone), "{path} never was as at {}", version.time());
            }
            let is_told = |at: &Timestamp| versions.iter().any(|version| version.update_time == Some(*at));
            let lasting = self.0.iter().filter(|(of, at)| *of == path && committed(*at, false));
            let kept = lasting.filter(|(_, at)| windows.iter().any(|window| window.start < *at && *at <= window.end));
            let missing: Vec<_> = kept.map(|(_, at)| at).filter(|at| !is_told(at)).collect();
            assert!(missing.is_empty(), "{path} of {missing:?} was told of and is gone");
        }
    }
}

fn event_of(database: &DatabaseName, commit: &Commit) -> ReportedEvent {
    let Commit { path, at, document, .. } = commit;
    let change = match document {
        Some(document) => ReportedChange::Put(put(database, path, document)),
        None => ReportedChange::Gone,
    };
    ReportedEvent {
        id: format!("{path}@{at}"),
        source: format!("//firestore.googleapis.com/{}", database.resource()),
        database: database.clone(),
        path: path.clone(),
        time: *at,
        change,
        before: None,
    }
}

fn put(database: &DatabaseName, path: &DocumentPath, known: &Known) -> ReportedDocument {
    let time =
        |moment: Timestamp| prost_types::Timestamp { seconds: moment.seconds, nanos: moment.nanos.cast_signed() };
    let document = Document {
        name: database.document_name(path.as_str()),
        create_time: Some(time(known.created)),
        update_time: Some(time(known.updated)),
        ..Document::decode(known.content.as_slice()).unwrap()
    };
    ReportedDocument { document: document.encode_to_vec().into(), update_time: known.updated }
}
