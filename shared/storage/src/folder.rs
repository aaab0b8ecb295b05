//! Repositories in a folder of this machine.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::path::Path;

use firebackup_model::{ErrorKind, PortError};
use object_store::local::LocalFileSystem;

use crate::error::{io_kind, port_error};

/// Opens the folder. Writes are synced before they return. Empty sub-folders stay behind deletions (removing them
/// would race with writers), so a listing with a delimiter may name prefixes without objects.
pub(crate) fn open(path: &Path) -> Result<LocalFileSystem, PortError> {
    const OPERATION: &str = "open the folder of the destination";
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            let message = format!("{} is a file, not a folder", path.display());
            return Err(PortError::new(ErrorKind::InvalidArgument, OPERATION, message));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let message = format!("there is no folder {}", path.display());
            return Err(PortError::new(ErrorKind::NotFound, OPERATION, message).with_source(error));
        }
        Err(error) => return Err(io_error(OPERATION, error)),
    }
    let store = LocalFileSystem::new_with_prefix(path).map_err(|error| port_error(OPERATION, error))?;
    Ok(store.with_fsync(true))
}

/// Makes the folder and what is missing above it, for this user only, and syncs the folders that hold the new ones.
pub(crate) fn create(path: &Path) -> Result<(), PortError> {
    let refused = |error| not_made(path, error);
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
    builder().create(path).map_err(refused)?;
    for folder in missing {
        folder.parent().map_or(Ok(()), sync).map_err(refused)?;
    }
    Ok(())
}

fn not_made(path: &Path, error: io::Error) -> PortError {
    let (kind, message) = match error.kind() {
        // a folder that is there already would be no error
        io::ErrorKind::AlreadyExists => (ErrorKind::InvalidArgument, "a file of this name is there"),
        // what is missing above it was to be made too, and could not be
        io::ErrorKind::NotFound => (ErrorKind::InvalidArgument, "no folder can be made there"),
        _ => io_kind(&error),
    };
    PortError::new(kind, format!("make the folder {}", path.display()), message).with_source(error)
}

fn builder() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

#[cfg(unix)]
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Elsewhere a directory cannot be opened as a file.
#[cfg(not(unix))]
fn sync(_: &Path) -> io::Result<()> {
    Ok(())
}

pub(crate) fn io_error(operation: &str, error: io::Error) -> PortError {
    let (kind, message) = io_kind(&error);
    PortError::new(kind, operation, message).with_source(error)
}
