//! Where requests go, and where they do not.

use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use firebackup_outbound::{
    AddressGuard, Lookup, OutboundClient, OutboundError, OutboundRequest, Refusal, StatusCode, Url,
};
use reqwest::dns::Resolve;

use firebackup_testkit::{LocalServer, Says};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Answers with these lists of addresses, one after the other, the last for ever.
struct Scripted {
    answers: Mutex<VecDeque<&'static [&'static str]>>,
    asked: AtomicUsize,
}

impl Scripted {
    fn new(answers: &[&'static [&'static str]]) -> Arc<Self> {
        Arc::new(Self { answers: Mutex::new(answers.iter().copied().collect()), asked: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl Lookup for Scripted {
    async fn addresses(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0] };
        Ok(answer.iter().map(|text| text.parse().unwrap()).collect())
    }
}

fn guarded(allow_inside: bool) -> OutboundClient {
    OutboundClient::new(AddressGuard::new(allow_inside)).unwrap()
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn refusal(error: OutboundError) -> Refusal {
    let told = format!("{error} {error:?}");
    assert!(!told.contains("planted"), "{told}");
    match error {
        OutboundError::Refused { source, .. } => source,
        other => panic!("not refused but {other:?}"),
    }
}

/// The URL of a request to `host`, at a server that must not be asked.
async fn send(client: &OutboundClient, server: &LocalServer, host: &str) -> Result<StatusCode, OutboundError> {
    let mut url = server.url_at(host);
    url.set_scheme("https").unwrap();
    client.send(OutboundRequest::get(url)).await.map(|answer| answer.status)
}

#[tokio::test]
async fn an_address_inside_is_not_called_however_it_is_spelt() {
    let server = LocalServer::start(Says::Once(OK.to_owned())).await;
    let client = guarded(false);
    let loopback = "127.0.0.1 127.1 127.0.1 2130706433 0x7f000001 0x7f.1 0177.0.0.1 017700000001 0x7F.0x0.0x0.0x1 \
        127.0.0.1. 127.255.255.254 0 0.0.0.0 0x0 \u{2460}\u{2461}\u{2466}.0.0.1 %31%32%37.0.0.1 1２7.0.0.1";
    let inside = "169.254.169.254 2852039166 0xa9fea9fe 0251.0376.0251.0376 169.16689662 10.0.0.1 10.1 172.16.0.1 \
        192.168.1.1 192.168.257 100.64.0.1 100.100.100.200 255.255.255.255 224.0.0.1 192.0.2.1";
    let six = "[::1] [::] [::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:ffff:a9fe:a9fe] [::127.0.0.1] \
        [fd00:ec2::254] [fe80::1] [fec0::1] [ff02::1] [64:ff9b::7f00:1] [64:ff9b::169.254.169.254] \
        [2002:7f00:1::] [2001:db8::1] [2001::1]";
    for host in [loopback, inside, six].iter().flat_map(|hosts| hosts.split_whitespace()) {
        let refusal = refusal(send(&client, &server, host).await.unwrap_err());
        assert!(matches!(refusal, Refusal::Inside), "{host}: {refusal:?}");
    }
    assert_eq!(server.hits(), 0);
}

#[test]
fn a_url_without_tls_with_a_user_or_without_a_host_is_not_called() {
    let (outside, inside) = (AddressGuard::new(false), AddressGuard::new(true));
    let check = |text: &str, expect: [bool; 2]| {
        let found = [outside.check(&url(text)).is_ok(), inside.check(&url(text)).is_ok()];
        assert_eq!(found, expect, "{text}");
    };
    check("https://example.com/", [true, true]);
    check("https://example.com:8443/a?b", [true, true]);
    check("https://8.8.8.8/", [true, true]);
    check("https://[2606:4700::1111]/", [true, true]);
    check("http://example.com/", [false, true]);
    check("http://127.0.0.1:80/", [false, true]);
    check("https://127.0.0.1/", [false, true]);
    for text in [
        "https://user@example.com/",
        "https://:password@example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "data:,x",
    ] {
        check(text, [false, false]);
    }
}

#[tokio::test]
async fn a_name_that_leads_inside_is_not_called() {
    let server = LocalServer::start(Says::Once(OK.to_owned())).await;
    let refusal_of =
        async |client: &OutboundClient, host: &str| refusal(send(client, &server, host).await.unwrap_err());
    // by the resolver of this machine
    for host in ["localhost", "LOCALHOST"] {
        assert!(matches!(refusal_of(&guarded(false), host).await, Refusal::Inside), "{host}");
    }
    for answer in ["127.0.0.1", "::1", "169.254.169.254", "fd00:ec2::254", "::ffff:127.0.0.1", "10.0.0.1", "0.0.0.0"] {
        let lookup = Scripted::new(&[Box::leak(Box::new([answer]))]);
        let guard = AddressGuard::new(false).with_lookup(lookup);
        let client = OutboundClient::new(guard).unwrap();
        assert!(matches!(refusal_of(&client, "inside.example").await, Refusal::Inside), "{answer}");
    }
    assert_eq!(server.hits(), 0);
}

#[tokio::test]
async fn of_a_names_addresses_only_those_outside_are_connected_to() {
    let lookup = Scripted::new(&[&["127.0.0.1", "8.8.8.8", "::1", "2606:4700::1111", "10.0.0.1"]]);
    let guard = AddressGuard::new(false).with_lookup(lookup);
    let found = guard.resolve("mixed.example".parse().unwrap()).await.unwrap();
    let found: Vec<_> = found.map(|address| address.ip().to_string()).collect();
    assert_eq!(found, ["8.8.8.8", "2606:4700::1111"]);
}

/// First outside, then inside: what was looked at the first time does not let the second through.
#[tokio::test]
async fn a_name_that_moves_inside_is_looked_at_again() {
    let server = LocalServer::start(Says::Once(OK.to_owned())).await;
    let lookup = Scripted::new(&[&["8.8.8.8"], &["127.0.0.1"]]);
    let guard = AddressGuard::new(false).with_lookup(Arc::clone(&lookup) as Arc<dyn Lookup>);
    let first = guard.resolve("moving.example".parse().unwrap()).await.unwrap();
    assert_eq!(first.map(|address| address.ip().to_string()).collect::<Vec<_>>(), ["8.8.8.8"]);
    let client = OutboundClient::new(guard).unwrap();
    let error = send(&client, &server, "moving.example").await.unwrap_err();
    assert!(matches!(refusal(error), Refusal::Inside));
    assert_eq!((server.hits(), lookup.asked.load(Ordering::SeqCst)), (0, 2));
}

/// Between the look and the connection nobody resolves the name again: no resolver but ours knows it, and ours is asked
/// once a request, for each request.
#[tokio::test]
async fn a_connection_is_made_to_what_was_looked_at() {
    let server = LocalServer::start(Says::Once(OK.to_owned())).await;
    let lookup = Scripted::new(&[&["127.0.0.1"], &["127.0.0.1"], &["203.0.113.1"]]);
    let guard = AddressGuard::new(true).with_lookup(Arc::clone(&lookup) as Arc<dyn Lookup>);
    let client = OutboundClient::new(guard).unwrap();
    for request in 1..=2 {
        let answer = client.send(OutboundRequest::get(server.url_at("known-to-us.invalid"))).await.unwrap();
        assert_eq!(answer.body, b"ok");
        assert_eq!((server.hits(), lookup.asked.load(Ordering::SeqCst)), (request, request));
    }
}

#[tokio::test]
async fn inside_may_be_called_where_that_is_allowed() {
    let server = LocalServer::start(Says::Once(OK.to_owned())).await;
    let client = guarded(true);
    for host in ["127.0.0.1", "localhost", "2130706433"] {
        let answer = client.send(OutboundRequest::get(server.url_at(host))).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.body.as_slice(), answer.is_cut), (200, &b"ok"[..], false));
    }
    assert_eq!(server.hits(), 3);
}

#[tokio::test]
async fn nobody_is_followed_elsewhere() {
    let elsewhere = LocalServer::start(Says::Once(OK.to_owned())).await;
    for status in [301, 302, 303, 307, 308] {
        let redirect = format!("HTTP/1.1 {status} Moved\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", elsewhere.url());
        let server = LocalServer::start(Says::Once(redirect)).await;
        for request in [OutboundRequest::get(server.url()), OutboundRequest::post(server.url(), "body")] {
            assert_eq!(guarded(true).send(request).await.unwrap().status.as_u16(), status);
        }
        assert_eq!(server.hits(), 2);
    }
    assert_eq!(elsewhere.hits(), 0);
}

#[tokio::test]
async fn a_name_without_an_address_cannot_be_reached() {
    let guard = AddressGuard::new(false).with_lookup(Scripted::new(&[&[]]));
    let client = OutboundClient::new(guard).unwrap();
    let request = OutboundRequest::get(url("https://nowhere.example/planted")).within(Duration::from_secs(5));
    let error = client.send(request).await.unwrap_err();
    assert!(matches!(&error, OutboundError::Unreachable { host, .. } if host == "nowhere.example"), "{error:?}");
    assert!(error.source().is_some() && !format!("{error:?}").contains("planted"));
}
