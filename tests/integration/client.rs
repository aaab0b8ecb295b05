//! A client in TypeScript: types are generated from `docs/openapi.json`, and a program that uses them is compiled.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use firebackup_testkit::installed;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Bodies may leave out what has a default, so a default makes no field of the types a must.
const GENERATE: [&str; 1] = ["--default-non-nullable=false"];
const COMPILE: &str = "--noEmit --strict --target es2022 --module esnext --moduleResolution bundler --lib es2022,dom";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn document() -> Value {
    serde_json::from_str(&fs::read_to_string(root().join("docs/openapi.json")).unwrap()).unwrap()
}

/// The program, beside the types of a document.
struct Client {
    modules: PathBuf,
    folder: TempDir,
}

impl Client {
    fn of(document: &Value) -> Self {
        let modules = installed("client/node_modules");
        let modules = modules.expect("no TypeScript is installed: run `make target/client/.installed`");
        // modules are looked for upwards from the program
        let folder = tempfile::tempdir_in(modules.parent().unwrap()).unwrap();
        fs::copy(root().join("tests/client/program.ts"), folder.path().join("program.ts")).unwrap();
        fs::write(folder.path().join("openapi.json"), document.to_string()).unwrap();
        Self { modules, folder }
    }

    fn run(&self, script: &str, arguments: &[&str]) -> Output {
        let mut node = Command::new("node");
        node.arg(self.modules.join(script)).args(arguments).current_dir(self.folder.path()).output().unwrap()
    }

    fn generate(&self) -> Output {
        let arguments = [&["openapi.json", "--output", "api.ts"], &GENERATE[..]].concat();
        self.run("openapi-typescript/bin/cli.js", &arguments)
    }

    fn compile(&self) -> Output {
        let arguments: Vec<&str> = COMPILE.split(' ').chain(["program.ts"]).collect();
        self.run("typescript/bin/tsc", &arguments)
    }
}

#[test]
fn a_generated_client_compiles() {
    let client = Client::of(&document());
    for output in [client.generate(), client.compile()] {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    }
}

#[test]
fn it_does_not_compile_against_another_api() {
    let mut other = document();
    let schemas = &mut other["components"]["schemas"];
    schemas["ErrorCode"]["enum"] = json!(["NO_SUCH_CODE"]);
    schemas["Meta"]["required"] = json!(["page", "limit"]);
    let client = Client::of(&other);
    assert!(client.generate().status.success());
    let output = client.compile();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success());
    for expect in ["TOO_MANY_JOBS", "Unused '@ts-expect-error'", "Argument of type 'true'"] {
        assert!(told.contains(expect), "{expect}: {told}");
    }
}

#[test]
fn no_types_come_of_a_document_that_names_what_is_not_there() {
    let mut broken = document();
    broken["components"]["schemas"].as_object_mut().unwrap().remove("Project");
    let output = Client::of(&broken).generate();
    assert!(!output.status.success(), "{output:?}");
}
