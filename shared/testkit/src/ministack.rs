//! A local AWS: `ministack` as a child process.
//!
//! It is a Python program that `make target/ministack/.installed` puts below `target/`. Everything is kept in memory.
//! It starts on a free port of the loopback interface and ends when the [`Ministack`] is dropped, and on Unix also when
//! the process that started it dies in any way: it runs below a shell that watches a pipe from us.
//!
//! Credentials and policies are not checked, so any key is let in. A start takes about a second and 40 MB: let one test
//! function run a whole suite.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(10);
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(25);
const PORT_ATTEMPTS: usize = 5;
const KEPT_LINES: usize = 200;
const REGION: &str = "us-east-1";
const ACCOUNT: &str = "000000000000";
const KEY: &str = "test";

/// A running local AWS; it is stopped when this is dropped.
#[derive(Debug)]
pub struct Ministack {
    endpoint: String,
    process: Process,
}

impl Ministack {
    /// Starts one.
    ///
    /// # Panics
    /// When it is not installed, or does not come up within 60 seconds.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with more of its settings, such as `("SFN_WAIT_SCALE", "0")`.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        let program = program().unwrap_or_else(|| {
            panic!("ministack is not installed: run `make target/ministack/.installed`");
        });
        for _ in 0..PORT_ATTEMPTS {
            let port = free_port().expect("a free port of the loopback interface");
            let process = Process::spawn(&program, port, settings).expect("start ministack");
            let mut started = Self { endpoint: format!("http://127.0.0.1:{port}"), process };
            match started.wait_until_ready().await {
                Ok(()) => return started,
                // another process took the port between our looking and its binding
                Err(output) if output.contains("already in use") => {}
                Err(output) => panic!("ministack did not come up; it said:\n{output}"),
            }
        }
        panic!("ministack found {PORT_ATTEMPTS} ports taken, one after the other");
    }

    /// Its base URL, which stands for all services.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Its region.
    #[must_use]
    pub fn region(&self) -> &str {
        REGION
    }

    /// The account that everything belongs to.
    #[must_use]
    pub fn account(&self) -> &str {
        ACCOUNT
    }

    /// The environment of a process that is to find it: names and values.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let variables = [
            ("AWS_ENDPOINT_URL", self.endpoint.as_str()),
            ("AWS_REGION", REGION),
            ("AWS_DEFAULT_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", KEY),
        ];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// Removes everything that was made in it.
    ///
    /// # Panics
    /// When it does not answer, or refuses.
    pub async fn reset(&self) {
        let answer = client().post(format!("{}/_ministack/reset", self.endpoint)).send().await;
        let status = answer.expect("ministack answers").status();
        assert!(status.is_success(), "ministack answered {status}; it said:\n{}", self.output());
    }

    /// The last lines that it wrote, to explain a failure.
    #[must_use]
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// What it said, when it does not come up.
    async fn wait_until_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_LIMIT;
        let (client, health) = (client(), format!("{}/_ministack/health", self.endpoint));
        loop {
            if let Ok(Some(status)) = self.process.child.try_wait() {
                return Err(format!("{}\nit ended: {status}", self.process.output_to_end()));
            }
            let answer = client.get(&health).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.output());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// A proxy of this machine has nothing to do with its loopback interface.
fn client() -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy().timeout(REQUEST_LIMIT);
    builder.build().expect("an HTTP client")
}

/// Below the target folder that cargo was told, or the workspace's own.
fn program() -> Option<PathBuf> {
    let told = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let programs = told.into_iter().chain([own]).map(|target| target.join("ministack/venv/bin/ministack"));
    programs.into_iter().find(|program| program.exists())
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The child with the last lines that it wrote.
#[derive(Debug)]
struct Process {
    child: Child,
    lines: Arc<Mutex<VecDeque<String>>>,
    reader: Option<thread::JoinHandle<()>>,
    /// Where it keeps what it must: its process id, the code of functions.
    _folder: tempfile::TempDir,
}

impl Process {
    fn spawn(program: &Path, port: u16, settings: &[(&str, &str)]) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = guarded(program);
        command.env_remove("SERVICES").env_remove("AWS_PROFILE").env("TMPDIR", folder.path());
        // it binds to every address unless told otherwise, and to a second port for the Internet of Things
        command.env("BIND_HOST", "127.0.0.1").env("IOT_MTLS_ENABLED", "0").env("SFTP_ENABLED", "0");
        command.env("GATEWAY_PORT", port.to_string()).env("MINISTACK_REGION", REGION);
        // functions get this address, and these keys
        command.env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"));
        command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", KEY);
        command.envs(settings.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn()?;
        let lines = Arc::<Mutex<VecDeque<String>>>::default();
        let reader = child.stdout.take().map(|stdout| {
            let lines = Arc::clone(&lines);
            thread::spawn(move || {
                BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| keep(&lines, line))
            })
        });
        Ok(Self { child, lines, reader, _folder: folder })
    }

    fn output(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// As [`Self::output`], once a process that has ended has said everything.
    fn output_to_end(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        self.output()
    }
}

fn keep(lines: &Mutex<VecDeque<String>>, line: String) {
    let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
    if lines.len() == KEPT_LINES {
        lines.pop_front();
    }
    lines.push_back(line);
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

/// Runs its arguments until they end or its standard input does; then asks the program to end, for it has processes of
/// its own to end, and kills the whole group if it does not.
#[cfg(unix)]
const GUARD: &str = r#"exec 3<&0 2>&1
"$@" 3<&- </dev/null & program=$!
{ while read -r _; do :; done; kill "$program"; sleep 5; kill -9 0; } <&3 >/dev/null 2>&1 & watcher=$!
exec 3<&-
wait "$program"; status=$?
kill -9 "$watcher" 2>/dev/null
exit "$status""#;

/// A command that runs `program` in a process group of its own and ends with us.
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

    #[tokio::test]
    async fn starts_forgets_and_stops() {
        let ministack = Ministack::start().await;
        let object = format!("{}/bucket/object", ministack.endpoint());
        let http = client();
        let put = async |url: &str| http.put(url).body("x").send().await.unwrap().status();
        assert!(put(&format!("{}/bucket", ministack.endpoint())).await.is_success());
        assert!(put(&object).await.is_success());
        assert_eq!(http.get(&object).send().await.unwrap().text().await.unwrap(), "x");
        ministack.reset().await;
        assert_eq!(http.get(&object).send().await.unwrap().status(), 404);
        assert!(ministack.output().contains("Ready"), "{}", ministack.output());
        let address = ministack.endpoint().trim_start_matches("http://").to_owned();
        drop(ministack);
        assert!(std::net::TcpStream::connect(&address).is_err(), "still listening on {address}");
    }
}
