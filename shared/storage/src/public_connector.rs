//! Connections to endpoints that somebody else chose: to addresses outside only.
//!
//! A name is resolved once, here, and the connection is made to what was looked at: a name that answers differently the
//! next time gains nothing. Hosts that are addresses are looked at with the settings.

use std::net::SocketAddr;

use firebackup_model::address::is_public;
use object_store::client::{HttpClient, HttpConnector, ReqwestConnector};
use object_store::{ClientOptions, Result};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;

use crate::remote::Patience;

/// What is said of it.
pub(crate) const LEADS_INSIDE: &str =
    "the endpoint leads to an address inside, which whoever runs this server does not allow";

/// An endpoint leads to this machine or its networks.
#[derive(Debug, thiserror::Error)]
#[error("{LEADS_INSIDE}")]
pub(crate) struct LeadsInside;

/// Makes clients that go anywhere, or outside only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connector {
    pub(crate) public_only: bool,
    pub(crate) patience: Patience,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        if !self.public_only {
            return ReqwestConnector::default().connect(options);
        }
        let builder = reqwest::Client::builder()
            .dns_resolver(PublicNames)
            .https_only(true)
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(Patience::CONNECT)
            .timeout(self.patience.request());
        let unusable = |error: reqwest::Error| object_store::Error::Generic { store: "HTTP", source: error.into() };
        Ok(HttpClient::new(builder.build().map_err(unusable)?))
    }
}

/// The resolver of this machine, without what leads inside.
#[derive(Debug)]
struct PublicNames;

impl Resolve for PublicNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            match public.is_empty() {
                true => Err(Box::from(LeadsInside)),
                false => Ok(Box::new(public.into_iter()) as Addrs),
            }
        })
    }
}
