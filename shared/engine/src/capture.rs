//! Captures the changes of a database: listens, and seals what was said up to consistent points as segments of a chain.
//!
//! ```text
//! position  the last segment's manifest says where the chain ends, and a token to listen from     capture_position.rs
//! listen    changes and points into a buffer                                                      capture_buffer.rs
//! prove     counts at the last point, against what should be there                                ledger.rs, proof.rs
//! seal      a run, then the manifest, put only if absent: that alone moves the watermark           segment.rs
//! scan      where the stream cannot be believed: a backup that keeps differences only             capture_scan.rs
//! ```
//!
//! Nothing is kept between two captures but what stands in the repository. Two at once cannot fork the chain: of two
//! segments that begin at one point only one can be put, and who loses goes on behind it. Who begins at a backup first
//! puts in the place of the segment that would go on before it that the chain goes on there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use firebackup_model::manifest::{Algorithm, Compression, Level};
use firebackup_model::port::{Change, ChangeSource, ChangeStream, DocumentSource, ListenFrom};
use firebackup_model::segment::SegmentManifest;
use firebackup_model::{DocumentPath, ErrorKind, PortError, Timestamp, document};
use futures::StreamExt;
use tokio::time::Instant;

use crate::capture_buffer::Buffer;
use crate::capture_position::Position;
use crate::error::{EngineError, Result};
use crate::repository::Repository;
use crate::retry;
use crate::world::{Meter, Stop};

/// How often a capture looks whether it should stop or seal while nothing is said.
const TICK: Duration = Duration::from_millis(100);

/// How many silences long a stream may say only that it lives: what it begins with may be long in coming. Two such streams are to end
/// within the 14 minutes of a function.
const SILENCES_WITHOUT_NEWS: u32 = 3;

/// How long a capture that may not scan waits before it looks at its budget again.
const DEGRADED_PAUSE: Duration = Duration::from_secs(60);
/// After how long without a failure the next one is the first again.
const STEADY: Duration = Duration::from_secs(60);

/// How changes are captured.
#[derive(Debug, Clone)]
pub struct CaptureOptions {
    /// How segments are compressed.
    pub compression: Compression,
    /// After how long a stream that says nothing is dead. One that fell silent is to be found within two minutes, a slow machine
    /// included. One that only says that it lives is dead after three times as long.
    pub silence: Duration,
    /// How long a change waits at most, once it belongs to a point, where the stream stays open.
    pub seal_every: Duration,
    /// After how many seconds without a change a segment says all the same how far it was listened.
    pub heartbeat_seconds: u32,
    /// After how many seconds what was captured is proven, whatever that costs.
    pub prove_every_seconds: u32,
    /// After how many seconds it is proven already, where that costs at most [`Self::cheap_proof_reads`].
    pub prove_cheaply_every_seconds: u32,
    /// Document reads that a proof may cost to be cheap.
    pub cheap_proof_reads: u64,
    /// How often in 24 hours the whole database may be read again because the stream cannot be believed.
    pub max_scans_a_day: Option<u32>,
    /// How many documents that may read in 24 hours; proofs that read names may read as many again.
    pub max_scan_reads_a_day: Option<u64>,
    /// Bytes of changes after which they are sealed at the next point. With four times as many before any point, the
    /// database is scanned instead.
    pub buffer_bytes: usize,
    /// How many streams read where the database is scanned.
    pub scan_streams: usize,
    /// How long a capture that follows rests at least after a scan, and as long as that took: a server that resets whatever it
    /// is asked (an emulator) would else be read without end.
    pub scan_pause: Duration,
    /// How long nothing is counted after a proof for which the server could not count. What is heard meanwhile is sealed unproven.
    pub proof_pause: Duration,
}

impl Default for CaptureOptions {
    fn default() -> Self {
        Self {
            compression: Compression { algorithm: Algorithm::Zstd, level: Level::Fixed(3) },
            silence: Duration::from_secs(110),
            seal_every: Duration::from_secs(2),
            heartbeat_seconds: 1200,
            prove_every_seconds: 600,
            prove_cheaply_every_seconds: 60,
            cheap_proof_reads: 200,
            max_scans_a_day: Some(24),
            max_scan_reads_a_day: Some(10_000_000),
            buffer_bytes: 64 * 1024 * 1024,
            scan_streams: 1,
            scan_pause: Duration::from_secs(5),
            proof_pause: Duration::from_secs(60),
        }
    }
}

