//! `firebackup` itself, as users run it.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};
use tempfile::TempDir;

/// 32 bytes of `*`, in base64: the key of `stage::secrets`.
pub const MASTER_KEY: &str = "KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKio=";

/// `firebackup`, built if it is not up to date.
pub fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| built("firebackup"))
}

/// A program of the workspace, built if it is not up to date.
///
/// A test is named beside it, any small one: then cargo chooses the features that the tests are built with, and
/// `make test` has compiled all of it before, where `--bin` alone compiles three quarters of the dependencies anew,
/// within the time of one test. `arrows` holds that the two differ in nothing that matters.
pub fn built(name: &str) -> PathBuf {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["build", "--locked", "--workspace", "--bin", name, "--test", "schemas"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{name} could not be built");
    let executable = |line: &str| {
        let message = serde_json::from_str::<Value>(line).ok()?;
        let is_it = message["target"]["kind"] == json!(["bin"]) && message["target"]["name"] == name;
        is_it.then(|| message["executable"].as_str().map(PathBuf::from))?
    };
    String::from_utf8(output.stdout).unwrap().lines().find_map(executable).unwrap()
}

/// A repository in a folder, a database on an emulator, and the program that works on both.
pub struct Program {
    pub folder: TempDir,
    emulator: String,
}

impl Program {
    pub fn new(emulator: &str) -> Self {
        let program = Self { folder: tempfile::tempdir().unwrap(), emulator: emulator.to_owned() };
        assert_eq!(program.run(&["init"]).status.code(), Some(0));
        program
    }

    pub fn url(&self) -> String {
        format!("file://{}", self.folder.path().join("repository").display())
    }

    /// The command, with nothing of this process's environment that could change what it does.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).args(["--repo", &self.url(), "--project", "demo-app"]);
        command.env_clear().env("PATH", std::env::var("PATH").unwrap_or_default());
        command.env("FIRESTORE_EMULATOR_HOST", &self.emulator).env("FIREBACKUP_MASTER_KEY", MASTER_KEY);
        command.env("XDG_STATE_HOME", self.folder.path().join("state"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs with `--json`, and returns the exit code and the one document on standard output.
    pub fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self.run(&[arguments, &["--json"]].concat());
        let value = serde_json::from_slice(&output.stdout);
        let value = value.unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"));
        (output.status.code().unwrap_or(-1), value)
    }

    /// Objects in the repository, by path.
    pub fn objects(&self) -> Vec<String> {
        let root = self.folder.path().join("repository");
        let mut folders = vec![root.clone()];
        let mut objects = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    objects.push(path.strip_prefix(&root).unwrap().display().to_string());
                }
            }
        }
        // a killed writer's staging files (`name#1`) are no objects: they are never listed
        objects.retain(|path| !path.contains('#'));
        objects.sort();
        objects
    }
}
