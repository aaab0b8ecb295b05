//! Prints the OpenAPI document: `cargo run -p firebackup-http --example openapi > docs/openapi.json`.

fn main() -> Result<(), serde_json::Error> {
    println!("{}", firebackup_http::openapi().to_pretty_json()?);
    Ok(())
}
