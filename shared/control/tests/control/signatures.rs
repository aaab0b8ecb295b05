//! What webhooks are posted, proven by the library of the Standard Webhooks specification.

use std::time::SystemTime;

use firebackup_model::Timestamp;
use firebackup_model::port::WebhookPost;
use firebackup_testkit::standard_webhooks::prove;

use crate::world::World;

/// What was posted in a test of a webhook, and its secret. The library looks at the clock of this machine.
async fn posted() -> (WebhookPost, String) {
    let world = World::new().await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    world.clock.set(Timestamp::new(now.as_secs() as i64, 0));
    let (webhook, secret) = world.webhook().await;
    world.control.test_webhook(&world.owner().await, &webhook.id).await.unwrap();
    (world.receiver.posts().remove(0), secret)
}

fn proven(secret: &str, post: &WebhookPost) -> Result<(), String> {
    prove(secret, post.headers.iter().map(|(name, text)| (*name, text.as_str())), &post.body)
}

#[tokio::test]
async fn a_receiver_with_the_secret_proves_what_it_is_told() {
    let (post, secret) = posted().await;
    assert_eq!(proven(&secret, &post), Ok(()));
}

#[tokio::test]
async fn whatever_is_changed_on_the_way_is_not_proven() {
    let (post, secret) = posted().await;
    let changed_header = |changed: &str, from: &str, to: &str| {
        let mut post = post.clone();
        for (name, text) in &mut post.headers {
            if *name == changed {
                *text = text.replacen(from, to, 1);
            }
        }
        post
    };
    let mut body = post.clone();
    body.body = body.body.replacen("webhook.test", "webhook.best", 1);
    for changed in [body, changed_header("webhook-id", "evt_", "evt-"), changed_header("webhook-timestamp", "1", "2")] {
        assert!(changed != post && proven(&secret, &changed).is_err(), "{:?}", changed.headers);
    }
    let (_, other) = posted().await;
    let bytes = other.len() - 10;
    let other = format!("{}AAAAAAAAA=", &other[..bytes]);
    assert_eq!(proven(&other, &post).unwrap_err(), "No matching signature found");
}
