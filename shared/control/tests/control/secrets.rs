//! Secrets stand nowhere but where they are used.

use std::error::Error;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use firebackup_control::{
    Control, ControlSettings, Delivery, DestinationChange, NewCredentials, NewProject, NewWebhook, OrganizationChange,
    Page, ProjectChange, Role, WebhookId,
};
use firebackup_model::ErrorKind;

use crate::world::{PLANTED_KEY, PLANTED_OPTION, World, new_destination, new_project, new_webhook};

/// Everything that is stored, queued, published, scheduled or started, as one text.
fn everything(world: &World) -> String {
    let items = world.items.all();
    let (events, rules, started) = (world.events.published(), world.scheduler.rules(), world.workflows.started());
    format!("{items:?} {events:?} {rules:?} {started:?} {:?} {:?}", world.queue.drain(), world.notify.drain())
}

/// Has a webhook told of all that has happened: taken, and refused.
async fn deliver_everything(world: &World, webhook: &WebhookId) -> Vec<Delivery> {
    let (owner, worker, control) = (world.owner().await, world.worker().await, &world.control);
    for (index, event) in world.events.published().iter().enumerate() {
        control.fan_out(&worker, event).await.unwrap();
        world.receiver.answer(if index % 2 == 0 { Ok(200) } else { Ok(404) });
        for body in world.notify.drain() {
            control.attempt_delivery(&worker, &serde_json::from_str(&body).unwrap()).await.unwrap();
        }
    }
    control.test_webhook(&owner, webhook).await.unwrap();
    control.deliveries(&owner, webhook, &Page::default()).await.unwrap().items
}

#[tokio::test]
async fn no_secret_is_stored_queued_or_told() {
    let world = World::new().await;
    let (project, destination) = world.set_up().await;
    let (_, api_key) = world.key(Role::Member).await;
    world.schedule(&project).await;
    let (webhook, signing) = world.webhook().await;
    let backup = world.completed(&project).await;
    let owner = world.owner().await;
    let deliveries = deliver_everything(&world, &webhook.id).await;
    let change = ProjectChange { credentials: Some(new_project("x").credentials), ..ProjectChange::default() };
    world.control.update_project(&owner, &project.id, change).await.unwrap();
    let change = DestinationChange { options: Some(new_destination("x").options), ..DestinationChange::default() };
    world.control.update_destination(&owner, &destination.id, change).await.unwrap();
    let work = world.control.work_to_end(&world.worker().await, &backup.job.id).await.unwrap();
    let shown = format!(
        "{} {work:?} {owner:?} {:?} {:?}",
        everything(&world),
        world.control,
        (new_project("x"), new_destination("x"), new_webhook("x"), deliveries, world.receiver.posts()),
    );
    assert!(shown.contains("backup@shop-1.example") && shown.contains("answered with 404"), "something was looked at");
    let hash_input = &api_key[30..];
    let mut secrets = vec![
        PLANTED_KEY.to_owned(),
        PLANTED_OPTION.to_owned(),
        STANDARD.encode(PLANTED_KEY),
        api_key.clone(),
        hash_input.to_owned(),
        "planted-path".to_owned(),
        "planted-token".to_owned(),
        signing.trim_start_matches("whsec_").to_owned(),
        hex::encode(URL_SAFE_NO_PAD.decode(hash_input).unwrap()),
    ];
    for key in world.keys.all() {
        secrets.extend([STANDARD.encode(key.expose()), hex::encode(key.expose())]);
    }
    for secret in secrets {
        assert!(!shown.contains(&secret), "{secret}");
    }
}

#[tokio::test]
async fn steps_get_the_secrets_that_came_in() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    assert!(world.probes.shown_key.lock().unwrap().as_ref().unwrap().contains(PLANTED_KEY));
    assert_eq!(world.probes.shown_options.lock().unwrap()["AWS_SECRET_ACCESS_KEY"], PLANTED_OPTION);
    let backup = world.backup(&project).await;
    let work = world.control.work(&world.worker().await, &backup.job.id).await.unwrap();
    let firebackup_control::Credentials::ServiceAccount { key_json } = work.project_access.credentials else {
        panic!("{project:?}");
    };
    assert!(key_json.contains(PLANTED_KEY));
    let option = work.place.access.options.iter().find(|(name, _)| name == "AWS_SECRET_ACCESS_KEY").unwrap();
    assert_eq!(option.1.as_str(), PLANTED_OPTION);
}

