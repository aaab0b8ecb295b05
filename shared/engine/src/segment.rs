//! Seals what was captured: a proof where it is due, the run, then the manifest, which is the commit.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use firebackup_codec::object::ObjectType;
use firebackup_codec::sealing::Sealing;
use firebackup_model::id::SnapshotId;
use firebackup_model::manifest::{Counts, FORMAT_VERSION, GroupCounts, RunEntry, RunKind};
use firebackup_model::segment::{Proof, SegmentKind, SegmentManifest};
use firebackup_model::{ErrorKind, Timestamp};
use tokio::time::Instant;

use crate::capture::{Capture, CaptureEvent, End, Listening, Told};
use crate::capture_position::Position;
use crate::chain::path_of;
use crate::compact::DAY_SECONDS;
use crate::error::{EngineError, Result};
use crate::objects::Put;
use crate::plan::MAX_JOB_SECONDS;
use crate::proof::{Prover, Verdict, cost_of_a_count};
use crate::run_upload::{RunSettings, RunUpload};

/// For how long a server may not count before the database is read instead: each proof looks at all that was captured since the last.
const UNPROVEN_SECONDS: f64 = 2.0 * DAY_SECONDS as f64;
/// How long it is taken for granted that nobody else went on: it takes eight segments, a merge and a prune to free a place.
const TRUSTED_SECONDS: f64 = 10.0;

impl Capture {
    /// Seals everything up to the last point as a segment, unless there is nothing to say. Returns why listening ends, if
    /// it does.
    pub(crate) async fn seal(&self, listening: &mut Listening, told: Told<'_>) -> Result<Option<End>> {
        let Some(point) = listening.buffer.last_point() else { return Ok(None) };
        let groups = listening.position.ledger.groups().count();
        let proof = match self.prove_if_due(listening, point).await {
            Ok(None) => None,
            Ok(Some(Verdict::Proven(from))) => Some(Proof { from, through: point }),
            Ok(Some(Verdict::Wrong(reason))) => return Ok(Some(End::Lost(reason))),
            Err(EngineError::Port(error)) if error.kind == ErrorKind::ReadTimeTooOld => {
                return Ok(Some(End::Lost("what was captured was proven too late".to_owned())));
            }
            Err(EngineError::Port(error)) if error.can_be_retried() => {
                if point.seconds_since(listening.position.ledger.anchor) > UNPROVEN_SECONDS {
                    return Ok(Some(End::Lost(format!("what was captured could not be proven for two days: {error}"))));
                }
                // what was heard is not held up by a server that cannot count just now
                told(CaptureEvent::Unproven(error.to_string()));
                listening.failed_to_prove = Some(Instant::now());
                None
            }
            Err(error) => return Err(error),
        };
        if proof.is_some() {
            (listening.checked, listening.must_prove_behind) = (point, None);
        }
        if !self.is_worth_a_segment(listening, proof.is_some()) {
            return Ok(None);
        }
        let is_regrouped = listening.position.ledger.groups().count() > groups;
        let begun = self.repository.world().now();
        if !self.is_at_the_end(listening, begun).await? {
            return Ok(Some(End::Overtaken));
        }
        let segment = self.write(listening, point, proof, is_regrouped).await?;
        let Some(segment) = segment else { return Ok(Some(End::Overtaken)) };
        listening.looked = begun;
        let token = listening.buffer.token().filter(|_| !is_regrouped).cloned();
        listening.position.advance(&segment, token);
        listening.buffer.sealed();
        listening.waiting_since = None;
        told(CaptureEvent::Sealed(Box::new(segment)));
        Ok(is_regrouped.then_some(End::Regrouped))
    }

    /// Whether the chain still ends where this capture goes on. Who was held up for long (a machine that slept) may find its
    /// place free although others went on: what stood there was merged, and dropped.
    async fn is_at_the_end(&self, listening: &mut Listening, now: Timestamp) -> Result<bool> {
        if now.seconds_since(listening.looked).abs() < TRUSTED_SECONDS {
            return Ok(true);
        }
        self.ends_here(listening).await
    }

    /// Whether no segment reaches beyond where this capture goes on.
    pub(crate) async fn ends_here(&self, listening: &mut Listening) -> Result<bool> {
        let now = self.repository.world().now();
        let ends = self.repository.ends_at(self.source.database(), listening.position.end()).await?;
        if ends {
            listening.looked = now;
        }
        Ok(ends)
    }

