//! Which moments of a database can be put back, read in its repository.

use std::sync::Arc;

use async_trait::async_trait;
use firebackup_control::{
    AskedMoment, CapturedGap, Code, ControlError, FindMoment, FoundMoment, Kind, OpenedPlace, RestoredReport,
};
use firebackup_engine::{EngineError, Moments, as_reported};
use firebackup_model::id::JobId;
use firebackup_model::{DatabaseName, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::failure::Failure;
use crate::state::HttpState;
use crate::unreadable::{problem, unreached};

/// The most windows that are told, and how many where nothing is said.
const MAX_WINDOWS: u32 = 1000;
const WINDOWS: u32 = 100;

/// How much is told of the moments.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WindowParameters {
    /// The database; `(default)`, or the only one, where none is named.
    pub(crate) database: Option<String>,
    /// How many windows at most, the newest.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// Which moments can be put back.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PitrWindows {
    /// The database: `<project>/<database>`.
    #[schema(example = "my-app-1234/(default)")]
    database: String,
    /// Stretches within which the newest moment at or before any time can be put back; the newest first.
    windows: Vec<PitrWindow>,
    /// What lies between two windows that follow each other: nothing is known of it. The newest first.
    gaps: Vec<CapturedGap>,
    /// How many windows there are.
    total: u64,
    /// How many moments there are.
    moments: u64,
}

/// A stretch of time of which every moment can be put back.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PitrWindow {
    /// Its first moment.
    #[schema(value_type = String, format = DateTime)]
    start: Timestamp,
    /// Its last moment.
    #[schema(value_type = String, format = DateTime)]
    end: Timestamp,
    /// How many moments it has.
    moments: u64,
}

/// Tells the windows of a database.
pub(crate) async fn windows(
    state: &HttpState,
    (place, database): (OpenedPlace, DatabaseName),
    asked: &WindowParameters,
) -> Result<PitrWindows, Failure> {
    let most = asked.limit.unwrap_or(WINDOWS);
    if !(1..=MAX_WINDOWS).contains(&most) {
        return Err(ControlError::field("limit", format!("expected 1 to {MAX_WINDOWS}")).into());
    }
    let moments = read(state, &place, &database).await?;
    let (all, most) = (moments.windows(), most as usize);
    let newest = all.iter().rev().take(most);
    let gaps = moments.gaps().into_iter().rev().take(most);
    Ok(PitrWindows {
        database: database.to_string(),
        total: all.len() as u64,
        moments: all.iter().map(|window| window.moments).sum(),
        windows: newest.map(|one| PitrWindow { start: one.start, end: one.end, moments: one.moments }).collect(),
        gaps: gaps.map(|gap| CapturedGap { after: gap.after, until: gap.until }).collect(),
    })
}

async fn read(state: &HttpState, place: &OpenedPlace, database: &DatabaseName) -> Result<Moments, ControlError> {
    let repository = state.repositories.open(place).await?;
    Moments::read(&repository, database).await.map_err(unreadable)
}

/// What is wrong with a chain, or the way to it.
fn unreadable(error: EngineError) -> ControlError {
    if error.is_of_the_backup() {
        let message = format!("the captured changes cannot be read: {}", problem(&error));
        return ControlError::new(Kind::Unprocessable, Code::BackupUnreadable, message).with_source(error);
    }
    unreached(error)
}

#[async_trait]
impl FindMoment for HttpState {
    async fn find(
        &self,
        place: &OpenedPlace,
        database: &DatabaseName,
        asked: AskedMoment,
    ) -> Result<FoundMoment, ControlError> {
        let moments = read(self, place, database).await?;
        let found = moments.resolve(asked.at, asked.exact).map_err(|error| unavailable(&moments, asked.at, error))?;
        Ok(FoundMoment { point: found.point, base: found.base, is_base: found.is_base })
    }

    async fn find_reported(
        &self,
        place: &OpenedPlace,
        database: &DatabaseName,
        reported: &RestoredReport,
    ) -> Result<JobId, ControlError> {
        let repository = self.repositories.open(place).await?;
        let moments = Moments::read(&repository, database).await.map_err(unreadable)?;
        let at = reported.point_in_time;
        let Some(near) = moments.snapshot_near(at) else {
            let error = EngineError::NotFound(format!("there is no backup of the whole of {database}"));
            return Err(unavailable(&moments, at, error));
        };
        match as_reported(&repository, database, &reported.document, at, &Arc::default()).await {
            Ok(_) => Ok(near),
            Err(error @ (EngineError::NotFound(_) | EngineError::Refused(_))) => Err(unavailable(&moments, at, error)),
            Err(error) => Err(unreadable(error)),
        }
    }
}

/// Why a time cannot be put back, and the moments beside it.
fn unavailable(moments: &Moments, at: Timestamp, error: EngineError) -> ControlError {
    let before = moments.points().take_while(|point| *point <= at).last();
    let after = moments.points().find(|point| *point > at);
    ControlError::new(Kind::Unprocessable, Code::MomentUnavailable, error.to_string())
        .with_details(json!({ "field": "pointInTime", "before": before, "after": after }))
        .with_source(error)
}
