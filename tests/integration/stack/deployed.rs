//! A stack on a local AWS, with Google's emulator behind it and a proxy before each of the two.

use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use firebackup_embedded::emulator::Emulator;
use firebackup_google::Firestore;
use firebackup_google::sample::sample;
use firebackup_model::DatabaseName;
use firebackup_testkit::ministack::Ministack;
use firebackup_testkit::{AwsProxy, ListenMode, Proxy, ProxyOptions, eventually};
use serde_json::Value;

use super::api::Api;
use super::aws::Aws;
use super::{code, root};
use crate::stage::{emulator, firestore, read_all, write_all};
use crate::template::FUNCTIONS;

/// How long a job may take that nothing is done to.
pub const BOUND: Duration = Duration::from_secs(120);

/// A running stack. Everything ends when it is dropped.
pub struct Deployed {
    pub api: Api,
    pub aws: Aws,
    /// Between the functions and AWS.
    pub aws_proxy: AwsProxy,
    /// Between the functions and Firestore.
    pub google_proxy: Proxy,
    pub emulator: Emulator,
    pub ministack: Ministack,
    /// The id of the only organization.
    pub organization: String,
    outputs: Value,
    /// The owner's.
    key: String,
    deploying: Deploying,
}

/// What a deployment needs to know.
struct Deploying {
    ministack: String,
    emulator: String,
    zips: PathBuf,
    /// The file of the secret of who signs people in, if somebody does.
    client_secret: Option<PathBuf>,
}

