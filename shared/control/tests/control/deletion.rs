//! The end of an organization.

use firebackup_control::{
    Caller, Code, NewApiKey, NewInvite, NewOrganization, OrganizationDeletion, Origin, Page, Person, Role,
};
use firebackup_testkit::memory_issuer::identity;

use crate::world::{World, code, completed, failed, new_backup, new_destination, new_project, new_schedule};

fn named(name: &str) -> OrganizationDeletion {
    OrganizationDeletion { name: name.to_owned() }
}

/// Somebody with an organization of their own, which is called `Ada's organization`.
async fn ada(world: &World) -> (Person, Caller) {
    let tokens = world.sign_in(identity("Ada", "ada@example.com")).await.unwrap();
    let person = world.control.signed_in(&tokens.access, Origin::default()).await.unwrap();
    (person, world.control.authenticate(&tokens.access, None).await.unwrap())
}

const NAME: &str = "Ada's organization";

/// An organization with everything that one can have and be deleted; and a key of it.
async fn furnished(world: &World, owner: &Caller) -> String {
    let control = &world.control;
    let project = control.connect_project(owner, new_project("Shop")).await.unwrap();
    control.add_destination(owner, new_destination("Bucket")).await.unwrap();
    let schedule = control.create_schedule(owner, new_schedule(&project)).await.unwrap();
    let worker = control.worker(&owner.organization());
    let due = control.schedule_due(&worker, &schedule.id, schedule.next_runs[0]).await.unwrap().unwrap();
    control.start_job(&worker, &due).await.unwrap();
    control.finish_job(&worker, &due, completed()).await.unwrap();
    control.remove_schedule(owner, &schedule.id).await.unwrap();
    for n in 0..30 {
        let backup = control.create_backup(owner, new_backup(&project), Some(&format!("k{n}"))).await.unwrap();
        control.start_job(&worker, &backup.job.id).await.unwrap();
        control.finish_job(&worker, &backup.job.id, if n == 0 { failed() } else { completed() }).await.unwrap();
    }
    control.delete_backup(owner, &project.id, &due).await.unwrap();
    let invite = NewInvite { email: "bob@example.com".to_owned(), role: Role::Member };
    control.invite(owner, invite).await.unwrap();
    let mut secret = String::new();
    for n in 0..30 {
        let key = NewApiKey { name: format!("k{n}"), role: Role::Owner, expires_at: None };
        secret = control.create_api_key(owner, key).await.unwrap().1.to_string();
    }
    secret
}

/// What is left that names an organization, but its audit log.
fn left(world: &World, organization: &str) -> Vec<String> {
    let items = world.items.all().into_iter().map(|item| (item.key, serde_json::to_string(&item.body).unwrap()));
    let items = items.filter(|(key, _)| !key.partition.contains("#AUDIT#") && !key.partition.ends_with("#REFUSED"));
    let named = items.filter(|(key, body)| format!("{key:?} {body}").contains(organization));
    named.map(|(key, _)| format!("{} {}", key.partition, key.sort)).collect()
}

#[tokio::test]
async fn nothing_is_left_but_the_audit_log_and_its_owner_begins_anew() {
    let world = World::new().await;
    let (person, owner) = ada(&world).await;
    let id = owner.organization().to_string();
    let key = furnished(&world, &owner).await;
    let deleted = world.control.delete_organization(&owner, &named(NAME)).await.unwrap();
    assert_eq!((deleted.id.to_string(), deleted.name.as_str()), (id.clone(), NAME));
    assert_eq!(deleted.left, ["s3://bucket/prefix"]);
    assert_eq!(code(world.control.authenticate(&key, None).await), Code::InvalidToken);
    assert_eq!(world.control.go_on_deleting().await.unwrap(), 1);
    let counters = format!("ORG#{id}#JOB#");
    let found: Vec<_> = left(&world, &id).into_iter().filter(|item| !item.starts_with(&counters)).collect();
    assert_eq!(found, Vec::<String>::new());
    let log: Vec<_> = world.items.all().into_iter().filter(|item| item.key.partition.contains("#AUDIT#")).collect();
    let told = |action: &str| log.iter().any(|item| item.body["action"] == action && item.body["resource"] == *id);
    assert!(told("organization.created") && told("organization.deleted") && told("organization.gone"));
    assert_eq!(world.control.go_on_deleting().await.unwrap(), 0, "twice is once");
    // the person is there, and may have another one
    let again = world.person(identity("Ada", "ada@example.com")).await;
    assert_eq!(again.user(), person.user());
    assert!(world.control.organizations(&again, &Page::default()).await.unwrap().items.is_empty());
    let new = NewOrganization { name: "Second".to_owned() };
    let second = world.control.create_organization(&again, new).await.unwrap();
    assert_eq!(ada(&world).await.1.organization(), second.id, "their only one");
}

