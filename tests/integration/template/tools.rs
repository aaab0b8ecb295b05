//! The checkers of AWS themselves. They are programs that `make target/sam/.installed` puts below `target/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::root;

fn program(name: &str) -> PathBuf {
    let found = root().join("target/sam/venv/bin").join(name);
    assert!(found.exists(), "{name} is not installed: run `make target/sam/.installed`");
    found
}

fn lint(template: &Path) -> Output {
    Command::new(program("cfn-lint")).arg(template).output().expect("cfn-lint can be run")
}

/// Without credentials, without a region of this machine's, and without a word to anybody.
fn validate(template: &Path) -> Output {
    Command::new(program("sam"))
        .args(["validate", "--lint", "--region", "us-east-1", "--template-file"])
        .arg(template)
        .env("SAM_CLI_TELEMETRY", "0")
        .env("AWS_ACCESS_KEY_ID", "none")
        .env("AWS_SECRET_ACCESS_KEY", "none")
        .output()
        .expect("sam can be run")
}

#[track_caller]
fn assert_passes(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// The template beside the state machines it names, with one word of it wrong.
fn broken(folder: &Path) -> PathBuf {
    let infra = root().join("infra");
    let text = fs::read_to_string(infra.join("template.yaml")).expect("the template can be read");
    let changed = text.replacen("BillingMode: PAY_PER_REQUEST", "BillingMode: PAY_PER_PROMISE", 1);
    assert_ne!(text, changed);
    let file = folder.join("template.yaml");
    fs::write(&file, changed).expect("a copy can be written");
    file
}

#[test]
fn cfn_lint_has_nothing_to_say() {
    assert_passes(&lint(&root().join("infra/template.yaml")));
    let folder = tempfile::tempdir().expect("a folder");
    assert!(!lint(&broken(folder.path())).status.success(), "cfn-lint takes a billing mode that there is not");
}

#[test]
fn sam_validates_the_template() {
    assert_passes(&validate(&root().join("infra/template.yaml")));
    let folder = tempfile::tempdir().expect("a folder");
    assert!(!validate(&broken(folder.path())).status.success(), "sam takes a billing mode that there is not");
}
