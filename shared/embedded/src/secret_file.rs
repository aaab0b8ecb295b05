//! Small files that hold a secret as text: whatever a path names, no more than a bound is read of it.

use std::fs::{self, File, FileType};
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

/// The most that is read, in bytes: a key or a passphrase, with room for comments.
const MAX_BYTES: usize = 16 * 1024;

/// Reads all of a file, which errors call `what` (`passphrase file`). The text is wiped when dropped.
///
/// # Errors
/// When it cannot be read, is a folder or a device, has more than 16 KiB, or is not UTF-8. None of its text is shown.
pub fn read(path: &Path, what: &str) -> io::Result<Zeroizing<String>> {
    read_open(open(path, what)?, what)
}

/// Opens a file, or a pipe: a shell hands `<(…)` over as one. What else there may be at a path has no end, or is no text.
pub(crate) fn open(path: &Path, what: &str) -> io::Result<File> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, format!("it is a folder, not a {what}")));
    }
    if !kind.is_file() && !is_pipe(kind) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is not a regular file, so not a {what}")));
    }
    File::open(path)
}

/// Reads an open file to its end, if that is near.
pub(crate) fn read_open(file: File, what: &str) -> io::Result<Zeroizing<String>> {
    // all of the room at once: a vector that grows leaves copies behind
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 1));
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BYTES {
        let text = format!("it is too large for a {what}: more than {} KiB", MAX_BYTES / 1024);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(unix)]
fn is_pipe(kind: FileType) -> bool {
    std::os::unix::fs::FileTypeExt::is_fifo(&kind)
}

#[cfg(not(unix))]
fn is_pipe(_: FileType) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &Path, kind: io::ErrorKind, says: &str) {
        let error = read(path, "key file").unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let text = error.to_string();
        assert!(text.contains(says) && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn what_is_no_small_text_is_told_and_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        check(folder.path(), io::ErrorKind::IsADirectory, "is a folder, not a key file");
        check(&folder.path().join("none"), io::ErrorKind::NotFound, "");
        let path = folder.path().join("file");
        fs::write(&path, "x".repeat(MAX_BYTES + 1)).unwrap();
        check(&path, io::ErrorKind::FileTooLarge, "too large for a key file");
        fs::write(&path, b"hunter2\xff").unwrap();
        check(&path, io::ErrorKind::InvalidData, "it is not text");
        fs::write(&path, "x".repeat(MAX_BYTES)).unwrap();
        assert_eq!(read(&path, "key file").unwrap().len(), MAX_BYTES);
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_refused_and_a_pipe_is_read_to_its_end() {
        use std::io::Write;
        use std::os::fd::AsRawFd;
        check(Path::new("/dev/zero"), io::ErrorKind::InvalidInput, "is not a regular file");
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"from a pipe").unwrap();
        drop(writer);
        let path = format!("/dev/fd/{}", reader.as_raw_fd());
        assert_eq!(read(Path::new(&path), "key file").unwrap().as_str(), "from a pipe");
    }
}
