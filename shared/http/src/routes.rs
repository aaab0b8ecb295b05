//! The handlers, a file a resource. Each decodes, calls one verb and wraps what it says.

pub(crate) mod api_keys;
pub(crate) mod audit;
pub(crate) mod auth;
pub(crate) mod backups;
pub(crate) mod consents;
pub(crate) mod destinations;
pub(crate) mod drills;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod invites;
pub(crate) mod members;
pub(crate) mod organizations;
pub(crate) mod pitr;
pub(crate) mod projects;
pub(crate) mod restores;
pub(crate) mod schedules;
pub(crate) mod webhooks;

use serde::Serialize;
use utoipa::ToSchema;

use crate::envelope::{Answer, Listed};
use crate::failure::Failure;

/// What a handler of one thing returns.
type Handled<T> = Result<Answer<T>, Failure>;
/// What a handler of a list returns.
type HandledList<T> = Result<Listed<T>, Failure>;

/// What was removed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Removed {
    /// Its id, which names nothing any more.
    id: String,
}

impl Removed {
    fn answer(id: impl ToString) -> Answer<Self> {
        Answer::of(Self { id: id.to_string() })
    }
}
