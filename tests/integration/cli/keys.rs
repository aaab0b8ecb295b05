//! Who can open a repository, what is never said, and what a prune leaves alone.

use std::fs;
use std::process::Output;

use super::{Place, beside, disk, ends, failure_kind, json_ends, stdout};
use crate::binary::{MASTER_KEY, Program};

const PASSPHRASE: &str = "planted: correct horse battery staple";

/// Runs with no key in the environment but what `variables` says.
fn run_with(program: &Program, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = program.command(arguments);
    command.env_remove("FIREBACKUP_MASTER_KEY");
    command.envs(variables.iter().copied());
    command.output().unwrap()
}

#[track_caller]
fn ends_with(program: &Program, arguments: &[&str], variables: &[(&str, &str)], code: i32) -> Output {
    let output = run_with(program, arguments, variables);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    output
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_opens_nothing_and_old_backups_open_with_the_new_one() {
    let place = Place::with(40).await;
    let program = &place.program;
    ends(program, &["backup"], 0);
    let [phrase, new] = ["phrase", "new.key"].map(|name| beside(program, name));
    fs::write(&phrase, format!("{PASSPHRASE}\n")).unwrap();
    let runs = |program: &Program| {
        let mut objects = disk(program);
        objects.retain(|path, _| path.starts_with("runs/") || path.starts_with("snapshots/"));
        objects
    };
    let data = runs(program);
    let added = json_ends(program, &["key", "add", "--new-passphrase-file", &phrase], 0);
    assert_eq!(added["holders"].as_array().map(Vec::len), Some(2), "{added:#}");
    ends_with(program, &["verify", "--all"], &[("FIREBACKUP_PASSPHRASE", PASSPHRASE)], 0);
    ends_with(program, &["verify", "--all", "--passphrase-file", &phrase], &[], 0);
    ends_with(program, &["list"], &[("FIREBACKUP_PASSPHRASE", "another one")], 1);

    ends(program, &["key", "generate", "--output", &new], 0);
    let unasked = json_ends(program, &["key", "rotate", "--new-master-key-file", &new], 1);
    assert_eq!(failure_kind(&unasked), "refused", "without a terminal nobody can say yes");
    ends(program, &["list"], 0);
    let rotated = json_ends(program, &["key", "rotate", "--new-master-key-file", &new, "--yes"], 0);
    assert_eq!(rotated["removed"].as_array().map(Vec::len), Some(1), "{rotated:#}");
    assert_eq!(failure_kind(&json_ends(program, &["list"], 1)), "key");
    ends_with(program, &["verify", "--all", "--master-key-file", &new], &[], 0);
    ends_with(program, &["verify", "--all"], &[("FIREBACKUP_PASSPHRASE", PASSPHRASE)], 0);
    assert_eq!(runs(program), data, "data is never rewritten");
    ends_with(program, &["backup", "--fresh", "--master-key-file", &new], &[], 0);
    ends_with(program, &["verify", "--all"], &[("FIREBACKUP_PASSPHRASE", PASSPHRASE)], 0);
}

#[test]
fn who_opens_the_repository_already_is_not_added_again() {
    let program = Program::new("127.0.0.1:1");
    let [phrase, other, recovery] = ["phrase", "other.key", "recovery.key"].map(|name| beside(&program, name));
    fs::write(&phrase, PASSPHRASE).unwrap();
    ends(&program, &["key", "generate", "--output", &other], 0);
    let generated = json_ends(&program, &["key", "generate", "--recovery", "--output", &recovery], 0);
    let public = generated["public_key"].as_str().unwrap();
    for (option, value, holders) in [
        ("--new-master-key-file", other.as_str(), 2),
        ("--new-passphrase-file", phrase.as_str(), 3),
        ("--new-recovery-public-key", public, 4),
    ] {
        let line = ["key", "add", option, value];
        let added = json_ends(&program, &line, 0);
        assert!(added["added"].is_string(), "{added:#}");
        let before = disk(&program);
        let again = json_ends(&program, &line, 0);
        assert_eq!(again.get("added"), Some(&serde_json::Value::Null), "{again:#}");
        assert_eq!(again["holders"].as_array().map(Vec::len), Some(holders), "{again:#}");
        let text = stdout(&ends(&program, &line, 0));
        assert!(text.contains("already: nothing was changed"), "{text}");
        assert_eq!(disk(&program), before, "{option}");
    }
}

/// Runs a line in the loudest way, for people and as JSON, and keeps every word.
fn overheard(program: &Program, line: &[&str], words: &mut String) {
    for style in [&["-vvv"][..], &["-vvv", "--json"]] {
        let output = program
            .command(&[line, style].concat())
            .env("FIREBACKUP_PASSPHRASE", PASSPHRASE)
            .env("RUST_BACKTRACE", "1")
            .output()
            .unwrap();
        words.push_str(&format!("\n{line:?} {:?}\n", output.status.code()));
        words.push_str(&String::from_utf8_lossy(&output.stdout));
        words.push_str(&String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_says_a_secret() {
    let place = Place::with(20).await;
    let program = &place.program;
    let [phrase, new, bad] = ["phrase", "new.key", "bad.key"].map(|name| beside(program, name));
    fs::write(&phrase, PASSPHRASE).unwrap();
    // a key file that is cut short, as when it was copied by hand
    let cut = &MASTER_KEY[..MASTER_KEY.len() - 5];
    fs::write(&bad, cut).unwrap();
    ends(program, &["key", "add", "--new-passphrase-file", &phrase], 0);
    let lines: &[&[&str]] = &[
        &["init"],
        &["backup"],
        &["list"],
        &["show"],
        &["verify"],
        &["diff", "latest", "live"],
        &["get", "users/user-0000000"],
        &["export", "--collection", "products"],
        &["restore", "--dry-run"],
        &["restore"],
        &["prune", "--dry-run"],
        &["jobs"],
        &["key", "generate", "--output", &new],
        &["key", "list"],
        &["key", "add", "--new-passphrase-file", &phrase],
        &["key", "rotate", "--new-master-key-file", &bad],
        &["list", "--master-key-file", &bad],
        &["list", "--writer-key", "nonsense"],
        &["backup", "--plan"],
        &["completions", "bash"],
    ];
    let mut words = String::new();
    for line in lines {
        overheard(program, line, &mut words);
    }
    assert!(words.contains("DEBUG") && words.len() > 20_000, "logs were on: {} bytes", words.len());
    let generated = fs::read_to_string(&new).unwrap();
    for secret in [MASTER_KEY, cut, PASSPHRASE, generated.trim()] {
        let said = words.find(secret).map(|at| words[..at].lines().last().unwrap_or_default().to_owned());
        assert_eq!(said, None, "a secret stands in the output");
    }
    let is_stored = |secret: &str| {
        let holds = |bytes: &Vec<u8>| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        disk(program).values().any(holds)
    };
    for plain in [MASTER_KEY, PASSPHRASE, "users/user-0000000"] {
        assert!(!is_stored(plain), "{plain} stands in the repository");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_does_what_its_dry_run_said_and_the_dry_run_nothing() {
    let place = Place::with(30).await;
    let program = &place.program;
    let first = json_ends(program, &["backup", "--fresh"], 0);
    let second = json_ends(program, &["backup", "--fresh"], 0);
    let before = disk(program);
    let policy = ["prune", "--keep-last", "1", "--exclusive"];
    let dry = json_ends(program, &[&policy[..], &["--dry-run"]].concat(), 0);
    ends(program, &["prune", "--keep-last", "1", "--dry-run"], 0);
    assert_eq!(disk(program), before, "a dry run changes nothing");
    assert_eq!(dry["dropped"], serde_json::json!([first["id"]]));
    assert!(dry["deleted"].as_u64().is_some_and(|objects| objects >= 2), "{dry:#}");
    // the newest of whichever period is kept, and what any option keeps
    for period in ["--keep-daily", "--keep-weekly", "--keep-monthly", "--keep-yearly"] {
        let one = json_ends(program, &["prune", period, "1", "--exclusive", "--dry-run"], 0);
        assert_eq!(one, dry, "{period}");
        let both = json_ends(program, &["prune", period, "1", "--keep-last", "2", "--exclusive", "--dry-run"], 0);
        assert_eq!(both["dropped"], serde_json::json!([]), "{period}");
    }
    assert_eq!(disk(program), before, "a dry run changes nothing");
    assert_eq!(json_ends(program, &policy, 0), dry);
    let after = disk(program);
    assert!(after.len() < before.len() && after.iter().all(|(path, bytes)| before.get(path) == Some(bytes)));
    let left = json_ends(program, &["list"], 0);
    assert_eq!(left["snapshots"].as_array().map(Vec::len), Some(1));
    assert_eq!(left["snapshots"][0]["id"], second["id"]);
    ends(program, &["verify", "--all"], 0);
}
