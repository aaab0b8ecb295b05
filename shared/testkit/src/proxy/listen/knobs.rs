//! How a proxy that answers `Listen` itself does it; all of it can be changed while streams are open.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;
use tonic::{Code, Status};

use crate::proxy::control::Control;

const COALESCING: Duration = Duration::from_millis(20);
/// About as often as production says something on a stream on which nothing happens.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// What holds now. Streams and databases are woken when it changes.
#[derive(Debug, Clone)]
pub(in crate::proxy) struct Knobs {
    pub(super) coalescing: Duration,
    pub(super) heartbeat: Duration,
    pub(super) has_filters: bool,
    pub(super) swallows_deletes: bool,
    pub(super) leaves_out_passing: bool,
    pub(super) hidden: BTreeSet<String>,
    pub(super) is_silent: bool,
    /// Tokens of another generation are not good.
    pub(super) generation: u64,
    /// How often all targets were to be reset.
    pub(super) resets: u64,
    /// How often all streams were to be cut.
    pub(super) cuts: u64,
    cut_with: Code,
    cut_after: CutAfter,
}

#[derive(Debug, Clone, Copy)]
struct CutAfter {
    messages: u64,
    code: Code,
    times: u32,
    /// Each time this is set streams count anew.
    round: u64,
}

/// What a stream has let pass since messages were counted last.
#[derive(Debug, Default)]
pub(super) struct Passed {
    round: u64,
    messages: u64,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            coalescing: COALESCING,
            heartbeat: HEARTBEAT,
            has_filters: false,
            swallows_deletes: false,
            leaves_out_passing: false,
            hidden: BTreeSet::new(),
            is_silent: false,
            generation: rand::random(),
            resets: 0,
            cuts: 0,
            cut_with: Code::Unavailable,
            cut_after: CutAfter { messages: 0, code: Code::Unavailable, times: 0, round: 0 },
        }
    }
}

impl Knobs {
    pub(in crate::proxy) fn clear_faults(&mut self) {
        self.swallows_deletes = false;
        self.hidden.clear();
        self.is_silent = false;
        self.cut_after.times = 0;
    }

    /// How a stream that was opened after `cuts` cuts ends, if it is cut.
    pub(super) fn cut_since(&self, cuts: u64) -> Option<Status> {
        (self.cuts > cuts).then(|| Status::new(self.cut_with, "listen cut on demand"))
    }

    /// Lets a message pass, or says how the stream ends instead.
    fn pass(&mut self, passed: &mut Passed) -> Result<(), Status> {
        let cut = &mut self.cut_after;
        if passed.round != cut.round {
            *passed = Passed { round: cut.round, messages: 0 };
        }
        if cut.times > 0 && passed.messages >= cut.messages {
            cut.times -= 1;
            return Err(Status::new(cut.code, format!("listen cut on demand after {} messages", passed.messages)));
        }
        passed.messages += 1;
        Ok(())
    }
}

/// The knobs of [`ListenMode::Production`](crate::proxy::ListenMode::Production); where the proxy hands listens on, they
/// do nothing.
impl Control {
    /// How long writes are gathered before they are told together (20 ms). Zero tells each as soon as it can be read.
    pub fn set_coalescing(&self, coalescing: Duration) {
        self.knobs().send_modify(|knobs| knobs.coalescing = coalescing);
    }

    /// After how long without a word a stream is told that it is complete (30 s).
    pub fn set_heartbeat(&self, heartbeat: Duration) {
        self.knobs().send_modify(|knobs| knobs.heartbeat = heartbeat);
    }

    /// Whether an `ExistenceFilter` of each target comes before each point, and before the `CURRENT` of one that is
    /// resumed. Its count is right also where changes are held back.
    pub fn filters(&self, are_sent: bool) {
        self.knobs().send_modify(|knobs| knobs.has_filters = are_sent);
    }

    /// Whether a target that is resumed is told of no deletion before it is `CURRENT`, but of an `ExistenceFilter`. What
    /// was left out is not made up for.
    pub fn swallow_deletes_on_resume(&self, are_swallowed: bool) {
        self.knobs().send_modify(|knobs| knobs.swallows_deletes = are_swallowed);
    }

    /// Whether nothing is said of a document that is gone and was not there either when the listener last knew everything:
    /// it has not changed.
    pub fn leave_out_what_came_and_went(&self, is_left_out: bool) {
        self.knobs().send_modify(|knobs| knobs.leaves_out_passing = is_left_out);
    }

