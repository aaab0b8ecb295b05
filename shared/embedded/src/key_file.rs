//! Key files: 32 secret bytes as one line of base64, below a line that says what they are for.
//!
//! ```text
//! # firebackup master key
//! q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=
//! ```
//!
//! Empty lines and lines that begin with `#` are comments. The label among them is optional (a key from an environment
//! variable has none), but one that names another kind of key is an error: a signing key must never pass for a
//! master key. Nothing here shows a secret in `Debug` or in an error, and memory that held one is wiped.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use firebackup_model::port::Random;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::secret_file;

const SECRET_LENGTH: usize = 32;
/// What errors call such a file.
const KEY_FILE: &str = "key file";
const LABEL: &str = "firebackup ";
/// Keys are pasted with and without the `=` at the end.
const FORGIVING: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// 32 secret bytes; wiped when dropped, hidden in `Debug`.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SecretBytes([u8; SECRET_LENGTH]);

/// The bytes of a master key.
pub type MasterKeyBytes = SecretBytes;

impl SecretBytes {
    /// Holds `bytes`.
    #[must_use]
    pub const fn new(bytes: [u8; SECRET_LENGTH]) -> Self {
        Self(bytes)
    }

    /// Fresh bytes from `random`.
    #[must_use]
    pub fn generate(random: &dyn Random) -> Self {
        let mut bytes = Self([0; SECRET_LENGTH]);
        random.fill(&mut bytes.0);
        bytes
    }

    /// The secret itself.
    #[must_use]
    pub const fn expose(&self) -> &[u8; SECRET_LENGTH] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(hidden)")
    }
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Wraps a repository's keys.
    Master,
    /// Opens what was wrapped for the recovery public key: the private half, to be kept offline.
    Recovery,
    /// Signs manifests.
    Signing,
}

impl KeyKind {
    const ALL: [Self; 3] = [Self::Master, Self::Recovery, Self::Signing];
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "master key",
            Self::Recovery => "recovery private key",
            Self::Signing => "signing key",
        })
    }
}

/// What is wrong with a key's text; never says what the text was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// The label says that it is another kind of key.
    #[error("expected a {expected}, but this is a {found}")]
    WrongKind {
        /// What was asked for.
        expected: KeyKind,
        /// What the label says.
        found: KeyKind,
    },
    /// There is no line that is not a comment.
    #[error("there is no key in it, only comments or nothing")]
    Empty,
    /// There is more than one line that is not a comment.
    #[error("there is more than one line in it that is not a comment: a key is a single line of base64")]
    SeveralLines,
    /// The line is not base64.
    #[error("the key is not base64")]
    NotBase64,
    /// The line is base64 of another length.
    #[error("the key is {length} bytes long, not 32")]
    Length {
        /// How long it is, in bytes.
        length: usize,
    },
}

/// Why a key file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file could not be read.
    #[error("could not read the {kind} file {}", path.display())]
    Read {
        /// What was expected in it.
        kind: KeyKind,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file does not hold such a key.
    #[error("could not use the {kind} file {}", path.display())]
    Text {
        /// What was expected in it.
        kind: KeyKind,
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: KeyTextError,
    },
    /// Other users of the machine may read the file.
    #[error(
        "refused the {kind} file {}: other users can read it (mode {mode:03o}); run `chmod 600 {}`",
        path.display(), path.display()
    )]
    TooOpen {
        /// What was expected in it.
        kind: KeyKind,
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is a file already.
    #[error("refused to overwrite {}: what was sealed with the key in it would be lost", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// The file could not be written.
    #[error("could not write the {kind} file {}", path.display())]
    Write {
        /// What was to be kept.
        kind: KeyKind,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A key as its file holds it: label and base64, ending with a line feed. Wiped when dropped, hidden in `Debug`.
pub struct KeyText {
    kind: KeyKind,
    text: Zeroizing<String>,
}

/// The text of a master key.
pub type MasterKeyText = KeyText;

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyText({}, hidden)", self.kind)
    }
}

/// A new master key from `random`.
#[must_use]
pub fn generate(random: &dyn Random) -> MasterKeyText {
    KeyText::new(KeyKind::Master, &SecretBytes::generate(random))
}

