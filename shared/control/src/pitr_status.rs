//! What is told of a capture: how much there is, whether it is well, and where its moments are.

use firebackup_model::{DatabaseName, Timestamp};
use serde::Serialize;

use crate::control::Control;
use crate::error::Result;
use crate::event_intake::PushStatistics;
use crate::id::{DestinationId, ProjectId};
use crate::pitr_record::{CapturedGap, PitrRecord, PitrStatus};
use crate::role::Right;
use crate::tenant::{Caller, OrganizationScope, Worker};
use crate::work::OpenedPlace;

/// How much was captured, as it was seen last.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PitrStatistics {
    /// How it stands.
    pub status: PitrStatus,
    /// The last consistent point that is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub captured_through: Option<Timestamp>,
    /// The last one that can be put back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub proven_through: Option<Timestamp>,
    /// Segments of captured changes.
    pub segments: u64,
    /// Documents that they say were put or deleted.
    pub changes: u64,
    /// Bytes that they take.
    pub stored_bytes: u64,
    /// How often the whole database was read in 24 hours, because what it told of changes could not be believed.
    pub scans_today: u64,
    /// Document reads of that, which Google bills.
    pub scan_reads_today: u64,
    /// Stretches of time of which nothing is known.
    pub gaps: u64,
    /// What became of events that were posted; nothing where none are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub push: Option<PushStatistics>,
    /// When this was seen, but for what is told of events; nothing before the first window.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub checked_at: Option<Timestamp>,
}

/// Whether changes are captured as they should be.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PitrHealth {
    /// How it stands.
    pub status: PitrStatus,
    /// Why it stands so, where there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When changes were last captured, or there were none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub captured_at: Option<Timestamp>,
    /// Up to where it was listened.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub listened_through: Option<Timestamp>,
    /// The last moment that can be put back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub proven_through: Option<Timestamp>,
    /// Seconds since that moment. While nothing changes it grows, to twenty minutes or a window at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<f64>,
    /// Windows that failed, one after the other, up to now.
    pub failures: u32,
    /// What last went wrong; it may be over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_error_at: Option<Timestamp>,
    /// The newest stretches of time of which nothing is known, the newest first.
    pub gaps: Vec<CapturedGap>,
    /// When the next window begins; nothing while nobody should capture.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_window_at: Option<Timestamp>,
}

impl Control {
    /// How much was captured.
    ///
    /// # Errors
    /// As [`Self::pitr`].
    pub async fn pitr_statistics(
        &self,
        caller: &Caller,
        project: &ProjectId,
        database: Option<&str>,
    ) -> Result<PitrStatistics> {
        caller.may(Right::Read)?;
        let record = self.pitr_record(caller.scope(), project, database).await?.value;
        let push = self.push_statistics(&record).await?;
        Ok(PitrStatistics { push, ..record.statistics(self.now()) })
    }

    /// Whether changes are captured as they should be.
    ///
    /// # Errors
    /// As [`Self::pitr`].
    pub async fn pitr_health(
        &self,
        caller: &Caller,
        project: &ProjectId,
        database: Option<&str>,
    ) -> Result<PitrHealth> {
        caller.may(Right::Read)?;
        Ok(self.pitr_record(caller.scope(), project, database).await?.value.health(self.now()))
    }

    /// Where the captured changes of a database are, and which that is, to look for moments in them.
    ///
    /// # Errors
    /// As [`Self::pitr`]; [`Conflict`](crate::Kind::Conflict) where the destination is gone.
    pub async fn open_moments(
        &self,
        caller: &Caller,
        project: &ProjectId,
        database: Option<&str>,
    ) -> Result<(OpenedPlace, DatabaseName)> {
        caller.may(Right::Read)?;
        let record = self.pitr_record(caller.scope(), project, database).await?.value;
        let organization = self.organization_record(caller.scope()).await?;
        let place = (record.storage_destination_id, record.repository());
        let place = self.place_at(caller.scope(), organization, place.0, place.1).await?;
        Ok((place, DatabaseName::new(&record.google_project, &record.database)))
    }

    /// For how many days every captured moment in a repository is kept: the most of its databases, and the longest that anybody may
    /// have said where what was said is gone, with a project, or with a configuration that is another's by now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn moments_kept(&self, worker: &Worker, place: &OpenedPlace) -> Result<Option<u32>> {
        self.days_kept(worker.scope(), (place.project, place.destination.id, place.encrypted)).await
    }

    /// The same of the repository of a project in a destination, encrypted or not.
    pub(crate) async fn days_kept(
        &self,
        scope: &OrganizationScope,
        (project, destination, encrypt): (ProjectId, DestinationId, bool),
    ) -> Result<Option<u32>> {
        let all = self.all::<PitrRecord>(scope.pitrs_of(&project)).await?.into_iter().map(|record| record.value);
        let here = all.filter(|pitr| pitr.storage_destination_id == destination && pitr.encrypt == encrypt);
        Ok(here.map(|pitr| pitr.retention_days).max())
    }
}

impl PitrRecord {
    fn statistics(&self, now: Timestamp) -> PitrStatistics {
        let facts = &self.course.facts;
        PitrStatistics {
            status: self.status(now).0,
            captured_through: facts.captured_through,
            proven_through: facts.proven_through,
            segments: facts.segments,
            changes: facts.changes,
            stored_bytes: facts.stored_bytes,
            scans_today: facts.scans_today,
            scan_reads_today: facts.scan_reads_today,
            gaps: facts.gaps,
            push: None,
            checked_at: self.course.looked_at,
        }
    }

    fn health(&self, now: Timestamp) -> PitrHealth {
        let (status, reason) = self.status(now);
        let course = &self.course;
        let proven_through = course.facts.proven_through;
        PitrHealth {
            status,
            reason,
            captured_at: course.captured_at,
            listened_through: course.through,
            proven_through,
            lag_seconds: proven_through.map(|point| now.seconds_since(point).max(0.0)),
            failures: course.failures,
            last_error: course.trouble.clone(),
            last_error_at: course.trouble_at,
            gaps: course.facts.newest_gaps.clone(),
            next_window_at: self.is_on().then_some(self.due),
        }
    }
}
