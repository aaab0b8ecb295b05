//! The databases of a project and their collections.

use firebackup_control::{
    Ability, Code, CollectionFacts, CollectionFindings, DatabaseEdition, DatabaseFacts, DatabaseType, NewProject, Page,
    ProjectChange, ProjectStatus,
};

use crate::world::{World, code, completed, new_backup, new_project, new_restore};

fn facts(id: &str) -> DatabaseFacts {
    DatabaseFacts {
        id: id.to_owned(),
        location: Some("nam5".to_owned()),
        database_type: Some(DatabaseType::Native),
        edition: Some(DatabaseEdition::Enterprise),
        ..DatabaseFacts::default()
    }
}

fn closed(id: &str) -> DatabaseFacts {
    DatabaseFacts { firestore_access: Some(false), ..facts(id) }
}

impl World {
    /// What is found of a project from now on.
    fn found(&self, facts: Vec<DatabaseFacts>) {
        let mut found = self.probes.project.lock().unwrap();
        found.databases = facts.iter().map(|facts| facts.id.clone()).collect();
        found.facts = facts;
    }

    fn found_collections(&self, ids: &[&str], partial: bool) {
        let facts = |id: &&str| CollectionFacts { id: (*id).to_owned(), documents: Some(7), at_least: false };
        let found = CollectionFindings { collections: ids.iter().map(facts).collect(), partial };
        *self.probes.collections.lock().unwrap() = found;
    }
}

