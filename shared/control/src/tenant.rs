//! Proofs of who acts in which organization. Nothing else leads to a key of an item.

mod caller;
mod worker;

pub use caller::Caller;
pub use worker::Worker;

use crate::id::OrganizationId;

/// An organization that somebody has proven to act in. Made by [`Caller`] and [`Worker`] only: the field is private to
/// this module, and there is no other way to make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OrganizationScope(OrganizationId);

impl OrganizationScope {
    pub(crate) const fn organization(&self) -> OrganizationId {
        self.0
    }
}

/// The scope of an organization that is only now being made, by the caller who becomes its owner.
pub(crate) use self::birth::scope_of_new_organization;

mod birth {
    use super::OrganizationScope;
    use crate::id::OrganizationId;

    /// Only for [`first_owner`](crate::Control::first_owner): the id was made up a moment ago, so nothing is in there.
    pub(crate) const fn scope_of_new_organization(id: OrganizationId) -> OrganizationScope {
        OrganizationScope(id)
    }
}

#[cfg(test)]
pub(crate) fn scope_for_tests(id: OrganizationId) -> OrganizationScope {
    OrganizationScope(id)
}
