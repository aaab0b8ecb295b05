//! The published schemas are those of the code.

use firebackup_model::drill::DrillReport;
use firebackup_model::manifest::Manifest;
use firebackup_model::reported::ReportedManifest;
use firebackup_model::segment::SegmentManifest;

fn is_fresh(published: &str, schema: &schemars::Schema) {
    let published: serde_json::Value = serde_json::from_str(published).unwrap();
    let schema = serde_json::to_value(schema).unwrap();
    assert_eq!(published, schema, "run `cargo run -p firebackup-model --example schemas`");
}

#[test]
fn the_published_schema_of_snapshots_is_fresh() {
    is_fresh(include_str!("../../../docs/manifest.schema.json"), &schemars::schema_for!(Manifest));
}

#[test]
fn the_published_schema_of_segments_is_fresh() {
    is_fresh(include_str!("../../../docs/segment.schema.json"), &schemars::schema_for!(SegmentManifest));
}

#[test]
fn the_published_schema_of_reported_versions_is_fresh() {
    is_fresh(include_str!("../../../docs/reported.schema.json"), &schemars::schema_for!(ReportedManifest));
}

#[test]
fn the_published_schema_of_reports_of_drills_is_fresh() {
    is_fresh(include_str!("../../../docs/drill.schema.json"), &schemars::schema_for!(DrillReport));
}
