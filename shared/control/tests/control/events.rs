//! Events of changes that are posted: who may, what is kept of them, and how they leave the buffer.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use firebackup_control::{
    Code, DueCapture, EventOutcome, EventProof, EventTaken, Pitr, PitrChange, Project, PushConfig, PushStatistics,
    Result, Role, Signed,
};
use firebackup_model::ErrorKind;
use firebackup_testkit::memory_issuer::account_token;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::pitr::capturing;
use crate::world::{World, code};

const ACCOUNT: &str = "events@shop-1.iam.gserviceaccount.com";
const AUDIENCE: &str = "https://backup.example/events";
/// Stands in documents, and in who has written them; must be found nowhere.
const PLANTED: &str = "planted-value";

fn by_account() -> PushConfig {
    let (service_account, audience) = (Some(ACCOUNT.to_owned()), Some(AUDIENCE.to_owned()));
    PushConfig { service_account, audience, hmac: false }
}

fn by_secret() -> PushConfig {
    PushConfig { hmac: true, ..PushConfig::default() }
}

/// A world in which events of a project are taken.
async fn taking(push: PushConfig) -> (World, Project, Pitr) {
    let (world, project, _) = capturing().await;
    let pitr = set_push(&world, &project, Some(push)).await.unwrap();
    (world, project, pitr)
}

async fn set_push(world: &World, project: &Project, push: Option<PushConfig>) -> Result<Pitr> {
    let change = PitrChange { push: Some(push), ..PitrChange::default() };
    world.control.update_pitr(&world.owner().await, &project.id, None, &change).await
}

fn event(project: &Project, id: &str, path: &str) -> String {
    let name = format!("projects/{}/databases/(default)/documents/{path}", project.google_project);
    json!({
        "specversion": "1.0", "id": id, "type": "google.cloud.firestore.document.v1.written",
        "source": format!("//firestore.googleapis.com/projects/{}/databases/(default)", project.google_project),
        "time": "2023-11-14T22:13:20Z", "document": path, "authid": PLANTED,
        "data": { "value": {
            "name": name, "fields": { "a": { "stringValue": PLANTED } },
            "createTime": "2023-11-14T22:13:20Z", "updateTime": "2023-11-14T22:13:20Z",
        } },
    })
    .to_string()
}

async fn post(world: &World, project: &Project, proof: Option<EventProof>, body: &str) -> Result<EventTaken> {
    let sender = world.control.event_sender(&project.id, None, proof).await?;
    let headers = [("content-type", "application/cloudevents+json".as_bytes())];
    world.control.take_event(sender, &headers, body.as_bytes()).await
}

fn token() -> Option<EventProof> {
    Some(EventProof::Token(account_token(ACCOUNT, AUDIENCE).into()))
}

async fn outcome(world: &World, project: &Project, body: &str) -> EventOutcome {
    post(world, project, token(), body).await.unwrap().outcome
}

fn signed(world: &World, secret: &str, body: &str) -> Option<EventProof> {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let (id, timestamp) = ("msg_1".to_owned(), world.now().seconds.to_string());
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    Some(EventProof::Signed(Signed { id, timestamp, signature }))
}

async fn statistics(world: &World, project: &Project) -> PushStatistics {
    world.control.pitr_statistics(&world.owner().await, &project.id, None).await.unwrap().push.unwrap()
}

async fn waiting(world: &World) -> Vec<DueCapture> {
    world.control.waiting_events(10).await.unwrap().into_iter().map(|waiting| waiting.of).collect()
}

#[tokio::test]
async fn who_may_post_is_said_whole_or_not_at_all() {
    let (world, project, pitr) = capturing().await;
    assert_eq!(pitr.config.push, None);
    let account = |name: &str| PushConfig { service_account: Some(name.to_owned()), ..by_account() };
    for wrong in [
        PushConfig::default(),
        PushConfig { audience: Some(AUDIENCE.to_owned()), ..by_secret() },
        PushConfig { audience: Some(String::new()), ..by_account() },
        // nobody knows where this world is reached
        PushConfig { audience: None, ..by_account() },
        account("nobody"),
        account("@example.com"),
        account(&format!("{}@example.com", "x".repeat(254))),
    ] {
        assert_eq!(code(set_push(&world, &project, Some(wrong.clone())).await), Code::ValidationFailed, "{wrong:?}");
    }
    let pitr = set_push(&world, &project, Some(by_account())).await.unwrap();
    assert_eq!(pitr.config.push, Some(by_account()));
    let other = PitrChange { retention_days: Some(9), ..PitrChange::default() };
    let pitr = world.control.update_pitr(&world.owner().await, &project.id, None, &other).await.unwrap();
    assert_eq!(pitr.config.push, Some(by_account()), "what is left out stays");
    let pitr = set_push(&world, &project, None).await.unwrap();
    assert_eq!(pitr.config.push, None);
    for role in [Role::Viewer, Role::Member] {
        let caller = world.caller(role).await;
        let change = PitrChange { push: Some(Some(by_account())), ..PitrChange::default() };
        assert_eq!(code(world.control.update_pitr(&caller, &project.id, None, &change).await), Code::Forbidden);
        assert_eq!(code(world.control.exchange_push_secret(&caller, &project.id, None).await), Code::Forbidden);
    }
}

