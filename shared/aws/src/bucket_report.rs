//! How well a bucket is guarded.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{BucketVersioningStatus, ObjectLockEnabled, PublicAccessBlockConfiguration};
use firebackup_model::{ErrorKind, PortError};
use serde_json::Value;

use crate::error::port_error;

const FIND: &str = "find the bucket";
const VERSIONING: &str = "read whether the bucket keeps versions";
const LOCK: &str = "read whether the bucket can lock objects";
const PUBLIC: &str = "read whether the bucket keeps the public out";
const POLICY: &str = "read the policy of the bucket";

/// How well a bucket is guarded. Nothing stands where it could not be found out.
#[derive(Debug, Default)]
pub struct BucketReport {
    /// Versions are kept: what is deleted or replaced can be had back.
    pub versioned: Option<bool>,
    /// Objects can be locked.
    pub object_lock: Option<bool>,
    /// The public is kept out, whatever a policy or an object says.
    pub public_access_blocked: Option<bool>,
    /// The policy refuses requests without TLS.
    pub tls_only: Option<bool>,
    /// Why something could not be found out, in the order in which it was tried.
    pub problems: Vec<PortError>,
}

impl BucketReport {
    /// Names what is missing for sure, as verb phrases; nothing when all is well.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let guards = [
            (self.versioned, "keep versions"),
            (self.object_lock, "lock objects (Object Lock)"),
            (self.public_access_blocked, "keep the public out (Block Public Access)"),
            (self.tls_only, "refuse requests without TLS"),
        ];
        guards.iter().filter(|(has, _)| *has == Some(false)).map(|(_, what)| *what).collect()
    }

    fn keep(&mut self, found: Result<bool, PortError>) -> Option<bool> {
        found.map_err(|problem| self.problems.push(problem)).ok()
    }
}

/// Whether the service refused with one of `codes`.
pub(crate) fn has_code<E: ProvideErrorMetadata>(error: &SdkError<E>, codes: &[&str]) -> bool {
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    code.is_some_and(|code| codes.contains(&code))
}

/// What is said of `bucket`.
///
/// # Errors
/// As [`crate::Bucket::report`].
pub(crate) async fn of(client: &Client, bucket: &str) -> Result<BucketReport, PortError> {
    find(client, bucket).await?;
    let mut report = BucketReport::default();
    report.versioned = report.keep(versioned(client, bucket).await);
    report.object_lock = report.keep(object_lock(client, bucket).await);
    report.public_access_blocked = report.keep(public_access_blocked(client, bucket).await);
    report.tls_only = report.keep(tls_only(client, bucket).await);
    Ok(report)
}

/// Who may look at nothing may still ask for the guards.
async fn find(client: &Client, bucket: &str) -> Result<(), PortError> {
    match client.head_bucket().bucket(bucket).send().await.map_err(|error| port_error(FIND, error)) {
        Err(error) if error.kind == ErrorKind::PermissionDenied => Ok(()),
        other => other.map(drop),
    }
}

async fn versioned(client: &Client, bucket: &str) -> Result<bool, PortError> {
    let answer = client.get_bucket_versioning().bucket(bucket).send().await;
    let answer = answer.map_err(|error| port_error(VERSIONING, error))?;
    Ok(answer.status == Some(BucketVersioningStatus::Enabled))
}

async fn object_lock(client: &Client, bucket: &str) -> Result<bool, PortError> {
    match client.get_object_lock_configuration().bucket(bucket).send().await {
        Ok(answer) => {
            let enabled = answer.object_lock_configuration.and_then(|configuration| configuration.object_lock_enabled);
            Ok(enabled == Some(ObjectLockEnabled::Enabled))
        }
        Err(error) if has_code(&error, &["ObjectLockConfigurationNotFoundError"]) => Ok(false),
        Err(error) => Err(port_error(LOCK, error)),
    }
}

async fn public_access_blocked(client: &Client, bucket: &str) -> Result<bool, PortError> {
    match client.get_public_access_block().bucket(bucket).send().await {
        Ok(answer) => Ok(answer.public_access_block_configuration.is_some_and(|block| blocks_all(&block))),
        Err(error) if has_code(&error, &["NoSuchPublicAccessBlockConfiguration"]) => Ok(false),
        Err(error) => Err(port_error(PUBLIC, error)),
    }
}

fn blocks_all(block: &PublicAccessBlockConfiguration) -> bool {
    let parts =
        [block.block_public_acls, block.ignore_public_acls, block.block_public_policy, block.restrict_public_buckets];
    parts.iter().all(|part| *part == Some(true))
}

async fn tls_only(client: &Client, bucket: &str) -> Result<bool, PortError> {
    match client.get_bucket_policy().bucket(bucket).send().await {
        Ok(answer) => Ok(refuses_clear_text(answer.policy.as_deref().unwrap_or_default(), bucket)),
        Err(error) if has_code(&error, &["NoSuchBucketPolicy"]) => Ok(false),
        Err(error) => Err(port_error(POLICY, error)),
    }
}

