//! A stack whose objects are locked: what is put is locked, what is kept is locked anew, and nothing locked goes.

use firebackup_model::Timestamp;
use serde_json::json;

use super::api::id_of;
use super::deployed::{BOUND, Deployed};

/// Folders of what comes and goes, and of prune's own notes.
const UNLOCKED: [&str; 4] = ["/receipts/", "/intents/", "/probes/", "/prunes/"];

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stack_locks_stays_until_its_lock_has_ended() {
    let stack = Deployed::with("ChunkDocuments=60 ObjectLockDays=2").await;
    let first = &stack.api.get("/storage/destinations").await[0];
    assert_eq!(first["url"], format!("{}/backups", stack.bucket_url()), "made with the owner's key: {first:#}");
    assert_eq!((&first["findings"]["missing"], first.get("retentionLockDays")), (&json!([]), None), "{first:#}");
    let project = stack.project("demo-locks", 200).await;
    let (stack, project) = (&stack, &project);
    stack
        .explaining("locks", async {
            let path = stack.api.backup(&project.id).await;
            stack.api.reaches(&path, &["completed"], BOUND).await;
            let objects = locked_objects(stack).await;
            assert!(objects.iter().any(|key| key.contains("/runs/")) && objects.len() > 4, "{objects:?}");

            let maintenance = stack.output("MaintenanceFunctionName");
            let locked = stack.aws.invoke(maintenance, json!({"task": "locks"})).await;
            assert_eq!(
                (&locked["repositories"], &locked["backups"], &locked["failed"]),
                (&json!(1), &json!(1), &json!(0))
            );

            stack.api.ask("DELETE", &path, &serde_json::Value::Null).await;
            let retained = stack.aws.invoke(maintenance, json!({"task": "retention"})).await;
            assert_eq!((&retained["locked"], &retained["deleted"]), (&json!(1), &json!(0)), "{retained:#}");
            assert_eq!(locked_objects(stack).await, objects, "all of it is there, and locked");
            let status = stack.api.get(&path).await["status"].clone();
            assert_eq!(status, "deleting", "{} waits for the end of its lock", id_of(&path));
        })
        .await;
}

/// The objects of repositories that are there to stay. Each is locked for the days that were set.
async fn locked_objects(stack: &Deployed) -> Vec<String> {
    let bucket = stack.output("BucketName");
    let mut objects = stack.aws.objects(bucket, "backups/").await;
    objects.retain(|key| !UNLOCKED.iter().any(|folder| key.contains(folder)));
    for key in &objects {
        let until = stack.aws.locked_until(bucket, key).await.unwrap_or_else(|| panic!("{key} is not locked"));
        let seconds = until.parse::<Timestamp>().unwrap().seconds - now();
        assert!((2 * 86400 - 600..=3 * 86400).contains(&seconds), "{key} is locked until {until}");
    }
    objects
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_secs().cast_signed()
}
