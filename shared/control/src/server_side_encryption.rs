//! How a store encrypts what it keeps. Whatever it does, encrypted backups are sealed before they come to it.

use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use crate::error::{ControlError, Result};

/// How a store encrypts what is put; where nothing is said, as its bucket says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum ServerSideEncryption {
    /// With keys of S3's own (SSE-S3).
    #[serde(rename = "AES256")]
    S3 {},
    /// With a key of AWS's key service (SSE-KMS). Whoever puts and reads must be allowed to use it.
    #[serde(rename = "aws:kms")]
    Kms {
        /// The key: its id, ARN or alias. Without one, the key that AWS keeps for S3.
        #[serde(default, rename = "kmsKeyId", skip_serializing_if = "Option::is_none")]
        #[schema(max_length = 2048, example = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd")]
        kms_key_id: Option<String>,
        /// Whether S3 asks the key service once for many objects; as the bucket says where nothing is said.
        #[serde(default, rename = "bucketKeyEnabled", skip_serializing_if = "Option::is_none")]
        bucket_key_enabled: Option<bool>,
    },
    /// With a key of Google's key service. The bucket's service agent must be allowed to use it.
    #[serde(rename = "gcs-cmek")]
    Gcs {
        /// The key.
        #[serde(rename = "kmsKeyName")]
        #[schema(max_length = 1024, example = "projects/p/locations/europe/keyRings/r/cryptoKeys/k")]
        kms_key_name: String,
    },
    /// As Spaces encrypts everything by itself: nothing is asked for.
    #[serde(rename = "spaces")]
    Spaces {},
}

const SSE: &str = "AWS_SERVER_SIDE_ENCRYPTION";
const SSE_KEY: &str = "AWS_SSE_KMS_KEY_ID";
const SSE_BUCKET_KEY: &str = "AWS_SSE_BUCKET_KEY_ENABLED";
const GCS_KEY: &str = "GOOGLE_KMS_KEY_NAME";

/// The options that say the same, and that users may give instead.
pub(crate) const OPTIONS: [&str; 3] = [SSE, SSE_KEY, SSE_BUCKET_KEY];
const FIELD: &str = "serverSideEncryption";
/// The longest name of a key, at AWS and at Google.
const MAX_KEY: usize = 2048;
const MAX_KEY_NAME: usize = 1024;

impl ServerSideEncryption {
    /// The same as options of a destination: the one way in which it is said to a store.
    pub(crate) fn options(&self) -> Vec<(String, Zeroizing<String>)> {
        let said = match self {
            Self::Spaces {} => Vec::new(),
            Self::S3 {} => vec![(SSE, "AES256".to_owned())],
            Self::Gcs { kms_key_name } => vec![(GCS_KEY, kms_key_name.clone())],
            Self::Kms { kms_key_id, bucket_key_enabled } => {
                let key = kms_key_id.clone().map(|key| (SSE_KEY, key));
                let bucket_key = bucket_key_enabled.map(|enabled| (SSE_BUCKET_KEY, enabled.to_string()));
                [(SSE, "aws:kms".to_owned())].into_iter().chain(key).chain(bucket_key).collect()
            }
        };
        said.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
    }

    /// Whether a store at this place can be told so; `options` are the names of those that were given.
    ///
    /// # Errors
    /// [`Unprocessable`](crate::Kind::Unprocessable) where not, or where options say it too.
    pub(crate) fn check(&self, url: &str, endpoint: Option<&str>, options: &[String]) -> Result<()> {
        let wrong = |message: &str| Err(ControlError::field(FIELD, message));
        if let Some(twice) = options.iter().find(|name| OPTIONS.contains(&name.as_str())) {
            return wrong(&format!("the option {twice} says it already: leave one of them out"));
        }
        let is_spaces = endpoint.is_some_and(is_spaces);
        match self {
            Self::S3 {} | Self::Kms { .. } | Self::Spaces {} if !url.starts_with("s3://") => {
                wrong("only what speaks S3's protocol encrypts so")
            }
            Self::Spaces {} if !is_spaces => wrong("the endpoint is none of DigitalOcean's Spaces"),
            Self::Kms { .. } if is_spaces => wrong("Spaces knows no keys of a key service: expected `spaces`"),
            Self::Kms { kms_key_id: Some(key), .. } if !is_name(key) => wrong("`kmsKeyId` is not the name of a key"),
            Self::Gcs { .. } if !url.starts_with("gs://") => wrong("only Google Cloud Storage encrypts so"),
            Self::Gcs { kms_key_name } if !is_key_of_google(kms_key_name) => {
                wrong("expected projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY")
            }
            _ => Ok(()),
        }
    }
}

