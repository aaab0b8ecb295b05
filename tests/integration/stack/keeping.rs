//! A stack that is taken away and deployed again: its data stays, unless somebody says otherwise and types its name.

use serde_json::Value;

use super::deployed::{BOUND, Deployed};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stack_has_kept_the_next_one_of_its_name_takes_over() {
    let mut stack = Deployed::with("ChunkDocuments=60").await;
    let project = stack.project("demo-keeping", 150).await;
    let path = stack.api.backup(&project.id).await;
    let backup = stack.api.reaches(&path, &["completed"], BOUND).await;
    let bucket = stack.output("BucketName").to_owned();
    let objects = stack.aws.objects(&bucket, "backups/").await;
    assert!(objects.iter().any(|key| key.ends_with(".manifest")), "{objects:?}");

    let destroyed = stack.script("destroy", &[], "").await;
    let said = String::from_utf8_lossy(&destroyed.stdout).into_owned();
    assert!(destroyed.status.success() && said.contains("is deleted") && said.contains("Kept: s3://"), "{destroyed:?}");
    assert_eq!(stack.aws.objects(&bucket, "backups/").await, objects, "nothing of the data went with it");

    stack.deploy_again("ChunkDocuments=60").await;
    assert_eq!(stack.api.get(&path).await, backup, "the same key opens it, and the backup is on record");
    let verified = stack.api.get(&format!("{path}/verify")).await;
    assert_eq!(verified["verified"], true, "{verified:#}");
    let next = stack.api.backup(&project.id).await;
    stack.api.reaches(&next, &["completed"], BOUND).await;

    let refused = stack.script("destroy", &[("KEEP_DATA", "no")], "another name\n").await;
    assert!(!refused.status.success(), "{refused:?}");
    assert_ne!(stack.api.get(&path).await, Value::Null, "the stack is still there");
    let destroyed = stack.script("destroy", &[("KEEP_DATA", "no")], "firebackup\n").await;
    assert!(destroyed.status.success(), "{destroyed:?}");
    assert!(!stack.aws.has_bucket(&bucket).await);
}
