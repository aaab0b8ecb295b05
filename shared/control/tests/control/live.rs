//! Live clients: who may listen, to what, and for how long.

use firebackup_control::{Code, NewApiKey, Origin, Role, SUBSCRIPTION_SECONDS, Worker};
use firebackup_model::Timestamp;
use firebackup_model::id::JobId;
use firebackup_model::port::DomainEvent;
use serde_json::{Value, json};

use crate::world::{World, completed};

fn event(world: &World, kind: &str, organization: &str) -> DomainEvent {
    let data = json!({ "id": "bkp_1" });
    let (id, kind) = ("evt_1".to_owned(), kind.to_owned());
    DomainEvent { id, kind, timestamp: world_time(world), organization: organization.to_owned(), data }
}

fn world_time(world: &World) -> Timestamp {
    firebackup_model::port::Clock::now(world.clock.as_ref())
}

impl World {
    async fn says(&self, connection: &str, message: &Value) -> Value {
        self.control.live_request(connection, &message.to_string(), &Origin::default()).await.unwrap();
        let sent = self.push.take();
        assert!(sent.len() <= 1 && sent.iter().all(|(to, _)| to == connection), "{sent:?}");
        sent.first().map(|(_, text)| serde_json::from_str(text).unwrap()).unwrap_or_default()
    }

    /// A backup that runs, of which one client is told.
    async fn watched_backup(&self) -> (Worker, JobId) {
        let (project, _) = self.set_up().await;
        let (worker, id) = (self.worker().await, self.backup(&project).await.job.id);
        self.control.start_job(&worker, &id).await.unwrap();
        self.push.open("one");
        self.says("one", &json!({ "type": "subscribe", "token": self.owner_key })).await;
        (worker, id)
    }

    /// Who was told of an event of the first organization.
    async fn told(&self, kind: &str) -> Vec<String> {
        let organization = self.owner().await.organization().to_string();
        let told = self.control.tell_live(&event(self, kind, &organization)).await.unwrap();
        let sent = self.push.take();
        assert_eq!(told, sent.len());
        sent.into_iter().map(|(connection, _)| connection).collect()
    }
}

#[tokio::test]
async fn whoever_subscribes_is_told_what_webhooks_are_told() {
    let world = World::new().await;
    for connection in ["all", "some", "silent"] {
        world.push.open(connection);
    }
    assert_eq!(world.says("all", &json!({ "type": "ping" })).await, json!({ "type": "pong" }));
    assert_eq!(world.told("backup.started").await, [""; 0], "who has not said who they are hears nothing");
    let subscribed = world.says("all", &json!({ "type": "subscribe", "token": world.owner_key })).await;
    assert_eq!((&subscribed["type"], &subscribed["topics"]), (&json!("subscribed"), &json!([])), "{subscribed}");
    let topics = json!(["restore", "backup.failed"]);
    world.says("some", &json!({ "type": "subscribe", "token": world.owner_key, "topics": topics })).await;
    assert_eq!(world.told("backup.started").await, ["all"]);
    let mut both = world.told("backup.failed").await;
    both.sort_unstable();
    assert_eq!(both, ["all", "some"]);
    let organization = world.owner().await.organization().to_string();
    let happened = event(&world, "backup.failed", &organization);
    world.control.tell_live(&happened).await.unwrap();
    let text = &world.push.take()[0].1;
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), happened.payload());
    assert_eq!(happened.payload().as_object().unwrap().len(), 4, "not whose it is: whoever hears it knows");

    // other topics replace those of before
    world.says("all", &json!({ "type": "subscribe", "token": world.owner_key, "topics": ["storage"] })).await;
    assert_eq!(world.told("restore.started").await, ["some"]);
    assert_eq!(world.says("some", &json!({ "type": "unsubscribe" })).await, json!({ "type": "unsubscribed" }));
    assert_eq!(world.told("restore.started").await, [""; 0]);
}

