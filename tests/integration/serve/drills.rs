//! Drills of a server: due by the clock, told, followed where somebody died, and never kind to a damaged backup.

use std::fs;
use std::time::{Duration, Instant};

use firebackup_google::Firestore;
use firebackup_model::DatabaseName;
use reqwest::Method;
use serde_json::{Value, json};

use super::PATIENCE;
use super::installation::{Api, Place, SMALL, files};
use crate::receiver::Receiver;
use crate::stage::{firestore, read_all};

const SCRATCH: &str = "demo-drill";

/// A project on the same emulator, to drill into.
struct Drilled {
    place: Place,
    scratch_project: String,
    scratch: Firestore,
}

impl Drilled {
    /// A server with a backup of so many documents.
    async fn with(documents: usize) -> (Self, String) {
        let place = Place::with(documents).await;
        let api = place.api();
        let backup = api.back_up(&place.project).await;
        api.ends(&place.backup_path(&backup), "completed").await;
        let scratch_project = api.connect(place.emulator.host(), SCRATCH).await;
        let scratch = firestore(place.emulator.host(), &DatabaseName::new(SCRATCH, "(default)")).await;
        (Self { place, scratch_project, scratch }, backup)
    }

    fn config(&self, more: &Value) -> Value {
        let scratch = json!({"kind": "database", "projectId": self.scratch_project, "database": "(default)"});
        let mut config = json!({"cronExpression": "0 4 * * 0", "scratch": scratch});
        for (name, value) in more.as_object().unwrap() {
            config[name] = value.clone();
        }
        config
    }

    fn path(&self, what: &str) -> String {
        format!("/drills/{}{what}", self.place.project)
    }

    async fn put(&self, more: Value) -> Value {
        self.place.api().data(Method::PUT, &self.path("/config"), Some(&self.config(&more))).await
    }

    /// Waits for another run than the one that was seen last.
    async fn runs(&self, api: &Api, seen: &Value) -> Value {
        let is_over = |drills: &Value| drills["lastRun"]["at"] != seen["at"] && drills["running"] == false;
        api.wait(&self.path("/config"), "a drill", is_over).await["lastRun"].clone()
    }

    async fn is_empty(&self) {
        let left = read_all(&self.scratch).await;
        assert!(left.is_empty(), "{:?}", left.keys().collect::<Vec<_>>());
    }
}

