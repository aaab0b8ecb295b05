//! Buckets of S3 behind destinations, for what an object store cannot do: versions, locks, and how well one is guarded.

use firebackup_aws::{Bucket, BucketAccess, BucketFolder};
use firebackup_model::{LockMode, PortError};
use firebackup_storage::{Destination, DestinationSettings};

/// A key for AWS.
pub(crate) const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const ENDPOINTS: [&str; 3] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
/// Where a bucket is sought when nobody says where: as the object store does.
const REGION: &str = "us-east-1";

/// The bucket of a destination and the prefix in it; nothing where it is no bucket of S3. Nobody is spoken to.
///
/// # Errors
/// When the credentials cannot be understood.
pub(crate) async fn bucket_of(
    destination: &Destination,
    settings: &DestinationSettings,
) -> Result<Option<(Bucket, String)>, PortError> {
    let Some((bucket, prefix)) = destination.s3_folder() else { return Ok(None) };
    let text = |names: &[&str]| option(&settings.options, names);
    let access = BucketAccess {
        region: text(&["AWS_REGION", "AWS_DEFAULT_REGION"]).or_else(|| Some(REGION.to_owned())),
        public_only: settings.public_only && settings.endpoint.is_some(),
        endpoint: settings.endpoint.clone().or_else(|| text(&ENDPOINTS)),
        key: text(&[KEY_ID]).zip(text(&["AWS_SECRET_ACCESS_KEY"])),
        session_token: text(&["AWS_SESSION_TOKEN"]),
    };
    let bucket = Bucket::reach(&access, bucket).await?;
    Ok(Some((bucket, prefix.to_owned())))
}

/// The versions of what lies in a destination, where it is a bucket that keeps any and that says so.
///
/// # Errors
/// When the bucket cannot be reached.
pub async fn kept_versions(
    destination: &Destination,
    settings: &DestinationSettings,
) -> Result<Option<BucketFolder>, PortError> {
    let Some((bucket, prefix)) = bucket_of(destination, settings).await? else { return Ok(None) };
    let is_versioned = bucket.report().await?.versioned == Some(true);
    Ok(is_versioned.then(|| BucketFolder::new(bucket, &prefix, LockMode::default())))
}

/// The last value of the first of the options that is there and says something.
pub(crate) fn option(options: &[(String, String)], names: &[&str]) -> Option<String> {
    let last = |name: &&str| options.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(name));
    names.iter().filter_map(last).map(|(_, value)| value.clone()).find(|value| !value.is_empty())
}