/// Whether a policy denies everybody everything on the bucket and its objects where `aws:SecureTransport` is false.
/// Other ways of saying it may exist; this is the one that AWS's own rules look for.
fn refuses_clear_text(policy: &str, bucket: &str) -> bool {
    let Ok(policy) = serde_json::from_str::<Value>(policy) else { return false };
    let statements = one_or_many(&policy["Statement"]);
    statements.iter().any(|statement| denies_clear_text(statement, bucket))
}

fn denies_clear_text(statement: &Value, bucket: &str) -> bool {
    let everybody = statement["Principal"] == "*" || has_text(&statement["Principal"]["AWS"], |text| text == "*");
    let everything = has_text(&statement["Action"], |text| text == "*" || text.eq_ignore_ascii_case("s3:*"));
    let objects = format!(":{bucket}/*");
    let all_objects = has_text(&statement["Resource"], |text| text == "*" || text.ends_with(&objects));
    statement["Effect"] == "Deny" && everybody && everything && all_objects && is_clear_text(&statement["Condition"])
}

/// Exactly the one condition: a second would have to hold too.
fn is_clear_text(condition: &Value) -> bool {
    let only = |value: &Value| value.as_object().is_some_and(|object| object.len() == 1);
    let values = one_or_many(&condition["Bool"]["aws:SecureTransport"]);
    only(condition) && only(&condition["Bool"]) && values.iter().any(|value| **value == "false" || **value == false)
}

fn one_or_many(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(values) => values.iter().collect(),
        one => vec![one],
    }
}

fn has_text(value: &Value, test: impl Fn(&str) -> bool) -> bool {
    one_or_many(value).iter().filter_map(|value| value.as_str()).any(test)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn statement() -> Value {
        json!({
            "Effect": "Deny", "Principal": "*", "Action": "s3:*",
            "Resource": ["arn:aws:s3:::backups", "arn:aws:s3:::backups/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        })
    }

    fn refuses(statements: Value) -> bool {
        refuses_clear_text(&json!({"Version": "2012-10-17", "Statement": statements}).to_string(), "backups")
    }

    #[test]
    fn a_policy_that_refuses_clear_text_is_known() {
        assert!(refuses(statement()));
        assert!(refuses(json!([{"Effect": "Allow"}, statement()])));
        for (name, value) in [
            ("Principal", json!({"AWS": "*"})),
            ("Action", json!(["s3:GetObject", "*"])),
            ("Resource", json!("*")),
            ("Condition", json!({"Bool": {"aws:SecureTransport": false}})),
            ("Condition", json!({"Bool": {"aws:SecureTransport": ["false"]}})),
        ] {
            let mut changed = statement();
            changed[name] = value;
            assert!(refuses(changed.clone()), "{changed}");
        }
    }

    #[test]
    fn a_policy_that_refuses_less_is_not_taken_for_it() {
        for (name, value) in [
            ("Effect", json!("Allow")),
            ("Principal", json!({"AWS": "arn:aws:iam::111122223333:role/one"})),
            ("Action", json!("s3:PutObject")),
            ("Resource", json!("arn:aws:s3:::backups/some/*")),
            ("Resource", json!("arn:aws:s3:::other/*")),
            ("Condition", json!({"Bool": {"aws:SecureTransport": "true"}})),
            ("Condition", json!({"Bool": {"aws:SecureTransport": "false", "aws:ViaAWSService": "false"}})),
            (
                "Condition",
                json!({"Bool": {"aws:SecureTransport": "false"}, "StringEquals": {"aws:SourceVpc": "vpc-1"}}),
            ),
            ("Condition", Value::Null),
        ] {
            let mut changed = statement();
            changed[name] = value;
            assert!(!refuses(changed.clone()), "{changed}");
        }
        assert!(!refuses_clear_text("", "backups"));
        assert!(!refuses_clear_text("[]", "backups"));
    }

    #[test]
    fn every_part_of_the_block_counts() {
        let all = PublicAccessBlockConfiguration::builder()
            .block_public_acls(true)
            .ignore_public_acls(true)
            .block_public_policy(true)
            .restrict_public_buckets(true);
        assert!(blocks_all(&all.clone().build()));
        assert!(!blocks_all(&all.clone().restrict_public_buckets(false).build()));
        assert!(!blocks_all(&all.set_ignore_public_acls(None).build()));
    }

    #[test]
    fn what_could_not_be_found_out_is_not_missing() {
        let report = BucketReport { versioned: Some(false), tls_only: Some(true), ..BucketReport::default() };
        assert_eq!(report.missing(), ["keep versions"]);
    }
}
