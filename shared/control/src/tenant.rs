//! Proofs of who acts in which organization. Nothing else leads to a key of an item.

mod caller;
mod first_owner;
mod worker;

pub use caller::Caller;
pub use first_owner::FirstOwner;
pub use worker::Worker;

use crate::id::OrganizationId;

/// An organization that somebody has proven to act in. The field is private to this module, and only here is it filled:
/// for a [`Caller`], for a [`Worker`], and for the organization that [`first_owner`](crate::Control::first_owner) is
/// about to make.
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
