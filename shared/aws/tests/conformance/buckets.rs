//! Locks of objects, the guards of a bucket, and the list of chunks.

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{BucketVersioningStatus, PublicAccessBlockConfiguration, VersioningConfiguration};
use firebackup_aws::{Bucket, BucketFolder, Retention, WorkBucket};
use firebackup_model::port::{ObjectVersions, Removal};
use firebackup_model::{ErrorKind, LockMode, Timestamp};

use crate::stage::Stage;

pub async fn all(stage: &Stage) {
    locks_are_extended_and_never_shortened(stage).await;
    objects_are_removed_in_all_their_versions(stage).await;
    the_guards_of_a_bucket_are_told(stage).await;
    the_list_of_chunks_comes_and_goes(stage).await;
}

fn s3(stage: &Stage) -> Client {
    let config = aws_sdk_s3::config::Builder::from(&stage.config).force_path_style(true).build();
    Client::from_conf(config)
}

/// The seconds since the epoch of this moment.
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

async fn locks_are_extended_and_never_shortened(stage: &Stage) {
    let client = s3(stage);
    client.create_bucket().bucket("locking").object_lock_enabled_for_bucket(true).send().await.unwrap();
    let put = client.put_object().bucket("locking").key("runs/a.run").send().await.unwrap();
    let version = put.version_id.expect("a bucket that locks keeps versions");
    let bucket = Bucket::new(&stage.clients, "locking");
    assert_eq!(bucket.retention("runs/a.run", Some(&version)).await.unwrap(), None);

    let lock = |mode, days: i64, nanos| Retention { mode, until: Timestamp::new(now() + days * 86_400, nanos) };
    let first = lock(LockMode::Governance, 10, 5);
    let kept = bucket.extend_retention("runs/a.run", Some(&version), first).await.unwrap();
    assert_eq!((kept.mode, kept.until), (LockMode::Governance, Timestamp::new(first.until.seconds + 1, 0)));
    assert_eq!(bucket.retention("runs/a.run", Some(&version)).await.unwrap(), Some(kept));

    let shorter = bucket.extend_retention("runs/a.run", None, lock(LockMode::Governance, 1, 0)).await.unwrap();
    assert_eq!(shorter, kept, "a lock that promises more stays");
    let longer = lock(LockMode::Governance, 20, 0);
    assert_eq!(bucket.extend_retention("runs/a.run", None, longer).await.unwrap(), longer);
    let harder = bucket.extend_retention("runs/a.run", None, lock(LockMode::Compliance, 1, 0)).await.unwrap();
    assert_eq!(harder, Retention { mode: LockMode::Compliance, until: longer.until });
    assert_eq!(bucket.retention("runs/a.run", Some(&version)).await.unwrap(), Some(harder));

    let missing = bucket.retention("runs/none.run", None).await.unwrap_err();
    assert_eq!(missing.kind, ErrorKind::NotFound, "{missing}");
}

async fn objects_are_removed_in_all_their_versions(stage: &Stage) {
    let client = s3(stage);
    client.create_bucket().bucket("versions").object_lock_enabled_for_bucket(true).send().await.unwrap();
    let put = async |key: &str| client.put_object().bucket("versions").key(key).send().await.unwrap();
    let bucket = Bucket::new(&stage.clients, "versions");
    let folder = BucketFolder::new(bucket.clone(), "a/prefix", LockMode::Governance);
    let ids = async |key: &str| bucket.versions(key).await.unwrap().len();
    let clock = Timestamp::new(now(), 0);
    for _ in 0..2 {
        put("a/prefix/runs/a").await;
    }
    client.delete_object().bucket("versions").key("a/prefix/runs/a").send().await.unwrap();
    put("a/prefix/runs/a").await;
    put("a/prefix/runs/ab").await;
    assert_eq!((ids("a/prefix/runs/a").await, ids("a/prefix/runs/ab").await), (4, 1));

    let until = Timestamp::new(now() + 86_400, 0);
    assert_eq!(folder.locked_until("runs/a", clock).await.unwrap(), None);
    assert!(folder.extend_lock("runs/a", until).await.unwrap());
    assert!(!folder.extend_lock("runs/a", until.plus_seconds(-5)).await.unwrap(), "it is locked for longer already");
    assert_eq!(folder.locked_until("runs/a", clock).await.unwrap(), Some(until));
    assert_eq!(folder.remove("runs/a", clock).await.unwrap(), Removal::Locked(until));
    assert_eq!(ids("a/prefix/runs/a").await, 4, "nothing of it was removed");
    let locked = bucket.versions("a/prefix/runs/a").await.unwrap().remove(0);
    let refused = bucket.remove_version("a/prefix/runs/a", &locked.id).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::PermissionDenied, "{refused}");
    // hidden by its name being deleted it is locked still
    client.delete_object().bucket("versions").key("a/prefix/runs/a").send().await.unwrap();
    assert_eq!(folder.remove("runs/a", clock).await.unwrap(), Removal::Locked(until));

    for path in ["runs/ab", "runs/none"] {
        assert_eq!(folder.remove(path, clock).await.unwrap(), Removal::Removed);
    }
    assert_eq!((ids("a/prefix/runs/a").await, ids("a/prefix/runs/ab").await), (5, 0));
    let missing = folder.extend_lock("runs/none", until).await.unwrap_err();
    assert_eq!(missing.kind, ErrorKind::NotFound, "{missing}");

    client.create_bucket().bucket("simple").send().await.unwrap();
    client.put_object().bucket("simple").key("runs/a").send().await.unwrap();
    let simple = BucketFolder::new(Bucket::new(&stage.clients, "simple"), "", LockMode::Governance);
    assert_eq!(simple.locked_until("runs/a", clock).await.unwrap(), None);
    assert!(simple.extend_lock("runs/a", until).await.is_err(), "a bucket without Object Lock locks nothing");
    assert_eq!(simple.remove("runs/a", clock).await.unwrap(), Removal::Removed);
    assert!(client.head_object().bucket("simple").key("runs/a").send().await.is_err(), "it is gone");
}

