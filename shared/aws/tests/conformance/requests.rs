//! What is asked of AWS where the local one cannot do it: the requests themselves.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{JoinHandle, spawn};

use firebackup_aws::{AwsClients, KmsKeyService};
use firebackup_model::port::{EncryptionContext, KeyService, WrappedKey};
use serde_json::{Value, json};

use crate::stage::config_of;

/// Answers one request with `answer`; gives its target header and its body.
fn answer_one(answer: &Value) -> (String, JoinHandle<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let answer = answer.to_string();
    let server = spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let request = read_request(&connection);
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {}", answer.len());
        write!(connection, "{head}\r\n\r\n{answer}").unwrap();
        request
    });
    (endpoint, server)
}

fn read_request(connection: &TcpStream) -> (String, Value) {
    let mut reader = BufReader::new(connection);
    let (mut target, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("x-amz-target") => target = value.to_owned(),
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().unwrap(),
            None if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (target, serde_json::from_slice(&body).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_wrapped_anew_within_kms() {
    let arn = |key: &str| format!("arn:aws:kms:eu-central-1:111122223333:key/{key}");
    // "new" and "old" in base64
    let (endpoint, server) = answer_one(&json!({"CiphertextBlob": "bmV3", "KeyId": arn("2")}));
    let config = config_of(&endpoint, "eu-central-1").await;
    let service = KmsKeyService::new(&AwsClients::new(&config), arn("1"));
    let old = WrappedKey { master: arn("1"), bytes: b"old".to_vec() };
    let context = EncryptionContext::from([("use".to_owned(), "repository".to_owned())]);
    let new = service.rewrap(&old, Some(&arn("2")), &context).await.unwrap();
    assert_eq!(new, WrappedKey { master: arn("2"), bytes: b"new".to_vec() });
    let (target, body) = server.join().unwrap();
    assert_eq!(target, "TrentService.ReEncrypt");
    let expected = json!({
        "CiphertextBlob": "b2xk",
        "SourceKeyId": arn("1"),
        "SourceEncryptionContext": {"use": "repository"},
        "DestinationKeyId": arn("2"),
        "DestinationEncryptionContext": {"use": "repository"},
    });
    assert_eq!(body, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_opened_by_the_master_key_that_is_named() {
    let (endpoint, server) =
        answer_one(&json!({"Plaintext": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "KeyId": "k"}));
    let config = config_of(&endpoint, "eu-central-1").await;
    let service = KmsKeyService::new(&AwsClients::new(&config), "own");
    let wrapped = WrappedKey { master: "theirs".to_owned(), bytes: b"old".to_vec() };
    let key = service.unwrap(&wrapped, &EncryptionContext::new()).await.unwrap();
    assert_eq!(key.expose(), &[0; 32]);
    let (target, body) = server.join().unwrap();
    assert_eq!((target.as_str(), &body["KeyId"]), ("TrentService.Decrypt", &json!("theirs")));
}
