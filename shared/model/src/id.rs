//! Typed ids. Random ones are made from bytes that are handed in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The text is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct IdError {
    text: String,
    expected: &'static str,
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut bytes = [0; 16];
                let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
                match hex::decode_to_slice(text, &mut bytes) {
                    Ok(()) if lower => Ok(Self(bytes)),
                    _ => Err(IdError { text: text.to_owned(), expected: $expected }),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "pattern": "^[0-9a-f]{32}$"})
            }
        }
    };
}

hex_id!(
    /// Names a repository for ever; everything sealed in it is bound to it.
    RepositoryId,
    "a repository id (32 hexadecimal digits)"
);
hex_id!(
    /// Names a run.
    RunId,
    "a run id (32 hexadecimal digits)"
);
hex_id!(
    /// Names a key object: the repository key or a data key.
    KeyId,
    "a key id (32 hexadecimal digits)"
);
hex_id!(
    /// Names what is captured: a database, in one repository.
    CaptureId,
    "a capture id (32 hexadecimal digits)"
);
hex_id!(
    /// Names reported versions: what they were folded or merged from.
    ReportId,
    "a report id (32 hexadecimal digits)"
);
hex_id!(
    /// Names one wrap of a key object.
    WrapId,
    "a wrap id (32 hexadecimal digits)"
);

/// Names a job, and the snapshot that it commits: a prefix and a ULID, so that names sort by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct JobId(String);

/// A snapshot has the id of the job that made it: committing twice is then one commit.
pub type SnapshotId = JobId;

/// What a job does, as its id's prefix says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobKind {
    /// `bkp_`: a backup.
    Backup,
    /// `restore_`: a restore; its undo is a snapshot of the same id.
    Restore,
    /// `prune_`: a prune.
    Prune,
    /// `drill_`: a backup that is restored to see that it can be.
    Drill,
}

impl JobKind {
    const ALL: [Self; 4] = [Self::Backup, Self::Restore, Self::Prune, Self::Drill];

    const fn prefix(self) -> &'static str {
        match self {
            Self::Backup => "bkp_",
            Self::Restore => "restore_",
            Self::Prune => "prune_",
            Self::Drill => "drill_",
        }
    }
}

impl JobId {
    /// A new id from a time in milliseconds and 10 random bytes.
    #[must_use]
    pub fn new(kind: JobKind, millis: u64, random: [u8; 10]) -> Self {
        let mut low = [0; 16];
        low[6..].copy_from_slice(&random);
        let ulid = ulid::Ulid::from_parts(millis, u128::from_be_bytes(low));
        Self(format!("{}{ulid}", kind.prefix()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// When the job was named, in milliseconds since the epoch.
    #[must_use]
    pub fn millis(&self) -> u64 {
        let ulid = self.0.split_once('_').map_or("", |(_, ulid)| ulid);
        ulid::Ulid::from_string(ulid).map_or(0, |ulid| ulid.timestamp_ms())
    }

    /// What the job does.
    #[must_use]
    pub fn kind(&self) -> JobKind {
        JobKind::ALL.into_iter().find(|kind| self.0.starts_with(kind.prefix())).unwrap_or(JobKind::Backup)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for JobId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let ulid = JobKind::ALL.into_iter().find_map(|kind| text.strip_prefix(kind.prefix()));
        match ulid.map(|ulid| (ulid, ulid::Ulid::from_string(ulid))) {
            Some((ulid, Ok(parsed))) if parsed.to_string() == ulid => Ok(Self(text.to_owned())),
            _ => Err(IdError {
                text: text.to_owned(),
                expected: "a job or snapshot id (bkp_, restore_ or prune_ and a ULID)",
            }),
        }
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_is_no_id() {
        for bad in [
            "",
            "bkp_",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "bkp_01arz3ndektsv4rrffq69g5fav",
            "bkp_../../etc",
            "x_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        ] {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
        assert!("ABCDEF00000000000000000000000000".parse::<RunId>().is_err());
        assert!("00".parse::<RunId>().is_err());
    }

    proptest! {
        #[test]
        fn ids_round_trip(bytes: [u8; 16], millis in 0u64..1 << 48, random: [u8; 10]) {
            prop_assert_eq!(RunId(bytes).to_string().parse::<RunId>().unwrap(), RunId(bytes));
            let job = JobId::new(JobKind::Restore, millis, random);
            prop_assert_eq!(job.as_str().parse::<JobId>().unwrap(), job.clone());
            prop_assert_eq!((job.kind(), job.millis()), (JobKind::Restore, millis));
        }

        #[test]
        fn job_ids_sort_by_time(a in 0u64..1 << 48, b in 0u64..1 << 48, random: [u8; 10]) {
            let (x, y) = (JobId::new(JobKind::Backup, a, random), JobId::new(JobKind::Backup, b, random));
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        }
    }
}
