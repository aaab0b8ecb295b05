//! The only way out to addresses that somebody else chose: the issuers that people sign in with, and whoever wants
//! to be told of what happened.
//!
//! Such an address is hostile until it is shown to lie outside. [`AddressGuard`] looks at each URL and at each address
//! that a name resolves to; [`OutboundClient`] connects to no other, follows nobody elsewhere, and bounds what it waits
//! for and what it reads. [`OidcProvider`] signs people in over it, [`OutboundWebhooks`] tells whoever wants
//! to know.

mod client;
mod error;
mod guard;
mod oidc;
mod request;
mod webhook;

pub use client::{Answer, OutboundClient};
pub use error::{OutboundError, Refusal};
pub use guard::{AddressGuard, Lookup};
pub use oidc::{OidcAccounts, OidcProvider, OidcSettings};
pub use request::OutboundRequest;
/// The types of a request's method, headers and status.
pub use reqwest::{Method, StatusCode, header};
/// The type of addresses.
pub use url::Url;
pub use webhook::OutboundWebhooks;
