//! Where a capture is watched: a database of an emulator, a proxy of its own before it, and a repository in memory.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use firebackup_embedded::system::{SystemClock, SystemRandom};
use firebackup_engine::{
    Backup, Capture, CaptureEvent, CaptureOptions, Captured, Contents, Increment, Meter, Moment, Moments, Repository,
    RestoreOptions, StatusBounds, Stop, World, capture_status, increment,
};
use firebackup_google::{Firestore, Retrying};
use firebackup_model::job::RestoreMode;
use firebackup_model::manifest::Manifest;
use firebackup_model::port::{ChangeSource, ChangeStream, Clock, DocumentSource, DocumentStream, ListenFrom};
use firebackup_model::{DatabaseName, PathRange, PortError, Selection, Timestamp};
use firebackup_testkit::proxy::Control;
use firebackup_testkit::{ListenMode, Proxy, ProxyOptions};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use rand::RngExt;
use rand::rngs::StdRng;

use super::oracle::{Known, Oracle, State, contents, differences};
use super::writer::{Changes, Writer};
use crate::stage::{self, firestore, read_all, restore, secrets, target};

const PROJECT: &str = "demo-capture";

/// The clock of a machine that is ahead or behind, or jumps.
pub struct SkewedClock(AtomicI64);

impl SkewedClock {
    /// Goes by so many seconds at once.
    pub fn jump(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus_seconds(self.0.load(Ordering::Relaxed))
    }
}

/// Shows what the proxy hides as soon as somebody listens to it: production is late to say that a collection group is
/// there, and never leaves out what is listened to.
struct Listened {
    firestore: Retrying<Firestore>,
    control: Control,
}

#[async_trait]
impl ChangeSource for Listened {
    async fn listen(&self, groups: &BTreeSet<String>, from: ListenFrom) -> Result<ChangeStream, PortError> {
        groups.iter().for_each(|group| self.control.show_group(group));
        self.firestore.listen(groups, from).await
    }

    async fn count_group(&self, group: &str, range: &PathRange, at: Timestamp) -> Result<u64, PortError> {
        self.firestore.count_group(group, range, at).await
    }

    async fn stream_group(&self, group: &str, at: Timestamp) -> Result<DocumentStream, PortError> {
        self.firestore.stream_group(group, at).await
    }
}

pub struct Place {
    upstream: String,
    pub proxy: Proxy,
    pub database: DatabaseName,
    pub clock: Arc<SkewedClock>,
    pub store: Arc<InMemory>,
    pub repository: Repository,
    /// Through the proxy.
    pub source: Firestore,
    pub oracle: Arc<Oracle>,
}

/// Proves at every segment: the counts of these databases cost nothing.
pub fn options() -> CaptureOptions {
    CaptureOptions {
        prove_cheaply_every_seconds: 0,
        seal_every: Duration::from_millis(20),
        max_scans_a_day: None,
        ..CaptureOptions::default()
    }
}

impl Place {
    /// A new database of the emulator at `upstream`, and a repository whose clock is `skew` seconds ahead of it.
    pub async fn new(upstream: &str, name: &str, skew: i64) -> Self {
        let proxy = ProxyOptions { listen: ListenMode::Production, ..ProxyOptions::default() };
        let proxy = Proxy::start(upstream, proxy).await.unwrap();
        proxy.control().set_heartbeat(Duration::from_millis(100));
        let database = DatabaseName::new(PROJECT, name);
        let source = firestore(&proxy.host(), &database).await;
        let (clock, store) = (Arc::new(SkewedClock(skew.into())), Arc::new(InMemory::new()));
        let repository = Repository::init(store.clone(), secrets(), world(&clock)).await.unwrap();
        let (upstream, oracle) = (upstream.to_owned(), Arc::default());
        Self { upstream, proxy, database, clock, store, repository, source, oracle }
    }

    /// The same with a few documents and a backup to begin from.
    pub async fn begun(upstream: &str, name: &str, changes: Changes) -> Self {
        let place = Self::new(upstream, name, 0).await;
        place.writer().commit(changes).await;
        place.backup().await;
        place
    }

    pub fn writer(&self) -> Writer {
        Writer::new(&self.proxy.host(), &self.database, Arc::clone(&self.oracle))
    }

    pub async fn backup(&self) -> Manifest {
        Backup::builder(self.repository.clone(), self.retrying()).build().run().await.unwrap().manifest
    }

    /// Backs up what changed since the newest backup; nothing where that takes a full one.
    pub async fn increment(&self) -> Option<Manifest> {
        let source: Arc<dyn DocumentSource> = self.retrying();
        let backup = match increment(&self.repository, &source, &Selection::default()).await.unwrap() {
            Increment::Captured(backup) | Increment::Scanned(backup) => *backup,
            Increment::Full(_) => return None,
        };
        Some(backup.build().run().await.unwrap().manifest)
    }

    fn retrying(&self) -> Arc<Retrying<Firestore>> {
        Arc::new(Retrying::new(self.source.clone()))
    }

    /// The repository, opened anew over a store that may be another way to the same.
    pub async fn open(&self, store: Arc<dyn ObjectStore>) -> firebackup_engine::Result<Repository> {
        Repository::open(store, secrets(), world(&self.clock)).await
    }

