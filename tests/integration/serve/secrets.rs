//! Secrets that are handed to a server stand in no file of it, no log and no answer.

use std::fs;

use firebackup_google::sample::sample;
use firebackup_model::DatabaseName;
use firebackup_testkit::s3_server::S3Server;
use reqwest::Method;
use serde_json::{Value, json};

use super::installation::{Api, Installation, Place, SMALL, files, id};
use crate::browser::CLIENT;
use crate::planted::{Story, service_account};
use crate::stage::{emulator, firestore, write_all};

/// Asks, and keeps what was answered.
async fn ask(api: &Api, answers: &mut Vec<String>, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
    let (status, answer) = api.ask(method, path, body, None).await;
    answers.push(answer.to_string());
    (status, answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_options_that_were_handed_over_are_seen_nowhere() {
    let place = Place::with(40).await;
    let api = place.api();
    let mut answers = Vec::new();
    let (account, mut planted) = service_account();
    planted.push("planted-key-id".to_owned());
    let server = S3Server::start().await;
    planted.extend([server.secret_key().to_owned(), "planted-session-token".to_owned()]);

    let credentials = json!({"type": "service_account", "key": account.to_string()});
    let wanted = json!({"name": "planted", "googleProject": "planted-project", "credentials": credentials});
    let (status, answer) = ask(&api, &mut answers, Method::POST, "/projects", Some(&wanted)).await;
    assert!(status >= 400, "nobody knows this key: {answer:#}");
    let broken = json!({"type": "service_account", "key": format!("{{\"private_key\": \"{}\"", planted[0])});
    let wanted = json!({"name": "planted", "googleProject": "planted-project", "credentials": broken});
    let (status, _) = ask(&api, &mut answers, Method::POST, "/projects", Some(&wanted)).await;
    assert_eq!(status, 422, "{:?}", answers.last());

    let options: serde_json::Map<String, Value> =
        server.options().into_iter().map(|(name, value)| (name, value.into())).collect();
    let url = format!("s3://{}/planted", server.bucket());
    let wanted =
        json!({"name": "s3", "url": url, "endpoint": server.endpoint(), "options": options, "isDefault": true});
    let (status, made) = ask(&api, &mut answers, Method::POST, "/storage/destinations", Some(&wanted)).await;
    assert_eq!(status, 201, "{made:#}");
    let mut wrong = wanted.clone();
    wrong["name"] = "wrong".into();
    wrong["options"]["AWS_SESSION_TOKEN"] = "planted-session-token".into();
    wrong["options"]["AWS_ACCESS_KEY_ID"] = "nobody".into();
    let (status, answer) = ask(&api, &mut answers, Method::POST, "/storage/destinations", Some(&wrong)).await;
    assert!(status >= 400 || !answer["data"]["findings"]["missing"].as_array().unwrap().is_empty(), "{answer:#}");

    let backup = id(&api.post("/backups", json!({"projectId": place.project})).await);
    let done = api.ends(&place.backup_path(&backup), "completed").await;
    assert_eq!(done["storageDestinationId"], made["data"]["id"], "{done:#}");
    api.verified(&place.project, &backup, 40).await;
    server.deny("PutObject");
    let failing = id(&api.post("/backups", json!({"projectId": place.project})).await);
    answers.push(api.ends(&place.backup_path(&failing), "failed").await.to_string());
    let lists =
        ["/projects", "/storage/destinations", "/organizations/current", "/organizations/current/service-account"];
    for path in lists {
        ask(&api, &mut answers, Method::GET, path, None).await;
    }
    planted.push(place.key.clone());
    assert_unseen(&place, &answers, &planted);
}

fn assert_unseen(place: &Place, answers: &[String], planted: &[String]) {
    let log = place.installation.log();
    assert!(log.contains("DEBUG"), "the log is the most talkative one");
    let master = fs::read_to_string(place.installation.data().join("master.key")).unwrap();
    for secret in planted.iter().map(String::as_str).chain(master.lines()) {
        for answer in answers {
            assert!(!answer.contains(secret), "{secret}: {answer}");
        }
        assert!(!log.contains(secret), "the log holds {secret}");
        for file in files(place.installation.folder.path()) {
            let is_the_key_file = file.ends_with("master.key");
            let bytes = fs::read(&file).unwrap();
            let is_seen = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(is_the_key_file || !is_seen, "{} holds {secret}", file.display());
        }
    }
}

/// The whole story on one machine: SQLite, the log, the folder, answers, the audit export, and what webhooks are told.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_whole_story_no_secret_is_seen_anywhere() {
    let (mut story, emulator) = (Story::begin().await, emulator().await);
    let source = firestore(emulator.host(), &DatabaseName::new("demo-planted", "(default)")).await;
    write_all(&source, sample(&DatabaseName::new("demo-planted", "(default)"), 60, 1)).await;
    let (installation, elsewhere) = (Installation::new(), tempfile::tempdir().unwrap());
    let secret = story.write_client_secret(elsewhere.path()).display().to_string();
    let issuer = story.issuer.issuer().to_owned();
    let signing_in = ["--oidc-client-id", CLIENT.0, "--oidc-client-secret-file", &secret, "--oidc-issuer", &issuer];
    let arguments = [&SMALL[..], &signing_in, &["--sign-up", "*"]].concat();
    let server = installation.spawn_in(&arguments, &[("FIRESTORE_EMULATOR_HOST", emulator.host())]).listening().await;
    let api = server.api(&server.owner_key());
    let explained = std::panic::AssertUnwindSafe(story.tell(&api, emulator.host()));
    if let Err(panic) = futures::FutureExt::catch_unwind(explained).await {
        eprintln!("{}", installation.log());
        std::panic::resume_unwind(panic);
    }
    assert!(installation.log().contains("DEBUG"), "the log is the most talkative one");
    let paths = files(installation.folder.path()).into_iter().filter(|path| !path.ends_with("master.key"));
    let mut found: Vec<_> = paths.map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect();
    found.extend(story.repository());
    for place in ["firebackup.db", "log"] {
        assert!(found.iter().any(|(path, _)| path.ends_with(place)), "{place} is looked through");
    }
    story.assert_unseen(found.iter().map(|(path, bytes)| (path.clone(), bytes.as_slice())));
}