async fn the_guards_of_a_bucket_are_told(stage: &Stage) {
    let client = s3(stage);
    client.create_bucket().bucket("plain").send().await.unwrap();
    let report = Bucket::new(&stage.clients, "plain").report().await.unwrap();
    assert!(report.problems.is_empty(), "{report:?}");
    assert_eq!((report.versioned, report.object_lock, report.tls_only), (Some(false), Some(false), Some(false)));
    assert_eq!(report.missing().len(), 3 + usize::from(report.public_access_blocked == Some(false)), "{report:?}");

    guard(&client, "plain").await;
    let report = Bucket::new(&stage.clients, "plain").report().await.unwrap();
    assert_eq!(report.missing(), ["lock objects (Object Lock)"], "{report:?}");
    let locking = Bucket::new(&stage.clients, "locking").report().await.unwrap();
    assert_eq!((locking.versioned, locking.object_lock), (Some(true), Some(true)), "{locking:?}");
    let missing = Bucket::new(&stage.clients, "missing").report().await.unwrap_err();
    assert_eq!(missing.kind, ErrorKind::NotFound, "{missing}");
}

async fn guard(client: &Client, bucket: &str) {
    let versions = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    client.put_bucket_versioning().bucket(bucket).versioning_configuration(versions).send().await.unwrap();
    let block = PublicAccessBlockConfiguration::builder().block_public_acls(true).ignore_public_acls(true);
    let block = block.block_public_policy(true).restrict_public_buckets(true).build();
    client.put_public_access_block().bucket(bucket).public_access_block_configuration(block).send().await.unwrap();
    let policy = serde_json::json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Principal": "*", "Action": "s3:*",
        "Resource": [format!("arn:aws:s3:::{bucket}"), format!("arn:aws:s3:::{bucket}/*")],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }]});
    client.put_bucket_policy().bucket(bucket).policy(policy.to_string()).send().await.unwrap();
}

async fn the_list_of_chunks_comes_and_goes(stage: &Stage) {
    let client = s3(stage);
    client.create_bucket().bucket("work").send().await.unwrap();
    let work = WorkBucket::new(&stage.clients, "work");
    let list = work.put_chunks("bkp_1", "org_1", 3).await.unwrap();
    assert_eq!((list.bucket.as_str(), list.key.as_str()), ("work", "jobs/bkp_1/chunks.jsonl"));
    assert_eq!(work.put_chunks("bkp_1", "org_1", 3).await.unwrap(), list, "storing it again is no error");
    let body = client.get_object().bucket("work").key(&list.key).send().await.unwrap().body.collect().await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = |chunk| serde_json::json!({"job": "bkp_1", "organization": "org_1", "chunk": chunk, "sequence": 0});
    assert_eq!(lines, [expected(0), expected(1), expected(2)]);
    for _ in 0..2 {
        work.delete_chunks("bkp_1").await.unwrap();
    }
    assert!(client.head_object().bucket("work").key(&list.key).send().await.is_err(), "it is gone");
    let missing = WorkBucket::new(&stage.clients, "no-work").put_chunks("bkp_1", "org_1", 1).await.unwrap_err();
    assert_eq!(missing.kind, ErrorKind::NotFound, "{missing}");
}
