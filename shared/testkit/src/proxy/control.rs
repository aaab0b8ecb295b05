//! What a proxy is told to do wrong, and what it has seen.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use firebackup_model::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tonic::{Code, Status};

use super::listen::Knobs;
use crate::method::Method;

/// What has passed a proxy since its start or the last [`Control::reset_counts`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls, by method, failed ones included.
    pub requests: BTreeMap<Method, u64>,
    /// Documents passed on in `RunQuery` streams.
    pub documents_streamed: u64,
    /// Writes asked for in `BatchWrite` and `Commit` calls that kept to the limits.
    pub writes: u64,
    /// The most writes in one of these calls.
    pub max_writes: usize,
    /// The most bytes in one of these calls.
    pub max_bytes: usize,
    /// The most `RunQuery` and `Listen` streams that were open at once.
    pub max_streams: usize,
    /// `BatchWrite` and `Commit` calls that broke a limit.
    pub violations: u64,
    /// What the last of these broke.
    pub last_violation: Option<String>,
    /// Calls, streams and writes that were failed on demand.
    pub injected: u64,
    /// Messages told to listeners, where the proxy answers `Listen` itself; so are the next two.
    pub messages_told: u64,
    /// Targets that went on from a token or a read time.
    pub resumes: u64,
    /// Targets that were `RESET`, for what they were to go on from was not good, or on demand.
    pub resets: u64,
}

impl Counts {
    /// How often a method was called.
    #[must_use]
    pub fn requests_of(&self, method: Method) -> u64 {
        self.requests.get(&method).copied().unwrap_or(0)
    }
}

/// The handle to a running proxy: sets faults, reads counts. Clones are handles to the same proxy.
#[derive(Clone)]
pub struct Control(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    oldest_read_time: Option<Timestamp>,
    databases: Option<Bytes>,
    kindless_counts: Option<Code>,
    failures: Vec<Failure>,
    delays: BTreeMap<Method, Duration>,
    cut: Option<Cut>,
    write_faults: Vec<WriteFault>,
    counts: Counts,
    open_streams: usize,
    knobs: watch::Sender<Knobs>,
}

struct Failure {
    method: Method,
    code: Code,
    when: When,
}

enum When {
    /// The next so many calls.
    Next(u32),
    /// The last of each so many calls.
    Every { interval: u64, seen: u64 },
}

struct Cut {
    documents: u64,
    times: u32,
}

struct WriteFault {
    code: Code,
    hits: Box<dyn FnMut(&str) -> bool + Send>,
}

