//! Signatures of webhooks, proven by the specification's own library.
//!
//! It is a Node package that `make target/webhooks/.installed` puts below `target/`, run by `standard_webhooks.mjs` beside this
//! file. It takes what was signed within five minutes of this machine's clock.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::installed::installed;

const MODULE: &str = "webhooks/node_modules/standardwebhooks/dist/index.js";

/// Whether a receiver that holds `secret` takes what it was posted; else why not.
///
/// # Errors
/// What the library says.
///
/// # Panics
/// When the library is not installed.
pub fn prove<'h>(
    secret: &str,
    headers: impl IntoIterator<Item = (&'h str, &'h str)>,
    body: &str,
) -> Result<(), String> {
    let module = installed(MODULE).unwrap_or_else(|| {
        panic!("standardwebhooks is not installed: run `make target/webhooks/.installed`");
    });
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/standard_webhooks.mjs");
    let mut node = Command::new("node");
    let piped = node.arg(program).arg(module).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = piped.spawn().expect("node is needed");
    let headers: serde_json::Map<_, _> =
        headers.into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect();
    let input = json!({ "secret": secret, "headers": headers, "body": body }).to_string();
    let mut stdin = process.stdin.take().expect("its input is piped");
    stdin.write_all(input.as_bytes()).expect("it reads its input");
    drop(stdin);
    let output = process.wait_with_output().expect("it ends");
    match String::from_utf8_lossy(&output.stdout).trim() {
        "true" => Ok(()),
        said => Err(said.to_owned()),
    }
}
