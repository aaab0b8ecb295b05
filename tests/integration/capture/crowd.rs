//! Captures, backups, merges, restores and prunes, any number at once: whatever moment is listed can be put back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firebackup_engine::{
    Capture, Captured, Compaction, EngineError, GRACE_SECONDS, Moment, PrunePolicy, Stop, prune, synthesize,
};
use firebackup_model::Timestamp;
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;

use super::place::{Place, until_now};
use super::writer::Changes;
use crate::stage::emulator;

/// How often everybody goes to work. In between a day passes, so that prunes delete in one round what they marked in the one
/// before. Nobody is at work then, for whoever is would be told to begin anew, or find gone what was dropped a day ago.
const ROUNDS: u64 = 3;
/// How long everybody is at work in a round.
const BUSY: Duration = Duration::from_secs(5);
const MORE_THAN_THE_GRACE: i64 = GRACE_SECONDS + 3600;

/// More backups than are made while somebody looks for one and says that he reads it.
const KEPT: usize = 6;

/// From the second round on the clock is more than a day ahead of what is captured: then everything goes that the newest backup
/// does without.
fn policy() -> PrunePolicy {
    PrunePolicy { keep_last: Some(KEPT), keep_moments_days: 1, ..PrunePolicy::default() }
}

type Following = JoinHandle<firebackup_engine::Result<Captured>>;

fn follow(capture: Capture) -> (Stop, Following) {
    let stop = capture.stop.clone();
    (stop, tokio::spawn(async move { capture.follow(&mut |_| {}).await }))
}

struct Crowd {
    place: Place,
    is_over: AtomicBool,
}

/// What everybody's work came to.
#[derive(Debug, Default)]
struct Done {
    looked: usize,
    restored: usize,
    /// Of these, the ones of any moment, not of the newest.
    restored_any: usize,
    dropped: usize,
    deleted: u64,
    compacted: u64,
    synthesized: usize,
    incremented: usize,
}

