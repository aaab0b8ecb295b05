//! `firebackup serve --demo`, which `make up` runs: what it prints is done as it stands there.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use firebackup_testkit::eventually;
use serde_json::Value;

use super::PATIENCE;
use super::installation::{Installation, Running};

/// The lines that it prints, up to the last one.
fn printed(running: &mut Running) -> Vec<String> {
    let lines = BufReader::new(running.child.stdout.take().unwrap()).lines();
    let mut printed = Vec::new();
    for line in lines.map_while(Result::ok) {
        let is_last = line.starts_with("Ctrl-C");
        printed.push(line);
        if is_last {
            break;
        }
    }
    printed
}

/// Runs a line as a shell does; its output must be JSON, where there is any.
async fn type_in(key: &str, line: &str) -> Value {
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).env("KEY", key).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || shell.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_demonstration_says_can_be_typed_in() {
    let installation = Installation::new();
    let mut command = installation.serve(&["--demo"]);
    // it starts an emulator of its own
    command.envs(
        ["CLOUDSDK_ROOT_DIR", "HOME", "JAVA_HOME"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))),
    );
    let mut running = Running { child: command.stderr(Stdio::inherit()).spawn().unwrap() };
    let (running, lines) = tokio::task::spawn_blocking(move || {
        let lines = printed(&mut running);
        (running, lines)
    })
    .await
    .unwrap();
    let found = |start: &str| lines.iter().find_map(|line| line.trim().strip_prefix(start)).map(str::trim);
    assert_eq!(lines.first().map(String::as_str), Some("FireBackup is running."), "{lines:#?}");
    let key = found("api key").and_then(|rest| rest.split_whitespace().next()).expect("a key is printed");
    let commands: Vec<&str> = lines.iter().map(|line| line.trim()).filter(|line| line.starts_with("curl")).collect();
    let [preview, destroy, restore, restores, schedule] = commands[..] else { panic!("{lines:#?}") };

    let held = type_in(key, preview).await;
    assert_eq!(held["success"], true, "{held:#}");
    type_in(key, destroy).await;
    let started = type_in(key, restore).await;
    assert_eq!(started["success"], true, "{started:#}");
    let done = eventually("the restore ends", PATIENCE, async || {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let list = type_in(key, restores).await;
        let restore = list["data"][0].clone();
        (restore["status"] != "pending" && restore["status"] != "running").then_some(restore)
    })
    .await;
    assert_eq!(done["status"], "completed", "{done:#}");
    assert!(done["result"]["documents"].as_u64() > Some(0), "it was all gone, and is back: {done:#}");
    let schedule = type_in(key, schedule).await;
    assert_eq!(schedule["data"]["nextRuns"].as_array().map(Vec::len), Some(5), "{schedule:#}");
    let (status, _) = running.terminate();
    assert!(status.success(), "{status:?}");
}
