//! Takes events in: a batch becomes a run of reported versions and its manifest.
//!
//! The manifest is named by the events, so that a batch that comes twice is one object. An event that comes in two batches stands in
//! both, and is one version to whoever reads: nothing has to be looked up here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use firebackup_codec::object::ObjectType;
use firebackup_codec::record::{Origin, RecordRef};
use firebackup_codec::sealing::Sealing;
use firebackup_model::id::ReportId;
use firebackup_model::manifest::{Counts, FORMAT_VERSION, GroupCounts, RunEntry, RunKind};
use firebackup_model::reported::{ReportedChange, ReportedEvent, ReportedManifest};
use firebackup_model::{DatabaseName, DocumentPath, Timestamp};
use object_store::ObjectStoreExt;
use sha2::{Digest, Sha256};

use crate::chain::capture_id;
use crate::compact::{COMPRESSION, DAY_SECONDS};
use crate::error::{EngineError, Result};
use crate::layout::ReportName;
use crate::objects::Put;
use crate::plan::MAX_JOB_SECONDS;
use crate::reported::{path_in, path_of};
use crate::repository::Repository;
use crate::run_upload::{RunSettings, RunUpload};
use crate::world::Meter;

/// How far ahead of this machine's clock an event may be dated: what is farther would be kept for ever.
const MAX_AHEAD_SECONDS: i64 = DAY_SECONDS;

/// What became of a batch of events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folded {
    /// Events that were taken, each once.
    pub events: u64,
    /// Versions and deletions that they told of.
    pub versions: u64,
    /// Events that stood more than once in the batch.
    pub repeated: u64,
    /// Events that were left out because they are dated in the future, or outside the years that Firestore knows: their places in
    /// the batch, ascending.
    pub misdated: Vec<usize>,
    /// Whether the batch had been folded before.
    pub was_there: bool,
}

/// Folds a batch of events of one database into the repository, in whichever order they come. Can be killed at any time and done
/// again.
///
/// # Errors
/// When an event is of another database, or the store fails.
pub async fn fold(
    repository: &Repository,
    database: &DatabaseName,
    events: &[ReportedEvent],
    meter: &Arc<Meter>,
) -> Result<Folded> {
    if let Some(stranger) = events.iter().find(|event| event.database != *database) {
        return Err(EngineError::Refused(format!("an event of {} is none of {database}", stranger.database)));
    }
    let now = repository.world().now();
    let (taken, mut folded) = distinct(events, now);
    let versions = versions(&taken);
    folded.versions = versions.len() as u64;
    let times = || versions.keys().map(|(_, time)| *time);
    let (Some(first), Some(last)) = (times().min(), times().max()) else { return Ok(folded) };
    let id = id_of_events(taken.keys(), first, last);
    let name = ReportName { first, last, level: 0, id };
    let path = path_in(capture_id(repository.id(), database), &name)?;
    folded.was_there = match repository.store().head(&path).await {
        Ok(_) => true,
        Err(object_store::Error::NotFound { .. }) => !put(repository, database, name, &versions, meter).await?,
        Err(source) => return Err(EngineError::store("look for", path)(source)),
    };
    Ok(folded)
}

/// Each event once, and how many were left out.
fn distinct(events: &[ReportedEvent], now: Timestamp) -> (BTreeMap<(&str, &str), &ReportedEvent>, Folded) {
    let (mut taken, mut folded) = (BTreeMap::new(), Folded::default());
    for (place, event) in events.iter().enumerate() {
        if !is_datable(event, now) {
            tracing::warn!(event = %event.id, time = %event.time, "an event is dated as no change can be: left out");
            folded.misdated.push(place);
        } else if taken.insert((event.source.as_str(), event.id.as_str()), event).is_some() {
            folded.repeated += 1;
        }
    }
    folded.events = taken.len() as u64;
    (taken, folded)
}

fn is_datable(event: &ReportedEvent, now: Timestamp) -> bool {
    let latest = now.plus_seconds(MAX_AHEAD_SECONDS);
    let is_datable = |time: Timestamp| time.as_name().is_some() && time <= latest;
    let before = event.before.iter().map(|before| before.update_time);
    is_datable(time_of(event)) && before.into_iter().all(is_datable)
}

fn time_of(event: &ReportedEvent) -> Timestamp {
    match &event.change {
        ReportedChange::Put(document) => document.update_time,
        ReportedChange::Gone => event.time,
    }
}

/// What documents were from a time on; nothing of those that were gone.
type Versions = BTreeMap<(DocumentPath, Timestamp), Option<Bytes>>;

