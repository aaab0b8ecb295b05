//! The Firestore emulator as a child process.
//!
//! The emulator is Google's own Java program. It is found where its installers put it, started on a free port of the
//! loopback interface and stopped when the [`Emulator`] is dropped. On Unix it also ends when this process dies in
//! any way: it runs below a shell that watches a pipe from us, and a closed pipe kills it.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use firebackup_model::DatabaseName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::emulator_search::EmulatorSearch;

const MAIN_CLASS: &str = "com.google.cloud.datastore.emulator.firestore.CloudFirestore";
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(25);
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
const PORT_ATTEMPTS: usize = 5;
const KEPT_LINES: usize = 40;

/// Why the emulator is not there.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// There is no Java.
    #[error(
        "could not start the Firestore emulator: there is no Java on PATH or in JAVA_HOME; it needs Java 11 or newer \
         (Debian: `apt-get install openjdk-17-jre-headless`, macOS: `brew install openjdk`, others: https://adoptium.net)"
    )]
    NoJava,
    /// The emulator is not installed.
    #[error(
        "could not start the Firestore emulator: its jar was not found; install it with \
         `gcloud components install cloud-firestore-emulator`, the Debian package \
         `google-cloud-cli-firestore-emulator`, or `firebase setup:emulators:firestore`"
    )]
    NoJar,
    /// The operating system refused to start it.
    #[error("could not start the Firestore emulator with `{}`", java.display())]
    Spawn {
        /// The Java executable.
        java: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It ended before it answered.
    #[error("the Firestore emulator ended while it started ({status}); it said:\n{output}")]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// Its last lines.
        output: String,
    },
    /// It did not answer in time.
    #[error("the Firestore emulator did not answer on {host} within 60 seconds; it said:\n{output}")]
    Silent {
        /// Where it was asked.
        host: String,
        /// Its last lines.
        output: String,
    },
    /// A request to a running emulator failed.
    #[error("could not {operation} on the Firestore emulator at {host}")]
    Request {
        /// What was being done.
        operation: &'static str,
        /// Where.
        host: String,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// A running emulator refused a request.
    #[error("could not {operation} on the Firestore emulator at {host}: it answered {status}")]
    Refused {
        /// What was being done.
        operation: &'static str,
        /// Where.
        host: String,
        /// The HTTP status code.
        status: u16,
    },
}

/// How an emulator is started.
#[derive(Debug, Clone)]
pub struct EmulatorOptions {
    /// Where it is looked for.
    pub search: EmulatorSearch,
    /// The most heap it may take, in MiB. It holds every document in memory: about 16 KiB each at 1 KB a document.
    pub heap_mib: u32,
}

impl Default for EmulatorOptions {
    fn default() -> Self {
        Self { search: EmulatorSearch::from_system(), heap_mib: 2048 }
    }
}

/// A running emulator; it is stopped when this is dropped.
#[derive(Debug)]
pub struct Emulator {
    host: String,
    process: Process,
}

impl Emulator {
    /// Starts the emulator that is installed on this system, and waits until it answers.
    ///
    /// # Errors
    /// When Java or the emulator is missing, or it does not come up within 60 seconds.
    pub async fn start() -> Result<Self, EmulatorError> {
        Self::start_with(&EmulatorOptions::default()).await
    }

