//! Webhooks: what may be one, what it is told, and what is shown of it.

use firebackup_control::{
    Code, DeliveryStatus, EventName, Invite, NewInvite, NewWebhook, Page, Role, Verified, WebhookChange, WebhookType,
};
use firebackup_model::ErrorKind;
use firebackup_model::id::JobId;
use firebackup_testkit::memory_issuer::identity;
use serde_json::{Value, json};

use crate::world::{World, code, new_webhook};

fn slack(url: &str) -> NewWebhook {
    serde_json::from_value(json!({ "name": "Channel", "type": "slack", "url": url })).unwrap()
}

#[tokio::test]
async fn a_webhook_is_made_changed_switched_and_removed() {
    let world = World::new().await;
    let (owner, control) = (world.owner().await, &world.control);
    let (webhook, secret) = world.webhook().await;
    assert!(secret.starts_with("whsec_"));
    assert_eq!(
        (webhook.host.as_str(), webhook.kind, webhook.enabled),
        ("receiver.example", WebhookType::Webhook, true)
    );
    assert!(!control.toggle_webhook(&owner, &webhook.id).await.unwrap().enabled);
    world.clock.advance(1);
    let change: WebhookChange = serde_json::from_value(json!({
        "name": "Renamed", "url": "https://elsewhere.example/x", "events": ["backup.failed"], "enabled": true,
    }))
    .unwrap();
    let changed = control.update_webhook(&owner, &webhook.id, change).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.host.as_str(), changed.enabled), ("Renamed", "elsewhere.example", true));
    assert_eq!(changed.events, [EventName::BackupFailed].into());
    assert!(changed.updated_at > webhook.updated_at);
    let untouched = control.update_webhook(&owner, &webhook.id, WebhookChange::default()).await.unwrap();
    assert_eq!((untouched.host, untouched.events), (changed.host, changed.events));
    control.test_webhook(&owner, &webhook.id).await.unwrap();
    assert_eq!(world.receiver.posts()[0].url, "https://elsewhere.example/x", "the new address");
    assert_eq!(control.webhooks(&owner, &Page::default()).await.unwrap().items.len(), 1);
    control.remove_webhook(&owner, &webhook.id).await.unwrap();
    assert_eq!(code(control.webhook(&owner, &webhook.id).await), Code::NotFound);
    assert_eq!(code(control.deliveries(&owner, &webhook.id, &Page::default()).await), Code::NotFound);
}

#[tokio::test]
async fn what_may_not_be_called_is_refused_and_slack_is_at_slack() {
    let world = World::new().await;
    let (owner, control) = (world.owner().await, &world.control);
    let good = "https://hooks.slack.com/services/T/B/x";
    for new in [
        slack("https://example.com/hook"),
        slack("https://hooks.slack.com.evil.example/services/x"),
        slack("http://hooks.slack.com/services/x"),
        NewWebhook { url: String::new().into(), ..new_webhook("a") },
        NewWebhook { url: format!("https://a.example/{}", "x".repeat(3000)).into(), ..new_webhook("a") },
        NewWebhook { url: "https://a.example/a b".to_owned().into(), ..new_webhook("a") },
        NewWebhook { url: "https://".to_owned().into(), ..new_webhook("a") },
        NewWebhook { name: String::new(), ..new_webhook("a") },
    ] {
        assert_eq!(code(control.create_webhook(&owner, new).await), Code::ValidationFailed);
    }
    let (webhook, secret) = control.create_webhook(&owner, slack(good)).await.unwrap();
    assert_eq!((webhook.kind, webhook.host.as_str(), secret), (WebhookType::Slack, "hooks.slack.com", None));
    let elsewhere: WebhookChange = serde_json::from_value(json!({ "url": "https://example.com/hook" })).unwrap();
    assert_eq!(code(control.update_webhook(&owner, &webhook.id, elsewhere).await), Code::ValidationFailed);
    world.receiver.allow_inside(true);
    control.create_webhook(&owner, slack("http://127.0.0.1:8080/hook")).await.unwrap();
}

/// All at one moment: of those who have counted forty-nine one makes the fiftieth.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_organization_has_fifty_at_most_however_many_are_asked_for_at_once() {
    let world = World::new().await;
    let owner = world.owner().await;
    let asked = (0..90).map(|_| {
        let (control, owner) = (world.control.clone(), owner.clone());
        tokio::spawn(async move { control.create_webhook(&owner, new_webhook("a")).await.map_err(|error| error.code) })
    });
    let mut outcomes = Vec::new();
    for outcome in futures::future::join_all(asked).await {
        outcomes.push(outcome.unwrap().map(|_| ()));
    }
    let made = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let refused = outcomes.iter().filter(|outcome| **outcome == Err(Code::LimitReached)).count();
    assert_eq!((made, refused), (50, 40), "{outcomes:?}");
    let quota = world.control.quotas(&owner).await.unwrap().webhooks;
    assert_eq!((quota.used, quota.limit), (50, Some(50)));
    let first = world.control.webhooks(&owner, &Page::default()).await.unwrap().items.remove(0);
    world.control.remove_webhook(&owner, &first.id).await.unwrap();
    world.control.create_webhook(&owner, new_webhook("a")).await.unwrap();
}

