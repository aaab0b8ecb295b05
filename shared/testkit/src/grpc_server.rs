//! An HTTP/2 server on a free port of the loopback interface that ends, connections and all, when it is dropped.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tonic::body::Body;
use tower::Service;

/// Wide enough for a message of 10 MiB to come in without waiting for the other side.
const WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// What is encoded ahead of a slow reader, a stream.
const SEND_BUFFER_BYTES: usize = 1024 * 1024;

/// A running server.
#[derive(Debug)]
pub struct GrpcServer {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl GrpcServer {
    /// Starts to serve `handler` on a free port.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start<F, A>(handler: F) -> io::Result<Self>
    where
        F: Fn(http::Request<Body>) -> A + Clone + Send + 'static,
        A: Future<Output = http::Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, accepting: tokio::spawn(accept(listener, Handler(handler))) })
    }

    /// Where it listens: `127.0.0.1:<port>`.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for GrpcServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Owns the connections, so that they end with it.
async fn accept<F, A>(listener: TcpListener, handler: Handler<F>)
where
    F: Fn(http::Request<Body>) -> A + Clone + Send + 'static,
    A: Future<Output = http::Response<Body>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                connections.spawn(serve(stream, handler.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve<F, A>(stream: TcpStream, handler: Handler<F>)
where
    F: Fn(http::Request<Body>) -> A + Clone + Send + 'static,
    A: Future<Output = http::Response<Body>> + Send + 'static,
{
    let _ = stream.set_nodelay(true);
    let mut builder = Builder::new(TokioExecutor::new()).http2_only();
    builder
        .http2()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES);
    let served = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(handler)).await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of a test server broke");
    }
}

/// An async function as a tower service, for request bodies of any kind.
#[derive(Clone)]
struct Handler<F>(F);

impl<F, A, B> Service<http::Request<B>> for Handler<F>
where
    F: Fn(http::Request<Body>) -> A,
    A: Future<Output = http::Response<Body>> + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let answer = (self.0)(request.map(Body::new));
        Box::pin(async move { Ok(answer.await) })
    }
}
