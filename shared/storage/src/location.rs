//! What a destination's URL names.

use std::path::PathBuf;

use firebackup_model::{ErrorKind, PortError};
use object_store::path::Path;
use url::Url;

use crate::destination::DestinationKind;

const EXPECTED: &str = "expected file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix";

/// A place that a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A prefix in a bucket (a container, in Azure's words).
    Bucket {
        /// Whose bucket.
        kind: DestinationKind,
        /// Its name.
        bucket: String,
        /// The prefix; empty for the whole bucket.
        prefix: Path,
    },
}

impl Location {
    /// Reads a destination's URL.
    ///
    /// # Errors
    /// Says what is expected. The URL is not repeated, as it may hold what should not be in it.
    pub(crate) fn parse(text: &str) -> Result<Self, PortError> {
        let url = Url::parse(text).map_err(|source| refused(EXPECTED).with_source(source))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("credentials belong in the options, not in the url"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refused("`?` and `#` have no place in it (in a name, write them as %3F and %23)"));
        }
        match url.scheme() {
            "file" => folder(text, &url),
            "s3" => bucket(DestinationKind::S3, &url),
            "gs" => bucket(DestinationKind::Gcs, &url),
            "az" => bucket(DestinationKind::Azure, &url),
            _ => Err(refused(EXPECTED)),
        }
    }

    /// The kind of destination.
    pub(crate) const fn kind(&self) -> DestinationKind {
        match self {
            Self::Folder(_) => DestinationKind::Folder,
            Self::Bucket { kind, .. } => *kind,
        }
    }

    /// The URL in its plainest spelling.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Folder(path) => match Url::from_file_path(path) {
                Ok(url) => url.to_string(),
                Err(()) => format!("file://{}", path.display()),
            },
            Self::Bucket { kind, bucket, prefix } if prefix.is_root() => format!("{}://{bucket}", kind.scheme()),
            Self::Bucket { kind, bucket, prefix } => format!("{}://{bucket}/{prefix}", kind.scheme()),
        }
    }
}

fn folder(text: &str, url: &Url) -> Result<Location, PortError> {
    // the parser takes `file:backups` for `file:///backups`, which is not what was meant
    if !text.starts_with("file:///") || url.host().is_some() {
        return Err(refused("a folder is named by its absolute path, as in file:///var/backups"));
    }
    let path = url.to_file_path().map_err(|()| refused("it names no folder of this machine"))?;
    if path.parent().is_none() {
        return Err(refused("the root of the file system is no folder for backups"));
    }
    Ok(Location::Folder(path))
}

fn bucket(kind: DestinationKind, url: &Url) -> Result<Location, PortError> {
    let bucket = url.host_str().unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if bucket.is_empty() || !bucket.bytes().all(plain) || bucket.starts_with('.') {
        return Err(refused("the name of a bucket has letters, digits, `-`, `_` and `.`"));
    }
    if url.port().is_some() {
        return Err(refused("host and port of a service are given as endpoint, not in the url"));
    }
    let prefix = Path::from_url_path(url.path())
        .map_err(|source| refused("the prefix is not a path of plain segments").with_source(source))?;
    Ok(Location::Bucket { kind, bucket: bucket.to_owned(), prefix })
}

fn refused(why: &str) -> PortError {
    PortError::new(ErrorKind::InvalidArgument, "read the url of the destination", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, kind: DestinationKind, shown: &str) {
        let location = Location::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((location.kind(), location.url().as_str()), (kind, shown), "{text}");
        assert_eq!(Location::parse(&location.url()).unwrap(), location, "{text}");
    }

    #[test]
    fn reads_every_kind() {
        check("file:///var/backups", DestinationKind::Folder, "file:///var/backups");
        check("file:///var/my%20backups", DestinationKind::Folder, "file:///var/my%20backups");
        check("s3://bucket", DestinationKind::S3, "s3://bucket");
        check("s3://bucket/", DestinationKind::S3, "s3://bucket");
        check("s3://my.bucket-1/a/b/", DestinationKind::S3, "s3://my.bucket-1/a/b");
        check("gs://my_bucket/a", DestinationKind::Gcs, "gs://my_bucket/a");
        check("az://container/a", DestinationKind::Azure, "az://container/a");
    }

    #[test]
    fn says_what_is_expected() {
        for (bad, says) in [
            ("", "expected file:///folder"),
            ("/var/backups", "expected file:///folder"),
            ("backups", "expected file:///folder"),
            ("http://bucket/prefix", "expected file:///folder"),
            ("file:backups", "absolute path"),
            ("file://backups", "absolute path"),
            ("file://./backups", "absolute path"),
            ("file:///", "root of the file system"),
            ("file:///a?b", "%3F"),
            ("file:///a#b", "%23"),
            ("s3://", "name of a bucket"),
            ("s3:///prefix", "name of a bucket"),
            ("s3://buc%20ket/x", "name of a bucket"),
            ("s3://bucket:9000/x", "endpoint"),
            ("s3://bucket//x", "plain segments"),
            ("gs://bucket/x?token=1", "no place"),
        ] {
            let error = Location::parse(bad).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidArgument, "{bad}");
            assert!(error.to_string().contains(says), "{bad}: {error}");
        }
    }

    #[test]
    fn secrets_in_a_url_are_refused_and_not_repeated() {
        for bad in ["s3://AKIA:hunter2@bucket/x", "gs://bucket/x?sig=hunter2", "az://bucket/x#hunter2", "hunter2"] {
            let error = Location::parse(bad).unwrap_err();
            let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            assert!(!format!("{error} {error:?} {source}").contains("hunter2"), "{error:?}");
        }
    }
}
