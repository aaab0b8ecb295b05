//! What the user holds: keys and passphrases, read from files and the environment when they are needed.

use std::fmt;
use std::path::Path;

use firebackup_codec::secret::SecretKey;
use firebackup_codec::signature::{WriterKey, WriterKeyError, WriterPublicKey};
use firebackup_codec::wrap::{RecoveryPrivateKey, RecoveryPublicKey};
use firebackup_embedded::key_file::{self, KeyKind, SecretBytes};
use firebackup_embedded::secret_file;
use firebackup_engine::Secrets;
use zeroize::Zeroizing;

use crate::args::GlobalArgs;
use crate::environment::Environment;
use crate::error::{CliError, Result};

const MASTER_KEY: &str = "FIREBACKUP_MASTER_KEY";
const PASSPHRASE: &str = "FIREBACKUP_PASSPHRASE";

/// Where keys are. `Debug` shows none of them.
#[derive(Clone)]
pub(crate) struct KeySettings {
    pub(crate) global: GlobalArgs,
    pub(crate) environment: Environment,
}

impl fmt::Debug for KeySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySettings").field("masters", &self.global.master_key_files).finish_non_exhaustive()
    }
}

impl KeySettings {
    /// Reads what there is.
    ///
    /// # Errors
    /// When a key file or a key cannot be used.
    pub(crate) fn secrets(&self) -> Result<Secrets> {
        let global = &self.global;
        Ok(Secrets {
            masters: self.masters()?,
            passphrase: self.passphrase()?,
            recovery: global.recovery_key_file.as_deref().map(recovery_key).transpose()?,
            service: None,
            recovery_public: recovery_public_key(global.recovery_public_key.as_deref())?,
            signing: global.signing_key_file.as_deref().map(signing_key).transpose()?,
            pinned: writer_keys(&global.writer_keys)?,
            allow_unencrypted: global.allow_unencrypted,
        })
    }

    fn masters(&self) -> Result<Vec<SecretKey>> {
        let files = &self.global.master_key_files;
        if !files.is_empty() {
            return files.iter().map(|file| Ok(secret_key(&key_file::read(file)?))).collect();
        }
        let Some(text) = self.environment.get(MASTER_KEY) else { return Ok(Vec::new()) };
        let unusable = |source| CliError::KeyVariable { variable: MASTER_KEY, source };
        Ok(vec![secret_key(&key_file::parse(text).map_err(unusable)?)])
    }

    fn passphrase(&self) -> Result<Option<String>> {
        match &self.global.passphrase_file {
            Some(file) => read_passphrase(file).map(Some),
            None => Ok(self.environment.get(PASSPHRASE).map(str::to_owned)),
        }
    }
}

/// The key in the bytes of a key file.
pub(crate) fn secret_key(bytes: &SecretBytes) -> SecretKey {
    SecretKey::from_bytes(*bytes.expose())
}

/// Reads a passphrase: the file without the line feed at its end.
///
/// # Errors
/// When it cannot be read, is too large or is empty.
pub(crate) fn read_passphrase(file: &Path) -> Result<String> {
    Ok(read_line(file, "read the passphrase file", "passphrase")?.to_string())
}

/// Reads a secret that is one line, which errors call `what`: the file without the line feed at its end.
///
/// # Errors
/// As [`read_passphrase`].
pub(crate) fn read_line(file: &Path, operation: &'static str, what: &str) -> Result<Zeroizing<String>> {
    let text = secret_file::read(file, &format!("{what} file"));
    let text = text.map_err(CliError::file(operation, file))?;
    let line = text.trim_end_matches(['\r', '\n']);
    match line.is_empty() {
        true => Err(CliError::Refused(format!("{} holds no {what}", file.display()))),
        false => Ok(Zeroizing::new(line.to_owned())),
    }
}

/// Reads the public half of a recovery key.
///
/// # Errors
/// When it is none.
pub(crate) fn recovery_public_key(text: Option<&str>) -> Result<Option<RecoveryPublicKey>> {
    let parsed = text.map(str::parse::<RecoveryPublicKey>).transpose();
    parsed.map_err(|error| CliError::Usage(format!("a recovery public key is {error}")))
}

fn recovery_key(file: &Path) -> Result<RecoveryPrivateKey> {
    let text = secret_key(&key_file::read_kind(KeyKind::Recovery, file)?).to_text();
    text.parse().map_err(|_| CliError::Refused(format!("{} holds no recovery key", file.display())))
}

fn signing_key(file: &Path) -> Result<WriterKey> {
    Ok(WriterKey::from_seed(&secret_key(&key_file::read_kind(KeyKind::Signing, file)?)))
}

fn writer_keys(texts: &[String]) -> Result<Vec<WriterPublicKey>> {
    let parsed = texts.iter().map(|text| text.parse());
    let unusable = |error: WriterKeyError| CliError::Usage(format!("--writer-key: {error}"));
    parsed.collect::<Result<_, _>>().map_err(unusable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn keys(environment: &[(&str, &str)]) -> KeySettings {
        KeySettings { global: GlobalArgs::default(), environment: Environment::of(environment) }
    }

    #[test]
    fn keys_come_from_files_or_the_environment_and_show_nowhere() {
        const KEY: &str = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=";
        let from_environment = keys(&[(MASTER_KEY, KEY), (PASSPHRASE, "open sesame")]);
        let secrets = from_environment.secrets().unwrap();
        assert_eq!(secrets.masters[0].to_text().as_str(), KEY);
        assert_eq!(secrets.passphrase.as_deref(), Some("open sesame"));
        let shown = format!("{from_environment:?}");
        assert!(!shown.contains(KEY) && !shown.contains("sesame"), "{shown}");
        let bad = keys(&[(MASTER_KEY, "short")]).secrets().unwrap_err();
        assert_eq!(bad.kind(), "key");
        assert!(!format!("{bad:?} {bad}").contains("short"));
    }

    #[test]
    fn a_passphrase_is_the_file_without_its_last_line_feed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("passphrase");
        fs::write(&file, " with blanks \r\n").unwrap();
        assert_eq!(read_passphrase(&file).unwrap(), " with blanks ");
        fs::write(&file, "\n").unwrap();
        assert!(read_passphrase(&file).is_err());
        let report = read_passphrase(folder.path()).unwrap_err().report();
        assert!(report.message.starts_with("could not read the passphrase file"), "{report:?}");
        assert_eq!(report.causes, ["it is a folder, not a passphrase file"]);
    }

    #[test]
    fn what_is_no_public_key_is_bad_usage() {
        assert!(recovery_public_key(None).unwrap().is_none());
        let recovery = recovery_public_key(Some("nonsense")).unwrap_err();
        let writer = writer_keys(&["nonsense".to_owned()]).unwrap_err();
        assert_eq!((recovery.kind(), writer.kind()), ("usage", "usage"));
    }
}
