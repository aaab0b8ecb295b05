//! The organization itself, and its data key.

use std::collections::BTreeSet;

use firebackup_codec::wrap::RecoveryKeyPair;
use firebackup_control::{Code, OpenedPlace, OrganizationChange, Quota, Role};
use firebackup_model::ErrorKind;
use firebackup_testkit::memory_ports::{CountedRandom, OTHER_MASTER};

use crate::world::{World, code, new_backup, new_destination, new_project};

#[tokio::test]
async fn what_is_named_is_changed_and_the_rest_stays() {
    let world = World::new().await;
    let owner = world.owner().await;
    let key = RecoveryKeyPair::generate(&CountedRandom::default()).public.to_string();
    let change = OrganizationChange {
        name: Some(" Acme Ltd ".to_owned()),
        recovery_public_key: Some(Some(key.clone())),
        ..OrganizationChange::default()
    };
    let changed = world.control.update_organization(&owner, change).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.max_running_jobs), ("Acme Ltd", 2));
    assert_eq!(changed.recovery_public_key, Some(key));
    let change = OrganizationChange { max_running_jobs: Some(9), ..OrganizationChange::default() };
    let again = world.control.update_organization(&owner, change).await.unwrap();
    assert_eq!((again.name, again.max_running_jobs), (changed.name, 9));
    assert_eq!(again.recovery_public_key, changed.recovery_public_key);
    let none: OrganizationChange = serde_json::from_str(r#"{"recoveryPublicKey":null}"#).unwrap();
    assert_eq!(world.control.update_organization(&owner, none).await.unwrap().recovery_public_key, None);
    assert_eq!(world.control.organization(&owner).await.unwrap().max_running_jobs, 9);
}

#[tokio::test]
async fn what_may_not_be_is_refused() {
    let world = World::new().await;
    let owner = world.owner().await;
    for change in [
        OrganizationChange { name: Some(String::new()), ..OrganizationChange::default() },
        OrganizationChange { max_running_jobs: Some(0), ..OrganizationChange::default() },
        OrganizationChange { max_running_jobs: Some(101), ..OrganizationChange::default() },
        OrganizationChange { recovery_public_key: Some(Some("no key".to_owned())), ..OrganizationChange::default() },
        OrganizationChange { kms_key: Some(Some("alias/own".to_owned())), ..OrganizationChange::default() },
        OrganizationChange {
            kms_key: Some(Some("arn:aws:kms:eu-west-1:111122223333:key/unknown".to_owned())),
            ..OrganizationChange::default()
        },
    ] {
        let answer = world.control.update_organization(&owner, change.clone()).await;
        assert_eq!(code(answer), Code::ValidationFailed, "{change:?}");
    }
}

#[tokio::test]
async fn secrets_open_under_another_master_key() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, worker) = (world.owner().await, world.worker().await);
    let backup = world.backup(&project).await;
    let change = OrganizationChange { kms_key: Some(Some(OTHER_MASTER.to_owned())), ..OrganizationChange::default() };
    let changed = world.control.update_organization(&owner, change).await.unwrap();
    assert_eq!(changed.kms_key.as_deref(), Some(OTHER_MASTER));
    let masters = || {
        let items = world.items.all().into_iter();
        items.filter_map(|item| item.body.get("dataKey").map(|key| key["master"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(masters(), [OTHER_MASTER]);
    assert!(world.control.work(&worker, &backup.job.id).await.is_ok());
    let stored = |world: &World| {
        let items = world.items.all().into_iter();
        items.filter_map(|item| item.body.get("dataKey").map(|key| key["wrapped"].clone())).collect::<Vec<_>>()
    };
    let before = stored(&world);
    world.control.rewrap_secrets(&worker).await.unwrap();
    assert_ne!(stored(&world), before);
    assert_eq!(masters(), [OTHER_MASTER]);
    assert!(world.control.work(&worker, &backup.job.id).await.is_ok());
}

#[tokio::test]
async fn former_master_keys_are_remembered_until_they_are_taken_back() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, worker) = (world.owner().await, world.worker().await);
    let backup = world.backup(&project).await;
    let set = async |key: Option<&str>| {
        let change = OrganizationChange { kms_key: Some(key.map(str::to_owned)), ..OrganizationChange::default() };
        world.control.update_organization(&owner, change).await.unwrap().former_kms_keys
    };
    let believed =
        async || world.control.work(&worker, &backup.job.id).await.unwrap().place.organization.former_kms_keys;
    let own = believed().await;
    assert_eq!(own.len(), 1, "the installation's: it may be changed behind our back");
    assert_eq!(set(Some(OTHER_MASTER)).await, own);
    assert_eq!(believed().await, [own[0].as_str(), OTHER_MASTER]);
    world.control.rewrap_secrets(&worker).await.unwrap();
    assert_eq!(set(Some(OTHER_MASTER)).await, own, "nothing was changed");
    assert_eq!(set(None).await, [OTHER_MASTER]);
    assert_eq!(believed().await, [OTHER_MASTER, own[0].as_str()]);
}

#[tokio::test]
async fn two_changes_of_the_master_key_at_once_lose_nothing() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, worker) = (world.owner().await, world.worker().await);
    let backup = world.backup(&project).await;
    for _ in 0..10 {
        let change = |key: Option<&str>| {
            let change = OrganizationChange { kms_key: Some(key.map(str::to_owned)), ..OrganizationChange::default() };
            world.control.update_organization(&owner, change)
        };
        let done = futures::join!(
            change(Some(OTHER_MASTER)),
            change(None),
            world.control.rewrap_secrets(&worker),
            world.control.rewrap_secrets(&worker)
        );
        assert!(done.0.is_ok() && done.1.is_ok() && done.2.is_ok() && done.3.is_ok());
        world.clock.advance(3600);
        let work = world.control.work(&worker, &backup.job.id).await.unwrap();
        assert_eq!(work.place.organization.former_kms_keys.len(), 2);
    }
}

