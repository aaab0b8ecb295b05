//! Identity Toolkit's JSON: what is read from it and what is sent to it. Users stay the text they came as.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use firebackup_model::error::{ErrorKind, PortError};
use firebackup_model::port::{UserFailure, UserPage, UserRecord};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// The base64 of `REDACTED`: what the API returns for a hash that the credential may not read.
const REDACTED_HASH: &str = "UkVEQUNURUQ=";

/// What the API lists but only the server sets.
const READ_ONLY_FIELDS: [&str; 1] = ["lastRefreshAt"];

/// Sign-in methods that the API derives from a user's e-mail address and phone number: listed with the linked
/// accounts, yet not accepted among them.
const DERIVED_PROVIDERS: [&str; 2] = ["password", "phone"];

#[derive(Deserialize)]
struct PageJson<'a> {
    #[serde(borrow, default)]
    users: Vec<&'a RawValue>,
    #[serde(rename = "nextPageToken", default)]
    next: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserHead<'a> {
    #[serde(borrow)]
    local_id: Cow<'a, str>,
    #[serde(borrow, default)]
    password_hash: Option<Cow<'a, str>>,
}

/// Reads a page of users; each keeps the very text that came.
pub(crate) fn page(body: &[u8], tenant: Option<&str>) -> Result<UserPage, serde_json::Error> {
    let page: PageJson<'_> = serde_json::from_slice(body)?;
    let users = page.users.into_iter().map(|user| record(user, tenant)).collect::<Result<_, _>>()?;
    Ok(UserPage { users, next: page.next.filter(|token| !token.is_empty()) })
}

fn record(user: &RawValue, tenant: Option<&str>) -> Result<UserRecord, serde_json::Error> {
    let head: UserHead<'_> = serde_json::from_str(user.get())?;
    Ok(UserRecord {
        id: head.local_id.into_owned(),
        tenant: tenant.map(str::to_owned),
        json: Bytes::copy_from_slice(user.get().as_bytes()),
        redacted: head.password_hash.is_some_and(|hash| is_redacted(&hash)),
    })
}

fn is_redacted(hash: &str) -> bool {
    hash.trim_end_matches('=') == REDACTED_HASH.trim_end_matches('=')
}

#[derive(Deserialize)]
struct TenantsJson {
    #[serde(default)]
    tenants: Vec<TenantJson>,
    #[serde(rename = "nextPageToken", default)]
    next: Option<String>,
}

#[derive(Deserialize)]
struct TenantJson {
    name: String,
}

/// Reads a page of tenants: their ids, and the token of the next page.
pub(crate) fn tenants(body: &[u8]) -> Result<(Vec<String>, Option<String>), serde_json::Error> {
    let page: TenantsJson = serde_json::from_slice(body)?;
    let id = |tenant: TenantJson| tenant.name.rsplit('/').next().unwrap_or_default().to_owned();
    Ok((page.tenants.into_iter().map(id).collect(), page.next.filter(|token| !token.is_empty())))
}

/// Reads the password hash parameters from a project's configuration.
pub(crate) fn hash_config(body: &[u8]) -> Result<Option<Value>, serde_json::Error> {
    let mut config: Value = serde_json::from_slice(body)?;
    let hash = config.pointer_mut("/signIn/hashConfig").map(Value::take);
    Ok(hash.filter(|hash| hash.as_object().is_some_and(|parameters| !parameters.is_empty())))
}

/// The body of `accounts:batchCreate`. The hash parameters keep their values; only the algorithm is named otherwise.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BatchCreate<'a> {
    users: Vec<BTreeMap<Cow<'a, str>, Cow<'a, RawValue>>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    allow_overwrite: bool,
    #[serde(flatten)]
    hash: BTreeMap<&'static str, &'a Value>,
}

/// What of the hash parameters is sent, and under which name.
const HASH_PARAMETERS: [(&str, &str); 5] = [
    ("algorithm", "hashAlgorithm"),
    ("signerKey", "signerKey"),
    ("saltSeparator", "saltSeparator"),
    ("rounds", "rounds"),
    ("memoryCost", "memoryCost"),
];

