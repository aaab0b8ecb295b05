//! `firebackup pitr stop`: asks the capture on this machine to end, and waits until it has.

use std::time::Duration;

use firebackup_model::DatabaseName;
use serde::Serialize;
use tokio::time::Instant;

use super::running::{Holder, Mark};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit::Exit;

/// How long a capture may take to end: what it heard is sealed.
const PATIENCE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(50);

#[derive(Serialize)]
struct Stopped {
    database: DatabaseName,
    process: u32,
}

/// Stops the capture of the database that runs on this machine.
///
/// # Errors
/// When none does, it cannot be asked, or does not end.
pub(super) async fn run(context: &Context) -> Result<Exit> {
    let repository = context.repository().await?;
    let database = context.database_in(&repository).await?;
    let none = || {
        CliError::NotFound(format!(
            "no capture of {database} into this repository runs on this machine as this user (on another machine, end it there)"
        ))
    };
    let mark = Mark::of(context, &repository, &database).ok_or_else(none)?;
    let asked = mark.with_holder(|holder| match holder {
        Holder::Nobody => Ok(None),
        Holder::Process(Some(process)) => ask(process).map(Some),
        Holder::Process(None) => {
            Err(CliError::Refused("the capture is just beginning or ending: try again".to_owned()))
        }
    });
    let process = asked.await?.ok_or_else(none)?;
    wait(&mark, process).await?;
    let text = format!("{} the capture of {database} (process {process}) has ended", context.output.good("✓"));
    context.output.result(&Stopped { database, process }, &text)?;
    Ok(Exit::Done)
}

async fn wait(mark: &Mark, process: u32) -> Result<()> {
    let begun = Instant::now();
    while mark.holder().await? == Holder::Process(Some(process)) {
        if begun.elapsed() > PATIENCE {
            return Err(CliError::Refused(format!(
                "process {process} was asked to end and still works after {} seconds: wait for it, or end it by force, which \
                 loses nothing that was sealed",
                PATIENCE.as_secs()
            )));
        }
        tokio::time::sleep(TICK).await;
    }
    Ok(())
}

#[cfg(unix)]
fn ask(process: u32) -> Result<u32> {
    use rustix::process::{Pid, Signal, kill_process};
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| CliError::Refused(format!("{process} is no process id")))?;
    kill_process(pid, Signal::TERM)
        .map_err(|error| CliError::Refused(format!("process {process} cannot be asked to end: {error}")))?;
    Ok(process)
}

#[cfg(not(unix))]
fn ask(process: u32) -> Result<u32> {
    Err(CliError::Refused(format!(
        "process {process} cannot be asked to end on this system: press Ctrl-C where it runs"
    )))
}
