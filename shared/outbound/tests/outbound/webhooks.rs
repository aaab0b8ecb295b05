//! Receivers of webhooks that lead inside, elsewhere, or never come to an end.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use firebackup_model::port::{WebhookAnswer, WebhookFailure, WebhookPost, WebhookSender};
use firebackup_outbound::{AddressGuard, Lookup, OutboundClient, OutboundWebhooks};

use firebackup_testkit::{LocalServer, Says};

const SHORT: Duration = Duration::from_millis(300);

fn webhooks(guard: AddressGuard) -> OutboundWebhooks {
    OutboundWebhooks::new(OutboundClient::new(guard).unwrap()).within(SHORT)
}

fn to(url: &str) -> WebhookPost {
    let headers = vec![("content-type", "application/json".to_owned()), ("webhook-id", "evt_1".to_owned())];
    WebhookPost { url: url.to_owned(), headers, body: "{\"planted\":1}".to_owned() }
}

async fn answer(says: Says) -> Result<WebhookAnswer, WebhookFailure> {
    let server = LocalServer::start(says).await;
    let answer = webhooks(AddressGuard::new(true)).post(to(server.url().as_str())).await;
    assert_eq!(server.hits(), 1);
    assert!(!format!("{answer:?}").contains("planted"), "{answer:?}");
    answer
}

fn once(text: &str) -> Says {
    Says::Once(text.to_owned())
}

#[tokio::test]
async fn a_status_is_an_answer_and_a_redirect_is_not_followed() {
    let elsewhere = LocalServer::start(once("HTTP/1.1 200 OK\r\n\r\n")).await;
    let redirect = format!("HTTP/1.1 307 No\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", elsewhere.url());
    assert_eq!(answer(Says::Once(redirect)).await, Ok(307.into()));
    assert_eq!(elsewhere.hits(), 0);
    assert_eq!(answer(once("HTTP/1.1 204 No\r\n\r\n")).await, Ok(204.into()));
    assert_eq!(answer(once("HTTP/1.1 500 No\r\ncontent-length: 7\r\n\r\nplanted")).await, Ok(500.into()));
    for (said, understood) in
        [("120", Some(120)), (" 7 ", Some(7)), ("-1", None), ("soon", None), ("99999999999", None)]
    {
        let busy = format!("HTTP/1.1 429 No\r\nretry-after: {said}\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(
            answer(Says::Once(busy)).await,
            Ok(WebhookAnswer { status: 429, retry_after: understood }),
            "{said}"
        );
    }
}

#[tokio::test]
async fn who_never_ends_costs_bounded_time_and_bytes() {
    let endless = answer(Says::Endless("HTTP/1.1 200 OK\r\n\r\n")).await;
    assert_eq!(endless, Ok(200.into()), "what was read is enough");
    for beginning in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nplant"] {
        let begun = Instant::now();
        let slow = answer(Says::Begins(beginning)).await.unwrap_err();
        assert_eq!(slow, WebhookFailure::TooSlow { host: "127.0.0.1".to_owned(), seconds: 0 });
        assert!(begun.elapsed() < SHORT * 10, "{:?}", begun.elapsed());
    }
    let garbage = answer(once("planted garbage\r\n\r\n")).await;
    assert_eq!(garbage, Err(WebhookFailure::Unreachable { host: "127.0.0.1".to_owned() }));
}

#[tokio::test]
async fn what_leads_inside_or_is_no_address_is_refused_at_once() {
    let webhooks = webhooks(AddressGuard::new(false));
    for (url, reason) in [
        ("https://127.0.0.1/planted", "inside"),
        ("https://10.0.0.7/planted", "inside"),
        ("https://169.254.169.254/latest/meta-data/planted", "inside"),
        ("https://[::1]/planted", "inside"),
        ("https://[::ffff:10.0.0.1]/planted", "inside"),
        ("https://2130706433/planted", "inside"),
        ("http://receiver.example/planted", "https"),
        ("ftp://receiver.example/planted", "https"),
        ("https://user:planted@receiver.example/", "user name"),
        ("planted", "no URL"),
        ("https://planted url/", "no URL"),
    ] {
        let checked = webhooks.check(url).unwrap_err();
        assert_eq!(webhooks.post(to(url)).await, Err(checked.clone()), "{url}");
        let told = format!("{checked} {checked:?}");
        assert!(told.contains(reason) && !told.contains("planted"), "{url}: {told}");
    }
    assert_eq!(webhooks.check("https://receiver.example/hook?token=x"), Ok(()));
}

/// A name that led outside when it was registered.
struct Rebound;

#[async_trait]
impl Lookup for Rebound {
    async fn addresses(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec!["127.0.0.1".parse().unwrap()])
    }
}

#[tokio::test]
async fn a_name_that_leads_inside_by_now_is_refused_without_a_connection() {
    let server = LocalServer::start(once("HTTP/1.1 200 OK\r\n\r\n")).await;
    let webhooks = webhooks(AddressGuard::new(false).with_lookup(Arc::new(Rebound)));
    let url = server.url_at("receiver.example").as_str().replacen("http:", "https:", 1);
    assert_eq!(webhooks.check(&url), Ok(()), "nobody asks where the name leads when it is registered");
    let refused = webhooks.post(to(&url)).await.unwrap_err();
    assert_eq!(refused, WebhookFailure::Refused { reason: "it leads to an address inside".to_owned() });
    assert_eq!(server.hits(), 0);
}
