//! What is another organization's is not there.

use firebackup_control::{
    Code, ControlSettings, DestinationChange, NewBucket, NewCredentials, NewDestination, NewPlace, NewProject, Page,
    ProjectFilter, ScheduleFilter, SignUp,
};

use firebackup_testkit::memory_issuer::identity;

use crate::roles::{Ids, verbs_on_ids};
use crate::world::{World, code, new_destination, new_project, new_restore};

#[tokio::test]
async fn a_foreign_id_is_answered_as_an_unknown_one() {
    let world = World::new().await;
    let (project, destination) = world.set_up().await;
    let backup = world.completed(&project).await;
    let restore = world
        .control
        .create_restore(&world.owner().await, new_restore(&backup), &crate::world::NoMoments, None)
        .await
        .unwrap();
    let schedule = world.schedule(&project).await;
    let (webhook, _) = world.webhook().await;
    let delivery = world.control.test_webhook(&world.owner().await, &webhook.id).await.unwrap();
    let foreign = Ids {
        key: World::key_of(&world.owner().await),
        project: project.id,
        destination: destination.id,
        schedule: schedule.id,
        backup: backup.job.id,
        restore: restore.job.id,
        webhook: webhook.id,
        delivery: delivery.id,
    };
    let rival = world.second_organization().await;
    let before = world.items.all();
    let unknown = Ids::unknown();
    let answers = verbs_on_ids(&world.control, &rival, &foreign);
    assert!(answers.len() > 20);
    for ((verb, _, foreign), (_, _, unknown)) in answers.into_iter().zip(verbs_on_ids(&world.control, &rival, &unknown))
    {
        let (foreign, unknown) = (foreign.await.expect_err(verb), unknown.await.expect_err(verb));
        assert_eq!(foreign.code, Code::NotFound, "{verb}");
        assert_eq!(
            (foreign.kind, foreign.code, foreign.message, foreign.details),
            (unknown.kind, unknown.code, unknown.message, unknown.details),
            "{verb}"
        );
    }
    assert_eq!(world.items.all(), before, "nothing was changed");
}

#[tokio::test]
async fn lists_show_only_the_callers_own() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    world.completed(&project).await;
    world.schedule(&project).await;
    let rival = world.second_organization().await;
    let (control, page) = (&world.control, Page::default());
    assert!(control.projects(&rival, &ProjectFilter::default(), &page).await.unwrap().items.is_empty());
    assert!(control.destinations(&rival, &page).await.unwrap().items.is_empty());
    assert!(control.backups(&rival, None, &page).await.unwrap().items.is_empty());
    assert_eq!(code(control.backups(&rival, Some(&project.id), &page).await), Code::NotFound);
    let schedules = control.schedules_of_project(&rival, &project.id, &page).await;
    assert_eq!(code(schedules), Code::NotFound);
    assert!(control.schedules(&rival, &ScheduleFilter::default(), &page).await.unwrap().items.is_empty());
    assert_eq!(control.api_keys(&rival, &page).await.unwrap().items.len(), 1);
    let owner = world.owner().await;
    assert_eq!(control.backups(&owner, Some(&project.id), &page).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn what_is_left_of_a_project_that_was_removed_is_listed() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (control, owner, page) = (&world.control, world.owner().await, Page::default());
    let listed = async || control.backups(&owner, Some(&project.id), &page).await.map(|paged| paged.items.len());
    assert_eq!(listed().await.unwrap(), 0, "it is there, and has none");
    assert!(control.schedules_of_project(&owner, &project.id, &page).await.unwrap().items.is_empty());
    world.completed(&project).await;
    control.remove_project(&owner, &project.id).await.unwrap();
    assert_eq!(listed().await.unwrap(), 1);
    let beyond = Page { page: 2, ..Page::default() };
    assert!(control.backups(&owner, Some(&project.id), &beyond).await.unwrap().items.is_empty());
    assert_eq!(code(control.schedules_of_project(&owner, &project.id, &page).await), Code::NotFound);
}

#[tokio::test]
async fn a_cursor_of_another_organization_is_refused() {
    let world = World::new().await;
    for _ in 0..3 {
        world.project().await;
    }
    let first = Page { limit: 1, ..Page::default() };
    let filter = ProjectFilter::default();
    let cursor = world.control.projects(&world.owner().await, &filter, &first).await.unwrap().next;
    assert!(cursor.is_some());
    let rival = world.second_organization().await;
    let page = Page { cursor, ..first };
    assert_eq!(code(world.control.projects(&rival, &filter, &page).await), Code::InvalidCursor);
}

