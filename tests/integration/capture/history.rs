//! One random history: somebody writes, captures come and go and die, the server and the store make trouble. At its end
//! every moment that is offered must be what the database was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use firebackup_engine::{Capture, CaptureEvent, Captured, PrunePolicy, Result, Stop, Window, prune};
use firebackup_model::Timestamp;
use firebackup_model::segment::SegmentManifest;
use firebackup_testkit::faulty_store::FaultyStore;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::author::{Author, Deed, Groups};
use super::events::Events;
use super::place::{Place, after, between, until_now};
use super::trouble::{self, Temper};
use super::writer::Changes;

const RESTORED: usize = 1;
const LOOKED_AT: usize = 5;

/// A capture on its way.
struct Running {
    task: JoinHandle<Result<Captured>>,
    stop: Stop,
    /// Whether its store works.
    is_sound: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub struct History {
    place: Place,
    seed: u64,
    random: StdRng,
    temper: Temper,
    author: Author,
    running: Vec<Running>,
    events: Events,
    tale: Tale,
    proves_rarely: bool,
}

impl History {
    /// Lets a history happen.
    pub async fn happen(upstream: &str, seed: u64) {
        let mut history = Self::begin(upstream, seed).await;
        for _ in 0..history.random.random_range(4..11u32) {
            history.go_on().await;
        }
        history.end().await;
    }

    async fn begin(upstream: &str, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let skew = [0, -600, 600][random.random_range(0..3)];
        let place = Place::new(upstream, &format!("history-{seed}"), skew).await;
        trouble::set_up(&mut random, place.proxy.control());
        let temper = if random.random_ratio(2, 3) { Temper::Gentle } else { Temper::Rough };
        let proves_rarely = random.random_ratio(1, 3);
        let author = Author::new(place.writer(), Some(place.proxy.control().clone()));
        let (running, events, tale) = (Vec::new(), Events::default(), Tale::default());
        let mut history = Self { place, seed, random, temper, author, running, events, tale, proves_rarely };
        for _ in 0..history.random.random_range(1..6u32) {
            history.write(Groups::Old).await;
        }
        history.author.writer.commit(Changes::default().put("users/first", 0)).await;
        history.place.backup().await;
        history
    }

    /// Something goes wrong, captures begin and end, and in between there is writing.
    async fn go_on(&mut self) {
        trouble::stir(&mut self.random, self.place.proxy.control(), self.temper);
        self.turn_captures().await;
        for _ in 0..self.random.random_range(0..8u32) {
            self.write(Groups::Any).await;
            self.pause(15).await;
        }
        self.tidy().await;
        self.pause(150).await;
    }

    async fn pause(&mut self, most: u64) {
        sleep(Duration::from_millis(self.random.random_range(0..=most))).await;
    }

    async fn turn_captures(&mut self) {
        match (self.random.random_range(0..8u32), self.running.len()) {
            (0..3, 1..) => self.kill(),
            (3, 1..) => self.stop().await,
            (4.., 1..) if self.running.len() < 2 && self.random.random_ratio(1, 4) => self.start(true).await,
            (0..5, 0) => self.start(true).await,
            (5..7, 0) => self.start(false).await,
            _ => {}
        }
    }

    fn kill(&mut self) {
        self.tale.say("killed".to_owned());
        self.running.clear();
    }

    async fn stop(&mut self) {
        for mut running in std::mem::take(&mut self.running) {
            running.stop.request();
            if let Err(error) = (&mut running.task).await.unwrap() {
                let may_be = !running.is_sound || error.may_pass() || error.is_resumable_stop();
                assert!(may_be, "{}", error.in_full());
            }
        }
    }

