use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use firebackup_model::wire::put_bytes_field;
use proptest::prelude::*;

use super::*;
use crate::canonical::{Names, same_content};
use crate::document_generator::{Sample, Tree, nested, of_one_field, sample};
use crate::typed_json::write_json;

const TYPE: &str = "google.cloud.firestore.document.v1.";
const AT: &str = "2026-11-29T10:15:03.123456Z";

fn at(micros: i32) -> Option<(i64, i32)> {
    Some((1_795_947_303, micros * 1000))
}

fn document(n: i64, micros: i32) -> Sample {
    Sample { create_time: at(5), update_time: at(micros), ..of_one_field(Tree::Integer(n)) }
}

fn json_of(document: &[u8]) -> String {
    let mut json = Vec::new();
    write_json(document, &mut json).unwrap();
    String::from_utf8(json).unwrap()
}

/// An event as a test changes it before it is sent.
#[derive(Clone)]
struct Sent {
    attributes: Vec<(String, String)>,
    value: Option<Vec<u8>>,
    old_value: Option<Vec<u8>>,
}

impl Sent {
    fn new(told: &str, value: Option<Vec<u8>>, old_value: Option<Vec<u8>>) -> Self {
        let attributes = [
            ("specversion", "1.0"),
            ("id", "7d0cbd01-1"),
            ("source", "//firestore.googleapis.com/projects/p/databases/(default)"),
            ("type", &format!("{TYPE}{told}")),
            ("subject", "documents/users/a"),
            ("time", AT),
            ("project", "p"),
            ("database", "(default)"),
            ("namespace", "(default)"),
            ("location", "eur3"),
            ("document", "users/a"),
            ("authtype", "app_user"),
            ("authid", "somebody@example.com"),
        ];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { attributes, value, old_value }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.attributes.push((name.to_owned(), value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.attributes.retain(|(known, _)| known != name);
        self
    }

    fn protobuf(&self) -> Vec<u8> {
        let mut data = Vec::new();
        for (number, document) in [(1, &self.value), (2, &self.old_value)] {
            if let Some(document) = document {
                put_bytes_field(&mut data, number, document);
            }
        }
        put_bytes_field(&mut data, 3, b"\x0a\x01f");
        data
    }

    fn json(&self) -> String {
        let documents = [("value", &self.value), ("oldValue", &self.old_value)];
        let documents = documents.into_iter().filter_map(|(name, document)| Some((name, document.as_ref()?)));
        let members: String = documents.map(|(name, document)| format!(r#""{name}":{},"#, json_of(document))).collect();
        format!(r#"{{{members}"updateMask":{{"fieldPaths":["f"]}}}}"#)
    }

    fn binary(&self, content_type: &str, body: &[u8]) -> Result<ReportedEvent, EventError> {
        let encode = |value: &str| value.replace('%', "%25").replace('ü', "%C3%BC").replace(' ', "%20");
        let headers: Vec<_> =
            self.attributes.iter().map(|(name, value)| (format!("CE-{name}"), encode(value))).collect();
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let others = [("Content-Type", content_type.as_bytes()), ("x-any", b"\xff")];
        read_event(headers.chain(others), body)
    }

    fn structured(&self, content_type: Option<&str>, data: &str) -> Result<ReportedEvent, EventError> {
        let content_type = content_type.map(|kind| ("datacontenttype".to_owned(), kind.to_owned()));
        let attributes = self.attributes.iter().cloned().chain(content_type);
        let members: Vec<_> =
            attributes.map(|(name, value)| format!("{name:?}:{}", serde_json::to_string(&value).unwrap())).collect();
        let body = format!("{{{},{data}}}", members.join(","));
        read_event([("content-type", "application/cloudevents+json; charset=UTF-8".as_bytes())], body.as_bytes())
    }

    /// All ways in which it can be sent; those in protobuf first.
    fn ways(&self) -> [Result<ReportedEvent, EventError>; 6] {
        let (protobuf, json) = (self.protobuf(), self.json());
        let encoded = |bytes: &[u8]| format!(r#""data_base64":"{}""#, STANDARD.encode(bytes));
        [
            self.binary("application/protobuf", &protobuf),
            self.binary("application/x-protobuf; messageType=x", &protobuf),
            self.structured(Some("application/protobuf"), &encoded(&protobuf)),
            self.binary("Application/JSON; charset=utf-8", json.as_bytes()),
            self.structured(None, &format!(r#""data":{json}"#)),
            self.structured(Some("application/json"), &encoded(json.as_bytes())),
        ]
    }

    fn refused(&self) -> String {
        let texts: Vec<_> = self.ways().into_iter().map(|read| read.unwrap_err().to_string()).collect();
        assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
        assert!(!texts[0].contains("somebody"), "{texts:?}");
        texts[0].clone()
    }
}

fn update() -> Sent {
    Sent::new("updated", Some(document(2, 20).encode()), Some(document(1, 10).encode()))
}

#[test]
fn every_way_of_sending_says_the_same() {
    let event = ReportedEvent {
        id: "7d0cbd01-1".to_owned(),
        source: "//firestore.googleapis.com/projects/p/databases/(default)".to_owned(),
        database: DatabaseName::new("p", "(default)"),
        path: DocumentPath::new("users/a").unwrap(),
        time: AT.parse().unwrap(),
        change: ReportedChange::Put(ReportedDocument {
            document: document(2, 20).encode().into(),
            update_time: Timestamp::new(1_795_947_303, 20_000),
        }),
        before: Some(ReportedDocument {
            document: document(1, 10).encode().into(),
            update_time: Timestamp::new(1_795_947_303, 10_000),
        }),
    };
    for told in ["updated", "written", "updated.withAuthContext", "written.withAuthContext"] {
        for read in update().with("type", &format!("{TYPE}{told}")).ways() {
            assert_eq!(read.unwrap(), event);
        }
    }
}

#[test]
fn what_was_deleted_has_no_value_and_perhaps_nothing_but_its_name() {
    let old = Some(document(1, 10).encode());
    for told in ["deleted", "written", "deleted.withAuthContext"] {
        for read in Sent::new(told, None, old.clone()).ways() {
            let event = read.unwrap();
            assert_eq!((event.change, event.time), (ReportedChange::Gone, AT.parse().unwrap()));
            assert_eq!(event.before.unwrap().document, old.clone().unwrap());
        }
        let bare = Sent::new(told, None, None);
        for bare in [bare.clone(), bare.clone().without("document"), bare.without("subject")] {
            for read in bare.ways() {
                let event = read.unwrap();
                assert_eq!((event.path.as_str(), event.before), ("users/a", None));
            }
        }
        // an empty message is none
        let empty = Sent::new(told, None, old.clone()).structured(None, r#""data":{"value":{},"oldValue":null}"#);
        assert_eq!(empty.unwrap().change, ReportedChange::Gone);
        assert!(Sent::new(told, None, None).binary("application/protobuf", b"").is_ok());
    }
}

#[test]
fn a_document_keeps_its_bytes_whatever_they_hold() {
    // a field and a kind of value that came after this program, and a map entry out of order
    let mut document = document(2, 20).encode();
    put_bytes_field(&mut document, 99, b"later");
    put_bytes_field(&mut document, 2, b"\x0a\x01z\x12\x03\xaa\x01\x00");
    let sent = Sent::new("created", Some(document.clone()), None);
    let event = sent.binary("application/protobuf", &sent.protobuf()).unwrap();
    let ReportedChange::Put(put) = event.change else { panic!("{:?}", event.change) };
    assert_eq!(put.document, document);
    // in two pieces it is one message
    let mut pieces = Vec::new();
    put_bytes_field(&mut pieces, 1, &document[..document.len() - 7]);
    put_bytes_field(&mut pieces, 1, b"");
    assert!(sent.binary("application/protobuf", &pieces).is_err(), "a field cut in two");
    let mut pieces = Vec::new();
    put_bytes_field(&mut pieces, 1, &document);
    put_bytes_field(&mut pieces, 1, b"\x22\x02\x08\x05");
    let event = sent.binary("application/protobuf", &pieces).unwrap();
    let ReportedChange::Put(put) = event.change else { panic!("{:?}", event.change) };
    assert_eq!(put.update_time.seconds, 5);
}

#[test]
fn names_that_headers_cannot_hold_are_percent_encoded_and_some_senders_do_not() {
    let name = "users/ü 50%41";
    let full = format!("projects/p/databases/(default)/documents/{name}");
    let value = Sample { name: full, ..document(1, 10) }.encode();
    let sent = Sent::new("created", Some(value), None);
    let sent = sent.with("document", name).with("subject", &format!("documents/{name}"));
    for read in sent.ways() {
        assert_eq!(read.unwrap().path.as_str(), name);
    }
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "//firestore.googleapis.com/projects/p/databases/(default)"),
        ("ce-type", "google.cloud.firestore.document.v1.created"),
        ("ce-time", AT),
        ("ce-document", name),
        ("content-type", "application/protobuf"),
    ];
    let headers = headers.map(|(name, value)| (name, value.as_bytes()));
    assert_eq!(read_event(headers, &sent.protobuf()).unwrap().path.as_str(), name);
}

#[test]
fn what_contradicts_itself_is_refused() {
    let named = |name: &str| Sample { name: name.to_owned(), ..document(2, 20) }.encode();
    let old = || Some(document(1, 10).encode());
    let elsewhere = named("projects/p/databases/other/documents/users/a");
    let another = named("projects/p/databases/(default)/documents/users/b");
    let undated = Sample { update_time: None, ..document(2, 20) }.encode();
    for (sent, text) in [
        (update().without("id"), "the event has no id"),
        (update().with("id", ""), "the event has no id"),
        (update().without("time"), "the event has no time"),
        (update().with("time", "yesterday"), "the event's time is no RFC 3339 time"),
        (update().without("source"), "the event has no source"),
        (
            update().with("source", "//firestore.googleapis.com/projects/p"),
            "the event's source names no database of Firestore",
        ),
        (
            update().with("source", "//firestore.googleapis.com/projects/p/databases/d/e"),
            "the event's source names no database of Firestore",
        ),
        (update().with("specversion", "0.3"), "the event's specversion is not 1.0"),
        (update().with("project", "q"), "the event's project is not the one of its source"),
        (update().with("database", "other"), "the event's database is not the one of its source"),
        (update().with("document", "users/b"), "the event's document is another document than its data"),
        (update().with("subject", "users/a"), "the event's subject is another document than its data"),
        (Sent { value: Some(elsewhere), ..update() }, "the event's value is no document of the event's database"),
        (Sent { old_value: Some(another), ..update() }, "the event's old value is another document than its value"),
        (Sent { value: Some(undated), ..update() }, "the event's value does not say when it was written"),
        (Sent::new("updated", None, old()), "the event has no value"),
        (Sent::new("created", None, None), "the event has no value"),
        (Sent::new("deleted", old(), None), "the event's value is there, though the document was deleted"),
        (Sent::new("deleted", None, None).without("document").without("subject"), "the event has no document"),
        (Sent::new("deleted", None, None).with("document", "users"), "the event's document is no path of a document"),
    ] {
        assert_eq!(sent.refused(), text);
    }
    let unknown = update().with("type", "google.cloud.storage.object.v1.finalized").refused();
    assert!(unknown.contains("\"google.cloud.storage.object.v1.finalized\""), "{unknown}");
    for kind in ["", "created", "google.cloud.firestore.document.v1.", "google.cloud.firestore.document.v1.created.x"] {
        assert!(update().with("type", kind).refused().contains("type"), "{kind}");
    }
}

#[test]
fn what_is_no_event_at_all_is_refused() {
    let sent = update();
    let (json, protobuf) = (sent.json(), sent.protobuf());
    let text = |read: Result<ReportedEvent, EventError>| read.unwrap_err().to_string();
    assert!(text(sent.binary("text/plain", &protobuf)).contains("\"text/plain\""));
    let batch = read_event([("content-type", &b"application/cloudevents-batch+json"[..])], b"[]");
    assert!(text(batch).contains("one event at a time"));
    assert_eq!(text(read_event([], &protobuf)), "the event has no datacontenttype");
    assert_eq!(text(sent.binary("application/protobuf", b"\x0a\x05a")), "the event's data is malformed");
    assert_eq!(text(sent.binary("application/json", b"[]")), "the event's data is no json object");
    assert_eq!(text(sent.structured(None, r#""x":1"#)), "the event has no data");
    let both = format!(r#""data":{json},"data_base64":"{}""#, URL_SAFE_NO_PAD.encode(&json));
    assert_eq!(text(sent.structured(None, &both)), "the event's data stands twice");
    assert_eq!(text(sent.structured(None, r#""data":{},"data":{}"#)), "the event's data stands twice");
    assert_eq!(text(sent.structured(None, r#""data":{},"id":"2""#)), "the event's id stands twice");
    assert_eq!(text(sent.structured(None, r#""data_base64":"?""#)), "the event's data is no base64");
    assert_eq!(
        text(sent.clone().without("id").structured(None, r#""data":{},"id":2"#)),
        "the event's attributes must be text"
    );
    let said = sent.structured(Some("application/protobuf"), &format!(r#""data":{json}"#));
    assert_eq!(text(said), "the event's data is json, and said to be protobuf");
    let twice = r#""data":{"value":{},"value":{}}"#;
    assert_eq!(text(sent.structured(None, twice)), "the event's value stands twice");
    let unknown = r#""data":{"value":{"name":"a","fields":{"f":{"vectorValue":[]}}}}"#;
    assert_eq!(text(sent.structured(None, unknown)), "the event's value cannot be read");
    assert_eq!(
        text(sent.binary("application/json", &vec![b' '; MAX_EVENT + 1])),
        "the event's body has 67108865 bytes: at most 67108864 are read"
    );
    let long = "x".repeat(crate::limit::MAX_ATTRIBUTE + 1);
    assert!(text(sent.with("id", &long).binary("application/json", json.as_bytes())).starts_with("the event's id has"));
}

#[test]
fn depth_is_bounded_and_a_small_stack_is_enough() {
    let deep = |levels| {
        let value = Sample { update_time: at(20), ..of_one_field(nested(Tree::Null, levels)) };
        Sent::new("created", Some(value.encode()), None)
    };
    let check = move || {
        assert!(deep(63).ways().into_iter().all(|read| read.is_ok()));
        for json in ["[".repeat(1_000_000), r#"{"value":"#.repeat(100_000)] {
            assert!(deep(1).binary("application/json", json.as_bytes()).is_err());
            assert!(deep(1).structured(None, &format!(r#""data":{json}"#)).is_err());
        }
    };
    std::thread::Builder::new().stack_size(512 * 1024).spawn(check).unwrap().join().unwrap();
}

/// JSON has one NaN.
fn with_one_nan(sample: &Sample) -> Sample {
    let nan = |bits| if f64::from_bits(bits).is_nan() { f64::NAN.to_bits() } else { bits };
    sample.map(&mut |tree| match tree {
        Tree::Double(bits) => Tree::Double(nan(bits)),
        Tree::GeoPoint(latitude, longitude) => Tree::GeoPoint(nan(latitude), nan(longitude)),
        other => other,
    })
}

fn put_of(event: ReportedEvent) -> ReportedDocument {
    match event.change {
        ReportedChange::Put(document) => document,
        ReportedChange::Gone => panic!("it is there"),
    }
}

proptest! {
    #[test]
    fn any_document_comes_through_in_protobuf_as_it_is_and_in_json_as_the_same(sample in sample()) {
        let name = of_one_field(Tree::Null).name;
        let sample = Sample { name, update_time: at(20), ..with_one_nan(&sample) };
        let bytes = sample.encode();
        let ways = Sent::new("written", Some(bytes.clone()), None).ways();
        for (way, read) in ways.into_iter().enumerate() {
            let put = put_of(read.unwrap());
            prop_assert_eq!(put.update_time, Timestamp::new(1_795_947_303, 20_000));
            prop_assert_eq!(same_content(&put.document, &bytes, Names::Compare), Ok(true));
            if way < 3 {
                prop_assert_eq!(&put.document[..], &bytes[..]);
            } else {
                prop_assert_eq!(json_of(&put.document), json_of(&bytes));
            }
        }
    }

    #[test]
    fn rubbish_never_panics(bytes: Vec<u8>, text: String, at: prop::sample::Index, byte: u8) {
        let sent = update();
        let mut damaged = sent.protobuf();
        let place = at.index(damaged.len());
        damaged[place] = byte;
        for body in [&bytes[..], text.as_bytes(), &damaged, &damaged[..place]] {
            for content_type in ["application/protobuf", "application/json"] {
                let _ = sent.binary(content_type, body);
            }
            let _ = sent.structured(Some("application/protobuf"), &format!(r#""data_base64":"{}""#, STANDARD.encode(body)));
            let _ = read_event([("content-type", &b"application/cloudevents+json"[..])], body);
        }
        let _ = sent.with("document", &text).with("time", &text).binary("application/json", b"{}");
    }
}

/// A message of Pub/Sub that holds an event, wrapped.
fn wrapped(attributes: &[(String, String)], content_type: (&str, &str), data: &[u8]) -> String {
    let attributes = attributes.iter().map(|(name, value)| (format!("ce-{name}"), value.as_str()));
    let content_type = (content_type.0.to_owned(), content_type.1);
    let attributes: std::collections::BTreeMap<_, _> = attributes.chain([content_type]).collect();
    let message = serde_json::json!({"attributes": attributes, "data": STANDARD.encode(data), "messageId": "1"});
    serde_json::json!({"message": message, "subscription": "projects/p/subscriptions/s"}).to_string()
}

fn posted(content_type: &str, body: &str) -> Result<ReportedEvent, EventError> {
    read_posted([("content-type", content_type.as_bytes())], body.as_bytes())
}

#[test]
fn what_pubsub_wraps_is_read_as_what_was_published() {
    let sent = Sent::new("written", Some(document(2, 3).encode()), Some(document(1, 2).encode()));
    let expected = sent.binary("application/protobuf", &sent.protobuf()).unwrap();
    let (protobuf, json) = (sent.protobuf(), sent.json());
    for (content_type, data) in [
        (("Content-Type", "application/protobuf"), protobuf.as_slice()),
        (("ce-datacontenttype", "application/protobuf"), &protobuf),
        (("content-type", "application/json"), json.as_bytes()),
    ] {
        let body = wrapped(&sent.attributes, content_type, data);
        let read = posted("application/json", &body).unwrap();
        assert_eq!((&read.path, &read.id, read.time), (&expected.path, &expected.id, expected.time));
        if content_type.1 == "application/protobuf" {
            assert_eq!(read, expected);
        }
    }
    // an event within the message, with all its attributes
    let attributes: Vec<_> = sent.attributes.iter().map(|(name, value)| format!("{name:?}:{value:?}")).collect();
    let event = format!(r#"{{{},"data_base64":"{}"}}"#, attributes.join(","), STANDARD.encode(&protobuf));
    let event = event.replacen('{', r#"{"datacontenttype":"application/protobuf","#, 1);
    let body = wrapped(&[], ("content-type", "application/cloudevents+json"), event.as_bytes());
    assert_eq!(posted("application/json; charset=utf-8", &body).unwrap(), expected);
    // unwrapped, the attributes are headers beside a content type that is none
    let headers = sent.attributes.iter().map(|(name, value)| (format!("ce-{name}"), value.clone()));
    let own = ("ce-datacontenttype".to_owned(), "application/protobuf".to_owned());
    let headers: Vec<_> = headers.chain([own]).collect();
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let made_up = ("content-type", "application/octet-stream".as_bytes());
    assert_eq!(read_posted(headers.chain([made_up]), &protobuf).unwrap(), expected);
}

#[test]
fn attributes_of_a_message_are_encoded_in_no_way() {
    let path = "users/100%25";
    let sent = Sent::new("deleted", None, None).with("document", path).with("subject", &format!("documents/{path}"));
    let body = wrapped(&sent.attributes, ("content-type", "application/protobuf"), &[]);
    assert_eq!(posted("application/json", &body).unwrap().path.as_str(), path);
}

#[test]
fn what_only_looks_like_a_message_is_read_as_it_came() {
    let sent = Sent::new("written", Some(document(2, 3).encode()), None);
    // an event whose own data is json and has such a member
    let json = sent.json().replacen('{', r#"{"message":{"data":1},"#, 1);
    let headers: Vec<_> = sent.attributes.iter().map(|(name, value)| (format!("ce-{name}"), value.clone())).collect();
    let headers = || headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let content_type = ("content-type", "application/json".as_bytes());
    assert!(read_posted(headers().chain([content_type]), json.as_bytes()).is_ok());
    for (content_type, body) in [
        ("application/json", r#"{"message": 1}"#),
        ("application/json", r#"{"message": {"data": "not base64!", "attributes": {}}}"#),
        ("application/json", r#"{"message": {"data": "", "attributes": {"ce-id": 1}}}"#),
        ("application/json", r#"{"message": {}}"#),
        ("application/json", "[]"),
        ("application/json", ""),
        ("text/plain", r#"{"message": {}}"#),
    ] {
        assert!(posted(content_type, body).is_err(), "{body}");
    }
}

#[test]
fn what_is_kept_of_an_event_is_the_event_and_nothing_of_who_made_it() {
    for sent in [
        Sent::new("written", Some(document(2, 3).encode()), Some(document(1, 2).encode())),
        Sent::new("created", Some(document(2, 3).encode()), None),
        Sent::new("deleted", None, Some(document(1, 2).encode())),
        Sent::new("deleted", None, None),
    ] {
        for event in sent.ways() {
            let event = event.unwrap();
            let packed = pack(&event).unwrap();
            assert_eq!(unpack(&packed).unwrap(), event);
            assert!(!String::from_utf8(packed).unwrap().contains("somebody"));
        }
    }
    for broken in ["", "{}", "[]", r#"{"id":"1"}"#] {
        assert!(unpack(broken.as_bytes()).is_err());
    }
}
