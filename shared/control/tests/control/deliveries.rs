//! Deliveries: tried for a day, once at a time, and never lost, whoever dies in between.

use firebackup_control::{AttemptOutcome, AuditFilter, Code, Delivery, DeliveryMessage, DeliveryStatus, Page, Webhook};
use firebackup_model::port::{DomainEvent, WebhookFailure, WebhookPost};
use firebackup_model::{ErrorKind, Timestamp};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::world::{World, code, new_webhook};

/// What happened, at the time of the world's clock.
async fn event(world: &World) -> DomainEvent {
    DomainEvent {
        id: "evt_01JZ0000000000000000000000".to_owned(),
        kind: "backup.completed".to_owned(),
        timestamp: world.now(),
        organization: world.owner().await.organization().to_string(),
        data: json!({ "id": "bkp_01JZ0000000000000000000000" }),
    }
}

async fn told(world: &World) -> DomainEvent {
    let event = event(world).await;
    world.control.fan_out(&world.worker().await, &event).await.unwrap();
    event
}

fn messages(world: &World) -> Vec<DeliveryMessage> {
    world.notify.drain().iter().map(|body| serde_json::from_str(body).unwrap()).collect()
}

/// Deals with the messages that are there; says what came of each.
async fn deal(world: &World) -> Vec<AttemptOutcome> {
    let mut outcomes = Vec::new();
    for message in messages(world) {
        outcomes.push(world.control.attempt_delivery(&world.worker().await, &message).await.unwrap());
    }
    outcomes
}

async fn only(world: &World, webhook: &Webhook) -> Delivery {
    let mut page = world.control.deliveries(&world.owner().await, &webhook.id, &Page::default()).await.unwrap();
    assert_eq!(page.items.len(), 1);
    page.items.remove(0)
}

/// Goes on until the sweep takes for lost what is lost.
async fn sweep(world: &World) -> u64 {
    world.clock.advance(5 * 60);
    world.control.queue_overdue_deliveries(&world.worker().await).await.unwrap()
}

fn header<'p>(post: &'p WebhookPost, name: &str) -> &'p str {
    &post.headers.iter().find(|(known, _)| *known == name).unwrap().1
}

#[tokio::test]
async fn an_event_is_posted_signed_to_whoever_wants_it() {
    let world = World::new().await;
    let (owner, control) = (world.owner().await, &world.control);
    let (webhook, _) = world.webhook().await;
    for refused in [json!(["restore.failed"]), json!(["schedule.failed", "project.created"])] {
        let mut new = new_webhook("other");
        new.events = serde_json::from_value(refused).unwrap();
        control.create_webhook(&owner, new).await.unwrap();
    }
    let (off, _) = control.create_webhook(&owner, new_webhook("off")).await.unwrap();
    control.toggle_webhook(&owner, &off.id).await.unwrap();
    let event = event(&world).await;
    assert_eq!(control.fan_out(&world.worker().await, &event).await.unwrap(), 1);
    assert_eq!(deal(&world).await, [AttemptOutcome::Delivered]);
    let post = world.receiver.posts().pop().unwrap();
    let body: Value = serde_json::from_str(&post.body).unwrap();
    let expected = json!({ "id": event.id, "type": event.kind, "timestamp": event.timestamp, "data": event.data });
    assert_eq!(body, expected);
    assert_eq!((header(&post, "webhook-id"), header(&post, "content-type")), (event.id.as_str(), "application/json"));
    assert!(header(&post, "webhook-signature").starts_with("v1,"));
    let delivery = only(&world, &webhook).await;
    assert_eq!((delivery.status, delivery.attempts, delivery.last_status), (DeliveryStatus::Delivered, 1, Some(204)));
    assert_eq!((delivery.next_attempt_at, delivery.last_error), (None, None));
}

