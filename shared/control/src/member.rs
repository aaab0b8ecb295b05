//! Verbs on the members of an organization.

use firebackup_model::Timestamp;
use firebackup_model::port::ItemWrite;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::audit::Act;
use crate::control::Control;
use crate::error::{Code, ControlError, Result};
use crate::id::{OrganizationId, UserId};
use crate::item_keys;
use crate::page::{Page, Paged};
use crate::record::{MAX_ATTEMPTS, Stored, Written, new_item};
use crate::role::{Right, Role};
use crate::tenant::{Caller, OrganizationScope};
use crate::user::User;

/// A member of an organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Names the person.
    pub user_id: UserId,
    /// Their name when they joined.
    pub name: String,
    /// Their address when they joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// What they may do.
    pub role: Role,
    /// When they joined.
    #[schema(value_type = String, format = DateTime)]
    pub joined_at: Timestamp,
}

/// What is to be changed of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MemberChange {
    /// What they may do; no more than whoever asks for it.
    pub role: Role,
}

/// That a user is a member of an organization: the way from the one to the others.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Membership {
    pub(crate) organization: OrganizationId,
}

impl Member {
    pub(crate) fn new(user: &User, role: Role, joined_at: Timestamp) -> Self {
        Self { user_id: user.id, name: user.name.clone(), email: user.email.clone(), role, joined_at }
    }

    /// What makes somebody a member.
    pub(crate) fn writes(&self, scope: &OrganizationScope) -> Result<[ItemWrite; 2]> {
        let membership = Membership { organization: scope.organization() };
        let link = item_keys::membership(&self.user_id, &scope.organization());
        Ok([
            ItemWrite::Create(new_item(scope.member_key(&self.user_id), self, None)?),
            ItemWrite::Create(new_item(link, &membership, None)?),
        ])
    }
}

impl Control {
    /// The organization's members, those that signed up first first.
    ///
    /// # Errors
    /// When the page cannot be, or the store fails.
    pub async fn members(&self, caller: &Caller, page: &Page) -> Result<Paged<Member>> {
        caller.may(Right::Read)?;
        self.list(caller.scope().members(), page, |member: Member| Some(member)).await
    }

    /// Changes the role of a member.
    ///
    /// # Errors
    /// [`Forbidden`](crate::Kind::Forbidden) where the old or the new role is more than the caller's;
    /// [`LastOwner`](Code::LastOwner) where no owner would be left.
    pub async fn update_member(&self, caller: &Caller, id: &UserId, change: MemberChange) -> Result<Member> {
        caller.may(Right::ManageMembers)?;
        for _ in 0..MAX_ATTEMPTS {
            let mut member = self.member(caller.scope(), id).await?;
            check_above(caller, member.value.role)?;
            check_above(caller, change.role)?;
            if member.value.role == change.role {
                return Ok(member.value);
            }
            let mut writes = self.another_owner_stays(caller.scope(), &member.value).await?;
            let act = Act::new("member.updated", id).with(json!({ "from": member.value.role, "to": change.role }));
            member.value.role = change.role;
            writes.push(member.replace(None)?);
            if self.commit(caller.author(), act, writes).await? == Written::Yes {
                return Ok(member.value);
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Takes a member out of the organization; everybody may leave. What they have started goes on.
    ///
    /// # Errors
    /// As [`Self::update_member`].
    pub async fn remove_member(&self, caller: &Caller, id: &UserId) -> Result<()> {
        let leaves = caller.user() == Some(*id);
        if !leaves {
            caller.may(Right::ManageMembers)?;
        }
        for _ in 0..MAX_ATTEMPTS {
            let member = self.member(caller.scope(), id).await?;
            if !leaves {
                check_above(caller, member.value.role)?;
            }
            let mut writes = self.another_owner_stays(caller.scope(), &member.value).await?;
            writes.push(member.delete());
            let link = item_keys::membership(id, &caller.organization());
            writes.extend(self.load::<Membership>(&link).await?.map(|link| link.delete()));
            if self.commit(caller.author(), Act::new("member.removed", id), writes).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }

    pub(crate) async fn member(&self, scope: &OrganizationScope, id: &UserId) -> Result<Stored<Member>> {
        self.found(&scope.member_key(id), "member").await
    }

    /// That an owner stays when this one goes, and is still one when the transaction is done.
    async fn another_owner_stays(&self, scope: &OrganizationScope, leaving: &Member) -> Result<Vec<ItemWrite>> {
        if leaving.role != Role::Owner {
            return Ok(Vec::new());
        }
        let members = self.all::<Member>(scope.members()).await?;
        let other =
            members.iter().find(|other| other.value.role == Role::Owner && other.value.user_id != leaving.user_id);
        other.map(|other| vec![other.check()]).ok_or_else(|| {
            let message = "they are the last owner: make somebody else one first";
            ControlError::conflict(Code::LastOwner, message)
        })
    }
}

/// Nobody has power over whoever may do more, nor gives more than they have.
pub(crate) fn check_above(caller: &Caller, role: Role) -> Result<()> {
    if role <= caller.role() {
        return Ok(());
    }
    Err(ControlError::forbidden(format!("the role {} is more than your own", role.name())))
}
