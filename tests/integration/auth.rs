//! Auth users, against the Firebase Auth emulator: hashes and salts, claims, providers, tenants, redacted hashes.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use firebackup_engine::memory::MemoryDatabase;
use firebackup_engine::{Backup, EngineError, UserRestoreOptions, restore_users, verify};
use firebackup_google::{Access, IdentityOptions, IdentityToolkit};
use firebackup_model::port::{UserPage, UserRecord, UserSink, UserSource};
use firebackup_model::{DatabaseName, PortError};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::stage::repository;

/// The Auth emulator of firebase-tools; stopped when dropped.
struct AuthEmulator {
    host: String,
    _process: Child,
    _folder: tempfile::TempDir,
}

impl AuthEmulator {
    async fn start() -> Self {
        let tools = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../target/auth/node_modules/firebase-tools/lib/bin/firebase.js");
        assert!(tools.exists(), "the Auth emulator is not installed: run `make target/auth/.installed`");
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let hub = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let logging = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = json!({"emulators": {
            "auth": {"host": "127.0.0.1", "port": port}, "hub": {"host": "127.0.0.1", "port": hub},
            "logging": {"host": "127.0.0.1", "port": logging}, "ui": {"enabled": false}, "singleProjectMode": false,
        }});
        std::fs::write(folder.path().join("firebase.json"), config.to_string()).unwrap();
        let mut process = Command::new("node")
            .arg(tools)
            .args(["emulators:start", "--only", "auth", "--project", "demo-app"])
            .current_dir(folder.path())
            .env("FIREBASE_CLI_DISABLE_UPDATE_CHECK", "1")
            .env("CI", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("node is needed");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains("All emulators ready") {
                    return;
                }
            }
            panic!("the Auth emulator ended before it was ready");
        };
        tokio::time::timeout(Duration::from_secs(120), ready).await.expect("the Auth emulator did not come up");
        // somebody must read on, or the emulator blocks
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { host: format!("127.0.0.1:{port}"), _process: process, _folder: folder }
    }

    async fn toolkit(&self, project: &str) -> IdentityToolkit {
        let access = Access::Emulator { host: self.host.clone() };
        IdentityToolkit::connect(IdentityOptions { project: project.to_owned(), access }).await.unwrap()
    }
}

fn user(id: &str, tenant: Option<&str>, value: Value) -> UserRecord {
    let mut value = value;
    value["localId"] = json!(id);
    UserRecord {
        id: id.to_owned(),
        tenant: tenant.map(ToOwned::to_owned),
        json: Bytes::from(value.to_string()),
        redacted: false,
    }
}

fn users() -> Vec<UserRecord> {
    let mut users: Vec<_> = (0..1200)
        .map(|n| {
            let hash = format!("aGFzaC1vZi11c2VyLXsu{n:04}");
            let value = json!({"email": format!("user{n}@example.com"), "emailVerified": n % 2 == 0, "passwordHash": hash, "salt": "c2FsdA=="});
            user(&format!("uid-{n:05}"), None, value)
        })
        .collect();
    users.push(user("claims", None, json!({"email": "claims@example.com", "customAttributes": "{\"role\":\"admin\"}", "disabled": true, "displayName": "Ünïcödé 😀"})));
    let google =
        json!([{"providerId": "google.com", "rawId": "10987654321", "email": "g@example.com", "displayName": "G"}]);
    users.push(user("google", None, json!({"email": "g@example.com", "providerUserInfo": google})));
    users.push(user("phone", None, json!({"phoneNumber": "+15550100200"})));
    users
}

