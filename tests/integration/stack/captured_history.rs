//! A random history that the stack captures: smaller than those of `capture`, and of the same deeds. Whoever writes notes
//! what was committed when, and no time may be put back as anything else.
//!
//! `FIREBACKUP_SEED` has another one happen.

use std::collections::BTreeSet;
use std::sync::Arc;

use firebackup_codec::canonical::canonical;
use firebackup_model::{DatabaseName, Timestamp, document};
use firebackup_testkit::proxy::Control;
use firebackup_testkit::{AwsCall, AwsFault};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tonic::Code;

use super::api::path_of;
use super::captures::{Captured, GOOGLE};
use super::deployed::BOUND;
use super::journey::cli;
use crate::capture::author::{Author, Deed, Groups};
use crate::capture::histories::number;
use crate::capture::oracle::{Oracle, contents};
use crate::capture::place::{after, between};
use crate::capture::trouble::{self, Temper};
use crate::capture::writer::Writer;
use crate::stage::{self, read_all};

const SEED: u64 = 14;
/// What every history has, round by round, besides what is drawn. Of the first one the changes are lost, and the database is
/// read instead.
const DEEDS: [[(Deed, Groups); 2]; 4] = [
    [(Deed::Burst, Groups::New), (Deed::Several, Groups::Old)],
    [(Deed::Rename, Groups::Old), (Deed::Recreation, Groups::Old)],
    [(Deed::Transaction, Groups::Any), (Deed::Rename, Groups::New)],
    [(Deed::Passing, Groups::Old), (Deed::Burst, Groups::Any)],
];
/// Windows until one goes on from a token: one that finds new collections leaves none behind.
const UNTIL_LOST: u32 = 4;
/// Every stream says more messages than these: two for each collection group.
const SAID: u64 = 8;

struct History<'a> {
    all: &'a Captured,
    seed: u64,
    random: StdRng,
    author: Author,
    oracle: Arc<Oracle>,
    /// What must be moments at the end.
    heard: Vec<Timestamp>,
    /// For whoever has to find out why it is not what it should be.
    tale: Vec<String>,
}

/// Lets one happen, and puts back some times of it. What the database holds at its start is its oracle's first state.
pub async fn happens(all: &Captured) {
    let oracle = Arc::new(Oracle::default());
    for (path, bytes) in read_all(&all.source).await {
        let updated = document::head(&bytes).unwrap().update_time.unwrap();
        oracle.note(path, Some((canonical(&bytes).unwrap(), updated)), updated);
    }
    let database = DatabaseName::new(GOOGLE, "(default)");
    let writer = Writer::new(&all.stack.google_proxy.host(), &database, Arc::clone(&oracle));
    let seed = number("FIREBACKUP_SEED").unwrap_or(SEED);
    let (random, author) = (StdRng::seed_from_u64(seed), Author::new(writer, None));
    let mut history = History { all, seed, random, author, oracle, heard: Vec::new(), tale: Vec::new() };
    history.happen().await;
}

impl<'a> History<'a> {
    async fn happen(&mut self) {
        self.author.fill().await;
        let start = self.captured_whole("history").await;
        let control = self.control();
        trouble::set_up(&mut self.random, control);
        for (round, deeds) in DEEDS.into_iter().enumerate() {
            self.write(deeds).await;
            self.throttle();
            match round {
                0 => self.lose_token().await,
                1 => self.cut_stream().await,
                _ => {
                    trouble::stir(&mut self.random, control, Temper::Gentle);
                    self.capture(&format!("round-{round}")).await;
                }
            }
        }
        self.all.stack.aws_proxy.faults().clear();
        control.clear_faults();
        let end = self.captured_whole("history-end").await;
        self.assert_right(start, end).await;
    }

