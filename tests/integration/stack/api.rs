//! The HTTP API as its users speak to it.

use std::time::Duration;

use firebackup_testkit::http_client::HttpAnswer;
use firebackup_testkit::{HttpClient, eventually};
use serde_json::{Value, json};

/// A caller with a key.
pub struct Api {
    client: HttpClient,
    url: String,
    key: String,
}

/// How often a read is asked again that a throttled service kept from being answered, and the pause between.
const READ_AGAIN: usize = 10;
const READ_PAUSE: Duration = Duration::from_millis(500);

impl Api {
    pub fn new(url: &str, key: &str) -> Self {
        Self { client: HttpClient::new(), url: url.to_owned(), key: key.to_owned() }
    }

    /// Where the API is, without `/api/v1`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends a request below `/api/v1` and gives its `data`; panics where it is refused.
    pub async fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        self.ask_once(method, path, body, None).await
    }

    /// As [`Self::ask`], with an idempotency key.
    pub async fn ask_once(&self, method: &str, path: &str, body: &Value, once: Option<&str>) -> Value {
        let answer = self.answer(method, path, body, once).await;
        let mut value = answer.json();
        assert!(
            (200..300).contains(&answer.status) && value["success"] == true,
            "{method} {path} {body}: {} {}",
            answer.status,
            answer.text()
        );
        value["data"].take()
    }

    /// Posts what must be refused: with which status and code it was.
    pub async fn refused(&self, path: &str, body: &Value) -> (u16, String) {
        let answer = self.answer("POST", path, body, None).await;
        let code = answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
        (answer.status, code)
    }

    async fn answer(&self, method: &str, path: &str, body: &Value, once: Option<&str>) -> HttpAnswer {
        let authorization = format!("Bearer {}", self.key);
        let mut headers = vec![("authorization", authorization.as_str())];
        headers.extend(once.map(|key| ("idempotency-key", key)));
        let text = if body.is_null() { String::new() } else { body.to_string() };
        if !body.is_null() {
            headers.push(("content-type", "application/json"));
        }
        let url = format!("{}/api/v1{path}", self.url);
        let mut answer = self.client.send(method, &url, &headers, text.clone()).await;
        // what the answer says to do: a read is asked again when a service was throttled for longer than we wait for it
        for _ in 0..READ_AGAIN {
            if method != "GET" || answer.status != 503 {
                break;
            }
            tokio::time::sleep(READ_PAUSE).await;
            answer = self.client.send(method, &url, &headers, text.clone()).await;
        }
        answer
    }

    pub async fn get(&self, path: &str) -> Value {
        self.ask("GET", path, &Value::Null).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        self.ask("POST", path, &body).await
    }

    /// Connects a Google project of an emulator.
    pub async fn connect(&self, google_project: &str, host: &str) -> Value {
        let credentials = json!({"type": "emulator", "host": host});
        let new = json!({
            "name": google_project, "googleProject": google_project, "credentials": credentials, "databases": ["(default)"]
        });
        let project = self.post("/projects", new).await;
        assert_eq!(project["status"], "connected", "{project:#}");
        project
    }

    /// Adds a destination.
    pub async fn add_destination(&self, url: &str) -> Value {
        let destination =
            self.post("/storage/destinations", json!({"name": "stack", "url": url, "isDefault": true})).await;
        assert_eq!(destination["url"], url, "{destination:#}");
        destination
    }

    /// Asks for a backup; gives its path.
    pub async fn backup(&self, project: &str) -> String {
        let backup = self.post("/backups", json!({"projectId": project})).await;
        path_of(&backup)
    }

    /// Waits until the job at `path` has one of these statuses.
    pub async fn reaches(&self, path: &str, statuses: &[&str], bound: Duration) -> Value {
        let what = format!("{path} is one of {statuses:?}");
        let is_there = |job: &Value| statuses.iter().any(|status| job["status"] == *status);
        let end = eventually(&what, bound, async || {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let job = self.get(path).await;
            let wrong_end = ["completed", "failed", "cancelled"].iter().any(|end| job["status"] == *end);
            (is_there(&job) || wrong_end).then_some(job)
        });
        let job = end.await;
        assert!(is_there(&job), "{path} was to be one of {statuses:?}: {job:#}");
        job
    }
}

/// Where a backup or a restore is asked for.
pub fn path_of(job: &Value) -> String {
    let id = job["id"].as_str().unwrap();
    match id.starts_with("bkp_") {
        true => format!("/backups/{}/{id}", job["projectId"].as_str().unwrap()),
        false => format!("/restores/{id}"),
    }
}

/// The last segment of a path: the id of a job.
pub fn id_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, id)| id)
}