#[tokio::test]
async fn it_can_be_enabled_with_them_and_the_audience_follows_from_where_a_server_is() {
    let settings = firebackup_control::ControlSettings {
        events_url: Some("https://b.example/api/v1/pitr/{projectId}/events".to_owned()),
        captures_changes: true,
        allow_emulators: true,
        ..Default::default()
    };
    let world = World::first(settings).await;
    let (project, _) = world.set_up().await;
    let mut new = crate::pitr::new_pitr(&project);
    new.config.push = Some(PushConfig { audience: None, ..by_account() });
    let pitr = world.control.enable_pitr(&world.owner().await, new.clone()).await.unwrap();
    let audience = format!("https://b.example/api/v1/pitr/{}/events", project.id);
    assert_eq!(pitr.config.push.as_ref().unwrap().audience.as_ref(), Some(&audience));
    let again = world.control.enable_pitr(&world.owner().await, new).await.unwrap();
    assert_eq!(again.id, pitr.id, "enabling it again as it is changes nothing");
    let proof = Some(EventProof::Token(account_token(ACCOUNT, &audience).into()));
    assert_eq!(
        post(&world, &project, proof, &event(&project, "1", "a/1")).await.unwrap().outcome,
        EventOutcome::Buffered
    );
}

#[tokio::test]
async fn a_token_proves_one_account_for_one_audience() {
    let (world, project, _) = taking(by_account()).await;
    let body = event(&project, "1", "users/a");
    assert_eq!(code(post(&world, &project, None, &body).await), Code::Unauthorized);
    for wrong in [
        account_token("others@shop-1.iam.gserviceaccount.com", AUDIENCE),
        account_token(ACCOUNT, "https://elsewhere.example"),
        "nonsense".to_owned(),
        world.owner_key.clone(),
    ] {
        let proof = Some(EventProof::Token(wrong.into()));
        assert_eq!(code(post(&world, &project, proof, &body).await), Code::InvalidToken);
    }
    assert_eq!(code(post(&world, &project, signed(&world, "whsec_AAAA", &body), &body).await), Code::InvalidToken);
    world.issuer.set_down(true);
    assert_eq!(code(post(&world, &project, token(), &body).await), Code::IssuerFailed);
    world.issuer.set_down(false);
    assert!(waiting(&world).await.is_empty());
    assert_eq!(outcome(&world, &project, &body).await, EventOutcome::Buffered);
}

#[tokio::test]
async fn a_signature_proves_its_body_for_five_minutes_and_its_secret_until_a_day_after_the_next() {
    let (world, project, _) = taking(by_secret()).await;
    let owner = world.owner().await;
    let body = event(&project, "1", "users/a");
    assert_eq!(code(post(&world, &project, signed(&world, "whsec_AAAA", &body), &body).await), Code::InvalidToken);
    let first = world.control.exchange_push_secret(&owner, &project.id, None).await.unwrap();
    let old = signed(&world, &first, &body);
    assert_eq!(code(post(&world, &project, old.clone(), "another").await), Code::InvalidToken);
    assert_eq!(post(&world, &project, old.clone(), &body).await.unwrap().outcome, EventOutcome::Buffered);
    assert_eq!(post(&world, &project, old.clone(), &body).await.unwrap().outcome, EventOutcome::Duplicate);
    assert_eq!(code(post(&world, &project, token(), &body).await), Code::InvalidToken);
    world.clock.advance(301);
    assert_eq!(code(post(&world, &project, old, &body).await), Code::InvalidToken);

    let second = world.control.exchange_push_secret(&owner, &project.id, None).await.unwrap();
    for (secret, advance, is_good) in
        [(&second, 0, true), (&first, 24 * 3600 - 1, true), (&first, 1, false), (&second, 0, true)]
    {
        world.clock.advance(advance);
        let posted = post(&world, &project, signed(&world, secret, &body), &body).await;
        assert_eq!(posted.is_ok(), is_good, "{advance}: {posted:?}");
    }
    // what is asked for no more is forgotten
    set_push(&world, &project, Some(by_account())).await.unwrap();
    set_push(&world, &project, Some(by_secret())).await.unwrap();
    assert_eq!(code(post(&world, &project, signed(&world, &second, &body), &body).await), Code::InvalidToken);
    set_push(&world, &project, Some(by_account())).await.unwrap();
    assert_eq!(code(world.control.exchange_push_secret(&owner, &project.id, None).await), Code::ValidationFailed);
    let stored =
        serde_json::to_string(&world.items.all().into_iter().map(|item| item.body).collect::<Vec<_>>()).unwrap();
    for secret in [&first, &second] {
        assert!(!stored.contains(secret.strip_prefix("whsec_").unwrap()));
    }
}

