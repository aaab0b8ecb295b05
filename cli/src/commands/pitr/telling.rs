//! What a capture tells while it runs: a line an event, with `--json` a document a line.

use std::time::Duration;

use firebackup_engine::{CaptureEvent, CompactReport};
use firebackup_model::segment::{SegmentKind, SegmentManifest};
use firebackup_model::{DatabaseName, Timestamp};
use serde::Serialize;

use super::running::{Degraded, Running};
use crate::error::Result;
use crate::output::Output;
use crate::units::{bytes, count, of, seconds};

/// Something that happened.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event {
    Started {
        database: DatabaseName,
        captured_through: Option<Timestamp>,
        proven_through: Option<Timestamp>,
    },
    Sealed {
        kind: SegmentKind,
        after: Timestamp,
        point: Timestamp,
        points: usize,
        puts: u64,
        deletions: u64,
        stored_bytes: u64,
        reads: u64,
        proven_through: Option<Timestamp>,
    },
    Reopened {
        reason: String,
    },
    /// The server could not count what was captured.
    Unproven {
        reason: String,
    },
    Scanning {
        reason: String,
        /// Of moments behind this one nothing will be known up to the scan.
        lost_since: Option<Timestamp>,
    },
    Degraded {
        reason: String,
        lost_since: Option<Timestamp>,
    },
    Overtaken,
    /// A window has ended.
    Captured {
        through: Timestamp,
    },
    /// A window failed, in a way that may pass.
    Failed {
        reason: String,
        next_try_seconds: f64,
    },
    Compacted {
        merged: u64,
        segments: u64,
        stored_bytes: u64,
    },
    Stopped {
        proven_through: Option<Timestamp>,
    },
}

/// Tells events, and remembers what is needed to tell them.
pub(super) struct Teller {
    output: Output,
    /// As far as it is known: whoever was faster has proven more, and that is not told here.
    proven_through: Option<Timestamp>,
    /// Who asks for the status of the capture hears whether it is degraded.
    running: Option<Running>,
    is_degraded: bool,
    /// That standard output cannot be written: nothing can be told any more.
    broken: Result<()>,
}

impl Teller {
    pub(super) const fn new(output: Output, proven_through: Option<Timestamp>, running: Option<Running>) -> Self {
        Self { output, proven_through, running, is_degraded: false, broken: Ok(()) }
    }

    /// Tells an event; what cannot be told is kept for [`Self::end`].
    pub(super) fn tell(&mut self, event: &Event) {
        self.note(event);
        if self.broken.is_ok() {
            self.broken = self.output.event(event, &text(event));
        }
    }

    fn note(&mut self, event: &Event) {
        let Some(running) = &self.running else { return };
        match event {
            Event::Degraded { reason, lost_since } => {
                running.tell(Some(&Degraded { reason: reason.clone(), lost_since: *lost_since }));
                self.is_degraded = true;
            }
            // it may again: nothing is known better until that is done
            Event::Scanning { reason, lost_since } if self.is_degraded => {
                let reason = format!("the database is being read: {reason}");
                running.tell(Some(&Degraded { reason, lost_since: *lost_since }));
            }
            Event::Sealed { .. } | Event::Overtaken | Event::Captured { .. } => {
                running.tell(None);
                self.is_degraded = false;
            }
            _ => {}
        }
    }

    /// Whether all could be told so far.
    pub(super) const fn is_heard(&self) -> bool {
        self.broken.is_ok()
    }

    /// Tells what the engine tells.
    pub(super) fn captured(&mut self, event: CaptureEvent) {
        let event = self.event(event);
        self.tell(&event);
    }

    fn event(&mut self, event: CaptureEvent) -> Event {
        match event {
            CaptureEvent::Sealed(segment) => self.sealed(&segment),
            CaptureEvent::Reopened(reason) => Event::Reopened { reason },
            CaptureEvent::Unproven(reason) => Event::Unproven { reason },
            CaptureEvent::Scanning(reason) => Event::Scanning { reason, lost_since: self.proven_through },
            CaptureEvent::Degraded(reason) => Event::Degraded { reason, lost_since: self.proven_through },
            CaptureEvent::Overtaken => {
                self.proven_through = None;
                Event::Overtaken
            }
        }
    }

    fn sealed(&mut self, segment: &SegmentManifest) -> Event {
        self.proven_through = segment.proofs.last().map(|proof| proof.through).max(self.proven_through);
        Event::Sealed {
            kind: segment.kind,
            after: segment.after,
            point: segment.end(),
            points: segment.points.len(),
            puts: segment.totals.documents,
            deletions: segment.totals.deletions,
            stored_bytes: segment.stored_bytes,
            reads: segment.reads,
            proven_through: self.proven_through,
        }
    }

    /// Tells that a window failed.
    pub(super) fn failed(&mut self, reason: String, pause: Duration) {
        self.tell(&Event::Failed { reason, next_try_seconds: pause.as_secs_f64() });
    }

