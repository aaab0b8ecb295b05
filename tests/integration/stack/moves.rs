//! What lies below one prefix of the stack's bucket is moved to another by the sweep, with the right to put that its role has.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::deployed::Deployed;

/// Names below a prefix, but those of what comes and goes with jobs.
async fn kept(stack: &Deployed, prefix: &str) -> BTreeSet<String> {
    let objects = stack.aws.objects(stack.output("BucketName"), prefix).await;
    let names = objects.iter().map(|key| key.trim_start_matches(prefix).to_owned());
    names
        .filter(|name| !["/receipts/", "/intents/", "/probes/", "/prunes/"].iter().any(|goes| name.contains(goes)))
        .collect()
}

pub async fn is_done_by_the_sweep(stack: &Deployed) {
    let project = stack.project("demo-moved", 120).await;
    let source = stack.api.add_destination(&format!("{}/one", stack.bucket_url())).await;
    let backup = stack.api.backup(&project.id).await;
    stack.api.reaches(&backup, &["completed"], Duration::from_secs(120)).await;
    let new = json!({"name": "two", "url": format!("{}/two", stack.bucket_url())});
    let target = stack.api.post("/storage/destinations", new).await["id"].clone();
    let path = format!("/storage/destinations/{}", source["id"].as_str().unwrap());
    let asked = json!({"targetDestinationId": target, "dryRun": false});
    stack.api.post(&format!("{path}/migrate"), asked).await;
    let mut migration = Value::Null;
    for _ in 0..5 {
        stack.aws.invoke("firebackup-maintenance", json!({ "task": "sweep" })).await;
        migration = stack.api.get(&path).await["migration"].take();
        if migration["status"] == "completed" {
            break;
        }
    }
    assert_eq!(migration["status"], "completed", "{migration:#}");
    let copied = kept(stack, "two/").await;
    assert_eq!(copied, kept(stack, "one/").await);
    assert!(copied.iter().any(|name| name.ends_with("/firebackup.json")) && copied.len() > 4, "{copied:?}");
    let shown = stack.api.get(&backup).await;
    assert_eq!(shown["storageDestinationId"], target);
    let found = stack.api.get(&format!("{backup}/verify?full=true")).await;
    assert_eq!((&found["verified"], &found["records"]), (&json!(true), &json!(project.documents)), "{found:#}");
    stack.api.ask("DELETE", &path, &Value::Null).await;
}
