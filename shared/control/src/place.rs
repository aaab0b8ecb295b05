//! What may be said of a place where backups are to be kept: its URL, its endpoint, its options.

use std::collections::BTreeMap;

use firebackup_model::LockMode;
use firebackup_model::address::is_public;
use percent_encoding::percent_decode_str;
use url::{Host, Url};
use zeroize::Zeroizing;

use crate::access::DestinationAccess;
use crate::error::{ControlError, Result};
use crate::limit;
use crate::secrets::SecretText;
use crate::server_side_encryption::{OPTIONS as ENCRYPTION_OPTIONS, ServerSideEncryption};
use crate::service_account::ServiceAccount;

/// The most bytes a URL may have.
const MAX_URL: usize = 1024;
/// The most bytes a value of an option may have: a key file of Google's fits.
const MAX_OPTION: usize = 16 * 1024;
/// The most days objects may be locked for: a hundred years.
const MAX_LOCK_DAYS: u32 = 36_500;
/// How hard objects are locked, in the options.
const LOCK_MODE: &str = "AWS_OBJECT_LOCK_MODE";
/// A key file of Google's, in the options.
const GOOGLE_KEY: &str = "GOOGLE_SERVICE_ACCOUNT_KEY";

/// What a repository names its folders of things that come and go. Whoever runs jobs may delete whatever lies below a
/// folder of such a name, so none may stand in the way to a repository.
const RESERVED: [&str; 4] = ["receipts", "intents", "probes", "prunes"];

/// The options that are taken. Others of the client library name files, commands and addresses of our side, or allow
/// what is refused here.
const KNOWN_OPTIONS: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "AWS_CHECKSUM_ALGORITHM",
    "AWS_CONDITIONAL_COMPLETE",
    LOCK_MODE,
    ENCRYPTION_OPTIONS[0],
    ENCRYPTION_OPTIONS[1],
    ENCRYPTION_OPTIONS[2],
    GOOGLE_KEY,
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_CLIENT_ID",
    "AZURE_STORAGE_CLIENT_SECRET",
    "AZURE_STORAGE_TENANT_ID",
];

/// Those among them that are names.
const NAMES: [&str; 5] = [
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_CLIENT_ID",
    "AZURE_STORAGE_TENANT_ID",
];

/// The names of options, which are no secret.
pub(crate) fn names(options: &[(String, Zeroizing<String>)]) -> Vec<String> {
    options.iter().map(|(name, _)| name.clone()).collect()
}

/// That a URL names a bucket, or a folder where those are allowed, and nothing in it is in the way of a repository.
pub(crate) fn check_url(text: &str, allow_folders: bool) -> Result<()> {
    let wrong = |message: &str| Err(ControlError::field("url", message));
    let expected = match allow_folders {
        true => "expected file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix",
        false => "expected s3://bucket/prefix, gs://bucket/prefix or az://container/prefix",
    };
    let Some(url) = Url::parse(text).ok().filter(|_| text.len() <= MAX_URL) else { return wrong(expected) };
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("credentials belong in the options");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return wrong("`?` and `#` have no place in it");
    }
    if let Some(name) = reserved_segment(&url) {
        return wrong(&format!("`{name}` has no place in it: what lies below is deleted as a job's leavings"));
    }
    // the parser has resolved them by now: what is used would not be what is shown
    let decoded = percent_decode_str(text).decode_utf8_lossy();
    if decoded.split(['/', '\\']).any(|segment| segment == ".." || segment == ".") {
        return wrong("`.` and `..` have no place in it");
    }
    match url.scheme() {
        "s3" | "gs" | "az" if url.host_str().is_some_and(|host| !host.is_empty()) => Ok(()),
        "file" if allow_folders => Ok(()),
        "file" => wrong("folders are not allowed here"),
        _ => wrong(expected),
    }
}

/// The first segment of the path that is a reserved name, however it is spelled.
fn reserved_segment(url: &Url) -> Option<&'static str> {
    let path = percent_decode_str(url.path()).decode_utf8_lossy();
    RESERVED.into_iter().find(|name| path.split('/').any(|segment| segment == *name))
}

