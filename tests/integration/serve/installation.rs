//! A folder of a server, the server on it, and a client of its API.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use firebackup_embedded::emulator::Emulator;
use firebackup_google::Firestore;
use firebackup_google::sample::sample;
use firebackup_model::DatabaseName;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::PATIENCE;
use crate::binary::program;
use crate::stage::{database, emulator, firestore, write_all};

/// Of about how many documents a chunk is: a small database has many.
pub const CHUNK: &str = "50";
/// How long a server may take to listen or to end.
const SOON: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(25);

/// A folder for a server, which outlives it.
pub struct Installation {
    pub folder: TempDir,
}

impl Installation {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where the backups go.
    pub fn backups(&self) -> PathBuf {
        self.folder.path().join("backups")
    }

    pub fn url(&self) -> String {
        format!("file://{}", self.backups().display())
    }

    /// What every server on this folder has told on standard error.
    pub fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The program with these arguments, with nothing of this process's environment that could change what it does.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).env_clear().env("PATH", std::env::var("PATH").unwrap_or_default());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `serve` on this folder, on any port.
    pub fn serve(&self, arguments: &[&str]) -> Command {
        let data = self.data().display().to_string();
        let mut command = self.command(&["serve", "--data", &data]);
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(arguments);
        command
    }

    /// A server that does not come up, with `--json`: the exit code, and what it says.
    #[track_caller]
    pub fn refused(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self.serve(&[arguments, &["--json"]].concat()).output().unwrap();
        let told = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        (output.status.code().unwrap_or(-1), told)
    }

    /// Begins a server and does not wait for it; it dies with its handle.
    pub fn spawn(&self, arguments: &[&str]) -> Running {
        self.spawn_in(arguments, &[])
    }

