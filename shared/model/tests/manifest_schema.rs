//! The published schema is that of the code.

use firebackup_model::manifest::Manifest;

#[test]
fn the_published_schema_is_fresh() {
    let published: serde_json::Value =
        serde_json::from_str(include_str!("../../../docs/manifest.schema.json")).unwrap();
    let schema = serde_json::to_value(schemars::schema_for!(Manifest)).unwrap();
    assert_eq!(
        published, schema,
        "run `cargo run -p firebackup-model --example manifest_schema > docs/manifest.schema.json`"
    );
}
