//! How many of something there may be, however many ask for one more at the same moment.
//!
//! Whoever makes one more counts what is there, and replaces a mark in the transaction that makes it: of two who have counted
//! the same, one has to count again. What is removed leaves the mark alone, so that at worst too many are counted.

use firebackup_model::port::{ItemKey, ItemQuery, ItemWrite};
use serde::{Deserialize, Serialize};

use crate::audit::Act;
use crate::control::Control;
use crate::error::{Code, ControlError, Result};
use crate::item_keys;
use crate::limit::{MAX_RECORDS, MAX_WEBHOOKS};
use crate::record::{MAX_ATTEMPTS, Written, new_item};
use crate::tenant::{Author, OrganizationScope, Person};

/// What an organization may have only so many of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Projects,
    Destinations,
    Schedules,
    Members,
    Invites,
    ApiKeys,
    Webhooks,
}

/// The most organizations of which somebody may be a member who makes another one.
const MAX_ORGANIZATIONS: usize = 20;

/// Of no meaning but for its version.
#[derive(Debug, Serialize, Deserialize)]
struct RoomMark {}

/// Something that there is a most of.
struct Bounded {
    mark: ItemKey,
    records: ItemQuery,
    most: usize,
    refusal: String,
}

impl Kept {
    /// What they are called, where people read it.
    const fn noun(self) -> &'static str {
        match self {
            Self::Projects => "projects",
            Self::Destinations => "destinations",
            Self::Schedules => "schedules",
            Self::Members => "members",
            Self::Invites => "invites",
            Self::ApiKeys => "api keys",
            Self::Webhooks => "webhooks",
        }
    }

    /// How many there may be.
    pub(crate) const fn most(self) -> usize {
        match self {
            Self::Webhooks => MAX_WEBHOOKS,
            _ => MAX_RECORDS,
        }
    }

    /// Those that there are.
    pub(crate) fn records(self, scope: &OrganizationScope) -> ItemQuery {
        match self {
            Self::Projects => scope.projects(),
            Self::Destinations => scope.destinations(),
            Self::Schedules => scope.schedules(),
            Self::Members => scope.members(),
            Self::Invites => scope.invites(),
            Self::ApiKeys => scope.api_keys(),
            Self::Webhooks => scope.webhooks(),
        }
    }

    fn bounded(self, scope: &OrganizationScope) -> Bounded {
        let (noun, most) = (self.noun(), self.most());
        let refusal = format!("an organization has at most {most} {noun}");
        Bounded { mark: scope.room_key(noun), records: self.records(scope), most, refusal }
    }
}

impl Control {
    /// What a transaction holds that makes one more of what an organization may have only so many of.
    ///
    /// # Errors
    /// [`LimitReached`](Code::LimitReached).
    pub(crate) async fn room_for(&self, scope: &OrganizationScope, kept: Kept) -> Result<ItemWrite> {
        self.room(kept.bounded(scope)).await
    }

    /// The same of the organizations that somebody makes.
    ///
    /// # Errors
    /// [`LimitReached`](Code::LimitReached) where they are members of too many.
    pub(crate) async fn room_for_organization(&self, person: &Person) -> Result<ItemWrite> {
        self.room(Bounded {
            mark: item_keys::organizations_room(&person.user()),
            records: item_keys::memberships(&person.user()),
            most: MAX_ORGANIZATIONS,
            refusal: format!("nobody makes an organization who is a member of {MAX_ORGANIZATIONS}"),
        })
        .await
    }

    /// Stores one more, with whatever else that takes.
    ///
    /// # Errors
    /// [`LimitReached`](Code::LimitReached).
    pub(crate) async fn store_one_more(
        &self,
        author: &Author,
        kept: Kept,
        act: &Act,
        writes: &[ItemWrite],
    ) -> Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            let mut writes = writes.to_vec();
            writes.extend([self.room_for(author.scope(), kept).await?, self.goes_on(author.scope()).await?]);
            if self.commit(author, act.clone(), writes).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }

    async fn room(&self, bounded: Bounded) -> Result<ItemWrite> {
        // the mark first: what is made behind the count changes it
        let mark = self.load::<RoomMark>(&bounded.mark).await?;
        let (present, _) = self.count_up_to(bounded.records, bounded.most as u64).await?;
        if present >= bounded.most as u64 {
            return Err(ControlError::conflict(Code::LimitReached, bounded.refusal));
        }
        let item = new_item(bounded.mark, &RoomMark {}, None)?;
        Ok(match mark {
            Some(mark) => ItemWrite::Replace(item, mark.version),
            None => ItemWrite::Create(item),
        })
    }
}
