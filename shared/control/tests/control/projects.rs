//! Projects.

use firebackup_control::{
    Caller, CheckedBy, Code, ControlSettings, DELETE_DOCUMENTS, Kind, MissingPermission, NewBackup, NewCredentials,
    NewProject, NewRestore, Page, Project, ProjectChange, ProjectFilter, ProjectId, ProjectStatus, Purpose,
    READ_DOCUMENTS, asked_permissions, provider_name,
};

use crate::world::{World, code, completed, new_backup, new_project, new_restore};

#[tokio::test]
async fn a_project_is_looked_at_and_shown() {
    let world = World::new().await;
    let project = world.project().await;
    assert_eq!(project.status, ProjectStatus::Connected);
    assert_eq!(project.databases, ["(default)", "orders"]);
    assert_eq!(project.credentials_type, "service_account");
    assert_eq!(project.service_account.as_deref(), Some("backup@shop-1.example"));
    assert_eq!(world.control.project(&world.owner().await, &project.id).await.unwrap(), project);
}

async fn looked_at_again(world: &World, project: &ProjectId) -> Project {
    let change = ProjectChange { connected: Some(true), ..ProjectChange::default() };
    world.control.update_project(&world.owner().await, project, change).await.unwrap()
}

/// IAM grants all but these.
fn iam_grants_all_but(world: &World, denied: &[&str]) {
    let granted = asked_permissions().into_iter().filter(|name| !denied.contains(name)).map(str::to_owned).collect();
    world.probes.project.lock().unwrap().granted = Some(granted);
}

fn missing(project: &Project) -> Vec<&str> {
    project.missing.iter().map(|missing| missing.permission.as_str()).collect()
}

const USERS: &str = "firebaseauth.users.get";

#[tokio::test]
async fn missing_permissions_are_told_and_stand() {
    let world = World::new().await;
    world.probes.project.lock().unwrap().refused = vec![READ_DOCUMENTS.to_owned()];
    let project = world.project().await;
    assert_eq!((project.status, missing(&project)), (ProjectStatus::Error, vec![READ_DOCUMENTS]));
    assert_eq!(project.permissions.unwrap().checked_by, CheckedBy::Trial);
    assert!(project.missing[0].remedy.contains("--member 'serviceAccount:backup@shop-1.example'"), "{project:?}");
    assert_eq!(world.control.project(&world.owner().await, &project.id).await.unwrap(), project);
    world.probes.project.lock().unwrap().refused.clear();
    world.clock.advance(60);
    let changed = looked_at_again(&world, &project.id).await;
    assert_eq!((changed.status, changed.missing.len()), (ProjectStatus::Connected, 0));
    let checked = |project: &Project| project.permissions.unwrap().checked_at;
    assert!(checked(&changed).seconds_since(checked(&project)) >= 60.0);
}

#[tokio::test]
async fn iam_says_what_is_missing_and_only_a_backup_is_an_error() {
    let world = World::new().await;
    iam_grants_all_but(&world, &[DELETE_DOCUMENTS, USERS, "firebaseauth.users.update"]);
    let project = world.project().await;
    assert_eq!(project.status, ProjectStatus::Connected);
    assert_eq!(missing(&project), [DELETE_DOCUMENTS, USERS, "firebaseauth.users.update"]);
    let purposes: Vec<_> = project.missing.iter().flat_map(|missing| missing.needed_for.clone()).collect();
    assert_eq!(purposes, [Purpose::Restore, Purpose::AuthBackup, Purpose::AuthRestore]);
    assert_eq!(project.permissions.unwrap().checked_by, CheckedBy::Iam);
    iam_grants_all_but(&world, &["datastore.entities.list"]);
    let changed = looked_at_again(&world, &project.id).await;
    assert_eq!((changed.status, missing(&changed)), (ProjectStatus::Error, vec!["datastore.entities.list"]));
    // nobody can be asked any more: what was known is not taken for true
    world.probes.project.lock().unwrap().granted = None;
    let changed = looked_at_again(&world, &project.id).await;
    assert_eq!((changed.status, missing(&changed).len()), (ProjectStatus::Connected, 0));
    assert_eq!(changed.permissions.unwrap().checked_by, CheckedBy::Trial);
}

#[tokio::test]
async fn users_that_cannot_be_listed_are_not_backed_up_for_an_hour_and_then_tried() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let owner = world.owner().await;
    iam_grants_all_but(&world, &[USERS]);
    looked_at_again(&world, &project.id).await;
    let with_users = NewBackup { include_auth: true, ..new_backup(&project) };
    let error = world.control.create_backup(&owner, with_users.clone(), None).await.unwrap_err();
    assert_eq!((error.kind, error.code), (Kind::Conflict, Code::PermissionMissing), "{error}");
    let details = error.details.unwrap();
    assert_eq!(details["permission"], USERS);
    assert!(details["remedy"].as_str().is_some_and(|remedy| remedy.contains("iam roles create firebackupAuth")));
    world.control.create_backup(&owner, new_backup(&project), None).await.unwrap();
    // it may have been granted since
    world.clock.advance(3600);
    world.control.create_backup(&owner, with_users.clone(), None).await.unwrap();
    looked_at_again(&world, &project.id).await;
    assert_eq!(code(world.control.create_backup(&owner, with_users.clone(), None).await), Code::PermissionMissing);
    // passwords may be without value, and then no hash is asked for
    iam_grants_all_but(&world, &["firebaseauth.configs.getHashConfig"]);
    looked_at_again(&world, &project.id).await;
    world.control.create_backup(&owner, with_users, None).await.unwrap();
}