/// The versions that events tell of, in the order of records. Of two of one time the same one is left whatever their order.
fn versions(events: &BTreeMap<(&str, &str), &ReportedEvent>) -> Versions {
    let mut versions = Versions::new();
    for event in events.values() {
        let document = match &event.change {
            ReportedChange::Put(put) => Some(put.document.clone()),
            ReportedChange::Gone => None,
        };
        let before = event.before.iter().map(|before| (before.update_time, Some(before.document.clone())));
        for (time, document) in before.chain([(time_of(event), document)]) {
            let version = versions.entry((event.path.clone(), time)).or_default();
            *version = document.max(version.take());
        }
    }
    versions
}

/// Names a batch, by its events and by when their versions came about.
fn id_of_events<'e>(
    events: impl Iterator<Item = &'e (&'e str, &'e str)>,
    first: Timestamp,
    last: Timestamp,
) -> ReportId {
    let times = [first, last].map(|time| time.as_name().unwrap_or_default());
    let names = events.map(|(source, id)| [(*source).to_owned(), (*id).to_owned()]);
    id_of(names.chain([times]))
}

/// Names what was made from `parts`, each given by its names.
pub(crate) fn id_of<const N: usize>(parts: impl Iterator<Item = [impl AsRef<[u8]>; N]>) -> ReportId {
    let mut hash = Sha256::new();
    hash.update(b"firebackup/v1/reported\0");
    for name in parts.flatten() {
        hash.update((name.as_ref().len() as u64).to_le_bytes());
        hash.update(name.as_ref());
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    ReportId(id)
}

/// Puts the run and the manifest; says whether it did, and not another process.
async fn put(
    repository: &Repository,
    database: &DatabaseName,
    name: ReportName,
    versions: &Versions,
    meter: &Arc<Meter>,
) -> Result<bool> {
    let begun = repository.world().now();
    let sealing = sealing(repository, database, begun).await?;
    let (run, collections) = write_run(repository, &sealing, versions, meter).await?;
    let manifest = ReportedManifest {
        stored_bytes: run.size,
        runs: vec![run],
        totals: Counts::of(&collections),
        collections,
        key: sealing.key_id(),
        ..report(repository, database, name)
    };
    Ok(commit(repository, &manifest, &sealing, begun).await? == Put::Stored)
}

/// A manifest that holds nothing yet.
pub(crate) fn report(repository: &Repository, database: &DatabaseName, name: ReportName) -> ReportedManifest {
    let ReportName { first, last, level, id } = name;
    ReportedManifest {
        format: FORMAT_VERSION,
        source: database.clone(),
        id,
        first,
        last,
        level,
        merged: BTreeSet::new(),
        runs: Vec::new(),
        totals: Counts::default(),
        collections: GroupCounts::new(),
        compression: COMPRESSION,
        key: None,
        stored_bytes: 0,
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        finished: repository.world().now(),
    }
}

/// Puts a manifest whose runs were begun at `begun`. Where that is long ago, two prunes may have taken them.
pub(crate) async fn commit(
    repository: &Repository,
    manifest: &ReportedManifest,
    sealing: &Sealing,
    begun: Timestamp,
) -> Result<Put> {
    if repository.world().now().seconds_since(begun) >= MAX_JOB_SECONDS as f64 {
        return Err(EngineError::Refused(
            "reported versions were written too slowly: nothing was committed".to_owned(),
        ));
    }
    let path = path_of(repository, manifest)?;
    repository.put_sealed(ObjectType::Reported, &path, sealing, manifest).await
}

/// The key of the day, or a new one, also where that one cannot be read.
async fn sealing(repository: &Repository, database: &DatabaseName, now: Timestamp) -> Result<Sealing> {
    match of_the_day(repository, database, now).await {
        Ok(Some(sealing)) => Ok(sealing),
        Ok(None) => repository.new_data_key().await,
        Err(error) if error.is_of_the_object() => {
            tracing::warn!(error = %error.in_full(), "the key of the day cannot be read: a new one is made");
            repository.new_data_key().await
        }
        Err(error) => Err(error),
    }
}

/// How the newest versions are sealed, where that was today.
async fn of_the_day(repository: &Repository, database: &DatabaseName, now: Timestamp) -> Result<Option<Sealing>> {
    let day = |moment: Timestamp| moment.seconds.div_euclid(DAY_SECONDS);
    if !repository.can_read() {
        return Ok(None);
    }
    let newest = repository.newest_report(capture_id(repository.id(), database)).await?;
    match newest.filter(|newest| day(newest.finished) == day(now)) {
        Some(newest) => repository.sealing(newest.key).await.map(Some),
        None => Ok(None),
    }
}

async fn write_run(
    repository: &Repository,
    sealing: &Sealing,
    versions: &Versions,
    meter: &Arc<Meter>,
) -> Result<(RunEntry, GroupCounts)> {
    let settings = RunSettings::new(repository.clone(), sealing.clone(), COMPRESSION, Arc::clone(meter));
    let mut run = RunUpload::start(settings, RunKind::Delta, None)?;
    for ((path, time), document) in versions {
        run.push(&record(path, *time, document.as_deref())).await?;
    }
    let end = run.finish().await?;
    Ok((end.entry, end.collections))
}

/// A version as a record. It belongs to no point; a deletion has its time as update time too, so that several have an order.
fn record<'v>(path: &'v DocumentPath, time: Timestamp, body: Option<&'v [u8]>) -> RecordRef<'v> {
    RecordRef {
        path: path.as_str(),
        body,
        origin: Origin::Push,
        update_time: Some(time),
        commit_time: body.is_none().then_some(time),
        point: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebackup_model::reported::ReportedDocument;

    fn event(id: &str, path: &str, second: i64, document: Option<&'static [u8]>) -> ReportedEvent {
        let time = Timestamp::new(second, 0);
        let put = |bytes| ReportedDocument { document: Bytes::from_static(bytes), update_time: time };
        ReportedEvent {
            id: id.to_owned(),
            source: "s".to_owned(),
            database: DatabaseName::new("p", "d"),
            path: DocumentPath::new(path).unwrap(),
            time,
            change: document.map_or(ReportedChange::Gone, |bytes| ReportedChange::Put(put(bytes))),
            before: None,
        }
    }

    fn of(events: &[ReportedEvent]) -> (Versions, ReportId, Folded) {
        let (taken, folded) = distinct(events, Timestamp::new(1000, 0));
        let end = Timestamp::new(9, 0);
        (versions(&taken), id_of_events(taken.keys(), end, end), folded)
    }

    #[test]
    fn order_and_repetition_change_neither_the_versions_nor_the_name() {
        let events = [
            event("1", "a/1", 5, Some(b"x")),
            event("2", "a/1", 6, None),
            event("3", "a/1", 5, Some(b"y")),
            event("4", "a/1", 5, None),
            event("5", "a/0", 7, None),
        ];
        let (expected, id, folded) = of(&events);
        assert_eq!((folded.events, folded.repeated, expected.len()), (5, 0, 3));
        assert_eq!(expected.values().next_back().unwrap(), &None);
        assert_eq!(
            expected[&(DocumentPath::new("a/1").unwrap(), Timestamp::new(5, 0))],
            Some(Bytes::from_static(b"y"))
        );
        let turned: Vec<_> = events.iter().rev().chain(&events[1..3]).cloned().collect();
        let (versions, same, folded) = of(&turned);
        assert_eq!((versions, same, folded.repeated), (expected, id, 2));
        assert_ne!(of(&events[1..]).1, id);
    }

    #[test]
    fn a_batch_has_the_name_that_the_format_says() {
        let (first, last) = (Timestamp::new(1_795_976_453, 178_853_000), Timestamp::new(1_795_976_513, 0));
        let mut expected = Sha256::new();
        expected.update(b"firebackup/v1/reported\0");
        let names = ["s", "1", "s", "2", "2026-11-29T18-20-53.178853000Z", "2026-11-29T18-21-53.000000000Z"];
        for name in names {
            expected.update([name.len() as u8, 0, 0, 0, 0, 0, 0, 0]);
            expected.update(name);
        }
        let id = id_of_events([("s", "1"), ("s", "2")].iter(), first, last);
        assert_eq!(id.to_string(), hex::encode(&expected.finalize()[..16]));
    }

    #[test]
    fn names_are_apart_where_joined_texts_are_not() {
        assert_ne!(id_of([["ab", "c"]].into_iter()), id_of([["a", "bc"]].into_iter()));
        assert_ne!(id_of([["a", ""]].into_iter()), id_of([["a", ""], ["", ""]].into_iter()));
    }

    #[test]
    fn what_is_dated_as_no_change_can_be_is_left_out() {
        let day = 24 * 3600;
        let events = [
            event("1", "a/1", 1000 + day, None),
            event("2", "a/1", 1001 + day, None),
            event("3", "a/1", i64::MAX, None),
        ];
        let (versions, _, folded) = of(&events);
        assert_eq!((versions.len(), folded.events, folded.misdated), (1, 1, vec![1, 2]));
    }
}
