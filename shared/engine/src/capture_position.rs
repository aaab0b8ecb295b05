//! Where the capture of a database stands: all of it is read from the repository, which alone knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use firebackup_codec::sealing::Sealing;
use firebackup_model::id::{KeyId, SnapshotId};
use firebackup_model::manifest::{Consistency, Manifest};
use firebackup_model::segment::{BEFORE_ALL, SegmentManifest};
use firebackup_model::{DatabaseName, PathRange, Timestamp};

use crate::chain::Stretch;
use crate::compact::DAY_SECONDS;
use crate::error::{EngineError, Result};
use crate::ledger::Ledger;
use crate::merge::Layer;
use crate::moments::Moments;
use crate::read::RunSource;
use crate::repository::Repository;
use crate::world::Meter;

/// Where the chain of a database ends, and what more is to be known to go on.
pub(crate) struct Position {
    pub(crate) base: SnapshotId,
    /// The place of the segment that comes next.
    pub(crate) sequence: u64,
    /// Where it begins.
    pub(crate) after: Timestamp,
    /// Where the chain ends that this goes on behind, where it begins at a backup and that was not said yet.
    pub(crate) follows: Option<Timestamp>,
    /// Whether the chain begins anew: its first point is sealed at once, so that it can be seen that it goes on.
    pub(crate) is_anew: bool,
    /// What to listen from; without it, from `after`.
    pub(crate) token: Option<Bytes>,
    pub(crate) ledger: Ledger,
    /// Points that were captured and not proven so far.
    pub(crate) unproven: Vec<Timestamp>,
    /// The data key of the last segment, and when that was put.
    key: Option<(KeyId, Timestamp)>,
    /// Why nothing can be listened to before the database was scanned.
    pub(crate) must_scan: Option<String>,
    /// The read times at which the database was scanned, and what each scan has read.
    pub(crate) scans: Vec<(Timestamp, u64)>,
}

impl Position {
    /// Finds where the chain ends, or where it can begin: at the newest backup of the whole database.
    pub(crate) async fn find(repository: &Repository, database: &DatabaseName) -> Result<Self> {
        let captured = repository.all_captured(database).await?;
        if let Some(begun) = captured.last_begun() {
            return Self::at(repository, begun, &captured.segments).await;
        }
        match captured.segments.last() {
            Some(last) => Self::behind(repository, last, &captured.segments).await,
            None => Self::at_the_newest(repository, database).await,
        }
    }

    async fn at_the_newest(repository: &Repository, database: &DatabaseName) -> Result<Self> {
        let newest = repository.latest(|manifest| manifest.is_whole() && manifest.source == *database).await?;
        let newest = newest.ok_or_else(|| {
            EngineError::NotFound(format!(
                "there is no backup of the whole of {database} to capture changes from: make one with `firebackup backup`"
            ))
        })?;
        let (manifest, _) = repository.manifest(&newest).await?;
        let after = manifest.read_times.first().copied().unwrap_or_default();
        let must_scan = is_of_several_times(&manifest);
        Ok(Self { follows: Some(BEFORE_ALL), must_scan, ..Self::on(newest, after, documents(&manifest)) })
    }

    /// Where somebody said that the chain goes on, and nothing was put behind it.
    async fn at(repository: &Repository, begun: &SegmentManifest, all: &[SegmentManifest]) -> Result<Self> {
        let (counts, must_scan) = match repository.manifest(&begun.base).await {
            Ok((base, _)) => (documents(&base), is_of_several_times(&base)),
            Err(EngineError::NotFound(reason)) => (BTreeMap::new(), Some(reason)),
            Err(damage) if damage.is_damage() => (BTreeMap::new(), Some(damage.in_full())),
            Err(error) => return Err(error),
        };
        Ok(Self {
            sequence: begun.sequence,
            is_anew: begun.after != BEFORE_ALL,
            must_scan,
            scans: scans(all),
            ..Self::on(begun.base.clone(), begun.end(), counts)
        })
    }

    /// At the read time of a backup, of which the counts are known.
    fn on(base: SnapshotId, after: Timestamp, counts: BTreeMap<String, u64>) -> Self {
        Self {
            base,
            sequence: 0,
            after,
            follows: None,
            is_anew: false,
            token: None,
            ledger: Ledger::new(after, counts),
            unproven: Vec::new(),
            key: None,
            must_scan: None,
            scans: Vec::new(),
        }
    }

    async fn behind(repository: &Repository, last: &SegmentManifest, all: &[SegmentManifest]) -> Result<Self> {
        let stretch = Stretch::all(all).into_iter().find(|stretch| stretch.end() == last.end());
        let segments = stretch.map(|stretch| stretch.segments).unwrap_or_default();
        let mut must_scan = None;
        let anchored = segments.iter().enumerate().rev().find_map(|(place, segment)| Some((place, segment.anchor()?)));
        let (place, anchor, counts) = match anchored {
            Some((place, (anchor, counts))) => (place, anchor, counts.clone()),
            None => match repository.manifest(&last.base).await {
                Ok((base, _)) => (0, base.read_times.first().copied().unwrap_or_default(), documents(&base)),
                Err(EngineError::NotFound(reason)) => {
                    must_scan = Some(reason);
                    (0, last.end(), BTreeMap::new())
                }
                Err(error) => return Err(error),
            },
        };
        let rest = segments.get(place..).unwrap_or_default();
        let mut ledger = Ledger::new(anchor, counts);
        last.documents.keys().for_each(|group| ledger.add_group(group));
        for segment in rest.iter().filter(|segment| segment.end() > anchor) {
            match apply(repository, segment, &mut ledger).await {
                Err(damage) if damage.is_damage() => must_scan = Some(damage.in_full()),
                applied => applied?,
            }
        }
        let unproven = rest.iter().flat_map(|segment| &segment.points).filter(|point| **point > anchor);
        let token = last.token.as_ref().and_then(|token| STANDARD.decode(token).ok()).map(Bytes::from);
        Ok(Self {
            base: last.base.clone(),
            sequence: last.sequence + 1,
            after: last.end(),
            follows: None,
            is_anew: false,
            token,
            unproven: unproven.copied().collect(),
            ledger,
            key: last.key.map(|key| (key, last.finished)),
            must_scan,
            scans: scans(all),
        })
    }

