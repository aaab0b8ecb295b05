//! Proves that everything was captured up to a point: by counts of the server at that very time.
//!
//! Two questions, each answered exactly. Are there documents of collection groups that nobody listens to? The count of all
//! documents is that of the known groups together, or not. Did the stream leave anything out? Each group has as many
//! documents as were there before, and came and went since, or not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use firebackup_model::id::SnapshotId;
use firebackup_model::path::PROBE_COLLECTION;
use firebackup_model::port::{ChangeSource, DocumentSource};
use firebackup_model::{DocumentPath, ErrorKind, PathRange, PortError, Timestamp, document};
use futures::{StreamExt, TryStreamExt, stream};

use crate::error::{EngineError, Result};
use crate::ledger::Ledger;
use crate::lookup::Lookup;
use crate::moments::Moments;
use crate::repository::Repository;
use crate::world::Meter;

/// How long one count may take, tries that failed included. Firestore itself gives up after a minute.
const COUNT_PATIENCE: Duration = Duration::from_secs(70);
/// Counts asked for at one time.
const PARALLEL_COUNTS: usize = 8;
/// A range with no more documents is read, rather than cut and counted on.
const READ_RATHER: u64 = 300;
/// How far back Firestore reads, with a margin.
const READABLE_SECONDS: f64 = 3500.0;
/// The most documents of new groups that are read at each point; with more, the database is scanned.
const MAX_NEW_DOCUMENTS: u64 = 20_000;

/// What a proof comes to.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Everything is there, from this point on.
    Proven(Timestamp),
    /// It is not, and a scan must tell what is.
    Wrong(String),
}

/// Documents that nobody listened to, as they were at each of the unproven points.
pub(crate) type Found = BTreeMap<DocumentPath, Vec<(Timestamp, Option<Bytes>)>>;

/// What a proof is made with.
pub(crate) struct Prover<'p> {
    pub(crate) repository: &'p Repository,
    pub(crate) source: &'p dyn DocumentSource,
    pub(crate) changes: &'p dyn ChangeSource,
    pub(crate) meter: &'p Arc<Meter>,
    /// The snapshot that the chain begins with.
    pub(crate) base: &'p SnapshotId,
    /// Document reads that counting at each point may cost.
    pub(crate) affordable: u64,
    /// Whether it is known if counting reads names.
    pub(crate) has_counted: bool,
}

