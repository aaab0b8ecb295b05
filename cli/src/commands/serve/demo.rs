//! `firebackup serve --demo`: a project on the emulator, a destination, a first backup, and what to try with them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use firebackup_bootstrap::local::LocalApp;
use firebackup_control::{
    BackupJob, Caller, ControlError, FirstOwner, JobStatus, NewBackup, NewDestination, NewProject, ProjectId,
};
use firebackup_engine::Meter;
use serde::Serialize;
use serde_json::{Value, json};

use crate::commands::demo::stage::Stage;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::output::Output;
use crate::settings::folder_url;
use crate::units::{bytes, of};

/// So that a small database has several.
pub(super) const CHUNK_DOCUMENTS: u64 = 200;
const DOCUMENTS: u64 = 2000;
/// By this line a folder of an earlier demonstration is known.
const MARK: &str = "This folder was made by `firebackup serve --demo`, which empties it when it runs again.";
const ABOUT: &str = "about.txt";
/// What a server puts into its folder.
const OURS: [&str; 5] = ["master.key", "firebackup.db", "firebackup.db-wal", "firebackup.db-shm", "backups"];
/// How often the first backup is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What is there to be looked at.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    emulator: String,
    project_id: ProjectId,
    google_project: String,
    backup_id: String,
    documents: u64,
    stored: u64,
}

/// Empties the folder of an earlier demonstration, or makes one.
///
/// # Errors
/// When it holds what no demonstration put there.
pub(super) fn prepare(data: &Path) -> Result<()> {
    fs::create_dir_all(data).map_err(CliError::file("make the folder", data))?;
    let about = fs::read_to_string(data.join(ABOUT)).unwrap_or_default();
    let is_empty = fs::read_dir(data).map_err(CliError::file("read the folder", data))?.next().is_none();
    if !is_empty && about.lines().next() != Some(MARK) {
        let text =
            format!("{} holds something that no demo put there: name another folder with --data", data.display());
        return Err(CliError::Refused(text));
    }
    for name in OURS {
        let path = data.join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(CliError::file("remove", &path)(error));
            }
            _ => {}
        }
    }
    for (name, text) in [(ABOUT, format!("{MARK}\n")), (".gitignore", "*\n".to_owned())] {
        fs::write(data.join(name), text).map_err(CliError::file("write", &data.join(name)))?;
    }
    Ok(())
}

/// An emulator with documents.
///
/// # Errors
/// When there is none.
pub(super) async fn stage(context: &Context) -> Result<Stage> {
    let stage = Stage::open(&context.settings.access, DOCUMENTS).await?;
    context.output.note(&format!("Firestore emulator at {}: filling it", stage.host()));
    stage.seed(DOCUMENTS, &Meter::default()).await?;
    Ok(stage)
}

/// Connects the project, adds a folder, backs up.
///
/// # Errors
/// When anything fails, or the user wants an end.
pub(super) async fn first_backup(
    context: &Context,
    app: &LocalApp,
    stage: &Stage,
    data: &Path,
    owner: &FirstOwner,
) -> Result<Shown> {
    let caller = app.control.authenticate(&owner.api_key, None).await?;
    let google_project = stage.database.project.clone();
    let credentials = json!({"type": "emulator", "host": stage.host()});
    let project: NewProject =
        from_json(json!({"name": "Demo", "googleProject": google_project, "credentials": credentials}))?;
    let project = app.control.connect_project(&caller, project).await?;
    let folder = std::path::absolute(data.join("backups")).map_err(CliError::file("find the folder", data))?;
    let destination: NewDestination = from_json(json!({"name": "This machine", "url": folder_url(&folder)?}))?;
    app.control.add_destination(&caller, destination).await?;
    let backup: NewBackup = from_json(json!({"projectId": project.id}))?;
    let backup = app.control.create_backup(&caller, backup, None).await?;
    let done = context.interrupt.race(completed(app, &caller, &backup)).await?;
    let result = done.job.result.unwrap_or_default();
    Ok(Shown {
        emulator: stage.host().to_owned(),
        project_id: project.id,
        google_project,
        backup_id: done.job.id.to_string(),
        documents: result.documents,
        stored: result.stored,
    })
}

async fn completed(app: &LocalApp, caller: &Caller, backup: &BackupJob) -> Result<BackupJob> {
    loop {
        let now = app.control.backup(caller, &backup.project_id, &backup.job.id).await?;
        match now.job.status {
            JobStatus::Completed => return Ok(now),
            status if status.has_ended() => {
                let reason = now.job.error.map_or_else(String::new, |error| error.message);
                return Err(CliError::Refused(format!("the first backup is {}: {reason}", status.name())));
            }
            _ => tokio::time::sleep(LOOK).await,
        }
    }
}

/// Requests are made as a client makes them.
fn from_json<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| CliError::Control(ControlError::internal(error)))
}

/// What to try.
pub(super) fn text(output: &Output, address: &str, shown: &Shown) -> String {
    let Shown { emulator, project_id, google_project, backup_id, documents, stored } = shown;
    let host = address.trim_end_matches("/api/v1");
    format!(
        "
The project {google_project} on the emulator at {emulator} is connected as {project_id}, and its first backup is taken:
{backup_id}, {} in {}, all at one instant, encrypted.

{}
  export KEY=<the api key above>
1 Look at what the backup holds:
  curl -s -H \"Authorization: Bearer $KEY\" {address}/backups/{project_id}/{backup_id}/preview
2 Destroy everything, and put it back:
  curl -s -X DELETE http://{emulator}/emulator/v1/projects/{google_project}/databases/\\(default\\)/documents
  curl -s -H \"Authorization: Bearer $KEY\" -H 'Content-Type: application/json' -d '{{\"backupId\": \"{backup_id}\"}}' {address}/backups/restore
  curl -s -H \"Authorization: Bearer $KEY\" {address}/restores
3 Back up every minute, and keep the newest five:
  curl -s -H \"Authorization: Bearer $KEY\" -H 'Content-Type: application/json' -d '{{\"name\": \"every minute\", \"projectId\": \"{project_id}\", \"cronExpression\": \"* * * * *\", \"timezone\": \"UTC\", \"retention\": {{\"type\": \"count\", \"value\": 5}}}}' {address}/schedules
The whole API stands in {host}/openapi.json, and a page to try it is {host}/docs.
",
        of(*documents, "document"),
        bytes(*stored),
        output.bold("Three things to try"),
    )
}
