//! `firebackup init`: makes a repository, after finding out that the destination can be trusted with one.

use clap::Args;
use firebackup_engine::{Repository, Secrets};
use firebackup_storage::{Destination, ProbeReport};
use serde::Serialize;

use crate::commands::key::{HolderInfo, holders_table};
use crate::context::{Context, world};
use crate::error::{CliError, Result};
use crate::exit::Exit;
use crate::table::pairs;

/// Examples for the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  firebackup key generate --output master.key
  firebackup init --repo file:///srv/backups --master-key-file master.key
  firebackup init --repo s3://bucket/prod --master-key-file master.key --recovery-public-key 3p7b…=";

/// How a repository is made.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Make a repository that is not encrypted: whoever can read the storage can read the data
    #[arg(long, conflicts_with_all = ["master_key_files", "passphrase_file", "recovery_public_key"])]
    no_encryption: bool,
}

#[derive(Serialize)]
struct Made {
    repository: String,
    url: String,
    encrypted: bool,
    writer_key: Option<String>,
    holders: Vec<HolderInfo>,
}

/// Makes the repository.
///
/// # Errors
/// When there is one already, nothing was said about encryption, or the destination cannot do what is needed.
pub(crate) async fn run(context: &Context, args: InitArgs) -> Result<Exit> {
    let secrets = secrets(context, args.no_encryption).await?;
    let destination = Destination::create(context.settings.repo()?, &context.settings.storage)?;
    check(destination.probe().await?, &destination)?;
    let repository = Repository::init(destination.store(), secrets, world()).await?;
    let made = made(&repository, &destination).await?;
    context.output.result(&made, &text(context, &made, repository.can_read()))?;
    Ok(Exit::Done)
}

async fn secrets(context: &Context, no_encryption: bool) -> Result<Secrets> {
    if no_encryption {
        return Ok(Secrets::default());
    }
    let secrets = context.secrets().await?;
    if secrets.is_empty() {
        return Err(CliError::Usage(
            "a repository is encrypted, and no key was given: make one with `firebackup key generate --output master.key` \
             and give --master-key-file master.key; --passphrase-file, --recovery-public-key and --kms can stand beside \
             it or alone (without encryption: --no-encryption)"
                .to_owned(),
        ));
    }
    Ok(secrets)
}

fn check(probe: ProbeReport, destination: &Destination) -> Result<()> {
    if probe.is_complete() {
        return Ok(());
    }
    let (destination, missing) = (destination.to_string(), probe.missing().join("; "));
    Err(CliError::Unfit { destination, missing, problems: probe.problems })
}

async fn made(repository: &Repository, destination: &Destination) -> Result<Made> {
    let encrypted = repository.config().key.is_some();
    let holders = if encrypted { repository.holders().await? } else { Vec::new() };
    Ok(Made {
        repository: repository.id().to_string(),
        url: destination.to_string(),
        encrypted,
        writer_key: repository.writer_key().map(|key| key.to_string()),
        holders: holders.iter().map(HolderInfo::of).collect(),
    })
}

fn text(context: &Context, made: &Made, can_read: bool) -> String {
    let output = &context.output;
    let mut lines = vec![
        output.good("The repository is made."),
        pairs([
            ("url", made.url.clone()),
            ("id", made.repository.clone()),
            (
                "writer key",
                made.writer_key.clone().unwrap_or_else(|| "none: what this machine writes is not signed".into()),
            ),
        ]),
    ];
    if made.encrypted {
        lines.push(format!("\nIt can be opened by:\n{}", holders_table(&made.holders)));
        lines.push(format!(
            "\n{}",
            output.bold("Keep a copy of these keys elsewhere: without them nothing can be restored.")
        ));
    } else {
        lines.push(output.bad("It is not encrypted: whoever can read the storage can read the data."));
    }
    if !can_read {
        lines.push("This machine can write backups and cannot read them: restore with --recovery-key-file.".to_owned());
    }
    lines.join("\n")
}