/// In clear text only where nothing leaves the machine; inside only where that is allowed. What a name leads to is looked at
/// by whoever connects.
pub(crate) fn check_endpoint(text: &str, allow_private: bool) -> Result<()> {
    let wrong = |message: &str| Err(ControlError::field("endpoint", message));
    let Some(url) = Url::parse(text).ok().filter(|_| text.len() <= MAX_URL) else { return wrong("it is not a url") };
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return wrong("expected a base url without credentials, `?` and `#`");
    }
    if !allow_private && url.host().is_some_and(|host| is_inside(&host)) {
        return wrong("it leads to an address inside, which whoever runs this server does not allow");
    }
    match url.scheme() {
        "https" if url.host().is_some() => Ok(()),
        "http" if url.host().is_some_and(|host| is_loopback(&host)) => Ok(()),
        "http" => wrong("clear text is refused, except on the loopback interface: use https"),
        _ => wrong("expected https://host"),
    }
}

fn is_inside(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(_) => is_loopback(host),
        Host::Ipv4(address) => !is_public((*address).into()),
        Host::Ipv6(address) => !is_public((*address).into()),
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// For so many days objects may be locked there.
pub(crate) fn check_lock(days: Option<u32>, url: &str) -> Result<()> {
    const FIELD: &str = "retentionLockDays";
    let Some(days) = days else { return Ok(()) };
    if !url.starts_with("s3://") {
        return Err(ControlError::field(FIELD, "objects can be locked in buckets of S3 only"));
    }
    limit::between(FIELD, days, 1, MAX_LOCK_DAYS)
}

/// That a store can be told to encrypt so, by what was given to open it.
pub(crate) fn check_encryption(encryption: Option<&ServerSideEncryption>, access: &DestinationAccess) -> Result<()> {
    let check =
        |one: &ServerSideEncryption| one.check(&access.url, access.endpoint.as_deref(), &names(&access.options));
    encryption.map_or(Ok(()), check)
}

const fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// Options that are known, by their names in upper case.
pub(crate) fn checked_options(options: &BTreeMap<String, SecretText>) -> Result<Vec<(String, Zeroizing<String>)>> {
    let mut checked: BTreeMap<String, Zeroizing<String>> = BTreeMap::new();
    for (name, value) in options {
        let name = name.to_ascii_uppercase();
        let field = format!("options.{name}");
        if !KNOWN_OPTIONS.contains(&name.as_str()) {
            let message = format!("expected one of {}", KNOWN_OPTIONS.join(", "));
            return Err(ControlError::field("options", message));
        }
        if value.expose().is_empty() || value.expose().len() > MAX_OPTION {
            return Err(ControlError::field(&field, format!("expected 1 to {MAX_OPTION} bytes")));
        }
        if name != GOOGLE_KEY && !value.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            // it becomes a part of a header or of an address
            return Err(ControlError::field(&field, "expected printable ascii characters without blanks"));
        }
        if NAMES.contains(&name.as_str()) && !value.expose().bytes().all(is_of_name) {
            return Err(ControlError::field(&field, "expected letters, digits and `-`, `_`, `.`"));
        }
        if name == LOCK_MODE && value.expose().parse::<LockMode>().is_err() {
            return Err(ControlError::field(&field, "expected GOVERNANCE or COMPLIANCE"));
        }
        if name == GOOGLE_KEY {
            ServiceAccount::read(value.expose()).map_err(|reason| ControlError::field(&field, reason))?;
        }
        if checked.insert(name, value.expose().to_owned().into()).is_some() {
            return Err(ControlError::field(&field, "it is given twice"));
        }
    }
    Ok(checked.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of these ended a request by a panic in the store's client.
    #[test]
    fn what_fits_no_header_and_no_address_is_no_option() {
        let check =
            |name: &str, value: &str| checked_options(&[(name.to_owned(), SecretText::from(value.to_owned()))].into());
        for name in KNOWN_OPTIONS.iter().filter(|name| **name != GOOGLE_KEY && **name != LOCK_MODE) {
            assert!(check(name, "a-plain.value_1").is_ok(), "{name}");
            for bad in ["a\r\nb", "a\nb", "a\0b", "a\u{7f}b", "a b", "ä"] {
                let error = check(name, bad).unwrap_err();
                assert_eq!(error.details.unwrap()["field"], format!("options.{name}"), "{bad:?}");
            }
        }
        for name in NAMES {
            assert!(check(name, "x.evil.example/").is_err(), "{name}");
        }
        assert!(check("AWS_SECRET_ACCESS_KEY", "a/b+c=").is_ok());
        assert!(check("AZURE_STORAGE_SAS_KEY", "?sv=2024&sig=a%2Fb").is_ok());
    }

    #[test]
    fn objects_are_locked_at_s3_only_and_as_hard_as_s3_knows() {
        assert!(check_lock(Some(30), "s3://bucket/prefix").is_ok() && check_lock(None, "gs://bucket").is_ok());
        for (days, url) in [(30, "gs://bucket"), (30, "file:///folder"), (0, "s3://bucket"), (40_000, "s3://bucket")] {
            assert!(check_lock(Some(days), url).is_err(), "{days} {url}");
        }
        let mode = |text: &str| checked_options(&[(LOCK_MODE.to_owned(), SecretText::from(text.to_owned()))].into());
        assert!(mode("compliance").is_ok());
        assert!(mode("HARDER").is_err());
    }

    #[test]
    fn clear_text_stays_on_the_machine() {
        for good in [
            "https://s3.example.com",
            "http://localhost:9000",
            "http://127.0.0.1:9000",
            "http://127.9.9.9",
            "http://[::1]:9000",
        ] {
            assert!(check_endpoint(good, true).is_ok(), "{good}");
            assert_eq!(check_endpoint(good, false).is_ok(), good.starts_with("https"), "{good}");
        }
        for bad in [
            "http://s3.example.com",
            "http://localhost.example.com",
            "http://10.0.0.1",
            "http://[::2]",
            "http://169.254.169.254",
            "ftp://localhost",
            "https://key:secret@s3.example.com",
            "https://s3.example.com/?x",
            "s3.example.com",
            "https://",
        ] {
            assert!(check_endpoint(bad, true).is_err(), "{bad}");
        }
        for inside in [
            "https://localhost",
            "https://10.0.0.1",
            "https://0x7f000001",
            "https://[::ffff:127.0.0.1]",
            "https://[fe80::1]",
        ] {
            assert!(check_endpoint(inside, true).is_ok(), "{inside}");
            let error = check_endpoint(inside, false).unwrap_err();
            assert!(error.to_string().contains("inside"), "{inside}: {error}");
        }
    }

    #[test]
    fn urls_name_buckets_and_folders_where_allowed() {
        for good in ["s3://bucket", "gs://bucket/prefix", "az://container/a/b"] {
            assert!(check_url(good, false).is_ok(), "{good}");
        }
        assert!(check_url("file:///var/backups", true).is_ok());
        for bad in [
            "file:///var/backups",
            "https://bucket",
            "s3://",
            "s3://key:secret@bucket",
            "s3://bucket?x=1",
            "bucket",
            &format!("s3://bucket/{}", "a".repeat(MAX_URL)),
        ] {
            let error = check_url(bad, false).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn no_backup_is_kept_where_jobs_delete() {
        for name in RESERVED {
            for bad in [
                format!("s3://bucket/{name}"),
                format!("s3://bucket/{name}/"),
                format!("s3://bucket/a/{name}/b"),
                format!("gs://bucket//{name}"),
                format!("az://container/a%2F{name}"),
                format!("s3://bucket/a/../%{:02x}{}", name.as_bytes()[0], &name[1..]),
                format!("file:///var/{name}"),
            ] {
                let error = check_url(&bad, true).unwrap_err();
                assert!(error.to_string().contains(name), "{bad}: {error}");
            }
            for good in
                [format!("s3://{name}/a"), format!("s3://bucket/{name}-2026"), format!("s3://bucket/old-{name}")]
            {
                assert!(check_url(&good, false).is_ok(), "{good}");
            }
        }
    }

    #[test]
    fn options_are_known_ones() {
        let options = |name: &str, value: &str| [(name.to_owned(), SecretText::from(value.to_owned()))].into();
        assert_eq!(checked_options(&options("aws_region", "eu-west-1")).unwrap()[0].0, "AWS_REGION");
        for (name, value) in [
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ENDPOINT", "http://example.com"),
            ("GOOGLE_SERVICE_ACCOUNT", "/etc/passwd"),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.com"),
            ("AWS_REGION", ""),
            ("GOOGLE_SERVICE_ACCOUNT_KEY", r#"{"type":"external_account"}"#),
        ] {
            assert!(checked_options(&options(name, value)).is_err(), "{name}");
        }
        let twice = ["AWS_REGION", "aws_region"].map(|name| (name.to_owned(), SecretText::from("a".to_owned())));
        assert!(checked_options(&twice.into()).is_err());
    }
}
