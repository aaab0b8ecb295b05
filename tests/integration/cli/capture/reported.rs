//! What events told of, as the program shows it and puts it back.

use std::sync::Arc;

use firebackup_codec::cloud_event::read_event;
use firebackup_codec::typed_json::write_json;
use firebackup_engine::{Repository, fold};
use firebackup_model::document::head;
use firebackup_model::reported::ReportedEvent;
use firebackup_storage::{Destination, DestinationSettings};

use super::*;
use crate::stage::{secrets, world};

const PATH: &str = "users/u03";

/// The document as it is now, and as an event tells of it.
async fn told(place: &Place, id: &str) -> (Bytes, ReportedEvent) {
    let document = read_all(&place.source).await.remove(&DocumentPath::new(PATH).unwrap()).unwrap();
    let mut json = Vec::new();
    write_json(&document, &mut json).unwrap();
    let source = format!("//firestore.googleapis.com/{}", database().resource());
    let time = head(&document).unwrap().update_time.unwrap().to_string();
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", id),
        ("ce-source", &source),
        ("ce-type", "google.cloud.firestore.document.v1.written"),
        ("ce-time", &time),
        ("ce-document", PATH),
        ("content-type", "application/json"),
    ];
    let body = format!(r#"{{"value":{}}}"#, String::from_utf8(json).unwrap());
    let event = read_event(headers.map(|(name, value)| (name, value.as_bytes())), body.as_bytes()).unwrap();
    (document, event)
}

/// The repository of the program, opened beside it.
async fn repository(program: &Program) -> Repository {
    let destination = Destination::open(&program.url(), &DestinationSettings::default()).unwrap();
    Repository::open(destination.store(), secrets(), world()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_between_two_points_is_shown_as_reported_and_put_back() {
    let place = Place::begun().await;
    once(&place.program, 0);
    put(&place.source, [(PATH.to_owned(), 700)]).await;
    let (document, event) = told(&place, "1").await;
    put(&place.source, [(PATH.to_owned(), 800)]).await;
    let (_, last) = told(&place, "2").await;
    let time = event.time.to_string();
    fold(&repository(&place.program).await, &database(), &[event, last], &Arc::default()).await.unwrap();

    let open = json_ends(&place.program, &["history", PATH], 0);
    assert_eq!((&open["versions"][0]["origin"], &open["versions"][0]["until"]), (&"reported".into(), &Value::Null));
    once(&place.program, 0);
    let closed = json_ends(&place.program, &["history", PATH], 0);
    let origins: Vec<_> = (0..3).map(|place| closed["versions"][place]["origin"].as_str().unwrap()).collect();
    assert_eq!(origins, ["captured", "reported", "snapshot"], "{closed:#}");
    let version = &closed["versions"][1];
    assert_eq!((version["time"].as_str(), &version["moment"]), (Some(time.as_str()), &Value::Null));
    assert!(version["until"].is_string(), "{version:#}");
    let command = version["restore_command"].as_str().unwrap();
    assert!(command.contains(&format!("--at {time} --reported --document {PATH}")), "{command}");

    let got = json_ends(&place.program, &["get", PATH, "--at", &time, "--reported"], 0);
    assert_eq!((&got["reported"], &got["document"]["fields"]["n"]["integerValue"]), (&true.into(), &"700".into()));
    let without = json_ends(&place.program, &["get", PATH, "--at", &time], 0);
    assert_eq!(without["document"]["fields"]["n"]["integerValue"], "3");

    let before = read_all(&place.source).await;
    let restored = json_ends(&place.program, &["restore", "--document", PATH, "--at", &time, "--reported", "--yes"], 0);
    assert_eq!(restored["documents"]["written"], 1, "{restored:#}");
    let after = read_all(&place.source).await;
    let path = DocumentPath::new(PATH).unwrap();
    let content = |bytes: &Bytes| firebackup_codec::canonical::canonical(bytes).unwrap();
    assert_eq!(content(&after[&path]), content(&document));
    assert_eq!(after.len(), before.len());
    json_ends(&place.program, &["restore", "--at", &time, "--reported", "--yes"], 2);
    json_ends(&place.program, &["verify", "--all"], 0);
    let undo = restored["documents"]["job"].as_str().unwrap();
    json_ends(&place.program, &["restore", "--undo", undo, "--yes"], 0);
    assert_eq!(content(&read_all(&place.source).await[&path]), content(&before[&path]));
}
