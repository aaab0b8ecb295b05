//! Writes the fixtures of this version anew: `cargo run -p firebackup-codec --example write_fixtures`. Those of a released
//! version never change; a new format gets a folder of its own.

#[path = "../tests/sample/mod.rs"]
mod sample;
#[path = "../tests/sample/fixtures.rs"]
mod written;

fn main() -> std::io::Result<()> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1");
    std::fs::create_dir_all(&folder)?;
    for (name, bytes) in written::files() {
        std::fs::write(folder.join(name), &bytes)?;
        println!("{name}: {} bytes", bytes.len());
    }
    Ok(())
}
