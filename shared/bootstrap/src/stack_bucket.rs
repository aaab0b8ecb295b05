//! The bucket that a deployment makes: the first destination of the first organization.

use firebackup_model::PortError;

use crate::aws_environment::AwsEnvironment;

/// Below which prefix of the bucket repositories stand.
const PREFIX: &str = "backups";

/// The stack's own bucket for backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackBucket {
    /// Such as `s3://bucket/backups`.
    pub url: String,
    /// For how many days what is put there is locked; nothing where it is not.
    pub lock_days: Option<u64>,
}

impl StackBucket {
    /// The bucket that the environment names; nothing where it names none.
    ///
    /// # Errors
    /// When the days are no number.
    pub fn of(environment: &AwsEnvironment) -> Result<Option<Self>, PortError> {
        let Some(bucket) = environment.get("FIREBACKUP_BUCKET") else { return Ok(None) };
        let days = environment.number("FIREBACKUP_OBJECT_LOCK_DAYS", 0)?;
        Ok(Some(Self { url: format!("s3://{bucket}/{PREFIX}"), lock_days: Some(days).filter(|days| *days > 0) }))
    }
}
