//! The whole way: a schedule fires, the backup runs in chunks, a restore puts it into another database, and the CLI does
//! the same without the stack.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use firebackup_google::Firestore;
use firebackup_google::corpus::corpus;
use firebackup_google::sample::sample;
use firebackup_model::{DatabaseName, DocumentPath};
use firebackup_testkit::eventually;
use gcloud_sdk::google::firestore::v1::Document;
use prost::Message;
use serde_json::{Value, json};

use super::api::path_of;
use super::deployed::{BOUND, Deployed};
use crate::binary::program;
use crate::stage::{Documents, assert_same, delete_all, firestore, read_all, write_all};

const SOURCE: &str = "demo-source";
const TARGET: &str = "demo-target";
/// A schedule of every minute, and what the local scheduler is late.
const UNTIL_DUE: Duration = Duration::from_secs(100);

/// Everything that is hard to keep, and much that is not.
fn everything(database: &DatabaseName) -> impl Iterator<Item = (DocumentPath, Bytes)> {
    sample(database, 400, 1).chain(corpus(database))
}

/// What the target must hold in the end: the same documents, referring to the database that they are in; what refers to
/// other databases stays. The database is empty afterwards.
async fn expected(target: &Firestore, database: &DatabaseName, before: &Documents) -> Documents {
    let stays = |path: DocumentPath, document: Bytes| {
        let document = match path.as_str() {
            "values/references" => with_foreign_references(&document, &before[&path]),
            _ => document,
        };
        (path, document)
    };
    write_all(target, everything(database).map(|(path, document)| stays(path, document))).await;
    let documents = read_all(target).await;
    delete_all(target).await;
    documents
}

/// A document with the references to other databases that another has.
fn with_foreign_references(document: &[u8], of: &[u8]) -> Bytes {
    let [mut document, of] = [document, of].map(|bytes| Document::decode(bytes).unwrap());
    for name in ["other-database", "other-project"] {
        document.fields.insert(name.to_owned(), of.fields[name].clone()).unwrap();
    }
    document.encode_to_vec().into()
}

/// Makes a recovery key, offline as it should be; gives its public half.
fn recovery_key(file: &Path) -> String {
    let output =
        Command::new(program()).args(["key", "generate", "--recovery", "--json", "--output"]).arg(file).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    made["public_key"].as_str().unwrap().to_owned()
}

