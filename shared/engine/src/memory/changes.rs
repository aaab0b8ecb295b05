//! Listening to a database in memory: changes since a moment, coalesced, then a point; with what goes wrong in production.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use firebackup_model::document::RawDocument;
use firebackup_model::port::{Change, ChangeSource, ChangeStream, DocumentStream, ListenFrom};
use firebackup_model::{DocumentPath, ErrorKind, PathRange, PortError, Timestamp};
use futures::{StreamExt, stream};
use tokio::sync::watch;

use super::{MemoryDatabase, State, Version, at};

/// How often a stream says that it lives, where it does.
const HEARTBEAT: Duration = Duration::from_millis(50);

/// What goes wrong with streams of changes. Whoever sets it calls [`MemoryDatabase::tell`] for it to be noticed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListenFaults {
    /// Nothing is told, not even points.
    pub is_silent: bool,
    /// Whether it is said all the time that the stream lives, also where nothing else is.
    pub has_heartbeats: bool,
    /// Changes of these groups are not told.
    pub hidden: BTreeSet<String>,
    /// Whether before each point the documents of each group are counted.
    pub has_filters: bool,
    /// How many streams end with this from now on, between a change and its point.
    pub breaks: Vec<ErrorKind>,
    /// How many streams are reset from now on.
    pub resets: u32,
    /// Tokens and read times before this are not known any more.
    pub forgotten_before: Timestamp,
    /// Deletions that happened while nobody listened are not told.
    pub swallows_deletions: bool,
    /// Nothing is told of documents that came and went between two points.
    pub is_terse: bool,
    /// How many groups are counted before no count is answered any more but with this.
    pub counts: Option<(u32, CountFault)>,
}

/// What comes of a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountFault {
    /// It fails, and may be tried again.
    Unavailable,
    /// Nothing, for ever.
    Silence,
}

impl MemoryDatabase {
    /// Whether this count is answered, and if not, with what.
    fn count_fault(&self) -> Option<CountFault> {
        let mut state = self.lock();
        let (left, fault) = state.faults.counts.as_mut()?;
        let is_answered = *left > 0;
        *left = left.saturating_sub(1);
        (!is_answered).then_some(*fault)
    }

    /// Changes what goes wrong.
    pub fn listen_faults(&self, change: impl FnOnce(&mut ListenFaults)) {
        change(&mut self.lock().faults);
    }

    /// Tells all listeners what has changed since they were told last, and that this is a consistent point.
    pub fn tell(&self) {
        let mut state = self.lock();
        state.now = super::tick(state.now);
        state.told.send_replace(state.now);
    }
}

struct Listener {
    database: MemoryDatabase,
    groups: BTreeSet<String>,
    through: Timestamp,
    told: watch::Receiver<Timestamp>,
    is_first: bool,
    queue: VecDeque<Result<Change, PortError>>,
}

impl Listener {
    async fn next(&mut self) -> Option<Result<Change, PortError>> {
        loop {
            if let Some(change) = self.queue.pop_front() {
                return Some(change);
            }
            if !self.is_first {
                let has_heartbeats = self.database.lock().faults.has_heartbeats;
                let patience = if has_heartbeats { HEARTBEAT } else { Duration::MAX };
                match tokio::time::timeout(patience, self.told.changed()).await {
                    Ok(changed) => changed.ok()?,
                    Err(_) => return Some(Ok(Change::Alive)),
                }
            }
            let until = *self.told.borrow_and_update();
            self.look(until);
            self.is_first = false;
        }
    }