    /// Whether a segment would say more than that nothing has changed: an idle database makes three an hour. What a proof
    /// has cost is not paid again by whoever captures next.
    fn is_worth_a_segment(&self, listening: &Listening, is_proven: bool) -> bool {
        let proves = is_proven && (!listening.position.unproven.is_empty() || !self.is_cheap(listening));
        listening.buffer.has_changes() || proves || self.needs_heartbeat(listening)
    }

    /// Whether what was captured is to be counted at the last point.
    pub(crate) fn is_proof_due(&self, listening: &Listening) -> bool {
        let rests = listening.failed_to_prove.is_some_and(|failed| failed.elapsed() < self.options.proof_pause);
        let Some(point) = listening.buffer.last_point().filter(|_| !rests) else { return false };
        let since = point.seconds_since(listening.checked);
        let cheaply = f64::from(self.options.prove_cheaply_every_seconds);
        let is_wanted = listening.must_prove_behind.is_some_and(|silence| point > silence)
            || since >= f64::from(self.options.prove_every_seconds)
            || since > 0.0 && since >= cheaply && self.is_cheap(listening);
        is_wanted && !self.must_wait(listening, since)
    }

    fn is_cheap(&self, listening: &Listening) -> bool {
        self.cost(listening) <= self.options.cheap_proof_reads
    }

    fn cost(&self, listening: &Listening) -> u64 {
        cost_of_a_count(&*self.source, &listening.position.ledger)
    }

    /// Whether a proof is put off, although there was none for so many seconds. Where one reads every name, those of a day read
    /// no more documents than its scans may.
    fn must_wait(&self, listening: &Listening, since: f64) -> bool {
        let most = self.options.max_scan_reads_a_day.filter(|_| self.source.counts_by_reading());
        let Some(most) = most.filter(|_| !self.is_cheap(listening)) else { return false };
        let cost = self.cost(listening);
        cost > most || since < DAY_SECONDS as f64 * cost as f64 / most as f64
    }

    /// Proves the last point, where that is still due once it is known what it costs.
    async fn prove_if_due(&self, listening: &mut Listening, point: Timestamp) -> Result<Option<Verdict>> {
        if !self.is_proof_due(listening) {
            return Ok(None);
        }
        // a database so small may be read rather than asked
        let is_small = listening.position.documents() <= self.options.cheap_proof_reads;
        if !is_small && !listening.has_counted && !self.source.counts_by_reading() {
            self.prover(&listening.position.base, true).try_counting(point).await?;
            listening.has_counted = true;
            if !self.is_proof_due(listening) {
                return Ok(None);
            }
        }
        self.prove(listening).await.map(Some)
    }

    /// Looks up whether documents of these groups were there before, where that is assumed.
    pub(crate) async fn resolve_assumed(&self, listening: &mut Listening, groups: &BTreeSet<String>) -> Result<()> {
        let Position { ledger, base, .. } = &mut listening.position;
        self.prover(base, true).resolve(ledger, groups).await
    }

    fn prover<'p>(&'p self, base: &'p SnapshotId, has_counted: bool) -> Prover<'p> {
        let (Self { repository, meter, .. }, affordable) = (self, self.options.cheap_proof_reads);
        let (source, changes) = (&*self.source, &*self.changes);
        Prover { repository, source, changes, meter, base, affordable, has_counted }
    }

    async fn prove(&self, listening: &mut Listening) -> Result<Verdict> {
        let Listening { position: Position { ledger, base, unproven, .. }, buffer, has_counted, .. } = listening;
        let points: Vec<Timestamp> = unproven.iter().copied().chain(buffer.points()).collect();
        // one that fails leaves no trace: what it found besides stands nowhere else
        let mut counted = ledger.clone();
        let (verdict, found) = self.prover(base, *has_counted).prove(&mut counted, &points).await?;
        (*ledger, *has_counted) = (counted, true);
        for (path, versions) in found {
            buffer.add(path, versions);
        }
        Ok(verdict)
    }