#[tokio::test]
async fn databases_are_shown_with_what_they_rule_out() {
    let world = World::new().await;
    world.found(vec![facts("(default)"), closed("archive"), facts("orders")]);
    let project = world.project().await;
    assert_eq!(project.status, ProjectStatus::Connected, "what is switched off is no fault of the credentials");
    let (owner, page) = (world.owner().await, Page::default());
    let shown = world.control.databases(&owner, &project.id, None, &page).await.unwrap();
    assert_eq!(shown.total, Some(3));
    let archive = &shown.items[1];
    assert_eq!((archive.facts.clone(), archive.limits.len()), (closed("archive"), 1));
    assert_eq!(archive.limits[0].rules_out, [Ability::Backup, Ability::Restore, Ability::Capture]);
    assert_eq!((project.limits.clone(), &shown.items[0].limits), (archive.limits.clone(), &Vec::new()));
    let found = world.control.databases(&owner, &project.id, Some("de"), &page).await.unwrap();
    let ids: Vec<&str> = found.items.iter().map(|database| database.facts.id.as_str()).collect();
    assert_eq!(ids, ["(default)", "orders"]);

    let change = ProjectChange { databases: Some(vec!["orders".to_owned()]), ..ProjectChange::default() };
    let changed = world.control.update_project(&owner, &project.id, change).await.unwrap();
    assert_eq!((changed.limits.len(), changed.databases.len()), (0, 1), "of those that were taken");
    assert_eq!(world.control.databases(&owner, &project.id, None, &page).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn what_nobody_knows_of_a_database_is_left_out() {
    let world = World::new().await;
    let project = world.project().await;
    let shown = world.control.databases(&world.owner().await, &project.id, None, &Page::default()).await.unwrap();
    let orders = serde_json::to_value(&shown.items[1]).unwrap();
    assert_eq!(orders, serde_json::json!({ "id": "orders", "limits": [] }));
}

#[tokio::test]
async fn a_database_that_is_switched_off_is_neither_backed_up_nor_restored_into() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let backup = world.completed(&project).await;
    let owner = world.owner().await;
    world.found(vec![closed("(default)"), facts("orders")]);
    let look = || ProjectChange { connected: Some(true), ..ProjectChange::default() };
    world.control.update_project(&owner, &project.id, look()).await.unwrap();
    let refused = world.control.create_backup(&owner, new_backup(&project), None).await.unwrap_err();
    assert_eq!(refused.code, Code::DatabaseSwitchedOff);
    let remedy = refused.details.as_ref().unwrap()["remedy"].as_str().unwrap().to_owned();
    assert!(remedy.contains("shop-1/databases/(default)?updateMask=firestoreDataAccessMode"), "{remedy}");
    assert!(refused.message.contains("backed up") && refused.message.contains(&remedy), "{refused}");
    assert_eq!(
        code(world.control.create_restore(&owner, new_restore(&backup), &crate::world::NoMoments, None).await),
        Code::DatabaseSwitchedOff
    );
    assert_eq!(code(world.control.sync_collections(&owner, &project.id, None).await), Code::DatabaseSwitchedOff);
    let mut other = new_backup(&project);
    other.database = Some("orders".to_owned());
    let made = world.control.create_backup(&owner, other, None).await.unwrap();
    world.control.finish_job(&world.worker().await, &made.job.id, completed()).await.unwrap();
    // a schedule says so where its backup would have been
    let schedule = world.schedule(&project).await;
    assert_eq!(code(world.control.trigger_schedule(&owner, &schedule.id, None).await), Code::DatabaseSwitchedOff);
    // without changes as they happen a backup is one all the same
    world.found(vec![DatabaseFacts { realtime_updates: Some(false), ..facts("(default)") }]);
    let changed = world.control.update_project(&owner, &project.id, look()).await.unwrap();
    assert_eq!(changed.limits[0].rules_out, [Ability::Capture]);
    assert!(world.control.create_backup(&owner, new_backup(&project), None).await.is_ok());
}

#[tokio::test]
async fn collections_are_kept_as_they_were_seen_last() {
    let world = World::new().await;
    let project = world.project().await;
    let (owner, control) = (world.owner().await, &world.control);
    let listed = async |database: Option<&str>, search: Option<&str>, page: Page| {
        control.collections(&owner, &project.id, (database, search), &page).await.unwrap()
    };
    assert_eq!(listed(None, None, Page::default()).await.total, Some(0), "nobody has looked");
    world.found_collections(&["orders", "users", "users-old"], true);
    let sync = control.sync_collections(&owner, &project.id, None).await.unwrap();
    assert_eq!((sync.database.as_str(), sync.collections, sync.partial), ("(default)", 3, true));
    assert_eq!(sync.synced_at, world.now());
    let first = listed(None, None, Page::number(1, 2)).await;
    assert_eq!((first.items.len(), first.total, first.items[0].synced_at), (2, Some(3), world.now()));
    let rest = listed(None, None, Page { cursor: first.next, ..Page::number(1, 2) }).await;
    assert_eq!((rest.items[0].id.as_str(), rest.items.len(), rest.next), ("users-old", 1, None));
    assert_eq!(listed(None, Some("users"), Page::default()).await.total, Some(2));
    assert_eq!(listed(Some("orders"), None, Page::default()).await.total, Some(0), "another database");

    world.clock.advance(60);
    world.found_collections(&["users"], false);
    control.sync_collections(&owner, &project.id, None).await.unwrap();
    let second = listed(None, None, Page::default()).await;
    assert_eq!((second.items.len(), second.items[0].synced_at), (1, world.now()), "in the place of what was before");
    *world.probes.fails.lock().unwrap() = true;
    assert_eq!(code(control.sync_collections(&owner, &project.id, None).await), Code::GoogleFailed);
    assert_eq!(listed(None, None, Page::default()).await, second, "what was seen stays");
    *world.probes.fails.lock().unwrap() = false;

    control.sync_collections(&owner, &project.id, Some("orders")).await.unwrap();
    let unknown = control.sync_collections(&owner, &project.id, Some("nothing")).await;
    assert_eq!(code(unknown), Code::ValidationFailed);
    control.remove_project(&owner, &project.id).await.unwrap();
    assert!(!world.items.all().iter().any(|item| item.key.sort.contains("COLLECTIONS#")), "it is forgotten with it");
    assert_eq!(code(control.sync_collections(&owner, &project.id, None).await), Code::NotFound);
}

#[tokio::test]
async fn a_look_that_was_outrun_or_died_leaves_the_newer_list() {
    let world = World::new().await;
    let project = world.project().await;
    let (owner, control) = (world.owner().await, &world.control);
    world.found_collections(&["new"], false);
    world.items.refuse(2);
    control.sync_collections(&owner, &project.id, None).await.unwrap();
    // the look that began before and ends behind
    world.clock.advance(-60);
    world.found_collections(&["old"], false);
    control.sync_collections(&owner, &project.id, None).await.unwrap();
    let kept = control.collections(&owner, &project.id, (None, None), &Page::default()).await.unwrap();
    assert_eq!(kept.items[0].id, "new");
    world.clock.advance(120);
    world.items.stop_after(Some(0));
    assert!(control.sync_collections(&owner, &project.id, None).await.is_err());
    world.items.stop_after(None);
    assert_eq!(control.collections(&owner, &project.id, (None, None), &Page::default()).await.unwrap(), kept);
}

#[tokio::test]
async fn a_disconnected_project_is_not_looked_at() {
    let world = World::new().await;
    let new = NewProject { databases: Some(vec!["orders".to_owned()]), ..new_project("a") };
    let owner = world.owner().await;
    let project = world.control.connect_project(&owner, new).await.unwrap();
    assert_eq!(
        world.control.sync_collections(&owner, &project.id, None).await.unwrap().database,
        "orders",
        "the only one"
    );
    let change = ProjectChange { connected: Some(false), ..ProjectChange::default() };
    world.control.update_project(&owner, &project.id, change).await.unwrap();
    let refused = world.control.sync_collections(&owner, &project.id, None).await;
    assert_eq!(code(refused), Code::ProjectDisconnected);
}