    fn look(&mut self, until: Timestamp) {
        let database = self.database.clone();
        let mut state = database.lock();
        if state.faults.is_silent || until < self.through {
            return;
        }
        if state.faults.resets > 0 || self.is_first && self.through < state.faults.forgotten_before {
            state.faults.resets = state.faults.resets.saturating_sub(1);
            self.queue.extend(self.groups.iter().map(|group| Ok(Change::Reset { group: group.clone() })));
            return;
        }
        let swallows = self.is_first && state.faults.swallows_deletions;
        let changes = self.changes(&state, until);
        self.queue.extend(changes.into_iter().filter(|change| !swallows || matches!(change, Change::Put(_))).map(Ok));
        if let Some(kind) = state.faults.breaks.pop() {
            self.queue.push_back(Err(PortError::new(kind, "listen", "broken on purpose")));
            return;
        }
        if state.faults.has_filters || swallows {
            let counts = self.counts(&state, until);
            let filter = |(group, documents)| Ok(Change::Filter { group, documents });
            self.queue.extend(counts.into_iter().map(filter));
        }
        self.through = until;
        let token = Bytes::from(until.to_string());
        self.queue.push_back(Ok(Change::Point { read_time: until, token: Some(token) }));
    }

    /// What is different at `until` from what was told last; a deletion of what was never told too.
    fn changes(&self, state: &State, until: Timestamp) -> Vec<Change> {
        let heard = |path: &&DocumentPath| {
            let group = path.collection_group();
            self.groups.contains(group) && !state.faults.hidden.contains(group)
        };
        let documents = state.documents.iter().filter(|(path, _)| heard(path));
        let changed = documents
            .filter(|(_, versions)| versions.iter().any(|version| self.through < version.at && version.at <= until));
        let is_news = |versions: &[Version]| {
            !state.faults.is_terse || at(versions, self.through).is_some() || at(versions, until).is_some()
        };
        changed
            .filter(|(_, versions)| is_news(versions))
            .map(|(path, versions)| match at(versions, until) {
                Some(bytes) => Change::Put(RawDocument(bytes)),
                None => Change::Gone(path.clone()),
            })
            .collect()
    }

    fn counts(&self, state: &State, until: Timestamp) -> BTreeMap<String, u64> {
        let mut counts: BTreeMap<String, u64> = self.groups.iter().map(|group| (group.clone(), 0)).collect();
        for (path, versions) in &state.documents {
            if let Some(count) = counts.get_mut(path.collection_group())
                && at(versions, until).is_some()
            {
                *count += 1;
            }
        }
        counts
    }
}

#[async_trait]
impl ChangeSource for MemoryDatabase {
    async fn listen(&self, groups: &BTreeSet<String>, from: ListenFrom) -> Result<ChangeStream, PortError> {
        let bad = || PortError::new(ErrorKind::InvalidArgument, "listen", "that is no token");
        let through = match from {
            ListenFrom::ReadTime(at) => at,
            ListenFrom::Token(token) => {
                std::str::from_utf8(&token).ok().and_then(|text| text.parse().ok()).ok_or_else(bad)?
            }
        };
        let mut told = self.lock().told.subscribe();
        // the state at this moment is the first thing that is told
        let now = self.lock().now;
        self.lock().told.send_replace(now);
        told.mark_unchanged();
        let (groups, queue) = (groups.clone(), VecDeque::new());
        let listener = Listener { database: self.clone(), groups, through, told, is_first: true, queue };
        let next = |mut listener: Listener| async move { listener.next().await.map(|change| (change, listener)) };
        Ok(stream::unfold(listener, next).boxed())
    }

    async fn count_group(&self, group: &str, range: &PathRange, time: Timestamp) -> Result<u64, PortError> {
        match self.count_fault() {
            None => {}
            Some(CountFault::Unavailable) => {
                return Err(PortError::new(ErrorKind::Unavailable, "count documents", "failed on purpose"));
            }
            Some(CountFault::Silence) => std::future::pending().await,
        }
        let state = self.lock();
        let there = |(path, versions): &(&DocumentPath, &Vec<Version>)| {
            path.collection_group() == group && range.covers(path) && at(versions, time).is_some()
        };
        Ok(state.documents.iter().filter(there).count() as u64)
    }

    async fn stream_group(&self, group: &str, time: Timestamp) -> Result<DocumentStream, PortError> {
        let state = self.lock();
        let of_group = state.documents.iter().filter(|(path, _)| path.collection_group() == group);
        let documents: Vec<_> =
            of_group.filter_map(|(_, versions)| at(versions, time)).map(|bytes| Ok(RawDocument(bytes))).collect();
        Ok(stream::iter(documents).boxed())
    }
}