impl Control {
    pub(super) fn new(oldest_read_time: Option<Timestamp>) -> Self {
        Self(Arc::new(Mutex::new(State { oldest_read_time, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has passed so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state().counts.clone()
    }

    /// Counts from zero again.
    pub fn reset_counts(&self) {
        self.state().counts = Counts::default();
    }

    /// Takes every fault back, and lets what is left pass.
    pub fn clear_faults(&self) {
        let mut state = self.state();
        state.failures.clear();
        state.delays.clear();
        state.write_faults.clear();
        state.cut = None;
        state.knobs.send_modify(Knobs::clear_faults);
    }

    /// What is set for listens, for all to watch.
    pub(super) fn knobs(&self) -> watch::Sender<Knobs> {
        self.state().knobs.clone()
    }

    pub(super) fn count(&self, add: impl FnOnce(&mut Counts)) {
        add(&mut self.state().counts);
    }

    /// Refuses read times before this from now on; nothing: those more than an hour old.
    pub fn set_oldest_read_time(&self, oldest: Option<Timestamp>) {
        self.state().oldest_read_time = oldest;
    }

    /// Answers who lists databases with these, a `ListDatabasesResponse` as bytes, from now on; nothing: the emulator answers,
    /// which cannot.
    pub fn set_databases(&self, databases: Option<Bytes>) {
        self.state().databases = databases;
    }

    /// Refuses with `code` to count documents of all collections together, from now on; nothing: the emulator counts them. It is
    /// not known whether production does.
    pub fn refuse_kindless_counts(&self, code: Option<Code>) {
        self.state().kindless_counts = code;
    }

    /// How counts of all collections together are refused.
    pub(super) fn kindless_counts(&self) -> Option<Code> {
        self.state().kindless_counts
    }

    pub(super) fn databases(&self) -> Option<Bytes> {
        self.state().databases.clone()
    }

    /// The next `times` `RunQuery` streams that come to `documents` documents end there, in `UNAVAILABLE`.
    pub fn cut_streams_after(&self, documents: u64, times: u32) {
        self.state().cut = Some(Cut { documents, times });
    }

    /// The next `times` calls of `method` fail with `code`, before they reach the emulator.
    pub fn fail_next(&self, method: Method, code: Code, times: u32) {
        self.state().failures.push(Failure { method, code, when: When::Next(times) });
    }

    /// Every `interval`th call of `method` fails with `code`, before it reaches the emulator.
    pub fn fail_every(&self, method: Method, interval: u64, code: Code) {
        let when = When::Every { interval: interval.max(1), seen: 0 };
        self.state().failures.push(Failure { method, code, when });
    }

    /// In `BatchWrite` calls, the writes whose document path (relative to the documents root) `hits` is true for get
    /// the status `code`, and are not done. It is asked once a write, also of those that are tried again.
    pub fn fail_writes(&self, code: Code, hits: impl FnMut(&str) -> bool + Send + 'static) {
        self.state().write_faults.push(WriteFault { code, hits: Box::new(hits) });
    }

    /// In `BatchWrite` calls, this fraction (0 to 1) of the writes gets the status `code`, drawn from `seed`.
    pub fn fail_write_fraction(&self, code: Code, fraction: f64, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        self.fail_writes(code, move |_| random.random_bool(fraction.clamp(0.0, 1.0)));
    }

    /// Holds every call of `method` up for `duration` before it is looked at.
    pub fn delay(&self, method: Method, duration: Duration) {
        self.state().delays.insert(method, duration);
    }

    pub(super) fn oldest_read_time(&self) -> Option<Timestamp> {
        self.state().oldest_read_time
    }

    /// Counts a call; for how long to hold it up, and how to fail it.
    pub(super) fn admit(&self, method: Method) -> (Option<Duration>, Option<Status>) {
        let mut state = self.state();
        *state.counts.requests.entry(method).or_default() += 1;
        let failed = state.failures.iter_mut().filter(|failure| failure.method == method).find_map(Failure::strike);
        state.counts.injected += u64::from(failed.is_some());
        (state.delays.get(&method).copied(), failed.map(|code| Status::new(code, format!("{method} failed on demand"))))
    }

    /// Lets a document pass on a stream on which `passed` did before it, or says how the stream ends.
    pub(super) fn pass_document(&self, passed: u64) -> Result<(), Status> {
        let mut state = self.state();
        if let Some(cut) = &mut state.cut
            && cut.times > 0
            && cut.documents == passed
        {
            cut.times -= 1;
            state.counts.injected += 1;
            return Err(Status::unavailable(format!("stream cut on demand after {passed} documents")));
        }
        state.counts.documents_streamed += 1;
        Ok(())
    }

    /// How each of the writes of a batch fails.
    pub(super) fn write_failures<'p>(&self, paths: impl Iterator<Item = &'p str>) -> Vec<Option<Code>> {
        let mut state = self.state();
        let State { write_faults, counts, .. } = &mut *state;
        paths
            .map(|path| {
                let fault = write_faults.iter_mut().find_map(|fault| (fault.hits)(path).then_some(fault.code));
                counts.injected += u64::from(fault.is_some());
                fault
            })
            .collect()
    }

    pub(super) fn count_writes(&self, writes: usize, bytes: usize) {
        let counts = &mut self.state().counts;
        counts.writes += writes as u64;
        counts.max_writes = counts.max_writes.max(writes);
        counts.max_bytes = counts.max_bytes.max(bytes);
    }

    pub(super) fn count_violation(&self, message: &str) {
        let counts = &mut self.state().counts;
        counts.violations += 1;
        counts.last_violation = Some(message.to_owned());
    }

    pub(super) fn open_stream(&self) -> OpenStream {
        let mut state = self.state();
        state.open_streams += 1;
        state.counts.max_streams = state.counts.max_streams.max(state.open_streams);
        OpenStream(self.clone())
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Control").field(&self.counts()).finish()
    }
}

impl Failure {
    /// The code to fail this call with, if it is this failure's turn.
    fn strike(&mut self) -> Option<Code> {
        let strikes = match &mut self.when {
            When::Next(0) => false,
            When::Next(left) => {
                *left -= 1;
                true
            }
            When::Every { interval, seen } => {
                *seen += 1;
                seen.is_multiple_of(*interval)
            }
        };
        strikes.then_some(self.code)
    }
}

/// A stream that counts as open for as long as this lives.
pub(super) struct OpenStream(Control);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.state().open_streams -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(control: &Control, calls: usize) -> String {
        (0..calls).map(|_| if control.admit(Method::RunQuery).1.is_some() { 'x' } else { '.' }).collect()
    }

    #[test]
    fn failures_strike_when_they_were_told_to() {
        let control = Control::new(None);
        control.fail_next(Method::RunQuery, Code::Aborted, 2);
        control.fail_next(Method::Commit, Code::Aborted, 9);
        assert_eq!(outcomes(&control, 4), "xx..");
        control.fail_every(Method::RunQuery, 3, Code::Unavailable);
        assert_eq!(outcomes(&control, 7), "..x..x.");
        control.clear_faults();
        assert_eq!(outcomes(&control, 4), "....");
        let counts = control.counts();
        assert_eq!((counts.requests_of(Method::RunQuery), counts.injected), (15, 4));
    }

    #[test]
    fn a_stream_is_cut_at_its_document_and_only_so_often() {
        let control = Control::new(None);
        control.cut_streams_after(2, 1);
        let stream = || (0..4).take_while(|passed| control.pass_document(*passed).is_ok()).count();
        assert_eq!((stream(), stream()), (2, 4));
        assert_eq!(control.counts().documents_streamed, 6);
    }

    #[test]
    fn a_fraction_of_writes_fails_the_same_way_each_time() {
        let draw = || {
            let control = Control::new(None);
            control.fail_write_fraction(Code::Aborted, 0.25, 7);
            control.write_failures((0..1000).map(|_| "a/b"))
        };
        let failed = draw().iter().flatten().count();
        assert!((200..300).contains(&failed), "{failed}");
        assert_eq!(draw(), draw());
    }
}