    /// Where the chain ends, in the place that of two only one can take.
    pub(crate) fn end(&self) -> Timestamp {
        self.follows.unwrap_or(self.after)
    }

    /// The beginning at the newest backup of the whole database, where there is one behind where this goes on: what the chain
    /// builds on is gone, or the stream is.
    pub(crate) async fn anew(&self, repository: &Repository, database: &DatabaseName) -> Result<Option<Self>> {
        let newest = Self::at_the_newest(repository, database).await?;
        let (sequence, scans, follows) = (self.sequence, self.scans.clone(), Some(self.end()));
        Ok((newest.after > self.after).then_some(Self { sequence, scans, follows, is_anew: true, ..newest }))
    }

    /// Goes on behind a segment that was put just now.
    pub(crate) fn advance(&mut self, segment: &SegmentManifest, token: Option<Bytes>) {
        self.sequence = segment.sequence + 1;
        self.after = segment.end();
        (self.follows, self.is_anew) = (None, false);
        self.token = token;
        self.key = segment.key.map(|key| (key, segment.finished));
        self.must_scan = None;
        self.scans.extend(scans(std::slice::from_ref(segment)));
        match segment.proofs.is_empty() {
            false => {
                self.ledger = Ledger::new(segment.end(), segment.documents.clone());
                self.unproven.clear();
            }
            true => self.unproven.extend(&segment.points),
        }
    }

    /// The key of the day: that of the last segment, or a new one.
    pub(crate) async fn sealing(&self, repository: &Repository) -> Result<Sealing> {
        let day = |moment: Timestamp| moment.seconds.div_euclid(DAY_SECONDS);
        match self.key {
            Some((key, put)) if day(put) == day(repository.world().now()) => repository.sealing(Some(key)).await,
            _ => repository.new_data_key().await,
        }
    }

    /// How many scans there were in the day before `now`, and what they have read.
    pub(crate) fn scanned_today(&self, now: Timestamp) -> (u32, u64) {
        let today = self.scans.iter().filter(|(put, _)| now.seconds_since(*put) < DAY_SECONDS as f64);
        today.fold((0, 0), |(number, sum), (_, reads)| (number + 1, sum.saturating_add(*reads)))
    }

    /// How many documents there should be.
    pub(crate) fn documents(&self) -> u64 {
        self.ledger.expected().values().sum()
    }

    /// Whether the database is known as it was at the end of the chain.
    pub(crate) async fn is_known(&self, repository: &Repository, database: &DatabaseName) -> Result<bool> {
        Ok(self.known(repository, database, self.after).await?.is_some())
    }

    /// The database at a point as far as it is known: a snapshot, and the layers whose merge it is; nothing where what the chain
    /// builds on is gone.
    pub(crate) async fn known(
        &self,
        repository: &Repository,
        database: &DatabaseName,
        point: Timestamp,
    ) -> Result<Option<(SnapshotId, Vec<Layer>)>> {
        Ok(Moments::read(repository, database).await?.layers_until(point, &self.base))
    }
}

/// Whether there is nothing that changes of a database could be captured behind: no backup of the whole of it, or none behind
/// the end of a chain whose base is gone. A backup of the whole database mends that.
///
/// # Errors
/// When the store fails, or a manifest cannot be read.
pub async fn lacks_base(repository: &Repository, database: &DatabaseName) -> Result<bool> {
    let looked = async {
        let position = Position::find(repository, database).await?;
        Ok(!position.is_known(repository, database).await? && position.anew(repository, database).await?.is_none())
    };
    match looked.await {
        Err(EngineError::NotFound(_)) => Ok(true),
        looked => looked,
    }
}

/// Why the database is to be scanned before it is listened to from a snapshot, where that is a state of no time.
fn is_of_several_times(manifest: &Manifest) -> Option<String> {
    let is_ranged = manifest.consistency == Consistency::Ranged;
    is_ranged.then(|| format!("{} was read at several times", manifest.id))
}

fn documents(manifest: &Manifest) -> BTreeMap<String, u64> {
    manifest.collections.iter().map(|(group, counts)| (group.clone(), counts.documents)).collect()
}

/// When each scan read, and what it has read: every one has left a gap, also where it was merged with others since.
fn scans(segments: &[SegmentManifest]) -> Vec<(Timestamp, u64)> {
    let mut scans = Vec::new();
    for segment in segments {
        scans.extend(segment.gaps.iter().map(|gap| (gap.until, 0)));
        if let (Some(last), false) = (scans.last_mut(), segment.gaps.is_empty()) {
            last.1 = segment.reads;
        }
    }
    scans
}

/// Takes the changes of a segment into the ledger.
async fn apply(repository: &Repository, segment: &SegmentManifest, ledger: &mut Ledger) -> Result<()> {
    let meter = Arc::new(Meter::default());
    for entry in &segment.runs {
        let run = RunSource::open(repository, segment.key, entry, &meter).await?;
        let mut records = run.stream(&PathRange::everything());
        while let Some(record) = records.next().await? {
            if record.point > Some(ledger.anchor) {
                ledger.apply(&record.path, record.body.as_ref());
            }
        }
    }
    Ok(())
}
