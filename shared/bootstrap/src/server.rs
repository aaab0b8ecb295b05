//! The HTTP server of one machine.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use axum::http::HeaderMap;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use firebackup_http::{ClientAddress, HttpState, router};
use tokio::sync::watch;

/// How long requests that are under way may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// How connections are kept from being read on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// They do not leave the machine.
    Loopback,
    /// Somebody in front of us sees to it.
    BehindProxy,
    /// By this certificate and its key, as PEM files.
    Tls {
        /// The certificate, with those that lead to it.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
}

/// Why a server is not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// It would send API keys in the clear.
    #[error(
        "{0} can be reached from elsewhere, and API keys would travel in the clear: give --tls-cert and --tls-key, or \
         --behind-proxy when a proxy in front of it speaks TLS"
    )]
    InTheClear(IpAddr),
    /// The certificate or its key cannot be used.
    #[error("could not use the certificate {certificate} with its key")]
    Certificate {
        /// The file.
        certificate: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody can be listened to.
    #[error("could not listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A server that listens.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    listener: std::net::TcpListener,
    tls: Option<RustlsConfig>,
    is_behind_proxy: bool,
}

impl Server {
    /// Begins to listen. Refuses to do so in the clear where others can listen too.
    ///
    /// # Errors
    /// As [`ServerError`] says.
    pub async fn listen(address: SocketAddr, guard: &Guard) -> Result<Self, ServerError> {
        if *guard == Guard::Loopback && !address.ip().is_loopback() {
            return Err(ServerError::InTheClear(address.ip()));
        }
        let tls = match guard {
            Guard::Tls { certificate, key } => {
                let config = RustlsConfig::from_pem_file(certificate, key).await;
                let unusable =
                    |source| ServerError::Certificate { certificate: certificate.display().to_string(), source };
                Some(config.map_err(unusable)?)
            }
            Guard::Loopback | Guard::BehindProxy => None,
        };
        let failed = |source| ServerError::Listen { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { address, listener, tls, is_behind_proxy: *guard == Guard::BehindProxy })
    }

    /// Answers requests until `stop` says so, and those that are under way then to their end.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self, state: HttpState, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        let handle = Handle::new();
        let ending = handle.clone();
        tokio::spawn(async move {
            // whoever could ask for a stop is gone: that is one too
            drop(stop.wait_for(|stopped| *stopped).await);
            ending.graceful_shutdown(Some(GRACE));
        });
        let forwarded = self.is_behind_proxy;
        let service = router(state).layer(from_fn(move |request, next| add_client(forwarded, request, next)));
        let service = service.into_make_service_with_connect_info::<SocketAddr>();
        match self.tls {
            Some(tls) => axum_server::from_tcp_rustls(self.listener, tls)?.handle(handle).serve(service).await,
            None => axum_server::from_tcp(self.listener)?.handle(handle).serve(service).await,
        }
    }
}

/// Says where a request came from: the other end of the connection, or whom the proxy in front of us saw there.
async fn add_client(forwarded: bool, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let address = if forwarded { last_forwarded(request.headers()).or(peer) } else { peer };
    if let Some(address) = address {
        request.extensions_mut().insert(ClientAddress(address));
    }
    next.run(request).await
}

/// Whom the last proxy saw: it adds to the end, and what stands before may be the client's own invention.
fn last_forwarded(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    last.rsplit(',').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_what_the_last_proxy_says_counts() {
        for (values, expect) in [
            (&["203.0.113.9, 192.0.2.1"][..], Some("192.0.2.1")),
            (&["203.0.113.9", "192.0.2.1"], Some("192.0.2.1")),
            (&["2001:db8::1"], Some("2001:db8::1")),
            (&["192.0.2.1, nonsense"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-forwarded-for", HeaderValue::from_static(value));
            }
            assert_eq!(last_forwarded(&headers), expect.map(|text| text.parse().unwrap()), "{values:?}");
        }
    }

    #[tokio::test]
    async fn nothing_is_served_in_the_clear_where_others_can_listen() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let refused = Server::listen(address.parse().unwrap(), &Guard::Loopback).await.err();
            assert!(matches!(refused, Some(ServerError::InTheClear(_))), "{address}");
        }
        assert!(Server::listen("127.0.0.1:0".parse().unwrap(), &Guard::Loopback).await.is_ok());
        assert!(Server::listen("0.0.0.0:0".parse().unwrap(), &Guard::BehindProxy).await.is_ok());
        let missing = Guard::Tls { certificate: "missing.pem".into(), key: "missing.pem".into() };
        let refused = Server::listen("127.0.0.1:0".parse().unwrap(), &missing).await.err();
        assert!(matches!(refused, Some(ServerError::Certificate { .. })));
    }
}
