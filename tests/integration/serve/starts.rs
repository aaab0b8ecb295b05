//! What a start makes and tells, and how it listens.

use std::fs;
use std::time::Duration;

use reqwest::{Certificate, Client, Method};
use serde_json::{Value, json};

use super::installation::{Api, Installation};

fn is_api_key(text: &str) -> bool {
    text.starts_with("fb_") && text.len() > 30
}

/// A person who sits at the machine needs no key: what they do is theirs in the audit log, and the code is good once.
#[tokio::test(flavor = "multi_thread")]
async fn each_start_prints_a_code_with_which_the_owner_signs_in_once() {
    let installation = Installation::new();
    let server = installation.start(&[]).await;
    let request = json!({ "code": server.told["signInCode"], "grant_type": "authorization_code" });
    let stranger = server.api("fb_nonsense");
    let (status, tokens) = stranger.ask(Method::POST, "/auth/token", Some(&request), None).await;
    assert_eq!(status, 200, "{tokens:#}");
    let (status, again) = stranger.ask(Method::POST, "/auth/token", Some(&request), None).await;
    assert_eq!((status, &again["error"]["code"]), (401, &"INVALID_TOKEN".into()), "{again:#}");
    let person = server.api(tokens["data"]["accessToken"].as_str().unwrap());
    let me = person.get("/auth/me").await;
    let invite = json!({ "email": "ada@example.com", "role": "member" });
    let (status, invited) = person.ask(Method::POST, "/organizations/current/invites", Some(&invite), None).await;
    assert_eq!(status, 201, "{invited:#}");
    let told = person.get("/audit?action=invite.created").await;
    assert_eq!((&told[0]["actor"], &told[0]["address"]), (&me["user"]["id"], &"127.0.0.1".into()), "{told:#}");
    let strangers = person.get("/audit/strangers").await;
    assert_eq!(strangers[0]["address"], "127.0.0.1", "{strangers:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_is_given_a_page_that_loads_from_this_server_alone() {
    let installation = Installation::new();
    let server = installation.start(&[]).await;
    let root = server.address().trim_end_matches("/api/v1");
    for (path, kind) in [("/docs", "text/html"), ("/docs/page.css", "text/css"), ("/docs/page.js", "text/javascript")] {
        let answer = reqwest::get(format!("{root}{path}")).await.unwrap();
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(answer.status(), 200, "{path}");
        assert!(header("content-type").starts_with(kind), "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{path}: {policy}");
        assert!(!policy.contains("http") && !policy.contains("unsafe"), "{path}: {policy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_prints_the_owners_key_and_no_later_one_does() {
    let installation = Installation::new();
    let server = installation.start(&["--organization", "Acme"]).await;
    let key = server.owner_key();
    assert!(is_api_key(&key), "{key}");
    assert_eq!(server.told["data"].as_str(), Some(&*installation.data().display().to_string()));
    assert!(server.told.get("demo").is_none(), "{:#}", server.told);
    let organization = server.api(&key).get("/organizations/current").await;
    assert_eq!(organization["name"], "Acme");
    assert!(server.running.terminate().0.success());

    let server = installation.start(&["--organization", "Another"]).await;
    let members: Vec<_> = server.told.as_object().unwrap().keys().collect();
    assert_eq!(members, ["address", "data", "signInCode"], "{:#}", server.told);
    assert_eq!(server.api(&key).get("/organizations/current").await["name"], "Acme");
    let (status, answer) = server.api("fb_nonsense").ask(Method::GET, "/projects", None, None).await;
    assert_eq!((status, &answer["error"]["code"]), (401, &"INVALID_TOKEN".into()), "{answer:#}");
    drop(server);

    // another one takes the place of one that was lost
    let server = installation.start(&["--new-owner-key"]).await;
    let other = server.owner_key();
    assert!(is_api_key(&other) && other != key);
    let keys = server.api(&other).get("/organizations/current/service-account").await;
    let roles: Vec<_> = keys.as_array().unwrap().iter().map(|key| key["role"].as_str()).collect();
    assert_eq!(roles, [Some("owner"); 2], "{keys:#}");
    assert_eq!(server.api(&key).get("/organizations/current").await["name"], "Acme");
    drop(server);

    // as people see it: the key is nowhere but in what the first start printed
    for file in super::installation::files(installation.folder.path()) {
        let bytes = fs::read(&file).unwrap();
        assert!(!bytes.windows(key.len()).any(|part| part == key.as_bytes()), "{}", file.display());
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_start_makes_nobody_else_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let installation = Installation::new();
    let _server = installation.start(&[]).await;
    for name in ["master.key", "firebackup.db"] {
        let mode = fs::metadata(installation.data().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}: {mode:o}");
    }
    assert!(installation.log().contains("master.key is the master key of all backups: keep a copy"));
}

#[test]
fn where_others_can_listen_too_nothing_is_served_in_the_clear_and_nothing_made() {
    let installation = Installation::new();
    for address in ["0.0.0.0:0", "[::]:0"] {
        let (code, told) = installation.refused(&["--listen", address]);
        assert_eq!((code, told["error"]["kind"].as_str()), (2, Some("usage")), "{told:#}");
        let message = told["error"]["message"].as_str().unwrap();
        assert!(message.contains("--tls-cert") && message.contains("--behind-proxy"), "{message}");
    }
    let (code, told) = installation.refused(&["--metrics-listen", "0.0.0.0:0"]);
    assert_eq!((code, told["error"]["kind"].as_str()), (2, Some("usage")), "{told:#}");
    assert!(!installation.data().exists(), "a server that may not listen makes nothing");
    for arguments in [
        &["--tls-cert", "cert.pem"][..],
        &["--tls-key", "key.pem"],
        &["--tls-cert", "cert.pem", "--tls-key", "key.pem", "--behind-proxy"],
        &["--listen", "somewhere"],
        &["--parallel", "0"],
        &["--chunk-documents", "0"],
        &["--part-documents", "0"],
    ] {
        assert_eq!(installation.refused(arguments).0, 2, "{arguments:?}");
    }
    assert!(!installation.data().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_counted_is_shown_where_it_was_asked_for_and_nowhere_else() {
    let installation = Installation::new();
    let server = installation.start(&["--metrics-listen", "127.0.0.1:0"]).await;
    let api = Api { client: Client::new(), address: server.address().to_owned(), key: server.owner_key() };
    assert_eq!(api.get("/projects").await, serde_json::json!([]));
    let url = server.told["metrics"].as_str().expect("it says where").to_owned();
    let reply = api.client.get(&url).send().await.unwrap();
    assert_eq!(reply.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = reply.text().await.unwrap();
    for line in [
        "api_request_duration_seconds_count{method=\"GET\",route=\"/api/v1/projects\",status=\"2xx\"} 1",
        "backup_success_total 0",
        "queue_jobs_waiting 0.0",
        "queue_jobs_active 0.0",
    ] {
        assert!(text.lines().any(|said| said == line), "{line}: {text}");
    }
    let elsewhere = server.address().replace("/api/v1", "/metrics");
    assert_eq!(api.client.get(elsewhere).send().await.unwrap().status(), 404);
    let nothing = url.replace("/metrics", "/health");
    assert_eq!(api.client.get(nothing).send().await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_proxy_it_listens_where_it_is_told() {
    let installation = Installation::new();
    let server = installation.start(&["--listen", "0.0.0.0:0", "--behind-proxy"]).await;
    assert!(server.address().starts_with("http://0.0.0.0:"), "{:#}", server.told);
    let address = server.address().replace("0.0.0.0", "127.0.0.1");
    let api = Api { client: Client::new(), address, key: server.owner_key() };
    assert_eq!(api.get("/projects").await, serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_certificate_it_serves_those_who_trust_it_and_nobody_in_the_clear() {
    let installation = Installation::new();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| installation.folder.path().join(name));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let [certificate, key] = [certificate, key].map(|path| path.display().to_string());
    let server = installation.start(&["--listen", "0.0.0.0:0", "--tls-cert", &certificate, "--tls-key", &key]).await;
    let address = server.address().replace("0.0.0.0", "127.0.0.1");
    assert!(address.starts_with("https://"), "{address}");
    let trusted = Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    let client = Client::builder().tls_certs_merge([trusted]).timeout(Duration::from_secs(10)).build().unwrap();
    let health: Value = client.get(address.replace("/api/v1", "/health")).send().await.unwrap().json().await.unwrap();
    assert_eq!(health["data"]["status"], "ok", "{health:#}");
    let api = Api { client, address: address.clone(), key: server.owner_key() };
    assert_eq!(api.get("/projects").await, serde_json::json!([]));
    let stranger = Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
    assert!(stranger.get(&address).send().await.is_err(), "who does not trust it sends no key");
    assert!(stranger.get(address.replace("https:", "http:")).send().await.is_err(), "nothing is answered in the clear");
    assert!(server.running.terminate().0.success());
}

/// A connection that is kept open is no request: it holds nothing up.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_connection_does_not_hold_up_the_end() {
    let installation = Installation::new();
    let server = installation.start(&[]).await;
    let api = server.api(&server.owner_key());
    api.get("/projects").await;
    let host = server.address().trim_start_matches("http://").trim_end_matches("/api/v1").to_owned();
    let _silent = std::net::TcpStream::connect(&host).unwrap();
    let (status, took) = server.running.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(12), "{took:?}");
    assert!(api.client.get(&api.address).send().await.is_err(), "nobody listens any more");
}