impl Prover<'_> {
    /// Counts next to nothing, so that it is known what counting costs.
    pub(crate) async fn try_counting(&self, at: Timestamp) -> Result<()> {
        let little =
            PathRange::collection(PROBE_COLLECTION).map_err(|error| EngineError::Refused(error.to_string()))?;
        self.count(&little, at).await?;
        if self.source.counts_by_reading() {
            tracing::warn!(
                database = %self.source.database(),
                "the server does not count all collections together: a proof reads the name of every document"
            );
        }
        Ok(())
    }

    /// Proves the last of `points`, and with it those before. What was found besides is returned, and stands in the ledger.
    pub(crate) async fn prove(&self, ledger: &mut Ledger, points: &[Timestamp]) -> Result<(Verdict, Found)> {
        let (Some(first), Some(last)) = (points.first().copied(), points.last().copied()) else {
            return Ok((Verdict::Wrong("there is no point to prove".to_owned()), Found::new()));
        };
        let (mut from, mut found) = (first, Found::new());
        // first, for it tells what counting costs
        let total = self.count(&PathRange::everything(), last).await?;
        let mut groups = self.unheard_before(ledger, points).await?;
        let mut counts = self.group_counts(ledger, last).await?;
        if total != counts.values().sum::<u64>() {
            groups.extend(self.unknown_groups(ledger, last).await?);
        }
        if !groups.is_empty() {
            match self.catch_up(ledger, &groups, points).await? {
                Ok((readable, documents)) => (from, found) = (readable, documents),
                Err(reason) => return Ok((Verdict::Wrong(reason), Found::new())),
            }
            counts = self.group_counts(ledger, last).await?;
        }
        if total != counts.values().sum::<u64>() {
            let reason =
                format!("{total} documents were counted at {last}, and those of the known collections are others");
            return Ok((Verdict::Wrong(reason), Found::new()));
        }
        Ok((self.compare(ledger, &counts, from).await?, found))
    }

    /// The groups that had documents at any of the points before the last, and that nobody listened to. A collection that
    /// came and went between two proofs is missed only where counting at each point would cost too much.
    async fn unheard_before(&self, ledger: &Ledger, points: &[Timestamp]) -> Result<BTreeSet<String>> {
        let cost = cost_of_a_count(self.source, ledger);
        let is_affordable = cost.saturating_mul(points.len() as u64) <= self.affordable;
        let before = points.split_last().map(|(_, before)| before).filter(|_| is_affordable);
        let mut unheard = BTreeSet::new();
        for point in before.unwrap_or_default() {
            match self.unheard_at(ledger, *point).await {
                Ok(groups) => unheard.extend(groups),
                // what cannot be counted any more cannot be read either: `catch_up` says what that means
                Err(EngineError::Port(error)) if error.kind == ErrorKind::ReadTimeTooOld => {}
                Err(error) => return Err(error),
            }
        }
        Ok(unheard)
    }

    async fn unheard_at(&self, ledger: &Ledger, at: Timestamp) -> Result<BTreeSet<String>> {
        let total = self.count(&PathRange::everything(), at).await?;
        if total == self.group_counts(ledger, at).await?.values().sum::<u64>() {
            return Ok(BTreeSet::new());
        }
        self.unknown_groups(ledger, at).await
    }

    async fn compare(&self, ledger: &mut Ledger, counts: &BTreeMap<String, u64>, from: Timestamp) -> Result<Verdict> {
        let differing = differing(ledger, counts);
        if !differing.is_empty() {
            self.resolve(ledger, &differing).await?;
        }
        let expected = ledger.expected();
        Ok(match counts.iter().find(|(group, count)| expected.get(*group) != Some(count)) {
            None => Verdict::Proven(from),
            Some((group, count)) => Verdict::Wrong(format!(
                "`{group}` has {count} documents, and {} were expected of what was captured",
                expected.get(group).copied().unwrap_or_default()
            )),
        })
    }

    /// Looks up of which documents it was assumed rightly whether they were there at the ledger's point.
    pub(crate) async fn resolve(&self, ledger: &mut Ledger, groups: &BTreeSet<String>) -> Result<()> {
        let assumed = ledger.assumed(|group| groups.contains(group));
        if assumed.is_empty() {
            return Ok(());
        }
        let moments = Moments::read(self.repository, self.source.database()).await?;
        let Some((_, proven)) = moments.layers_until(ledger.anchor, self.base) else { return Ok(()) };
        let lookup = Lookup::new(self.repository, &proven, self.meter);
        let present = lookup.present(&assumed).await?;
        for path in assumed {
            ledger.resolve(&path, present.contains(&path));
        }
        Ok(())
    }

    async fn count(&self, range: &PathRange, at: Timestamp) -> Result<u64> {
        let counting = self.source.count_surely(range, at);
        // names are read for as long as that takes
        let may_read = self.source.counts_by_reading() || !self.has_counted;
        let count = if may_read { counting.await? } else { in_time(counting).await? };
        self.meter.reads.add(if self.source.counts_by_reading() { count.max(1) } else { count / 1000 + 1 });
        Ok(count)
    }

    async fn count_group(&self, group: &str, range: &PathRange, at: Timestamp) -> Result<u64> {
        let count = in_time(self.changes.count_group(group, range, at)).await?;
        self.meter.reads.add(count / 1000 + 1);
        Ok(count)
    }

    async fn group_counts(&self, ledger: &Ledger, at: Timestamp) -> Result<BTreeMap<String, u64>> {
        let groups: BTreeSet<String> = ledger.expected().into_keys().collect();
        let everything = PathRange::everything();
        let counts = stream::iter(groups).map(|group| {
            let everything = everything.clone();
            async move {
                let count = self.count_group(&group, &everything, at).await?;
                Ok::<_, EngineError>((group, count))
            }
        });
        counts.buffer_unordered(PARALLEL_COUNTS).try_collect().await
    }

    /// The groups with documents at `at` that the ledger does not know: found where the counts do not come out.
    async fn unknown_groups(&self, ledger: &Ledger, at: Timestamp) -> Result<BTreeSet<String>> {
        let known: BTreeSet<String> = ledger.expected().into_keys().collect();
        let (mut unknown, mut ranges) = (BTreeSet::new(), vec![PathRange::everything()]);
        while let Some(range) = ranges.pop() {
            let all = self.count(&range, at).await?;
            if all == self.count_known(&known, &range, at).await? {
                continue;
            }
            let cuts = if all > READ_RATHER { self.source.split_points(&range, 3, at).await? } else { Vec::new() };
            match cuts.is_empty() {
                true => self.read_groups(&range, at, &known, &mut unknown).await?,
                false => ranges.extend(range.cut(&cuts)),
            }
        }
        Ok(unknown)
    }

    async fn count_known(&self, known: &BTreeSet<String>, range: &PathRange, at: Timestamp) -> Result<u64> {
        let counts = stream::iter(known.clone()).map(|group| async move { self.count_group(&group, range, at).await });
        counts.buffer_unordered(PARALLEL_COUNTS).try_fold(0, |sum, count| async move { Ok(sum + count) }).await
    }

    async fn read_groups(
        &self,
        range: &PathRange,
        at: Timestamp,
        known: &BTreeSet<String>,
        unknown: &mut BTreeSet<String>,
    ) -> Result<()> {
        let mut documents = self.source.stream(range, at, None).await?;
        while let Some(document) = documents.next().await {
            self.meter.reads.add(1);
            let group = self.path(&document?.0)?.collection_group().to_owned();
            if !known.contains(&group) {
                unknown.insert(group);
            }
        }
        Ok(())
    }

    fn path(&self, document: &[u8]) -> Result<DocumentPath> {
        let head = document::head(document).map_err(|source| EngineError::Document { path: None, source })?;
        let path = self.source.database().path_of(head.name);
        path.map_err(|_| EngineError::Refused("the server sent a document of another database".to_owned()))
    }

    /// Reads groups that nobody listened to at each point that can still be read, and says from which on that was.
    async fn catch_up(
        &self,
        ledger: &mut Ledger,
        groups: &BTreeSet<String>,
        points: &[Timestamp],
    ) -> Result<Result<(Timestamp, Found), String>> {
        let now = self.source.snapshot_time().await?;
        let readable = points.iter().position(|point| now.seconds_since(*point) < READABLE_SECONDS);
        let Some(readable) = readable.and_then(|first| points.get(first..)) else {
            return Ok(Err("new collections were found too late to read them".to_owned()));
        };
        let (Some(first), Some(last)) = (readable.first().copied(), readable.last().copied()) else {
            return Ok(Err("new collections were found too late to read them".to_owned()));
        };
        let mut found = Found::new();
        for group in groups {
            if self.count_group(group, &PathRange::everything(), last).await? > MAX_NEW_DOCUMENTS {
                return Ok(Err(format!("the new collection `{group}` is too large to be read at each point")));
            }
            ledger.add_group(group);
            for point in readable {
                self.read_group(group, *point, &mut found).await?;
            }
        }
        for (path, versions) in &found {
            let is_there = versions.last().is_some_and(|(_, body)| body.is_some());
            ledger.apply_new(path, is_there);
        }
        Ok(Ok((first, found)))
    }

    /// Adds what a group was at a point, where that differs from the point before.
    async fn read_group(&self, group: &str, point: Timestamp, found: &mut Found) -> Result<()> {
        let mut there = BTreeSet::new();
        let mut documents = self.changes.stream_group(group, point).await?;
        while let Some(document) = documents.next().await {
            let bytes = document?.0;
            self.meter.reads.add(1);
            let path = self.path(&bytes)?;
            let versions = found.entry(path.clone()).or_default();
            if versions.last().and_then(|(_, body)| body.as_ref()) != Some(&bytes) {
                versions.push((point, Some(Bytes::copy_from_slice(&bytes))));
            }
            there.insert(path);
        }
        let of_group = found.iter_mut().filter(|(path, _)| path.collection_group() == group && !there.contains(*path));
        for (_, versions) in of_group {
            if versions.last().is_some_and(|(_, body)| body.is_some()) {
                versions.push((point, None));
            }
        }
        Ok(())
    }
}

/// A count, unless it takes too long: what is heard waits meanwhile.
async fn in_time(counting: impl Future<Output = Result<u64, PortError>>) -> Result<u64> {
    let late = || PortError::new(ErrorKind::DeadlineExceeded, "count documents", "the server did not answer in time");
    Ok(tokio::time::timeout(COUNT_PATIENCE, counting).await.map_err(|_| late())??)
}

/// Document reads that counting everything once costs: all documents are counted twice, together and by group.
pub(crate) fn cost_of_a_count(source: &dyn DocumentSource, ledger: &Ledger) -> u64 {
    let (documents, groups) = (ledger.expected().values().sum::<u64>(), ledger.groups().count() as u64);
    let by_group = documents.div_ceil(1000);
    let together = if source.counts_by_reading() { documents } else { by_group };
    together.saturating_add(by_group) + groups + 1
}

fn differing(ledger: &Ledger, counts: &BTreeMap<String, u64>) -> BTreeSet<String> {
    let expected = ledger.expected();
    let differs = |(group, count): &(&String, &u64)| expected.get(*group) != Some(*count);
    counts.iter().filter(differs).map(|(group, _)| group.clone()).collect()
}