/// Reads a master key from a file.
///
/// # Errors
/// As [`read_kind`].
pub fn read(path: &Path) -> Result<MasterKeyBytes, KeyFileError> {
    read_kind(KeyKind::Master, path)
}

/// Reads a master key from text, as it stands in a file or an environment variable.
///
/// # Errors
/// When there is no master key in it.
pub fn parse(text: &str) -> Result<MasterKeyBytes, KeyTextError> {
    parse_kind(KeyKind::Master, text)
}

impl KeyText {
    /// The text that keeps `secret` as a key of this kind.
    #[must_use]
    pub fn new(kind: KeyKind, secret: &SecretBytes) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(128));
        text.push_str("# ");
        text.push_str(LABEL);
        text.push_str(&kind.to_string());
        text.push('\n');
        STANDARD.encode_string(secret.expose(), &mut text);
        text.push('\n');
        Self { kind, text }
    }

    /// The text itself, which is the secret.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Writes it to a new file that only the owner can read, durably.
    ///
    /// # Errors
    /// When the file exists, or cannot be written; nothing is left behind then.
    pub fn write_new(&self, path: &Path) -> Result<(), KeyFileError> {
        let error = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.to_owned() },
            _ => KeyFileError::Write { kind: self.kind, path: path.to_owned(), source },
        };
        let file = private().open(path).map_err(error)?;
        write_durably(file, path, self.text.as_bytes()).map_err(|source| {
            // half a key is worse than none, and the file is ours: it did not exist before
            let _ = fs::remove_file(path);
            error(source)
        })
    }
}

/// Reads a key of this kind from a file.
///
/// # Errors
/// When the file cannot be read, is a folder, a device or too large, when other users can read it (on a file system
/// that has permissions), or when it does not hold a key of this kind.
pub fn read_kind(kind: KeyKind, path: &Path) -> Result<SecretBytes, KeyFileError> {
    let error = |source| KeyFileError::Read { kind, path: path.to_owned(), source };
    let file = secret_file::open(path, KEY_FILE).map_err(error)?;
    if let Some(mode) = open_to_others(&file, path).map_err(error)? {
        return Err(KeyFileError::TooOpen { kind, path: path.to_owned(), mode });
    }
    let text = secret_file::read_open(file, KEY_FILE).map_err(error)?;
    parse_kind(kind, &text).map_err(|source| KeyFileError::Text { kind, path: path.to_owned(), source })
}

/// Reads a key of this kind from text.
///
/// # Errors
/// When there is no such key in it.
pub fn parse_kind(kind: KeyKind, text: &str) -> Result<SecretBytes, KeyTextError> {
    let mut key = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix('#') {
            check_label(kind, comment.trim())?;
        } else if key.replace(line).is_some() {
            return Err(KeyTextError::SeveralLines);
        }
    }
    let bytes = Zeroizing::new(FORGIVING.decode(key.ok_or(KeyTextError::Empty)?).map_err(|_| KeyTextError::NotBase64)?);
    let mut secret = SecretBytes([0; SECRET_LENGTH]);
    if bytes.len() != SECRET_LENGTH {
        return Err(KeyTextError::Length { length: bytes.len() });
    }
    secret.0.copy_from_slice(&bytes);
    Ok(secret)
}

fn check_label(expected: KeyKind, comment: &str) -> Result<(), KeyTextError> {
    let named = comment.strip_prefix(LABEL);
    match named.and_then(|name| KeyKind::ALL.into_iter().find(|kind| kind.to_string() == name)) {
        Some(found) if found != expected => Err(KeyTextError::WrongKind { expected, found }),
        _ => Ok(()),
    }
}

fn write_durably(mut file: File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()?;
    sync_folder(folder_of(path))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(unix)]
fn private() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
}

#[cfg(not(unix))]
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    options
}

/// A new file's name is durable once its folder is.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// The permission bits, when they let others read the file and the file system means them.
#[cfg(unix)]
fn open_to_others(file: &File, path: &Path) -> io::Result<Option<u32>> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    Ok((mode & 0o077 != 0 && has_modes(folder_of(path))).then_some(mode))
}

