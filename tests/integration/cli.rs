//! `firebackup` from end to end, as somebody types it: what it prints, how it ends, and what it leaves behind.

mod capture;
mod endings;
mod exporting;
mod increments;
mod keys;
mod mistakes;
mod origins;
mod outputs;
mod round_trip;
mod selecting;
mod stopping;
mod unfinished;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};

use firebackup_embedded::emulator::Emulator;
use firebackup_google::Firestore;
use firebackup_google::sample::sample;
use serde_json::Value;

use crate::binary::Program;
use crate::stage::{database, emulator, firestore, write_all};

/// An emulator with a few documents, and a repository for them.
struct Place {
    source: Firestore,
    program: Program,
    emulator: Emulator,
}

impl Place {
    /// A database with so many sample documents.
    async fn with(documents: usize) -> Self {
        let emulator = emulator().await;
        let source = firestore(emulator.host(), &database()).await;
        write_all(&source, sample(&database(), documents, 1)).await;
        Self { source, program: Program::new(emulator.host()), emulator }
    }
}

/// Runs, and expects the exit code.
#[track_caller]
fn ends(program: &Program, arguments: &[&str], code: i32) -> Output {
    let output = program.run(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    output
}

/// As [`ends`], with `--json`: the one document on standard output.
#[track_caller]
fn json_ends(program: &Program, arguments: &[&str], code: i32) -> Value {
    let (actual, value) = program.json(arguments);
    assert_eq!(actual, code, "{arguments:?}: {value:#}");
    value
}

/// Expects a failure as `--json` tells it, and returns its kind.
#[track_caller]
fn failure_kind(value: &Value) -> &str {
    let members: Vec<_> = value.as_object().unwrap().keys().collect();
    assert_eq!(members, ["error"], "{value:#}");
    let error = &value["error"];
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{value:#}");
    assert!(error["causes"].is_array(), "{value:#}");
    error["kind"].as_str().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Every object of the repository with its bytes.
fn disk(program: &Program) -> BTreeMap<String, Vec<u8>> {
    let root = program.folder.path().join("repository");
    let objects = program.objects().into_iter();
    objects.map(|object| (object.clone(), std::fs::read(root.join(object)).unwrap())).collect()
}

/// A file beside the repository, as an argument.
fn beside(program: &Program, name: &str) -> String {
    program.folder.path().join(name).display().to_string()
}

/// A shell that runs `script` in the environment that the program runs in, with the program found by its name.
fn shell(program: &Program, script: &str) -> Output {
    let like = program.command(&[]);
    let mut command = Command::new("sh");
    command.args(["-c", script]).env_clear();
    command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let folder = PathBuf::from(like.get_program()).parent().unwrap().to_owned();
    let path = std::env::join_paths(
        std::iter::once(folder).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    command.env("PATH", path.unwrap()).output().unwrap()
}