#[tokio::test]
async fn errors_repeat_no_secret() {
    let world = World::new().await;
    let owner = world.owner().await;
    let control = &world.control;
    let text = |error: &dyn Error| {
        let mut text = format!("{error} {error:?}");
        let mut next = error.source();
        while let Some(source) = next {
            text += &format!(" {source} {source:?}");
            next = source.source();
        }
        text
    };
    let mut errors = Vec::new();
    for key in [
        PLANTED_KEY.to_owned(),
        format!("{{\"type\":\"{PLANTED_KEY}\"}}"),
        format!("{{\"type\":\"service_account\",\"client_email\":\"{PLANTED_KEY}\",\"private_key\":1}}"),
        PLANTED_KEY.repeat(10_000),
    ] {
        let credentials = NewCredentials::ServiceAccount { key: key.into() };
        let new = NewProject { credentials, ..new_project("x") };
        errors.push(text(&control.connect_project(&owner, new).await.unwrap_err()));
    }
    for (name, value) in [("AWS_ENDPOINT", PLANTED_OPTION), ("GOOGLE_SERVICE_ACCOUNT_KEY", PLANTED_OPTION)] {
        let mut new = new_destination("x");
        new.options.insert(name.to_owned(), value.to_owned().into());
        errors.push(text(&control.add_destination(&owner, new).await.unwrap_err()));
    }
    let mut new = new_destination("x");
    new.url = format!("s3://key:{PLANTED_OPTION}@bucket");
    errors.push(text(&control.add_destination(&owner, new).await.unwrap_err()));
    for url in ["http://x.example/planted", "https://planted url", "planted"] {
        let new = NewWebhook { url: url.to_owned().into(), ..new_webhook("x") };
        errors.push(text(&control.create_webhook(&owner, new).await.unwrap_err()));
    }
    *world.probes.fails.lock().unwrap() = true;
    errors.push(text(&control.connect_project(&owner, new_project("x")).await.unwrap_err()));
    errors.push(text(&control.add_destination(&owner, new_destination("x")).await.unwrap_err()));
    *world.probes.fails.lock().unwrap() = false;
    world.clock.advance(10 * 60);
    world.keys.fail(Some(ErrorKind::Internal));
    errors.push(text(&control.connect_project(&owner, new_project("x")).await.unwrap_err()));
    assert_eq!(errors.len(), 13);
    for error in errors {
        assert!(!error.contains("planted"), "{error}");
    }
}

#[tokio::test]
async fn a_secret_that_was_moved_to_another_record_does_not_open() {
    let world = World::new().await;
    let (first, _) = world.set_up().await;
    let second = world.project().await;
    let backup = world.backup(&second).await;
    let items = world.items.all();
    let find = |id: &str| items.iter().find(|item| item.key.sort.ends_with(id)).unwrap().clone();
    let (from, mut to) = (find(&first.id.to_string()), find(&second.id.to_string()));
    to.body["credentials"] = from.body["credentials"].clone();
    let moved = firebackup_model::port::NewItem::new(to.key, to.body);
    let write = firebackup_model::port::ItemWrite::Replace(moved, to.version);
    firebackup_model::port::ItemStore::write(&world.items, vec![write]).await.unwrap();
    let error = world.control.work(&world.worker().await, &backup.job.id).await.unwrap_err();
    assert_eq!(error.code, firebackup_control::Code::Internal);
}

#[tokio::test]
async fn settings_and_changes_are_shown_without_secrets() {
    let control: Control = World::with(ControlSettings::default()).control;
    let change = OrganizationChange { name: Some("a".to_owned()), ..OrganizationChange::default() };
    assert!(format!("{control:?} {change:?}").contains("max_running_jobs"));
}