#[tokio::test]
async fn users_that_cannot_be_created_are_not_restored_and_a_dry_run_creates_none() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let owner = world.owner().await;
    let with_users = NewBackup { include_auth: true, ..new_backup(&project) };
    let backup = world.completed_of(with_users).await;
    iam_grants_all_but(&world, &["firebaseauth.users.create"]);
    looked_at_again(&world, &project.id).await;
    let restore = NewRestore { include_auth: true, ..new_restore(&backup) };
    assert_eq!(
        code(world.control.create_restore(&owner, restore.clone(), &crate::world::NoMoments, None).await),
        Code::PermissionMissing
    );
    world
        .control
        .create_restore(&owner, NewRestore { dry_run: true, ..restore.clone() }, &crate::world::NoMoments, None)
        .await
        .unwrap();
    world
        .control
        .create_restore(&owner, NewRestore { include_auth: false, ..restore }, &crate::world::NoMoments, None)
        .await
        .unwrap();
}

/// What stood in records before permissions were told by purpose.
#[test]
fn a_permission_of_an_old_record_is_read() {
    let old = serde_json::json!({ "permission": "datastore.entities.get", "remedy": "grant it" });
    let read: MissingPermission = serde_json::from_value(old).unwrap();
    assert_eq!((read.permission.as_str(), read.needed_for.len()), (READ_DOCUMENTS, 0));
}

#[tokio::test]
async fn what_may_not_be_is_refused_and_nothing_is_kept() {
    let world = World::new().await;
    let owner = world.owner().await;
    let databases = |ids: &[&str]| Some(ids.iter().map(|id| (*id).to_owned()).collect());
    for new in [
        new_project(""),
        NewProject { google_project: String::new(), ..new_project("a") },
        NewProject { google_project: "a/b".to_owned(), ..new_project("a") },
        NewProject { databases: databases(&["nothing"]), ..new_project("a") },
        NewProject { databases: databases(&[]), ..new_project("a") },
        NewProject { databases: databases(&["orders"; 101]), ..new_project("a") },
    ] {
        let error = world.control.connect_project(&owner, new).await.unwrap_err();
        assert_eq!((error.kind, error.code), (Kind::Unprocessable, Code::ValidationFailed), "{error}");
    }
    *world.probes.fails.lock().unwrap() = true;
    assert_eq!(code(world.control.connect_project(&owner, new_project("a")).await), Code::GoogleFailed);
    let all = world.control.projects(&owner, &ProjectFilter::default(), &Page::default()).await.unwrap();
    assert!(all.items.is_empty());
}

#[tokio::test]
async fn some_of_the_databases_can_be_taken() {
    let world = World::new().await;
    let new = NewProject { databases: Some(vec!["orders".to_owned(), "orders".to_owned()]), ..new_project("a") };
    let project = world.control.connect_project(&world.owner().await, new).await.unwrap();
    assert_eq!(project.databases, ["orders"]);
}

#[tokio::test]
async fn emulators_are_for_where_they_are_allowed() {
    let credentials = NewCredentials::Emulator { host: "127.0.0.1:8080".to_owned(), auth_host: None };
    let new = NewProject { credentials, ..new_project("a") };
    let world = World::new().await;
    let project = world.control.connect_project(&world.owner().await, new.clone()).await.unwrap();
    assert_eq!((project.credentials_type.as_str(), project.service_account), ("emulator", None));
    let strict = World::with(ControlSettings::default());
    let first = strict.control.first_owner("Acme").await.unwrap().unwrap();
    let caller = strict.control.authenticate(&first.api_key, None).await.unwrap();
    assert_eq!(code(strict.control.connect_project(&caller, new).await), Code::ValidationFailed);
}

const ACCOUNT: &str = "firebackup@shop-1.iam.gserviceaccount.com";

fn federated(owner: &Caller, account: Option<&str>) -> NewProject {
    let pool = "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/firebackup";
    let audience = format!("{pool}/providers/{}", provider_name(owner.organization()));
    let credentials = NewCredentials::Federation { audience, service_account: account.map(str::to_owned) };
    NewProject { credentials, ..new_project("a") }
}

async fn federating() -> (World, Caller) {
    let world = World::with(ControlSettings { allow_federation: true, ..ControlSettings::default() });
    let first = world.control.first_owner("Acme").await.unwrap().unwrap();
    let owner = world.control.authenticate(&first.api_key, None).await.unwrap();
    (world, owner)
}

