//! What comes back: bounded by time and by bytes.

use std::time::{Duration, Instant};

use firebackup_outbound::header::{AUTHORIZATION, HeaderValue};
use firebackup_outbound::{AddressGuard, Answer, OutboundClient, OutboundError, OutboundRequest};

use firebackup_testkit::{LocalServer, Says};

const SHORT: Duration = Duration::from_millis(300);

async fn send(says: Says, change: impl Fn(OutboundRequest) -> OutboundRequest) -> Result<Answer, OutboundError> {
    let server = LocalServer::start(says).await;
    let client = OutboundClient::new(AddressGuard::new(true)).unwrap();
    let request = OutboundRequest::post(server.url(), "planted-body");
    let request = request.header(AUTHORIZATION, HeaderValue::from_static("planted-header"));
    let answer = client.send(change(request)).await;
    let told = format!("{answer:?} {}", answer.as_ref().map_or_else(all_of, |_| String::new()));
    assert!(!told.contains("planted"), "{told}");
    answer
}

/// An error with all its causes.
fn all_of(error: &OutboundError) -> String {
    let mut told = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        told.push_str(&format!(": {error}"));
        cause = error.source();
    }
    told
}

#[tokio::test]
async fn who_never_ends_an_answer_is_waited_for_as_long_as_the_request_says() {
    for beginning in [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nplant",
    ] {
        let begun = Instant::now();
        let error = send(Says::Begins(beginning), |request| request.within(SHORT)).await.unwrap_err();
        assert!(matches!(error, OutboundError::TooSlow { limit: SHORT, .. }), "{beginning:?}: {error:?}");
        assert!((SHORT..SHORT * 10).contains(&begun.elapsed()), "{beginning:?}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn an_endless_answer_is_read_as_far_as_the_request_says() {
    for beginning in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n"] {
        let answer = send(Says::Endless(beginning), |request| request.reading(100_000)).await.unwrap();
        assert!(answer.is_cut && answer.body == vec![b'x'; 100_000], "{answer:?}");
    }
    let headers =
        send(Says::Endless("HTTP/1.1 200 OK\r\nx: "), |request| request.within(SHORT * 10)).await.unwrap_err();
    assert!(matches!(headers, OutboundError::Answer { .. }), "{headers:?}");
}

#[tokio::test]
async fn a_body_that_just_fits_is_whole() {
    let whole = || Says::Once("HTTP/1.1 500 No\r\ncontent-length: 5\r\n\r\n12345".to_owned());
    let check = async |bytes: usize, expect: &[u8], is_cut: bool| {
        let answer = send(whole(), |request| request.reading(bytes)).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.body.as_slice(), answer.is_cut), (500, expect, is_cut));
    };
    check(5, b"12345", false).await;
    check(4, b"1234", true).await;
    check(0, b"", true).await;
    let empty = send(Says::Once("HTTP/1.1 204 No\r\n\r\n".to_owned()), |request| request.reading(0)).await.unwrap();
    assert!(!empty.is_cut);
}

#[tokio::test]
async fn what_breaks_off_or_is_no_http_is_no_answer() {
    for text in ["", "planted garbage\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nplant"] {
        let error = send(Says::Once(text.to_owned()), |request| request).await.unwrap_err();
        assert!(matches!(error, OutboundError::Answer { .. }), "{text:?}: {error:?}");
    }
}

#[tokio::test]
async fn nobody_at_the_address_cannot_be_reached() {
    let server = LocalServer::start(Says::Once(String::new())).await;
    let url = server.url();
    drop(server);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let client = OutboundClient::new(AddressGuard::new(true)).unwrap();
    let error = client.send(OutboundRequest::get(url)).await.unwrap_err();
    assert!(matches!(&error, OutboundError::Unreachable { host, .. } if host == "127.0.0.1"), "{error:?}");
    assert!(!format!("{error:?} {}", all_of(&error)).contains("planted"), "{error:?}");
}
