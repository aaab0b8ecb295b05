//! The bucket that a deployment makes: the first destination of the first organization.

use crate::aws_environment::AwsEnvironment;

/// Below which prefix of the bucket repositories stand.
const PREFIX: &str = "backups";

/// The stack's own bucket for backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackBucket {
    /// Such as `s3://bucket/backups`.
    pub url: String,
}

impl StackBucket {
    /// The bucket that the environment names; nothing where it names none.
    #[must_use]
    pub fn of(environment: &AwsEnvironment) -> Option<Self> {
        let bucket = environment.get("FIREBACKUP_BUCKET")?;
        Some(Self { url: format!("s3://{bucket}/{PREFIX}") })
    }
}