/// What happens while changes are captured.
#[derive(Debug, Clone)]
pub enum CaptureEvent {
    /// A segment was put.
    Sealed(Box<SegmentManifest>),
    /// A stream broke or fell silent, and is opened anew.
    Reopened(String),
    /// The server could not count what was captured, for this reason: it is sealed all the same, and proven later.
    Unproven(String),
    /// The stream cannot be believed: the database is read, and moments since the last proven point are lost.
    Scanning(String),
    /// The database would have to be read, and its budget is spent.
    Degraded(String),
    /// Another capture of the same database was faster.
    Overtaken,
}

/// What capturing up to now came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Captured {
    /// Everything up to this point is in segments, or nothing had changed since.
    Through(Timestamp),
    /// The database would have to be read again first, and its budget is spent.
    Degraded,
}

/// Captures the changes of one database.
pub struct Capture {
    /// Where to.
    pub repository: Repository,
    /// The database, to read and to count.
    pub source: Arc<dyn DocumentSource>,
    /// The same, to listen to.
    pub changes: Arc<dyn ChangeSource>,
    /// How.
    pub options: CaptureOptions,
    /// Where reads and bytes are counted.
    pub meter: Arc<Meter>,
    /// What may ask the capture to stop.
    pub stop: Stop,
}

/// Until when to listen.
#[derive(Debug, Clone, Copy)]
enum Goal {
    /// Up to the first point at or behind this moment.
    Through(Timestamp),
    /// For ever.
    Stop,
}

/// Why listening to one stream ended.
pub(crate) enum End {
    /// What was wanted was reached.
    Done,
    /// It was asked to.
    Stopped,
    /// The stream broke: another one may go on.
    Broken(PortError),
    /// None can be had.
    Failed(PortError),
    /// It said nothing, or nothing but that it lives, for too long.
    Silent,
    /// It cannot be gone on with, and neither can another one.
    Lost(String),
    /// Collections were found that it does not listen to.
    Regrouped,
    /// Another capture put the next segment.
    Overtaken,
}

/// Whom a capture tells of what happens.
pub type Told<'t> = &'t mut (dyn FnMut(CaptureEvent) + Send);

impl Capture {
    /// Captures everything that was committed until now, and returns: one window.
    ///
    /// # Errors
    /// When there is no backup to begin from, the stream breaks again and again, or the store fails.
    pub async fn until_now(&self, told: Told<'_>) -> Result<Captured> {
        let until = self.source.snapshot_time().await?;
        self.run(Goal::Through(until), told).await
    }