#[tokio::test]
async fn a_federated_project_keeps_no_key() {
    let (world, owner) = federating().await;
    let project = world.control.connect_project(&owner, federated(&owner, Some(ACCOUNT))).await.unwrap();
    assert_eq!((project.credentials_type.as_str(), project.service_account.as_deref()), ("federation", Some(ACCOUNT)));
    let change = ProjectChange { connected: Some(true), ..ProjectChange::default() };
    assert!(world.control.update_project(&owner, &project.id, change).await.is_ok(), "it is opened from its record");
    let shown = format!("{:?}", world.probes.shown_access.lock().unwrap());
    assert!(shown.contains("Federation") && shown.contains(&provider_name(owner.organization())), "{shown}");
    let itself = world.control.connect_project(&owner, federated(&owner, None)).await.unwrap();
    assert_eq!(itself.service_account, None);
}

#[tokio::test]
async fn federation_is_for_an_aws_identity_and_the_own_organization() {
    let (world, owner) = federating().await;
    let rival = World::new().await;
    let stranger = rival.second_organization().await;
    assert_ne!(owner.organization(), stranger.organization());
    let stolen = world.control.connect_project(&owner, federated(&stranger, Some(ACCOUNT))).await.unwrap_err();
    assert_eq!(stolen.code, Code::ValidationFailed);
    assert_eq!(stolen.details.unwrap()["field"], "credentials.audience");
    let no_account = federated(&owner, Some("someone@example.com"));
    assert_eq!(code(world.control.connect_project(&owner, no_account).await), Code::ValidationFailed);
    let own = rival.owner().await;
    let without = rival.control.connect_project(&own, federated(&own, Some(ACCOUNT))).await;
    assert_eq!(code(without), Code::ValidationFailed);
    let all = world.control.projects(&owner, &ProjectFilter::default(), &Page::default()).await.unwrap();
    assert!(all.items.is_empty());
}

#[tokio::test]
async fn lists_are_filtered() {
    let world = World::new().await;
    for name in ["Shop", "Shop staging", "Blog"] {
        world.control.connect_project(&world.owner().await, new_project(name)).await.unwrap();
    }
    let names = async |filter: ProjectFilter| {
        let found = world.control.projects(&world.owner().await, &filter, &Page::default()).await.unwrap();
        assert_eq!(found.total, Some(found.items.len() as u64));
        let mut names: Vec<String> = found.items.into_iter().map(|project| project.name).collect();
        names.sort();
        names
    };
    let search = |text: &str| ProjectFilter { search: Some(text.to_owned()), status: None };
    assert_eq!(names(search("sHoP st")).await, ["Shop staging"]);
    assert_eq!(names(search("shop-1")).await.len(), 3);
    assert_eq!(names(search("nothing")).await.len(), 0);
    let disconnected = ProjectFilter { search: None, status: Some(ProjectStatus::Disconnected) };
    assert_eq!(names(disconnected).await.len(), 0);
}

#[tokio::test]
async fn a_disconnected_project_makes_no_jobs() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let owner = world.owner().await;
    let change = ProjectChange { connected: Some(false), ..ProjectChange::default() };
    let changed = world.control.update_project(&owner, &project.id, change).await.unwrap();
    assert_eq!(changed.status, ProjectStatus::Disconnected);
    let backup = world.control.create_backup(&owner, new_backup(&project), None).await;
    assert_eq!(code(backup), Code::ProjectDisconnected);
    let renamed = ProjectChange { name: Some("Other".to_owned()), ..ProjectChange::default() };
    let changed = world.control.update_project(&owner, &project.id, renamed).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.status), ("Other", ProjectStatus::Disconnected));
}

#[tokio::test]
async fn a_project_in_use_stays() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, worker) = (world.owner().await, world.worker().await);
    let schedule = world.schedule(&project).await;
    let backup = world.backup(&project).await;
    let error = world.control.remove_project(&owner, &project.id).await.unwrap_err();
    assert_eq!(error.code, Code::InUse);
    let users = error.details.unwrap()["usedBy"].to_string();
    assert!(users.contains(&schedule.id.to_string()) && users.contains(backup.job.id.as_str()), "{users}");
    world.control.remove_schedule(&owner, &schedule.id).await.unwrap();
    assert_eq!(code(world.control.remove_project(&owner, &project.id).await), Code::InUse);
    assert!(world.control.create_backup(&owner, new_backup(&project), None).await.is_ok(), "it can be used again");
    for job in world.control.running_jobs(&worker).await.unwrap() {
        world.control.finish_job(&worker, job.id(), completed()).await.unwrap();
    }
    world.control.remove_project(&owner, &project.id).await.unwrap();
    assert_eq!(code(world.control.project(&owner, &project.id).await), Code::NotFound);
    let kept = world.control.backup(&owner, &project.id, &backup.job.id).await.unwrap();
    assert_eq!(kept.google_project, "shop-1");
}
