//! Proofs of who acts in which organization. Nothing else leads to a key of an item.

mod author;
mod caller;
mod consenter;
mod first_owner;
mod new_organization;
mod person;
mod reporter;
mod worker;

pub(crate) use author::Author;
pub use caller::Caller;
pub(crate) use consenter::Consenter;
pub use first_owner::FirstOwner;
pub use person::{Me, Person};
pub(crate) use reporter::Reporter;
pub use reporter::{EventProof, EventSender};
pub use worker::Worker;

use crate::id::OrganizationId;

/// An organization that somebody has proven to act in. The field is private to this module, and only here is it filled:
/// for a [`Caller`], for whoever posts an event of one of its databases, for whoever comes back with what a caller was given, for a [`Worker`], for an organization that is about to be made, and for those that a [`Person`] is a
/// member of or was invited to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OrganizationScope(OrganizationId);

impl OrganizationScope {
    pub(crate) const fn organization(&self) -> OrganizationId {
        self.0
    }
}

#[cfg(test)]
pub(crate) const fn scope_for_tests(id: OrganizationId) -> OrganizationScope {
    OrganizationScope(id)
}
