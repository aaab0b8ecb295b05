//! Who changes something, for the entry that tells of it.

use crate::actor::{Actor, Origin};
use crate::tenant::OrganizationScope;

/// Who changes something in which organization, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Author {
    pub(in crate::tenant) scope: OrganizationScope,
    pub(in crate::tenant) actor: Actor,
    pub(in crate::tenant) origin: Origin,
}

impl Author {
    pub(crate) const fn scope(&self) -> &OrganizationScope {
        &self.scope
    }

    pub(crate) const fn actor(&self) -> Actor {
        self.actor
    }

    pub(crate) const fn origin(&self) -> &Origin {
        &self.origin
    }
}
