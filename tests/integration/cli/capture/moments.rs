//! Captured all the time: whoever kills it, what was proven can be put back, looked into and compared, to the second.

use firebackup_model::{DocumentPath, Timestamp};
use serde_json::Value;

use super::{Capture, Place, behind, moment, put, remove};
use crate::cli::{ends, failure_kind, json_ends, shell, stderr, stdout};
use crate::stage::{Documents, assert_same, read_all};

const FOLLOW: [&str; 3] = ["--follow", "--prove-every", "1s"];

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Three states of a database, each with a point of it, captured by a process that is killed in between.
async fn captured(place: &Place) -> Vec<(Timestamp, Documents)> {
    let mut states = Vec::new();
    let capture = Capture::start(&place.program, &FOLLOW);
    capture.hears_event("started");
    remove(&place.source, "users/u07").await;
    put(&place.source, [("users/u00".to_owned(), 100), ("users/new".to_owned(), 1)]).await;
    let (first, documents) = place.now().await;
    states.push((capture.proves(first), documents));
    capture.kill();

    // nobody listens
    put(&place.source, [("users/u00".to_owned(), 101), ("late/1".to_owned(), 1)]).await;
    let (second, documents) = place.now().await;
    let capture = Capture::start(&place.program, &FOLLOW);
    states.push((capture.proves(second), documents));
    remove(&place.source, "users/u00").await;
    put(&place.source, [("users/u01".to_owned(), 100)]).await;
    let (third, documents) = place.now().await;
    states.push((capture.proves(third), documents));
    signal_and_end(capture);
    states
}

