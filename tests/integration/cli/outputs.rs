//! What every command prints: one JSON document with `--json`, help, completions.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::process::Command;

use serde_json::Value;

use super::{Place, beside, ends, failure_kind, json_ends, stdout};
use crate::binary::Program;
use crate::stage::{assert_same, read_all};

/// The commands that the help lists.
fn commands(program: &Program) -> BTreeSet<String> {
    let help = stdout(&ends(program, &["--help"], 0));
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| line.starts_with(' '));
    let named = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: BTreeSet<_> = named.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    names.into_iter().filter(|name| name != "help").collect()
}

/// Runs each line with `--json`; nothing but the document may stand on standard output, which `json_ends` sees to.
fn all_succeed(program: &Program, lines: &[&[&str]]) {
    for line in lines {
        let value = json_ends(program, line, 0);
        assert!(value.is_object() && value.get("error").is_none(), "{line:?}: {value:#}");
    }
}

/// A server prints its document when it listens, and nothing more until it is asked to end.
fn serve_prints_one(program: &Program) {
    let data = beside(program, "data");
    let mut child = program.command(&["serve", "--data", &data, "--listen", "127.0.0.1:0", "--json"]).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let told = serde_json::Deserializer::from_reader(&mut stdout).into_iter::<Value>().next().unwrap().unwrap();
    assert!(told["address"].is_string() && told.get("error").is_none(), "{told:#}");
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!((rest.trim(), child.wait().unwrap().code()), ("", Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_json_each_command_prints_exactly_one_document() {
    let place = Place::with(40).await;
    let program = &place.program;
    let before = read_all(&place.source).await;
    fs::remove_dir_all(program.folder.path().join("repository")).unwrap();
    let file = |name: &str| beside(program, name);
    let (demo, exported, extra, new) = (file("demo"), file("out.ndjson"), file("extra.key"), file("new.key"));
    let lines: &[&[&str]] = &[
        &["init"],
        &["key", "generate", "--output", &extra],
        &["key", "generate", "--output", &new],
        &["key", "generate", "--recovery", "--output", &file("recovery.key")],
        &["key", "generate", "--signing", "--output", &file("signing.key")],
        &["list"],
        &["jobs"],
        &["backup", "--plan"],
        &["backup"],
        &["show"],
        &["verify", "--all"],
        &["drill", "--scratch-emulator"],
        &["diff", "latest", "live", "--documents"],
        &["get", "users/user-0000000"],
        &["history", "users/user-0000000"],
        &["pitr", "status"],
        &["pitr", "windows", "--moments"],
        &["export", "--output", &exported],
        &["restore", "--dry-run"],
        &["restore"],
        &["prune", "--keep-last", "5"],
        &["key", "list"],
        &["key", "add", "--new-master-key-file", &extra],
        &["completions", "bash"],
        &["demo", "--documents", "20", "--keep", &demo],
        &["bench", "--documents", "60", "--rounds", "2", "--compression", "none", "--compression", "zstd:1"],
    ];
    all_succeed(program, lines);
    let holders = json_ends(program, &["key", "list"], 0);
    let last = holders["holders"].as_array().unwrap().last().unwrap()["wrap"].as_str().unwrap().to_owned();
    all_succeed(program, &[&["key", "remove", &last, "--yes"], &["list"]]);
    all_succeed(program, &[&["key", "rotate", "--new-master-key-file", &new, "--yes"]]);
    serve_prints_one(program);
    let seen: BTreeSet<String> = lines.iter().map(|line| line[0]).chain(["serve"]).map(str::to_owned).collect();
    assert_eq!(seen, commands(program), "each command stands in the list above");
    assert_same(&read_all(&place.source).await, &before);
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_tells_shares_of_the_bare_speed_and_touches_no_other_project() {
    let place = Place::with(30).await;
    let before = read_all(&place.source).await;
    let arguments = ["bench", "--documents", "700", "--rounds", "1", "--compression", "zstd:1"];
    let value = json_ends(&place.program, &arguments, 0);
    assert_eq!(value["server"]["host"].as_str(), Some(place.emulator.host()));
    assert_eq!(value["server"]["started_for_this"], false);
    assert_eq!((value["documents"].as_u64(), value["rounds"].as_u64()), (Some(700), Some(1)));
    let figures = value["figures"].as_array().unwrap();
    let names: Vec<_> = figures.iter().filter_map(|figure| figure["name"].as_str()).collect();
    assert_eq!(
        names,
        ["bare read", "backup, zstd:1", "bare write", "restore, empty database", "restore in place, with undo"]
    );
    for figure in figures {
        assert!(figure["documents_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{figure}");
        assert!(figure["megabytes_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{figure}");
        let is_bare = figure["name"].as_str().is_some_and(|name| name.starts_with("bare"));
        assert_eq!(figure["ratio_to_bare"].as_f64().is_some_and(|ratio| ratio > 0.0), !is_bare, "{figure}");
    }
    assert!(figures[1]["levels"]["zstd:1"].as_u64().is_some_and(|blocks| blocks > 0), "{value:#}");
    let text = stdout(&ends(&place.program, &arguments, 0));
    assert!(text.contains(place.emulator.host()) && text.contains("OF BARE"), "{text}");
    // update times too: nothing was even written again
    assert_eq!(read_all(&place.source).await, before);
}

#[test]
fn bench_without_an_emulator_refuses_whatever_project_and_credentials_are_there() {
    let program = Program::new("127.0.0.1:1");
    // no Java on the path: no emulator can be started
    let nothing = program.folder.path().join("nothing");
    fs::create_dir(&nothing).unwrap();
    let output = program
        .command(&["bench", "--documents", "10", "--database", "production", "--json"])
        .env_remove("FIRESTORE_EMULATOR_HOST")
        .env("GOOGLE_CLOUD_PROJECT", "production")
        .env("GOOGLE_APPLICATION_CREDENTIALS", nothing.join("service-account.json"))
        .env("PATH", &nothing)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(failure_kind(&told), "emulator", "{told:#}");
}

#[test]
fn a_failure_is_one_document_too() {
    let program = Program::new("127.0.0.1:1");
    for command in commands(&program) {
        assert_eq!(failure_kind(&json_ends(&program, &[&command, "--nonsense"], 2)), "usage", "{command}");
    }
    let export = json_ends(&program, &["export"], 2);
    assert_eq!(failure_kind(&export), "usage", "documents and a document cannot share standard output");
    fs::remove_dir_all(program.folder.path().join("repository")).unwrap();
    let new = beside(&program, "new.key");
    ends(&program, &["key", "generate", "--output", &new], 0);
    let output = beside(&program, "out.ndjson");
    let lines: &[&[&str]] = &[
        &["backup"],
        &["restore"],
        &["restore", "--dry-run"],
        &["list"],
        &["show"],
        &["verify"],
        &["diff", "latest", "live"],
        &["get", "a/b"],
        &["export", "--output", &output],
        &["prune"],
        &["jobs"],
        &["key", "list"],
        &["key", "add", "--new-master-key-file", &new],
        &["key", "remove", "00000000000000000000000000000000", "--yes"],
        &["key", "rotate", "--new-master-key-file", &new, "--yes"],
    ];
    for line in lines {
        assert_eq!(failure_kind(&json_ends(&program, line, 5)), "not_found", "{line:?}");
    }
}

#[test]
fn help_and_completions_are_there_for_every_command() {
    let program = Program::new("127.0.0.1:1");
    let commands = commands(&program);
    assert!(commands.len() > 10, "{commands:?}");
    let keys = ["generate", "list", "add", "remove", "rotate"].map(|command| vec!["key", command]);
    for line in commands.iter().map(|command| vec![command.as_str()]).chain(keys) {
        for flag in ["--help", "-h"] {
            let output = ends(&program, &[&line[..], &[flag]].concat(), 0);
            assert!(stdout(&output).contains("Usage: firebackup"), "{line:?}");
            assert!(output.stderr.is_empty(), "{line:?}: {output:?}");
        }
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&ends(&program, &["completions", shell], 0));
        for command in &commands {
            assert!(script.contains(command.as_str()), "{shell} does not complete {command}");
        }
    }
}

/// The long options that a help text lists, without those that every program has.
fn options(help: &str) -> BTreeSet<String> {
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let names = lines.filter_map(|line| line.split_whitespace().find(|word| word.starts_with("--")));
    // `--verbose...` can be repeated
    let names = names.map(|name| name.split([',', '=', '[', '.']).next().unwrap_or(name).to_owned());
    names.filter(|name| !["--help", "--version"].contains(&name.as_str())).collect()
}

#[test]
fn the_documentation_has_every_command_the_options_of_all_of_them_and_those_of_a_server() {
    let program = Program::new("127.0.0.1:1");
    let documentation = include_str!("../../../docs/cli.md");
    for command in commands(&program) {
        let is_there =
            [format!("| `{command}` |"), format!("| `{command} ")].iter().any(|row| documentation.contains(row));
        assert!(is_there, "{command} has no row in the table");
    }
    for line in [&["--help"][..], &["serve", "--help"]] {
        let options = options(&stdout(&ends(&program, line, 0)));
        assert!(options.contains("--json") && options.contains("--kms"), "{options:?}");
        for option in options {
            let is_there = documentation.match_indices(&option).any(|(at, _)| {
                let next = documentation[at + option.len()..].chars().next();
                next.is_none_or(|next| !next.is_ascii_alphanumeric() && next != '-')
            });
            assert!(is_there, "{option} of {line:?} is not told");
        }
    }
}
