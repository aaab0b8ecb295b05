//! A server on the loopback interface that says what a test wants, byte by byte.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use url::Url;

/// The most bytes of a request that are read.
const MOST: usize = 64 * 1024;

/// A server that understands nothing and answers all the same. It stops when dropped.
#[derive(Debug)]
pub struct LocalServer {
    address: SocketAddr,
    requests: Requests,
    task: JoinHandle<()>,
}

/// What came, a text a connection.
#[derive(Debug, Clone, Default)]
struct Requests(Arc<Mutex<Vec<String>>>);

impl Requests {
    fn inside(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is said behind the request.
#[derive(Debug, Clone)]
pub enum Says {
    /// This, and the connection ends.
    Once(String),
    /// This, and then nothing, with the connection open.
    Begins(&'static str),
    /// This, and then the last byte for ever.
    Endless(&'static str),
}

impl Says {
    /// JSON with a status, and the connection ends.
    #[must_use]
    pub fn json(status: u16, body: &str) -> Self {
        let length = body.len();
        let head = format!("HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n");
        Self::Once(format!("{head}connection: close\r\n\r\n{body}"))
    }
}

impl LocalServer {
    /// One that says the same to everybody.
    ///
    /// # Panics
    /// When no port can be bound.
    pub async fn start(says: Says) -> Self {
        Self::start_in_turn(vec![says]).await
    }

    /// One that says the first to who connects first, the next to the next, and the last to all others.
    ///
    /// # Panics
    /// When there is nothing to say, or no port can be bound.
    pub async fn start_in_turn(says: Vec<Says>) -> Self {
        assert!(!says.is_empty(), "a server says something");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of the loopback interface");
        let address = listener.local_addr().expect("its address");
        let requests = Requests::default();
        let task = tokio::spawn(serve(listener, says, requests.clone()));
        Self { address, requests, task }
    }

    /// `host:port`.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// A URL of it, with what must not be told.
    #[must_use]
    pub fn url(&self) -> Url {
        self.url_at("127.0.0.1")
    }

    /// Its URL under another name.
    ///
    /// # Panics
    /// When `host` is no name of a host.
    #[must_use]
    pub fn url_at(&self, host: &str) -> Url {
        let url = format!("http://{host}:{}/planted-path?key=planted-query", self.address.port());
        Url::parse(&url).expect("a URL")
    }

    /// How many connections there were.
    #[must_use]
    pub fn hits(&self) -> usize {
        self.requests.inside().len()
    }

    /// What was asked on each connection, head and body.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.requests.inside().clone()
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, says: Vec<Says>, requests: Requests) {
    let mut turns = says.iter().cloned();
    let last = says.last().cloned();
    while let Ok((stream, _)) = listener.accept().await {
        let Some(says) = turns.next().or_else(|| last.clone()) else { return };
        let place = {
            let mut requests = requests.inside();
            requests.push(String::new());
            requests.len() - 1
        };
        tokio::spawn(answer(stream, says, requests.clone(), place));
    }
}

/// What is written is read by nobody some day: failing to write is no failure.
async fn answer(mut stream: TcpStream, says: Says, requests: Requests, place: usize) {
    let request = read(&mut stream).await;
    requests.inside()[place] = request;
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

/// A request, as far as it says that it goes.
async fn read(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while bytes.len() < MOST && !is_whole(&String::from_utf8_lossy(&bytes)) {
        match stream.read(&mut buffer).await {
            Ok(read @ 1..) => bytes.extend_from_slice(&buffer[..read]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_whole(text: &str) -> bool {
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned));
    length.and_then(|length| length.trim().parse().ok()).is_none_or(|length: usize| body.len() >= length)
}
