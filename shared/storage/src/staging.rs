//! What writers that were killed leave beside the objects of a folder.
//!
//! An object is written under its name with `#` and a number behind it, and takes its name when it is whole. Such a file is
//! never listed as an object, and nobody goes on with it. (In a bucket the like are uploads that were never completed:
//! a lifecycle rule of the bucket removes those.)

use std::fs::{self, Metadata};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Files that were found, and unless it was a dry run removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Staging {
    /// How many.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Looks through the folders `names` of `root`, and removes what nobody has written to for `age`.
pub(crate) fn sweep(root: &Path, names: &[&str], age: Duration, dry_run: bool) -> io::Result<Staging> {
    let mut found = Staging::default();
    let now = SystemTime::now();
    let is_old = |meta: &Metadata| {
        // a clock that was set back makes a file look new, which is safe
        meta.modified().is_ok_and(|time| now.duration_since(time).is_ok_and(|passed| passed >= age))
    };
    let mut folders: Vec<_> = names.iter().map(|name| root.join(name)).collect();
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            // of a link the link itself is looked at: nothing outside the folder is touched
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if meta.is_dir() {
                folders.push(entry.path());
            } else if meta.is_file() && is_staging(&entry.file_name().to_string_lossy()) && is_old(&meta) {
                found.files += 1;
                found.bytes += meta.len();
                if !dry_run {
                    remove(&entry.path())?;
                }
            }
        }
    }
    Ok(found)
}

fn is_staging(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(object, number)| {
        !object.is_empty() && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Another prune may be faster.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn write(path: &Path, age: Duration) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "12345").unwrap();
        File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
    }

    #[test]
    fn only_what_is_old_and_was_never_finished_goes() {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let (old, young) = (root.join("runs/ab/x.run#1"), root.join("runs/ab/x.run#2"));
        let kept = ["runs/ab/x.run", "runs/ab/x.run#", "runs/ab/x.run#1a", "photos/cat#1", "note#1"];
        write(&old, DAY * 2);
        write(&young, Duration::ZERO);
        kept.iter().for_each(|name| write(&root.join(name), DAY * 2));

        let names = ["runs", "missing"];
        let one = Staging { files: 1, bytes: 5 };
        assert_eq!(sweep(root, &names, DAY, true).unwrap(), one);
        assert!(old.exists());
        assert_eq!(sweep(root, &names, DAY, false).unwrap(), one);
        assert!(!old.exists() && young.exists());
        assert_eq!(sweep(root, &names, Duration::ZERO, false).unwrap(), one);
        assert!(!young.exists());
        assert!(kept.iter().all(|name| root.join(name).exists()));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_leads_nowhere() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let other = elsewhere.path().join("x#1");
        write(&other, Duration::ZERO);
        fs::create_dir(folder.path().join("runs")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("runs/ab")).unwrap();
        assert_eq!(sweep(folder.path(), &["runs"], Duration::ZERO, false).unwrap(), Staging::default());
        assert!(other.exists());
    }
}