#[tokio::test]
async fn a_receiver_that_fails_is_tried_for_a_day_and_then_no_more() {
    let world = World::new().await;
    let (webhook, _) = world.webhook().await;
    world.receiver.answer(Ok(503));
    told(&world).await;
    let mut times: Vec<Timestamp> = Vec::new();
    let begun = world.now();
    loop {
        match deal(&world).await.as_slice() {
            [AttemptOutcome::Waits] => world.clock.advance(1.max((world.now().seconds - begun.seconds) / 100)),
            [AttemptOutcome::Failed] => times.push(world.now()),
            [AttemptOutcome::Dead] => break times.push(world.now()),
            other => panic!("{other:?}"),
        }
    }
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1].seconds_since(pair[0])).collect();
    assert_eq!(gaps.len(), 7);
    assert!(gaps.windows(2).all(|pair| pair[0] < pair[1]), "{gaps:?}");
    assert!((5.0..10.0).contains(&gaps[0]), "{gaps:?}");
    assert!((24.0 * 3600.0..32.0 * 3600.0).contains(&gaps.iter().sum::<f64>()), "{gaps:?}");
    let delivery = only(&world, &webhook).await;
    assert_eq!((delivery.status, delivery.attempts, delivery.last_status), (DeliveryStatus::Dead, 8, Some(503)));
    assert_eq!(delivery.last_error.as_deref(), Some("answered with 503"));
    assert_eq!((sweep(&world).await, messages(&world).len()), (0, 0), "nothing is left to do");
    let posts = world.receiver.posts();
    assert!(posts.iter().all(|post| header(post, "webhook-id") == header(&posts[0], "webhook-id")));
    assert_ne!(header(&posts[0], "webhook-timestamp"), header(&posts[7], "webhook-timestamp"));
}

#[tokio::test]
async fn the_failures_that_are_tried_again_are_all_but_200_to_299() {
    for (answer, says) in [
        (Ok(301), "answered with 301: a redirect is not followed"),
        (Ok(404), "answered with 404"),
        (Ok(199), "answered with 199"),
        (Err(WebhookFailure::Unreachable { host: "receiver.example".to_owned() }), "receiver.example cannot be"),
        (Err(WebhookFailure::TooSlow { host: "receiver.example".to_owned(), seconds: 10 }), "within 10 seconds"),
    ] {
        let world = World::new().await;
        let (webhook, _) = world.webhook().await;
        world.receiver.answer(answer);
        told(&world).await;
        assert_eq!(deal(&world).await, [AttemptOutcome::Failed]);
        let delivery = only(&world, &webhook).await;
        assert!(delivery.last_error.as_ref().is_some_and(|error| error.contains(says)), "{delivery:?}");
        assert_eq!(delivery.status, DeliveryStatus::Pending);
        world.receiver.answer(Ok(299));
        world.clock.advance(10);
        assert_eq!(deal(&world).await, [AttemptOutcome::Delivered]);
        assert_eq!(only(&world, &webhook).await.last_error, None);
    }
}

#[tokio::test]
async fn what_comes_twice_is_posted_once() {
    let world = World::new().await;
    let (webhook, _) = world.webhook().await;
    let event = told(&world).await;
    world.control.fan_out(&world.worker().await, &event).await.unwrap();
    assert_eq!(deal(&world).await, [AttemptOutcome::Delivered, AttemptOutcome::Settled]);
    world.control.fan_out(&world.worker().await, &event).await.unwrap();
    assert_eq!(deal(&world).await, [AttemptOutcome::Settled]);
    assert_eq!((world.receiver.posts().len(), only(&world, &webhook).await.attempts), (1, 1));
}

#[tokio::test]
async fn of_many_that_have_one_message_one_posts() {
    for seed in 0..20 {
        let world = World::new().await;
        let (webhook, _) = world.webhook().await;
        told(&world).await;
        world.items.vary(seed);
        let (worker, message) = (world.worker().await, messages(&world).remove(0));
        let outcomes = join_all((0..6).map(|_| world.control.attempt_delivery(&worker, &message))).await;
        let delivered = outcomes.into_iter().filter(|one| *one.as_ref().unwrap() == AttemptOutcome::Delivered).count();
        assert_eq!((delivered, world.receiver.posts().len()), (1, 1), "{seed}");
        assert_eq!(only(&world, &webhook).await.attempts, 1);
    }
}