impl Deploying {
    /// Deploys, and gives what was printed; or what was said about why not.
    async fn run(&self, parameters: &str) -> Result<Value, String> {
        let mut command = Command::new(code::python());
        command.arg(root().join("scripts/deploy-local")).stdin(Stdio::null());
        command.env("ENDPOINT", &self.ministack).env("CODE", &self.zips).env("OUTPUT", "json");
        command.env("PARAMETERS", parameters).env("FIRESTORE_EMULATOR_HOST", &self.emulator);
        match &self.client_secret {
            Some(file) => command.env("OIDC_CLIENT_SECRET_FILE", file),
            None => command.env_remove("OIDC_CLIENT_SECRET_FILE"),
        };
        command.env_remove("STACK").env_remove("AWS_PROFILE").env_remove("AWS_ENDPOINT_URL");
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        match output.status.success() {
            true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

/// A connected project with documents.
pub struct Connected {
    pub id: String,
    pub source: Firestore,
    pub documents: u64,
}

impl Deployed {
    /// Deploys with these parameters of the template: `Key=value` each.
    pub async fn with(parameters: &str) -> Self {
        Self::signing_in(parameters, None).await
    }

    /// As [`Self::with`], before a database that tells its changes as production does: those that are written through the
    /// proxy.
    pub async fn listening(parameters: &str) -> Self {
        let options = ProxyOptions { listen: ListenMode::Production, ..ProxyOptions::default() };
        let deployed = Self::before(parameters, None, options).await;
        deployed.google_proxy.control().set_heartbeat(Duration::from_millis(300));
        deployed
    }

    /// As [`Self::with`], with the file of the secret that an issuer gave.
    pub async fn signing_in(parameters: &str, client_secret: Option<PathBuf>) -> Self {
        Self::before(parameters, client_secret, ProxyOptions::default()).await
    }

    async fn before(parameters: &str, client_secret: Option<PathBuf>, google: ProxyOptions) -> Self {
        let given = std::env::var_os("FIREBACKUP_STACK_ZIPS").map(|folder| root().join(folder));
        let zips = match given {
            Some(zips) => zips,
            None => tokio::task::spawn_blocking(code::zips).await.unwrap(),
        };
        let (emulator, aws_proxy) = tokio::join!(emulator(), AwsProxy::start());
        let google_proxy = Proxy::start(emulator.host(), google).await.unwrap();
        // functions get this address of the local AWS, whatever else they are told
        let ministack = Ministack::start_with(&[("AWS_ENDPOINT_URL", &aws_proxy.endpoint())]).await;
        aws_proxy.connect(ministack.endpoint());
        let (at, emulator_host) = (ministack.endpoint().to_owned(), emulator.host().to_owned());
        let deploying = Deploying { ministack: at, emulator: emulator_host, zips, client_secret };
        let deployed = deploying.run(parameters).await;
        let deployed =
            deployed.unwrap_or_else(|said| panic!("the stack was not deployed:\n{said}\n{}", ministack.output()));
        let key = deployed["owner"]["apiKey"].as_str().expect("a new stack has a new owner").to_owned();
        Self {
            api: Api::new(deployed["apiUrl"].as_str().unwrap(), &key),
            aws: Aws::new(ministack.endpoint()),
            organization: deployed["owner"]["organization"].as_str().unwrap().to_owned(),
            outputs: deployed["outputs"].clone(),
            aws_proxy,
            google_proxy,
            emulator,
            ministack,
            key,
            deploying,
        }
    }

    /// Deploys once more, with these parameters.
    pub async fn deploy_again(&mut self, parameters: &str) {
        let deployed =
            self.deploying.run(parameters).await.unwrap_or_else(|said| panic!("not deployed again:\n{said}"));
        assert_eq!(deployed["owner"], Value::Null, "the owner is the one of before");
        self.api = Api::new(deployed["apiUrl"].as_str().unwrap(), &self.key);
        self.outputs = deployed["outputs"].clone();
    }

    /// Runs a script of the stack as somebody would who types this; its output.
    pub async fn script(&self, name: &str, settings: &[(&str, &str)], typed: &'static str) -> Output {
        let mut command = Command::new(code::python());
        command.arg(root().join("scripts").join(name)).envs(settings.iter().copied());
        command.env("REGION", self.ministack.region()).env_remove("STACK").env_remove("AWS_PROFILE");
        command.envs(self.ministack.environment()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let run = move || {
            let mut child = command.spawn().unwrap();
            // it may end without reading
            let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
            child.wait_with_output().unwrap()
        };
        tokio::task::spawn_blocking(run).await.unwrap()
    }

    /// The owner's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// An output of the template, such as `BucketName`.
    pub fn output(&self, name: &str) -> &str {
        self.outputs[name].as_str().unwrap_or_else(|| panic!("the stack has no output {name}: {:#}", self.outputs))
    }

    /// The URL of the stack's own bucket.
    pub fn bucket_url(&self) -> String {
        format!("s3://{}", self.output("BucketName"))
    }

    /// Writes so many documents more or less.
    pub async fn documents(&self, google_project: &str, documents: usize) -> Firestore {
        let database = DatabaseName::new(google_project, "(default)");
        let source = firestore(self.emulator.host(), &database).await;
        write_all(&source, sample(&database, documents, 1)).await;
        source
    }

    /// A database with so many documents more or less, connected as a project. What functions say to it goes through the
    /// proxy.
    pub async fn project(&self, google_project: &str, documents: usize) -> Connected {
        let source = self.documents(google_project, documents).await;
        let documents = read_all(&source).await.len() as u64;
        let project = self.api.connect(google_project, &self.google_proxy.host()).await;
        let id = project["id"].as_str().unwrap().to_owned();
        Connected { id, source, documents }
    }

    /// The ids of the backups that the repository of a project lists: of these alone it can be restored.
    pub async fn listed(&self, project: &str) -> Vec<String> {
        let prefix = format!("{project}/snapshots/");
        let objects = self.aws.objects(self.output("BucketName"), &prefix).await;
        let ids = objects.iter().filter_map(|key| key.strip_prefix(&prefix)?.strip_suffix(".manifest"));
        ids.map(str::to_owned).collect()
    }

    /// What a job that has ended left in a repository besides what is listed: receipts and an intent.
    pub async fn traces(&self, project: &str, job: &str) -> Vec<String> {
        let mut objects = self.aws.objects(self.output("BucketName"), &format!("{project}/")).await;
        let of_job = [format!("/receipts/{job}/"), format!("/intents/{job}")];
        objects.retain(|key| of_job.iter().any(|part| key.contains(part)));
        objects
    }

    /// Completed, listed, whole and read back byte for byte; nothing left of the way there.
    pub async fn assert_whole(&self, job: &Value, project: &Connected) {
        let id = job["id"].as_str().unwrap();
        assert_eq!(job["status"], "completed", "{job:#}");
        assert_eq!(job["result"]["documents"].as_u64(), Some(project.documents), "{job:#}");
        let listed = self.listed(&project.id).await;
        assert_eq!(listed.iter().filter(|listed| *listed == id).count(), 1, "{listed:?}");
        let verified = self.api.get(&format!("/backups/{}/{id}/verify", project.id)).await;
        assert_eq!(verified["verified"], true, "{verified:#}");
        assert_eq!(self.traces(&project.id, id).await, [""; 0]);
    }

    /// Waits until the execution of a job has ended so.
    pub async fn execution_ends(&self, job: &str, status: &str) {
        let is_backup = job.starts_with("bkp_");
        let machine = self.output(if is_backup { "BackupStateMachineArn" } else { "RestoreStateMachineArn" });
        let end = eventually("the execution ends", BOUND, async || {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let executions = self.aws.executions(machine, job).await;
            let status = executions.first()?["status"].as_str()?.to_owned();
            (status != "RUNNING").then_some(status)
        });
        assert_eq!(end.await, status);
    }

    /// Waits until a function has logged a line that names the job and contains this.
    pub async fn says(&self, function: &str, job: &str, what: &str) {
        let function = format!("{}-{function}", self.output("TableName"));
        eventually(&format!("{function} says {what} of {job}"), BOUND, async || {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let lines = self.aws.logs(&function).await;
            lines.iter().any(|line| line.contains(job) && line.contains(what)).then_some(())
        })
        .await;
    }

    /// Waits until nothing is in a queue.
    pub async fn is_empty(&self, queue: &str) {
        eventually("the queue is empty", BOUND, async || {
            tokio::time::sleep(Duration::from_millis(300)).await;
            (self.aws.waiting(queue).await == 0).then_some(())
        })
        .await;
    }

    /// Runs a part of a test. Where that fails, says what the stack has to say about it first.
    pub async fn explaining<T>(&self, what: &str, part: impl Future<Output = T>) -> T {
        let begun = std::time::Instant::now();
        let outcome = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(part)).await;
        self.aws_proxy.faults().clear();
        self.google_proxy.control().clear_faults();
        eprintln!("{what}: {:.1} s", begun.elapsed().as_secs_f64());
        match outcome {
            Ok(value) => value,
            Err(panic) => {
                eprintln!("{what} has failed");
                self.explain().await;
                std::panic::resume_unwind(panic)
            }
        }
    }

    async fn explain(&self) {
        eprintln!("ministack said:\n{}", self.ministack.output());
        for function in FUNCTIONS {
            let lines = self.aws.logs(&format!("firebackup-{function}")).await;
            for line in lines.iter().skip(lines.len().saturating_sub(40)) {
                eprintln!("{function}: {}", line.trim_end());
            }
        }
    }
}
