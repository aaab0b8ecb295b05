//! How far a restore that keeps no undo has come, so that one that is run again need not write everything again.
//!
//! What stands before the mark was written once. It is read and compared when the restore is run again, and written
//! where it is not right any more: nobody knows what became of the target since.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use firebackup_codec::object::ObjectType;
use firebackup_codec::sealing::Sealing;
use firebackup_model::id::JobId;
use firebackup_model::job::{RestoreMark, RestorePosition};
use tokio::time::Instant;

use crate::error::{EngineError, Result};
use crate::layout;
use crate::objects::Put;
use crate::repository::Repository;
use crate::wanted::Wanted;

/// A mark is put after so many documents, or so much time, whichever comes first.
const MARK_DOCUMENTS: u64 = 5_000;
const MARK_TIME: Duration = Duration::from_secs(30);
/// Sequence numbers tried when other processes mark the same restore.
const MAX_RACES: u32 = 1000;

/// The marks of one restore.
pub(crate) struct RestoreProgress {
    repository: Repository,
    job: JobId,
    sealing: Sealing,
    /// How far earlier attempts came.
    before: Option<RestorePosition>,
    state: Mutex<State>,
}

/// Batches end in any order; what counts is up to where all of them have.
struct State {
    begun: u64,
    first_open: u64,
    ended: BTreeMap<u64, (Option<RestorePosition>, u64)>,
    through: Option<RestorePosition>,
    documents: u64,
    marked: Instant,
    sequence: u32,
    /// Without a place to put marks the restore goes on all the same.
    is_lost: bool,
}

/// A batch on its way.
pub(crate) struct BatchMark {
    progress: Arc<RestoreProgress>,
    number: u64,
    last: Option<RestorePosition>,
    documents: u64,
}

impl RestoreProgress {
    /// Reads how far earlier attempts of the restore came.
    pub(crate) async fn open(repository: &Repository, job: &JobId, sealing: &Sealing) -> Result<Self> {
        let (mut before, mut sequence) = (None, 0);
        for meta in repository.list(layout::restore_marks(job).as_ref()).await? {
            let found: Option<(RestoreMark, _)> =
                repository.get_sealed(ObjectType::RestoreMark, &meta.location).await?;
            if let Some((mark, _)) = found {
                sequence = sequence.max(mark.sequence + 1);
                before = before.max(Some(mark.through));
            }
        }
        let (repository, sealing) = (repository.clone(), sealing.clone());
        Ok(Self { repository, job: job.clone(), sealing, before, state: Mutex::new(State::new(sequence)) })
    }

    /// Whether an earlier attempt has written this one.
    pub(crate) fn was_written(&self, wanted: &Wanted) -> bool {
        self.before.as_ref().is_some_and(|before| wanted.position() <= *before)
    }

    /// Notes that a batch is on its way.
    pub(crate) fn begin(self: &Arc<Self>, batch: &[Wanted]) -> BatchMark {
        let number = self.state.lock().map_or(0, |mut state| {
            state.begun += 1;
            state.begun - 1
        });
        let last = batch.iter().rfind(|wanted| wanted.problem.is_none()).map(Wanted::position);
        BatchMark { progress: Arc::clone(self), number, last, documents: batch.len() as u64 }
    }

    async fn put(&self, mark: &RestoreMark) -> Result<Put> {
        let path = layout::restore_mark(&self.job, mark.sequence);
        self.repository.put_sealed(ObjectType::RestoreMark, &path, &self.sealing, mark).await
    }

    fn lose(&self, error: &EngineError) {
        tracing::warn!(job = %self.job, error = %error, "it cannot be noted how far the restore came");
        if let Ok(mut state) = self.state.lock() {
            state.is_lost = true;
        }
    }
}

impl State {
    fn new(sequence: u32) -> Self {
        Self {
            begun: 0,
            first_open: 0,
            ended: BTreeMap::new(),
            through: None,
            documents: 0,
            marked: Instant::now(),
            sequence,
            is_lost: false,
        }
    }

    /// Counts a batch that has ended; returns a mark that is due.
    fn end(&mut self, number: u64, last: Option<RestorePosition>, documents: u64) -> Option<RestorePosition> {
        self.ended.insert(number, (last, documents));
        while let Some((last, documents)) = self.ended.remove(&self.first_open) {
            self.first_open += 1;
            self.documents += documents;
            self.through = last.or(self.through.take());
        }
        let is_due = self.documents >= MARK_DOCUMENTS || self.marked.elapsed() >= MARK_TIME;
        if self.is_lost || self.documents == 0 || !is_due {
            return None;
        }
        self.documents = 0;
        self.marked = Instant::now();
        self.through.clone()
    }

    const fn next_sequence(&mut self) -> u32 {
        self.sequence += 1;
        self.sequence - 1
    }
}

impl BatchMark {
    /// Notes that the batch has ended, and puts a mark when one is due.
    pub(crate) async fn done(self) -> Result<()> {
        let progress = &self.progress;
        let due = progress.state.lock().ok().and_then(|mut state| state.end(self.number, self.last, self.documents));
        let Some(through) = due else { return Ok(()) };
        for _ in 0..MAX_RACES {
            let sequence = progress.state.lock().map_or(0, |mut state| state.next_sequence());
            let mark = RestoreMark { job: progress.job.clone(), sequence, through: through.clone() };
            match progress.put(&mark).await {
                Ok(Put::Stored) => return Ok(()),
                Ok(Put::Existed) => {}
                Err(error) => {
                    progress.lose(&error);
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebackup_model::DocumentPath;

    fn at(segment: u32, path: &str) -> RestorePosition {
        RestorePosition { segment, path: DocumentPath::new(path).unwrap() }
    }

    #[test]
    fn a_batch_that_is_still_on_its_way_holds_the_mark_back() {
        let mut state = State::new(0);
        assert_eq!(state.end(1, Some(at(0, "a/2")), MARK_DOCUMENTS), None);
        assert_eq!(state.end(0, Some(at(0, "a/1")), 1), Some(at(0, "a/2")));
        assert_eq!(state.end(2, Some(at(1, "a/0")), 1), None);
        assert_eq!(state.end(3, Some(at(1, "a/1")), MARK_DOCUMENTS), Some(at(1, "a/1")));
    }

    #[test]
    fn positions_are_ordered_by_segment_and_then_by_path() {
        assert!(at(0, "z/z") < at(1, "a/a"));
        assert!(at(1, "a/__id9__") < at(1, "a/__id10__"));
    }
}