    /// Captures changes until it is stopped.
    ///
    /// # Errors
    /// As [`Self::until_now`]; what passes is tried again for ever.
    pub async fn follow(&self, told: Told<'_>) -> Result<Captured> {
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            let error = match self.run(Goal::Stop, told).await {
                Err(error) if error.may_pass() && !self.stop.is_requested() => error,
                ended => return ended,
            };
            failures = if begun.elapsed() > STEADY { 1 } else { failures + 1 };
            told(CaptureEvent::Reopened(error.in_full()));
            self.sleep(retry::delay(self.repository.world(), failures)).await;
        }
    }

    async fn run(&self, goal: Goal, told: Told<'_>) -> Result<Captured> {
        let mut listening = self.begin().await?;
        let (mut failures, mut silences) = (0, 0);
        loop {
            let before = listening.through();
            let end = match listening.position.must_scan.take() {
                Some(reason) => End::Lost(reason),
                None => self.listen(&mut listening, goal, told).await?,
            };
            let has_advanced = listening.through() > before;
            (failures, silences) = if has_advanced { (0, 0) } else { (failures, silences) };
            match end {
                End::Done | End::Stopped => return Ok(Captured::Through(listening.through())),
                End::Regrouped => {}
                End::Overtaken => {
                    told(CaptureEvent::Overtaken);
                    listening = self.begin().await?;
                }
                End::Broken(error) => {
                    failures += 1;
                    if matches!(goal, Goal::Through(_)) && failures >= retry::MAX_TRIES {
                        return Err(error.into());
                    }
                    told(CaptureEvent::Reopened(error.to_string()));
                    self.sleep(retry::delay(self.repository.world(), failures)).await;
                }
                End::Failed(error) => return Err(error.into()),
                End::Silent if silences == 0 => {
                    silences += 1;
                    listening.must_prove_behind = Some(listening.through());
                    told(CaptureEvent::Reopened("the stream said nothing new for too long".to_owned()));
                }
                End::Silent => self.go_on_without(&mut listening, "no stream says anything new", goal, told).await?,
                End::Lost(reason) => self.go_on_without(&mut listening, &reason, goal, told).await?,
            }
            if listening.is_degraded {
                if matches!(goal, Goal::Through(_)) {
                    return Ok(Captured::Degraded);
                }
                self.sleep(DEGRADED_PAUSE).await;
            }
            let is_reached = matches!(goal, Goal::Through(until) if listening.position.after >= until);
            if is_reached || self.stop.is_requested() {
                return Ok(Captured::Through(listening.through()));
            }
        }
    }

    /// Scans, and takes being asked to stop in the middle for no failure.
    async fn go_on_without(&self, listening: &mut Listening, reason: &str, goal: Goal, told: Told<'_>) -> Result<()> {
        let begun = Instant::now();
        match self.scan_or_degrade(listening, reason, told).await {
            Err(error) if error.is_resumable_stop() => return Ok(()),
            done => done?,
        }
        if matches!(goal, Goal::Stop) {
            self.sleep(self.options.scan_pause.max(begun.elapsed())).await;
        }
        Ok(())
    }

    pub(crate) async fn begin(&self) -> Result<Listening> {
        let looked = self.repository.world().now();
        let position = Position::find(&self.repository, self.source.database()).await?;
        Ok(Listening { looked, ..listening_at(position) })
    }

    /// Waits, unless it is asked to stop.
    pub(crate) async fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && !self.stop.is_requested() {
            tokio::time::sleep_until(until.min(Instant::now() + TICK)).await;
        }
    }

    /// Listens to one stream until it ends or the goal is reached.
    async fn listen(&self, listening: &mut Listening, goal: Goal, told: Told<'_>) -> Result<End> {
        listening.buffer.forget_pending();
        let mut stream = match self.open(listening).await {
            Ok(stream) => stream,
            Err(error) => return Ok(ended(error)),
        };
        let mut heard = Instant::now();
        // only what was waited for: while a proof reads for long, the stream is not to blame
        let mut without_news = Duration::ZERO;
        loop {
            if self.stop.is_requested() {
                return Ok(self.seal(listening, told).await?.unwrap_or(End::Stopped));
            }
            let asked = Instant::now();
            let said = tokio::time::timeout(TICK, stream.next()).await;
            without_news += asked.elapsed();
            let end = match said {
                Err(_) if heard.elapsed() >= self.options.silence => Some(End::Silent),
                Err(_) => self.seal_if_due(listening, told).await?,
                Ok(None) => Some(End::Broken(PortError::new(ErrorKind::Unavailable, "listen", "the stream ended"))),
                Ok(Some(Err(error))) => Some(ended(error)),
                Ok(Some(Ok(Change::Alive))) if without_news >= self.options.silence * SILENCES_WITHOUT_NEWS => {
                    Some(End::Silent)
                }
                Ok(Some(Ok(change))) => {
                    heard = Instant::now();
                    if change != Change::Alive {
                        without_news = Duration::ZERO;
                    }
                    self.take(listening, change, goal, told).await?
                }
            };
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }

    async fn open(&self, listening: &Listening) -> Result<ChangeStream, PortError> {
        let groups: BTreeSet<String> = listening.position.ledger.groups().map(str::to_owned).collect();
        if groups.is_empty() {
            return Ok(self.nothing_to_hear());
        }
        let through = listening.through();
        let token = match listening.buffer.last_point() {
            Some(_) => listening.buffer.token(),
            None => listening.position.token.as_ref(),
        };
        let from = token.cloned().map_or(ListenFrom::ReadTime(through), ListenFrom::Token);
        self.changes.listen(&groups, from).await
    }

    /// The stream of a database of which no collection is known: points at which it is counted, and no change.
    fn nothing_to_hear(&self) -> ChangeStream {
        let (source, pause) = (Arc::clone(&self.source), self.options.seal_every.max(Duration::from_secs(1)));
        let next = move |is_first: bool| {
            let source = Arc::clone(&source);
            async move {
                if !is_first {
                    tokio::time::sleep(pause).await;
                }
                let point = source.snapshot_time().await;
                Some((point.map(|read_time| Change::Point { read_time, token: None }), false))
            }
        };
        futures::stream::unfold(true, next).boxed()
    }

    /// Takes what the stream says; returns why listening ends, if it does.
    async fn take(&self, listening: &mut Listening, change: Change, goal: Goal, told: Told<'_>) -> Result<Option<End>> {
        match change {
            Change::Put(document) => {
                let path = self.path(&document.0)?;
                self.meter.reads.add(1);
                listening.buffer.take(path, Some(&document.0));
            }
            Change::Gone(path) => listening.buffer.take(path, None),
            Change::Alive => {}
            Change::Reset { group } => return Ok(Some(End::Lost(format!("the server began `{group}` from nothing")))),
            Change::Filter { group, documents } => listening.buffer.filter(group, documents),
            Change::Point { read_time, token } => {
                return self.take_point(listening, read_time, token, goal, told).await;
            }
        }
        let is_too_much = listening.buffer.pending_bytes() > 4 * self.options.buffer_bytes;
        Ok(is_too_much.then(|| End::Lost("more changed at once than can be held".to_owned())))
    }

    async fn take_point(
        &self,
        listening: &mut Listening,
        point: Timestamp,
        token: Option<bytes::Bytes>,
        goal: Goal,
        told: Told<'_>,
    ) -> Result<Option<End>> {
        if point <= listening.through() {
            // said of what is known already, right after a stream was opened
            return Ok(None);
        }
        for (path, body) in listening.buffer.point(point, token) {
            listening.position.ledger.apply(&path, body.as_ref());
        }
        if let Some(reason) = self.unexplained_filter(listening).await? {
            return Ok(Some(End::Lost(reason)));
        }
        if matches!(goal, Goal::Through(until) if point >= until) {
            return Ok(Some(self.seal(listening, told).await?.unwrap_or(End::Done)));
        }
        self.seal_if_due(listening, told).await
    }

    fn path(&self, document: &[u8]) -> Result<DocumentPath> {
        let head = document::head(document).map_err(|source| EngineError::Document { path: None, source })?;
        let path = self.source.database().path_of(head.name);
        path.map_err(|_| EngineError::Refused("the server sent a document of another database".to_owned()))
    }

    async fn seal_if_due(&self, listening: &mut Listening, told: Told<'_>) -> Result<Option<End>> {
        if listening.buffer.has_changes() && listening.waiting_since.is_none() {
            listening.waiting_since = Some(Instant::now());
        }
        let has_waited = listening.waiting_since.is_some_and(|since| since.elapsed() >= self.options.seal_every);
        let is_full = listening.buffer.bytes() >= self.options.buffer_bytes;
        if has_waited || is_full || self.needs_heartbeat(listening) || self.is_proof_due(listening) {
            return self.seal(listening, told).await;
        }
        Ok(None)
    }

    pub(crate) fn needs_heartbeat(&self, listening: &Listening) -> bool {
        let quiet = listening.through().seconds_since(listening.position.after);
        listening.position.is_anew || quiet >= f64::from(self.options.heartbeat_seconds)
    }
}