#[tokio::test]
async fn nobody_hears_of_another_organization_or_for_longer_than_a_quarter_of_an_hour() {
    let world = World::new().await;
    let rival = world.second_organization().await.organization().to_string();
    world.push.open("one");
    world.says("one", &json!({ "type": "subscribe", "token": world.owner_key })).await;
    assert_eq!(world.control.tell_live(&event(&world, "backup.started", &rival)).await.unwrap(), 0);
    let asked = json!({ "type": "subscribe", "token": world.owner_key, "organizationId": rival });
    assert_eq!(world.says("one", &asked).await["error"]["code"], Code::Forbidden.as_str());
    assert_eq!(world.told("backup.started").await, ["one"], "what was refused changes nothing");
    world.clock.advance(SUBSCRIPTION_SECONDS);
    assert_eq!(world.told("backup.started").await, [""; 0]);
    world.says("one", &json!({ "type": "subscribe", "token": world.owner_key })).await;
    assert_eq!(world.told("backup.started").await, ["one"]);
}

#[tokio::test]
async fn a_token_that_is_no_good_opens_nothing_and_is_noted() {
    let world = World::new().await;
    let (owner, viewer) = (world.owner().await, Role::Viewer);
    let new = NewApiKey { name: "Eyes".to_owned(), role: viewer, expires_at: None };
    let (key, secret) = world.control.create_api_key(&owner, new).await.unwrap();
    world.push.open("one");
    world.says("one", &json!({ "type": "subscribe", "token": secret.as_str() })).await;
    assert_eq!(world.told("backup.started").await, ["one"], "viewers may look");
    world.control.revoke_api_key(&owner, &key.id).await.unwrap();
    for (token, expect) in [(secret.as_str(), Code::InvalidToken), ("planted-token", Code::InvalidToken)] {
        let answer = world.says("one", &json!({ "type": "subscribe", "token": token })).await;
        assert_eq!((&answer["type"], &answer["error"]["code"]), (&json!("error"), &json!(expect.as_str())), "{answer}");
        assert!(!answer.to_string().contains(token), "{answer}");
    }
    let noted = world.control.strangers(&owner, &firebackup_control::Page::default()).await.unwrap().items;
    assert_eq!((noted.len(), noted[0].count, noted[0].action.as_str()), (1, Some(2), "SUBSCRIBE /realtime"));
    let rival = world.second_organization().await.organization().to_string();
    let foreign = json!({ "type": "subscribe", "token": world.owner_key, "organizationId": rival });
    assert_eq!(world.says("one", &foreign).await["error"]["code"], Code::Forbidden.as_str());
    let page = firebackup_control::Page::default();
    assert_eq!(world.control.strangers(&owner, &page).await.unwrap().items, noted, "who is known is no stranger");
    let own = world.control.audit(&owner, &firebackup_control::AuditFilter::default(), &page).await.unwrap().items;
    let refused: Vec<_> = own.iter().filter(|entry| entry.action == "SUBSCRIBE /realtime").collect();
    assert!(refused.len() == 1 && refused[0].actor == owner.actor().to_string(), "{refused:?}");
    for nonsense in [json!({ "type": "subscribe" }), json!({ "type": "shout" }), json!([1])] {
        let answer = world.says("one", &nonsense).await;
        assert_eq!(answer["error"]["code"], Code::InvalidRequest.as_str(), "{answer}");
    }
    let topics = json!({ "type": "subscribe", "token": world.owner_key, "topics": ["nonsense"] });
    assert_eq!(world.says("one", &topics).await["error"]["code"], Code::ValidationFailed.as_str());
}

