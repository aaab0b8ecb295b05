//! `kill -9`, at random instants, on a server that works: its jobs go on with the next start, and nothing is lost.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use firebackup_embedded::SystemClock;
use firebackup_google::sample::sample;
use firebackup_model::Timestamp;
use firebackup_model::port::Clock;
use firebackup_testkit::{Method, Proxy, ProxyOptions};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use super::installation::{Place, SMALL, has_ended, id, other_database};
use crate::stage::{assert_same, database, emulator, firestore, read_all, write_all};

/// Twenty chunks.
const DOCUMENTS: usize = 1000;
const KILLS: u32 = 15;
/// How long a query is held up, so that a backup lasts longer than a start.
const HELD_UP: Duration = Duration::from_millis(500);
/// A seed, to see once more what was seen.
const SEED: &str = "FIREBACKUP_TEST_SEED";

fn random() -> StdRng {
    let given = std::env::var(SEED).ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(rand::random::<u64>);
    println!("{SEED}={seed}");
    StdRng::seed_from_u64(seed)
}

/// Kills the server when another one on its folder listens already, which goes on; lets that one work for a while. When it
/// was killed.
async fn kill_beside_another(place: &mut Place, random: &mut StdRng, whole: Duration) -> Timestamp {
    let instant = |random: &mut StdRng| whole.mul_f64(random.random::<f64>());
    tokio::time::sleep(instant(random)).await;
    let next = place.installation.spawn(&SMALL);
    let before = std::mem::replace(&mut place.server, next.listening().await);
    before.running.kill();
    let killed = SystemClock.now();
    tokio::time::sleep(instant(random)).await;
    killed
}

/// Kills the server, and starts another one; when it was killed.
async fn kill(place: &mut Place, random: &mut StdRng, whole: Duration) -> Timestamp {
    tokio::time::sleep(whole.mul_f64(random.random::<f64>())).await;
    place.server.running.child.kill().unwrap();
    place.server.running.child.wait().unwrap();
    let killed = SystemClock.now();
    place.restart().await;
    killed
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_a_backup_at_random_instants_leave_it_whole_and_it_completes_by_itself() {
    let google = emulator().await;
    let proxy = Proxy::start(google.host(), ProxyOptions::default()).await.unwrap();
    let mut place = Place::reached_by(google, &proxy.host(), DOCUMENTS).await;
    proxy.control().delay(Method::RunQuery, HELD_UP);
    let mut random = random();
    let mut backups = Vec::new();
    let mut whole = Duration::ZERO;
    // the first one also makes the repository: how long one takes says the second
    for _ in 0..2 {
        let started = Instant::now();
        backups.push(place.api().back_up(&place.project).await);
        place.api().ends(&place.backup_path(&backups[backups.len() - 1]), "completed").await;
        whole = started.elapsed();
    }
    let mut kills = Vec::new();
    for round in 0..KILLS {
        let api = place.api();
        let last = api.get(&place.backup_path(backups.last().unwrap())).await;
        if has_ended(&last) {
            backups.push(api.back_up(&place.project).await);
        }
        kills.push(match round % 5 {
            4 => kill_beside_another(&mut place, &mut random, whole).await,
            _ => kill(&mut place, &mut random, whole).await,
        });
    }
    let mut in_the_middle = 0;
    let api = place.api();
    for backup in &backups {
        let done = api.ends(&place.backup_path(backup), "completed").await;
        assert_eq!(done["result"]["documents"].as_u64(), Some(DOCUMENTS as u64), "{done:#}");
        assert_eq!(done["result"]["consistency"], "snapshot", "{done:#}");
        let [begun, ended] =
            ["createdAt", "endedAt"].map(|name| done[name].as_str().unwrap().parse::<Timestamp>().unwrap());
        in_the_middle += kills.iter().filter(|at| (begun..ended).contains(at)).count();
        api.verified(&place.project, backup, DOCUMENTS as u64).await;
    }
    println!("{in_the_middle} of {KILLS} kills were in the middle of a backup, which takes {whole:?}");
    assert!(in_the_middle > 5, "only {in_the_middle} of {KILLS} were killed in the middle of a backup");
    let listed = place.installation.cli_json(&place.project, &["list"]);
    let listed: BTreeSet<_> = listed["snapshots"].as_array().unwrap().iter().map(id).collect();
    assert_eq!(listed, backups.iter().cloned().collect(), "each backup once, and nothing else");
    assert_eq!(place.installation.cli_json(&place.project, &["jobs"])["jobs"], json!([]));

    // a project of the same name on another emulator: what comes back can be compared byte by byte
    let elsewhere = emulator().await;
    let other = api.connect(elsewhere.host(), "demo-app").await;
    let last = backups.last().unwrap();
    let restore = id(&api.post("/backups/restore", json!({"backupId": last, "targetProjectId": other})).await);
    api.ends(&format!("/restores/{restore}"), "completed").await;
    let copy = firestore(elsewhere.host(), &database()).await;
    assert_same(&read_all(&copy).await, &read_all(&place.source).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_a_restore_and_of_its_undo_lose_nothing_and_give_back_what_was_there() {
    let mut place = Place::with(DOCUMENTS).await;
    let mut random = random();
    let api = place.api();
    let backup = api.back_up(&place.project).await;
    api.ends(&place.backup_path(&backup), "completed").await;
    let wanted = read_all(&place.source).await;
    write_all(&place.source, sample(&database(), DOCUMENTS, 2)).await;
    write_all(&place.source, sample(&database(), DOCUMENTS + 200, 3).skip(DOCUMENTS)).await;
    let before = read_all(&place.source).await;
    drop(api);
    for _ in 0..2 {
        let restore = restore_killed(&mut place, &mut random, json!({"backupId": backup, "mode": "mirror"})).await;
        assert_same(&read_all(&place.source).await, &wanted);
        restore_killed(&mut place, &mut random, json!({"backupId": restore})).await;
        assert_same(&read_all(&place.source).await, &before);
    }
    let api = place.api();
    let other = api.connect(place.emulator.host(), "demo-other").await;
    let restore = id(&api.post("/backups/restore", json!({"backupId": backup, "targetProjectId": other})).await);
    api.ends(&format!("/restores/{restore}"), "completed").await;
    let copy = firestore(place.emulator.host(), &other_database()).await;
    assert_eq!(read_all(&copy).await.len(), DOCUMENTS);
}

/// Starts a restore, kills the server three times, and waits for its end.
async fn restore_killed(place: &mut Place, random: &mut StdRng, wanted: serde_json::Value) -> String {
    let restore = id(&place.api().post("/backups/restore", wanted).await);
    for _ in 0..3 {
        kill(place, random, Duration::from_millis(1500)).await;
    }
    place.api().ends(&format!("/restores/{restore}"), "completed").await;
    restore
}
