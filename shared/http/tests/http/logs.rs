//! What stands in the log: the request's id, the route, who called; and nothing of what was sent.

use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use crate::world::{World, bucket, emulator_project};

/// Collects all that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Log {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn listen() -> (Log, tracing::subscriber::DefaultGuard) {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .without_time()
        .with_writer(log.clone())
        .finish();
    (log, tracing::subscriber::set_default(subscriber))
}

#[tokio::test]
async fn a_line_names_the_request_the_route_and_who_called() {
    let world = World::new().await;
    let project = world.project().await;
    let (log, _guard) = listen();
    let path = format!("/api/v1/projects/{project}");
    world.call("GET", &path).header("x-request-id", "find-me").send().await;
    let text = log.text();
    let line = text.lines().find(|line| line.contains("answered")).unwrap_or_else(|| panic!("{text}"));
    for expect in
        ["find-me", "/api/v1/projects/{projectId}", "method=GET", "status=200", "organization=org_", "actor=key_"]
    {
        assert!(line.contains(expect), "{expect}: {line}");
    }
}

#[tokio::test]
async fn what_failed_is_logged_with_its_cause_under_the_id_that_the_client_was_told() {
    let world = World::new().await;
    let (log, _guard) = listen();
    let mut project = emulator_project("A");
    project["credentials"]["host"] = json!("nowhere:1");
    let reply = world.call("POST", "/api/v1/projects").json(&project).send().await;
    let (text, id) = (log.text(), reply.headers["x-request-id"].to_str().unwrap().to_owned());
    let line = text.lines().find(|line| line.contains("GOOGLE_FAILED")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains(&id) && line.contains("the probe's cause"), "{line}");
}

#[tokio::test]
async fn nothing_that_was_sent_is_logged() {
    let world = World::new().await;
    let (log, _guard) = listen();
    let planted = "planted-in-a-request";
    world.call("GET", &format!("/api/v1/projects?search={planted}")).send().await;
    world.call("GET", &format!("/api/v1/projects?status={planted}")).send().await;
    world.call("GET", &format!("/api/v1/projects/{planted}")).send().await;
    world.call("GET", "/api/v1/projects").token(planted).send().await;
    world.call("GET", "/api/v1/projects").header("x-organization-id", planted).send().await;
    let mut destination = bucket(planted);
    destination["options"]["AWS_SECRET_ACCESS_KEY"] = json!(planted);
    world.call("POST", "/api/v1/storage/destinations").json(&destination).send().await;
    destination["options"]["OTHER"] = json!([planted]);
    world.call("POST", "/api/v1/storage/destinations").json(&destination).send().await;
    world.call("POST", "/api/v1/projects").header("content-type", "application/json").bytes(planted).send().await;
    let text = log.text();
    assert!(text.lines().filter(|line| line.contains("answered")).count() == 8, "{text}");
    assert!(!text.contains(planted), "{text}");
    assert!(!text.contains(&world.owner), "{text}");
}