/// What a stream's failure means: what passes may go on from where it broke, what does not cannot.
fn ended(error: PortError) -> End {
    use ErrorKind::{FailedPrecondition, InvalidArgument, NotFound, ReadTimeTooOld};
    match error.kind {
        kind if kind.can_be_retried() => End::Broken(error),
        ReadTimeTooOld | InvalidArgument | FailedPrecondition | NotFound => End::Lost(error.to_string()),
        _ => End::Failed(error),
    }
}

/// A capture that begins at a position.
pub(crate) fn listening_at(position: Position) -> Listening {
    Listening {
        checked: position.ledger.anchor,
        position,
        buffer: Buffer::default(),
        waiting_since: None,
        is_degraded: false,
        must_prove_behind: None,
        looked: Timestamp::default(),
        has_counted: false,
        failed_to_prove: None,
    }
}

/// A capture on its way.
pub(crate) struct Listening {
    pub(crate) position: Position,
    pub(crate) buffer: Buffer,
    /// Since when a change waits to be sealed.
    pub(crate) waiting_since: Option<Instant>,
    pub(crate) is_degraded: bool,
    /// A stream was silent behind this point: the first point behind it is to be proven, due or not.
    pub(crate) must_prove_behind: Option<Timestamp>,
    /// When it was last known that the chain ends where this goes on, by the clock of the machine.
    pub(crate) looked: Timestamp,
    /// Whether it was tried what counting costs.
    pub(crate) has_counted: bool,
    /// When the server could not count what was captured, the last time.
    pub(crate) failed_to_prove: Option<Instant>,
    /// The last point at which everything was counted, and right.
    pub(crate) checked: Timestamp,
}

impl Listening {
    /// The last point that was heard of.
    pub(crate) fn through(&self) -> Timestamp {
        self.buffer.last_point().unwrap_or(self.position.after)
    }
}
