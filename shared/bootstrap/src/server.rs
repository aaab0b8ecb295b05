//! The HTTP server of one machine.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use axum_server::{Address, Handle};
use firebackup_http::{HttpState, METRICS_PATH, metrics_service, service};
use hyper_util::rt::TokioTimer;
use tokio::sync::watch;

use crate::live_clients::LiveClients;
use crate::local_metrics::LocalMetrics;

/// How long requests that are under way may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// How long the headers of a request may take to come, and the next request over a connection.
const HEADERS: Duration = Duration::from_secs(20);

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
    /// It would tell strangers what this server does.
    #[error(
        "{0} can be reached from elsewhere, and metrics are of all organizations: listen on a loopback address, where \
         something on this machine collects them"
    )]
    MetricsElsewhere(IpAddr),
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

impl ServerError {
    /// Whether another choice of addresses and options is all that is needed.
    #[must_use]
    pub const fn is_of_usage(&self) -> bool {
        matches!(self, Self::InTheClear(_) | Self::MetricsElsewhere(_))
    }
}

/// A server that listens.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    listener: TcpListener,
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
        let (listener, address) = listen(address)?;
        Ok(Self { address, listener, tls, is_behind_proxy: *guard == Guard::BehindProxy })
    }

    /// Answers requests until `stop` says so, and those that are under way then to their end.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self, state: HttpState, live: LiveClients, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        let handle = Handle::new();
        let (ending, all) = (handle.clone(), live.clone());
        tokio::spawn(async move {
            // whoever could ask for a stop is gone: that is one too
            drop(stop.wait_for(|stopped| *stopped).await);
            all.close();
            ending.graceful_shutdown(Some(GRACE));
        });
        let service = service(state, Arc::new(live), self.is_behind_proxy);
        match self.tls {
            Some(tls) => {
                let server = axum_server::from_tcp_rustls(self.listener, tls)?.handle(handle);
                impatient(server).serve(service).await
            }
            None => impatient(axum_server::from_tcp(self.listener)?.handle(handle)).serve(service).await,
        }
    }
}

/// The same, closing connections over which no request comes: each takes a descriptor, and there are only so many.
fn impatient<A: Address, C>(mut server: axum_server::Server<A, C>) -> axum_server::Server<A, C> {
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    server.http_builder().http2().timer(TokioTimer::new()).keep_alive_interval(HEADERS);
    server.first_request_timeout(HEADERS)
}

/// A server of metrics that listens, on this machine only.
pub struct MetricsServer {
    /// Where it listens.
    pub address: SocketAddr,
    listener: TcpListener,
}

impl MetricsServer {
    /// Begins to listen. There is no key and no TLS, so that nobody from elsewhere may get here.
    ///
    /// # Errors
    /// As [`ServerError`] says.
    pub fn listen(address: SocketAddr) -> Result<Self, ServerError> {
        if !address.ip().is_loopback() {
            return Err(ServerError::MetricsElsewhere(address.ip()));
        }
        let (listener, address) = listen(address)?;
        Ok(Self { address, listener })
    }

    /// Answers who asks for [`METRICS_PATH`] until `stop` says so.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self, metrics: LocalMetrics, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        let handle = Handle::new();
        let ending = handle.clone();
        tokio::spawn(async move {
            drop(stop.wait_for(|stopped| *stopped).await);
            ending.shutdown();
        });
        let server = impatient(axum_server::from_tcp(self.listener)?.handle(handle));
        server.serve(metrics_service(Arc::new(metrics))).await
    }

    /// The address that Prometheus is given.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}{METRICS_PATH}", self.address)
    }
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServerError> {
    let failed = |source| ServerError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use firebackup_http::Exposition;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Has counted nothing.
    struct Nothing;

    #[async_trait]
    impl Exposition for Nothing {
        async fn text(&self) -> String {
            String::new()
        }
    }

    #[test]
    fn metrics_are_for_this_machine() {
        for address in ["0.0.0.0:0", "[::]:0", "10.0.0.1:0"] {
            let refused = MetricsServer::listen(address.parse().unwrap()).err();
            assert!(matches!(refused, Some(ServerError::MetricsElsewhere(_))), "{address}");
        }
        assert!(MetricsServer::listen("127.0.0.1:0".parse().unwrap()).is_ok());
    }

    /// Whoever opens as many as there are descriptors kept everybody else out.
    #[tokio::test(start_paused = true)]
    async fn connections_over_which_no_request_comes_are_closed() {
        let (listener, address) = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let server = impatient(axum_server::from_tcp(listener).unwrap());
        tokio::spawn(server.serve(metrics_service(Arc::new(Nothing))));
        for said in [&b""[..], b"GET /metrics HT", b"GET /metrics HTTP/1.1\r\nhost: a\r\n"] {
            let begun = tokio::time::Instant::now();
            let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
            connection.write_all(said).await.unwrap();
            let mut answer = Vec::new();
            let read = tokio::time::timeout(HEADERS * 2, connection.read_to_end(&mut answer)).await;
            assert!(read.is_ok(), "{said:?} keeps a connection open");
            assert!(begun.elapsed() >= HEADERS, "{said:?} had no time: {:?}", begun.elapsed());
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