    /// The same in an environment.
    pub fn spawn_in(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Running {
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = self.serve(arguments);
        Running {
            child: command.args(["--json", "-vvv"]).envs(environment.iter().copied()).stderr(log).spawn().unwrap(),
        }
    }

    /// A server that listens.
    pub async fn start(&self, arguments: &[&str]) -> Server {
        self.spawn(arguments).listening().await
    }

    /// What the command line says about the repository of a project, with the server's own key.
    pub fn cli(&self, project: &str, arguments: &[&str]) -> Output {
        let repository = format!("{}/{project}", self.url());
        let key = self.data().join("master.key").display().to_string();
        let places = ["--repo", &repository, "--master-key-file", &key];
        self.command(&[arguments, &places].concat()).output().unwrap()
    }

    /// As [`Self::cli`], with `--json`; it must succeed.
    #[track_caller]
    pub fn cli_json(&self, project: &str, arguments: &[&str]) -> Value {
        let output = self.cli(project, &[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// A process that dies with its handle.
pub struct Running {
    pub child: Child,
}

impl Running {
    /// Waits until it says where it listens.
    pub async fn listening(mut self) -> Server {
        let stdout = self.child.stdout.take().unwrap();
        // the document ends long before the output does
        let read = move || serde_json::Deserializer::from_reader(stdout).into_iter::<Value>().next();
        let told = tokio::time::timeout(SOON, tokio::task::spawn_blocking(read)).await.expect("it did not come up");
        let told = told.unwrap().expect("it ended without a word").unwrap();
        assert!(told["address"].is_string(), "{told:#}");
        Server { running: self, told }
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.end();
    }

    /// Asks it to end, as a supervisor does: how it ended, and how long that took.
    pub fn terminate(mut self) -> (ExitStatus, Duration) {
        let asked = Instant::now();
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, asked.elapsed());
            }
            assert!(asked.elapsed() < SOON, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn end(&mut self) {
        // it may have ended by itself
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// A server that listens.
pub struct Server {
    pub running: Running,
    /// The document that it printed.
    pub told: Value,
}

impl Server {
    pub fn address(&self) -> &str {
        self.told["address"].as_str().unwrap()
    }

    /// The key that the first start prints.
    pub fn owner_key(&self) -> String {
        self.told["apiKey"].as_str().expect("a first start prints the owner's key").to_owned()
    }

    pub fn api(&self, key: &str) -> Api {
        Api { client: Client::new(), address: self.address().to_owned(), key: key.to_owned() }
    }
}

/// A client of the API.
pub struct Api {
    pub client: Client,
    pub address: String,
    pub key: String,
}

impl Api {
    /// The status and the body of an answer.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>, once: Option<&str>) -> (u16, Value) {
        let mut request = self.client.request(method, format!("{}{path}", self.address)).bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(once) = once {
            request = request.header("Idempotency-Key", once);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// What a request that must succeed gives.
    pub async fn data(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let (status, mut answer) = self.ask(method, path, body, None).await;
        assert!((200..300).contains(&status), "{path}: {status}: {answer:#}");
        answer["data"].take()
    }

    pub async fn get(&self, path: &str) -> Value {
        self.data(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        self.data(Method::POST, path, Some(&body)).await
    }

    /// Connects a Google project on an emulator, and returns its id here.
    pub async fn connect(&self, host: &str, project: &str) -> String {
        let credentials = json!({"type": "emulator", "host": host});
        let wanted = json!({"name": project, "googleProject": project, "credentials": credentials});
        id(&self.post("/projects", wanted).await)
    }

    pub async fn back_up(&self, project: &str) -> String {
        id(&self.post("/backups", json!({"projectId": project})).await)
    }

    pub async fn backups(&self, project: &str) -> Vec<Value> {
        self.get(&format!("/backups/project/{project}?limit=100")).await.as_array().unwrap().clone()
    }

    /// Waits until a job is as wanted.
    pub async fn wait(&self, path: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let job = self.get(path).await;
            if is_so(&job) {
                return job;
            }
            assert!(started.elapsed() < PATIENCE, "{what} did not come: {job:#}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until a job has ended, and expects an end.
    pub async fn ends(&self, path: &str, status: &str) -> Value {
        let job = self.wait(path, "an end", has_ended).await;
        assert_eq!(job["status"], status, "{job:#}");
        job
    }

    /// Reads a backup back, every byte of it.
    pub async fn verified(&self, project: &str, backup: &str, documents: u64) {
        let found = self.get(&format!("/backups/{project}/{backup}/verify?full=true")).await;
        let records = found["records"].as_u64();
        assert_eq!((found["verified"].as_bool(), records), (Some(true), Some(documents)), "{found:#}");
    }
}

pub fn id(thing: &Value) -> String {
    thing["id"].as_str().unwrap().to_owned()
}

pub fn has_ended(job: &Value) -> bool {
    ["completed", "failed", "cancelled"].iter().any(|status| job["status"] == *status)
}

/// Another project on the same emulator.
pub fn other_database() -> DatabaseName {
    DatabaseName::new("demo-other", "(default)")
}

/// A server with a project on an emulator, and a folder for its backups.
pub struct Place {
    pub installation: Installation,
    pub emulator: Emulator,
    pub source: Firestore,
    pub key: String,
    /// The project's id in the API.
    pub project: String,
    pub server: Server,
}

impl Place {
    /// A database with so many sample documents.
    pub async fn with(documents: usize) -> Self {
        let emulator = emulator().await;
        let host = emulator.host().to_owned();
        Self::reached_by(emulator, &host, documents).await
    }

    /// The same; the server reaches the emulator by `host`.
    pub async fn reached_by(emulator: Emulator, host: &str, documents: usize) -> Self {
        let source = firestore(emulator.host(), &database()).await;
        write_all(&source, sample(&database(), documents, 1)).await;
        let installation = Installation::new();
        let server = installation.start(&SMALL).await;
        let key = server.owner_key();
        let api = server.api(&key);
        let project = api.connect(host, "demo-app").await;
        api.post("/storage/destinations", json!({"name": "folder", "url": installation.url()})).await;
        Self { installation, emulator, source, key, project, server }
    }

    pub fn api(&self) -> Api {
        self.server.api(&self.key)
    }

    pub fn backup_path(&self, backup: &str) -> String {
        format!("/backups/{}/{backup}", self.project)
    }

    /// Starts another server on the same folder, when the one before has ended.
    pub async fn restart(&mut self) {
        self.server = self.installation.start(&SMALL).await;
    }
}

/// Small chunks and parts: a job has many steps. Buckets are on this machine.
pub const SMALL: [&str; 5] = ["--chunk-documents", CHUNK, "--part-documents", CHUNK, "--allow-private-addresses"];

/// Every file below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}
