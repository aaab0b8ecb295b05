//! What goes wrong on the way while changes are captured.

use std::time::Duration;

use firebackup_testkit::Method;
use firebackup_testkit::proxy::Control;
use rand::RngExt;
use rand::rngs::StdRng;
use tonic::Code;

/// What a stream may break with and go on.
const PASSING: [Code; 4] = [Code::Unavailable, Code::Internal, Code::Aborted, Code::ResourceExhausted];

/// How a server is, for a whole history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temper {
    /// Whatever goes wrong can be gone on from: there is never a gap.
    Gentle,
    /// Streams that cannot be believed, too.
    Rough,
}

/// How the server tells of changes: gathered for a while or at once, with or without filters, and of documents that came
/// and went in between or not.
pub fn set_up(random: &mut StdRng, control: &Control) {
    control.set_coalescing(Duration::from_millis(random.random_range(0..60)));
    control.filters(random.random_ratio(1, 3));
    control.leave_out_what_came_and_went(random.random());
}

/// Takes back what went wrong, and lets something else go wrong.
pub fn stir(random: &mut StdRng, control: &Control, temper: Temper) {
    control.silence_listens(false);
    control.swallow_deletes_on_resume(false);
    if temper == Temper::Rough && random.random_ratio(1, 3) {
        rough(random, control);
    } else {
        gentle(random, control);
    }
}

fn gentle(random: &mut StdRng, control: &Control) {
    let code = PASSING[random.random_range(0..PASSING.len())];
    match random.random_range(0..8u32) {
        0 => control.cut_listens(code),
        1 => control.cut_listens_after(random.random_range(0..12), code, random.random_range(1..3)),
        2 => set_up(random, control),
        3 => control.fail_next(Method::Listen, Code::Unavailable, 1),
        4 => control.fail_next(Method::RunAggregationQuery, Code::Unavailable, 1),
        _ => {}
    }
}

fn rough(random: &mut StdRng, control: &Control) {
    match random.random_range(0..4u32) {
        0 => control.forget_tokens(),
        1 => control.reset_listens(),
        2 => control.silence_listens(true),
        _ => {
            control.swallow_deletes_on_resume(true);
            control.cut_listens(Code::Unavailable);
        }
    }
}
