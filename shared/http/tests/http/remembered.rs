//! Answers that are kept until something changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use firebackup_http::Changes;

use crate::world::World;

/// A store that says what it is told to.
#[derive(Default)]
struct Version(AtomicI64);

impl Changes for Version {
    fn version(&self) -> Option<i64> {
        Some(self.0.load(Ordering::SeqCst)).filter(|version| *version >= 0)
    }
}

impl Version {
    fn set(&self, version: i64) {
        self.0.store(version, Ordering::SeqCst);
    }
}

async fn world() -> (World, Arc<Version>) {
    let version = Arc::new(Version::default());
    (World::new().await.remembering(version.clone()), version)
}

/// Whether an answer was made anew: it has asked the store.
async fn is_anew(world: &World, path: &str, token: &str, headers: &[(&'static str, &str)]) -> bool {
    let _before = world.items.take_read();
    let call = world.call("GET", path).token(token);
    let call = headers.iter().fold(call, |call, (name, value)| call.header(name, value));
    let reply = call.send().await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.headers["cache-control"], "no-store");
    assert_eq!(reply.headers["content-type"], "application/json");
    assert!(reply.headers.contains_key("x-request-id"));
    world.items.take_read().queries > 0
}

#[tokio::test]
async fn an_answer_is_kept_until_something_changes() {
    let (world, version) = world().await;
    let (path, owner) = ("/api/v1/projects", world.owner.clone());
    let first = world.get(path).await;
    assert!(!is_anew(&world, path, &owner, &[]).await);
    assert_eq!(world.get(path).await.body, first.body);
    version.set(1);
    assert!(is_anew(&world, path, &owner, &[]).await && !is_anew(&world, path, &owner, &[]).await);
    assert!(is_anew(&world, path, &owner, &[("cache-control", "no-cache")]).await, "whoever asks for a new one");
    version.set(-1);
    assert!(is_anew(&world, path, &owner, &[]).await, "it is not known whether anything has changed");
}

#[tokio::test]
async fn an_answer_is_its_askers_and_of_its_question() {
    let (world, _) = world().await;
    let (path, owner) = ("/api/v1/projects", world.owner.clone());
    let viewer = world.key("viewer").await;
    let (_, other) = world.another_organization().await;
    for key in [&owner, &viewer, &other] {
        assert!(is_anew(&world, path, key, &[]).await, "of each their own");
    }
    for key in [&owner, &viewer, &other] {
        assert!(!is_anew(&world, path, key, &[]).await);
    }
    let organization = world.organization.to_string();
    assert!(is_anew(&world, path, &owner, &[("x-organization-id", &organization)]).await);
    assert!(is_anew(&world, "/api/v1/projects?limit=1", &owner, &[]).await);
    let refused = world.call("GET", path).token(&other).header("x-organization-id", &organization).send().await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    let stranger = world.call("GET", path).token("fb_nobody").send().await;
    assert_eq!(stranger.status, 401);
}

#[tokio::test]
async fn what_is_no_list_of_the_store_is_made_anew() {
    let (world, _) = world().await;
    let owner = world.owner.clone();
    for path in ["/api/v1/audit", "/api/v1/storage/stats"] {
        assert!(is_anew(&world, path, &owner, &[]).await && is_anew(&world, path, &owner, &[]).await, "{path}");
    }
}
