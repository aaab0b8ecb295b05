//! The folders of a place that may become a destination, and the bucket itself.

use std::time::Duration;

use firebackup_control::{BucketMade, Caller, ControlError, NewBucket, NewPlace};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::failure::Failure;
use crate::state::HttpState;

/// The most folders that are named.
const MOST: usize = 1000;
/// How long a bucket is listed: one with very many objects at that level takes longer than gateways wait.
const MAX_TIME: Duration = Duration::from_secs(20);

/// How long a bucket is made: gateways wait for 29 seconds.
const MAKING: Duration = Duration::from_secs(25);

/// The folders of a place.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Folders {
    /// Their names, in order.
    folders: Vec<String>,
    /// Whether there are more than are named.
    partial: bool,
}

/// Whether a folder needed to be made.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FolderMade {
    /// Whether there is a folder now that can be looked at; false in a bucket, which needs none.
    made: bool,
}

impl Folders {
    pub(crate) async fn of(state: &HttpState, caller: &Caller, place: NewPlace) -> Result<Self, Failure> {
        let access = state.control.place_access(caller, place).await?;
        let listed = timeout(MAX_TIME, state.repositories.folders(&access)).await;
        let too_many = |_| ControlError::destination("there is too much at that level to be listed in time");
        let mut folders = listed.map_err(too_many)??;
        let partial = folders.len() > MOST;
        folders.truncate(MOST);
        Ok(Self { folders, partial })
    }
}

impl FolderMade {
    pub(crate) async fn of(state: &HttpState, caller: &Caller, place: NewPlace) -> Result<Self, Failure> {
        let access = state.control.folder_to_make(caller, place).await?;
        Ok(Self { made: state.repositories.make_folder(&access).await? })
    }
}

/// Makes a bucket.
pub(crate) async fn make_bucket(state: &HttpState, caller: &Caller, new: NewBucket) -> Result<BucketMade, Failure> {
    let bucket = state.control.bucket_to_make(caller, new).await?;
    let made = timeout(MAKING, state.repositories.make_bucket(&bucket)).await;
    let too_slow = |_| {
        ControlError::destination(
            "the store did not answer in time: if the bucket is there now, `POST /storage/buckets/verify` says what it lacks",
        )
    };
    let made = made.map_err(too_slow)??;
    state.control.note_bucket(caller, &bucket, &made).await?;
    Ok(made)
}
