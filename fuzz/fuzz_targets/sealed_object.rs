//! The reader of sealed objects, and of the JSON in them.
#![no_main]

use firebackup_codec::Sealing;
use firebackup_codec::object::{ObjectType, key_of, open};
use firebackup_fuzz::{MANIFEST_PATH, REPOSITORY, data_key, repair_object};
use firebackup_model::drill::{DrillBegun, DrillReport};
use firebackup_model::job::{Intent, Plan, Receipt, RestoreMark, UndoReceipt, UsersReceipt};
use firebackup_model::manifest::Manifest;
use firebackup_model::reported::ReportedManifest;
use libfuzzer_sys::fuzz_target;
use serde_json::from_slice;

/// Whether the JSON is what its type promises.
fn parses(kind: ObjectType, json: &[u8]) -> bool {
    match kind {
        ObjectType::Manifest => from_slice::<Manifest>(json).is_ok(),
        ObjectType::Plan => from_slice::<Plan>(json).is_ok(),
        ObjectType::Receipt => from_slice::<Receipt>(json).is_ok(),
        ObjectType::Intent => from_slice::<Intent>(json).is_ok(),
        ObjectType::UsersReceipt => from_slice::<UsersReceipt>(json).is_ok(),
        ObjectType::UndoReceipt => from_slice::<UndoReceipt>(json).is_ok(),
        ObjectType::RestoreMark => from_slice::<RestoreMark>(json).is_ok(),
        ObjectType::Reported => from_slice::<ReportedManifest>(json).is_ok(),
        ObjectType::Drill => from_slice::<DrillReport>(json).is_ok() || from_slice::<DrillBegun>(json).is_ok(),
        // their types are the engine's and control's own
        ObjectType::PruneMark | ObjectType::RestoreReceipt | ObjectType::AuditPart => true,
    }
}

fn read(bytes: &[u8], sealing: &Sealing) {
    let kind = match bytes.get(10) {
        Some(2) => ObjectType::Plan,
        Some(3) => ObjectType::Receipt,
        Some(4) => ObjectType::Intent,
        Some(5) => ObjectType::PruneMark,
        Some(6) => ObjectType::UsersReceipt,
        Some(7) => ObjectType::UndoReceipt,
        Some(8) => ObjectType::RestoreMark,
        Some(9) => ObjectType::RestoreReceipt,
        Some(10) => ObjectType::AuditPart,
        Some(11) => ObjectType::Reported,
        Some(12) => ObjectType::Drill,
        _ => ObjectType::Manifest,
    };
    if let Ok(opened) = open(kind, REPOSITORY, MANIFEST_PATH, sealing, bytes) {
        assert_eq!(key_of(bytes).ok(), Some(sealing.key_id()));
        let _ = parses(kind, &opened.json);
        let elsewhere = open(kind, REPOSITORY, "snapshots/elsewhere.manifest", sealing, bytes);
        assert!(elsewhere.is_err(), "an object opened at a path that it was not sealed for");
    }
}

fuzz_target!(|data: &[u8]| {
    read(data, &data_key());
    read(data, &Sealing::Plain);
    if let Some(repaired) = repair_object(data, MANIFEST_PATH) {
        read(&repaired, &Sealing::Plain);
    }
});
