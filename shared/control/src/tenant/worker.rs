//! Steps and triggers of our own.

use crate::actor::{Actor, Origin};
use crate::control::Control;
use crate::id::OrganizationId;
use crate::tenant::{Author, OrganizationScope};

/// Proof that a step, a trigger or a sweep of our own acts in an organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worker {
    scope: OrganizationScope,
}

impl Control {
    /// A worker in an organization.
    ///
    /// Only for `bootstrap`, which hands over what our own queues, state machines and schedules said: those messages were
    /// written by verbs here, and nobody else may write into them. Never for an id that came with a request.
    #[must_use]
    pub const fn worker(&self, organization: &OrganizationId) -> Worker {
        Worker { scope: OrganizationScope(*organization) }
    }
}

impl Worker {
    /// The organization.
    #[must_use]
    pub const fn organization(&self) -> OrganizationId {
        self.scope.organization()
    }

    pub(crate) const fn scope(&self) -> &OrganizationScope {
        &self.scope
    }

    pub(crate) fn author(&self) -> Author {
        Author { scope: self.scope, actor: Actor::System, origin: Origin::default() }
    }
}
