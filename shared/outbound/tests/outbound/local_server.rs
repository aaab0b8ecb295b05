//! A server on the loopback interface that says what a test wants, byte by byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use firebackup_outbound::Url;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// It stops when dropped.
pub struct LocalServer {
    address: SocketAddr,
    hits: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

/// What is said behind the request.
#[derive(Clone)]
pub enum Says {
    /// This, and the connection ends.
    Once(String),
    /// This, and then nothing, with the connection open.
    Begins(&'static str),
    /// This, and then the last byte for ever.
    Endless(&'static str),
}

impl LocalServer {
    pub async fn start(says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, hits) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let counted = Arc::clone(&hits);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(answer(stream, says.clone()));
            }
        });
        Self { address, hits, task }
    }

    pub fn url(&self) -> Url {
        self.url_at("127.0.0.1")
    }

    /// Its URL under another name.
    pub fn url_at(&self, host: &str) -> Url {
        Url::parse(&format!("http://{host}:{}/planted-path?key=planted-query", self.address.port())).unwrap()
    }

    /// How many connections there were.
    pub fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is written is read by nobody some day: failing to write is no failure.
async fn answer(mut stream: TcpStream, says: Says) {
    let mut request = [0; 16 * 1024];
    let _ = stream.read(&mut request).await;
    match says {
        Says::Once(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
        }
        Says::Begins(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            std::future::pending().await
        }
        Says::Endless(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            while stream.write_all(&[b'x'; 1024]).await.is_ok() {}
        }
    }
}
