//! One window at a time, on the emulator itself: it resets every listen, so that each window is a scan and a gap.

use firebackup_model::port::DocumentSource;
use serde_json::Value;

use super::{Capture, Place, behind, moment, once, put, remove};
use crate::binary::Program;
use crate::cli::{ends, failure_kind, json_ends, stderr, stdout};
use crate::stage::{assert_same, database, emulator, firestore, read_all};

#[tokio::test(flavor = "multi_thread")]
async fn on_the_emulator_a_window_is_a_scan_and_what_lies_before_it_is_a_gap() {
    let emulator = emulator().await;
    let source = firestore(emulator.host(), &database()).await;
    let program = Program::new(emulator.host());
    put(&source, (0..20).map(|n| (format!("users/u{n:02}"), n))).await;

    // nothing to begin from
    let refused = ends(&program, &["pitr", "start", "--once"], 5);
    assert!(stderr(&refused).contains("firebackup backup"), "{refused:?}");
    let refused = program.run(&["pitr", "start", "--once", "--json"]);
    assert_eq!(refused.status.code(), Some(5));
    let last: Value = serde_json::from_str(stdout(&refused).lines().last().unwrap()).unwrap();
    assert_eq!(failure_kind(&last), "not_found");
    assert_eq!(json_ends(&program, &["pitr", "status"], 0)["state"], "disabled");

    let backup = json_ends(&program, &["backup"], 0);
    let before = read_all(&source).await;
    put(&source, [("users/u00".to_owned(), 100), ("fresh/1".to_owned(), 1)]).await;
    remove(&source, "users/u07").await;
    let after = read_all(&source).await;
    let events = once(&program, 0);
    let (scanning, sealed) = (&events["scanning"], &events["sealed"]);
    assert!(scanning["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{scanning:#}");
    assert_eq!((&sealed["kind"], &sealed["puts"], &sealed["deletions"]), (&"compared".into(), &2.into(), &1.into()));
    let (backed_up, scanned) = (moment(&backup["read_times"][0]).unwrap(), moment(&sealed["point"]).unwrap());
    assert_eq!(events["captured"]["through"], sealed["point"]);
    assert!(!events.contains_key("error") && events.contains_key("stopped"), "{events:#?}");

    let windows = json_ends(&program, &["pitr", "windows", "--moments", "--limit", "1"], 0);
    assert_eq!(windows["windows"].as_array().map(Vec::len), Some(2), "{windows:#}");
    assert_eq!(windows["gaps"], serde_json::json!([{"after": backed_up, "until": scanned}]));
    assert_eq!((&windows["moments"], &windows["newest"]), (&2.into(), &serde_json::json!([scanned])));
    assert!(stdout(&ends(&program, &["pitr", "windows"], 0)).contains("NOTHING IS KNOWN BETWEEN"));
    let status = json_ends(&program, &["pitr", "status"], 0);
    let expected = ("active", 1, 3, 1, 1);
    let gaps = status["gaps"].as_array().map(Vec::len).unwrap();
    let number = |name: &str| status[name].as_u64().unwrap();
    let actual =
        (status["state"].as_str().unwrap(), number("segments"), number("changes"), number("scans_today"), gaps);
    assert_eq!(actual, expected, "{status:#}");
    assert_eq!((moment(&status["proven_through"]), &status["process"]), (Some(scanned), &Value::Null));

    // in the gap nothing is known, and both of its ends are
    let asked = behind(backed_up);
    let refused = json_ends(&program, &["restore", "--at", &asked, "--dry-run"], 1);
    assert_eq!(failure_kind(&refused), "refused");
    let text = refused["error"]["message"].as_str().unwrap();
    for part in ["lies in a gap", &backed_up.to_string(), &scanned.to_string(), "another window"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for (at, expected, name) in [(backed_up, &before, "first"), (scanned, &after, "second")] {
        let line = ["restore", "--at", &at.to_string(), "--exact", "--to-database", name];
        let restored = json_ends(&program, &line, 0);
        assert_eq!((moment(&restored["at"]), moment(&restored["asked"])), (Some(at), Some(at)));
        let target = firestore(emulator.host(), &firebackup_model::DatabaseName::new("demo-app", name)).await;
        assert_same(&read_all(&target).await, expected);
    }
    let history = json_ends(&program, &["history", "users/u00"], 0);
    let origins: Vec<_> = history["versions"].as_array().unwrap().iter().map(|version| &version["origin"]).collect();
    assert_eq!(origins, ["compared", "snapshot"], "{history:#}");
    assert!(source.snapshot_time().await.unwrap() > scanned);

    // a budget that is spent is said, and ends with 3
    put(&source, [("users/u00".to_owned(), 101)]).await;
    let output = program.run(&["pitr", "start", "--once", "--max-scans-a-day", "1", "--json"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(stdout(&output).contains(r#""event":"degraded""#), "{output:?}");

    // and by the status, as long as such a capture runs
    let capture = Capture::start(&program, &["--window", "1s", "--max-scans-a-day", "1"]);
    let told = capture.hears_event("degraded");
    let status = json_ends(&program, &["pitr", "status"], 0);
    assert_eq!(status["state"], "degraded", "{status:#}");
    assert_eq!((&status["degraded"]["reason"], moment(&told["lost_since"])), (&told["reason"], Some(scanned)));
    assert_eq!(moment(&status["degraded"]["lost_since"]), Some(scanned));
    let output = ends(&program, &["pitr", "status"], 0);
    let text = stdout(&output);
    assert!(text.contains("degraded: ") && text.contains(&format!("behind {scanned} are lost")), "{text}");
    json_ends(&program, &["pitr", "stop"], 0);
    capture.ends(0);
    let status = json_ends(&program, &["pitr", "status"], 0);
    assert!(status["state"] != "degraded" && status.get("degraded").is_none(), "{status:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_follow_one_another_through_failures_that_pass_and_end_with_those_that_do_not() {
    let place = Place::begun().await;
    let program = &place.program;
    let capture = Capture::start(program, &["--window", "1s"]);
    put(&place.source, [("users/u00".to_owned(), 100)]).await;
    let (first, _) = place.now().await;
    capture.proves(first);

    // the store is in trouble for a while
    let root = program.folder.path().join("repository");
    let (segments, away) = (root.join("segments"), root.join("away"));
    std::fs::rename(&segments, &away).unwrap();
    std::fs::write(&segments, "").unwrap();
    put(&place.source, [("users/u00".to_owned(), 101)]).await;
    let failed = capture.hears_event("failed");
    assert!(failed["next_try_seconds"].as_f64().is_some_and(|pause| pause > 0.0), "{failed:#}");
    std::fs::remove_file(&segments).unwrap();
    std::fs::rename(&away, &segments).unwrap();
    let (second, _) = place.now().await;
    capture.proves(second);
    let windows = json_ends(program, &["pitr", "windows"], 0);
    assert_eq!(windows["windows"].as_array().map(Vec::len), Some(1), "nothing was lost: {windows:#}");

    // a right that was taken away does not come back by itself
    let denied = tonic::Code::PermissionDenied;
    place.proxy.control().fail_every(firebackup_testkit::Method::BatchGetDocuments, 1, denied);
    let last = capture.ends(1).pop().unwrap();
    assert_eq!(failure_kind(&last), "permission_denied");
}