#[tokio::test]
async fn a_test_is_posted_once_and_says_what_came_back() {
    let world = World::new().await;
    let (owner, control) = (world.owner().await, &world.control);
    let (webhook, _) = world.webhook().await;
    control.toggle_webhook(&owner, &webhook.id).await.unwrap();
    let delivery = control.test_webhook(&owner, &webhook.id).await.unwrap();
    assert_eq!((delivery.status, delivery.last_status, delivery.attempts), (DeliveryStatus::Delivered, Some(204), 1));
    world.receiver.answer(Ok(500));
    let delivery = control.test_webhook(&owner, &webhook.id).await.unwrap();
    assert_eq!((delivery.status, delivery.last_status), (DeliveryStatus::Dead, Some(500)));
    assert_eq!(delivery.last_error.as_deref(), Some("answered with 500"));
    world.clock.advance(3600);
    assert_eq!(control.queue_overdue_deliveries(&world.worker().await).await.unwrap(), 0, "it is not tried again");
    let body: Value = serde_json::from_str(&world.receiver.posts()[0].body).unwrap();
    assert_eq!((body["type"].as_str(), &body["data"]["id"]), (Some("webhook.test"), &json!(webhook.id)));
    assert_eq!(control.deliveries(&owner, &webhook.id, &Page::default()).await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn slack_is_told_in_its_own_words_and_without_a_signature() {
    let world = World::new().await;
    let owner = world.owner().await;
    let (webhook, _) = world.control.create_webhook(&owner, slack("https://hooks.slack.com/services/x")).await.unwrap();
    world.control.test_webhook(&owner, &webhook.id).await.unwrap();
    let post = world.receiver.posts().pop().unwrap();
    let names: Vec<_> = post.headers.iter().map(|(name, _)| *name).collect();
    let body: Value = serde_json::from_str(&post.body).unwrap();
    assert_eq!((names, body["text"].as_str()), (vec!["content-type"], Some("Webhook test")));
}

#[tokio::test]
async fn every_change_that_webhooks_may_hear_of_is_published() {
    let world = World::new().await;
    let (owner, worker, control) = (world.owner().await, world.worker().await, &world.control);
    let (project, _) = world.set_up().await;
    let schedule = world.schedule(&project).await;
    control.toggle_schedule(&owner, &schedule.id).await.unwrap();
    control.trigger_schedule(&owner, &schedule.id, None).await.unwrap();
    control.update_project(&owner, &project.id, firebackup_control::ProjectChange::default()).await.unwrap();
    let backup = world.completed(&project).await;
    crate::pitr::capture_and_fail(&world, &project).await;
    for job in control.running_jobs(&worker).await.unwrap() {
        come_half_way(&world, job.id()).await;
        control.finish_job(&worker, job.id(), crate::world::failed()).await.unwrap();
    }
    control.cancel_backup(&owner, &project.id, &world.backup(&project).await.job.id).await.unwrap();
    for end in [crate::world::completed(), crate::world::failed(), firebackup_control::JobEnd::Cancelled] {
        let restore = control
            .create_restore(&owner, crate::world::new_restore(&backup), &crate::world::NoMoments, None)
            .await
            .unwrap();
        control.start_job(&worker, &restore.job.id).await.unwrap();
        come_half_way(&world, &restore.job.id).await;
        control.finish_job(&worker, &restore.job.id, end).await.unwrap();
    }
    control.toggle_schedule(&owner, &schedule.id).await.unwrap();
    let gone = world.destination().await;
    let change = firebackup_control::ScheduleChange {
        storage_destination_id: Some(Some(gone.id)),
        ..firebackup_control::ScheduleChange::default()
    };
    control.update_schedule(&owner, &schedule.id, change).await.unwrap();
    let off = firebackup_control::ProjectChange { connected: Some(false), ..Default::default() };
    control.update_project(&owner, &project.id, off).await.unwrap();
    control.schedule_due(&worker, &schedule.id, schedule.next_runs[0]).await.unwrap_err();
    control.remove_schedule(&owner, &schedule.id).await.unwrap();
    control.remove_project(&owner, &project.id).await.unwrap();
    join_and_leave(&world).await;
    for verified in [true, false] {
        let found = Verified { project: &project.id, backup: &backup.job.id, verified, depth: "full" };
        control.note_verified(&owner, found).await.unwrap();
    }
    *world.probes.fails.lock().unwrap() = true;
    control.verify_destination(&owner, &gone.id).await.unwrap_err();
    let published: std::collections::BTreeSet<String> =
        world.events.published().into_iter().map(|event| event.kind).collect();
    let offered = EventName::ALL.iter().map(|name| name.as_str().to_owned()).collect();
    assert_eq!(published, offered, "what is offered happens, and what happens is offered");
}

async fn come_half_way(world: &World, job: &JobId) {
    let worker = world.worker().await;
    world.control.note_chunks(&worker, job, 2).await.unwrap();
    world.control.note_progress(&worker, job, &[("chunksDone", 1)]).await.unwrap();
}

async fn join_and_leave(world: &World) {
    let (owner, control) = (world.owner().await, &world.control);
    let new = NewInvite { email: "ada@example.com".to_owned(), role: Role::Viewer };
    let (Invite { .. }, token) = control.invite(&owner, new).await.unwrap();
    let person = world.person(identity("ada", "ada@example.com")).await;
    control.accept_invite(&person, &token).await.unwrap();
    control.remove_member(&owner, &person.user()).await.unwrap();
}

#[tokio::test]
async fn an_event_of_a_change_has_the_id_of_its_entry_and_its_failure_is_nobodys() {
    let world = World::new().await;
    let owner = world.owner().await;
    let project = world.project().await;
    let event = world.events_of("project.created").pop().unwrap();
    let filter = firebackup_control::AuditFilter { action: Some(event.kind.clone()), ..Default::default() };
    let entry = world.control.audit(&owner, &filter, &Page::default()).await.unwrap().items.pop().unwrap();
    assert_eq!((event.id, event.timestamp), (entry.id.to_string(), entry.timestamp));
    assert_eq!((&event.data["id"], &event.data["name"]), (&json!(project.id), &json!(project.name)));
    assert_eq!(event.organization, owner.organization().to_string());
    world.events.fail(Some(ErrorKind::Unavailable));
    world.project().await;
}

#[tokio::test]
async fn what_a_verification_found_is_told_once_a_minute() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let backup = world.completed(&project).await.job.id;
    let viewer = world.caller(Role::Viewer).await;
    let found = |verified, depth| Verified { project: &project.id, backup: &backup, verified, depth };
    for _ in 0..3 {
        world.control.note_verified(&viewer, found(true, "full")).await.unwrap();
        world.clock.advance(1);
    }
    world.control.note_verified(&viewer, found(false, "full")).await.unwrap();
    world.next_minute();
    world.control.note_verified(&viewer, found(true, "full")).await.unwrap();
    let told = world.events_of("verification.");
    let kinds: Vec<_> = told.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["verification.completed", "verification.failed", "verification.completed"]);
    assert_eq!(told[0].data, json!({ "id": backup, "projectId": project.id, "verified": true, "depth": "full" }));
    let filter = firebackup_control::AuditFilter { action: Some("verification.".to_owned()), ..Default::default() };
    let entries = world.control.audit(&world.owner().await, &filter, &Page::default()).await.unwrap().items;
    assert_eq!(entries.len(), 3);
    assert!(entries.iter().all(|entry| entry.actor == viewer.actor().to_string()));
}

