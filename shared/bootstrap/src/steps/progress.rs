//! How far a step is, noted while it works: at most once a second, so that whoever looks sees what is a second old.

use std::pin::Pin;
use std::time::Duration;

use firebackup_control::Worker;
use firebackup_engine::Meter;
use firebackup_model::id::JobId;
use tokio::task::JoinHandle;

use super::AppSteps;

/// How often it is noted, in the cost model too.
const EVERY: Duration = Duration::from_secs(1);

/// What a step has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counted {
    pub(crate) documents: u64,
    pub(crate) bytes: u64,
    pub(crate) stored: u64,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) chunks_done: u64,
}

impl Counted {
    fn of(meter: &Meter) -> Self {
        Self {
            documents: meter.documents.get(),
            bytes: meter.bytes.get(),
            stored: meter.stored.get(),
            reads: meter.reads.get(),
            writes: meter.writes.get(),
            chunks_done: 0,
        }
    }

    /// What is to be added to what was noted before; what is none is left out.
    fn beyond(self, noted: Self) -> Vec<(&'static str, i64)> {
        let pairs = [
            ("documents", self.documents, noted.documents),
            ("bytes", self.bytes, noted.bytes),
            ("stored", self.stored, noted.stored),
            ("reads", self.reads, noted.reads),
            ("writes", self.writes, noted.writes),
            ("chunksDone", self.chunks_done, noted.chunks_done),
        ];
        let number = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
        let more = pairs.map(|(name, now, before)| (name, number(now) - number(before)));
        more.into_iter().filter(|(_, amount)| *amount != 0).collect()
    }
}

impl AppSteps {
    /// Does a step, and notes every second what `meter` has counted. What was noted must be taken into account when it is
    /// noted what the step came to: [`Self::note_end`].
    pub(crate) async fn watched<T>(
        &self,
        worker: &Worker,
        job: &JobId,
        meter: &Meter,
        // on the heap: twice the state of a restore is more than the stack of a worker's thread holds
        mut step: Pin<Box<impl Future<Output = T>>>,
    ) -> (T, Counted) {
        let (mut noted, mut noting) = (Counted::default(), None::<JoinHandle<()>>);
        let mut seconds = tokio::time::interval_at(tokio::time::Instant::now() + EVERY, EVERY);
        seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let done = loop {
            tokio::select! {
                done = &mut step => break done,
                _ = seconds.tick() => {
                    let now = Counted::of(meter);
                    let (more, is_busy) = (now.beyond(noted), noting.as_ref().is_some_and(|task| !task.is_finished()));
                    // the store is slower than the clock: the next second has it all
                    if more.is_empty() || is_busy {
                        continue;
                    }
                    let (steps, worker, job) = (self.clone(), *worker, job.clone());
                    // beside the step, which does not wait for it
                    noting = Some(tokio::spawn(async move { steps.note(&worker, &job, &more).await }));
                    noted = now;
                }
            }
        };
        if let Some(noting) = noting {
            // a process may be frozen when the step has answered
            drop(noting.await);
        }
        (done, noted)
    }

    /// Notes what a step came to: all of it, or nothing where it was done before by another try, in place of what was noted
    /// while it worked.
    pub(crate) async fn note_end(&self, worker: &Worker, job: &JobId, came_to: Option<Counted>, noted: Counted) {
        let more = came_to.unwrap_or_default().beyond(noted);
        if !more.is_empty() {
            self.note(worker, job, &more).await;
        }
    }

    /// Progress is for looking at: that it cannot be noted stops nothing.
    async fn note(&self, worker: &Worker, job: &JobId, amounts: &[(&str, i64)]) {
        if let Err(error) = self.control.note_progress(worker, job, amounts).await {
            tracing::warn!(job = %job, error = %error, "progress could not be noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_in_the_end_takes_the_place_of_what_was_noted_on_the_way() {
        let way = Counted { documents: 70, bytes: 700, ..Counted::default() };
        let end = Counted { documents: 100, bytes: 600, chunks_done: 1, ..Counted::default() };
        assert_eq!(end.beyond(way), [("documents", 30), ("bytes", -100), ("chunksDone", 1)]);
        assert_eq!(Counted::default().beyond(way), [("documents", -70), ("bytes", -700)], "another try did it");
        assert_eq!(way.beyond(way), []);
    }
}