fn is_spaces(endpoint: &str) -> bool {
    let url = Url::parse(endpoint).ok();
    url.is_some_and(|url| url.host_str().is_some_and(|host| host.ends_with(".digitaloceanspaces.com")))
}

/// It becomes a header.
fn is_name(key: &str) -> bool {
    (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_key_of_google(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    let is_path = matches!(parts[..], ["projects", _, "locations", _, "keyRings", _, "cryptoKeys", _]);
    name.len() <= MAX_KEY_NAME && is_name(name) && is_path && parts.iter().all(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const KEY_NAME: &str = "projects/p/locations/l/keyRings/r/cryptoKeys/k";

    fn read(json: &Value) -> ServerSideEncryption {
        serde_json::from_value(json.clone()).unwrap()
    }

    fn options(json: &Value) -> Vec<(String, String)> {
        read(json).options().into_iter().map(|(name, value)| (name, value.to_string())).collect()
    }

    #[test]
    fn each_is_said_in_options_and_stored_as_it_was_given() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for (json, expect) in [
            (json!({"type": "AES256"}), vec![pair(SSE, "AES256")]),
            (json!({"type": "aws:kms"}), vec![pair(SSE, "aws:kms")]),
            (
                json!({"type": "aws:kms", "kmsKeyId": "alias/backups", "bucketKeyEnabled": true}),
                vec![pair(SSE, "aws:kms"), pair(SSE_KEY, "alias/backups"), pair(SSE_BUCKET_KEY, "true")],
            ),
            (json!({"type": "gcs-cmek", "kmsKeyName": KEY_NAME}), vec![pair(GCS_KEY, KEY_NAME)]),
            (json!({"type": "spaces"}), vec![]),
        ] {
            assert_eq!(options(&json), expect, "{json}");
            assert_eq!(serde_json::to_value(read(&json)).unwrap(), json);
        }
    }

    #[test]
    fn what_is_unknown_is_refused() {
        for bad in [
            json!({"type": "AES512"}),
            json!({"type": "gcs-cmek"}),
            json!({"type": "AES256", "kmsKeyId": "k"}),
            json!({"type": "aws:kms", "key": "k"}),
            json!({}),
        ] {
            assert!(serde_json::from_value::<ServerSideEncryption>(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_store_is_told_only_what_it_can_do() {
        const SPACES: Option<&str> = Some("https://nyc3.digitaloceanspaces.com");
        let kms = json!({"type": "aws:kms", "kmsKeyId": "k"});
        let cmek = json!({"type": "gcs-cmek", "kmsKeyName": KEY_NAME});
        for (json, url, endpoint, is_good) in [
            (&json!({"type": "AES256"}), "s3://b", None, true),
            (&json!({"type": "AES256"}), "s3://b", SPACES, true),
            (&json!({"type": "AES256"}), "gs://b", None, false),
            (&json!({"type": "AES256"}), "az://b", None, false),
            (&json!({"type": "AES256"}), "file:///b", None, false),
            (&kms, "s3://b", None, true),
            (&kms, "s3://b", Some("https://s3.example"), true),
            (&kms, "s3://b", SPACES, false),
            (&kms, "gs://b", None, false),
            (&json!({"type": "aws:kms", "kmsKeyId": ""}), "s3://b", None, false),
            (&json!({"type": "aws:kms", "kmsKeyId": "a\nb"}), "s3://b", None, false),
            (&cmek, "gs://b", None, true),
            (&cmek, "s3://b", None, false),
            (&json!({"type": "gcs-cmek", "kmsKeyName": "k"}), "gs://b", None, false),
            (
                &json!({"type": "gcs-cmek", "kmsKeyName": "projects//locations/l/keyRings/r/cryptoKeys/k"}),
                "gs://b",
                None,
                false,
            ),
            (&json!({"type": "spaces"}), "s3://b", SPACES, true),
            (&json!({"type": "spaces"}), "s3://b", Some("https://digitaloceanspaces.com.evil.example"), false),
            (&json!({"type": "spaces"}), "s3://b", None, false),
        ] {
            assert_eq!(read(json).check(url, endpoint, &[]).is_ok(), is_good, "{json} {url} {endpoint:?}");
        }
        let long = json!({"type": "gcs-cmek", "kmsKeyName": format!("{KEY_NAME}{}", "k".repeat(1024))});
        assert!(read(&long).check("gs://b", None, &[]).is_err());
        let said = read(&kms).check("s3://b", None, &[SSE_KEY.to_owned()]);
        assert!(said.unwrap_err().to_string().contains("leave one of them out"));
        assert!(read(&kms).check("s3://b", None, &["AWS_REGION".to_owned()]).is_ok());
    }
}