#[tokio::test]
async fn nothing_is_taken_where_nothing_is_captured() {
    let (world, project, _) = capturing().await;
    let body = event(&project, "1", "users/a");
    assert_eq!(code(post(&world, &project, token(), &body).await), Code::NotFound);
    set_push(&world, &project, Some(by_account())).await.unwrap();
    let owner = world.owner().await;
    let other = world.control.event_sender(&project.id, Some("orders"), token()).await;
    assert_eq!(code(other), Code::NotFound);
    world.control.pause_pitr(&owner, &project.id, None).await.unwrap();
    assert_eq!(code(post(&world, &project, token(), &body).await), Code::Conflict);
    world.control.resume_pitr(&owner, &project.id, None).await.unwrap();
    assert_eq!(outcome(&world, &project, &body).await, EventOutcome::Buffered);
    world.control.disable_pitr(&owner, &project.id, None).await.unwrap();
    assert_eq!(code(post(&world, &project, token(), &body).await), Code::Conflict);
    // what was taken is folded all the same
    let (worker, of) = (world.worker().await, waiting(&world).await.remove(0));
    assert_eq!(world.control.fold_work(&worker, &of, 60).await.unwrap().unwrap().events.len(), 1);
    world.control.remove_project(&owner, &project.id).await.unwrap();
    assert!(waiting(&world).await.is_empty());
    assert_eq!(code(post(&world, &project, token(), &body).await), Code::NotFound);
}

#[tokio::test]
async fn what_can_never_be_taken_is_answered_as_taken_and_counted() {
    let (world, project, _) = taking(by_account()).await;
    let other = |from: &str, to: &str| event(&project, "1", "users/a").replace(from, to);
    for (body, told) in [
        (other("(default)", "orders"), "another database"),
        (other(&project.google_project, "others"), "another database"),
        (other("v1.written", "v1.renamed"), "not taken"),
        (other("\"name\"", "\"nome\""), "value"),
        ("nonsense".to_owned(), "no json"),
        (String::new(), "no json"),
    ] {
        let taken = post(&world, &project, token(), &body).await.unwrap();
        assert_eq!(taken.outcome, EventOutcome::Refused, "{body}");
        let reason = taken.reason.unwrap();
        assert!(reason.contains(told) && !reason.contains(PLANTED), "{reason}");
    }
    let found = statistics(&world, &project).await;
    assert_eq!((found.refused, found.received, found.backlog), (6, 0, 0));
}

#[tokio::test]
async fn an_event_is_kept_once_sealed_and_given_back_until_it_is_folded() {
    let (world, project, _) = taking(by_account()).await;
    for (id, expect) in [("1", EventOutcome::Buffered), ("2", EventOutcome::Buffered), ("1", EventOutcome::Duplicate)] {
        assert_eq!(outcome(&world, &project, &event(&project, id, "users/a")).await, expect);
    }
    let bodies = world.buffer.bodies();
    assert_eq!(bodies.len(), 2);
    let holds = |body: &Vec<u8>, text: &str| body.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(!bodies.iter().any(|body| holds(body, PLANTED) || holds(body, "users") || holds(body, "firestore")));

    let (worker, of) = (world.worker().await, waiting(&world).await.remove(0));
    assert_eq!((of.project, of.database.as_str()), (project.id, "(default)"));
    let work = world.control.fold_work(&worker, &of, 60).await.unwrap().unwrap();
    assert_eq!((work.database.project.as_str(), work.place.project), (project.google_project.as_str(), project.id));
    assert!(!format!("{work:?}").contains(PLANTED));
    // whoever folds dies; the same batch again, whatever came since
    assert_eq!(outcome(&world, &project, &event(&project, "3", "users/a")).await, EventOutcome::Buffered);
    let again = world.control.fold_work(&worker, &of, 60).await.unwrap().unwrap();
    assert_eq!(again.events, work.events);
    world.control.folded(&worker, &of, &again, &[]).await.unwrap();
    world.control.folded(&worker, &of, &work, &[]).await.unwrap();
    let found = statistics(&world, &project).await;
    assert_eq!((found.received, found.folded, found.duplicates, found.backlog), (3, 2, 1, 1));
    assert_eq!(found.last_event_at, Some(world.now()));
    assert_eq!(outcome(&world, &project, &event(&project, "1", "users/a")).await, EventOutcome::Duplicate);
    let rest = world.control.fold_work(&worker, &of, 60).await.unwrap().unwrap();
    assert_eq!(rest.events[0].id, "3");
}

