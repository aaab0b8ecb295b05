//! The zips of the functions: two hold programs of their own, as they are deployed; of the others one program is every
//! function. All without their debug symbols.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::root;
use crate::binary::built;

/// Those with a program of their own.
const REAL: [&str; 2] = ["api", "backup-chunk"];
const OTHERS: [&str; 11] = [
    "schedule-trigger",
    "job-start",
    "backup-plan",
    "backup-finalize",
    "restore-plan",
    "restore-chunk",
    "restore-finalize",
    "maintenance",
    "notify",
    "realtime",
    "pitr-ingest",
];

/// Packs what is older than its program; gives the folder of all zips.
pub fn zips() -> PathBuf {
    let folder = built("bootstrap").parent().unwrap().join("stack-tests");
    fs::create_dir_all(&folder).unwrap();
    // tests are processes of their own, and one of them is enough to pack it
    let turn = File::create(folder.join("turn")).unwrap();
    turn.lock().unwrap();
    for function in REAL {
        pack_anew(&built(function), &folder.join(function));
    }
    let all = pack_anew(&built("bootstrap"), &folder.join("all"));
    for function in OTHERS {
        let zip = folder.join(function).join("bootstrap.zip");
        if !is_newer(&zip, &all) {
            fs::create_dir_all(zip.parent().unwrap()).unwrap();
            fs::copy(&all, &zip).unwrap();
        }
    }
    folder
}

fn pack_anew(program: &Path, folder: &Path) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let zip = folder.join("bootstrap.zip");
    if !is_newer(&zip, program) {
        pack(program, &folder.join("bootstrap"), &zip);
    }
    zip
}

fn is_newer(file: &Path, than: &Path) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|facts| facts.modified());
    changed(file).is_ok_and(|time| time > changed(than).unwrap())
}

fn pack(program: &Path, stripped: &Path, zip: &Path) {
    // smaller, and as good without
    let is_stripped = Command::new("strip").arg("-o").arg(stripped).arg(program).status();
    if !is_stripped.is_ok_and(|status| status.success()) {
        fs::copy(program, stripped).unwrap();
    }
    let script = "import sys, zipfile\n\
        with zipfile.ZipFile(sys.argv[1] + '.new', 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as made:\n\
        \x20   made.write(sys.argv[2], 'bootstrap')\n";
    let packed = Command::new(python()).args(["-c", script]).args([zip, stripped]).status().unwrap();
    assert!(packed.success(), "the program could not be packed");
    fs::rename(zip.with_extension("zip.new"), zip).unwrap();
}

/// The Python that `make target/sam/.installed` makes.
pub fn python() -> PathBuf {
    let told = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let targets = told.into_iter().chain([root().join("target")]);
    let found = targets.map(|target| target.join("sam/venv/bin/python")).find(|python| python.exists());
    found.expect("sam is not installed: run `make target/sam/.installed`")
}
