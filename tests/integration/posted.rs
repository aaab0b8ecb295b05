//! Events of changes as senders post them: made by hand, after Google's descriptions of them.

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use firebackup_codec::typed_json::read_json;
use firebackup_model::Timestamp;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::stage::database;

/// An issuer's client that has tokens made.
pub const CLIENT: (&str, &str) = ("firebackup-test", "planted-client-secret");
pub const ACCOUNT: &str = "events@demo-app.iam.gserviceaccount.com";
pub const AUDIENCE: &str = "https://backup.example/events";
/// Stands in documents and in who has written them.
pub const PLANTED: &str = "planted-in-a-document";
pub const PATH: &str = "users/reported";

/// A request that holds an event.
pub struct Request {
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Posts an event with its proof; the status, and what was answered.
pub async fn post(client: &reqwest::Client, url: &str, proof: &[(String, String)], request: Request) -> (u16, Value) {
    let headers = proof
        .iter()
        .chain(&request.headers)
        .map(|(name, value)| (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap()));
    let call = client.post(url).headers(headers.collect::<HeaderMap>()).body(request.body);
    let answer = call.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// What proves a body to whoever knows the secret, after Standard Webhooks.
pub fn signed(secret: &str, at: Timestamp, body: &[u8]) -> Vec<(String, String)> {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("msg_1.{}.", at.seconds).as_bytes());
    mac.update(body);
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    [
        ("webhook-id", "msg_1".to_owned()),
        ("webhook-timestamp", at.seconds.to_string()),
        ("webhook-signature", signature),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// The second that it is.
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::new(since.as_secs() as i64, 0)
}

/// What an event tells: the document with this number, written so many seconds behind the first event that was made.
///
/// One start for all: no two versions of a document have one time, however long it takes to post them.
pub fn document(n: i64) -> String {
    static START: OnceLock<Timestamp> = OnceLock::new();
    let (name, at) = (database().document_name(PATH), START.get_or_init(now).plus_seconds(n));
    json!({
        "name": name, "createTime": at, "updateTime": at,
        "fields": {"n": {"integerValue": n.to_string()}, "text": {"stringValue": PLANTED}},
    })
    .to_string()
}

fn attributes(id: &str) -> Vec<(String, String)> {
    [
        ("specversion", "1.0"),
        ("id", id),
        ("source", "//firestore.googleapis.com/projects/demo-app/databases/(default)"),
        ("type", "google.cloud.firestore.document.v1.written.withAuthContext"),
        ("time", &now().to_string()),
        ("document", PATH),
        ("authtype", "app_user"),
        ("authid", PLANTED),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

fn as_headers(attributes: &[(String, String)], content_type: &str) -> Vec<(String, String)> {
    let headers = attributes.iter().map(|(name, value)| (format!("ce-{name}"), value.clone()));
    headers.chain([("content-type".to_owned(), content_type.to_owned())]).collect()
}

fn protobuf(document: &str) -> Vec<u8> {
    let mut data = Vec::new();
    firebackup_model::wire::put_bytes_field(&mut data, 1, &read_json(document).unwrap());
    data
}

/// The event `id` that tells of number `n`, in one of six forms.
pub fn event(form: usize, id: &str, n: i64) -> Request {
    let (attributes, document) = (attributes(id), document(n));
    let (protobuf, json) = (protobuf(&document), format!(r#"{{"value":{document}}}"#));
    let structured = |data: (&str, Value), kind: &str| {
        let mut event = json!({data.0: data.1, "datacontenttype": kind});
        attributes.iter().for_each(|(name, value)| event[name] = value.as_str().into());
        let headers = vec![("content-type".to_owned(), "application/cloudevents+json".to_owned())];
        Request { headers, body: event.to_string().into_bytes() }
    };
    match form {
        0 => Request { headers: as_headers(&attributes, "application/protobuf"), body: protobuf },
        1 => Request { headers: as_headers(&attributes, "application/json"), body: json.into_bytes() },
        2 => structured(("data_base64", STANDARD.encode(&protobuf).into()), "application/protobuf"),
        3 => structured(("data", serde_json::from_str(&json).unwrap()), "application/json"),
        4 => {
            let attributes: serde_json::Map<_, _> = as_headers(&attributes, "application/protobuf")
                .into_iter()
                .map(|(name, value)| (name, value.into()))
                .collect();
            let message = json!({"attributes": attributes, "data": STANDARD.encode(&protobuf), "messageId": "1"});
            let body = json!({"message": message, "subscription": "projects/demo-app/subscriptions/s"}).to_string();
            Request {
                headers: vec![("content-type".to_owned(), "application/json".to_owned())],
                body: body.into_bytes(),
            }
        }
        _ => {
            let mut headers = as_headers(&attributes, "application/octet-stream");
            headers.push(("ce-datacontenttype".to_owned(), "application/protobuf".to_owned()));
            Request { headers, body: protobuf }
        }
    }
}