#[tokio::test]
async fn what_is_left_out_when_it_is_folded_is_counted_as_refused() {
    let (world, project, _) = taking(by_account()).await;
    for id in ["1", "2", "3"] {
        outcome(&world, &project, &event(&project, id, "users/a")).await;
    }
    let (worker, of) = (world.worker().await, waiting(&world).await.remove(0));
    let work = world.control.fold_work(&worker, &of, 60).await.unwrap().unwrap();
    world.control.folded(&worker, &of, &work, &[1]).await.unwrap();
    let found = statistics(&world, &project).await;
    assert_eq!((found.received, found.folded, found.refused, found.backlog), (3, 2, 1, 0));
    assert!(world.control.fold_work(&worker, &of, 60).await.unwrap().is_none());
}

#[tokio::test]
async fn what_does_not_open_any_more_keeps_nobody_else_waiting() {
    let (world, project, _) = taking(by_account()).await;
    outcome(&world, &project, &event(&project, "1", "users/a")).await;
    world.buffer.garble();
    outcome(&world, &project, &event(&project, "2", "users/a")).await;
    let (worker, of) = (world.worker().await, waiting(&world).await.remove(0));
    let work = world.control.fold_work(&worker, &of, 60).await.unwrap().unwrap();
    assert_eq!(work.events.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["2"]);
    world.control.folded(&worker, &of, &work, &[]).await.unwrap();
    let found = statistics(&world, &project).await;
    assert_eq!((found.refused, found.folded, found.backlog), (1, 1, 0));
    assert!(world.control.fold_work(&worker, &of, 60).await.unwrap().is_none());
}

#[tokio::test]
async fn a_backlog_has_bounds_and_a_buffer_that_fails_takes_nothing() {
    let (world, project, _) = taking(by_account()).await;
    let body = event(&project, "1", "users/a");
    world.buffer.set_full(true);
    assert_eq!(code(post(&world, &project, token(), &body).await), Code::BacklogFull);
    world.buffer.set_full(false);
    world.buffer.fail(Some(ErrorKind::Unavailable));
    assert_eq!(code(post(&world, &project, token(), &body).await), Code::Unavailable);
    world.buffer.fail(None);
    assert_eq!(outcome(&world, &project, &body).await, EventOutcome::Buffered);
}

#[tokio::test]
async fn nothing_of_it_is_another_organizations() {
    let (world, project, _) = taking(by_account()).await;
    let stranger = world.second_organization().await;
    let change = PitrChange { push: Some(None), ..PitrChange::default() };
    assert_eq!(code(world.control.update_pitr(&stranger, &project.id, None, &change).await), Code::NotFound);
    assert_eq!(code(world.control.exchange_push_secret(&stranger, &project.id, None).await), Code::NotFound);
    assert_eq!(outcome(&world, &project, &event(&project, "1", "users/a")).await, EventOutcome::Buffered);
}

#[tokio::test]
async fn who_may_post_is_in_the_audit_log_and_no_secret_is() {
    let (world, project, _) = taking(by_secret()).await;
    let owner = world.owner().await;
    let secret = world.control.exchange_push_secret(&owner, &project.id, None).await.unwrap();
    let entries = world.control.audit(&owner, &Default::default(), &Default::default()).await.unwrap().items;
    let told: Vec<Value> = entries.iter().map(|entry| serde_json::to_value(entry).unwrap()).collect();
    let of = |action: &str| told.iter().find(|entry| entry["action"] == action).unwrap();
    assert_eq!(of("pitr.updated")["details"]["push"]["hmac"], json!(true));
    assert_eq!(of("pitr.secret_exchanged")["resource"], told[0]["resource"]);
    assert!(!json!(told).to_string().contains(secret.as_str()));
}