#[tokio::test]
async fn a_transaction_that_is_in_the_way_loses_nothing() {
    let world = World::new().await;
    let (webhook, _) = world.webhook().await;
    let (worker, event) = (world.worker().await, event(&world).await);
    world.items.refuse(1);
    assert_eq!(code(world.control.fan_out(&worker, &event).await), Code::ConcurrentChange, "it comes again");
    assert_eq!(messages(&world).len(), 0);
    world.control.fan_out(&worker, &event).await.unwrap();
    world.items.refuse(1);
    assert_eq!(deal(&world).await, [AttemptOutcome::Delivered]);
    assert_eq!((only(&world, &webhook).await.attempts, world.receiver.posts().len()), (1, 1));
}

/// Polls a verb so often and drops it, as a process that dies there. Says whether it came to its end before.
async fn dies_after(polls: u32, verb: impl Future) -> bool {
    let mut verb = std::pin::pin!(verb);
    for _ in 0..polls {
        if futures::poll!(verb.as_mut()).is_ready() {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

#[tokio::test]
async fn a_try_may_die_anywhere_and_is_made_again() {
    let mut twice = 0;
    for polls in 0.. {
        let world = World::new().await;
        let (webhook, _) = world.webhook().await;
        told(&world).await;
        let (worker, message) = (world.worker().await, messages(&world).remove(0));
        let has_ended = dies_after(polls, world.control.attempt_delivery(&worker, &message)).await;
        // the message was not deleted: it comes again, and the sweep after it
        world.control.attempt_delivery(&worker, &message).await.unwrap();
        sweep(&world).await;
        deal(&world).await;
        assert_eq!(only(&world, &webhook).await.status, DeliveryStatus::Delivered, "{polls}");
        let posts = world.receiver.posts();
        assert!((1..=2).contains(&posts.len()), "{polls}: {}", posts.len());
        assert_eq!(header(&posts[0], "webhook-id"), header(&posts[posts.len() - 1], "webhook-id"));
        twice += u32::from(posts.len() == 2);
        if has_ended {
            assert_eq!(posts.len(), 1);
            break;
        }
    }
    assert!(twice > 0, "it died between the post and its outcome too");
}

#[tokio::test]
async fn a_fan_out_may_die_anywhere_and_is_made_again() {
    for polls in 0.. {
        let world = World::new().await;
        let (first, _) = world.webhook().await;
        let (second, _) = world.webhook().await;
        let (worker, event) = (world.worker().await, event(&world).await);
        let has_ended = dies_after(polls, world.control.fan_out(&worker, &event)).await;
        world.control.fan_out(&worker, &event).await.unwrap();
        deal(&world).await;
        for webhook in [first, second] {
            let delivery = only(&world, &webhook).await;
            assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Delivered, 1), "{polls}");
        }
        assert_eq!(world.receiver.posts().len(), 2, "{polls}");
        if has_ended {
            break;
        }
    }
}

#[tokio::test]
async fn what_a_queue_does_not_take_is_made_up_for() {
    let world = World::new().await;
    let (webhook, _) = world.webhook().await;
    world.notify.fail(Some(ErrorKind::Unavailable));
    let (worker, event) = (world.worker().await, event(&world).await);
    assert_eq!(code(world.control.fan_out(&worker, &event).await), Code::Unavailable, "the event comes again");
    world.notify.fail(None);
    assert_eq!(sweep(&world).await, 1, "even if it does not");
    world.receiver.answer(Ok(500));
    let message = messages(&world).remove(0);
    world.notify.fail(Some(ErrorKind::Unavailable));
    assert_eq!(world.control.attempt_delivery(&worker, &message).await.unwrap(), AttemptOutcome::Failed);
    world.notify.fail(None);
    world.receiver.answer(Ok(200));
    assert_eq!((messages(&world).len(), sweep(&world).await), (0, 1));
    assert_eq!(sweep(&world).await, 1, "its message has not been dealt with");
    assert_eq!(deal(&world).await, [AttemptOutcome::Delivered, AttemptOutcome::Settled]);
    assert_eq!((only(&world, &webhook).await.attempts, sweep(&world).await), (2, 0));
}

#[tokio::test]
async fn a_try_that_nobody_comes_back_from_is_not_made_for_ever() {
    let world = World::new().await;
    let (webhook, _) = world.webhook().await;
    told(&world).await;
    let worker = world.worker().await;
    let mut tries = 0;
    while only(&world, &webhook).await.status == DeliveryStatus::Pending {
        for message in messages(&world) {
            let posted = world.receiver.posts().len();
            let mut verb = std::pin::pin!(world.control.attempt_delivery(&worker, &message));
            while world.receiver.posts().len() == posted && futures::poll!(verb.as_mut()).is_pending() {}
        }
        sweep(&world).await;
        tries += 1;
        assert!(tries < 20);
    }
    assert_eq!((world.receiver.posts().len(), only(&world, &webhook).await.attempts), (8, 8));
}

#[tokio::test]
async fn a_try_that_comes_back_too_late_says_nothing_any_more() {
    let world = World::new().await;
    let (webhook, _) = world.webhook().await;
    told(&world).await;
    let (worker, message) = (world.worker().await, messages(&world).remove(0));
    world.receiver.answer(Ok(500));
    let mut late = std::pin::pin!(world.control.attempt_delivery(&worker, &message));
    while world.receiver.posts().is_empty() {
        assert!(futures::poll!(late.as_mut()).is_pending());
    }
    sweep(&world).await;
    world.receiver.answer(Ok(200));
    assert_eq!(deal(&world).await, [AttemptOutcome::Delivered]);
    world.receiver.answer(Ok(500));
    assert_eq!(late.await.unwrap(), AttemptOutcome::Settled);
    assert_eq!(only(&world, &webhook).await.status, DeliveryStatus::Delivered);
}

#[tokio::test]
async fn nothing_is_sent_to_what_is_disabled_or_gone_and_redelivery_begins_anew() {
    let world = World::new().await;
    let (owner, control) = (world.owner().await, &world.control);
    let (webhook, _) = world.webhook().await;
    told(&world).await;
    control.toggle_webhook(&owner, &webhook.id).await.unwrap();
    assert_eq!(deal(&world).await, [AttemptOutcome::Dead]);
    let delivery = only(&world, &webhook).await;
    assert_eq!((delivery.last_error.as_deref(), delivery.attempts), (Some("the webhook is disabled"), 0));
    assert_eq!(code(control.redeliver(&owner, &webhook.id, &delivery.id).await), Code::Conflict);
    control.toggle_webhook(&owner, &webhook.id).await.unwrap();
    for attempts in 1..=2 {
        let again = control.redeliver(&owner, &webhook.id, &delivery.id).await.unwrap();
        assert_eq!(again.status, DeliveryStatus::Pending);
        assert_eq!(deal(&world).await, [AttemptOutcome::Delivered]);
        assert_eq!(only(&world, &webhook).await.attempts, attempts);
    }
    control.redeliver(&owner, &webhook.id, &delivery.id).await.unwrap();
    control.remove_webhook(&owner, &webhook.id).await.unwrap();
    assert_eq!(deal(&world).await, [AttemptOutcome::Dead]);
    assert_eq!((world.receiver.posts().len(), sweep(&world).await), (2, 0));
}

#[tokio::test]
async fn a_delivery_is_kept_for_thirty_days() {
    let world = World::new().await;
    let (webhook, _) = world.webhook().await;
    told(&world).await;
    deal(&world).await;
    world.clock.advance(30 * 24 * 3600 - 1);
    only(&world, &webhook).await;
    world.clock.advance(1);
    let page = world.control.deliveries(&world.owner().await, &webhook.id, &Page::default()).await.unwrap();
    assert!(page.items.is_empty());
}

#[tokio::test]
async fn a_receiver_that_asks_for_patience_gets_it_in_bounds() {
    for (status, asked, expect) in [(429, 3600, 3600), (503, 100, 100), (503, u32::MAX, 12 * 3600), (500, 3600, 5)] {
        let world = World::new().await;
        let (webhook, _) = world.webhook().await;
        world.receiver.ask_for_patience(status, asked);
        told(&world).await;
        assert_eq!(deal(&world).await, [AttemptOutcome::Failed]);
        let waits = only(&world, &webhook).await.next_attempt_at.unwrap().seconds_since(world.now());
        assert!((f64::from(expect)..=f64::from(expect) + 0.5).contains(&waits), "{status} {asked}: {waits}");
    }
    let world = World::new().await;
    let (webhook, _) = world.webhook().await;
    world.receiver.ask_for_patience(429, 1);
    told(&world).await;
    deal(&world).await;
    let waits = only(&world, &webhook).await.next_attempt_at.unwrap().seconds_since(world.now());
    assert!(waits >= 5.0, "less than we wait anyway is no wish");
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_told_nothing_more() {
    let world = World::new().await;
    let (webhook, _) = world.webhook().await;
    world.receiver.answer(Ok(410));
    told(&world).await;
    assert_eq!(deal(&world).await, [AttemptOutcome::Dead]);
    let delivery = only(&world, &webhook).await;
    assert_eq!((delivery.status, delivery.attempts, delivery.last_status), (DeliveryStatus::Dead, 1, Some(410)));
    assert!(delivery.last_error.unwrap().contains("told nothing more"));
    let owner = world.owner().await;
    assert!(!world.control.webhook(&owner, &webhook.id).await.unwrap().enabled);
    let filter = AuditFilter { action: Some("webhook.updated".to_owned()), ..AuditFilter::default() };
    let entries = world.control.audit(&owner, &filter, &Page::default()).await.unwrap().items;
    assert_eq!(entries.iter().map(|entry| entry.actor.as_str()).collect::<Vec<_>>(), ["system"]);
    world.clock.advance(60);
    assert_eq!(world.control.fan_out(&world.worker().await, &event(&world).await).await.unwrap(), 0);
}

#[tokio::test]
async fn a_secret_is_exchanged_while_both_are_good_for_a_day() {
    let world = World::new().await;
    let (owner, control) = (world.owner().await, &world.control);
    let (webhook, first) = world.webhook().await;
    let (_, second) = control.exchange_webhook_secret(&owner, &webhook.id).await.unwrap();
    assert_ne!(first, *second);
    let signatures = async || {
        control.test_webhook(&owner, &webhook.id).await.unwrap();
        let post = world.receiver.posts().pop().unwrap();
        let made_with = |secret: &str| signed(secret, &post);
        let header = header(&post, "webhook-signature").to_owned();
        (header.split(' ').map(str::to_owned).collect::<Vec<_>>(), made_with(&first), made_with(&second))
    };
    let (found, old, new) = signatures().await;
    assert_eq!(found, [new, old], "the new one first");
    let (_, third) = control.exchange_webhook_secret(&owner, &webhook.id).await.unwrap();
    let (found, old, new) = signatures().await;
    assert_eq!((found.len(), &found[1..]), (3, [new, old].as_slice()), "a second exchange ends none before its day");
    assert_eq!(found[0], signed(&third, &world.receiver.posts().pop().unwrap()));
    world.clock.advance(24 * 3600);
    let (found, ..) = signatures().await;
    assert_eq!(found, [signed(&third, &world.receiver.posts().pop().unwrap())]);
    let filter = AuditFilter { action: Some("webhook.secret_exchanged".to_owned()), ..AuditFilter::default() };
    assert_eq!(control.audit(&owner, &filter, &Page::default()).await.unwrap().items.len(), 2);
    for item in world.items.all() {
        let text = serde_json::to_string(&item.body).unwrap();
        assert!(!text.contains(&first) && !text.contains(second.as_str()), "{:?}", item.key);
    }
    let slack = serde_json::from_value(json!({
        "name": "Slack", "type": "slack", "url": "https://hooks.slack.com/services/x",
    }));
    let (slack, _) = control.create_webhook(&owner, slack.unwrap()).await.unwrap();
    assert_eq!(code(control.exchange_webhook_secret(&owner, &slack.id).await), Code::ValidationFailed);
}

/// The signature that the specification wants of a post.
fn signed(secret: &str, post: &WebhookPost) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use hmac::{Hmac, KeyInit, Mac};
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
    let (id, time) = (header(post, "webhook-id"), header(post, "webhook-timestamp"));
    mac.update(format!("{id}.{time}.{}", post.body).as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}
