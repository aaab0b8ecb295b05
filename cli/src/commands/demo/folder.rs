//! The folder of a demonstration: it never touches what it did not make.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{CliError, Result};

/// By this line the demo knows a folder of its own.
const MARK: &str = "This folder was made by `firebackup demo`, which empties it when it runs again.";
const ABOUT: &str = "about.txt";
const KEY: &str = "master.key";
const REPOSITORY: &str = "repository";

/// A folder that holds nothing but what this demonstration puts there.
#[derive(Debug)]
pub(super) struct DemoFolder {
    root: PathBuf,
    absolute: PathBuf,
}

impl DemoFolder {
    /// Makes the folder, or cleans one of an earlier demonstration.
    ///
    /// # Errors
    /// When it holds anything else, or cannot be made.
    pub(super) fn prepare(root: &Path) -> Result<Self> {
        let absolute = std::path::absolute(root).map_err(CliError::file("find the folder", root))?;
        let folder = Self { root: root.to_owned(), absolute };
        fs::create_dir_all(root).map_err(CliError::file("make the folder", root))?;
        if !folder.is_empty()? {
            folder.check_mark()?;
            folder.clean()?;
        }
        let about = format!("{MARK}\n\n{REPOSITORY}/  an encrypted backup repository\n{KEY}   the key that opens it\n");
        folder.write(ABOUT, &about)?;
        // so that a demonstration in a checkout is never committed
        folder.write(".gitignore", "*\n")?;
        Ok(folder)
    }

    /// The folder as the user named it.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the master key goes, as the user would name it.
    pub(super) fn key(&self) -> PathBuf {
        self.root.join(KEY)
    }

    /// Where the repository goes; absolute.
    pub(super) fn repository(&self) -> PathBuf {
        self.absolute.join(REPOSITORY)
    }

    fn is_empty(&self) -> Result<bool> {
        let mut entries = fs::read_dir(&self.root).map_err(CliError::file("read the folder", &self.root))?;
        Ok(entries.next().is_none())
    }

    fn check_mark(&self) -> Result<()> {
        let about = fs::read_to_string(self.root.join(ABOUT)).unwrap_or_default();
        if about.lines().next() == Some(MARK) {
            return Ok(());
        }
        Err(CliError::Refused(format!(
            "{} holds something that no demo put there: name another folder with --keep",
            self.root.display()
        )))
    }

    fn clean(&self) -> Result<()> {
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        };
        let (key, repository) = (self.key(), self.root.join(REPOSITORY));
        gone(fs::remove_dir_all(&repository)).map_err(CliError::file("remove", &repository))?;
        gone(fs::remove_file(&key)).map_err(CliError::file("remove", &key))
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.root.join(name);
        fs::write(&path, text).map_err(CliError::file("write", &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_demo_is_cleaned_and_anything_else_refused() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("demo");
        let folder = DemoFolder::prepare(&root).unwrap();
        fs::create_dir(folder.repository()).unwrap();
        fs::write(folder.repository().join("old"), "").unwrap();
        fs::write(folder.key(), "").unwrap();
        fs::write(root.join("mine.txt"), "kept").unwrap();
        DemoFolder::prepare(&root).unwrap();
        assert!(!folder.repository().exists() && !folder.key().exists());
        assert_eq!(fs::read_to_string(root.join("mine.txt")).unwrap(), "kept");

        let foreign = outer.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("thesis.txt"), "years of work").unwrap();
        assert!(DemoFolder::prepare(&foreign).is_err());
        assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1);
    }
}
