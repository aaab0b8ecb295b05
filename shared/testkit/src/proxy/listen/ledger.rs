//! Which documents of a database the writes that passed may have changed, and until when each has been told.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use firebackup_model::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

/// How long a write is waited for before its documents are read.
const LONGEST_WRITE: Duration = Duration::from_secs(5);

/// The full name of a document.
pub(super) type Name = Arc<str>;

/// The writes of one database.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    writes: Mutex<Writes>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Writes {
    touched: HashMap<Name, Touched>,
    /// For each document that has left `touched`, a read time at which its last change was there. That change may be
    /// earlier: who goes on from in between is told once more.
    changed: HashMap<Name, Timestamp>,
    /// How many writes have been answered.
    answers: u64,
    /// How many writes were begun, and which of them have not ended.
    begun: u64,
    on_their_way: BTreeSet<u64>,
}

impl Writes {
    fn answer(&mut self, name: &Name, answer: Option<u64>) {
        let Some(touched) = self.touched.get_mut(name) else { return };
        touched.in_flight -= 1;
        touched.answered = answer.or(touched.answered);
        if touched.in_flight == 0 && touched.answered.is_none() {
            self.touched.remove(name);
        }
    }
}

/// A document that is being written, or was and has not been told.
#[derive(Debug, Default)]
struct Touched {
    in_flight: u32,
    /// The last answer to a write of it that may have been done.
    answered: Option<u64>,
}

impl Ledger {
    fn writes(&self) -> MutexGuard<'_, Writes> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that these are about to be written: before the write goes on its way.
    pub(super) fn begin(self: &Arc<Self>, names: Vec<Name>) -> Writing {
        let mut writes = self.writes();
        for name in &names {
            writes.touched.entry(Arc::clone(name)).or_default().in_flight += 1;
        }
        writes.begun += 1;
        let number = writes.begun;
        writes.on_their_way.insert(number);
        Writing { ledger: Arc::clone(self), names, number, may_be_done: true }
    }

    /// Waits until whatever is being written now has ended, or for a bounded time. The emulator dates a write before others can
    /// read it: a read at a later time that comes in between misses it, which production's never does.
    pub(super) async fn ended(&self) {
        let until = Instant::now() + LONGEST_WRITE;
        let last = self.writes().begun;
        while self.writes().on_their_way.first().is_some_and(|number| *number <= last) && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until a write has been answered since the last wait.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// Whether something that was answered has not been told.
    pub(super) fn has_news(&self) -> bool {
        self.writes().touched.values().any(|touched| touched.answered.is_some())
    }

    /// How many writes have been answered: whatever they did is there at any read time that is asked for from now on.
    pub(super) fn answers(&self) -> u64 {
        self.writes().answers
    }

    /// What may have changed and has not been told. Whatever was committed by a read time that has come back is among it.
    pub(super) fn touched(&self) -> Vec<Name> {
        self.writes().touched.keys().cloned().collect()
    }

    /// Notes that what was touched has been told as it was at `read_time`, which was asked for after `answers`.
    pub(super) fn settle(&self, answers: u64, read_time: Timestamp) {
        let Writes { touched, changed, .. } = &mut *self.writes();
        touched.retain(|name, touched| {
            if touched.answered.is_some_and(|answer| answer <= answers) {
                touched.answered = None;
                changed.insert(Arc::clone(name), read_time);
            }
            touched.in_flight > 0 || touched.answered.is_some()
        });
    }

    /// Notes that a document was told late: whoever goes on from before `read_time` is to be told.
    pub(super) fn told_late(&self, name: Name, read_time: Timestamp) {
        self.writes().changed.insert(name, read_time);
    }

    /// What a listener that knows the state at `since` is to be told, once what was touched has been settled: what
    /// changed later, and what is being written.
    pub(super) fn since(&self, since: Timestamp) -> Vec<Name> {
        let writes = self.writes();
        let later = writes.changed.iter().filter(|(_, changed)| **changed > since).map(|(name, _)| name);
        let in_flight = writes.touched.keys().filter(|name| writes.changed.get(*name).is_none_or(|at| *at <= since));
        later.chain(in_flight).cloned().collect()
    }
}

/// A write on its way. When it is given up, it may have been done all the same.
#[derive(Debug)]
pub(super) struct Writing {
    ledger: Arc<Ledger>,
    names: Vec<Name>,
    number: u64,
    may_be_done: bool,
}

impl Writing {
    /// Notes the answer; `may_be_done` unless it says for certain that nothing was written.
    pub(super) fn end(mut self, may_be_done: bool) {
        self.may_be_done = may_be_done;
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut writes = self.ledger.writes();
        writes.answers += u64::from(self.may_be_done);
        writes.on_their_way.remove(&self.number);
        let answer = self.may_be_done.then_some(writes.answers);
        for name in &self.names {
            writes.answer(name, answer);
        }
        drop(writes);
        if self.may_be_done {
            self.ledger.news.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::new(seconds, 0)
    }

    fn texts(mut names: Vec<Name>) -> Vec<String> {
        names.sort();
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_answered_before_a_read_time_is_asked_for_is_settled_by_it() {
        let ledger = Arc::new(Ledger::default());
        ledger.begin(vec!["a".into(), "b".into()]).end(true);
        let late = ledger.begin(vec!["b".into(), "c".into()]);
        assert!(ledger.has_news());
        let answers = ledger.answers();
        late.end(true);
        ledger.begin(vec!["d".into()]).end(true);
        assert_eq!(texts(ledger.touched()), ["a", "b", "c", "d"]);
        ledger.settle(answers, at(5));
        assert_eq!(texts(ledger.touched()), ["b", "c", "d"]);
        assert!(ledger.has_news());
        ledger.settle(ledger.answers(), at(6));
        assert!(ledger.touched().is_empty() && !ledger.has_news());
        assert_eq!(texts(ledger.since(at(4))), ["a", "b", "c", "d"]);
        assert_eq!(texts(ledger.since(at(5))), ["b", "c", "d"]);
        assert!(ledger.since(at(6)).is_empty());
    }

    #[test]
    fn what_is_on_its_way_stays_until_it_is_answered() {
        let ledger = Arc::new(Ledger::default());
        let (failed, given_up) = (ledger.begin(vec!["a".into()]), ledger.begin(vec!["a".into(), "b".into()]));
        ledger.settle(ledger.answers(), at(1));
        assert_eq!(texts(ledger.since(at(9))), ["a", "b"]);
        assert!(!ledger.has_news());
        failed.end(false);
        assert!(!ledger.has_news());
        drop(given_up);
        assert!(ledger.has_news());
        ledger.settle(ledger.answers(), at(2));
        assert_eq!(texts(ledger.since(at(1))), ["a", "b"]);
        ledger.begin(vec!["c".into()]).end(false);
        assert!(ledger.touched().is_empty());
    }

    #[tokio::test]
    async fn an_answer_is_news() {
        let ledger = Arc::new(Ledger::default());
        ledger.begin(vec!["a".into()]).end(true);
        ledger.news().await;
    }
}
