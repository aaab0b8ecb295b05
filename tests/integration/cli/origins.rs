//! Who wrote what is read: told where nobody can prove it, and which key is missing where another is needed.

use std::fs;
use std::process::Output;

use super::{Place, beside, ends, json_ends, stderr, stdout};
use crate::binary::Program;
use crate::stage::delete_all;

/// Runs without a key.
#[track_caller]
fn keyless(program: &Program, arguments: &[&str], code: i32) -> Output {
    let output = program.command(arguments).env_remove("FIREBACKUP_MASTER_KEY").output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    output
}

fn warnings(output: &Output) -> usize {
    stderr(output).matches(" is not proven: whoever can write to the destination may have made it").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_is_not_proven_is_told_once_by_whatever_uses_it() {
    let place = Place::with(20).await;
    let program = &place.program;
    ends(program, &["backup"], 0);
    for line in
        [&["get", "users/user-0000000"][..], &["export"], &["diff", "latest", "live"], &["restore", "--dry-run"]]
    {
        assert_eq!(warnings(&ends(program, line, 0)), 0, "the repository's key proves it: {line:?}");
    }
    assert!(!stdout(&ends(program, &["list"], 0)).contains("Origin"));

    fs::remove_dir_all(program.folder.path().join("repository")).unwrap();
    keyless(program, &["init", "--no-encryption"], 0);
    keyless(program, &["backup"], 0);
    for line in
        [&["get", "users/user-0000000"][..], &["export"], &["diff", "latest", "live"], &["restore", "--dry-run"]]
    {
        assert_eq!(warnings(&keyless(program, line, 0)), 1, "{line:?}");
    }
    delete_all(&place.source).await;
    let restored = keyless(program, &["restore", "--json"], 0);
    assert_eq!(warnings(&restored), 1, "{restored:?}");
    let report: serde_json::Value = serde_json::from_slice(&restored.stdout).unwrap();
    let job = report["documents"]["job"].as_str().unwrap();
    let undo = keyless(program, &["restore", "--undo", job, "--dry-run"], 0);
    assert!(warnings(&undo) == 1 && stderr(&undo).contains(&format!("the origin of {job}")), "{undo:?}");
    assert!(stdout(&keyless(program, &["list"], 0)).contains("\n\nOrigin not proven: "));
    for line in [&["list"][..], &["show"], &["verify"]] {
        let output = keyless(program, line, 0);
        assert!(warnings(&output) == 0 && stdout(&output).to_lowercase().contains("not proven"), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_writing_machine_sealed_is_not_damaged_and_the_missing_key_is_named() {
    let place = Place::with(20).await;
    let program = &place.program;
    let recovery = beside(program, "recovery.key");
    let made = json_ends(program, &["key", "generate", "--recovery", "--output", &recovery], 0);
    let public = made["public_key"].as_str().unwrap();
    ends(program, &["key", "add", "--new-recovery-public-key", public], 0);
    keyless(program, &["backup", "--recovery-public-key", public], 0);

    const HINT: &str = "it was written by a machine that holds only a recovery key: give --recovery-key-file too";
    let text = stdout(&ends(program, &["verify", "--all"], 3));
    assert!(text.contains(" cannot be opened with the keys given: ") && text.contains(HINT), "{text}");
    assert!(!text.contains("is damaged"), "{text}");
    let verified = json_ends(program, &["verify", "--all"], 3);
    assert_eq!(verified["damaged"][0]["error"]["hint"], HINT, "{verified:#}");
    let latest = json_ends(program, &["restore", "--dry-run"], 1);
    assert_eq!((&latest["error"]["kind"], &latest["error"]["hint"]), (&"unreadable".into(), &HINT.into()));
    keyless(program, &["verify", "--all", "--recovery-key-file", &recovery], 0);
}
