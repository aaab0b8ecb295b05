//! The first owner, and API keys.

use firebackup_control::{Code, Kind, NewApiKey, Page, Role};
use firebackup_model::port::Clock;

use crate::world::{World, code};

#[tokio::test]
async fn there_is_one_first_owner() {
    let world = World::empty();
    let control = &world.control;
    let racers = (0..8).map(|_| control.first_owner("Acme"));
    let made = futures::future::join_all(racers).await;
    assert_eq!(made.iter().filter(|made| made.as_ref().unwrap().is_some()).count(), 1);
    let first = made.into_iter().find_map(Result::unwrap).unwrap();
    assert!(control.first_owner("Rival").await.unwrap().is_none());
    let caller = control.authenticate(&first.api_key, Some(&first.organization.id)).await.unwrap();
    assert_eq!((caller.role(), caller.organization()), (Role::Owner, first.organization.id));
    assert_eq!(control.organizations_page(None).await.unwrap().0, [first.organization.id]);
}

#[tokio::test]
async fn no_key_but_the_right_one_opens() {
    let world = World::new().await;
    let (key, secret) = world.key(Role::Viewer).await;
    let last = if secret.ends_with('A') { "E" } else { "A" };
    let wrong_secret = format!("{}{last}", &secret[..secret.len() - 1]);
    let (_, other) = world.key(Role::Viewer).await;
    let swapped = format!("{}{}", &secret[..30], &other[30..]);
    for bad in ["", "x", &secret[1..], &wrong_secret, &swapped, &key.id.to_string(), &format!("{secret} ")] {
        let error = world.control.authenticate(bad, None).await.unwrap_err();
        assert_eq!((error.kind, error.code), (Kind::Unauthorized, Code::InvalidToken), "{bad}");
        assert!(error.details.is_none());
    }
    assert_eq!(World::key_of(&world.control.authenticate(&secret, None).await.unwrap()), key.id);
}

#[tokio::test]
async fn a_key_expires_and_its_holder_is_told() {
    let world = World::new().await;
    let expires = world.clock.now().plus_seconds(10);
    let new = NewApiKey { name: "ci".to_owned(), role: Role::Member, expires_at: Some(expires) };
    let (_, secret) = world.control.create_api_key(&world.owner().await, new.clone()).await.unwrap();
    world.clock.advance(9);
    assert!(world.control.authenticate(&secret, None).await.is_ok());
    world.clock.advance(1);
    let error = world.control.authenticate(&secret, None).await.unwrap_err();
    assert_eq!((error.kind, error.code), (Kind::Unauthorized, Code::TokenExpired));
    assert_eq!(error.details.unwrap()["expiredAt"], expires.to_string());
    assert_eq!(code(world.control.create_api_key(&world.owner().await, new).await), Code::ValidationFailed);
}

#[tokio::test]
async fn a_revoked_key_is_no_good_at_once_and_for_ever() {
    let world = World::new().await;
    let (key, secret) = world.key(Role::Admin).await;
    let owner = world.owner().await;
    let revoked = world.control.revoke_api_key(&owner, &key.id).await.unwrap();
    assert_eq!(revoked.revoked_at, Some(world.clock.now()));
    assert_eq!(code(world.control.authenticate(&secret, None).await), Code::InvalidToken);
    world.clock.advance(5);
    assert_eq!(world.control.revoke_api_key(&owner, &key.id).await.unwrap(), revoked);
}

#[tokio::test]
async fn nobody_grants_or_revokes_more_than_his_own_role() {
    let world = World::new().await;
    let admin = world.caller(Role::Admin).await;
    for role in Role::ALL {
        let made =
            world.control.create_api_key(&admin, NewApiKey { name: "k".to_owned(), role, expires_at: None }).await;
        assert_eq!(made.is_ok(), role <= Role::Admin, "{role:?}");
    }
    let (owners, _) = world.key(Role::Owner).await;
    assert_eq!(code(world.control.revoke_api_key(&admin, &owners.id).await), Code::Forbidden);
}

#[tokio::test]
async fn the_last_owner_stays() {
    let world = World::new().await;
    let owner = world.owner().await;
    assert_eq!(code(world.control.revoke_api_key(&owner, &World::key_of(&owner)).await), Code::LastOwner);
    let expires_at = Some(world.clock.now().plus_seconds(60));
    let passing = NewApiKey { name: "passing".to_owned(), role: Role::Owner, expires_at };
    world.control.create_api_key(&owner, passing).await.unwrap();
    assert_eq!(code(world.control.revoke_api_key(&owner, &World::key_of(&owner)).await), Code::LastOwner);
    let (second, _) = world.key(Role::Owner).await;
    let (a, b) = (World::key_of(&owner), second.id);
    let both = futures::join!(world.control.revoke_api_key(&owner, &a), world.control.revoke_api_key(&owner, &b));
    assert_eq!([both.0.is_ok(), both.1.is_ok()].iter().filter(|done| **done).count(), 1, "one of them stays");
}

#[tokio::test]
async fn the_last_use_is_noted_about_hourly() {
    let world = World::new().await;
    let (key, secret) = world.key(Role::Viewer).await;
    let noted = async || {
        let keys = world.control.api_keys(&world.owner().await, &Page::default()).await.unwrap();
        keys.items.into_iter().find(|listed| listed.id == key.id).unwrap().last_used_at
    };
    assert_eq!(noted().await, None);
    let first = world.clock.now();
    world.control.authenticate(&secret, None).await.unwrap();
    assert_eq!(noted().await, Some(first));
    world.clock.advance(3599);
    world.control.authenticate(&secret, None).await.unwrap();
    assert_eq!(noted().await, Some(first));
    world.clock.advance(1);
    world.control.authenticate(&secret, None).await.unwrap();
    assert_eq!(noted().await, Some(first.plus_seconds(3600)));
    world.clock.advance(3600);
    world.items.refuse(1);
    assert!(world.control.authenticate(&secret, None).await.is_ok(), "noting it may fail");
}

#[tokio::test]
async fn names_of_keys_are_bounded() {
    let world = World::new().await;
    for name in ["", " ", &"x".repeat(101), "a\u{7}"] {
        let new = NewApiKey { name: name.to_owned(), role: Role::Viewer, expires_at: None };
        assert_eq!(code(world.control.create_api_key(&world.owner().await, new).await), Code::ValidationFailed);
    }
}

#[tokio::test]
async fn a_lost_owner_key_is_replaced_and_then_revoked() {
    let world = World::empty();
    let control = &world.control;
    assert!(control.another_owner_key().await.unwrap().is_none(), "there is no organization yet");
    let first = control.first_owner("Acme").await.unwrap().unwrap();
    let other = control.another_owner_key().await.unwrap().unwrap();
    assert_eq!(other.organization, first.organization);
    let lost = control.authenticate(&first.api_key, None).await.unwrap();
    let caller = control.authenticate(&other.api_key, None).await.unwrap();
    assert_eq!((caller.role(), caller.organization()), (Role::Owner, first.organization.id));
    control.revoke_api_key(&caller, &World::key_of(&lost)).await.unwrap();
    assert_eq!(code(control.authenticate(&first.api_key, None).await), Code::InvalidToken);
    assert_eq!(code(control.revoke_api_key(&caller, &World::key_of(&caller)).await), Code::LastOwner);
}
