//! `kill -9`, at random instants, on a server that works: its jobs go on with the next start, and nothing is lost.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use firebackup_google::sample::sample;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use super::installation::{Place, SMALL, has_ended, id, other_database};
use crate::stage::{assert_same, contents, database, emulator, firestore, read_all, write_all};

/// Twenty chunks.
const DOCUMENTS: usize = 1000;
const KILLS: u32 = 15;
/// A seed, to see once more what was seen.
const SEED: &str = "FIREBACKUP_TEST_SEED";

fn random() -> StdRng {
    let given = std::env::var(SEED).ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(rand::random::<u64>);
    println!("{SEED}={seed}");
    StdRng::seed_from_u64(seed)
}

/// Kills the server when another one on its folder listens already, which goes on; lets that one work for a while.
async fn kill_beside_another(place: &mut Place, random: &mut StdRng, whole: Duration) {
    let instant = |random: &mut StdRng| whole.mul_f64(random.random::<f64>());
    tokio::time::sleep(instant(random)).await;
    let next = place.installation.spawn(&SMALL);
    let before = std::mem::replace(&mut place.server, next.listening().await);
    before.running.kill();
    tokio::time::sleep(instant(random)).await;
}

/// Kills the server, and starts another one.
async fn kill(place: &mut Place, random: &mut StdRng, whole: Duration) {
    tokio::time::sleep(whole.mul_f64(random.random::<f64>())).await;
    place.server.running.child.kill().unwrap();
    place.server.running.child.wait().unwrap();
    place.restart().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_a_backup_at_random_instants_leave_it_whole_and_it_completes_by_itself() {
    let mut place = Place::with(DOCUMENTS).await;
    let mut random = random();
    let started = Instant::now();
    let mut backups = vec![place.api().back_up(&place.project).await];
    place.api().ends(&place.backup_path(&backups[0]), "completed").await;
    let whole = started.elapsed();
    let mut in_the_middle = 0;
    for round in 0..KILLS {
        let api = place.api();
        let last = api.get(&place.backup_path(backups.last().unwrap())).await;
        if has_ended(&last) {
            backups.push(api.back_up(&place.project).await);
        }
        match round % 5 {
            4 => kill_beside_another(&mut place, &mut random, whole).await,
            _ => kill(&mut place, &mut random, whole).await,
        }
        let last = place.api().get(&place.backup_path(backups.last().unwrap())).await;
        in_the_middle += u32::from(!has_ended(&last));
    }
    assert!(in_the_middle > 3, "only {in_the_middle} of {KILLS} were killed in the middle of a backup");
    let api = place.api();
    for backup in &backups {
        let done = api.ends(&place.backup_path(backup), "completed").await;
        assert_eq!(done["result"]["documents"].as_u64(), Some(DOCUMENTS as u64), "{done:#}");
        assert_eq!(done["result"]["consistency"], "snapshot", "{done:#}");
        api.verified(&place.project, backup, DOCUMENTS as u64).await;
    }
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
    let mut touched = 0;
    for _ in 0..2 {
        let restore = restore_killed(&mut place, &mut random, json!({"backupId": backup, "mode": "mirror"})).await;
        touched += u32::from(contents(&read_all(&place.source).await) != contents(&before));
        assert_same(&read_all(&place.source).await, &wanted);
        restore_killed(&mut place, &mut random, json!({"backupId": restore})).await;
        assert_same(&read_all(&place.source).await, &before);
    }
    assert_eq!(touched, 2);
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
