//! Cleanups on request: asked for once, begun by one, told at the end.

use std::collections::BTreeSet;

use firebackup_control::{BegunCleanup, CleanupOutcome, Code, DestinationId, Kind, OpenedPlace, Role};

use crate::world::{World, code};

const DONE: CleanupOutcome =
    CleanupOutcome { marked: 1, marked_bytes: 5, deleted: 2, deleted_bytes: 7, locked: 0, failed: 0 };
const FAILED: CleanupOutcome = CleanupOutcome { failed: 1, ..DONE };

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A destination with a repository in it.
async fn set_up() -> (World, DestinationId, OpenedPlace) {
    let world = World::new().await;
    let (project, destination) = world.set_up().await;
    world.completed(&project).await;
    let owner = world.owner().await;
    let place = world.control.open_repository_to_clean(&owner, &destination.id, &project.id, true).await.unwrap();
    (world, destination.id, place)
}

async fn begin(world: &World, id: &DestinationId) -> Option<BegunCleanup> {
    world.control.begin_cleanup(&world.worker().await, id).await.unwrap()
}

async fn end(world: &World, begun: &BegunCleanup, outcome: CleanupOutcome) {
    world.control.end_cleanup(&world.worker().await, begun, &outcome).await.unwrap();
}

/// What may go, by repository.
async fn to_clean(world: &World, begun: &BegunCleanup) -> Vec<Option<BTreeSet<String>>> {
    let places = world.control.places_to_clean(&world.worker().await, begun).await.unwrap();
    places.into_iter().map(|place| place.unwrap().only).collect()
}

async fn waiting(world: &World) -> usize {
    world.control.cleanups(&world.worker().await).await.unwrap().len()
}

async fn told(world: &World) -> Vec<serde_json::Value> {
    let filter = firebackup_control::AuditFilter { action: Some("storage.cleaned".to_owned()), ..Default::default() };
    let entries = world.control.audit(&world.owner().await, &filter, &firebackup_control::Page::default()).await;
    entries.unwrap().items.into_iter().filter_map(|entry| entry.details).collect()
}

#[tokio::test]
async fn what_is_asked_for_twice_is_done_once_and_told() {
    let (world, id, _) = set_up().await;
    let owner = world.owner().await;
    assert_eq!(waiting(&world).await, 0);
    world.control.request_cleanup(&owner, &id).await.unwrap();
    world.control.request_cleanup(&owner, &id).await.unwrap();
    assert_eq!(waiting(&world).await, 1);
    let begun = begin(&world, &id).await.unwrap();
    assert_eq!(to_clean(&world, &begun).await, [None], "all of the one repository there is");
    assert!(begin(&world, &id).await.is_none() && waiting(&world).await == 0, "somebody is at it");
    end(&world, &begun, DONE).await;
    assert!(begin(&world, &id).await.is_none());
    assert_eq!(told(&world).await, [serde_json::json!(DONE)]);
    end(&world, &begun, DONE).await;
    assert_eq!(told(&world).await.len(), 1, "ending twice is ending once");
}

#[tokio::test]
async fn names_are_added_to_those_that_wait_and_all_is_all() {
    let (world, id, place) = set_up().await;
    let (owner, control) = (world.owner().await, &world.control);
    control.request_file_deletion(&owner, &place, &names(&["runs/a", "runs/b"])).await.unwrap();
    control.request_file_deletion(&owner, &place, &names(&["runs/b", "runs/c"])).await.unwrap();
    let begun = begin(&world, &id).await.unwrap();
    assert_eq!(to_clean(&world, &begun).await, [Some(names(&["runs/a", "runs/b", "runs/c"]))]);
    // more is asked for while somebody is at it: that end is none, and the next one does all of it
    control.request_cleanup(&owner, &id).await.unwrap();
    end(&world, &begun, DONE).await;
    assert_eq!((told(&world).await.len(), waiting(&world).await), (0, 1));
    let begun = begin(&world, &id).await.unwrap();
    assert_eq!(to_clean(&world, &begun).await, [None]);
    end(&world, &begun, DONE).await;
    assert_eq!((told(&world).await.len(), waiting(&world).await), (1, 0));
    let many: BTreeSet<String> = (0..1001).map(|n| format!("runs/{n}")).collect();
    assert_eq!(code(control.request_file_deletion(&owner, &place, &many).await), Code::LimitReached);
    assert_eq!(waiting(&world).await, 0);
}

#[tokio::test]
async fn whoever_dies_at_it_is_made_up_for_and_what_fails_is_given_up() {
    let (world, id, _) = set_up().await;
    world.control.request_cleanup(&world.owner().await, &id).await.unwrap();
    begin(&world, &id).await.unwrap();
    world.clock.advance(19 * 60);
    assert!(begin(&world, &id).await.is_none(), "it may be at it still");
    world.clock.advance(2 * 60);
    let second = begin(&world, &id).await.unwrap();
    end(&world, &second, FAILED).await;
    assert_eq!((waiting(&world).await, told(&world).await.len()), (0, 0), "it is tried again, and not at once");
    world.clock.advance(21 * 60);
    let third = begin(&world, &id).await.unwrap();
    end(&world, &third, FAILED).await;
    assert_eq!(told(&world).await, [serde_json::json!(FAILED)]);
    world.clock.advance(21 * 60);
    assert_eq!(waiting(&world).await, 0);
}

#[tokio::test]
async fn a_destination_that_goes_takes_its_cleanup_along() {
    let world = World::new().await;
    let (destination, owner) = (world.destination().await, world.owner().await);
    world.control.request_cleanup(&owner, &destination.id).await.unwrap();
    world.control.remove_destination(&owner, &destination.id).await.unwrap();
    let begun = begin(&world, &destination.id).await.unwrap();
    assert!(to_clean(&world, &begun).await.is_empty());
    end(&world, &begun, CleanupOutcome::default()).await;
    assert_eq!(waiting(&world).await, 0);
}

#[tokio::test]
async fn who_may_not_manage_may_not_ask() {
    let (world, id, place) = set_up().await;
    let member = world.caller(Role::Member).await;
    let forbidden = |error: firebackup_control::ControlError| assert_eq!(error.kind, Kind::Forbidden);
    forbidden(world.control.request_cleanup(&member, &id).await.unwrap_err());
    forbidden(world.control.request_file_deletion(&member, &place, &names(&["a"])).await.unwrap_err());
    forbidden(world.control.repositories_in(&member, &id).await.unwrap_err());
    assert_eq!(waiting(&world).await, 0);
}