    /// As [`Emulator::start`], with options.
    ///
    /// # Errors
    /// As [`Emulator::start`].
    pub async fn start_with(options: &EmulatorOptions) -> Result<Self, EmulatorError> {
        let java = options.search.java.clone().ok_or(EmulatorError::NoJava)?;
        let jar = options.search.jar().ok_or(EmulatorError::NoJar)?;
        let mut attempt = 1;
        loop {
            let spawn_error = |source| EmulatorError::Spawn { java: java.clone(), source };
            let port = free_port().map_err(spawn_error)?;
            let process = Process::spawn(&java, &arguments(&jar, options.heap_mib, port)).map_err(spawn_error)?;
            let emulator = Self { host: format!("127.0.0.1:{port}"), process };
            match emulator.wait_until_ready().await {
                Ok(emulator) => return Ok(emulator),
                // another process took the port between our looking and the emulator's binding
                Err(EmulatorError::Ended { output, .. }) if port_was_taken(&output) && attempt < PORT_ATTEMPTS => {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Where it listens, as `127.0.0.1:<port>`: what `FIRESTORE_EMULATOR_HOST` takes.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The last lines that it wrote, to explain a failure.
    #[must_use]
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Deletes every document of a database.
    ///
    /// # Errors
    /// When the emulator does not answer, or refuses.
    pub async fn clear(&self, database: &DatabaseName) -> Result<(), EmulatorError> {
        let operation = "clear a database";
        let target = format!("/emulator/v1/{}", escaped(&database.documents_root()));
        let answer = tokio::time::timeout(REQUEST_LIMIT, request(&self.host, "DELETE", &target)).await;
        match answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(200) => Ok(()),
            Ok(status) => Err(EmulatorError::Refused { operation, host: self.host.clone(), status }),
            Err(source) => Err(EmulatorError::Request { operation, host: self.host.clone(), source }),
        }
    }

    /// Stops it and waits until it is gone. Dropping does the same.
    pub fn stop(self) {
        drop(self);
    }

    /// Ready is: it said that it serves our port (another process may answer there), and it answers.
    async fn wait_until_ready(mut self) -> Result<Self, EmulatorError> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Ok(Some(status)) = self.process.child.try_wait() {
                return Err(EmulatorError::Ended { status, output: self.process.output_to_end() });
            }
            if self.process.said(&self.host) && answers(&self.host).await {
                return Ok(self);
            }
            if Instant::now() > deadline {
                return Err(EmulatorError::Silent { host: self.host.clone(), output: self.process.output() });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

fn arguments(jar: &Path, heap_mib: u32, port: u16) -> Vec<std::ffi::OsString> {
    vec![
        format!("-Xmx{heap_mib}m").into(),
        "-cp".into(),
        jar.into(),
        MAIN_CLASS.into(),
        "start".into(),
        "--host=127.0.0.1".into(),
        format!("--port={port}").into(),
    ]
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn port_was_taken(output: &str) -> bool {
    output.contains("BindException") || output.contains("Address already in use")
}

async fn answers(host: &str) -> bool {
    let answer = tokio::time::timeout(Duration::from_secs(1), request(host, "GET", "/")).await;
    matches!(answer, Ok(Ok(200)))
}

/// One HTTP/1.1 request without a body; the status of the answer.
async fn request(host: &str, method: &str, target: &str) -> io::Result<u16> {
    let mut connection = TcpStream::connect(host).await?;
    let head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    connection.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    let mut part = [0; 512];
    while !answer.contains(&b'\n') && answer.len() < 4096 {
        match connection.read(&mut part).await? {
            0 => break,
            length => answer.extend_from_slice(&part[..length]),
        }
    }
    status_of(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(answer.split(|byte| *byte == b'\r').next()?).ok()?;
    line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}

fn escaped(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/()".contains(&byte);
    path.bytes().map(|byte| if plain(byte) { char::from(byte).into() } else { format!("%{byte:02X}") }).collect()
}

/// A child process with the last lines that it wrote.
#[derive(Debug)]
struct Process {
    child: Child,
    lines: Arc<Mutex<Lines>>,
    reader: Option<thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Lines {
    last: VecDeque<String>,
    first: Vec<String>,
}

impl Lines {
    fn push(&mut self, line: String) {
        if self.first.len() < KEPT_LINES {
            self.first.push(line.clone());
        }
        if self.last.len() == KEPT_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

impl Process {
    fn spawn(java: &Path, arguments: &[std::ffi::OsString]) -> io::Result<Self> {
        let mut command = guarded(java);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let lines = Arc::new(Mutex::new(Lines::default()));
        let reader = child.stdout.take().map(|stdout| {
            let lines = Arc::clone(&lines);
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                }
            })
        });
        Ok(Self { child, lines, reader })
    }

    /// Whether one of the first lines holds `text`.
    fn said(&self, text: &str) -> bool {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.first.iter().any(|line| line.contains(text))
    }

    /// The last lines so far; of a long text the first ones too, since Java puts the reason above its stack.
    fn output(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let last = lines.last.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
        if lines.last.iter().eq(lines.first.iter()) { last } else { format!("{}\n…\n{last}", lines.first.join("\n")) }
    }

    /// As [`Process::output`], once a process that has ended has said everything.
    fn output_to_end(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        self.output()
    }
}

impl Drop for Process {
    /// Closing the pipe is the order to end; what does not obey in time is killed.
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if !cfg!(unix) {
            let _ = self.child.kill();
        }
        let deadline = Instant::now() + STOP_LIMIT;
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Runs its arguments until they end or its standard input does. The reader of that input gives up its own output, so
/// that nothing keeps our pipes open, and is ended with the program, so that no stray process stays behind.
#[cfg(unix)]
const GUARD: &str = r#"exec 3<&0 2>&1
"$@" 3<&- </dev/null & program=$!
{ while read -r _; do :; done; kill -9 "$program"; } <&3 >/dev/null 2>&1 & watcher=$!
exec 3<&-
wait "$program"; status=$?
kill -9 "$watcher" 2>/dev/null
exit "$status""#;

/// A command that runs `program` in a process group of its own (an interrupt from the keyboard is ours to handle), and
/// ends with us.
#[cfg(unix)]
fn guarded(program: &Path) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", GUARD, "sh"]).arg(program).process_group(0);
    command
}

#[cfg(not(unix))]
fn guarded(program: &Path) -> Command {
    Command::new(program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    fn spawn_shell(script: &str) -> Process {
        Process::spawn(Path::new("/bin/sh"), &["-c".into(), script.into()]).unwrap()
    }

    fn wait_for(mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(Instant::now() < deadline, "the condition did not come true in time");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether a process runs, by its pid; a zombie does not.
    fn runs(pid: &str) -> bool {
        let state = Command::new("ps").args(["-o", "stat=", "-p", pid]).output().unwrap().stdout;
        !state.is_empty() && state[0] != b'Z'
    }

    #[cfg(unix)]
    #[test]
    fn dropping_ends_the_program_at_once() {
        let process = spawn_shell("echo pid $$; exec sleep 600");
        wait_for(|| process.said("pid "));
        let pid = process.output().trim_start_matches("pid ").to_owned();
        assert!(runs(&pid));
        drop(process);
        wait_for(|| !runs(&pid));
    }

    #[cfg(unix)]
    #[test]
    fn a_program_that_ends_by_itself_is_noticed_with_its_last_lines() {
        let mut process = spawn_shell("echo one; echo two >&2; exit 7");
        let mut status = None;
        wait_for(|| {
            status = process.child.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().code(), Some(7));
        let output = process.output_to_end();
        assert!(output.contains("one") && output.contains("two"), "{output}");
    }

    #[cfg(unix)]
    #[test]
    fn the_program_ends_when_the_process_that_started_it_is_killed() {
        let mut command = guarded(Path::new("/bin/sh"));
        command.args(["-c", "echo pid $$; exec sleep 600"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = line.trim().trim_start_matches("pid ").to_owned();
        assert!(runs(&pid));
        // all that a killed parent does for its child is to close the pipe
        drop(child.stdin.take());
        wait_for(|| !runs(&pid));
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn what_is_missing_is_said_with_how_to_get_it() {
        let nothing = EmulatorSearch::default();
        let options = EmulatorOptions { search: nothing.clone(), heap_mib: 256 };
        let no_java = Emulator::start_with(&options).await.unwrap_err().to_string();
        assert!(no_java.contains("Java 11"), "{no_java}");
        let search = EmulatorSearch { java: Some("java".into()), ..nothing };
        let no_jar = Emulator::start_with(&EmulatorOptions { search, heap_mib: 256 }).await.unwrap_err().to_string();
        for way in ["gcloud components install", "google-cloud-cli-firestore-emulator", "firebase setup:emulators"] {
            assert!(no_jar.contains(way), "{no_jar}");
        }
    }

    #[tokio::test]
    async fn starts_clears_and_stops() {
        let emulator = Emulator::start().await.unwrap();
        let host = emulator.host().to_owned();
        assert!(answers(&host).await);
        emulator.clear(&DatabaseName::new("demo-clear", "(default)")).await.unwrap();
        emulator.stop();
        assert!(TcpStream::connect(&host).await.is_err(), "still listening on {host}");
    }

    #[tokio::test]
    async fn a_java_that_fails_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let jar = folder.path().join("platform/cloud-firestore-emulator/cloud-firestore-emulator.jar");
        std::fs::create_dir_all(jar.parent().unwrap()).unwrap();
        std::fs::write(&jar, b"not a jar").unwrap();
        let search = EmulatorSearch {
            sdk_roots: vec![folder.path().to_owned()],
            java: Some("/bin/false".into()),
            ..EmulatorSearch::default()
        };
        let error = Emulator::start_with(&EmulatorOptions { search, heap_mib: 256 }).await.unwrap_err();
        assert!(matches!(error, EmulatorError::Ended { .. }), "{error:?}");
        assert!(error.source().is_none());
    }

    #[test]
    fn reads_statuses_and_escapes_names() {
        assert_eq!(status_of(b"HTTP/1.1 404 Not Found\r\n"), Some(404));
        assert_eq!(status_of(b"SSH-2.0\r\n"), None);
        assert_eq!(escaped("projects/a b/databases/(default)"), "projects/a%20b/databases/(default)");
    }
}
