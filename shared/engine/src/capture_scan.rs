//! What a capture does when the stream cannot be believed: it reads the database at one read time and keeps what differs
//! from what is known. Moments between the last proven point and that read time are lost, and stay refused.

use firebackup_model::job::Against;
use firebackup_model::segment::{Gap, Proof, SegmentKind, SegmentManifest};

use crate::backup::{Backup, Scan};
use crate::capture::{Capture, CaptureEvent, Listening, Told, listening_at};
use crate::capture_position::Position;
use crate::error::{EngineError, Result};

/// What came of a scan.
enum Scanned {
    /// A segment.
    Put(Box<SegmentManifest>),
    /// Another capture put the next segment.
    Overtaken,
    /// There is nothing to compare with, or what there is cannot be read.
    Nothing(Option<EngineError>),
}

impl Capture {
    /// Scans the database and goes on behind it, or says that it may not. Where somebody backed it up since, that was read already.
    pub(crate) async fn scan_or_degrade(&self, listening: &mut Listening, reason: &str, told: Told<'_>) -> Result<()> {
        listening.is_degraded = false;
        if self.goes_on_at_a_backup(listening, reason, told).await? {
            return Ok(());
        }
        if let Some(spent) = self.spent(listening) {
            told(CaptureEvent::Degraded(format!("{reason}, and {spent}")));
            listening.is_degraded = true;
            listening.position.must_scan = Some(reason.to_owned());
            return Ok(());
        }
        told(CaptureEvent::Scanning(reason.to_owned()));
        match self.scan(listening).await? {
            Scanned::Overtaken => told(CaptureEvent::Overtaken),
            Scanned::Put(segment) => told(CaptureEvent::Sealed(segment)),
            Scanned::Nothing(damage) => return self.begin_anew(listening, reason, damage, told).await,
        }
        // what was heard since the last segment is in the scan
        *listening = self.begin().await?;
        Ok(())
    }

    /// Goes on at a backup of the whole database that was made behind the end of the chain; says whether there was one, or others
    /// went on meanwhile.
    async fn goes_on_at_a_backup(&self, listening: &mut Listening, reason: &str, told: Told<'_>) -> Result<bool> {
        let anew = match listening.position.anew(&self.repository, self.source.database()).await {
            // there is none, or none that can be read: what there is else is as good as it was
            Err(error) if error.is_damage() || matches!(error, EngineError::NotFound(_)) => None,
            anew => anew?.filter(|anew| anew.must_scan.is_none()),
        };
        let Some(anew) = anew else { return Ok(false) };
        let there = self.begin().await?;
        if there.position.end() == listening.position.end() {
            *listening = begun_anew(anew, reason, told);
        } else {
            told(CaptureEvent::Overtaken);
            *listening = there;
        }
        Ok(true)
    }

    /// There is nothing to compare a scan with: the backup that the chain builds on is gone or damaged, or a segment since. A whole
    /// backup made later is a beginning. Where others went on meanwhile, and what was built on went with a prune, nothing is
    /// missing behind them.
    async fn begin_anew(
        &self,
        listening: &mut Listening,
        reason: &str,
        damage: Option<EngineError>,
        told: Told<'_>,
    ) -> Result<()> {
        let database = self.source.database();
        let there = self.begin().await?;
        let has_moved = there.position.end() != listening.position.end();
        if has_moved || damage.is_none() && there.position.is_known(&self.repository, database).await? {
            told(CaptureEvent::Overtaken);
            *listening = there;
            return Ok(());
        }
        let Some(anew) = listening.position.anew(&self.repository, database).await? else {
            let (reason, database) = (reason.to_owned(), database.clone());
            return Err(EngineError::NoBase { reason, database, source: damage.map(Box::new) });
        };
        *listening = begun_anew(anew, reason, told);
        Ok(())
    }

    /// Why the database may not be scanned now.
    fn spent(&self, listening: &Listening) -> Option<String> {
        let now = self.repository.world().now();
        let (scans, reads) = listening.position.scanned_today(now);
        if self.options.max_scans_a_day.is_some_and(|most| scans >= most) {
            return Some(format!("it was read {scans} times in 24 hours already"));
        }
        let would_be = reads.saturating_add(listening.position.documents());
        let is_too_much = self.options.max_scan_reads_a_day.is_some_and(|most| would_be > most);
        is_too_much.then(|| format!("reading it would make {would_be} document reads in 24 hours"))
    }

    async fn scan(&self, listening: &mut Listening) -> Result<Scanned> {
        let position = &listening.position;
        let known = position.known(&self.repository, self.source.database(), position.after).await?;
        let Some((base, known)) = known else { return Ok(Scanned::Nothing(None)) };
        let against = Against { base, through: Some(position.after) };
        let backup = Backup::builder(self.repository.clone(), self.source.clone())
            .against(against, known)
            .compression(self.options.compression)
            .parallel(self.options.scan_streams)
            .may_reanchor(false)
            .meter(self.meter.clone())
            .stop(self.stop.clone())
            .build();
        let Scan { whole, sealing } = match backup.scan().await {
            Err(damage) if damage.is_damage() => return Ok(Scanned::Nothing(Some(damage))),
            scanned => scanned?,
        };
        let manifest = whole.manifest;
        let read_time = manifest.read_time().filter(|read_time| *read_time > position.after);
        let read_time = read_time
            .ok_or_else(|| EngineError::Refused("the server's time is not behind what it said before".to_owned()))?;
        let mut documents = whole.seen;
        for group in position.ledger.groups() {
            documents.entry(group.to_owned()).or_default();
        }
        let segment = SegmentManifest {
            kind: SegmentKind::Compared,
            gaps: vec![Gap { after: position.after, until: read_time }],
            proofs: vec![Proof { from: read_time, through: read_time }],
            totals: manifest.totals,
            stored_bytes: manifest.stored_bytes,
            runs: manifest.runs,
            collections: manifest.collections,
            documents,
            job: Some(manifest.id.clone()),
            key: manifest.key,
            reads: manifest.reads,
            ..self.segment(listening, read_time)
        };
        // a scan takes long: others may have gone on, and what they put may have been merged and dropped
        let committed =
            if self.ends_here(listening).await? { self.commit(listening, &segment, &sealing).await? } else { None };
        self.repository.clear_quietly(&manifest.id).await;
        Ok(committed.map_or(Scanned::Overtaken, |segment| Scanned::Put(Box::new(segment))))
    }

    /// Whether what the server counted is what there should be, where it said so.
    pub(crate) async fn unexplained_filter(&self, listening: &mut Listening) -> Result<Option<String>> {
        let filters = listening.buffer.take_filters();
        if filters.is_empty() {
            return Ok(None);
        }
        let differs = |listening: &Listening| {
            let expected = listening.position.ledger.expected();
            filters.iter().find(|(group, documents)| expected.get(*group) != Some(documents)).map(
                |(group, documents)| {
                    let known = expected.get(group).copied().unwrap_or_default();
                    format!("the server counts {documents} documents of `{group}`, and {known} are known")
                },
            )
        };
        if differs(listening).is_none() {
            return Ok(None);
        }
        self.resolve_assumed(listening, &filters.keys().cloned().collect()).await?;
        Ok(differs(listening))
    }
}

/// A capture that begins anew at a backup, and says so.
fn begun_anew(position: Position, reason: &str, told: Told<'_>) -> Listening {
    told(CaptureEvent::Reopened(format!("{reason}: it begins anew at the backup of {}", position.after)));
    listening_at(position)
}
