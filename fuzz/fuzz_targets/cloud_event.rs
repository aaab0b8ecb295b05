//! Events of Firestore: whatever is posted is refused or read, in each content mode; what was read is a document of its database.
#![no_main]

use firebackup_codec::cloud_event::read_event;
use firebackup_model::document::head;
use firebackup_model::reported::ReportedChange;
use libfuzzer_sys::fuzz_target;

const ATTRIBUTES: [(&str, &[u8]); 5] = [
    ("ce-specversion", b"1.0"),
    ("ce-id", b"1"),
    ("ce-source", b"//firestore.googleapis.com/projects/p/databases/(default)"),
    ("ce-type", b"google.cloud.firestore.document.v1.written"),
    ("ce-time", b"2026-11-29T10:15:03Z"),
];

fuzz_target!(|data: &[u8]| {
    for content_type in ["application/protobuf", "application/json", "application/cloudevents+json"] {
        let headers = ATTRIBUTES.into_iter().chain([("content-type", content_type.as_bytes())]);
        let Ok(event) = read_event(headers, data) else { continue };
        if let ReportedChange::Put(put) = event.change {
            let head = head(&put.document).expect("what was read is a document");
            assert_eq!(event.database.relative(head.name), Some(event.path.as_str()));
        }
    }
});
