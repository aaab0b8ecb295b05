//! Organizations, their members and invites.

use firebackup_control::{
    Code, ControlSettings, Invite, Kind, MemberChange, NewInvite, NewOrganization, Origin, Page, Role, SignUp, UserId,
};
use firebackup_testkit::memory_issuer::identity;
use zeroize::Zeroizing;

use crate::world::{World, code};

pub async fn invited(world: &World, email: &str, role: Role) -> (Invite, Zeroizing<String>) {
    world.control.invite(&world.owner().await, NewInvite { email: email.to_owned(), role }).await.unwrap()
}

/// Somebody who has joined the first organization with this role, as a caller.
async fn joined(world: &World, name: &str, role: Role) -> firebackup_control::Caller {
    let email = format!("{name}@example.com");
    let (_, token) = invited(world, &email, role).await;
    let tokens = world.sign_in(identity(name, &email)).await.unwrap();
    let person = world.control.signed_in(&tokens.access, Origin::default()).await.unwrap();
    let organization = world.control.accept_invite(&person, &token).await.unwrap();
    world.control.authenticate(&tokens.access, Some(&organization.id)).await.unwrap()
}

#[tokio::test]
async fn an_invite_is_for_one_address_and_good_once() {
    let world = World::new().await;
    let (invite, token) = invited(&world, "Bob@Example.com", Role::Member).await;
    assert_eq!(invite.email, "bob@example.com");
    let eve = world.person(identity("Eve", "eve@example.com")).await;
    assert_eq!(code(world.control.accept_invite(&eve, &token).await), Code::InviteInvalid);
    let mut liar = identity("Liar", "bob@example.com");
    liar.email_verified = false;
    let liar = world.person(liar).await;
    assert_eq!(code(world.control.accept_invite(&liar, &token).await), Code::InviteInvalid, "nobody vouches for it");
    let bob = world.person(identity("Bob", "bob@example.com")).await;
    assert_eq!(code(world.control.accept_invite(&bob, "fbi_nonsense").await), Code::InviteInvalid);
    let (a, b) = tokio::join!(world.control.accept_invite(&bob, &token), world.control.accept_invite(&bob, &token));
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    assert_eq!(code(world.control.accept_invite(&bob, &token).await), Code::InviteInvalid);
    let members = world.control.members(&world.owner().await, &Page::default()).await.unwrap().items;
    assert_eq!(
        members.iter().map(|member| (member.name.as_str(), member.role)).collect::<Vec<_>>(),
        [("Bob", Role::Member)]
    );
    let organizations = world.control.organizations(&bob, &Page::default()).await.unwrap().items;
    assert_eq!(organizations.len(), 2, "his own and the one that he joined");
}

