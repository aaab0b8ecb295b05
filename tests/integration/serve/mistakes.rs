//! What people get wrong with a server: each mistake is named, and harms nothing.

use std::fs;
use std::net::TcpListener;

use firebackup_embedded::Database;
use reqwest::Method;
use serde_json::{Value, json};

use super::installation::Installation;

/// Where the header of an SQLite file keeps `user_version`: four bytes, the highest first.
const USER_VERSION: std::ops::Range<usize> = 60..64;

#[track_caller]
fn assert_told((code, told): &(i32, Value), kind: &str, parts: &[&str]) {
    assert_eq!((*code, told["error"]["kind"].as_str()), (1, Some(kind)), "{told:#}");
    for part in parts {
        assert!(told["error"].to_string().contains(part), "{part}: {told:#}");
    }
}

#[test]
fn a_key_file_that_is_none_is_named_and_the_server_does_not_come_up() {
    let installation = Installation::new();
    fs::create_dir(installation.data()).unwrap();
    let key = installation.data().join("master.key");
    for text in ["", "not a key\n"] {
        fs::write(&key, text).unwrap();
        make_private(&key);
        assert_told(&installation.refused(&[]), "key", &["master.key"]);
        assert_eq!(fs::read_to_string(&key).unwrap(), text, "it is left as it is");
    }
    assert!(!installation.data().join("firebackup.db").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_in_the_place_of_the_right_one_is_refused_and_the_right_one_opens_again() {
    let installation = Installation::new();
    assert!(installation.start(&[]).await.running.terminate().0.success());
    let (key, right) = (installation.data().join("master.key"), installation.folder.path().join("right.key"));
    fs::rename(&key, &right).unwrap();
    let other = key.display().to_string();
    assert!(installation.command(&["key", "generate", "--output", &other]).status().unwrap().success());
    assert_told(&installation.refused(&[]), "refused", &["master.key", "put the right key back"]);
    fs::rename(&right, &key).unwrap();
    installation.start(&[]).await;
}

#[cfg(unix)]
#[test]
fn a_key_file_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let installation = Installation::new();
    assert!(
        installation
            .command(&["key", "generate", "--output", "master.key"])
            .current_dir(installation.folder.path())
            .status()
            .unwrap()
            .success()
    );
    fs::create_dir(installation.data()).unwrap();
    let key = installation.data().join("master.key");
    fs::rename(installation.folder.path().join("master.key"), &key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert_told(&installation.refused(&[]), "key", &["master.key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_that_is_gone_is_missed_and_no_other_key_takes_its_place() {
    let installation = Installation::new();
    let server = installation.start(&[]).await;
    let owner = server.owner_key();
    drop(server);
    let [key, elsewhere] =
        [installation.data(), installation.folder.path().to_owned()].map(|folder| folder.join("master.key"));
    fs::rename(&key, &elsewhere).unwrap();
    assert_told(&installation.refused(&[]), "refused", &["master.key", "put it back"]);
    assert!(!key.exists(), "no other key was made");
    fs::rename(&elsewhere, &key).unwrap();
    let server = installation.start(&[]).await;
    server.api(&owner).get("/projects").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_newer_version_is_left_alone() {
    let installation = Installation::new();
    fs::create_dir(installation.data()).unwrap();
    let key = installation.data().join("master.key").display().to_string();
    assert!(installation.command(&["key", "generate", "--output", &key]).status().unwrap().success());
    let path = installation.data().join("firebackup.db");
    drop(Database::open(path.clone()).await.unwrap());
    // the last handle closes the file in a thread of its own, and folds its log into it
    let log = installation.data().join("firebackup.db-wal");
    while log.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let mut bytes = fs::read(&path).unwrap();
    bytes[USER_VERSION].copy_from_slice(&1000u32.to_be_bytes());
    fs::write(&path, &bytes).unwrap();
    assert_told(
        &installation.refused(&[]),
        "failed_precondition",
        &["a newer version of firebackup", "update firebackup"],
    );
    assert_eq!(fs::read(&path).unwrap(), bytes);
    fs::write(&path, "not a database, and longer than a header is: ".repeat(50)).unwrap();
    let (code, told) = installation.refused(&[]);
    assert_eq!(code, 1, "{told:#}");
    assert!(told["error"].to_string().contains("firebackup.db"), "{told:#}");
}

#[test]
fn a_port_in_use_a_certificate_that_is_none_and_a_folder_that_is_a_file_are_named() {
    let installation = Installation::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert_told(&installation.refused(&["--listen", &address]), "unavailable", &[&address, "in use"]);
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| installation.folder.path().join(name));
    fs::write(&key, "no key").unwrap();
    let [certificate, key] = [&certificate, &key].map(|path| path.display().to_string());
    assert_told(&installation.refused(&["--tls-cert", &certificate, "--tls-key", &key]), "file", &["cert.pem"]);
    fs::write(&certificate, "no certificate").unwrap();
    assert_told(&installation.refused(&["--tls-cert", &certificate, "--tls-key", &key]), "file", &["cert.pem"]);
    assert!(!installation.data().exists(), "a server that cannot listen makes nothing");
    fs::write(installation.data(), "a file").unwrap();
    assert_told(&installation.refused(&[]), "file", &["data"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_a_destination_here_and_a_service_in_the_clear_elsewhere_is_none() {
    let installation = Installation::new();
    let server = installation.start(&[]).await;
    let api = server.api(&server.owner_key());
    let found = api.post("/storage/destinations", json!({"name": "folder", "url": installation.url()})).await;
    assert_eq!((&found["kind"], &found["findings"]["missing"]), (&json!("folder"), &json!([])), "{found:#}");
    for endpoint in [
        "http://192.0.2.1:9000",
        "http://storage.example",
        "ftp://127.0.0.1",
        // and none inside, which whoever runs the server has to allow
        "http://127.0.0.1:9000",
        "https://169.254.169.254",
        "https://0x0a.1",
        "https://[::ffff:192.168.0.1]",
    ] {
        let options = json!({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "planted"});
        let wanted = json!({"name": "clear", "url": "s3://bucket/x", "endpoint": endpoint, "options": options});
        let (status, answer) = api.ask(Method::POST, "/storage/destinations", Some(&wanted), None).await;
        assert_eq!((status, &answer["error"]["details"]["field"]), (422, &json!("endpoint")), "{answer:#}");
        assert!(!answer.to_string().contains("planted"), "{answer:#}");
    }
    let listed = api.get("/storage/destinations").await;
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed:#}");
}

#[cfg(unix)]
fn make_private(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[cfg(not(unix))]
fn make_private(_: &std::path::Path) {}