/// Runs the CLI on the repository of a Google project and what it is here, with nothing of the stack but its bucket and what
/// `keys` name.
pub async fn cli(
    stack: &Deployed,
    (google_project, project): (&str, &str),
    arguments: &[&str],
    keys: &[&str],
) -> Value {
    let repository = format!("{}/{project}", stack.bucket_url());
    let mut command = Command::new(program());
    command.args(arguments).args(["--repo", &repository, "--endpoint", stack.ministack.endpoint(), "--json"]);
    command.args(["--project", google_project]).args(keys);
    command.env_clear().env("PATH", std::env::var("PATH").unwrap_or_default());
    command.env("FIRESTORE_EMULATOR_HOST", stack.emulator.host()).envs(stack.ministack.environment());
    if !keys.contains(&"--kms") {
        // no key service to ask
        command.env("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:1");
    }
    let output = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{arguments:?} {keys:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_fires_and_what_it_backed_up_is_restored_by_the_stack_and_without_it() {
    let stack = Deployed::with("ChunkDocuments=40 PartDocuments=60").await;
    let (source, target) = (DatabaseName::new(SOURCE, "(default)"), DatabaseName::new(TARGET, "(default)"));
    let source = (firestore(stack.emulator.host(), &source).await, source);
    let target = (firestore(stack.emulator.host(), &target).await, target);
    write_all(&source.0, everything(&source.1)).await;
    let before = read_all(&source.0).await;
    let wanted = expected(&target.0, &target.1, &before).await;
    assert_eq!(before.len(), wanted.len());

    let folder = tempfile::tempdir().unwrap();
    let recovery_file = folder.path().join("recovery.key");
    let public = recovery_key(&recovery_file);
    stack
        .explaining("the whole way", async {
            stack.api.ask("PUT", "/organizations/current", &json!({"recoveryPublicKey": public})).await;
            let backup = scheduled_backup(&stack, &before).await;
            let backup = &backup;
            restore_by_the_stack(&stack, backup, &before, &target.0, &wanted).await;
            let project = (SOURCE, backup["projectId"].as_str().unwrap());
            let recovery = recovery_file.display().to_string();
            for keys in [["--kms", stack.output("KeyArn")], ["--recovery-key-file", &recovery]] {
                delete_all(&target.0).await;
                let id = backup["id"].as_str().unwrap();
                let verified = cli(&stack, project, &["verify", id], &keys).await;
                assert_eq!(verified["whole"][0]["records"].as_u64(), Some(before.len() as u64), "{verified:#}");
                let restore = ["restore", "--snapshot", id, "--to-project", TARGET, "--yes", "--no-undo"];
                let report = cli(&stack, project, &restore, &keys).await;
                assert_eq!(report["documents"]["failed"], 0, "{report:#}");
                assert_same(&read_all(&target.0).await, &wanted);
            }
            assert_eq!(read_all(&source.0).await, before, "the database that was backed up is not touched");
        })
        .await;
}

/// Connects all that is needed, makes a schedule, and waits for the backup that it makes.
async fn scheduled_backup(stack: &Deployed, before: &Documents) -> Value {
    let api = &stack.api;
    let project = api.connect(SOURCE, &stack.google_proxy.host()).await;
    let project = project["id"].as_str().unwrap();
    api.add_destination(&stack.bucket_url()).await;
    let schedule = json!({
        "name": "every minute", "projectId": project, "cronExpression": "* * * * *", "timezone": "Europe/Berlin",
        "retention": {"type": "count", "value": 3},
    });
    let schedule = api.post("/schedules", schedule).await;
    let id = schedule["id"].as_str().unwrap();
    let made = eventually("the schedule fires", UNTIL_DUE, async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        api.get(&format!("/backups/project/{project}")).await.as_array()?.first().cloned()
    });
    let made = made.await;
    api.ask("PUT", &format!("/schedules/{id}"), &json!({"enabled": false})).await;
    assert_eq!((&made["scheduleId"], &made["createdBy"]), (&json!(id), &json!(id)), "{made:#}");

    let backup = api.reaches(&path_of(&made), &["completed"], BOUND).await;
    assert_eq!(backup["result"]["documents"].as_u64(), Some(before.len() as u64), "{backup:#}");
    assert_eq!(backup["result"]["consistency"], "snapshot", "{backup:#}");
    assert!(backup["chunks"].as_u64() >= Some(8), "{backup:#}");
    let id = backup["id"].as_str().unwrap();
    stack.execution_ends(id, "SUCCEEDED").await;
    assert_eq!(stack.aws.executions(stack.output("BackupStateMachineArn"), id).await.len(), 1);
    let preview = api.get(&format!("{}/preview", path_of(&backup))).await;
    assert_eq!(preview["documents"].as_u64(), Some(before.len() as u64), "{preview:#}");
    backup
}

async fn restore_by_the_stack(
    stack: &Deployed,
    backup: &Value,
    before: &Documents,
    target: &Firestore,
    wanted: &Documents,
) {
    let api = &stack.api;
    let project = api.connect(TARGET, &stack.google_proxy.host()).await;
    let asked = |dry_run: bool| json!({"backupId": backup["id"], "targetProjectId": project["id"], "dryRun": dry_run});
    let dry = api.post("/backups/restore", asked(true)).await;
    let dry = api.reaches(&path_of(&dry), &["completed"], BOUND).await;
    let amounts = |job: &Value| ["written", "deleted", "same", "failed"].map(|name| job["result"][name].as_u64());
    let all = [before.len() as u64, 0, 0, 0].map(Some);
    assert_eq!(amounts(&dry), all, "{dry:#}");
    assert!(dry["result"]["preview"].is_object(), "{dry:#}");
    assert!(read_all(target).await.is_empty(), "a dry run writes nothing");

    let restore = api.post("/backups/restore", asked(false)).await;
    let restore = api.reaches(&path_of(&restore), &["completed"], BOUND).await;
    assert_eq!(amounts(&restore), all, "{restore:#}");
    assert!(restore["chunks"].as_u64() > Some(1), "{restore:#}");
    assert_same(&read_all(target).await, wanted);
}