impl Crowd {
    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    async fn end_in(&self, time: Duration) {
        tokio::time::sleep(time).await;
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Has everybody at work at once, until all have ended.
    async fn work(&self, round: u64, done: &mut Done) {
        self.is_over.store(false, Ordering::Relaxed);
        let following: Vec<_> = (0..2).map(|_| follow(self.place.capture())).collect();
        let ((dropped, deleted), (), (), (), looked, restored, compacted, synthesized, incremented) = tokio::join!(
            self.prune(),
            self.write(round),
            self.back_up(),
            self.end_in(BUSY),
            self.look(round),
            self.restore(round),
            self.compact(),
            self.synthesize(),
            self.increment(),
        );
        for (stop, following) in following {
            stop.request();
            following.await.unwrap().unwrap();
        }
        done.looked += looked;
        done.restored += restored.0 + restored.1;
        done.restored_any += restored.1;
        done.dropped += dropped;
        done.deleted += deleted;
        done.compacted += compacted;
        done.synthesized += synthesized;
        done.incremented += incremented;
    }

    async fn write(&self, seed: u64) {
        let (mut writer, mut random) = (self.place.writer(), StdRng::seed_from_u64(seed));
        for number in 1.. {
            let path = |random: &mut StdRng| format!("users/{}", random.random_range(0..20));
            let changes = Changes::default().put(path(&mut random), number).put("orders/newest", number);
            writer.commit(changes.delete(path(&mut random))).await;
            if !self.goes_on() {
                break;
            }
        }
    }

    async fn back_up(&self) {
        while self.goes_on() {
            self.place.backup().await;
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    }

    /// Says how many snapshots were dropped, and how many objects deleted.
    async fn prune(&self) -> (usize, u64) {
        let (mut dropped, mut deleted) = (0, 0);
        while self.goes_on() {
            let report = prune(&self.place.repository, &policy()).await.unwrap();
            dropped += report.dropped.len();
            deleted += report.deleted;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        (dropped, deleted)
    }

    /// Merges what was captured; says how many segments it made.
    async fn compact(&self) -> u64 {
        let mut made = 0;
        while self.goes_on() {
            tokio::time::sleep(Duration::from_millis(400)).await;
            let compaction = Compaction {
                repository: self.place.repository.clone(),
                database: self.place.database.clone(),
                meter: Arc::default(),
                stop: Stop::default(),
            };
            made += compaction.run().await.unwrap().made;
        }
        made
    }

    /// Merges the newest moments to full backups; says how many.
    async fn synthesize(&self) -> usize {
        let (repository, mut made) = (&self.place.repository, 0);
        while self.goes_on() {
            tokio::time::sleep(Duration::from_millis(900)).await;
            let moments = self.place.moments().await;
            let moment = moments.resolve(moments.points().last().unwrap(), true).unwrap();
            if moment.is_base {
                continue;
            }
            match synthesize(repository, &moments, &moment).unwrap().build().run().await {
                Ok(_) => made += 1,
                Err(error) => assert!(self.is_gone(&moment).await, "{moment:?}: {}", error.in_full()),
            }
        }
        made
    }

    /// Whether a prune was faster: it dropped what whoever wanted this moment had not yet said that it reads.
    async fn is_gone(&self, moment: &Moment) -> bool {
        let now = self.place.moments().await.resolve(moment.point, true).ok();
        now.as_ref() != Some(moment) || self.place.repository.is_dropped(&moment.base).await.unwrap()
    }

    /// Backs up what changed since the newest backup; says how often.
    async fn increment(&self) -> usize {
        let mut made = 0;
        while self.goes_on() {
            tokio::time::sleep(Duration::from_millis(800)).await;
            if let Some(manifest) = self.place.increment().await {
                self.place.assert_backed_up(&manifest).await;
                made += 1;
            }
        }
        made
    }

    /// Looks at moments as they are listed; says at how many.
    async fn look(&self, seed: u64) -> usize {
        let (mut random, mut looked) = (StdRng::seed_from_u64(seed), 0);
        while self.goes_on() {
            let moments = self.place.moments().await;
            let points: Vec<Timestamp> = moments.points().collect();
            let point = points[random.random_range(0..points.len())];
            self.place.assert_right(&moments, &moments.resolve(point, true).unwrap()).await;
            looked += 1;
        }
        looked
    }

    /// Puts back the newest moment and any of those that are listed, in turn, unless they go before; says how many of each.
    async fn restore(&self, round: u64) -> (usize, usize) {
        let (mut random, mut newest, mut any) = (StdRng::seed_from_u64(round), 0, 0);
        for number in 0.. {
            let moments = self.place.moments().await;
            let points: Vec<Timestamp> = moments.points().collect();
            let is_any = number % 2 == 1;
            let place = if is_any { random.random_range(0..points.len()) } else { points.len() - 1 };
            let moment = moments.resolve(points[place], true).unwrap();
            // round and number say which moment was drawn
            let into = format!("crowd-{round}-{number}");
            match self.place.restores(&moment, &into).await {
                Ok(()) if is_any => any += 1,
                Ok(()) => newest += 1,
                Err(EngineError::NotFound(_)) if self.is_gone(&moment).await => {}
                Err(error) => panic!("{into}, {moment:?}: {}", error.in_full()),
            }
            if !self.goes_on() {
                break;
            }
        }
        (newest, any)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_crowd_every_listed_moment_can_be_put_back() {
    let emulator = emulator().await;
    let place = Place::begun(emulator.host(), "crowd", Changes::default().put("users/1", 0)).await;
    let mut crowd = Crowd { place, is_over: AtomicBool::new(false) };
    let mut done = Done::default();
    crowd.work(1, &mut done).await;
    let first: Vec<Timestamp> = crowd.place.moments().await.points().collect();
    for round in 2..=ROUNDS {
        crowd.place.clock.jump(MORE_THAN_THE_GRACE);
        crowd.work(round, &mut done).await;
    }
    crowd.place.clock.jump(MORE_THAN_THE_GRACE);
    assert!(done.looked > 20 && done.restored > 2 && done.restored_any > 0, "{done:?}");
    assert!(done.compacted > 0 && done.synthesized > 0 && done.incremented > 0, "{done:?}");
    assert!(done.dropped > 0 && done.deleted > 0, "{done:?}");
    // opened anew: keys that a prune took away too early may still be known to who wrote with them
    crowd.place.repository = crowd.place.open(crowd.place.store.clone()).await.unwrap();
    until_now(&crowd.place.capture()).await;
    // what nothing refers to goes, and nothing that a moment needs
    let pruned = prune(&crowd.place.repository, &policy()).await.unwrap();
    assert!(pruned.deleted > 0, "{pruned:?}");
    let moments = crowd.place.assert_all_right().await;
    assert!(moments.points().last() >= Some(crowd.place.oracle.last_commit()));
    // a segment that another one is read in place of takes no moment with it
    let left = moments.points().filter(|point| first.contains(point)).count();
    assert!(first.len() > 2 * KEPT && left <= KEPT, "of {} moments of the first round {left} are left", first.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn captures_of_one_database_do_not_fork_its_chain() {
    let emulator = emulator().await;
    let place = Place::begun(emulator.host(), "race", Changes::default().put("users/1", 0)).await;
    let mut writer = place.writer();
    for number in 1..12 {
        writer.commit(Changes::default().put("users/1", number).put("users/2", number)).await;
        let captures: Vec<_> = (0..4).map(|_| place.capture()).collect();
        join_all(captures.iter().map(until_now)).await;
    }
    let moments = place.assert_all_right().await;
    assert_eq!(moments.windows().len(), 1);
    assert!(moments.points().count() >= 12);
}