    /// Starts a capture that follows, or one up to now. The store of some dies under them.
    async fn start(&mut self, does_follow: bool) {
        let store = FaultyStore::new(self.place.store.clone());
        let is_sound = self.random.random_ratio(2, 3);
        if !is_sound && self.random.random() {
            store.crash_after(self.random.random_range(0..60));
        } else if !is_sound {
            store.chaos(self.seed, 12);
        }
        let Ok(repository) = self.place.open(Arc::new(store)).await else { return assert!(!is_sound) };
        let mut capture = self.place.capture_into(repository);
        self.choose_options(&mut capture);
        let (stop, tale) = (capture.stop.clone(), self.tale.clone());
        let task = tokio::spawn(async move {
            let told = &mut |event: CaptureEvent| tale.note(&event);
            if does_follow { capture.follow(told).await } else { capture.until_now(told).await }
        });
        self.tale.say(format!("capturing: follows {does_follow}, sound {is_sound}"));
        self.running.push(Running { task, stop, is_sound });
    }

    fn choose_options(&mut self, capture: &mut Capture) {
        let options = &mut capture.options;
        options.seal_every = Duration::from_millis(self.random.random_range(1..80));
        options.heartbeat_seconds = if self.random.random_ratio(1, 4) { 1 } else { 3600 };
        if self.proves_rarely {
            (options.prove_cheaply_every_seconds, options.prove_every_seconds) = (2, 2);
        }
        if self.temper == Temper::Rough {
            options.silence = Duration::from_millis(400);
        }
        if self.random.random_ratio(1, 6) {
            options.buffer_bytes = 20_000;
        }
    }

    /// What else happens to a repository.
    async fn tidy(&mut self) {
        if self.random.random_ratio(1, 3) {
            let told = self.events.tell(&mut self.random, &self.place).await;
            self.tale.say(format!("events told of {told} changes"));
        }
        // a chain begins at the newest backup
        if self.random.random_ratio(1, 8) && self.place.has_segments().await {
            let manifest = self.place.backup().await;
            self.tale.say(format!("backed up at {:?}", manifest.read_time()));
        }
        if self.random.random_ratio(1, 8) {
            let policy = PrunePolicy { keep_last: Some(self.random.random_range(1..3)), ..PrunePolicy::default() };
            let report = prune(&self.place.repository, &policy).await.unwrap();
            self.tale.say(format!("pruned: {} dropped, {} kept", report.dropped.len(), report.kept));
        }
    }

    async fn end(&mut self) {
        if self.random.random() {
            self.kill();
        }
        self.stop().await;
        self.place.proxy.control().clear_faults();
        // behind whatever backup there is: how far nothing changed stands in the segment of the next change
        self.author.writer.commit(Changes::default().put("users/last", 0)).await;
        let capture = self.place.capture();
        for event in until_now(&capture).await {
            self.tale.note(&event);
        }
        let moments = self.place.moments().await;
        let windows = moments.windows();
        let scans = self.tale.scans();
        let last = windows.last().expect("a backup is a moment").end;
        assert!(last >= self.place.oracle.last_commit(), "not everything was captured: {windows:?}");
        if self.temper == Temper::Gentle {
            assert!(scans.is_empty(), "every stream could be gone on from: {scans:?}");
            assert_eq!(windows.len(), 1, "a gap without a reason: {windows:?}");
        }
        self.assert_windows_right(&windows).await;
        self.events.tell(&mut self.random, &self.place).await;
        self.events.assert_in_histories(&self.place, &windows).await;
        // what events tell changes no moment
        self.assert_windows_right(&windows).await;
        for number in 0..RESTORED {
            let window = &windows[self.random.random_range(0..windows.len())];
            let moment = moments.resolve(between(&mut self.random, window.start, window.end), false).unwrap();
            self.place.assert_restores(&moment, &format!("restored-{}-{number}", self.seed)).await;
        }
    }