#[tokio::test]
async fn whoever_dies_after_any_write_leaves_what_the_sweep_goes_on_with() {
    let mut writes = 0;
    loop {
        let world = World::new().await;
        let (_, owner) = ada(&world).await;
        let key = furnished(&world, &owner).await;
        let id = owner.organization().to_string();
        world.items.stop_after(Some(writes));
        let asked = world.control.delete_organization(&owner, &named(NAME)).await;
        let swept = world.control.go_on_deleting().await.unwrap();
        world.items.stop_after(None);
        if asked.is_err() {
            // the mark was not set: all is as it was, and goes on
            assert!(world.control.authenticate(&key, None).await.is_ok(), "after {writes} writes");
            let projects = world.control.projects(&owner, &Default::default(), &Page::default()).await.unwrap();
            let backup = new_backup(&projects.items[0]);
            assert!(world.control.create_backup(&owner, backup, None).await.is_ok(), "after {writes} writes");
        } else {
            assert!(world.control.authenticate(&key, None).await.is_err(), "after {writes} writes");
            assert_eq!(world.control.go_on_deleting().await.unwrap(), 1 - swept, "after {writes} writes");
            let found = left(&world, &id).into_iter().filter(|item| !item.contains("#JOB#"));
            assert_eq!(found.collect::<Vec<_>>(), Vec::<String>::new(), "after {writes} writes");
        }
        if swept == 1 {
            break;
        }
        writes += 1;
    }
    assert!(writes > 5, "{writes} writes are too few to have died between them");
}

#[tokio::test]
async fn an_organization_that_is_used_or_the_first_or_called_otherwise_stays() {
    let world = World::new().await;
    let first = world.owner().await;
    assert_eq!(code(world.control.delete_organization(&first, &named("Acme")).await), Code::Conflict);
    let (_, owner) = ada(&world).await;
    let control = &world.control;
    assert_eq!(code(control.delete_organization(&owner, &named("Acme")).await), Code::ValidationFailed);
    let project = control.connect_project(&owner, new_project("Shop")).await.unwrap();
    control.add_destination(&owner, new_destination("Bucket")).await.unwrap();
    let schedule = control.create_schedule(&owner, new_schedule(&project)).await.unwrap();
    let error = control.delete_organization(&owner, &named(NAME)).await.unwrap_err();
    assert_eq!(error.code, Code::InUse);
    assert_eq!(error.details.unwrap()["usedBy"], serde_json::json!([schedule.id]));
    control.remove_schedule(&owner, &schedule.id).await.unwrap();
    let backup = control.create_backup(&owner, new_backup(&project), None).await.unwrap();
    assert_eq!(code(control.delete_organization(&owner, &named(NAME)).await), Code::InUse);
    control.cancel_backup(&owner, &project.id, &backup.job.id).await.unwrap();
    let key = NewApiKey { name: "k".to_owned(), role: Role::Admin, expires_at: None };
    let (_, admin) = control.create_api_key(&owner, key).await.unwrap();
    let admin = control.authenticate(&admin, None).await.unwrap();
    assert_eq!(code(control.delete_organization(&admin, &named(NAME)).await), Code::Forbidden);
    assert!(control.delete_organization(&owner, &named(NAME)).await.is_ok());
}

#[tokio::test]
async fn whoever_was_let_in_before_begins_nothing_any_more() {
    let world = World::new().await;
    let (person, owner) = ada(&world).await;
    let control = &world.control;
    let project = control.connect_project(&owner, new_project("Shop")).await.unwrap();
    control.add_destination(&owner, new_destination("Bucket")).await.unwrap();
    world.items.break_partitions("KEY#");
    control.delete_organization(&owner, &named(NAME)).await.unwrap();
    assert_eq!(code(control.create_backup(&owner, new_backup(&project), None).await), Code::NotFound);
    assert_eq!(code(control.create_schedule(&owner, new_schedule(&project)).await), Code::NotFound);
    assert_eq!(code(control.connect_project(&owner, new_project("b")).await), Code::NotFound);
    assert_eq!(code(control.add_destination(&owner, new_destination("b")).await), Code::NotFound);
    let key = NewApiKey { name: "k".to_owned(), role: Role::Owner, expires_at: None };
    assert_eq!(code(control.create_api_key(&owner, key).await), Code::NotFound);
    let invite = NewInvite { email: "bob@example.com".to_owned(), role: Role::Member };
    assert_eq!(code(control.invite(&owner, invite).await), Code::NotFound);
    assert_eq!(code(control.delete_organization(&owner, &named(NAME)).await), Code::NotFound);
    assert!(control.organizations(&person, &Page::default()).await.unwrap().items.is_empty());
    assert_eq!(control.organizations_page(None).await.unwrap().0, [world.owner().await.organization()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_organization_is_deleted_or_used_and_never_both() {
    let (mut deleted, mut used) = (0, 0);
    for round in 0..200 {
        let world = World::new().await;
        world.items.vary(round * 1000);
        let (_, owner) = ada(&world).await;
        let project = world.control.connect_project(&owner, new_project("Shop")).await.unwrap();
        world.control.add_destination(&owner, new_destination("Bucket")).await.unwrap();
        let (control, caller) = (world.control.clone(), owner.clone());
        let delete = tokio::spawn(async move { control.delete_organization(&caller, &named(NAME)).await });
        let (control, caller) = (world.control.clone(), owner.clone());
        let create = tokio::spawn(async move { control.create_backup(&caller, new_backup(&project), None).await });
        let (delete, create) = (delete.await.unwrap(), create.await.unwrap());
        assert!(delete.is_err() || create.is_err(), "a job in an organization that is deleted");
        match delete {
            Ok(_) => deleted += 1,
            Err(error) => {
                assert_eq!(error.code, Code::InUse);
                used += 1;
            }
        }
    }
    assert!(deleted > 0 && used > 0, "{deleted} deleted, {used} used");
}