#[tokio::test]
async fn the_repositories_of_all_jobs_are_found_once() {
    let world = World::new().await;
    let (project, destination) = world.set_up().await;
    let other = world.project().await;
    let worker = world.worker().await;
    for project in [&project, &project, &other] {
        world.backup(project).await;
    }
    let mut plain = new_backup(&project);
    plain.encrypt = false;
    let second = world.control.add_destination(&world.owner().await, new_destination("Other")).await.unwrap();
    world.control.create_backup(&world.owner().await, plain.clone(), None).await.unwrap();
    plain.storage_destination_id = Some(second.id);
    world.control.create_backup(&world.owner().await, plain, None).await.unwrap();
    let found = world.control.repositories(&worker).await.unwrap();
    let of = |place: OpenedPlace| (place.destination.id, place.project, place.encrypted);
    let found: BTreeSet<_> = found.into_iter().map(|place| of(place.unwrap())).collect();
    let expected = [
        (destination.id, project.id, true),
        (destination.id, other.id, true),
        (destination.id, project.id, false),
        (second.id, project.id, false),
    ];
    assert_eq!(found, expected.into());
    world.keys.fail(Some(ErrorKind::Unavailable));
    world.clock.advance(5 * 60);
    let found = world.control.repositories(&worker).await.unwrap();
    assert_eq!(found.iter().filter(|place| place.is_err()).count(), 4, "each is an error of its own");
}

#[tokio::test]
async fn the_data_key_is_unwrapped_once_in_five_minutes() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let worker = world.worker().await;
    let backup = world.backup(&project).await;
    let before = world.keys.unwraps();
    for _ in 0..5 {
        world.control.work(&worker, &backup.job.id).await.unwrap();
    }
    assert_eq!(world.keys.unwraps(), before);
    world.clock.advance(5 * 60);
    world.control.work(&worker, &backup.job.id).await.unwrap();
    assert_eq!(world.keys.unwraps(), before + 1);
    world.clock.advance(5 * 60);
    world.keys.fail(Some(ErrorKind::Unavailable));
    assert_eq!(code(world.control.work(&worker, &backup.job.id).await), Code::Unavailable);
    world.keys.fail(None);
    assert!(world.control.work(&worker, &backup.job.id).await.is_ok());
}

#[tokio::test]
async fn quotas_say_what_there_is_and_what_may_be() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, worker, control) = (world.owner().await, world.worker().await, &world.control);
    world.completed(&project).await;
    let running = world.backup(&project).await;
    control.start_job(&worker, &running.job.id).await.unwrap();
    world.backup(&project).await;
    world.schedule(&project).await;
    world.key(Role::Viewer).await;
    let quotas = control.quotas(&owner).await.unwrap();
    let of = |used, limit| Quota { used, limit: Some(limit), changeable_to: None, or_more: false };
    assert_eq!((quotas.projects, quotas.destinations, quotas.schedules), (of(1, 1000), of(1, 1000), of(1, 1000)));
    assert_eq!((quotas.api_keys, quotas.members, quotas.invites), (of(2, 1000), of(0, 1000), of(0, 1000)));
    assert_eq!((quotas.unfinished_jobs, quotas.backups.used, quotas.backups.limit), (of(2, 200), 3, None));
    assert_eq!(quotas.running_jobs, Quota { changeable_to: Some(100), ..of(1, 2) });
    // what is said to be possible is
    let change = OrganizationChange { max_running_jobs: Some(100), ..OrganizationChange::default() };
    control.update_organization(&owner, change).await.unwrap();
    assert_eq!(control.quotas(&owner).await.unwrap().running_jobs.limit, Some(100));
}

#[tokio::test]
async fn the_limit_that_quotas_say_is_the_one_that_is_kept() {
    let world = World::new().await;
    let owner = world.owner().await;
    let limit = world.control.quotas(&owner).await.unwrap().projects.limit.unwrap();
    for _ in 0..limit {
        world.control.connect_project(&owner, new_project("p")).await.unwrap();
    }
    assert_eq!(code(world.control.connect_project(&owner, new_project("p")).await), Code::LimitReached);
    assert_eq!(world.control.quotas(&owner).await.unwrap().projects.used, limit);
}
