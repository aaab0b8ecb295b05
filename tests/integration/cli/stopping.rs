//! Ended in the middle: by Ctrl-C, and by a disk that is full.

use std::io::Read;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use firebackup_google::sample::sample;
use firebackup_testkit::{Method, Proxy, ProxyOptions};

use super::{ends, json_ends, shell};
use crate::binary::Program;
use crate::stage::{database, emulator, firestore, write_all};

/// More than the stretch between two looks at whether somebody wants an end.
const DOCUMENTS: usize = 600;
/// How long a query is held up: as much time there is to send a signal before it.
const HELD_UP: Duration = Duration::from_secs(3);

/// Waits until something is so, within a bound.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(30), "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// As Ctrl-C does.
fn interrupt(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// Starts a command, and returns while the server holds its query up.
fn started(program: &Program, proxy: &Proxy, arguments: &[&str]) -> Child {
    proxy.control().reset_counts();
    proxy.control().delay(Method::RunQuery, HELD_UP);
    let child = program.command(arguments).spawn().unwrap();
    wait_until("a query", || proxy.control().counts().requests_of(Method::RunQuery) > 0);
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_stops_a_backup_at_a_safe_point_and_the_same_command_goes_on() {
    let emulator = emulator().await;
    write_all(&firestore(emulator.host(), &database()).await, sample(&database(), DOCUMENTS, 1)).await;
    let proxy = Proxy::start(emulator.host(), ProxyOptions::default()).await.unwrap();
    let program = Program::new(&proxy.host());

    let child = started(&program, &proxy, &["backup", "--json"]);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(super::failure_kind(&told), "stopped");
    proxy.control().clear_faults();
    assert_eq!(json_ends(&program, &["list"], 0)["snapshots"], serde_json::json!([]));
    let jobs = json_ends(&program, &["jobs"], 0);
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(1), "{jobs:#}");
    assert!(program.objects().iter().any(|path| path.starts_with("runs/")), "it was stopped in the middle");
    proxy.control().reset_counts();
    let done = json_ends(&program, &["backup"], 0);
    assert_eq!(done["resumed"], true, "{done:#}");
    assert_eq!(done["totals"]["documents"].as_u64(), Some(DOCUMENTS as u64));
    // what was read before is not read and billed again
    assert_eq!(done["reads"].as_u64(), Some(DOCUMENTS as u64));
    assert!(proxy.control().counts().documents_streamed < DOCUMENTS as u64);
    ends(&program, &["verify"], 0);
}

/// Ends a command with Ctrl-C twice; what it told on standard error and on standard output.
fn ended_by_two(mut child: Child) -> (String, String) {
    interrupt(&child);
    let mut stream = child.stderr.take().unwrap();
    let mut words = Vec::new();
    // the program says that it has heard, so that the second is a second one
    while !String::from_utf8_lossy(&words).contains("press Ctrl-C again") {
        let mut part = [0; 256];
        let length = stream.read(&mut part).unwrap();
        assert!(length > 0, "it ended without a word: {}", String::from_utf8_lossy(&words));
        words.extend_from_slice(&part[..length]);
    }
    let asked = Instant::now();
    interrupt(&child);
    stream.read_to_end(&mut words).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(asked.elapsed() < HELD_UP, "it did not wait for the server");
    (String::from_utf8(words).unwrap(), super::stdout(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_ctrl_c_ends_at_once_and_commands_without_safe_points_end_at_the_first() {
    let emulator = emulator().await;
    write_all(&firestore(emulator.host(), &database()).await, sample(&database(), 40, 1)).await;
    let proxy = Proxy::start(emulator.host(), ProxyOptions::default()).await.unwrap();
    let program = Program::new(&proxy.host());

    let (told, _) = ended_by_two(started(&program, &proxy, &["backup"]));
    assert!(told.contains("error: interrupted"), "{told}");
    // the loud way, for else nothing says that the first was heard
    let (_, told) = ended_by_two(started(&program, &proxy, &["backup", "--fresh", "--json", "-v"]));
    assert_eq!(super::failure_kind(&serde_json::from_str(&told).unwrap()), "interrupted");
    proxy.control().clear_faults();
    ends(&program, &["backup"], 0);
    ends(&program, &["verify", "--all"], 0);

    let child = started(&program, &proxy, &["diff", "latest", "live", "--json"]);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(super::failure_kind(&told), "interrupted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_the_backup_commits_nothing_and_leaves_it_to_go_on() {
    let place = super::Place::with(DOCUMENTS).await;
    let program = &place.program;
    let backup = format!("firebackup backup --compression none --project demo-app --repo '{}'", program.url());
    // no file may be larger than 256 blocks of 512 bytes or 1 KiB: keys and plans fit, a run of 600 KB does not
    for (disposition, code) in [("trap '' XFSZ; ", Some(1)), ("", None)] {
        let output = shell(program, &format!("{disposition}ulimit -c 0; ulimit -f 256; exec {backup}"));
        match code {
            // the system's refusal to write is an error like any other, and told
            Some(code) => {
                assert_eq!(output.status.code(), Some(code), "{output:?}");
                assert!(super::stderr(&output).to_lowercase().contains("too large"), "{output:?}");
            }
            // the system ends the process in the middle of a write
            None => assert!(!output.status.success(), "{output:?}"),
        }
        assert_eq!(json_ends(program, &["list"], 0)["snapshots"], serde_json::json!([]), "{disposition}");
    }
    let done = json_ends(program, &["backup", "--compression", "none"], 0);
    assert_eq!(done["totals"]["documents"].as_u64(), Some(DOCUMENTS as u64));
    ends(program, &["verify", "--all"], 0);
    json_ends(program, &["prune", "--exclusive"], 0);
    ends(program, &["verify", "--all"], 0);
    let left = program.objects();
    let others = left.iter().filter(|path| path.starts_with("intents/") || path.starts_with("receipts/"));
    assert_eq!(others.count(), 0, "{left:?}");
}