    fn control(&self) -> &'a Control {
        self.all.stack.google_proxy.control()
    }

    /// Every time is put back as what there was, but for those between the end of what was captured before the token was lost and
    /// the moment at which the database was read.
    async fn assert_right(&mut self, start: Timestamp, end: Timestamp) {
        let (lost, found) = self.all.only_gap().await;
        assert!(start <= lost && found < end, "lost between {lost} and {found}, and not between {start} and {end}");
        let moments = self.moments().await;
        for proven in self.heard.iter().copied().chain([start, lost, found, end]) {
            assert!(moments.contains(&proven), "{proven} was captured and is no moment: {moments:?}");
        }
        let random = &mut self.random;
        let unknown = between(random, after(lost), found);
        let times = [lost, between(random, found, end), between(random, found, end)];
        for at in times {
            self.assert_put_back(at, &moments).await;
        }
        let refused = self.all.stack.api.refused("/pitr/restore", &self.asked(unknown)).await;
        assert_eq!(refused, (422, "MOMENT_UNAVAILABLE".to_owned()), "{unknown} lies between {lost} and {found}");
    }

    /// Every moment, as somebody finds it in the repository who asks nobody of the stack.
    async fn moments(&self) -> BTreeSet<Timestamp> {
        let Captured { stack, project, .. } = self.all;
        let (line, keys) = (["pitr", "windows", "--moments", "--limit", "100000"], ["--kms", stack.output("KeyArn")]);
        let told = cli(stack, (GOOGLE, project), &line, &keys).await;
        let newest = told["newest"].as_array().unwrap().iter();
        newest.map(|moment| moment.as_str().unwrap().parse().unwrap()).collect()
    }

    /// Waits until everything that was committed is proven, a collection that is new and only below a document among it.
    async fn captured_whole(&mut self, id: &str) -> Timestamp {
        self.author.put(&format!("users/last/{id}/0")).await;
        let last = self.author.put("users/last").await;
        self.all.is_due().await;
        self.all.send(id).await;
        self.all.proven(last).await
    }

    async fn write(&mut self, deeds: [(Deed, Groups); 2]) {
        for (deed, groups) in deeds {
            self.does(deed, groups).await;
        }
        for _ in 0..self.random.random_range(0..4u32) {
            let deed = Deed::drawn(&mut self.random);
            self.does(deed, Groups::Any).await;
        }
    }

    async fn does(&mut self, deed: Deed, groups: Groups) {
        self.tale.push(format!("{deed:?} of {groups:?}"));
        self.author.does(&mut self.random, deed, groups).await;
    }

    /// Some calls of a service are throttled from now on, or none.
    fn throttle(&mut self) {
        let faults = self.all.stack.aws_proxy.faults();
        faults.clear();
        let troubles: [&str; 3] = ["none", "s3", "dynamodb"];
        let troubled = troubles[self.random.random_range(0..troubles.len())];
        let mut random = StdRng::seed_from_u64(self.random.random());
        faults.strike(move |call: &AwsCall| {
            (call.service == troubled && random.random_ratio(1, 12)).then_some(AwsFault::Throttle)
        });
        self.tale.push(format!("throttled: {troubled}"));
    }

    /// Has a window captured: told once, once more, or twice at one time.
    async fn capture(&mut self, id: &str) {
        self.tale.push(format!("captured: {id}"));
        self.all.is_due().await;
        match self.random.random_range(0..3u32) {
            0 => self.all.twice_at_once().await,
            1 => {
                self.all.send(id).await;
                self.all.send(&format!("{id}-again")).await;
            }
            _ => self.all.send(id).await,
        }
    }

    /// The stream cannot be gone on from where it was: the database is read.
    async fn lose_token(&mut self) {
        let control = self.control();
        let resets = control.counts().resets;
        for window in 0..UNTIL_LOST {
            control.forget_tokens();
            let last = self.author.put("users/lost").await;
            self.capture(&format!("lost-{window}")).await;
            self.all.captured(last).await;
            if control.counts().resets > resets {
                return;
            }
        }
        panic!("no window went on from a token that was lost");
    }

    /// The stream breaks in the middle, and another one goes on from there.
    async fn cut_stream(&mut self) {
        let control = self.control();
        let broken = control.counts().injected;
        control.cut_listens_after(self.random.random_range(0..SAID), Code::Unavailable, 1);
        let last = self.author.put("users/cut").await;
        self.capture("cut").await;
        let through = self.all.captured(last).await;
        self.heard.push(through);
        assert!(control.counts().injected > broken, "no stream was cut");
    }

    fn asked(&self, at: Timestamp) -> Value {
        json!({"projectId": self.all.project, "pointInTime": at, "mode": "mirror"})
    }

    /// What is put back is the database at the newest consistent point at or before the time, and that is said to be it.
    async fn assert_put_back(&self, at: Timestamp, moments: &BTreeSet<Timestamp>) {
        let api = &self.all.stack.api;
        let restore = api.post("/pitr/restore", self.asked(at)).await;
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

impl Drop for History<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("FIREBACKUP_SEED={}:\n  {}", self.seed, self.tale.join("\n  "));
        }
    }
}
