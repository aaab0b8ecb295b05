//! Schedules: they fire when their time comes, and once when it came while nothing ran.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::installation::{Api, Place};

const MINUTE: u64 = 60;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The next minute that is far enough away to be prepared for, in seconds.
async fn next_minute() -> u64 {
    let left = MINUTE - now() % MINUTE;
    if left < 15 {
        tokio::time::sleep(Duration::from_secs(left)).await;
    }
    (now() / MINUTE + 1) * MINUTE
}

/// A schedule that fires at this minute of every hour.
async fn schedule(api: &Api, project: &str, minute: u64) -> Value {
    let cron = format!("{} * * * *", minute / MINUTE % 60);
    api.post("/schedules", json!({"name": "hourly", "projectId": project, "cronExpression": cron})).await
}

async fn first_backup(place: &Place, api: &Api) -> Value {
    let started = Instant::now();
    loop {
        if let [backup] = &api.backups(&place.project).await[..] {
            return backup.clone();
        }
        assert!(started.elapsed() < Duration::from_secs(90), "the schedule does not fire");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_fires_at_its_time_and_once_when_the_server_was_down_then() {
    let (up, mut down) = tokio::join!(Place::with(40), Place::with(40));
    let minute = next_minute().await;
    let made = schedule(&up.api(), &up.project, minute).await;
    schedule(&down.api(), &down.project, minute).await;
    assert_eq!(made["nextRuns"].as_array().map(Vec::len), Some(5), "{made:#}");
    // asked to end, and started again behind the time
    let stopped = std::mem::replace(&mut down.server, up.installation.start(&[]).await);
    assert!(stopped.running.terminate().0.success());
    assert!(now() < minute, "it was down before its time");

    let api = up.api();
    let backup = first_backup(&up, &api).await;
    let late = now() - minute;
    assert!(late < 30, "{late} s late");
    assert_eq!(backup["scheduleId"], made["id"], "{backup:#}");
    let id = backup["id"].as_str().unwrap();
    api.ends(&up.backup_path(id), "completed").await;
    api.verified(&up.project, id, 40).await;

    // down for more than a minute behind its time
    tokio::time::sleep(Duration::from_secs(5)).await;
    down.restart().await;
    let api = down.api();
    let backup = first_backup(&down, &api).await;
    api.ends(&down.backup_path(backup["id"].as_str().unwrap()), "completed").await;
    // another start finds nothing to make up for
    let again = down.installation.start(&[]).await;
    std::mem::replace(&mut down.server, again).running.kill();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(down.api().backups(&down.project).await.len(), 1);
    assert_eq!(up.api().backups(&up.project).await.len(), 1);
}