#[tokio::test]
async fn an_invite_that_is_sent_again_taken_back_or_too_old_is_no_good() {
    let world = World::new().await;
    let owner = world.owner().await;
    let bob = world.person(identity("Bob", "bob@example.com")).await;
    let (invite, first) = invited(&world, "bob@example.com", Role::Viewer).await;
    let (again, second) = world.control.resend_invite(&owner, &invite.id).await.unwrap();
    assert_eq!(again.id, invite.id);
    assert_eq!(code(world.control.accept_invite(&bob, &first).await), Code::InviteInvalid);
    world.control.revoke_invite(&owner, &invite.id).await.unwrap();
    assert_eq!(code(world.control.accept_invite(&bob, &second).await), Code::InviteInvalid);
    assert_eq!(code(world.control.revoke_invite(&owner, &invite.id).await), Code::NotFound);
    let (invite, old) = invited(&world, "bob@example.com", Role::Viewer).await;
    world.clock.advance(7 * 86_400 + 1);
    assert_eq!(code(world.control.accept_invite(&bob, &old).await), Code::InviteInvalid);
    assert_eq!(code(world.control.resend_invite(&owner, &invite.id).await), Code::NotFound);
    assert!(world.control.invites(&owner, &Page::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn whoever_is_invited_may_sign_up_where_nobody_else_may() {
    let settings = ControlSettings { sign_up: SignUp::Invited, ..ControlSettings::default() };
    let world = World::first(settings).await;
    assert_eq!(code(world.sign_in(identity("Bob", "bob@example.com")).await), Code::SignUpClosed);
    let (invite, _) = invited(&world, "bob@example.com", Role::Member).await;
    assert!(world.sign_in(identity("Bob", "bob@example.com")).await.is_ok());
    world.control.revoke_invite(&world.owner().await, &invite.id).await.unwrap();
    assert!(world.sign_in(identity("Bob", "bob@example.com")).await.is_ok(), "he is a user by now");
    assert_eq!(code(world.sign_in(identity("Bob2", "bob@example.com")).await), Code::SignUpClosed);
}

#[tokio::test]
async fn nobody_has_power_over_whoever_may_do_more() {
    let world = World::new().await;
    let (admin, member) = (joined(&world, "admin", Role::Admin).await, joined(&world, "member", Role::Member).await);
    let owner = joined(&world, "owner", Role::Owner).await;
    let id = |caller: &firebackup_control::Caller| caller.user().unwrap();
    let change = async |caller, id: &UserId, role| world.control.update_member(caller, id, MemberChange { role }).await;
    assert_eq!(code(change(&admin, &id(&owner), Role::Viewer).await), Code::Forbidden);
    assert_eq!(code(change(&admin, &id(&member), Role::Owner).await), Code::Forbidden);
    assert_eq!(code(world.control.remove_member(&admin, &id(&owner)).await), Code::Forbidden);
    let more = NewInvite { email: "x@example.com".to_owned(), role: Role::Owner };
    assert_eq!(code(world.control.invite(&admin, more).await), Code::Forbidden);
    assert_eq!(code(change(&member, &id(&member), Role::Viewer).await), Code::Forbidden);
    assert_eq!(code(world.control.remove_member(&member, &id(&admin)).await), Code::Forbidden);
    assert_eq!(change(&admin, &id(&member), Role::Admin).await.unwrap().role, Role::Admin);
    world.control.remove_member(&admin, &id(&admin)).await.unwrap();
    assert_eq!(code(change(&owner, &id(&admin), Role::Admin).await), Code::NotFound, "who leaves is gone");
}

#[tokio::test]
async fn a_role_that_changes_and_a_member_who_goes_count_at_once() {
    let world = World::new().await;
    let owner = world.owner().await;
    let (_, token) = invited(&world, "bob@example.com", Role::Member).await;
    let tokens = world.sign_in(identity("Bob", "bob@example.com")).await.unwrap();
    let person = world.control.signed_in(&tokens.access, Origin::default()).await.unwrap();
    let organization = world.control.accept_invite(&person, &token).await.unwrap().id;
    let now = async || world.control.authenticate(&tokens.access, Some(&organization)).await;
    assert_eq!(now().await.unwrap().role(), Role::Member);
    world.control.update_member(&owner, &person.user(), MemberChange { role: Role::Viewer }).await.unwrap();
    assert_eq!(now().await.unwrap().role(), Role::Viewer);
    assert_eq!(code(world.control.authenticate(&tokens.access, None).await), Code::OrganizationRequired);
    world.control.remove_member(&owner, &person.user()).await.unwrap();
    let gone = now().await.unwrap_err();
    let unknown = "org_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    let never = world.control.authenticate(&tokens.access, Some(&unknown)).await.unwrap_err();
    assert_eq!((gone.kind, gone.to_string()), (Kind::Forbidden, never.to_string()), "foreign and unknown are one");
}

#[tokio::test]
async fn the_last_owner_cannot_leave_nor_two_at_one_time() {
    let world = World::new().await;
    let (a, b) = (joined(&world, "a", Role::Owner).await, joined(&world, "b", Role::Owner).await);
    let (first, second) = (a.user().unwrap(), b.user().unwrap());
    let (left, also) = tokio::join!(
        world.control.remove_member(&a, &first),
        world.control.update_member(&b, &second, MemberChange { role: Role::Viewer }),
    );
    assert!(left.is_ok() != also.is_ok(), "{left:?} {also:?}");
    let rest = if left.is_ok() { (&b, second) } else { (&a, first) };
    assert_eq!(code(world.control.remove_member(rest.0, &rest.1).await), Code::LastOwner);
}

#[tokio::test]
async fn people_make_organizations_of_their_own_up_to_a_number() {
    let world = World::new().await;
    let ada = world.person(identity("Ada", "ada@example.com")).await;
    let make =
        async |name: &str| world.control.create_organization(&ada, NewOrganization { name: name.to_owned() }).await;
    assert_eq!(code(make(" ").await), Code::ValidationFailed);
    let mut made = 1;
    let refused = loop {
        world.clock.advance(1);
        match make("Another").await {
            Ok(_) => made += 1,
            Err(error) => break error.code,
        }
    };
    assert_eq!((made, refused), (20, Code::LimitReached));
    let page = world.control.organizations(&ada, &Page::number(1, 100)).await.unwrap();
    assert_eq!((page.items.len(), page.total), (20, Some(20)));
}
