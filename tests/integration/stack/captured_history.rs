//! A random history that the stack captures. Whoever writes notes what was committed when, and no time may be put back as anything
//! else.

use std::collections::BTreeSet;
use std::sync::Arc;

use firebackup_codec::canonical::canonical;
use firebackup_model::{DatabaseName, Timestamp, document};
use firebackup_testkit::{AwsCall, AwsFault};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use super::api::path_of;
use super::captures::{Captured, GOOGLE};
use super::deployed::BOUND;
use super::journey::cli;
use crate::capture::oracle::{Oracle, contents};
use crate::capture::place::between;
use crate::capture::writer::{Changes, Writer};
use crate::stage::{self, read_all};

const GROUPS: [&str; 3] = ["users", "orders", "fresh"];
const ROUNDS: u32 = 4;
const RESTORED: u32 = 2;

struct History<'a> {
    all: &'a Captured,
    random: StdRng,
    writer: Writer,
    oracle: Arc<Oracle>,
    number: i64,
}

/// Lets one happen, and puts back some times of it. What the database holds at its start is its oracle's first state.
pub async fn happens(all: &Captured, seed: u64) {
    let oracle = Arc::new(Oracle::default());
    for (path, bytes) in read_all(&all.source).await {
        let updated = document::head(&bytes).unwrap().update_time.unwrap();
        oracle.note(path, Some((canonical(&bytes).unwrap(), updated)), updated);
    }
    let database = DatabaseName::new(GOOGLE, "(default)");
    let writer = Writer::new(&all.stack.google_proxy.host(), &database, Arc::clone(&oracle));
    let mut history = History { all, random: StdRng::seed_from_u64(seed), writer, oracle, number: 1000 };
    history.happen().await;
}

impl History<'_> {
    async fn happen(&mut self) {
        let start = self.captured_whole("history").await;
        let faults = self.all.stack.aws_proxy.faults();
        for round in 0..ROUNDS {
            for _ in 0..self.random.random_range(1..7u32) {
                self.write().await;
            }
            faults.clear();
            let troubles: [&str; 3] = ["none", "s3", "dynamodb"];
            let troubled = troubles[self.random.random_range(0..troubles.len())];
            let mut random = StdRng::seed_from_u64(self.random.random());
            faults.strike(move |call: &AwsCall| {
                (call.service == troubled && random.random_ratio(1, 12)).then_some(AwsFault::Throttle)
            });
            self.all.is_due().await;
            match self.random.random_range(0..3u32) {
                0 => self.all.twice_at_once().await,
                1 => {
                    self.all.send(&format!("round-{round}")).await;
                    self.all.send(&format!("round-{round}-again")).await;
                }
                _ => self.all.send(&format!("round-{round}")).await,
            }
        }
        faults.clear();
        let end = self.captured_whole("history-end").await;
        self.all.assert_no_gap().await;
        let moments = self.moments().await;
        for proven in [start, end] {
            assert!(moments.contains(&proven), "{proven} was said to be proven: {moments:?}");
        }
        for _ in 0..RESTORED {
            let at = between(&mut self.random, start, end);
            self.assert_put_back(at, &moments).await;
        }
    }

    /// Every moment, as somebody finds it in the repository who asks nobody of the stack.
    async fn moments(&self) -> BTreeSet<Timestamp> {
        let Captured { stack, project, .. } = self.all;
        let (line, keys) = (["pitr", "windows", "--moments", "--limit", "100000"], ["--kms", stack.output("KeyArn")]);
        let told = cli(stack, (GOOGLE, project), &line, &keys).await;
        let newest = told["newest"].as_array().unwrap().iter();
        newest.map(|moment| moment.as_str().unwrap().parse().unwrap()).collect()
    }

    /// Waits until everything that was committed is proven.
    async fn captured_whole(&mut self, id: &str) -> Timestamp {
        let last = self.write().await;
        self.all.is_due().await;
        self.all.send(id).await;
        self.all.proven(last).await
    }

    async fn write(&mut self) -> Timestamp {
        let mut changes = Changes::default();
        for _ in 0..self.random.random_range(1..4u32) {
            let group = GROUPS[self.random.random_range(0..GROUPS.len())];
            let path = format!("{group}/{}", self.random.random_range(0..6u32));
            self.number += 1;
            changes = match self.random.random_range(0..3u32) {
                0 => changes.delete(path),
                _ => changes.put(path, self.number),
            };
        }
        // a group that is empty again before anybody looks is the one thing that counts cannot tell
        self.writer.commit(changes.put("fresh/anchor", self.number)).await
    }

    /// What is put back is the database at the newest consistent point at or before the time, and that is said to be it.
    async fn assert_put_back(&self, at: Timestamp, moments: &BTreeSet<Timestamp>) {
        let api = &self.all.stack.api;
        let asked = json!({"projectId": self.all.project, "pointInTime": at, "mode": "mirror"});
        let restore = api.post("/pitr/restore", asked).await;
        let point: Timestamp = restore["moment"]["consistentPoint"].as_str().unwrap().parse().unwrap();
        assert_eq!(Some(&point), moments.range(..=at).next_back(), "{restore:#}");
        let done = api.reaches(&path_of(&restore), &["completed"], BOUND).await;
        assert_eq!(done["result"]["failed"], 0, "{done:#}");
        let restored = stage::contents(&read_all(&self.all.source).await);
        let expected = contents(&self.oracle.at(point));
        let is_same = restored.iter().map(|(path, content)| (path, content.as_slice()));
        assert!(
            is_same.eq(expected.iter().map(|(path, content)| (path, content.as_ref()))),
            "{at} was put back as something else than what was there at {point}"
        );
    }
}