/// The body of a request that creates `users` in `tenant`.
pub(crate) fn batch_create(
    tenant: Option<&str>,
    users: &[UserRecord],
    hash_config: Option<&Value>,
    overwrite: bool,
) -> Result<Vec<u8>, serde_json::Error> {
    let parameter = |(name, sent_as): (&str, &'static str)| Some((sent_as, hash_config?.get(name)?));
    let body = BatchCreate {
        users: users.iter().map(|user| sent_user(user, tenant)).collect::<Result<_, _>>()?,
        allow_overwrite: overwrite,
        hash: HASH_PARAMETERS.into_iter().filter_map(parameter).collect(),
    };
    serde_json::to_vec(&body)
}

/// A user as the API accepts it: the values untouched, without what it does not accept. A redacted hash is left out:
/// sent, it would become the user's real one.
fn sent_user<'a>(
    user: &'a UserRecord,
    tenant: Option<&str>,
) -> Result<BTreeMap<Cow<'a, str>, Cow<'a, RawValue>>, serde_json::Error> {
    let fields: BTreeMap<Cow<'a, str>, &'a RawValue> = serde_json::from_slice(&user.json)?;
    let mut fields: BTreeMap<_, _> = fields.into_iter().map(|(name, value)| (name, Cow::Borrowed(value))).collect();
    for name in READ_ONLY_FIELDS {
        fields.remove(name);
    }
    // seen in the value itself: a record that was kept for years may not know it any more
    let hash = fields.get("passwordHash").and_then(|hash| serde_json::from_str::<String>(hash.get()).ok());
    if user.redacted || hash.is_some_and(|hash| is_redacted(&hash)) {
        fields.remove("passwordHash");
        fields.remove("salt");
    }
    if let Some(providers) = fields.get_mut("providerUserInfo") {
        *providers = Cow::Owned(without_derived(providers)?);
    }
    match tenant {
        Some(tenant) => fields.insert("tenantId".into(), Cow::Owned(serde_json::value::to_raw_value(tenant)?)),
        None => fields.remove("tenantId"),
    };
    Ok(fields)
}

#[derive(Deserialize)]
struct ProviderHead<'a> {
    #[serde(rename = "providerId", borrow, default)]
    id: Option<Cow<'a, str>>,
}

fn without_derived(providers: &RawValue) -> Result<Box<RawValue>, serde_json::Error> {
    let mut kept: Vec<&RawValue> = Vec::new();
    for provider in serde_json::from_str::<Vec<&RawValue>>(providers.get())? {
        let head: ProviderHead<'_> = serde_json::from_str(provider.get())?;
        if !head.id.is_some_and(|id| DERIVED_PROVIDERS.contains(&&*id)) {
            kept.push(provider);
        }
    }
    serde_json::value::to_raw_value(&kept)
}

#[derive(Deserialize)]
struct CreatedJson {
    #[serde(default)]
    error: Vec<FailureJson>,
}

#[derive(Deserialize)]
struct FailureJson {
    /// Left out for the first user, as zeros are.
    #[serde(default)]
    index: usize,
    #[serde(default)]
    message: String,
}

/// Reads which users could not be created.
pub(crate) fn failures(body: &[u8]) -> Result<Vec<UserFailure>, serde_json::Error> {
    let created: CreatedJson = serde_json::from_slice(body)?;
    let failure = |failure: FailureJson| UserFailure { index: failure.index, message: failure.message };
    Ok(created.error.into_iter().map(failure).collect())
}

/// The error for an HTTP status and the body that came with it.
pub(crate) fn refusal(operation: &'static str, role: &str, status: u16, body: &[u8]) -> PortError {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let said = body.pointer("/error/message").and_then(Value::as_str).unwrap_or_default();
    let kind = refusal_kind(status, said);
    let message = match kind {
        ErrorKind::PermissionDenied => format!("HTTP {status} {said}; it takes {role}"),
        _ => format!("HTTP {status} {said}"),
    };
    PortError::new(kind, operation, message.trim_end())
}

