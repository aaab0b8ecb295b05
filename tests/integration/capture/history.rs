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

use super::events::Events;
use super::place::{Place, between, until_now};
use super::trouble::{self, Temper};
use super::writer::{Changes, Writer};

/// There from the start.
const OLD: [&str; 3] = ["orders", "users", "zoo"];
/// Nobody has heard of these at the start.
const NEW: [&str; 4] = ["alpha", "fresh", "late", "yet"];
/// A document that stays, in each new collection group: one that is empty again before anybody has looked was never
/// seen, which is the one thing that counts cannot tell.
const ANCHOR: &str = "anchor";
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
    writer: Writer,
    number: i64,
    /// The new collection groups that were written to.
    begun: BTreeSet<&'static str>,
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
        let (writer, begun, running) = (place.writer(), BTreeSet::new(), Vec::new());
        let (events, tale) = (Events::default(), Tale::default());
        let mut history =
            Self { place, seed, random, temper, writer, number: 0, begun, running, events, tale, proves_rarely };
        for _ in 0..history.random.random_range(1..6u32) {
            history.write(Self::old).await;
        }
        history.writer.commit(Changes::default().put("users/first", 0)).await;
        history.place.backup().await;
        history
    }

    /// Something goes wrong, captures begin and end, and in between there is writing.
    async fn go_on(&mut self) {
        trouble::stir(&mut self.random, self.place.proxy.control(), self.temper);
        self.turn_captures().await;
        for _ in 0..self.random.random_range(0..8u32) {
            self.write(Self::any).await;
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
        self.writer.commit(Changes::default().put("users/last", 0)).await;
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
        let is_all_told = self.place.segments().await == sealed.len();
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

    async fn write(&mut self, group: fn(&mut Self, &mut Changes) -> &'static str) {
        let mut changes = Changes::default();
        match self.random.random_range(0..10u32) {
            0..4 => changes = self.change(changes, group),
            4 => {
                for _ in 0..self.random.random_range(2..6u32) {
                    changes = self.change(changes, group);
                }
            }
            5 => return self.transact(group).await,
            6 => return self.come_and_go(group, false).await,
            7 => return self.come_and_go(group, true).await,
            8 => return self.rename(group).await,
            _ => return self.burst(group).await,
        }
        self.writer.commit(changes).await;
    }

    /// Reads a document and changes others with it.
    async fn transact(&mut self, group: fn(&mut Self, &mut Changes) -> &'static str) {
        let mut changes = Changes::default();
        for _ in 0..3 {
            changes = self.change(changes, group);
        }
        let read = self.path("users");
        self.writer.transact(&read, changes).await;
    }

    /// A document is there for a moment, or is gone for one.
    async fn come_and_go(&mut self, group: fn(&mut Self, &mut Changes) -> &'static str, does_stay: bool) {
        let mut first = Changes::default();
        let group = group(self, &mut first);
        let path = self.path(group);
        let (put, gone) = (Changes::default().put(&path, self.next()), Changes::default().delete(&path));
        if !first.is_empty() {
            self.writer.commit(first).await;
        }
        for changes in if does_stay { [gone, put] } else { [put, gone] } {
            self.writer.commit(changes).await;
        }
    }

    /// A document goes to another collection, in one commit.
    async fn rename(&mut self, group: fn(&mut Self, &mut Changes) -> &'static str) {
        let mut changes = Changes::default();
        let (from, to) = (group(self, &mut changes), group(self, &mut changes));
        let id = self.random.random_range(0..8u32);
        let changes = changes.delete(format!("{from}/{id}")).put(format!("{to}/{id}-moved"), self.next());
        self.writer.commit(changes).await;
    }

    /// Many documents are written at one time.
    async fn burst(&mut self, group: fn(&mut Self, &mut Changes) -> &'static str) {
        let mut first = Changes::default();
        let group = group(self, &mut first);
        if !first.is_empty() {
            self.writer.commit(first).await;
        }
        let changes = (0..self.random.random_range(5..15u32)).map(|id| {
            let (mut writer, number) = (self.writer.clone(), self.next());
            async move { writer.commit(Changes::default().put(format!("{group}/burst-{id}"), number)).await }
        });
        let changes: Vec<_> = changes.collect();
        futures::future::join_all(changes).await;
    }

    fn change(&mut self, mut changes: Changes, group: fn(&mut Self, &mut Changes) -> &'static str) -> Changes {
        let group = group(self, &mut changes);
        let path = self.path(group);
        match self.random.random_range(0..3u32) {
            0 => changes.delete(path),
            _ => changes.put_padded(path, self.next(), self.random.random_range(0..300)),
        }
    }

    fn next(&mut self) -> i64 {
        self.number += 1;
        self.number
    }

    /// In the collection, below a document that may not be there, or below one that is deep.
    fn path(&mut self, group: &str) -> String {
        let id = self.random.random_range(0..8u32);
        match self.random.random_range(0..5u32) {
            0 => format!("users/{id}/{group}/{id}"),
            1 => format!("nowhere/{id}/{group}/x"),
            _ => format!("{group}/{id}"),
        }
    }

    fn old(&mut self, _: &mut Changes) -> &'static str {
        OLD[self.random.random_range(0..OLD.len())]
    }

    /// A collection group; one that is new begins with the document that stays, and may not be told of for a while.
    fn any(&mut self, changes: &mut Changes) -> &'static str {
        if self.random.random_ratio(2, 3) {
            return self.old(changes);
        }
        let group = NEW[self.random.random_range(0..NEW.len())];
        if self.begun.insert(group) {
            *changes = std::mem::take(changes).put(format!("{group}/{ANCHOR}"), self.next());
            if self.random.random() {
                self.place.proxy.control().hide_group(group);
            }
        }
        group
    }
}

/// The first moment behind another.
const fn after(moment: Timestamp) -> Timestamp {
    match moment.nanos {
        999_999_999 => Timestamp::new(moment.seconds + 1, 0),
        nanos => Timestamp::new(moment.seconds, nanos + 1),
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
