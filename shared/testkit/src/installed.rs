//! Where what tests need beside Rust was installed.

use std::path::{Path, PathBuf};

/// A file below the target folder that cargo was told, or the workspace's own; nothing where it is not there.
#[must_use]
pub fn installed(file: &str) -> Option<PathBuf> {
    let told = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    told.into_iter().chain([own]).map(|target| target.join(file)).find(|module| module.exists())
}
