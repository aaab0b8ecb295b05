//! The audit log.

use firebackup_control::{
    AuditEntry, AuditFilter, Code, NewInvite, OrganizationChange, Origin, Outcome, Page, Refused, Role, ScheduleChange,
    ScheduleFilter,
};
use firebackup_model::port::ItemStore;
use firebackup_testkit::memory_issuer::identity;

use crate::world::{PLANTED_KEY, PLANTED_OPTION, World, code, completed, new_schedule};

async fn entries(world: &World, filter: &AuditFilter) -> Vec<AuditEntry> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = Page { page: 1, limit: 7, cursor };
        let page = world.control.audit(&world.owner().await, filter, &page).await.unwrap();
        found.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return found;
        }
    }
}

async fn actions(world: &World) -> Vec<String> {
    let mut actions: Vec<_> = entries(world, &AuditFilter::default()).await.into_iter().map(|one| one.action).collect();
    // the clock stands: of what happens within a millisecond nobody knows the order
    actions.sort();
    actions
}

#[tokio::test]
async fn every_change_of_state_is_an_entry() {
    let world = World::new().await;
    let owner = world.owner().await;
    let control = &world.control;
    let (project, destination) = world.set_up().await;
    let schedule = world.schedule(&project).await;
    control.update_schedule(&owner, &schedule.id, ScheduleChange::default()).await.unwrap();
    control.toggle_schedule(&owner, &schedule.id).await.unwrap();
    let backup = world.completed(&project).await;
    let restore = control
        .create_restore(&owner, crate::world::new_restore(&backup), &crate::world::NoMoments, None)
        .await
        .unwrap();
    control.cancel_restore(&owner, &restore.job.id).await.unwrap();
    control.delete_backup(&owner, &project.id, &backup.job.id).await.unwrap();
    control.backup_gone(&world.worker().await, &backup.job.id).await.unwrap();
    control.remove_schedule(&owner, &schedule.id).await.unwrap();
    control.update_project(&owner, &project.id, Default::default()).await.unwrap();
    control.update_destination(&owner, &destination.id, Default::default()).await.unwrap();
    control.verify_destination(&owner, &destination.id).await.unwrap();
    let (key, _) = world.key(Role::Viewer).await;
    control.revoke_api_key(&owner, &key.id).await.unwrap();
    let invite = NewInvite { email: "bob@example.com".to_owned(), role: Role::Member };
    let (invite, token) = control.invite(&owner, invite).await.unwrap();
    control.resend_invite(&owner, &invite.id).await.unwrap();
    control.revoke_invite(&owner, &invite.id).await.unwrap();
    let bob = world.person(identity("Bob", "bob@example.com")).await;
    assert!(control.accept_invite(&bob, &token).await.is_err());
    let again = NewInvite { email: "bob@example.com".to_owned(), role: Role::Member };
    let (_, token) = control.invite(&owner, again).await.unwrap();
    control.accept_invite(&bob, &token).await.unwrap();
    control.update_member(&owner, &bob.user(), firebackup_control::MemberChange { role: Role::Admin }).await.unwrap();
    control.sign_out(&bob).await.unwrap();
    control.remove_member(&owner, &bob.user()).await.unwrap();
    control.update_organization(&owner, OrganizationChange::default()).await.unwrap();
    let expected = "organization.created project.created storage.connected schedule.created schedule.updated \
        schedule.updated backup.requested backup.started backup.completed restore.requested restore.cancelled \
        backup.deleted backup.gone schedule.deleted project.updated storage.updated storage.verified api_key.created \
        api_key.revoked invite.created invite.resent invite.revoked invite.created member.added member.updated \
        session.ended member.removed organization.updated";
    let mut expected: Vec<_> = expected.split_whitespace().collect();
    expected.sort_unstable();
    assert_eq!(actions(&world).await, expected);
}

#[tokio::test]
async fn an_entry_says_who_from_where_and_what_and_no_secret() {
    let world = World::new().await;
    let origin = Origin { address: "192.0.2.9".parse().ok(), request: Some("request-1".to_owned()) };
    let owner = world.owner().await.from(origin);
    let project = world.control.connect_project(&owner, crate::world::new_project("Shop")).await.unwrap();
    world.destination().await;
    let found = entries(&world, &AuditFilter { action: Some("project.".to_owned()), ..AuditFilter::default() }).await;
    let [entry] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((entry.actor.as_str(), entry.outcome), (owner.actor().to_string().as_str(), Outcome::Done));
    assert_eq!(entry.resource, Some(project.id.to_string()));
    assert_eq!((entry.address.as_deref(), entry.request_id.as_deref()), (Some("192.0.2.9"), Some("request-1")));
    assert_eq!(entry.details.as_ref().unwrap()["name"], "Shop");
    let all = format!("{:?}", entries(&world, &AuditFilter::default()).await);
    assert!(!all.contains(PLANTED_KEY) && !all.contains(PLANTED_OPTION), "{all}");
}

#[tokio::test]
async fn a_change_that_is_not_made_leaves_no_entry_and_a_change_that_cannot_be_told_is_not_made() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let before = actions(&world).await;
    assert!(
        world
            .control
            .create_schedule(&world.owner().await, {
                let mut new = new_schedule(&project);
                new.cron_expression = "nonsense".to_owned();
                new
            })
            .await
            .is_err()
    );
    assert_eq!(actions(&world).await, before);
    // the transaction fails at its last write, which is the entry
    world.items.break_partitions("#AUDIT#");
    assert!(world.control.create_schedule(&world.owner().await, new_schedule(&project)).await.is_err());
    let schedules =
        world.control.schedules(&world.owner().await, &ScheduleFilter::default(), &Page::default()).await.unwrap();
    assert!(schedules.items.is_empty(), "the entry and the change are one");
}

