//! What people get wrong, and what others plant: each mistake is named, with what to do, and harms nothing.

use std::fs;
use std::process::{Command, Output, Stdio};

use bytes::Bytes;
use firebackup_model::DocumentPath;
use firebackup_model::document::NAME_FIELD;
use firebackup_model::wire::put_bytes_field;
use firebackup_testkit::s3_server::S3Server;

use super::{Place, beside, ends, failure_kind, json_ends, shell, stderr, stdout};
use crate::binary::{MASTER_KEY, Program};
use crate::stage::{database, write_all};

/// The program with these arguments and no others, in the environment that it runs in elsewhere.
fn bare(program: &Program, arguments: &[&str]) -> Command {
    let like = program.command(&[]);
    let mut command = Command::new(like.get_program());
    command.args(arguments).env_clear().stdin(Stdio::null());
    command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

#[track_caller]
fn told(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    stderr(output)
}

#[test]
fn a_url_that_cannot_be_understood_is_bad_usage_and_a_folder_that_is_none_is_not() {
    let program = Program::new("127.0.0.1:1");
    for url in ["ftp://bucket/x", "s3://", "s3:bucket", "gs://bucket:9000/x", "s3://bucket//x", "file:backups"] {
        for line in [&["list"][..], &["init"]] {
            let output = bare(&program, &[line, &["--repo", url, "--json"]].concat()).output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{url}: {output:?}");
            let value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(failure_kind(&value), "usage", "{url}");
        }
    }
    let file = beside(&program, "file");
    fs::write(&file, "").unwrap();
    let text = told(&bare(&program, &["list", "--repo", &file]).output().unwrap(), 1);
    assert!(text.contains("is a file, not a folder"), "{text}");
    told(&bare(&program, &["list", "--repo", &beside(&program, "nothing")]).output().unwrap(), 5);
}

#[test]
fn a_project_that_is_none_is_not_one_of_which_nothing_is_captured() {
    let program = Program::new("127.0.0.1:1");
    let url = program.url();
    for command in ["status", "windows"] {
        let of = |project: &str| bare(&program, &["pitr", command, "--repo", &url, "--project", project]);
        for bad in ["BAD!", "1bad", "bad_id", "nope"] {
            let text = told(&of(bad).env_remove("FIRESTORE_EMULATOR_HOST").output().unwrap(), 2);
            assert!(text.contains(&format!("`{bad}` is no project id")), "{text}");
        }
        told(&of("another-app").env_remove("FIRESTORE_EMULATOR_HOST").output().unwrap(), 0);
        // an emulator takes any name
        told(&of("nope").output().unwrap(), 0);
    }
}

#[test]
fn times_that_are_none_or_lie_the_wrong_way_round_are_bad_usage() {
    let program = Program::new("127.0.0.1:1");
    let (early, late, leap) = ("2026-11-24T10:00:00Z", "2026-11-24T11:00:00Z", "2026-06-30T23:59:60Z");
    let fine = "2026-11-24T10:00:00.0000000001Z";
    let cases: [(&[&str], &str); 8] = [
        (&["diff", "--from", early], "--from and --to go together"),
        (&["diff", "--to", early], "--from and --to go together"),
        (&["diff", "--from", leap, "--to", "live"], "seconds go from 00 to 59"),
        (&["history", "users/a", "--from", late, "--to", early], "lies behind --to"),
        (&["history", "users/a", "--from", fine], "at most nine decimals"),
        (&["get", "users/a", "--at", leap], "seconds go from 00 to 59"),
        (&["get", "users/a", "--at", fine, "--reported"], "at most nine decimals"),
        (&["restore", "--at", leap], "seconds go from 00 to 59"),
    ];
    for (line, says) in cases {
        let text = told(&program.run(line), 2);
        assert!(text.contains(says), "{line:?}: {text}");
    }
    told(&program.run(&["pitr", "windows", "--moments", "--limit", "0"]), 2);
}

#[test]
fn a_folder_that_cannot_be_made_is_named_with_what_to_do() {
    let program = Program::new("127.0.0.1:1");
    let file = beside(&program, "file");
    fs::write(&file, "").unwrap();
    let mut folders = vec![format!("{file}/repository"), file];
    if cfg!(target_os = "linux") {
        folders.push("/proc/firebackup/repository".to_owned());
    }
    for folder in folders {
        let text = told(&bare(&program, &["init", "--repo", &folder]).output().unwrap(), 1);
        assert!(text.contains(&format!("could not make the folder {folder}: ")), "{text}");
        assert!(text.contains("what to do: choose a folder that this user may make and write"), "{text}");
    }
}

#[cfg(unix)]
#[test]
fn what_is_no_key_file_is_told_so_and_a_pipe_is_one() {
    use std::os::unix::fs::PermissionsExt;
    let program = Program::new("127.0.0.1:1");
    let folder = program.folder.path().display().to_string();
    let large = beside(&program, "large");
    fs::write(&large, "x".repeat(20_000)).unwrap();
    fs::set_permissions(&large, fs::Permissions::from_mode(0o600)).unwrap();
    for (file, says) in [
        (folder.as_str(), "is a folder, not a key file"),
        ("/dev/zero", "is not a regular file"),
        (large.as_str(), "is too large for a key file"),
    ] {
        for option in ["--master-key-file", "--recovery-key-file", "--signing-key-file"] {
            let text = told(&program.run(&["list", option, file]), 1);
            assert!(text.contains(says) && text.contains(file) && !text.contains("chmod"), "{text}");
        }
        let text = told(&program.run(&["list", "--passphrase-file", file]), 1);
        assert!(text.contains(&says.replace("key file", "passphrase file")), "{text}");
    }
    let list = format!("firebackup list --master-key-file /dev/stdin --repo '{}'", program.url());
    let piped = shell(&program, &format!("unset FIREBACKUP_MASTER_KEY; echo '{MASTER_KEY}' | {list}"));
    told(&piped, 0);
}

#[track_caller]
fn assert_harmless(text: &str) {
    assert!(!text.chars().any(|character| character.is_control() && character != '\n'), "{text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_quoted_never_steers_the_terminal() {
    let place = Place::with(20).await;
    let program = &place.program;
    ends(program, &["backup"], 0);
    let cases: [(&[&str], i32, &str); 6] = [
        (&["get", "users/\u{1b}[31m\nred"], 5, "`users/\\u{1b}[31m\\u{a}red`"),
        (&["export", "--document", "new\nline"], 2, "`new\\u{a}line`"),
        (&["show", "\u{9b}2J"], 5, "\\u{9b}2J"),
        (&["list", "--credentials\u{7}", "x"], 2, "--credentials\\u{7}"),
        (&["backup", "--compression", "\u{1b}[2J\nerror: none"], 2, "\\u{1b}[2J\\u{a}error: none"),
        (&["\u{202e}tsil"], 2, "\\u{202e}tsil"),
    ];
    for (line, code, says) in cases {
        let text = told(&program.run(line), code);
        assert!(text.contains(says), "{line:?}: {text:?}");
        assert_harmless(&text);
    }
    let warned = stderr(&program.run(&["backup", "--collection", "users", "--collection", "\u{1b}8x"]));
    assert!(warned.contains("warning: ") && warned.contains("`\\u{1b}8x`"), "{warned:?}");
    assert_harmless(&warned);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emulator_is_named_by_host_and_port_or_by_its_url() {
    let place = Place::with(5).await;
    let url = format!("http://{}/", place.emulator.host());
    let backup = place.program.command(&["backup"]).env("FIRESTORE_EMULATOR_HOST", url).output().unwrap();
    told(&backup, 0);
    for variable in ["FIRESTORE_EMULATOR_HOST", "FIREBASE_AUTH_EMULATOR_HOST"] {
        for bad in ["localhost", "https://localhost:8080", "localhost:8080/path"] {
            let output = place.program.command(&["backup"]).env(variable, bad).output().unwrap();
            let text = told(&output, 2);
            let says = format!("could not use {variable}: expected host:port, such as localhost:8080");
            assert!(text.contains(&says), "{text}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_written_is_told_on_standard_error() {
    let program = Program::new("127.0.0.1:1");
    let run = |arguments: &str| {
        shell(&program, &format!("firebackup {arguments} --repo '{}' --project demo-app > /dev/full", program.url()))
    };
    for arguments in ["list", "list --json"] {
        let text = told(&run(arguments), 1);
        assert!(text.contains("error: could not write the result") && text.contains("caused by: "), "{text}");
    }
    // what failed before is not lost with the document that should tell it
    let text = told(&run("show latest --json"), 5);
    assert!(text.contains("error: there is no snapshot"), "{text}");
    let text = told(&run("list --json --nonsense"), 2);
    assert!(text.contains("--nonsense"), "{text}");
}

fn without_fields(path: &str) -> (DocumentPath, Bytes) {
    let mut bytes = Vec::new();
    put_bytes_field(&mut bytes, NAME_FIELD, database().document_name(path).as_bytes());
    (DocumentPath::new(path).unwrap(), bytes.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_may_begin_with_a_dash_and_options_are_no_names() {
    let place = Place::with(10).await;
    let program = &place.program;
    write_all(&place.source, ["-dash/-x", "-dash/y", "--json2/z"].map(without_fields)).await;
    ends(program, &["backup"], 0);
    let lines = |arguments: &[&str]| stdout(&ends(program, &[&["export"][..], arguments].concat(), 0)).lines().count();
    assert_eq!(lines(&["--document", "-dash/-x"]), 1);
    assert_eq!(lines(&["--path", "-dash/*"]), 2);
    assert_eq!(lines(&["--collection", "--json2"]), 1);
    assert_eq!(lines(&["--collection=-dash", "--path", "-*/y"]), 1);
    assert_eq!(lines(&["--exclude", "-dash"]), 11);
    let get = format!("firebackup get --repo '{}' --project demo-app -- -dash/-x", program.url());
    assert!(told(&shell(program, &get), 0).contains("request"));

    for line in [&["backup", "--collection"][..], &["export", "--document"], &["restore", "--path"]] {
        let refused = json_ends(program, line, 2);
        assert_eq!(failure_kind(&refused), "usage", "{line:?}");
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(message.contains("a value is required") && message.contains(line[1]), "{line:?}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_whether_the_read_budget_is_enough() {
    let place = Place::with(60).await;
    let program = &place.program;
    for (max, stops, code) in [("30", true, 4), ("60", true, 4), ("61", false, 0)] {
        let line = ["backup", "--plan", "--max-reads", max];
        let plan = json_ends(program, &line, 0);
        assert_eq!(plan["stops_at_max_reads"], stops, "{max}: {plan:#}");
        let text = stdout(&ends(program, &line, 0));
        assert_eq!(text.contains("the backup would stop there"), stops, "{text}");
        assert_eq!(text.contains("61 are enough"), stops, "{text}");
        ends(program, &["backup", "--fresh", "--max-reads", max], code);
    }
    let plan = json_ends(program, &["backup", "--plan"], 0);
    assert!(plan["max_reads"].is_null() && plan["stops_at_max_reads"] == false, "{plan:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_is_told_in_plain_words() {
    const SECRET: &str = "planted-secret-of-a-store";
    let server = S3Server::start().await;
    let program = Program::new("127.0.0.1:1");
    let url = format!("s3://{}/backups", server.bucket());
    let list = |secret: &str| {
        let mut command = bare(&program, &["list", "--repo", &url, "--endpoint", server.endpoint()]);
        command.env("AWS_ACCESS_KEY_ID", server.access_key()).env("AWS_SECRET_ACCESS_KEY", secret);
        told(&command.output().unwrap(), 1)
    };
    let text = list(SECRET);
    for part in ["could not read `firebackup.json` in the repository", "the credentials were not accepted"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("what to do: ") && text.contains("AWS_SECRET_ACCESS_KEY"), "{text}");
    for part in [SECRET, "status code", "necessary privileges", server.endpoint()] {
        assert!(!text.contains(part), "{part}: {text}");
    }
    server.deny("GetObject");
    let text = list(server.secret_key());
    assert!(text.contains("the credentials do not allow it") && text.contains("rights"), "{text}");
}