fn signal_and_end(capture: Capture) {
    super::signal(&capture.child, "-INT");
    let rest = capture.ends(0);
    assert_eq!(rest.last().map(|event| &event["event"]), Some(&"stopped".into()), "{rest:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_proven_moment_is_put_back_as_it_was_whoever_killed_the_capture() {
    let place = Place::begun().await;
    let program = &place.program;
    let states = captured(&place).await;
    let windows = json_ends(program, &["pitr", "windows"], 0);
    assert_eq!((windows["windows"].as_array().map(Vec::len), &windows["gaps"]), (Some(1), &serde_json::json!([])));
    for (place_of, name) in [(0, "first"), (1, "second"), (2, "third")] {
        let (point, documents) = &states[place_of];
        let at = &behind(*point);
        let line = ["restore", "--at", at, "--to-database", name];
        let dry = json_ends(program, &[&line[..], &["--dry-run"]].concat(), 0);
        assert_eq!(number(&dry["difference"]["totals"]["created"]), documents.len() as u64);
        assert_eq!(dry["asked"], at.as_str());
        let restored = json_ends(program, &line, 0);
        assert_eq!((moment(&restored["at"]), &restored["asked"]), (Some(*point), &at.as_str().into()));
        assert_same(&read_all(&place.of(name).await).await, documents);
        // a part of it, and for people
        let some = ["restore", "--at", at, "--to-database", "some", "--document", "users/u03", "--collection", "users"];
        let text = stdout(&ends(program, &some, 0));
        assert!(text.contains(&format!("{point}, ")) && text.contains(&format!(" before {at}")), "{text}");
        for dry_run in [&["--dry-run"][..], &[]] {
            let unfit = json_ends(program, &[&line[..], &["--collection", "nosuch"], dry_run].concat(), 5);
            let message = unfit["error"]["message"].as_str().unwrap();
            assert!(message.contains(&format!("as of {point} fits `nosuch`")), "{message}");
        }
    }
    assert_eq!(read_all(&place.of("some").await).await.len(), 1);
    assert_some_and_then_the_others(&place, &states).await;

    // a mirror into the database itself, and back again by the undo
    let before = read_all(&place.source).await;
    let (point, documents) = &states[0];
    let at = &behind(*point);
    let restored = json_ends(program, &["restore", "--at", at, "--mode", "mirror", "--yes"], 0);
    assert_same(&read_all(&place.source).await, documents);
    let undone = shell(program, restored["undo_command"].as_str().unwrap());
    assert_eq!(undone.status.code(), Some(0), "{undone:?}");
    assert_same(&read_all(&place.source).await, &before);

    let refused = json_ends(program, &["restore", "--at", at, "--exact", "--dry-run"], 1);
    assert!(refused["error"]["message"].as_str().unwrap().contains("no consistent point"), "{refused:#}");
    let early = json_ends(program, &["restore", "--at", "2020-01-01T00:00:00Z", "--dry-run"], 5);
    assert_eq!(failure_kind(&early), "not_found");
    // without a time zone it is no time; users that were never backed up cannot come along
    ends(program, &["restore", "--at", "2026-01-01T00:00:00"], 2);
    let users = json_ends(program, &["restore", "--at", at, "--include-auth", "--yes"], 5);
    assert!(users["error"]["message"].as_str().unwrap().contains("--include-auth"), "{users:#}");
}

/// Of one moment what fits globs, then of the next one what is not there yet.
async fn assert_some_and_then_the_others(place: &Place, states: &[(Timestamp, Documents)]) {
    let put_back = |point: Timestamp, how: &[&str]| {
        let at = behind(point);
        let line = ["restore", "--at", at.as_str(), "--to-database", "partly"];
        let restored = json_ends(&place.program, &[&line[..], how].concat(), 0);
        ["written", "skipped", "same"].map(|count| number(&restored["documents"][count]))
    };
    let [(first, of_first), (second, of_second), ..] = states else { panic!("there are no two moments") };
    let counts = put_back(*first, &["--path", "users/u0*", "--path", "users/*9"]);
    // all but the one that was gone by then; a star goes no deeper
    let fit = [0, 1, 2, 3, 4, 5, 6, 8, 9, 19].map(|n| DocumentPath::new(format!("users/u{n:02}")).unwrap());
    let mut expected: Documents = fit.into_iter().map(|path| (path.clone(), of_first[&path].clone())).collect();
    assert_eq!(counts, [10, 0, 0]);
    assert_same(&read_all(&place.of("partly").await).await, &expected);

    let counts = put_back(*second, &["--mode", "skip-existing"]);
    // one of the ten was written in between, and stays as it was
    assert_eq!(counts, [of_second.len() as u64 - 10, 1, 9]);
    for (path, document) in of_second {
        expected.entry(path.clone()).or_insert_with(|| document.clone());
    }
    assert_same(&read_all(&place.of("partly").await).await, &expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_listed_and_put_back_and_moments_are_compared() {
    let place = Place::begun().await;
    let program = &place.program;
    let states = captured(&place).await;
    let history = json_ends(program, &["history", "users/u00"], 0);
    let versions = history["versions"].as_array().unwrap();
    let told = |name: &str| versions.iter().map(|version| version[name].clone()).collect::<Vec<_>>();
    assert_eq!(told("change"), ["deleted", "updated", "updated", "created"], "{history:#}");
    assert_eq!(told("origin"), ["captured", "captured", "captured", "snapshot"]);
    let values: Vec<_> =
        versions.iter().map(|version| version["document"]["fields"]["n"]["integerValue"].as_str()).collect();
    assert_eq!(values, [None, Some("101"), Some("100"), Some("0")]);
    assert!(versions.iter().all(|version| moment(&version["moment"]).is_some()), "{history:#}");
    assert_eq!(versions[0]["restore_command"], Value::Null);
    assert!(
        number(&history["requests"]) > 0
            && number(&history["run_bytes_read"]) > 0
            && number(&history["runs_opened"]) > 2
    );

    // each command that is printed puts its version back
    for version in &versions[1..] {
        let restored = shell(program, &format!("{} --yes", version["restore_command"].as_str().unwrap()));
        assert_eq!(restored.status.code(), Some(0), "{restored:?}");
        let at = version["moment"].as_str().unwrap();
        let got = json_ends(program, &["get", "users/u00", "--at", at], 0);
        assert_eq!((&got["document"], &got["at"]), (&version["document"], &version["moment"]));
        let now = read_all(&place.source).await;
        let document = &now[&DocumentPath::new("users/u00").unwrap()];
        let expected = super::document("users/u00", values_of(version));
        let canonical = |bytes: &[u8]| firebackup_codec::canonical::canonical(bytes).unwrap();
        assert_eq!(canonical(document), canonical(&expected));
    }
    let text = stdout(&ends(program, &["history", "users/u00", "--limit", "2", "--show"], 0));
    assert!(text.contains("deleted") && text.contains("\"101\"") && text.contains("2 versions older"), "{text}");
    ends(program, &["history", "users/nobody"], 5);
    let (first, third) = (&states[0].0.to_string(), &states[2].0.to_string());
    let some = json_ends(program, &["history", "users/u00", "--from", first, "--to", third], 0);
    assert_eq!(some["versions"].as_array().map(Vec::len), Some(2), "{some:#}");
    assert_eq!(failure_kind(&json_ends(program, &["get", "users/u00", "--at", third], 5)), "not_found");

    let diff = json_ends(program, &["diff", "--from", first, "--to", third, "--documents"], 0);
    let totals = ["created", "updated", "deleted"].map(|name| number(&diff["totals"][name]));
    assert_eq!(totals, [1, 1, 1], "{diff:#}");
    let mixed = json_ends(program, &["diff", "latest", third], 0);
    let totals = ["created", "updated", "deleted"].map(|name| number(&mixed["totals"][name]));
    assert_eq!(totals, [2, 1, 2], "{mixed:#}");
    json_ends(program, &["diff", "--from", third, "--to", "live"], 0);
    ends(program, &["diff", "--from", first], 2);
    ends(program, &["diff", "live", "live"], 2);
    let denied = ends(program, &["pitr", "windows", "--limit", "3"], 2);
    assert!(stderr(&denied).contains("--moments"), "{denied:?}");
}

fn values_of(version: &Value) -> i64 {
    version["document"]["fields"]["n"]["integerValue"].as_str().unwrap().parse().unwrap()
}
