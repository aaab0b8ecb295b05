//! Who acts, and from where.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::{ApiKeyId, UserId};

/// Who acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Actor {
    /// A person who is signed in.
    User(UserId),
    /// Whoever holds an API key.
    ApiKey(ApiKeyId),
    /// A step, a schedule or a sweep of ours.
    System,
}

/// How [`Actor::System`] is written.
const SYSTEM: &str = "system";

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => id.fmt(f),
            Self::ApiKey(id) => id.fmt(f),
            Self::System => f.write_str(SYSTEM),
        }
    }
}

impl std::str::FromStr for Actor {
    type Err = crate::id::IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            SYSTEM => Ok(Self::System),
            text if text.starts_with(UserId::PREFIX) => text.parse().map(Self::User),
            text => text.parse().map(Self::ApiKey),
        }
    }
}

impl Serialize for Actor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Actor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a request came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The client's address, where it is known.
    pub address: Option<IpAddr>,
    /// The id of the request.
    pub request: Option<String>,
}

impl Origin {
    /// Whom requests are counted for that name nobody: an IPv4 address, or the 64 bits of an IPv6 address that its holder
    /// cannot change at will.
    pub(crate) fn neighbourhood(&self) -> String {
        match self.address.map(|address| address.to_canonical()) {
            None => "unknown".to_owned(),
            Some(IpAddr::V4(address)) => address.to_string(),
            Some(IpAddr::V6(address)) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                format!("{}/64", std::net::Ipv6Addr::from(network))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;

    #[test]
    fn an_actor_is_its_id() {
        let ulid = Ulid::from_parts(1, 2);
        for actor in [Actor::User(ulid.into()), Actor::ApiKey(ulid.into()), Actor::System] {
            assert_eq!(actor.to_string().parse::<Actor>().unwrap(), actor);
        }
        assert!("proj_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse::<Actor>().is_err());
    }

    #[test]
    fn whoever_has_a_network_is_one_stranger() {
        for (address, expect) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ] {
            let origin = Origin { address: Some(address.parse().unwrap()), request: None };
            assert_eq!(origin.neighbourhood(), expect, "{address}");
        }
        assert_eq!(Origin::default().neighbourhood(), "unknown");
    }
}
