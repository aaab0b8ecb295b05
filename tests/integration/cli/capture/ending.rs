//! One capture a machine: a second one is refused, and the one that runs is ended by another command.

use std::collections::BTreeSet;

use super::{Capture, Place, put};
use crate::cli::{ends, failure_kind, json_ends, stderr, stdout};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_capture_is_refused_and_stop_ends_the_one_that_runs() {
    let place = Place::begun().await;
    let program = &place.program;
    let none = json_ends(program, &["pitr", "stop"], 5);
    assert_eq!(failure_kind(&none), "not_found");

    let capture = Capture::start(program, &["--follow", "--prove-every", "1s"]);
    capture.hears_event("started");
    let process = capture.child.id();
    let refused = ends(program, &["pitr", "start", "--once"], 1);
    assert!(stderr(&refused).contains(&format!("process {process}")), "{refused:?}");
    // of another database it is another one
    let other = program.run(&["pitr", "start", "--once", "--database", "other"]);
    assert_eq!(other.status.code(), Some(5), "{other:?}");
    assert_eq!(json_ends(program, &["pitr", "status"], 0)["process"], process);

    put(&place.source, [("users/u00".to_owned(), 100)]).await;
    let (time, _) = place.now().await;
    capture.proves(time);
    let stopped = json_ends(program, &["pitr", "stop"], 0);
    assert_eq!(stopped["process"], process);
    let rest = capture.ends(0);
    assert_eq!(rest.last().map(|event| &event["event"]), Some(&"stopped".into()), "{rest:#?}");
    json_ends(program, &["pitr", "stop"], 5);

    // what was killed leaves a process id that is nobody's, and keeps nobody from beginning
    let capture = Capture::start(program, &["--window", "1s"]);
    capture.hears_event("captured");
    capture.kill();
    json_ends(program, &["pitr", "stop"], 5);
    let capture = Capture::start(program, &["--window", "1s"]);
    capture.hears_event("captured");
    // asked between two windows
    super::signal(&capture.child, "-TERM");
    capture.ends(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_can_be_written_to_the_state_folder_changes_are_captured_all_the_same() {
    let place = Place::begun().await;
    let mut command = place.program.command(&["pitr", "start", "--once"]);
    // below a file no folder can be made
    let output = command.env("XDG_STATE_HOME", std::env::current_exe().unwrap()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = stderr(&output);
    assert!(said.contains("could not make the folder") && said.contains("will not find this capture"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_is_sealed_though_segments_are_damaged_and_cannot_be_merged() {
    let place = Place::begun().await;
    let program = &place.program;
    let runs = || program.objects().into_iter().filter(|path| path.starts_with("runs/")).collect::<BTreeSet<_>>();
    let window = |code| ends(program, &["pitr", "start", "--once", "--prove-every", "1s"], code);
    let (before, mut first) = (runs(), None);
    // with the next one they are eight
    for n in 100..107 {
        put(&place.source, [("users/u00".to_owned(), n)]).await;
        window(0);
        first = first.or_else(|| runs().difference(&before).next().cloned());
    }
    std::fs::remove_file(program.folder.path().join("repository").join(first.unwrap())).unwrap();
    put(&place.source, [("users/u00".to_owned(), 107)]).await;
    let output = window(3);
    assert!(stderr(&output).contains("segments could not be merged"), "{output:?}");
    let told = stdout(&output);
    assert!(told.contains("sealed ") && told.lines().last().unwrap().starts_with("stopped"), "{told}");
    // whoever needs what is gone is told what can be done
    let lost = json_ends(program, &["history", "users/u00"], 1);
    let hint = lost["error"]["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("from a copy") && hint.contains("firebackup pitr windows"), "{lost:#}");
}