#[cfg(not(unix))]
fn open_to_others(_: &File, _: &Path) -> io::Result<Option<u32>> {
    Ok(None)
}

/// Whether files in `folder` keep the permissions they are given: FAT and some network shares show the same for all.
/// Where that cannot be tried out, they are taken at their word.
#[cfg(unix)]
fn has_modes(folder: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let probe = folder.join(format!(".firebackup-permissions-{}", std::process::id()));
    let Ok(file) = private().open(&probe) else { return true };
    let mode = file.metadata().map_or(0, |metadata| metadata.permissions().mode());
    let _ = fs::remove_file(&probe);
    mode & 0o077 == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::SystemRandom;
    use std::error::Error;

    /// Counts up, so that the text is known.
    struct Counting;

    impl Random for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            for (index, byte) in bytes.iter_mut().enumerate() {
                *byte = index as u8;
            }
        }
    }

    const TEXT: &str = "# firebackup master key\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";

    #[test]
    fn the_text_is_this_and_stays_this() {
        let text = generate(&Counting);
        assert_eq!(text.expose(), TEXT);
        let expected: [u8; 32] = std::array::from_fn(|index| index as u8);
        assert_eq!(parse(TEXT).unwrap().expose(), &expected);
    }

    #[test]
    fn accepts_what_people_paste() {
        let expected = parse(TEXT).unwrap();
        let line = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
        for text in [line.to_owned(), format!("{line}=\r\n"), format!("\n# mine, 2026\n  {line}= \n\n# end\n")] {
            assert_eq!(parse(&text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_master_key_without_quoting_it() {
        let line = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        assert_eq!(parse("# nothing\n"), Err(KeyTextError::Empty));
        assert_eq!(parse(&format!("{line}\n{line}")), Err(KeyTextError::SeveralLines));
        assert_eq!(parse("not base64!"), Err(KeyTextError::NotBase64));
        assert_eq!(parse("AAEC"), Err(KeyTextError::Length { length: 3 }));
        let signing = KeyText::new(KeyKind::Signing, &SecretBytes::generate(&SystemRandom));
        let error = parse(signing.expose()).unwrap_err();
        assert_eq!(error.to_string(), "expected a master key, but this is a signing key");
        assert!(parse_kind(KeyKind::Signing, signing.expose()).is_ok());
    }

    #[test]
    fn no_secret_in_debug() {
        let text = generate(&Counting);
        assert_eq!(format!("{text:?}"), "KeyText(master key, hidden)");
        assert_eq!(format!("{:?}", parse(text.expose()).unwrap()), "SecretBytes(hidden)");
    }

    #[test]
    fn a_written_file_reads_back_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        generate(&Counting).write_new(&path).unwrap();
        assert_eq!(read(&path).unwrap(), parse(TEXT).unwrap());
        let other = generate(&SystemRandom);
        assert!(matches!(other.write_new(&path), Err(KeyFileError::Exists { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), TEXT);
        assert!(matches!(other.write_new(&folder.path().join("no/key")), Err(KeyFileError::Write { .. })));
        let wrong = read_kind(KeyKind::Recovery, &path).unwrap_err();
        assert!(wrong.source().unwrap().to_string().contains("recovery private key"), "{wrong}");
        assert!(matches!(read(&folder.path().join("none")), Err(KeyFileError::Read { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_told_so_whatever_its_permissions() {
        let folder = tempfile::tempdir().unwrap();
        for (path, says) in
            [(folder.path(), "is a folder, not a key file"), (Path::new("/dev/zero"), "is not a regular file")]
        {
            let error = read(path).unwrap_err();
            let cause = error.source().unwrap().to_string();
            assert!(cause.contains(says) && !error.to_string().contains("chmod"), "{error}: {cause}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        generate(&Counting).write_new(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600") && error.contains(&format!("{mode:o}")), "{error}");
        }
        fs::set_permissions(&path, PermissionsExt::from_mode(0o400)).unwrap();
        assert!(read(&path).is_ok());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a probe was left behind");
    }
}