    /// Tells what a compaction did, if it did something.
    pub(super) fn compacted(&mut self, report: &CompactReport) {
        if report.made > 0 {
            let CompactReport { merged, segments, stored_bytes, .. } = *report;
            self.tell(&Event::Compacted { merged, segments, stored_bytes });
        }
    }

    /// How far all is proven, as far as that is known.
    pub(super) const fn proven_through(&self) -> Option<Timestamp> {
        self.proven_through
    }

    /// Tells that it ends, and how far all is proven.
    ///
    /// # Errors
    /// When this or something before could not be told.
    pub(super) fn end(mut self, proven_through: Option<Timestamp>) -> Result<()> {
        self.tell(&Event::Stopped { proven_through });
        self.broken
    }
}

fn text(event: &Event) -> String {
    match event {
        Event::Started { database, captured_through: None, .. } => {
            format!("capturing changes of {database}, from its newest backup on")
        }
        Event::Started { database, captured_through: Some(through), proven_through } => {
            format!("capturing changes of {database}, from {through} on{}", proven(*proven_through))
        }
        Event::Sealed { .. } => sealed(event),
        Event::Reopened { reason } => format!("listening anew: {reason}"),
        Event::Unproven { reason } => format!("captured and not proven yet: {reason}"),
        Event::Scanning { reason, lost_since } => format!("reading the database: {reason}; {}", lost(*lost_since)),
        Event::Degraded { reason, lost_since } => format!("degraded: {reason}; {}", lost(*lost_since)),
        Event::Overtaken => "another capture of the same database was faster: going on behind it".to_owned(),
        Event::Captured { through } => format!("captured through {through}"),
        Event::Failed { reason, next_try_seconds } => {
            format!("failed: {reason}; trying again in {}", seconds(*next_try_seconds))
        }
        Event::Compacted { merged, segments, stored_bytes } => {
            let (merged, segments) = (of(*merged, "segment"), count(*segments));
            format!("merged {merged}: the chain has {segments} now, {} were written", bytes(*stored_bytes))
        }
        Event::Stopped { proven_through } => format!("stopped{}", proven(*proven_through)),
    }
}

fn sealed(event: &Event) -> String {
    let Event::Sealed { kind, point, puts, deletions, stored_bytes, reads, proven_through, .. } = event else {
        return String::new();
    };
    let how = match kind {
        SegmentKind::Compared => format!("compared, {}", of(*reads, "document read")),
        SegmentKind::Listened | SegmentKind::Compacted | SegmentKind::Begun => "captured".to_owned(),
    };
    let changes = format!("{} put, {} deleted", count(*puts), count(*deletions));
    format!("sealed {point}: {how}: {changes}, {}{}", bytes(*stored_bytes), proven(*proven_through))
}

fn proven(through: Option<Timestamp>) -> String {
    through.map(|through| format!(", proven through {through}")).unwrap_or_default()
}

pub(super) fn lost(since: Option<Timestamp>) -> String {
    match since {
        Some(since) => format!("moments behind {since} are lost until that is done"),
        None => "moments behind the last that was proven, or the newest backup, are lost until that is done".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::GlobalArgs;
    use crate::environment::Environment;

    #[test]
    fn what_was_proven_before_another_one_was_faster_is_told_no_more() {
        let output = Output::new(&GlobalArgs::default(), &Environment::of(&[]));
        let proven = Timestamp::new(1_700_000_000, 0);
        let mut teller = Teller::new(output, Some(proven), None);
        let lost_since = |teller: &mut Teller| match teller.event(CaptureEvent::Scanning("it said so".to_owned())) {
            Event::Scanning { lost_since, .. } => lost_since,
            other => panic!("{other:?}"),
        };
        assert_eq!((lost_since(&mut teller), teller.proven_through()), (Some(proven), Some(proven)));
        teller.event(CaptureEvent::Overtaken);
        assert_eq!((lost_since(&mut teller), teller.proven_through()), (None, None));
    }

    #[test]
    fn events_are_lines_for_people_and_for_programs() {
        let time = |seconds: i64| Timestamp::new(1_700_000_000 + seconds, 0);
        let event = Event::Sealed {
            kind: SegmentKind::Listened,
            after: time(0),
            point: time(60),
            points: 2,
            puts: 3,
            deletions: 1,
            stored_bytes: 2048,
            reads: 0,
            proven_through: Some(time(0)),
        };
        let expected =
            "sealed 2023-11-14T22:14:20Z: captured: 3 put, 1 deleted, 2.0 KiB, proven through 2023-11-14T22:13:20Z";
        assert_eq!(text(&event), expected);
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!((&json["event"], &json["kind"], &json["puts"]), (&"sealed".into(), &"listened".into(), &3.into()));
        let scanning = Event::Scanning { reason: "it said so".to_owned(), lost_since: Some(time(0)) };
        assert!(text(&scanning).contains("it said so; moments behind 2023-11-14T22:13:20Z are lost"));
        assert_eq!(serde_json::to_value(Event::Overtaken).unwrap(), serde_json::json!({"event": "overtaken"}));
    }
}
