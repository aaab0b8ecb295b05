//! What goes wrong on the way out. Errors name the host and never the rest of a URL, which may hold a secret.

use std::error::Error;
use std::time::Duration;

use firebackup_model::error::is_caused_by;

/// Why an address is not called.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It leads to this machine, its network or nowhere.
    #[error("it leads to an address inside")]
    Inside,
    /// Neither `https` nor, where that is allowed, `http`.
    #[error("it is not an https address")]
    Scheme,
    /// It has a user name or a password, which would end up in logs.
    #[error("it holds a user name or a password")]
    UserInfo,
    /// It has no host.
    #[error("it names no host")]
    NoHost,
}

/// Why there is no whole answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboundError {
    /// The address may not be called.
    #[error("{host} is not called")]
    Refused {
        /// Of the URL.
        host: String,
        /// Why not.
        #[source]
        source: Refusal,
    },
    /// No name, no connection, no TLS.
    #[error("{host} cannot be reached")]
    Unreachable {
        /// Of the URL.
        host: String,
        /// What failed.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The whole answer was not there in time.
    #[error("{host} did not answer within {limit:?}")]
    TooSlow {
        /// Of the URL.
        host: String,
        /// For the whole request.
        limit: Duration,
    },
    /// The connection stood, and no answer that can be read came over it.
    #[error("{host} did not answer in HTTP, or broke off")]
    Answer {
        /// Of the URL.
        host: String,
        /// What failed.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl OutboundError {
    /// What the HTTP client said about a request to `host`. Its own words for it would name the whole URL.
    pub(crate) fn from_client(host: &str, error: reqwest::Error) -> Self {
        let (host, error) = (host.to_owned(), error.without_url());
        if is_caused_by::<Refusal>(&error) {
            Self::Refused { host, source: Refusal::Inside }
        } else if error.is_connect() {
            Self::Unreachable { host, source: error.into() }
        } else {
            Self::Answer { host, source: error.into() }
        }
    }
}

/// What the guard gives the HTTP client in place of addresses; it comes back as a cause of the client's own error.
pub(crate) fn inside() -> Box<dyn Error + Send + Sync> {
    Refusal::Inside.into()
}
