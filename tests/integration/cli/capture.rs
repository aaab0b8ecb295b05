//! Changes captured by the program, as somebody runs it for days: on the emulator, which resets every listen, and before
//! a proxy that listens as production does.

mod drill;
mod ending;
mod moments;
mod reported;
mod windows;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use bytes::Bytes;
use firebackup_codec::typed_json::read_json;
use firebackup_embedded::emulator::Emulator;
use firebackup_google::Firestore;
use firebackup_model::port::{Precondition, Write};
use firebackup_model::{DatabaseName, DocumentPath, Timestamp};
use firebackup_testkit::{ListenMode, Proxy, ProxyOptions};
use serde_json::Value;

use super::json_ends;
use crate::binary::Program;
use crate::stage::{Documents, database, emulator, firestore, read_all, write};

/// How long to wait for what takes a second or two on an idle machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// An emulator, before it a proxy that answers listens as production does, and a repository.
struct Place {
    source: Firestore,
    program: Program,
    proxy: Proxy,
    _emulator: Emulator,
}

impl Place {
    async fn new() -> Self {
        let emulator = emulator().await;
        let options = ProxyOptions { listen: ListenMode::Production, ..ProxyOptions::default() };
        let proxy = Proxy::start(emulator.host(), options).await.unwrap();
        // a server says after half a minute without a change that there was none
        proxy.control().set_heartbeat(Duration::from_millis(300));
        let source = firestore(&proxy.host(), &database()).await;
        Self { source, program: Program::new(&proxy.host()), proxy, _emulator: emulator }
    }

    /// With a few documents and a backup of them.
    async fn begun() -> Self {
        let place = Self::new().await;
        put(&place.source, (0..20).map(|n| (format!("users/u{n:02}"), n))).await;
        put(&place.source, [("users/u00/orders/1".to_owned(), 1)]).await;
        json_ends(&place.program, &["backup"], 0);
        place
    }

    /// What the database holds, and when the last document was put. A capture tells a point at or behind that, and none
    /// behind anything later for as long as nothing changes.
    async fn now(&self) -> (Timestamp, Documents) {
        let documents = read_all(&self.source).await;
        let put = documents.values().filter_map(|bytes| firebackup_model::document::head(bytes).unwrap().update_time);
        (put.max().unwrap(), documents)
    }

    async fn of(&self, name: &str) -> Firestore {
        firestore(&self.proxy.host(), &DatabaseName::new("demo-app", name)).await
    }
}

/// A document with one number; it refers to nothing.
fn document(path: &str, n: i64) -> Bytes {
    let name = database().document_name(path);
    read_json(&format!(r#"{{"name": "{name}", "fields": {{"n": {{"integerValue": "{n}"}}}}}}"#)).unwrap().into()
}

async fn put(firestore: &Firestore, documents: impl IntoIterator<Item = (String, i64)>) {
    let writes = documents.into_iter().map(|(path, n)| {
        let document = Some(document(&path, n));
        Write { path: DocumentPath::new(path.as_str()).unwrap(), document, precondition: Precondition::None }
    });
    write(firestore, writes.collect()).await;
}

async fn remove(firestore: &Firestore, path: &str) {
    let path = DocumentPath::new(path).unwrap();
    write(firestore, vec![Write { path, document: None, precondition: Precondition::None }]).await;
}

/// A capture that runs, and the events that it tells.
struct Capture {
    child: Child,
    events: Receiver<Value>,
}

impl Capture {
    fn start(program: &Program, arguments: &[&str]) -> Self {
        let mut child = program.command(&[&["pitr", "start", "--json"], arguments].concat()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (tell, events) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                if tell.send(event).is_err() {
                    return;
                }
            }
        });
        Self { child, events }
    }

    /// Waits for an event that is what is wanted.
    #[track_caller]
    fn hears(&self, what: &str, mut is_it: impl FnMut(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        let mut others = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) if is_it(&event) => return event,
                Ok(event) => others.push(event),
                Err(error) => panic!("{what} was not told ({error}), but {others:#?}"),
            }
        }
    }

    #[track_caller]
    fn hears_event(&self, name: &str) -> Value {
        self.hears(name, |event| event["event"] == name)
    }

    /// Waits until everything up to a time is proven; the point up to which it is.
    #[track_caller]
    fn proves(&self, time: Timestamp) -> Timestamp {
        let through = |event: &Value| moment(&event["proven_through"]);
        let event = self.hears("a proof", |event| through(event).is_some_and(|through| through >= time));
        through(&event).unwrap()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end of the process, within a bound; what it told last.
    #[track_caller]
    fn ends(mut self, code: i32) -> Vec<Value> {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        };
        let rest: Vec<Value> = self.events.iter().collect();
        assert_eq!(status.code(), Some(code), "{rest:#?}");
        rest
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // what has ended cannot be killed, and need not be
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn moment(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// Just behind a moment.
fn behind(time: Timestamp) -> String {
    let nanos = (time.nanos + 1000) % 1_000_000_000;
    Timestamp::new(time.seconds + i64::from(nanos < 1000), nanos).to_string()
}

/// The events of a capture of one window, by name.
#[track_caller]
fn once(program: &Program, code: i32) -> BTreeMap<String, Value> {
    let output = program.run(&["pitr", "start", "--once", "--prove-every", "1s", "--json"]);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.map(|event| (event["event"].as_str().unwrap_or("error").to_owned(), event)).collect()
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}