/// All users of a project, without what the server sets itself.
async fn all(source: &IdentityToolkit, tenant: Option<&str>) -> Vec<Value> {
    let (mut users, mut token) = (Vec::new(), None::<String>);
    loop {
        let page = source.page(tenant, token.as_deref()).await.unwrap();
        for user in page.users {
            let mut value: Value = serde_json::from_slice(&user.json).unwrap();
            for own in ["createdAt", "lastLoginAt", "lastRefreshAt", "validSince", "passwordUpdatedAt"] {
                value.as_object_mut().unwrap().remove(own);
            }
            users.push(value);
        }
        token = page.next;
        if token.is_none() {
            users.sort_by_key(|user| user["localId"].as_str().map(ToOwned::to_owned));
            return users;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn auth_users_come_back_with_their_hashes_claims_and_providers() {
    let emulator = AuthEmulator::start().await;
    let toolkit = emulator.toolkit("demo-app").await;
    for chunk in users().chunks(1000) {
        assert_eq!(toolkit.create(None, chunk, None, false).await.unwrap(), []);
    }
    let before = all(&toolkit, None).await;
    assert_eq!(before.len(), 1203);
    let (_folder, repository) = repository().await;
    let database = MemoryDatabase::new(DatabaseName::new("demo-app", "(default)"));
    let backup = Backup::builder(repository.clone(), Arc::new(database)).users(Arc::new(toolkit.clone()));
    let manifest = backup.build().run().await.unwrap().manifest;
    let auth = manifest.auth.clone().unwrap();
    assert_eq!((auth.users, auth.redacted), (1203, 0));
    assert!(auth.listed_from <= auth.listed_until);
    verify(&repository, &manifest.id, &Arc::default()).await.unwrap();
    // into another, empty project
    let other = emulator.toolkit("demo-other").await;
    let report =
        restore_users(&repository, &manifest, &other, UserRestoreOptions::default(), &Arc::default()).await.unwrap();
    assert_eq!((report.restored, report.failed), (1203, 0), "{:?}", report.failures);
    assert_eq!(all(&other, None).await, before);
    // once more, on top of themselves
    let again = UserRestoreOptions { overwrite: true, ..UserRestoreOptions::default() };
    let report = restore_users(&repository, &manifest, &other, again, &Arc::default()).await.unwrap();
    assert_eq!((report.restored, report.failed), (1203, 0), "{:?}", report.failures);
    assert_eq!(all(&other, None).await, before);
}

/// A source whose hashes the credential may not read.
struct Redacting;

#[async_trait]
impl UserSource for Redacting {
    async fn hash_config(&self) -> Result<Option<Value>, PortError> {
        Ok(None)
    }

    async fn tenants(&self) -> Result<Vec<String>, PortError> {
        Ok(Vec::new())
    }

    async fn page(&self, _: Option<&str>, _: Option<&str>) -> Result<UserPage, PortError> {
        let redacted = user("a", None, json!({"email": "a@example.com", "passwordHash": "UkVEQUNURUQ="}));
        let open = user("b", None, json!({"email": "b@example.com"}));
        Ok(UserPage { users: vec![UserRecord { redacted: true, ..redacted }, open], next: None })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redacted_auth_hashes_are_refused_unless_told_otherwise() {
    let (_folder, repository) = repository().await;
    let database = Arc::new(MemoryDatabase::new(DatabaseName::new("demo-app", "(default)")));
    let backup = || Backup::builder(repository.clone(), database.clone()).users(Arc::new(Redacting));
    let error = backup().build().run().await.unwrap_err();
    assert!(matches!(&error, EngineError::Refused(text) if text.contains("--allow-redacted-hashes")), "{error}");
    assert!(repository.snapshot_ids().await.unwrap().is_empty());
    let manifest = backup().allow_redacted_hashes(true).build().run().await.unwrap().manifest;
    assert_eq!(manifest.auth.as_ref().map(|auth| (auth.users, auth.redacted)), Some((2, 1)));
    let emulator = AuthEmulator::start().await;
    let toolkit = emulator.toolkit("demo-app").await;
    let refused = restore_users(&repository, &manifest, &toolkit, UserRestoreOptions::default(), &Arc::default())
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("--allow-redacted-hashes"), "{refused}");
    let allowed = UserRestoreOptions { allow_redacted: true, ..UserRestoreOptions::default() };
    let report = restore_users(&repository, &manifest, &toolkit, allowed, &Arc::default()).await.unwrap();
    assert_eq!((report.restored, report.failed), (2, 0));
    let restored = all(&toolkit, None).await;
    assert!(
        restored.iter().all(|user| user.get("passwordHash").is_none()),
        "a redacted hash must not become a real one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn auth_tenants_keep_their_users() {
    let emulator = AuthEmulator::start().await;
    let client = make_tenant(&emulator.host, "demo-app").await;
    let toolkit = emulator.toolkit("demo-app").await;
    assert_eq!(toolkit.tenants().await.unwrap(), std::slice::from_ref(&client));
    let one = user(
        "in-tenant",
        Some(&client),
        json!({"email": "t@example.com", "passwordHash": "aGFzaA==", "salt": "c2FsdA=="}),
    );
    assert_eq!(toolkit.create(Some(&client), &[one], None, false).await.unwrap(), []);
    assert_eq!(
        toolkit.create(None, &[user("outside", None, json!({"email": "o@example.com"}))], None, false).await.unwrap(),
        []
    );
    let before = (all(&toolkit, None).await, all(&toolkit, Some(&client)).await);
    assert_eq!((before.0.len(), before.1.len()), (1, 1));
    let (_folder, repository) = repository().await;
    let database = MemoryDatabase::new(DatabaseName::new("demo-app", "(default)"));
    let backup = Backup::builder(repository.clone(), Arc::new(database)).users(Arc::new(toolkit.clone()));
    let manifest = backup.build().run().await.unwrap().manifest;
    assert_eq!(manifest.auth.as_ref().unwrap().tenants, std::slice::from_ref(&client));
    let overwrite = UserRestoreOptions { overwrite: true, ..UserRestoreOptions::default() };
    let report = restore_users(&repository, &manifest, &toolkit, overwrite, &Arc::default()).await.unwrap();
    assert_eq!((report.restored, report.failed), (2, 0), "{:?}", report.failures);
    assert_eq!((all(&toolkit, None).await, all(&toolkit, Some(&client)).await), before);
}

/// Makes a tenant by a plain HTTP request, and returns its id.
async fn make_tenant(host: &str, project: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let body = json!({"displayName": "tenant-one", "allowPasswordSignup": true}).to_string();
    let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
    let request = format!(
        "POST /identitytoolkit.googleapis.com/v2/projects/{project}/tenants HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer owner\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let name = answer.split("/tenants/").nth(1).unwrap_or_else(|| panic!("no tenant was made: {answer}"));
    name.split('"').next().unwrap().to_owned()
}
