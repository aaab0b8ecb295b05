//! Who is told that changes are not captured as they should be: with the end of a window, and by the sweep, for while nobody
//! captures no window ends.

use firebackup_model::Timestamp;
use serde_json::{Value, json};

use crate::audit::Act;
use crate::control::Control;
use crate::error::Result;
use crate::item_keys;
use crate::pitr_record::{CaptureFacts, CapturedGap, PitrRecord};
use crate::pitr_window::{CapturedWindow, DueWindow};
use crate::record::{Stored, Written};
use crate::tenant::Worker;

/// What a look at all captures has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CapturesSeen {
    /// Windows that are due, those that wait longest first.
    pub due: Vec<DueWindow>,
    /// How many captures are degraded or in error.
    pub degraded: u64,
    /// Of how many of these nobody could be told.
    pub untold: u64,
}

impl Control {
    /// Looks at the captures of all organizations that should go on, and tells of those that are not as they should be where
    /// nobody was told yet. The index may be a moment behind, as with [`due_windows`](Self::due_windows).
    ///
    /// Only for `bootstrap`, as [`worker`](Self::worker).
    ///
    /// # Errors
    /// When the store fails. What cannot be told of one keeps the others from nothing.
    pub async fn look_after_captures(&self) -> Result<CapturesSeen> {
        let (now, mut seen) = (self.now(), CapturesSeen::default());
        for record in self.all::<PitrRecord>(item_keys::pitrs_on()).await? {
            let record = record.value;
            if record.status(now).0.is_ill() {
                seen.degraded += 1;
                if let Err(error) = self.tell_if_untold(&record).await {
                    seen.untold += 1;
                    tracing::warn!(pitr = %record.id, error = %error, "nobody is told that changes are not captured");
                }
            }
            if record.due <= now {
                seen.due.push(DueWindow::of(record));
            }
        }
        Ok(seen)
    }

    /// Whether it is still as the index had it, the record itself says.
    async fn tell_if_untold(&self, seen: &PitrRecord) -> Result<()> {
        if seen.course.is_told_ill {
            return Ok(());
        }
        let worker = self.worker(&seen.organization_id);
        let key = worker.scope().pitr_key(&seen.project_id, &seen.database);
        let Some(mut record) = self.load::<PitrRecord>(&key).await? else { return Ok(()) };
        if let Some(act) = record.value.tell_ill(self.now()) {
            // outrun: somebody has ended a window, or tells; the next sweep sees
            self.store_telling(&worker, &record, vec![act]).await?;
        }
        Ok(())
    }

    /// Stores a capture as it is now, with what is to be told of it: neither without the other.
    pub(crate) async fn store_telling(
        &self,
        worker: &Worker,
        record: &Stored<PitrRecord>,
        acts: Vec<Act>,
    ) -> Result<Written> {
        let (scope, author) = (worker.scope(), worker.author());
        let entries: Vec<_> = acts.into_iter().map(|act| self.new_entry(&author, act)).collect();
        let mut writes = vec![record.replace(record.value.index(scope))?];
        for entry in &entries {
            writes.push(entry.create(scope)?);
        }
        let written = self.write_unrecorded(writes).await?;
        if written == Written::Yes {
            for entry in &entries {
                self.publish_done(scope, entry).await;
            }
        }
        Ok(written)
    }
}

impl PitrRecord {
    /// Tells that it is not as it should be, where nobody was told so.
    pub(crate) fn tell_ill(&mut self, now: Timestamp) -> Option<Act> {
        let (status, reason) = self.status(now);
        let was_told = std::mem::replace(&mut self.course.is_told_ill, status.is_ill());
        (status.is_ill() && !was_told).then(|| self.degraded_by(json!(reason), None))
    }

    /// Tells of a gap.
    pub(crate) fn tell_gap(&self, gap: &CapturedGap) -> Act {
        let reason = format!("nothing is known of the time between {} and {}", gap.after, gap.until);
        self.degraded_by(json!(reason), Some(gap))
    }

    fn degraded_by(&self, reason: Value, gap: Option<&CapturedGap>) -> Act {
        let mut details = self.told();
        details["reason"] = reason;
        if let Some(gap) = gap {
            details["gap"] = json!(gap);
        }
        Act::new("pitr.degraded", self.id).with(details)
    }

    /// The gaps that came to be since somebody looked last, oldest first. Where nobody has, those that were there when it was
    /// enabled or resumed are no news.
    pub(crate) fn new_gaps(&self, captured: &CapturedWindow) -> Vec<CapturedGap> {
        let Some(found) = captured.facts.as_ref().filter(|_| !captured.expects_gaps) else { return Vec::new() };
        let known = &self.course.facts;
        let is_new = |gap: &&CapturedGap| match self.course.looked_at {
            Some(_) => known.lacks(gap),
            None => gap.until > self.on_since(),
        };
        found.newest_gaps.iter().rev().filter(is_new).copied().collect()
    }
}

impl CaptureFacts {
    /// Whether a gap is none of these. One that grows, or of which a backup has taken a part, is the same as before; what is
    /// older than all that are listed may be one that is not.
    fn lacks(&self, gap: &CapturedGap) -> bool {
        let is_same = |known: &CapturedGap| {
            let is_within = known.after <= gap.after && gap.until <= known.until;
            known.after == gap.after || known.until == gap.until || is_within
        };
        let are_all_listed = self.gaps <= self.newest_gaps.len() as u64;
        let is_listed_time = self.newest_gaps.last().is_none_or(|oldest| oldest.after < gap.after);
        (are_all_listed || is_listed_time) && !self.newest_gaps.iter().any(is_same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(after: i64, until: i64) -> CapturedGap {
        let at = |seconds| Timestamp::new(1_700_000_000 + seconds, 0);
        CapturedGap { after: at(after), until: at(until) }
    }

    #[test]
    fn a_gap_is_another_one_unless_it_is_a_known_one_that_grew_or_shrank() {
        let all = CaptureFacts { gaps: 2, newest_gaps: vec![gap(300, 400), gap(100, 200)], ..CaptureFacts::default() };
        for same in [gap(300, 400), gap(300, 500), gap(50, 200), gap(330, 370), gap(330, 400)] {
            assert!(!all.lacks(&same), "{same:?}");
        }
        for other in [gap(500, 600), gap(210, 290), gap(10, 20)] {
            assert!(all.lacks(&other), "{other:?}");
        }
        let some = CaptureFacts { gaps: 3, ..all };
        assert_eq!((some.lacks(&gap(10, 20)), some.lacks(&gap(210, 290))), (false, true));
        assert!(CaptureFacts::default().lacks(&gap(10, 20)));
    }
}
