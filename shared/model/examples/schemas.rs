//! Writes the JSON schemas of manifests into `docs/`: `cargo run -p firebackup-model --example schemas`.

use std::path::Path;

use firebackup_model::drill::DrillReport;
use firebackup_model::manifest::Manifest;
use firebackup_model::reported::ReportedManifest;
use firebackup_model::segment::SegmentManifest;

fn main() -> std::io::Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let write = |name: &str, schema: &schemars::Schema| {
        let text = serde_json::to_string_pretty(schema).map_err(std::io::Error::other)?;
        std::fs::write(docs.join(name), text + "\n")
    };
    write("manifest.schema.json", &schemars::schema_for!(Manifest))?;
    write("segment.schema.json", &schemars::schema_for!(SegmentManifest))?;
    write("reported.schema.json", &schemars::schema_for!(ReportedManifest))?;
    write("drill.schema.json", &schemars::schema_for!(DrillReport))
}