/// Flips a bit in the first run below the folder of backups.
fn damage(place: &Place) {
    let run =
        files(&place.installation.backups()).into_iter().find(|file| file.extension().is_some_and(|end| end == "run"));
    let run = run.unwrap();
    let mut bytes = fs::read(&run).unwrap();
    bytes[150] ^= 1;
    fs::write(&run, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_passes_by_the_clock_and_a_damaged_backup_does_not() {
    let (drilled, backup) = Drilled::with(60).await;
    let (api, receiver) = (drilled.place.api(), Receiver::start().await);
    let webhook =
        json!({"name": "told", "url": receiver.url, "events": ["verification.completed", "verification.failed"]});
    let secret = api.post("/webhooks", webhook).await["secret"].as_str().unwrap().to_owned();
    assert!(api.get(&drilled.place.backup_path(&backup)).await["lastDrill"].is_null());

    drilled.put(json!({"cronExpression": "* * * * *", "all": true})).await;
    let passed = drilled.runs(&api, &Value::Null).await;
    assert_eq!((&passed["outcome"], &passed["documents"]), (&json!("passed"), &json!(60)), "{passed:#}");
    drilled.put(json!({"enabled": false, "all": true})).await;
    let last = drilled.runs(&api, &Value::Null).await;
    drilled.is_empty().await;
    let listed = api.backups(&drilled.place.project).await.remove(0);
    assert_eq!((&listed["lastDrill"]["outcome"], &listed["lastDrill"]["documents"]), (&json!("passed"), &json!(60)));
    let told = receiver.told(&secret, "verification.completed", 1).await.remove(0);
    assert_eq!((&told["data"]["kind"], &told["data"]["id"]), (&json!("drill"), &json!(backup)), "{told:#}");
    let reports = api.get(&drilled.path("")).await;
    let report = &reports["reports"][0];
    assert_eq!((&report["passed"], &report["originProven"]), (&json!(true), &json!(true)), "{reports:#}");
    assert_eq!(report["id"], last["reportId"]);
    let snapshots = drilled.place.installation.cli_json(&drilled.place.project, &["list"]);
    let snapshot = &snapshots["snapshots"][0];
    assert!(snapshot["restored"].is_string() && snapshot["drill_failed"].is_null(), "{snapshots:#}");

    damage(&drilled.place);
    api.post(&drilled.path("/run"), json!({})).await;
    let failed = drilled.runs(&api, &last).await;
    assert_eq!(failed["outcome"], "failed", "{failed:#}");
    let told = receiver.told(&secret, "verification.failed", 1).await.remove(0);
    assert_eq!((&told["data"]["outcome"], &told["data"]["id"]), (&json!("failed"), &json!(backup)), "{told:#}");
    let listed = api.backups(&drilled.place.project).await.remove(0);
    assert_eq!(listed["lastDrill"]["outcome"], "failed", "{listed:#}");
    assert!(api.get(&drilled.path("")).await["reports"][0]["failure"].as_str().unwrap().contains(".run"));
    let snapshots = drilled.place.installation.cli_json(&drilled.place.project, &["list"]);
    let snapshot = &snapshots["snapshots"][0];
    assert!(snapshot["restored"].is_null() && snapshot["drill_failed"].is_string(), "{snapshots:#}");
    drilled.is_empty().await;

    // what somebody keeps in a scratch database is neither touched nor held against the backup
    let mine = firebackup_google::sample::sample(&DatabaseName::new(SCRATCH, "(default)"), 3, 1);
    crate::stage::write_all(&drilled.scratch, mine).await;
    api.post(&drilled.path("/run"), json!({})).await;
    let refused = drilled.runs(&api, &failed).await;
    assert_eq!(refused["outcome"], "notRun", "{refused:#}");
    assert!(refused["message"].as_str().unwrap().contains("holds documents"), "{refused:#}");
    assert_eq!(read_all(&drilled.scratch).await.len(), 3);
    let (status, refused) =
        api.ask(Method::DELETE, &format!("/projects/{}", drilled.scratch_project), None, None).await;
    assert_eq!(status, 200, "drills that are not enabled hold nothing: {refused:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_drills_may_be_killed_and_the_next_one_takes_over() {
    let (mut drilled, _) = Drilled::with(2500).await;
    let api = drilled.place.api();
    drilled.put(json!({"enabled": false, "all": true})).await;
    api.post(&drilled.path("/run"), json!({})).await;
    let started = Instant::now();
    while read_all(&drilled.scratch).await.len() < 100 {
        assert!(started.elapsed() < PATIENCE, "nothing is restored");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // two servers on one folder: one is killed while it drills, or the other is, which must not matter
    let next = drilled.place.installation.spawn(&SMALL).listening().await;
    std::mem::replace(&mut drilled.place.server, next).running.kill();
    let api = drilled.place.api();
    let run = drilled.runs(&api, &Value::Null).await;
    assert_eq!((&run["outcome"], &run["documents"]), (&json!("passed"), &json!(2500)), "{run:#}");
    drilled.is_empty().await;
    let begun = files(&drilled.place.installation.backups()).into_iter().filter(|file| file.ends_with("begun"));
    assert_eq!(begun.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emulator_is_started_for_a_drill_and_ended_with_it() {
    let place = Place::with(30).await;
    let api = place.api();
    let backup = api.back_up(&place.project).await;
    api.ends(&place.backup_path(&backup), "completed").await;
    let path = format!("/drills/{}/config", place.project);
    let config = json!({"cronExpression": "0 4 * * 0", "scratch": {"kind": "emulator"}, "all": true, "enabled": false});
    api.data(Method::PUT, &path, Some(&config)).await;
    api.post(&format!("/drills/{}/run", place.project), json!({})).await;
    let drills = api.wait(&path, "a drill", |drills| drills["lastRun"].is_object()).await;
    assert_eq!(drills["lastRun"]["outcome"], "passed", "{drills:#}");
    assert_eq!(drills["lastRun"]["documents"], 30, "{drills:#}");
    // in the place of what is backed up nothing may be drilled
    let scratch = json!({"kind": "database", "projectId": place.project, "database": "(default)"});
    let own = json!({"cronExpression": "0 4 * * 0", "scratch": scratch});
    let (status, refused) = api.ask(Method::PUT, &path, Some(&own), None).await;
    assert_eq!((status, &refused["error"]["details"]["field"]), (422, &json!("scratch")), "{refused:#}");
}
