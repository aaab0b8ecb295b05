//! The sample events below `events/`: each function reads all of its own.

use std::fmt::Display;
use std::fs;
use std::path::Path;

/// Hands the text of every sample event of `function` to `read`, which must take all of them but those named `refused`.
///
/// # Panics
/// When there is none, `read` refuses one that it must take, or takes one that it must refuse.
pub fn each<E: Display>(function: &str, refused: &[&str], read: impl Fn(&str) -> Result<(), E>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events").join(function);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("events/{function}: {error}"));
    let mut samples = 0;
    for entry in entries {
        let path = entry.unwrap_or_else(|error| panic!("events/{function}: {error}")).path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        match (read(&text), refused.contains(&name)) {
            (Ok(()), false) | (Err(_), true) => samples += 1,
            (Err(error), false) => panic!("{} is not read: {error}", path.display()),
            (Ok(()), true) => panic!("{} is read, and should be refused", path.display()),
        }
    }
    assert!(samples > 1, "events/{function} holds {samples} samples");
}
