//! The step of events: one batch of them, of one database, folded into its repository.

use std::sync::Arc;
use std::time::Duration;

use firebackup_control::{DueCapture, FoldWork, Worker};
use firebackup_engine::{EngineError, Folded, fold};
use firebackup_model::port::{StepError, StepErrorKind};
use futures::future::BoxFuture;
use serde::Serialize;

use super::AppSteps;
use crate::failure::{of_control, of_engine};

/// For how many seconds whoever folds keeps others from moving the destination.
const LEASE_SECONDS: u32 = 120;
/// How long a batch may take: less, so that nothing is put behind the end of the lease.
pub(crate) const LIMIT: Duration = Duration::from_secs(100);

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FoldDone {
    /// Events that stand in the repository.
    pub events: u64,
    /// How many others are dated as no change can be, and were left out.
    pub misdated: u64,
    /// Whether they stood there before.
    pub was_there: bool,
    /// Whether more waited than these when they were taken.
    pub has_more: bool,
}

impl AppSteps {
    /// Folds the next batch of events of a database; nothing where none waits, or its repository is not there yet. Doing it
    /// twice, or in two places at once, is doing it once.
    ///
    /// # Errors
    /// When the catalog, the buffer or the repository fails: the events wait.
    pub async fn fold_events(&self, of: &DueCapture) -> Result<Option<FoldDone>, StepError> {
        let worker = self.control.worker(&of.organization);
        let work = self.control.fold_work(&worker, of, LEASE_SECONDS).await.map_err(of_control)?;
        let folded = match &work {
            Some(work) => self.folded(work).await,
            None => Ok(None),
        };
        match (&work, folded) {
            (Some(work), Ok(Some(folded))) => self.settled(&worker, of, work, folded).await.map(Some),
            (_, folded) => {
                // the lease ends by itself where this cannot be said
                if let Err(error) = self.control.release_fold(&worker, of).await {
                    tracing::debug!(error = %error, "it cannot be said that nothing is folded any more");
                }
                folded.map(|_| None)
            }
        }
    }

    async fn folded(&self, work: &FoldWork) -> Result<Option<Folded>, StepError> {
        let folding: BoxFuture<'_, Result<Option<Folded>, EngineError>> = Box::pin(async {
            let repository = match self.places.open(&work.place).await {
                Err(EngineError::NotFound(_)) => return Ok(None),
                opened => opened?,
            };
            fold(&repository, &work.database, &work.events, &Arc::default()).await.map(Some)
        });
        match tokio::time::timeout(LIMIT, folding).await {
            Ok(folded) => folded.map_err(of_engine),
            Err(_) => Err(StepError::new(StepErrorKind::Retryable, "a batch of events took too long")),
        }
    }

    async fn settled(
        &self,
        worker: &Worker,
        of: &DueCapture,
        work: &FoldWork,
        folded: Folded,
    ) -> Result<FoldDone, StepError> {
        self.control.folded(worker, of, work, &folded.misdated).await.map_err(of_control)?;
        let Folded { events, was_there, .. } = folded;
        let misdated = folded.misdated.len() as u64;
        tracing::debug!(project = %of.project, events, misdated, was_there, "events were folded");
        Ok(FoldDone { events, misdated, was_there, has_more: work.has_more })
    }
}