#[tokio::test]
async fn a_key_opens_no_other_organization() {
    let world = World::new().await;
    let rival = world.second_organization().await;
    let (_, secret) = world.key(firebackup_control::Role::Member).await;
    let answer = world.control.authenticate(&secret, Some(&rival.organization())).await;
    assert_eq!(code(answer), Code::Forbidden);
    let own = world.owner().await.organization();
    assert_eq!(world.control.authenticate(&secret, Some(&own)).await.unwrap().organization(), own);
}

#[tokio::test]
async fn sweeps_find_all_organizations() {
    let world = World::new().await;
    let rival = world.second_organization().await;
    let (mut found, next) = world.control.organizations_page(None).await.unwrap();
    let mut expected = vec![world.owner().await.organization(), rival.organization()];
    found.sort();
    expected.sort();
    assert_eq!((found, next), (expected, None));
}

/// Anybody who signed up had a folder of the server's disk, its own credentials, and whatever listens on its machine.
#[tokio::test]
async fn what_is_the_operators_only_the_first_organization_reaches() {
    let settings = ControlSettings {
        allow_folders: true,
        allow_emulators: true,
        sign_up: SignUp::Anyone,
        ..ControlSettings::default()
    };
    let world = World::first(settings).await;
    let tokens = world.sign_in(identity("Eve", "eve@example.com")).await.unwrap();
    let (owner, rival) = (world.owner().await, world.control.authenticate(&tokens.access, None).await.unwrap());
    let control = &world.control;
    let at = |url: &str, options: &[(&str, &str)]| {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned().into()));
        NewDestination { url: url.to_owned(), options: options.collect(), ..new_destination("Place") }
    };
    let own = [("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "secret")];
    for (url, options) in
        [("file:///srv/backups", &[][..]), ("file:///srv/backups", &own), ("s3://bucket", &[]), ("gs://bucket", &[])]
    {
        assert_eq!(code(control.add_destination(&rival, at(url, options)).await), Code::ValidationFailed, "{url}");
        let place = NewPlace { url: url.to_owned(), ..new_place() };
        let tried = control.try_destination(&rival, place).await;
        assert_eq!(code(tried), Code::ValidationFailed, "{url}");
        assert_eq!(code(control.bucket_to_make(&rival, new_bucket(url)).await), Code::ValidationFailed, "{url}");
        control.add_destination(&owner, at(url, options)).await.unwrap();
    }
    // what opens another vendor's store, or is not all that it takes, leaves the installation's own to open this one
    let sas = ("AZURE_STORAGE_SAS_KEY", "sv=1&sig=x");
    let account = ("AZURE_STORAGE_ACCOUNT_NAME", "account");
    for (url, options) in [
        ("s3://bucket", &[sas][..]),
        ("s3://bucket", &[own[0]]),
        ("s3://bucket", &[own[1]]),
        ("gs://bucket", &own),
        ("az://container", &own),
        ("az://container", &[sas]),
        ("az://container", &[account]),
        ("az://container", &[account, ("AZURE_STORAGE_CLIENT_SECRET", "x")]),
    ] {
        assert_eq!(code(control.add_destination(&rival, at(url, options)).await), Code::ValidationFailed, "{url}");
        let NewDestination { url, options, .. } = at(url, options);
        let place = || NewPlace { url: url.clone(), options: options.clone(), ..new_place() };
        assert_eq!(code(control.try_destination(&rival, place()).await), Code::ValidationFailed, "{url}");
        assert_eq!(code(control.place_access(&rival, place()).await), Code::ValidationFailed, "{url}");
        let bucket = NewBucket { options: options.clone(), ..new_bucket(&url) };
        assert_eq!(code(control.bucket_to_make(&rival, bucket).await), Code::ValidationFailed, "{url}");
    }
    control.add_destination(&rival, at("az://container", &[account, sas])).await.unwrap();
    control.bucket_to_make(&owner, new_bucket("s3://bucket")).await.unwrap();
    let lent = control.add_destination(&rival, at("s3://bucket", &own)).await.unwrap();
    let none = DestinationChange { options: Some(Default::default()), ..DestinationChange::default() };
    assert_eq!(code(control.update_destination(&rival, &lent.id, none).await), Code::ValidationFailed);
    let emulator = || {
        let credentials = NewCredentials::Emulator { host: "127.0.0.1:1".to_owned(), auth_host: None };
        NewProject { credentials, ..new_project("Emulated") }
    };
    assert_eq!(code(control.connect_project(&rival, emulator()).await), Code::ValidationFailed);
    control.connect_project(&owner, emulator()).await.unwrap();
}

fn new_bucket(url: &str) -> NewBucket {
    serde_json::from_value(serde_json::json!({ "url": url })).unwrap()
}

fn new_place() -> NewPlace {
    serde_json::from_value(serde_json::json!({ "url": "s3://bucket" })).unwrap()
}
