//! Ids of what the control plane keeps: a prefix and a ULID. Jobs have [`firebackup_model::id::JobId`].

use std::fmt;
use std::str::FromStr;

use firebackup_model::Timestamp;
use firebackup_model::port::Random;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

/// The text is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not {0}")]
pub struct IdError(&'static str);

/// A new ULID from a time and random bytes.
fn ulid(now: Timestamp, random: &dyn Random) -> Ulid {
    let mut low = [0; 16];
    random.fill(&mut low[6..]);
    Ulid::from_parts(u64::try_from(now.millis()).unwrap_or(0), u128::from_be_bytes(low))
}

/// A ULID that is made of what happened, by its hash: the same whenever it is made.
pub(crate) fn ulid_of(at: Timestamp, hash: &[u8; 32]) -> Ulid {
    let mut low = [0; 16];
    low[6..].copy_from_slice(&hash[..10]);
    Ulid::from_parts(u64::try_from(at.millis()).unwrap_or(0), u128::from_be_bytes(low))
}

/// Reads a ULID in its one spelling: upper case.
fn canonical(text: &str) -> Option<Ulid> {
    let ulid = Ulid::from_string(text).ok()?;
    (ulid.to_string() == text).then_some(ulid)
}

macro_rules! prefixed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// What it begins with.
            pub const PREFIX: &'static str = $prefix;

            /// A new id.
            #[must_use]
            pub fn new(now: Timestamp, random: &dyn Random) -> Self {
                Self(ulid(now, random))
            }

            /// The id without its prefix.
            #[must_use]
            pub const fn ulid(&self) -> Ulid {
                self.0
            }
        }

        impl From<Ulid> for $name {
            fn from(ulid: Ulid) -> Self {
                Self(ulid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix($prefix).and_then(canonical).map(Self).ok_or(IdError($expected))
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

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .pattern(Some(concat!("^", $prefix, "[0-7][0-9A-HJKMNP-TV-Z]{25}$")))
                    .examples([concat!($prefix, "01JZ8Q6V7C9X2M4T5B8K1N3R6W")])
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
        }
    };
}

prefixed_id!(
    /// Names an organization.
    OrganizationId,
    "org_",
    "an organization id (org_ and a ULID)"
);
prefixed_id!(
    /// Names an API key; no secret.
    ApiKeyId,
    "key_",
    "an api key id (key_ and a ULID)"
);
prefixed_id!(
    /// Names a project.
    ProjectId,
    "proj_",
    "a project id (proj_ and a ULID)"
);
prefixed_id!(
    /// Names a destination.
    DestinationId,
    "storage_",
    "a destination id (storage_ and a ULID)"
);
prefixed_id!(
    /// Names a schedule.
    ScheduleId,
    "sched_",
    "a schedule id (sched_ and a ULID)"
);

prefixed_id!(
    /// Names a user: a person who signs in.
    UserId,
    "user_",
    "a user id (user_ and a ULID)"
);
prefixed_id!(
    /// Names an invite.
    InviteId,
    "inv_",
    "an invite id (inv_ and a ULID)"
);
prefixed_id!(
    /// Names an entry of the audit log.
    AuditId,
    "evt_",
    "an id of an audit entry (evt_ and a ULID)"
);
prefixed_id!(
    /// Names a session: what began with a sign-in. No secret.
    SessionId,
    "ses_",
    "a session id (ses_ and a ULID)"
);
prefixed_id!(
    /// Names a webhook.
    WebhookId,
    "webhook_",
    "a webhook id (webhook_ and a ULID)"
);
prefixed_id!(
    /// Names a delivery to a webhook.
    DeliveryId,
    "dlv_",
    "a delivery id (dlv_ and a ULID)"
);

prefixed_id!(
    /// Names a recovery to a point in time: of one database of a project.
    PitrId,
    "pitr_",
    "an id of a recovery to a point in time (pitr_ and a ULID)"
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_round_trip_as_text_and_json(bits: u128) {
            let id = ProjectId::from(Ulid::from_bytes(bits.to_be_bytes()));
            prop_assert_eq!(id.to_string().parse::<ProjectId>().unwrap(), id);
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(serde_json::from_str::<ProjectId>(&json).unwrap(), id);
            prop_assert!(id.to_string().parse::<ScheduleId>().is_err());
        }

        #[test]
        fn what_is_read_is_written_the_same(text in "(proj_)?[0-9A-Za-z]{25,27}") {
            if let Ok(id) = text.parse::<ProjectId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn refuses_what_is_no_id() {
        for bad in [
            "",
            "proj_",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "proj_01arz3ndektsv4rrffq69g5fav",
            "proj_81ARZ3NDEKTSV4RRFFQ69G5FAV",
            "proj_01ARZ3NDEKTSV4RRFFQ69G5FAV#",
            "org_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        ] {
            assert!(bad.parse::<ProjectId>().is_err(), "{bad}");
        }
    }
}
