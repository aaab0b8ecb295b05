//! A server whose backups go to a bucket of a local AWS, with a proxy before it and one before Firestore.

use std::sync::{Arc, Mutex, PoisonError};

use firebackup_testkit::ministack::Ministack;
use firebackup_testkit::{AwsCall, AwsFault, AwsProxy, HttpClient, Proxy, ProxyOptions, eventually};
use serde_json::{Map, Value, json};

use super::BOUND;
use crate::serve::installation::{Api, Place, id};
use crate::stage::emulator;

const BUCKET: &str = "backups";
/// What the local AWS tells its address with: a destination is told its own.
const ENDPOINT: &str = "AWS_ENDPOINT_URL";

/// A place that keeps its backups in the bucket.
pub struct Bucketed {
    pub place: Place,
    /// Between the server and Firestore.
    pub google: Proxy,
    /// Between the server and the bucket.
    pub aws: AwsProxy,
    ministack: Ministack,
}

impl Bucketed {
    /// A database with so many sample documents, and a server that runs.
    pub async fn with(documents: usize) -> Self {
        let (emulator, ministack, aws) = tokio::join!(emulator(), Ministack::start(), AwsProxy::start());
        aws.connect(ministack.endpoint());
        let made = HttpClient::new().send("PUT", &format!("{}/{BUCKET}", ministack.endpoint()), &[], "").await;
        assert_eq!(made.status, 200, "{}", made.text());
        let google = Proxy::start(emulator.host(), ProxyOptions::default()).await.unwrap();
        let place = Place::reached_by(emulator, &google.host(), documents).await;
        let options: Map<String, Value> =
            ministack.environment().into_iter().map(|(name, value)| (name, value.into())).collect();
        let options = options.into_iter().filter(|(name, _)| name != ENDPOINT).collect::<Map<_, _>>();
        let url = format!("s3://{BUCKET}");
        let wanted = json!({
            "name": "bucket", "url": url, "endpoint": aws.endpoint(), "options": options, "isDefault": true,
        });
        let found = place.api().post("/storage/destinations", wanted).await;
        assert_eq!((&found["isDefault"], &found["findings"]["missing"]), (&json!(true), &json!([])), "{found:#}");
        Self { place, google, aws, ministack }
    }

    /// Notes what is put from now on, until faults are cleared.
    pub fn note_puts(&self) -> Puts {
        let puts = Puts::default();
        let noted = puts.clone();
        self.aws.faults().strike(move |call| {
            if is_put(call) {
                noted.0.lock().unwrap_or_else(PoisonError::into_inner).push(call.path.clone());
            }
            None
        });
        puts
    }

    /// What the command line says about the repository, which it reads past the proxy.
    #[track_caller]
    pub fn cli_json(&self, arguments: &[&str]) -> Value {
        let installation = &self.place.installation;
        let repository = format!("s3://{BUCKET}/{}", self.place.project);
        let key = installation.data().join("master.key").display().to_string();
        let places = ["--json", "--repo", &repository, "--master-key-file", &key];
        let mut command = installation.command(&[arguments, &places].concat());
        let output = command.envs(self.ministack.environment()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The ids of all snapshots that are listed.
    #[track_caller]
    pub fn listed(&self) -> Vec<String> {
        let listed = self.cli_json(&["list"]);
        let snapshots = listed["snapshots"].as_array().unwrap();
        snapshots.iter().map(id).collect()
    }

    /// Completed, listed once, and read back, every byte of it; nothing is left of the way there.
    pub async fn assert_whole(&self, api: &Api, backup: &str, documents: u64) {
        let done = api.ends(&self.place.backup_path(backup), "completed").await;
        assert_eq!(done["result"]["documents"].as_u64(), Some(documents), "{done:#}");
        assert_eq!(done["result"]["consistency"], "snapshot", "{done:#}");
        let listed = self.listed();
        assert_eq!(listed.iter().filter(|listed| *listed == backup).count(), 1, "{listed:?}");
        api.verified(&self.place.project, backup, documents).await;
        self.assert_no_traces().await;
    }

    /// No job leaves anything behind that it would go on with. (A restore says that it has ended before it clears away.)
    pub async fn assert_no_traces(&self) {
        eventually("no job has left anything", BOUND, async || {
            (self.cli_json(&["jobs"])["jobs"] == json!([])).then_some(())
        })
        .await;
    }
}

/// The paths of objects that were put, in order; those that were refused too.
#[derive(Clone, Default)]
pub struct Puts(Arc<Mutex<Vec<String>>>);

impl Puts {
    /// Those whose paths contain this.
    pub fn of(&self, part: &str) -> Vec<String> {
        let puts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        puts.iter().filter(|path| path.contains(part)).cloned().collect()
    }

    /// Of paths that go on with two numbers behind `prefix`, those numbers.
    pub fn numbers(&self, prefix: &str) -> Vec<(u32, u32)> {
        let numbers = |path: &String| {
            let (_, numbers) = path.split_once(prefix)?;
            let (first, second) = numbers.split_once('/')?;
            Some((first.parse().ok()?, second.parse().ok()?))
        };
        self.of(prefix).iter().filter_map(numbers).collect()
    }
}

/// Whether an object is put.
pub fn is_put(call: &AwsCall) -> bool {
    call.service == "s3" && call.operation == "PUT"
}

/// A rule that throttles the bucket wherever this says so.
pub fn throttles(
    mut strikes: impl FnMut(&AwsCall) -> bool + Send + 'static,
) -> impl FnMut(&AwsCall) -> Option<AwsFault> + Send + 'static {
    move |call| (call.service == "s3" && strikes(call)).then_some(AwsFault::Throttle)
}