fn refusal_kind(status: u16, said: &str) -> ErrorKind {
    match status {
        // The project has no Firebase Authentication.
        400 if said.starts_with("CONFIGURATION_NOT_FOUND") => ErrorKind::NotFound,
        400 if said.starts_with("QUOTA_EXCEEDED") || said.starts_with("TOO_MANY_ATTEMPTS") => {
            ErrorKind::ResourceExhausted
        }
        400 if said.starts_with("INSUFFICIENT_PERMISSION") => ErrorKind::PermissionDenied,
        400 => ErrorKind::InvalidArgument,
        401 => ErrorKind::Unauthenticated,
        403 => ErrorKind::PermissionDenied,
        404 => ErrorKind::NotFound,
        408 | 504 => ErrorKind::DeadlineExceeded,
        409 => ErrorKind::Aborted,
        429 => ErrorKind::ResourceExhausted,
        500 => ErrorKind::Internal,
        501 => ErrorKind::Unimplemented,
        502 | 503 => ErrorKind::Unavailable,
        _ => ErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PAGE: &str = r#"{"kind":"x","users":[
        {"localId":"a", "passwordHash":"wL-_8w==", "createdAt": "1", "big": 12345678901234567890123, "é": "\u00e9"},
        {"localId":"b\n","passwordHash":"UkVEQUNURUQ="}],"nextPageToken":"t"}"#;

    fn user(json: &str) -> UserRecord {
        let body = format!(r#"{{"users":[{json}]}}"#);
        page(body.as_bytes(), None).unwrap().users.remove(0)
    }

    fn sent(user: &UserRecord, tenant: Option<&str>) -> Value {
        let body = batch_create(tenant, std::slice::from_ref(user), None, false).unwrap();
        serde_json::from_slice::<Value>(&body).unwrap()["users"][0].take()
    }

    #[test]
    fn users_keep_their_text() {
        let page = page(PAGE.as_bytes(), Some("t1")).unwrap();
        let first = &page.users[0];
        let text = r#"{"localId":"a", "passwordHash":"wL-_8w==", "createdAt": "1", "big": 12345678901234567890123, "é": "\u00e9"}"#;
        assert_eq!(first.json, text);
        assert_eq!((first.id.as_str(), first.tenant.as_deref(), first.redacted), ("a", Some("t1"), false));
        assert_eq!((page.users[1].id.as_str(), page.users[1].redacted), ("b\n", true));
        assert_eq!(page.next.as_deref(), Some("t"));
    }

    #[test]
    fn the_last_page_has_no_token() {
        for body in ["{}", r#"{"kind":"x"}"#, r#"{"users":[],"nextPageToken":""}"#] {
            let page = page(body.as_bytes(), None).unwrap();
            assert!(page.users.is_empty() && page.next.is_none(), "{body}");
        }
        assert!(page(br#"{"users":[{"email":"no id"}]}"#, None).is_err());
    }

    #[test]
    fn numbers_and_hashes_are_sent_as_they_came() {
        let users = page(PAGE.as_bytes(), None).unwrap().users;
        let text = String::from_utf8(batch_create(None, &users[..1], None, false).unwrap()).unwrap();
        for part in ["12345678901234567890123", r#""wL-_8w==""#, r#""\u00e9""#] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn what_the_api_refuses_is_left_out_and_nothing_else() {
        let listed = user(
            r#"{"localId":"a","email":"a@b.c","lastRefreshAt":"2026-01-01T00:00:00Z","lastLoginAt":"5","tenantId":"t",
            "mfaInfo":[{"mfaEnrollmentId":"m","totpInfo":{}}],"customAttributes":"{}",
            "providerUserInfo":[{"providerId":"password","rawId":"a@b.c"},{"providerId":"google.com","rawId":"1"},
            {"providerId":"phone","rawId":"+1"}]}"#,
        );
        let expected = json!({
            "localId": "a", "email": "a@b.c", "lastLoginAt": "5", "customAttributes": "{}",
            "mfaInfo": [{"mfaEnrollmentId": "m", "totpInfo": {}}],
            "providerUserInfo": [{"providerId": "google.com", "rawId": "1"}],
        });
        assert_eq!(sent(&listed, None), expected);
        assert_eq!(sent(&listed, Some("other"))["tenantId"], "other");
    }

    #[test]
    fn a_redacted_hash_is_never_sent() {
        let redacted = user(r#"{"localId":"a","passwordHash":"UkVEQUNURUQ=","salt":"s"}"#);
        assert_eq!(sent(&redacted, None), json!({"localId": "a"}));
        let forgotten = UserRecord { redacted: false, ..redacted };
        assert_eq!(sent(&forgotten, None), json!({"localId": "a"}));
        let real = user(r#"{"localId":"a","passwordHash":"aGFzaA==","salt":"s"}"#);
        assert_eq!(sent(&real, None), json!({"localId": "a", "passwordHash": "aGFzaA==", "salt": "s"}));
    }

    #[test]
    fn hash_parameters_go_from_the_configuration_into_the_request() {
        let config = br#"{"name":"x","signIn":{"email":{},"hashConfig":
            {"algorithm":"SCRYPT","signerKey":"k==","saltSeparator":"Bw==","rounds":8,"memoryCost":14}}}"#;
        let hash = hash_config(config).unwrap().unwrap();
        let users = [user(r#"{"localId":"a"}"#)];
        let body: Value = serde_json::from_slice(&batch_create(None, &users, Some(&hash), true).unwrap()).unwrap();
        let expected = json!({
            "users": [{"localId": "a"}], "allowOverwrite": true, "hashAlgorithm": "SCRYPT", "signerKey": "k==",
            "saltSeparator": "Bw==", "rounds": 8, "memoryCost": 14,
        });
        assert_eq!(body, expected);
        for without in ["{}", r#"{"signIn":{}}"#, r#"{"signIn":{"hashConfig":{}}}"#] {
            assert_eq!(hash_config(without.as_bytes()).unwrap(), None, "{without}");
        }
    }

    #[test]
    fn failures_and_tenants_are_read() {
        let body = br#"{"kind":"x","error":[{"message":"no email"},{"index":3,"message":"there"}]}"#;
        let failure = |index, message: &str| UserFailure { index, message: message.into() };
        assert_eq!(failures(body).unwrap(), [failure(0, "no email"), failure(3, "there")]);
        assert_eq!(failures(b"{}").unwrap(), []);
        let body =
            br#"{"tenants":[{"name":"projects/p/tenants/a-1"},{"name":"projects/p/tenants/b"}],"nextPageToken":"n"}"#;
        assert_eq!(tenants(body).unwrap(), (vec!["a-1".to_owned(), "b".to_owned()], Some("n".to_owned())));
        assert_eq!(tenants(b"{}").unwrap(), (vec![], None));
    }

    #[test]
    fn refusals_become_kinds() {
        let check = |status, said: &str, kind, retried| {
            let body = json!({"error": {"code": status, "message": said}}).to_string();
            let error = refusal("list users", "roles/firebaseauth.viewer", status, body.as_bytes());
            assert_eq!((error.kind, error.can_be_retried()), (kind, retried), "{error}");
            assert!(error.to_string().contains(said), "{error}");
        };
        check(400, "CONFIGURATION_NOT_FOUND", ErrorKind::NotFound, false);
        check(400, "INVALID_PAGE_SELECTION", ErrorKind::InvalidArgument, false);
        check(400, "QUOTA_EXCEEDED : slow down", ErrorKind::ResourceExhausted, true);
        check(429, "", ErrorKind::ResourceExhausted, true);
        check(503, "", ErrorKind::Unavailable, true);
        check(500, "", ErrorKind::Internal, true);
        let denied = refusal("list users", "roles/firebaseauth.viewer", 403, b"<html>").to_string();
        assert_eq!(denied, "could not list users: HTTP 403 ; it takes roles/firebaseauth.viewer");
    }
}
