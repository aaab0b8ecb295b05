//! Projects.

use firebackup_control::{
    Caller, Code, ControlSettings, Kind, MissingPermission, NewCredentials, NewProject, Page, ProjectChange,
    ProjectFilter, ProjectStatus, provider_name,
};

use crate::world::{World, code, completed, new_backup, new_project};

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

#[tokio::test]
async fn missing_permissions_are_told_and_stand() {
    let world = World::new().await;
    let missing = MissingPermission { permission: "datastore.entities.list".to_owned(), remedy: "grant it".to_owned() };
    world.probes.project.lock().unwrap().missing = vec![missing.clone()];
    let project = world.project().await;
    assert_eq!((project.status, &project.missing), (ProjectStatus::Error, &vec![missing]));
    world.probes.project.lock().unwrap().missing.clear();
    let change = ProjectChange { connected: Some(true), ..ProjectChange::default() };
    let changed = world.control.update_project(&world.owner().await, &project.id, change).await.unwrap();
    assert_eq!((changed.status, changed.missing.len()), (ProjectStatus::Connected, 0));
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
