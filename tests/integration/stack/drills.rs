//! A drill of the stack: run by the sweep, into a database of another project, and again where a backup is damaged.

use firebackup_google::Firestore;
use firebackup_model::DatabaseName;
use firebackup_testkit::eventually;
use serde_json::{Value, json};

use super::api::id_of;
use super::deployed::{BOUND, Connected, Deployed};
use crate::stage::{firestore, read_all};

const SCRATCH: &str = "demo-drill-scratch";

async fn drills(stack: &Deployed, project: &Connected) -> Value {
    stack.api.get(&format!("/drills/{}/config", project.id)).await
}

/// Asks for a drill and sweeps until it has run, or somebody else's sweep has run it.
async fn drilled(stack: &Deployed, project: &Connected) -> Value {
    let before = drills(stack, project).await["lastRun"]["at"].clone();
    stack.api.post(&format!("/drills/{}/run", project.id), json!({})).await;
    let run = eventually("a drill has run", BOUND, async || {
        stack.aws.invoke(stack.output("MaintenanceFunctionName"), json!({"task": "sweep"})).await;
        let last = drills(stack, project).await["lastRun"].clone();
        (last["at"] != before && last.is_object()).then_some(last)
    });
    run.await
}

async fn assert_empty(scratch: &Firestore) {
    let left = read_all(scratch).await;
    assert!(left.is_empty(), "{:?}", left.keys().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_drills_what_is_due() {
    let stack = Deployed::with("ChunkDocuments=60").await;
    let project = stack.project("demo-drilled", 150).await;
    let path = stack.api.backup(&project.id).await;
    stack.api.reaches(&path, &["completed"], BOUND).await;
    let scratch_project = stack.api.connect(SCRATCH, &stack.google_proxy.host()).await["id"].clone();
    let scratch = firestore(stack.emulator.host(), &DatabaseName::new(SCRATCH, "(default)")).await;
    let into = json!({"kind": "database", "projectId": scratch_project, "database": "(default)"});
    let config = json!({"cronExpression": "0 4 * * 0", "scratch": into, "all": true});
    let put = stack.api.ask("PUT", &format!("/drills/{}/config", project.id), &config).await;
    assert_eq!(put["nextRuns"].as_array().unwrap().len(), 5, "{put:#}");

    let passed = drilled(&stack, &project).await;
    assert_eq!(passed["outcome"], "passed", "{passed:#}");
    assert_eq!(passed["documents"].as_u64(), Some(project.documents), "{passed:#}");
    assert_empty(&scratch).await;
    assert_eq!(stack.api.get(&path).await["lastDrill"]["outcome"], "passed");
    let reports = stack.api.get(&format!("/drills/{}", project.id)).await;
    assert_eq!((&reports["reports"][0]["passed"], reports["reports"].as_array().unwrap().len()), (&json!(true), 1));
    assert_eq!(reports["reports"][0]["backupId"], id_of(&path));

    // a run that is gone is damage, and told by metric and record
    let bucket = stack.output("BucketName").to_owned();
    let objects = stack.aws.objects(&bucket, "").await;
    let run = objects.into_iter().find(|name| name.contains("/runs/")).expect("the backup has a run");
    stack.aws.delete_object(&bucket, &run).await;
    let failed = drilled(&stack, &project).await;
    assert_eq!(failed["outcome"], "failed", "{failed:#}");
    assert_eq!(stack.api.get(&path).await["lastDrill"]["outcome"], "failed");
    let counted = stack.aws.logs(stack.output("MaintenanceFunctionName")).await.join("\n");
    assert!(counted.contains("drill_success_total") && counted.contains("drill_failure_total"));
    assert_empty(&scratch).await;
}
