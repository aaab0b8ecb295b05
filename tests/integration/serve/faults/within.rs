//! The server in this process: the same as `serve`, with settings that the command has none for.

use std::path::PathBuf;
use std::sync::Arc;

use firebackup_bootstrap::local::{LocalApp, LocalSettings};
use firebackup_bootstrap::server::{Guard, Server};
use firebackup_bootstrap::{SignInSettings, StepSettings};
use firebackup_codec::secret::SecretKey;
use firebackup_embedded::{Database, SqliteWorkflows, SystemRandom, WorkflowOptions, key_file};
use futures::poll;
use reqwest::Client;
use tokio::sync::watch;

use crate::serve::installation::{Api, Installation};

const PARALLEL: usize = 4;

/// The database in the folder of a server.
pub fn database(installation: &Installation) -> PathBuf {
    installation.data().join("firebackup.db")
}

/// A server that listens.
pub struct Within {
    app: LocalApp,
    server: Server,
    stop: watch::Sender<bool>,
    database: PathBuf,
}

impl Within {
    /// One on a folder that a server has made, and that no other serves now.
    pub async fn on(installation: &Installation, steps: StepSettings) -> Self {
        let key = key_file::read(&installation.data().join("master.key")).unwrap();
        let settings = LocalSettings {
            events_issuer: firebackup_bootstrap::GOOGLE.to_owned(),
            events_url: None,
            emulator: None,
            steps,
            parallel: PARALLEL,
            ambient: Vec::new(),
            sign_in: SignInSettings::default(),
            allow_private_addresses: true,
        };
        let master = SecretKey::from_bytes(*key.expose());
        let app = LocalApp::open(&installation.data(), master, settings).await.unwrap();
        let server = Server::listen("127.0.0.1:0".parse().unwrap(), &Guard::Loopback).await.unwrap();
        Self { app, server, stop: watch::Sender::new(false), database: database(installation) }
    }

    pub fn api(&self, key: &str) -> Api {
        let address = format!("http://{}/api/v1", self.server.address);
        Api { client: Client::new(), address, key: key.to_owned() }
    }

    /// Answers while the test goes on, and does nothing of what it is asked for.
    pub async fn only_answering<T>(self, test: impl Future<Output = T>) -> T {
        self.answering(async {}, test).await
    }

    /// Answers and works while the test goes on.
    pub async fn working<T>(self, test: impl Future<Output = T>) -> T {
        let app = self.app.clone();
        // the futures of all workers are too much for the stack of a test
        let work = Box::pin(app.work(self.stop.subscribe()));
        self.answering(work, test).await
    }

    /// The same, with somebody else at the steps of jobs, who tries each once and not eight times: that takes minutes.
    pub async fn working_with_little_patience<T>(self, test: impl AsyncFnOnce(&SqliteWorkflows) -> T) -> T {
        let options = WorkflowOptions { parallel_chunks: PARALLEL, tries: 1, ..WorkflowOptions::default() };
        let database = Database::open(&*self.database).await.unwrap();
        let workflows = SqliteWorkflows::new(database, Arc::new(SystemRandom), options);
        let (app, mut stop) = (self.app.clone(), self.stop.subscribe());
        let stopped = async move { drop(stop.wait_for(|stopped| *stopped).await) };
        let mut running = Box::pin(workflows.run(Arc::new(app.steps.clone()), stopped));
        // it is first, and so the one that does the steps
        assert!(poll!(&mut running).is_pending());
        let work = Box::pin(app.work(self.stop.subscribe()));
        let both = async {
            tokio::join!(running, work);
        };
        self.answering(both, test(&workflows)).await
    }

    async fn answering<T>(self, beside: impl Future<Output = ()>, test: impl Future<Output = T>) -> T {
        let Self { app, server, stop, .. } = self;
        let serving = server.serve(app.http_state(), app.live(), stop.subscribe());
        let testing = async {
            let given = test.await;
            stop.send_replace(true);
            given
        };
        let (served, (), given) = tokio::join!(serving, beside, testing);
        served.unwrap();
        given
    }
}