    /// For any time in a window, the newest moment at or before it is found, and is right. Between windows is a gap.
    ///
    /// No point is lost of which a capture said that it was proven (a prune keeps those of days), and none is offered of which
    /// none did, unless one died that had put more than it could say.
    async fn assert_windows_right(&mut self, windows: &[Window]) {
        let sealed = self.tale.sealed();
        let moments = self.place.moments().await;
        let (proven, offered) = (proven(&sealed), moments.points().collect::<BTreeSet<_>>());
        let lost: Vec<_> = proven.difference(&offered).map(ToString::to_string).collect();
        assert!(lost.is_empty(), "proven, and no moment: {lost:?} of {windows:?}");
        let is_all_told = self.place.segments().await == sealed.len() as u64;
        for window in windows {
            let mut times = vec![window.start, window.end];
            times.extend((0..LOOKED_AT).map(|_| between(&mut self.random, window.start, window.end)));
            for at in times {
                let moment = moments.resolve(at, false).unwrap();
                let newest = proven.range(..=at).next_back().copied();
                assert!(Some(moment.point) >= newest, "{} at {at}, and not {newest:?} of {windows:?}", moment.point);
                let is_known = moment.is_base || proven.contains(&moment.point);
                assert!(is_known || !is_all_told, "{} at {at}, of which nobody said that it was proven", moment.point);
                let newest = moments.points().filter(|point| *point <= at).last();
                assert_eq!(Some(moment.point), newest, "at {at} of {windows:?}");
                assert_eq!(moments.resolve(at, true).is_ok(), at == moment.point);
                self.place.assert_right(&moments, &moment).await;
            }
        }
        for gap in windows.windows(2) {
            let at = between(&mut self.random, after(gap[0].end), gap[1].start);
            assert_eq!(moments.resolve(at, false).is_ok(), at == gap[1].start, "at {at} of {windows:?}");
        }
    }

    async fn write(&mut self, groups: Groups) {
        let deed = Deed::drawn(&mut self.random);
        self.author.does(&mut self.random, deed, groups).await;
    }
}

/// The points that segments prove: each proof speaks of points of its own segment, and of those that lead there.
fn proven(sealed: &[SegmentManifest]) -> BTreeSet<Timestamp> {
    let by_end: BTreeMap<Timestamp, &SegmentManifest> = sealed.iter().map(|segment| (segment.end(), segment)).collect();
    let mut proven = BTreeSet::new();
    for segment in sealed {
        for proof in &segment.proofs {
            let mut leading = Some(segment);
            while let Some(segment) = leading.filter(|segment| segment.end() >= proof.from) {
                proven.extend(segment.points.iter().copied().filter(|point| proof.covers(*point)));
                leading = by_end.get(&segment.after).copied();
            }
        }
    }
    proven
}

/// What happened: for whoever has to find out why a history is not what it should be, and what was sealed.
#[derive(Clone, Default)]
struct Tale {
    told: Arc<Mutex<Vec<String>>>,
    sealed: Arc<Mutex<Vec<SegmentManifest>>>,
}

impl Tale {
    fn note(&self, event: &CaptureEvent) {
        let told = match event {
            CaptureEvent::Sealed(segment) => {
                lock(&self.sealed).push(SegmentManifest::clone(segment));
                let SegmentManifest { after, kind, points, totals, .. } = &**segment;
                let points: Vec<_> = points.iter().map(ToString::to_string).collect();
                format!("sealed: {kind:?} after {after}: {points:?}, {totals:?}")
            }
            event => format!("{event:?}"),
        };
        self.say(told);
    }

    fn say(&self, told: String) {
        lock(&self.told).push(told);
    }

    /// The segments that captures said they had put.
    fn sealed(&self) -> Vec<SegmentManifest> {
        lock(&self.sealed).clone()
    }

    /// Why the database was read again.
    fn scans(&self) -> Vec<String> {
        let told = lock(&self.told);
        told.iter().filter(|told| told.starts_with("Scanning")).cloned().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for History {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let tale = lock(&self.tale.told).join("\n  ");
            eprintln!("FIREBACKUP_SEED={} ({:?}):\n  {tale}", self.seed, self.temper);
        }
    }
}
