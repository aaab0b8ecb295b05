//! The API as a fuzzer sees it: schemathesis sends a running server what the OpenAPI document allows and what it does
//! not, and holds every answer against the document.
//!
//! All checks run. What they are told beside the document, and why:
//!
//! - 502 is no failure of ours: a place or a project that was made up cannot be reached.
//! - 422 may answer what the schema allows: it says what no schema can, such as a time that must be to come. 400 may not,
//!   but where a cursor is taken: one that is no list's own cannot be told by its form.
//! - Parameters and headers that nobody knows are ignored, and not made: proxies and browsers add their own.
//! - `X-Organization-Id` is always the key's own. The tool finds no right value for a header that is optional and has a
//!   pattern, and everything else would end at it; wrong ones are tried in `shared/http/tests/http/roles.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use firebackup_testkit::installed;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::installation::{Installation, Server};
use crate::stage::emulator;

/// Operations that end what the others work with: the key, its role or the organization.
const EXCLUDED: [&str; 4] = ["delete_organization", "revoke_api_key", "sign_out", "update_organization"];
/// Of how many requests an operation gets at most, in each phase that draws them.
const EXAMPLES: &str = "8";
const SEED: &str = "1";

fn document() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Every operation of a document, by its id.
fn operations(document: &Value) -> Vec<(&str, &Value)> {
    let items = document["paths"].as_object().unwrap().values();
    let operations = items.flat_map(|item| item.as_object().unwrap().values());
    operations.map(|operation| (operation["operationId"].as_str().unwrap(), operation)).collect()
}

fn takes_cursor(operation: &Value) -> bool {
    operation["parameters"].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == "cursor"))
}

fn configuration(document: &Value) -> String {
    let operations = operations(document);
    let lists: Vec<&str> = operations.iter().filter(|(_, one)| takes_cursor(one)).map(|(id, _)| *id).collect();
    format!(
        r#"
[generation]
allow-extra-parameters = false

[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 502]

[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 422, 429, 502]

[[operations]]
include-operation-id = {}

[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", 400, 401, 403, 404, 409, 422, 429, 502]
"#,
        json!(lists)
    )
}

/// A server that has something to fuzz: a project, a destination and a backup.
struct Target {
    /// Outlives the server.
    _installation: Installation,
    _emulator: firebackup_embedded::emulator::Emulator,
    server: Server,
    key: String,
    organization: String,
}

impl Target {
    async fn new() -> Self {
        let emulator = emulator().await;
        let installation = Installation::new();
        let server = installation.start(&[]).await;
        let key = server.owner_key();
        let api = server.api(&key);
        let project = api.connect(emulator.host(), "demo-app").await;
        api.post("/storage/destinations", json!({"name": "folder", "url": installation.url()})).await;
        let backup = api.back_up(&project).await;
        api.ends(&format!("/backups/{project}/{backup}"), "completed").await;
        let organization = super::installation::id(&api.get("/organizations/current").await);
        Self { _installation: installation, _emulator: emulator, server, key, organization }
    }

    /// Holds the server against a document.
    fn fuzz(&self, document: &Value, arguments: &[&str]) -> Output {
        let folder = TempDir::new().unwrap();
        let (config, schema) = (folder.path().join("schemathesis.toml"), folder.path().join("openapi.json"));
        fs::write(&config, configuration(document)).unwrap();
        fs::write(&schema, document.to_string()).unwrap();
        let mut command = Command::new(program());
        command.current_dir(folder.path()).arg("--config-file").arg(config).arg("run").arg(schema);
        command.args(["--url", self.server.address().trim_end_matches("/api/v1")]);
        command.args(["--header", &format!("Authorization: Bearer {}", self.key)]);
        command.args(["--header", &format!("X-Organization-Id: {}", self.organization)]);
        command.args(["--seed", SEED, "--max-examples", EXAMPLES, "--no-shrink", "--generation-database", "none"]);
        command.args(["--continue-on-failure", "--no-color", "--warnings", "off"]).args(arguments);
        command.output().unwrap()
    }
}

fn program() -> PathBuf {
    let program = installed("schemathesis/venv/bin/schemathesis");
    program.expect("schemathesis is not installed: run `make target/schemathesis/.installed`")
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[tokio::test]
async fn no_request_is_answered_as_the_document_does_not_say() {
    let (target, document) = (Target::new().await, document());
    let excluded: Vec<&str> = EXCLUDED.iter().flat_map(|id| ["--exclude-operation-id", id]).collect();
    let output = target.fuzz(&document, &excluded);
    let told = told(&output);
    assert!(output.status.success(), "{told}");
    let tested = format!("Tested: {}", operations(&document).len() - EXCLUDED.len());
    assert!(told.contains(&tested), "{told}");
    assert_eq!(target.server.api(&target.key).get("/organizations/current").await["id"], target.organization);
}

#[tokio::test]
async fn an_answer_that_the_document_does_not_know_is_found() {
    let (target, mut document) = (Target::new().await, document());
    let answers = &mut document["paths"]["/api/v1/projects/{projectId}"]["get"]["responses"];
    answers.as_object_mut().unwrap().remove("404").unwrap();
    let output = target.fuzz(&document, &["--include-operation-id", "project"]);
    let told = told(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("Undocumented status code"), "{told}");
}
