//! What somebody writes, drawn at random: documents come, change, move and go, alone and many together.

use std::collections::BTreeSet;

use firebackup_model::Timestamp;
use firebackup_testkit::proxy::Control;
use rand::RngExt;
use rand::rngs::StdRng;

use super::writer::{Changes, Writer};

/// There from the start.
const OLD: [&str; 3] = ["orders", "users", "zoo"];
/// Nobody has heard of these at the start.
const NEW: [&str; 4] = ["alpha", "fresh", "late", "yet"];
/// A document that stays, in each new collection group: one that is empty again before anybody has looked was never
/// seen, which is the one thing that counts cannot tell.
const ANCHOR: &str = "anchor";
/// How many documents a collection may have, but for those of bursts and those that were moved.
const IDS: u32 = 8;

/// Where something is done.
#[derive(Debug, Clone, Copy)]
pub enum Groups {
    Old,
    New,
    Any,
}

/// What is done.
#[derive(Debug, Clone, Copy)]
pub enum Deed {
    /// A document is put or deleted.
    One,
    /// Several are, in one commit.
    Several,
    /// Several are, in a transaction that has read another.
    Transaction,
    /// A document is there for a moment.
    Passing,
    /// A document is gone for a moment.
    Recreation,
    /// A document goes to another collection, in one commit.
    Rename,
    /// Many documents are written at one time.
    Burst,
}

impl Deed {
    pub fn drawn(random: &mut StdRng) -> Self {
        match random.random_range(0..10u32) {
            0..4 => Self::One,
            4 => Self::Several,
            5 => Self::Transaction,
            6 => Self::Passing,
            7 => Self::Recreation,
            8 => Self::Rename,
            _ => Self::Burst,
        }
    }
}

pub struct Author {
    pub writer: Writer,
    number: i64,
    /// The new collection groups that were written to.
    begun: BTreeSet<&'static str>,
    /// What may say nothing of a new one for a while.
    hiding: Option<Control>,
}

impl Author {
    pub fn new(writer: Writer, hiding: Option<Control>) -> Self {
        Self { writer, number: 0, begun: BTreeSet::new(), hiding }
    }

    pub async fn does(&mut self, random: &mut StdRng, deed: Deed, groups: Groups) {
        match deed {
            Deed::One => self.change_some(random, groups, 1).await,
            Deed::Several => {
                let documents = random.random_range(2..6u32);
                self.change_some(random, groups, documents).await;
            }
            Deed::Transaction => self.transact(random, groups).await,
            Deed::Passing => self.come_and_go(random, groups, false).await,
            Deed::Recreation => self.come_and_go(random, groups, true).await,
            Deed::Rename => self.rename(random, groups).await,
            Deed::Burst => self.burst(random, groups).await,
        }
    }

    /// Puts one document with a number that none had; says when that was.
    pub async fn put(&mut self, path: &str) -> Timestamp {
        let changes = Changes::default().put(path, self.next());
        self.writer.commit(changes).await
    }

    /// Puts all documents of the old collections, so that what is moved or deleted was there.
    pub async fn fill(&mut self) {
        let mut changes = Changes::default();
        for group in OLD {
            for id in 0..IDS {
                for place in 0..3 {
                    changes = changes.put(path_in(group, id, place), self.next());
                }
            }
        }
        self.writer.commit(changes).await;
    }

    async fn change_some(&mut self, random: &mut StdRng, groups: Groups, documents: u32) {
        let mut changes = Changes::default();
        for _ in 0..documents {
            changes = self.change(random, changes, groups);
        }
        self.writer.commit(changes).await;
    }

    async fn transact(&mut self, random: &mut StdRng, groups: Groups) {
        let mut changes = Changes::default();
        for _ in 0..3 {
            changes = self.change(random, changes, groups);
        }
        let read = path(random, "users");
        self.writer.transact(&read, changes).await;
    }

    async fn come_and_go(&mut self, random: &mut StdRng, groups: Groups, does_stay: bool) {
        let mut first = Changes::default();
        let group = self.group(random, groups, &mut first);
        let path = path(random, group);
        let (put, gone) = (Changes::default().put(&path, self.next()), Changes::default().delete(&path));
        if !first.is_empty() {
            self.writer.commit(first).await;
        }
        for changes in if does_stay { [gone, put] } else { [put, gone] } {
            self.writer.commit(changes).await;
        }
    }

    async fn rename(&mut self, random: &mut StdRng, groups: Groups) {
        let mut changes = Changes::default();
        let (from, to) = (self.group(random, groups, &mut changes), self.group(random, groups, &mut changes));
        let to = if to == from { other_than(from) } else { to };
        let id = random.random_range(0..IDS);
        let changes = changes.delete(format!("{from}/{id}")).put(format!("{to}/{id}-moved"), self.next());
        self.writer.commit(changes).await;
    }

    async fn burst(&mut self, random: &mut StdRng, groups: Groups) {
        let mut first = Changes::default();
        let group = self.group(random, groups, &mut first);
        if !first.is_empty() {
            self.writer.commit(first).await;
        }
        let changes = (0..random.random_range(5..15u32)).map(|id| {
            let (mut writer, number) = (self.writer.clone(), self.next());
            async move { writer.commit(Changes::default().put(format!("{group}/burst-{id}"), number)).await }
        });
        let changes: Vec<_> = changes.collect();
        futures::future::join_all(changes).await;
    }

    fn change(&mut self, random: &mut StdRng, mut changes: Changes, groups: Groups) -> Changes {
        let group = self.group(random, groups, &mut changes);
        let path = path(random, group);
        match random.random_range(0..3u32) {
            0 => changes.delete(path),
            _ => changes.put_padded(path, self.next(), random.random_range(0..300)),
        }
    }

    fn next(&mut self) -> i64 {
        self.number += 1;
        self.number
    }

    /// A collection group; one that is new begins with the document that stays, and may not be told of for a while.
    fn group(&mut self, random: &mut StdRng, groups: Groups, changes: &mut Changes) -> &'static str {
        let is_old = match groups {
            Groups::Old => true,
            Groups::New => false,
            Groups::Any => random.random_ratio(2, 3),
        };
        if is_old {
            return OLD[random.random_range(0..OLD.len())];
        }
        let group = NEW[random.random_range(0..NEW.len())];
        if self.begun.insert(group) {
            *changes = std::mem::take(changes).put(format!("{group}/{ANCHOR}"), self.next());
            if let Some(control) = &self.hiding
                && random.random()
            {
                control.hide_group(group);
            }
        }
        group
    }
}

fn other_than(group: &str) -> &'static str {
    if group == OLD[0] { OLD[1] } else { OLD[0] }
}

fn path(random: &mut StdRng, group: &str) -> String {
    let id = random.random_range(0..IDS);
    path_in(group, id, random.random_range(0..5))
}

/// In the collection, below a document that may not be there, or below one that is deep.
fn path_in(group: &str, id: u32, place: u32) -> String {
    match place {
        0 => format!("users/{id}/{group}/{id}"),
        1 => format!("nowhere/{id}/{group}/x"),
        _ => format!("{group}/{id}"),
    }
}