#[tokio::test]
async fn connections_that_are_gone_are_forgotten_and_there_are_only_so_many() {
    let world = World::new().await;
    world.push.open("gone");
    world.says("gone", &json!({ "type": "subscribe", "token": world.owner_key })).await;
    world.push.close("gone");
    assert_eq!(world.told("backup.started").await, [""; 0]);
    world.push.open("gone");
    assert_eq!(world.told("backup.started").await, [""; 0], "a connection of the same name is another one");
    world.control.live_gone("nobody").await.unwrap();
    let subscribe = json!({ "type": "subscribe", "token": world.owner_key });
    for number in 0..100 {
        let connection = number.to_string();
        world.push.open(&connection);
        assert_eq!(world.says(&connection, &subscribe).await["type"], "subscribed");
    }
    world.push.open("beyond");
    assert_eq!(world.says("beyond", &subscribe).await["error"]["code"], Code::LimitReached.as_str());
    assert_eq!(world.says("7", &subscribe).await["type"], "subscribed", "who is in stays in");
    world.control.live_gone("7").await.unwrap();
    assert_eq!(world.says("beyond", &subscribe).await["type"], "subscribed");
    assert_eq!(world.told("backup.started").await.len(), 100);
}

#[tokio::test]
async fn live_clients_are_told_every_second_how_far_a_job_is_and_webhooks_are_not() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (control, worker) = (&world.control, world.worker().await);
    let id = world.backup(&project).await.job.id;
    control.start_job(&worker, &id).await.unwrap();
    control.note_chunks(&worker, &id, 4).await.unwrap();
    let note = async || control.note_progress(&worker, &id, &[("documents", 10), ("reads", 10)]).await.unwrap();
    let published = world.events.published().len();
    note().await;
    assert_eq!(world.events.live(), [], "nobody listens");
    for (connection, topics) in [("others", json!(["restore", "backup.completed"])), ("one", json!(["backup"]))] {
        world.push.open(connection);
        let asked = json!({ "type": "subscribe", "token": world.owner_key, "topics": topics });
        world.says(connection, &asked).await;
        note().await;
    }
    note().await;
    let told = world.events.live();
    assert_eq!(told.len(), 1, "once a second: {told:#?}");
    assert_eq!((told[0].kind.as_str(), &told[0].data["id"]), ("backup.progress", &json!(id)));
    assert_eq!((&told[0].data["progress"]["documents"], &told[0].data["status"]), (&json!(30), &json!("running")));
    for documents in [50, 60] {
        world.clock.advance(1);
        note().await;
        let told = world.events.live();
        assert_eq!(told.last().unwrap().data["progress"]["documents"], documents, "{told:#?}");
    }
    let mut ids: Vec<_> = world.events.live().into_iter().map(|event| event.id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 3, "each is another event");
    assert_eq!(world.events.published().len(), published, "webhooks are told of tenths only");

    world.clock.advance(1);
    world.events.fail(Some(firebackup_model::ErrorKind::Unavailable));
    assert!(control.note_progress(&worker, &id, &[("documents", 10)]).await.is_err());
    world.events.fail(None);
    world.clock.advance(SUBSCRIPTION_SECONDS);
    note().await;
    assert_eq!(world.events.live().len(), 3, "nobody listens any more");
    let shown = control.backup(&world.owner().await, &project.id, &id).await.unwrap().job.progress.unwrap();
    assert_eq!(shown.documents, 80, "what could not be told was counted all the same");
}

#[tokio::test]
async fn of_a_job_that_has_ended_live_clients_are_told_its_end_and_nothing_behind_it() {
    let world = World::new().await;
    let (worker, id) = world.watched_backup().await;
    let control = &world.control;
    control.finish_job(&worker, &id, completed()).await.unwrap();
    control.note_progress(&worker, &id, &[("documents", 10)]).await.unwrap();
    assert_eq!(world.events.live(), []);
}

/// Of those who have counted the same a moment ago.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_steps_in_one_second_one_tells_live_clients() {
    let world = World::new().await;
    let (worker, id) = world.watched_backup().await;
    let control = &world.control;
    control.note_progress(&worker, &id, &[("documents", 1)]).await.unwrap();
    for second in 2..=100 {
        world.clock.advance(1);
        let steps = (0..8).map(|_| {
            let (control, id) = (control.clone(), id.clone());
            tokio::spawn(async move { control.note_progress(&worker, &id, &[("documents", 1)]).await })
        });
        for step in futures::future::join_all(steps).await {
            step.unwrap().unwrap();
        }
        assert_eq!(world.events.live().len(), second, "one a second");
    }
}
