//! A restore that was killed in the middle: what it replaced is verified, found, and named when it is damaged.

use std::fs;
use std::time::{Duration, Instant};

use firebackup_google::sample::sample;
use firebackup_testkit::{Method, Proxy, ProxyOptions};

use super::{ends, failure_kind, json_ends, stderr, stdout};
use crate::binary::Program;
use crate::stage::{assert_same, database, emulator, firestore, read_all, write_all};

/// How long writes are held up: as much time there is to kill the restore behind its undo.
const HELD_UP: Duration = Duration::from_secs(20);

/// Kills a restore when it has kept what it is about to replace; the job.
fn killed(program: &Program, proxy: &Proxy) -> String {
    proxy.control().delay(Method::BatchWrite, HELD_UP);
    let mut child = program.command(&["restore"]).spawn().unwrap();
    let started = Instant::now();
    let receipt = loop {
        let objects = program.objects();
        if let Some(receipt) = objects.into_iter().find(|path| path.contains("/undo/")) {
            break receipt;
        }
        assert!(started.elapsed() < HELD_UP, "nothing was kept");
        std::thread::sleep(Duration::from_millis(5));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    proxy.control().clear_faults();
    receipt.split('/').nth(1).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_restore_keeps_is_verified_and_its_damage_named() {
    let emulator = emulator().await;
    let source = firestore(emulator.host(), &database()).await;
    write_all(&source, sample(&database(), 60, 1)).await;
    let proxy = Proxy::start(emulator.host(), ProxyOptions::default()).await.unwrap();
    let program = Program::new(&proxy.host());
    ends(&program, &["backup"], 0);
    write_all(&source, sample(&database(), 60, 2)).await;
    let before = read_all(&source).await;
    let job = killed(&program, &proxy);

    let verified = json_ends(&program, &["verify", "--all"], 0);
    assert_eq!(verified["undos"][0]["job"], job.as_str(), "{verified:#}");
    assert!(verified["undos"][0]["records"].as_u64().is_some_and(|records| records > 0), "{verified:#}");
    let text = stdout(&ends(&program, &["verify", "--all"], 0));
    assert!(text.contains(&format!("{job}, which has not ended: ")), "{text}");

    let root = program.folder.path().join("repository");
    let receipt = program.objects().into_iter().find(|path| path.contains("/undo/")).unwrap();
    let plan = format!("receipts/{job}/plan");
    for object in [&receipt, &plan] {
        let whole = fs::read(root.join(object)).unwrap();
        fs::write(root.join(object), "rubbish").unwrap();
        let verified = json_ends(&program, &["verify", "--all"], 3);
        let damaged = &verified["damaged"];
        assert_eq!((damaged.as_array().map(Vec::len), &damaged[0]["snapshot"]), (Some(1), &job.clone().into()));
        assert!(damaged.to_string().contains(object.as_str()), "{verified:#}");
        let undo = json_ends(&program, &["restore", "--undo", &job, "--yes"], 1);
        assert_ne!(failure_kind(&undo), "not_found");
        assert!(undo["error"].to_string().contains(object.as_str()), "the damaged object is named: {undo:#}");
        fs::write(root.join(object), whole).unwrap();
    }
    ends(&program, &["restore", "--undo", &job, "--yes"], 0);
    assert_same(&read_all(&source).await, &before);
}

#[test]
fn what_lies_among_the_snapshots_and_is_none_is_told() {
    let program = Program::new("127.0.0.1:1");
    let folder = program.folder.path().join("repository/snapshots");
    fs::create_dir_all(&folder).unwrap();
    for line in [&["list"][..], &["verify", "--all"]] {
        assert_eq!(json_ends(&program, line, 0)["strangers"], serde_json::json!([]));
    }
    fs::write(folder.join("manifest.copy"), "").unwrap();
    for line in [&["list"][..], &["verify", "--all"]] {
        assert_eq!(json_ends(&program, line, 3)["strangers"].as_array().map(Vec::len), Some(1), "{line:?}");
        let text = stderr(&ends(&program, line, 3));
        assert!(text.contains("is no snapshot's name: it is not listed, and stops a prune"), "{text}");
    }
}