    /// Holds changes in a collection group back, also from targets that are resumed, while points go on as if there
    /// were none. Who begins from nothing, or is reset, is told the whole group all the same.
    pub fn hide_group(&self, group: &str) {
        self.knobs().send_modify(|knobs| knobs.hidden.extend([group.to_owned()]));
    }

    /// Tells what was held back, as it is by now; to who goes on from an earlier point too, however late it comes.
    pub fn show_group(&self, group: &str) {
        self.knobs().send_modify(|knobs| knobs.hidden.retain(|hidden| hidden != group));
    }

    /// Whether all streams, new ones included, stay open and say nothing at all. What they had to say comes once they
    /// may speak again. A cut still ends them.
    pub fn silence_listens(&self, are_silent: bool) {
        self.knobs().send_modify(|knobs| knobs.is_silent = are_silent);
    }

    /// Ends all open streams with `code` now, whatever they still had to say.
    pub fn cut_listens(&self, code: Code) {
        self.knobs().send_modify(|knobs| {
            knobs.cuts += 1;
            knobs.cut_with = code;
        });
    }

    /// The next `times` streams that have said `messages` messages (an open one from now on, a new one from its start)
    /// end with `code` in the place of the next: between a change and its point, for one.
    pub fn cut_listens_after(&self, messages: u64, code: Code, times: u32) {
        self.knobs().send_modify(|knobs| {
            let round = knobs.cut_after.round + 1;
            knobs.cut_after = CutAfter { messages, code, times, round };
        });
    }

    /// Every token given out before now leads to a `RESET`. Read times stay good to go on from.
    pub fn forget_tokens(&self) {
        self.knobs().send_modify(|knobs| knobs.generation = knobs.generation.wrapping_add(1));
    }

    /// Resets all targets that are open now: each gets a `RESET`, its whole group, and `CURRENT`.
    pub fn reset_listens(&self) {
        self.knobs().send_modify(|knobs| knobs.resets += 1);
    }

    pub(super) fn watch_knobs(&self) -> watch::Receiver<Knobs> {
        self.knobs().subscribe()
    }

    /// Counts a message and lets it pass, or says how its stream ends instead.
    pub(super) fn pass_message(&self, passed: &mut Passed) -> Result<(), Status> {
        let mut outcome = Ok(());
        self.knobs().send_if_modified(|knobs| {
            outcome = knobs.pass(passed);
            false
        });
        self.count(|counts| match &outcome {
            Ok(()) => counts.messages_told += 1,
            Err(_) => counts.injected += 1,
        });
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(control: &Control, passed: &mut Passed, messages: usize) -> String {
        (0..messages).map(|_| if control.pass_message(passed).is_ok() { '.' } else { 'x' }).collect()
    }

    #[test]
    fn a_stream_is_cut_in_the_place_of_a_message_and_only_so_often() {
        let control = Control::new(None);
        let (mut open, mut new) = (Passed::default(), Passed::default());
        assert_eq!(outcomes(&control, &mut open, 5), ".....");
        control.cut_listens_after(2, Code::Internal, 1);
        assert_eq!(outcomes(&control, &mut open, 3), "..x");
        assert_eq!(outcomes(&control, &mut new, 4), "....");
        let counts = control.counts();
        assert_eq!((counts.messages_told, counts.injected), (11, 1));
    }

    #[test]
    fn a_cut_is_for_those_that_are_open() {
        let control = Control::new(None);
        control.cut_listens(Code::Aborted);
        let knobs = control.watch_knobs();
        assert_eq!(knobs.borrow().cut_since(0).unwrap().code(), Code::Aborted);
        assert!(knobs.borrow().cut_since(1).is_none());
    }

    #[test]
    fn faults_are_taken_back_and_settings_stay() {
        let control = Control::new(None);
        control.hide_group("a");
        control.silence_listens(true);
        control.swallow_deletes_on_resume(true);
        control.cut_listens_after(0, Code::Aborted, 1);
        control.filters(true);
        control.clear_faults();
        let knobs = control.watch_knobs().borrow().clone();
        assert!(knobs.hidden.is_empty() && !knobs.is_silent && !knobs.swallows_deletes && knobs.has_filters);
        assert!(control.pass_message(&mut Passed::default()).is_ok());
    }
}