    /// Whether anything was captured.
    pub async fn has_segments(&self) -> bool {
        self.segments().await > 0
    }

    /// How many segments there are.
    pub async fn segments(&self) -> u64 {
        let (name, bounds) = (self.source.database(), StatusBounds::of_window(60.0));
        capture_status(&self.repository, name, bounds).await.unwrap().segments
    }

    pub fn capture(&self) -> Capture {
        self.capture_into(self.repository.clone())
    }

    pub fn capture_into(&self, repository: Repository) -> Capture {
        let control = self.proxy.control().clone();
        Capture {
            repository,
            source: self.retrying(),
            changes: Arc::new(Listened { firestore: Retrying::new(self.source.clone()), control }),
            options: options(),
            meter: Arc::new(Meter::default()),
            stop: Stop::default(),
        }
    }

    pub async fn moments(&self) -> Moments {
        Moments::read(&self.repository, &self.database).await.unwrap()
    }

    /// What the repository says that the database held at a moment.
    pub async fn held_at(&self, moments: &Moments, moment: &Moment) -> State {
        let everything = Selection::default();
        held(Contents::of_moment(&self.repository, moments, moment, &everything, &Arc::default()).unwrap()).await
    }

    /// A backup is what the database was when it was read.
    pub async fn assert_backed_up(&self, manifest: &Manifest) {
        let everything = Selection::default();
        let stored = Contents::of_snapshot(&self.repository, &manifest.id, &everything, &Arc::default()).await;
        let differing = differences(&held(stored.unwrap()).await, &self.oracle.at(manifest.read_time().unwrap()));
        assert!(differing.is_empty(), "{} of {:?}: {differing:?}", manifest.id, manifest.read_time());
    }

    pub async fn assert_right(&self, moments: &Moments, moment: &Moment) {
        let differing = differences(&self.held_at(moments, moment).await, &self.oracle.at(moment.point));
        assert!(differing.is_empty(), "at {} of {:?}: {differing:?}", moment.point, moments.windows());
    }

    /// Every moment that is listed is what the database was.
    pub async fn assert_all_right(&self) -> Moments {
        let moments = self.moments().await;
        for point in moments.points() {
            self.assert_right(&moments, &moments.resolve(point, true).unwrap()).await;
        }
        moments
    }

    /// Puts a moment back for real, into a database of its own that holds something else.
    pub async fn assert_restores(&self, moment: &Moment, into: &str) {
        self.restores(moment, into).await.unwrap();
    }

    /// The same where the moment may go meanwhile.
    pub async fn restores(&self, moment: &Moment, into: &str) -> firebackup_engine::Result<()> {
        let elsewhere = firestore(&self.upstream, &DatabaseName::new(PROJECT, into)).await;
        let mut rubbish = Writer::new(&self.upstream, &DatabaseName::new(PROJECT, into), Arc::default());
        rubbish.commit(Changes::default().put("users/1", -1).put("rubbish/1", -1).put("a/b/c/d", -1)).await;
        let options = RestoreOptions { mode: RestoreMode::Mirror, ..RestoreOptions::default() };
        let mut restore = restore(&self.repository, &moment.base, target(&elsewhere), options);
        restore.at = (!moment.is_base).then_some(moment.point);
        let report = restore.run().await?;
        assert_eq!(report.tally.failed, 0);
        let restored = stage::contents(&read_all(&elsewhere).await);
        let expected = contents(&self.oracle.at(moment.point));
        let is_same = restored.iter().map(|(path, content)| (path, content.as_slice()));
        assert!(
            is_same.eq(expected.iter().map(|(path, content)| (path, content.as_ref()))),
            "{} was not restored into {into}",
            moment.point
        );
        Ok(())
    }
}

async fn held(mut stored: Contents) -> State {
    let mut held = State::new();
    while let Some(item) = stored.next().await.unwrap() {
        let document = Known::of(&item.document.expect("a moment holds documents"));
        assert_eq!(item.update_time, Some(document.updated));
        assert!(held.insert(item.path, document).is_none(), "a document stands twice");
    }
    held
}

fn world(clock: &Arc<SkewedClock>) -> World {
    World { clock: clock.clone(), random: Arc::new(SystemRandom) }
}

/// Captures everything up to now; returns what happened.
pub async fn until_now(capture: &Capture) -> Vec<CaptureEvent> {
    let mut events = Vec::new();
    let captured = capture.until_now(&mut |event| events.push(event)).await.unwrap();
    assert!(matches!(captured, Captured::Through(_)));
    events
}

/// A time between two, both included.
pub fn between(random: &mut StdRng, from: Timestamp, to: Timestamp) -> Timestamp {
    let nanos = |time: Timestamp| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let drawn = random.random_range(nanos(from)..=nanos(to));
    Timestamp::new(drawn.div_euclid(1_000_000_000) as i64, drawn.rem_euclid(1_000_000_000) as u32)
}

/// The first moment behind another.
pub const fn after(moment: Timestamp) -> Timestamp {
    match moment.nanos {
        999_999_999 => Timestamp::new(moment.seconds + 1, 0),
        nanos => Timestamp::new(moment.seconds, nanos + 1),
    }
}