    /// Puts the run and the manifest; nothing where another capture has put the next segment.
    async fn write(
        &self,
        listening: &Listening,
        point: Timestamp,
        proof: Option<Proof>,
        is_regrouped: bool,
    ) -> Result<Option<SegmentManifest>> {
        let (position, buffer) = (&listening.position, &listening.buffer);
        let sealing = position.sealing(&self.repository).await?;
        let begun = self.repository.world().now();
        let (runs, collections) = self.write_run(listening, &sealing).await?;
        if self.repository.world().now().seconds_since(begun) >= MAX_JOB_SECONDS as f64 {
            // two prunes may have taken the run by now
            return Ok(None);
        }
        let token = buffer.token().filter(|_| !is_regrouped).map(|token| STANDARD.encode(token));
        let segment = SegmentManifest {
            kind: SegmentKind::Listened,
            points: buffer.points(),
            proofs: proof.into_iter().collect(),
            totals: Counts::of(&collections),
            stored_bytes: runs.iter().map(|run| run.size).sum(),
            runs,
            collections,
            documents: position.ledger.expected(),
            token,
            key: sealing.key_id(),
            ..self.segment(listening, point)
        };
        self.commit(listening, &segment, &sealing).await
    }

    async fn write_run(&self, listening: &Listening, sealing: &Sealing) -> Result<(Vec<RunEntry>, GroupCounts)> {
        if !listening.buffer.has_changes() {
            return Ok((Vec::new(), GroupCounts::new()));
        }
        let (repository, meter) = (self.repository.clone(), std::sync::Arc::clone(&self.meter));
        let settings = RunSettings::new(repository, sealing.clone(), self.options.compression, meter);
        let mut run = RunUpload::start(settings, RunKind::Delta, None)?;
        listening.buffer.write(&mut run).await?;
        let end = run.finish().await?;
        Ok((vec![end.entry], end.collections))
    }

    /// A segment of this chain that says nothing yet.
    pub(crate) fn segment(&self, listening: &Listening, point: Timestamp) -> SegmentManifest {
        let position = &listening.position;
        SegmentManifest {
            format: FORMAT_VERSION,
            source: self.source.database().clone(),
            base: position.base.clone(),
            sequence: position.sequence,
            after: position.after,
            kind: SegmentKind::Compared,
            points: vec![point],
            level: 0,
            first_sequence: None,
            proven_documents: None,
            gaps: Vec::new(),
            proofs: Vec::new(),
            runs: Vec::new(),
            totals: Counts::default(),
            collections: GroupCounts::new(),
            documents: BTreeMap::new(),
            token: None,
            job: None,
            compression: self.options.compression,
            key: None,
            stored_bytes: 0,
            reads: 0,
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            finished: self.repository.world().now(),
        }
    }

    /// Puts a segment's manifest; nothing where there is another one in its place.
    pub(crate) async fn commit(
        &self,
        listening: &Listening,
        segment: &SegmentManifest,
        sealing: &Sealing,
    ) -> Result<Option<SegmentManifest>> {
        if !self.takes_the_end(listening, sealing).await? {
            return Ok(None);
        }
        Ok(self.put_segment(listening, segment, sealing).await?.then(|| segment.clone()))
    }

    /// Where the chain begins at a backup, says so in the place where another capture would go on before it; says whether that was
    /// free. Segments that begin at two backups have two names: both could be put.
    async fn takes_the_end(&self, listening: &Listening, sealing: &Sealing) -> Result<bool> {
        let Some(end) = listening.position.follows else { return Ok(true) };
        let at = self.segment(listening, listening.position.after);
        let begun = SegmentManifest { kind: SegmentKind::Begun, after: end, key: sealing.key_id(), ..at };
        self.put_segment(listening, &begun, sealing).await
    }

    /// Puts a manifest, unless there is one; says whether it is the last of its chain. Whoever was held up while it was on its way
    /// looks once more: its place may have been freed. What was put there is in what others have merged, and nobody reads it.
    async fn put_segment(&self, listening: &Listening, segment: &SegmentManifest, sealing: &Sealing) -> Result<bool> {
        let path = path_of(&self.repository, segment)?;
        if self.repository.put_sealed(ObjectType::Manifest, &path, sealing, segment).await? != Put::Stored {
            return Ok(false);
        }
        let since = self.repository.world().now().seconds_since(listening.looked).abs();
        Ok(since < TRUSTED_SECONDS || self.repository.ends_with(segment).await?)
    }
}
