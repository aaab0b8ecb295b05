//! Looks at where a request would go, before it goes there.
//!
//! A name is resolved once, here, and the connection is made to what was looked at: a name that answers differently the
//! next time gains nothing. The HTTP client asks nobody where a host is that is an address already, so each URL is
//! checked too.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use firebackup_model::address::is_public;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::error::{Refusal, inside};

/// Where the addresses of a name come from.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// All addresses of `host`.
    ///
    /// # Errors
    /// When the name has none, or nobody knows.
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The resolver of this machine.
struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// Lets requests go outside only.
#[derive(Clone)]
pub struct AddressGuard {
    allow_inside: bool,
    lookup: Arc<dyn Lookup>,
}

impl AddressGuard {
    /// With `allow_inside` every address may be called, over `http` too: for whoever runs the server for
    /// themselves, and for tests.
    #[must_use]
    pub fn new(allow_inside: bool) -> Self {
        Self { allow_inside, lookup: Arc::new(SystemLookup) }
    }

    /// Resolves names in another way.
    #[must_use]
    pub fn with_lookup(mut self, lookup: Arc<dyn Lookup>) -> Self {
        self.lookup = lookup;
        self
    }

    /// Whether every address may be called.
    #[must_use]
    pub fn allows_inside(&self) -> bool {
        self.allow_inside
    }

    /// Looks at all of a URL but where its name leads. A host that is an address in any spelling (decimal, octal, hex,
    /// short, IPv6) is one in the parsed URL.
    ///
    /// # Errors
    /// When it may not be called.
    pub fn check(&self, url: &Url) -> Result<(), Refusal> {
        let is_http = self.allow_inside && url.scheme() == "http";
        if url.scheme() != "https" && !is_http {
            return Err(Refusal::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::UserInfo);
        }
        let literal = match url.host().ok_or(Refusal::NoHost)? {
            Host::Domain(_) => return Ok(()),
            Host::Ipv4(ip) => IpAddr::V4(ip),
            Host::Ipv6(ip) => IpAddr::V6(ip),
        };
        if self.lets_through(literal) { Ok(()) } else { Err(Refusal::Inside) }
    }

    fn lets_through(&self, ip: IpAddr) -> bool {
        self.allow_inside || is_public(ip)
    }

    /// The addresses of `host` that may be called.
    async fn addresses(&self, host: &str) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let found = self.lookup.addresses(host).await?;
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address").into());
        }
        let kept = found.into_iter().filter(|ip| self.lets_through(*ip));
        // the HTTP client puts the URL's own port in
        let kept: Vec<_> = kept.map(|ip| SocketAddr::new(ip, 0)).collect();
        if kept.is_empty() { Err(inside()) } else { Ok(kept) }
    }
}

impl fmt::Debug for AddressGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressGuard").field("allow_inside", &self.allow_inside).finish_non_exhaustive()
    }
}

impl Resolve for AddressGuard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let addresses = guard.addresses(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
