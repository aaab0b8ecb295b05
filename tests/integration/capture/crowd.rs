//! Captures, backups, restores and prunes, any number at once: whatever moment is listed can be put back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firebackup_engine::{Capture, Captured, PrunePolicy, Stop, prune};
use firebackup_model::Timestamp;
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;

use super::place::{Place, until_now};
use super::writer::Changes;
use crate::stage::emulator;

/// How long everybody is at work.
const BUSY: Duration = Duration::from_secs(12);
const GRACE_SECONDS: i64 = 49 * 3600;

type Following = JoinHandle<firebackup_engine::Result<Captured>>;

fn follow(capture: Capture) -> (Stop, Following) {
    let stop = capture.stop.clone();
    (stop, tokio::spawn(async move { capture.follow(&mut |_| {}).await }))
}

struct Crowd {
    place: Place,
    is_over: AtomicBool,
}

impl Crowd {
    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    async fn end_in(&self, time: Duration) {
        tokio::time::sleep(time).await;
        self.is_over.store(true, Ordering::Relaxed);
    }

    async fn write(&self) {
        let (mut writer, mut random) = (self.place.writer(), StdRng::seed_from_u64(1));
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

    /// Says how many snapshots were dropped.
    async fn prune(&self) -> usize {
        let policy = PrunePolicy { keep_last: Some(2), ..PrunePolicy::default() };
        let mut dropped = 0;
        while self.goes_on() {
            dropped += prune(&self.place.repository, &policy).await.unwrap().dropped.len();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        dropped
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

    /// Puts the newest moments back, which no prune drops; says how many.
    async fn restore(&self) -> usize {
        let mut restored = 0;
        while self.goes_on() {
            let moments = self.place.moments().await;
            let newest = moments.points().last().unwrap();
            let moment = moments.resolve(newest, true).unwrap();
            self.place.assert_restores(&moment, &format!("crowd-{restored}")).await;
            restored += 1;
        }
        restored
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_crowd_every_listed_moment_can_be_put_back() {
    let emulator = emulator().await;
    let place = Place::begun(emulator.host(), "crowd", Changes::default().put("users/1", 0)).await;
    let following: Vec<_> = (0..2).map(|_| follow(place.capture())).collect();
    let crowd = Crowd { place, is_over: AtomicBool::new(false) };
    let ((), (), (), dropped, looked, restored) = tokio::join!(
        crowd.write(),
        crowd.back_up(),
        crowd.end_in(BUSY),
        crowd.prune(),
        crowd.look(1),
        crowd.restore(),
    );
    for (stop, following) in following {
        stop.request();
        following.await.unwrap().unwrap();
    }
    until_now(&crowd.place.capture()).await;
    assert!(looked > 20 && restored > 2, "{looked} looked at, {restored} restored, {dropped} dropped");
    // what nothing refers to goes now, and nothing that a moment needs
    let mut deleted = 0;
    for _ in 0..2 {
        let policy = PrunePolicy { keep_last: Some(2), ..PrunePolicy::default() };
        deleted += prune(&crowd.place.repository, &policy).await.unwrap().deleted;
        crowd.place.clock.jump(GRACE_SECONDS);
    }
    assert!(deleted > 0, "{dropped} snapshots were dropped, and what was theirs stays");
    let moments = crowd.place.assert_all_right().await;
    assert!(moments.points().last() >= Some(crowd.place.oracle.last_commit()));
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