#[tokio::test]
async fn no_verb_changes_an_entry() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    world.completed(&project).await;
    let audit = |world: &World| {
        let items = world.items.all().into_iter().filter(|item| item.key.partition.contains("#AUDIT#"));
        items.map(|item| (item.key, item.version, item.body)).collect::<Vec<_>>()
    };
    let before = audit(&world);
    assert!(before.len() >= 6 && before.iter().all(|(_, version, _)| *version == 1));
    world.key(Role::Viewer).await;
    let viewer = world.caller(Role::Viewer).await;
    for _ in 0..3 {
        world.control.note_refused(&viewer, &refused()).await;
    }
    let after = audit(&world);
    assert!(before.iter().all(|entry| after.contains(entry)), "what was there is there as it was");
    assert!(after.iter().all(|(_, version, _)| *version == 1));
}

fn refused() -> Refused<'static> {
    Refused { method: "DELETE", route: "/projects/{projectId}", code: Code::Forbidden }
}

#[tokio::test]
async fn a_refused_attempt_is_one_entry_a_minute_with_a_count() {
    let world = World::new().await;
    let viewer = world.caller(Role::Viewer).await;
    let only = AuditFilter { outcome: Some(Outcome::Refused), ..AuditFilter::default() };
    world.next_minute();
    for _ in 0..5 {
        world.control.note_refused(&viewer, &refused()).await;
    }
    world.clock.advance(60);
    world.control.note_refused(&viewer, &refused()).await;
    let found = entries(&world, &only).await;
    let told: Vec<_> = found.iter().map(|entry| (entry.action.as_str(), entry.count)).collect();
    assert_eq!(told, [("DELETE /projects/{projectId}", Some(1)), ("DELETE /projects/{projectId}", Some(5))]);
    assert_eq!(found[0].actor, viewer.actor().to_string());
}

#[tokio::test]
async fn strangers_cannot_fill_the_table_and_only_the_installation_sees_them() {
    let world = World::new().await;
    world.next_minute();
    let before = world.items.all().len();
    for number in 0..5_000_u32 {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + number);
        let origin = Origin { address: Some(address.into()), request: None };
        world.control.note_stranger(&origin, &Refused { code: Code::InvalidToken, ..refused() }).await;
    }
    assert!(
        world.items.all().len() - before <= 2 * 101,
        "a hundred addresses and the others, an entry and a count each"
    );
    let owner = world.owner().await;
    let (mut total, mut rows, mut cursor) = (0, 0, None);
    loop {
        let page = world.control.strangers(&owner, &Page { page: 1, limit: 100, cursor }).await.unwrap();
        rows += page.items.len();
        total += page.items.iter().filter_map(|entry| entry.count).sum::<u64>();
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!((rows, total), (101, 5_000), "and none is lost");
    let rival = world.second_organization().await;
    assert_eq!(code(world.control.strangers(&rival, &Page::default()).await), Code::Forbidden);
    assert_eq!(
        code(world.control.strangers(&world.caller(Role::Admin).await, &Page::default()).await),
        Code::Forbidden
    );
    assert!(!format!("{:?}", entries(&world, &AuditFilter::default()).await).contains("10.0."));
}

#[tokio::test]
async fn a_search_goes_through_the_months_and_stops_where_it_is_told() {
    let world = World::new().await;
    let start = world.now();
    for month in 0..5 {
        for _ in 0..3 {
            world.control.update_organization(&world.owner().await, OrganizationChange::default()).await.unwrap();
        }
        if month < 4 {
            world.clock.advance(31 * 86_400);
        }
    }
    let updates = AuditFilter { action: Some("organization.updated".to_owned()), ..AuditFilter::default() };
    let all = entries(&world, &updates).await;
    assert_eq!(all.len(), 15);
    assert!(all.is_sorted_by(|a, b| a.timestamp >= b.timestamp), "newest first, across months");
    let (from, to) = (start.plus_seconds(31 * 86_400), start.plus_seconds(3 * 31 * 86_400));
    let some = entries(&world, &AuditFilter { from: Some(from), to: Some(to), ..updates.clone() }).await;
    assert_eq!(some.len(), 6, "from is in, to is not");
    let none = AuditFilter { from: Some(world.now().plus_seconds(1)), ..updates };
    assert!(entries(&world, &none).await.is_empty());
    let page = Page { cursor: Some("nonsense".to_owned()), ..Page::default() };
    let refused = world.control.audit(&world.owner().await, &AuditFilter::default(), &page).await;
    assert_eq!(code(refused), Code::InvalidCursor);
}

#[tokio::test]
async fn another_organization_sees_nothing_of_it() {
    let world = World::new().await;
    world.set_up().await;
    let rival = world.second_organization().await;
    let found = world.control.audit(&rival, &AuditFilter::default(), &Page::default()).await.unwrap();
    assert!(found.items.iter().all(|entry| entry.action == "organization.created"), "{found:?}");
    assert_eq!(
        code(world.control.audit(&world.caller(Role::Viewer).await, &AuditFilter::default(), &Page::default()).await),
        Code::Forbidden
    );
}

#[tokio::test]
async fn a_job_that_ends_twice_is_told_once() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let backup = world.completed(&project).await;
    let worker = world.worker().await;
    world.control.finish_job(&worker, &backup.job.id, completed()).await.unwrap();
    let ended = actions(&world).await.into_iter().filter(|action| action == "backup.completed").count();
    assert_eq!(ended, 1);
    assert!(world.items.get(&firebackup_model::port::ItemKey::new("x", "y")).await.unwrap().is_none());
}
