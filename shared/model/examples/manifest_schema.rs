//! Prints the JSON schema of manifests: `cargo run -p firebackup-model --example manifest_schema > docs/manifest.schema.json`.

use firebackup_model::manifest::Manifest;

fn main() -> Result<(), serde_json::Error> {
    let schema = schemars::schema_for!(Manifest);
    println!("{}", serde_json::to_string_pretty(&schema)?);
    Ok(())
}