/// Whoever changes something may die before others are told of it.
#[tokio::test]
async fn a_change_that_nobody_was_told_of_is_told_by_the_sweep() {
    let world = World::new().await;
    let (owner, worker, control) = (world.owner().await, world.worker().await, &world.control);
    let (webhook, _) = world.webhook().await;
    let told = async || {
        let page = Page { limit: 100, ..Page::default() };
        let deliveries = control.deliveries(&owner, &webhook.id, &page).await.unwrap().items;
        deliveries.into_iter().map(|delivery| delivery.event_type).collect::<Vec<_>>()
    };
    assert_eq!(control.tell_untold(&worker).await.unwrap(), 0, "from here on");
    world.clock.advance(200);
    world.events.fail(Some(ErrorKind::Unavailable));
    let project = world.project().await;
    world.events.fail(None);
    assert_eq!(control.tell_untold(&worker).await.unwrap(), 0, "whoever made the change may still tell of it");
    world.clock.advance(119);
    assert_eq!(control.tell_untold(&worker).await.unwrap(), 0);
    world.clock.advance(2);
    let (one, two) = tokio::join!(control.tell_untold(&worker), control.tell_untold(&worker));
    assert!((1..=2).contains(&(one.unwrap() + two.unwrap())), "by one of them, or by both at once");
    assert_eq!(told().await, ["project.created"], "once");
    // what was told is not told again, and what is new is told by its own way
    let change = firebackup_control::ProjectChange::default();
    control.update_project(&owner, &project.id, change).await.unwrap();
    for event in world.events_of("project.updated") {
        control.fan_out(&worker, &event).await.unwrap();
    }
    for _ in 0..3 {
        world.clock.advance(300);
        assert_eq!(control.tell_untold(&worker).await.unwrap(), 0);
    }
    assert_eq!(told().await, ["project.updated", "project.created"]);
    // one that is made later is not told of what was before
    world.clock.advance(100);
    world.events.fail(Some(ErrorKind::Unavailable));
    control.update_project(&owner, &project.id, firebackup_control::ProjectChange::default()).await.unwrap();
    world.clock.advance(1);
    let (late, _) = control.create_webhook(&owner, new_webhook("Late")).await.unwrap();
    world.clock.advance(40 * 86_400);
    control.remove_project(&owner, &project.id).await.unwrap();
    world.clock.advance(121);
    assert_eq!(control.tell_untold(&worker).await.unwrap(), 2, "each of the end, and nobody of what is too old");
    assert_eq!(control.deliveries(&owner, &late.id, &Page::default()).await.unwrap().items.len(), 1);
}
