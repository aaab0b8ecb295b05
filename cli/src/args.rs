//! What can be asked on the command line.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::commands::{
    backup, bench, completions, demo, diff, drill, export, get, history, init, key, pitr, prune, restore, serve, show,
    verify,
};
use crate::settings::{database_id, project_id};

/// The exit codes, for the long help.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  the arguments make no sense
  3  came to its end, but something failed, was in conflict or not there, is damaged or differs
  4  stopped on Ctrl-C or at --max-reads; the same command, with a higher --max-reads, goes on
  5  the repository, snapshot, document or job is not there, or nothing fits what was asked for
  130  ended at once by a second Ctrl-C, or by the first where there is nothing to go on with";

/// Backs up Firestore into storage that you own, and puts it back exactly
#[derive(Debug, Parser)]
#[command(
    name = "firebackup",
    version,
    about,
    long_about = "Backs up Firestore databases and Firebase Auth users into storage that you own (a folder, S3, Google \
                  Cloud Storage, Azure), encrypted and compressed, all documents at one instant, and puts them back \
                  exactly.\n\nSee it at work: `firebackup demo`",
    after_long_help = EXIT_CODES,
    max_term_width = 110,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// Options of every command
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[cfg(test)]
impl Cli {
    /// The arguments of a command, such as `pitr start`, parsed from the rest of its line.
    pub(crate) fn arguments<T: clap::FromArgMatches>(command: &str, line: &str) -> Result<T, clap::Error> {
        use clap::CommandFactory;
        let words = ["firebackup"].into_iter().chain(command.split(' ')).chain(line.split_whitespace());
        let mut matches = Self::command().try_get_matches_from(words)?;
        while let Some((_, of_command)) = matches.remove_subcommand() {
            matches = of_command;
        }
        T::from_arg_matches_mut(&mut matches)
    }
}

const REPOSITORY: &str = "Repository";
const KEYS: &str = "Keys";
const FIRESTORE: &str = "Firestore";
const OUTPUT: &str = "Output";

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct GlobalArgs {
    /// Where the repository lives: file:///folder, s3://bucket/prefix, gs://…, az://… [env: FIREBACKUP_REPO]
    #[arg(long, global = true, value_name = "URL", help_heading = REPOSITORY)]
    pub(crate) repo: Option<String>,
    /// Base URL of an S3-compatible service: Spaces, MinIO, Wasabi, B2, R2
    #[arg(long, global = true, value_name = "URL", help_heading = REPOSITORY)]
    pub(crate) endpoint: Option<String>,
    /// The Google Cloud project [env: FIREBACKUP_PROJECT, GOOGLE_CLOUD_PROJECT]
    #[arg(long, global = true, value_name = "ID", help_heading = FIRESTORE, value_parser = project_id)]
    pub(crate) project: Option<String>,
    /// The database [default: (default)]
    #[arg(long, global = true, value_name = "ID", help_heading = FIRESTORE, value_parser = database_id)]
    pub(crate) database: Option<String>,
    /// Key file of a service account; else Google's application default credentials
    #[arg(long, global = true, value_name = "FILE", help_heading = FIRESTORE)]
    pub(crate) credentials: Option<PathBuf>,
    /// Master key that opens the repository (repeatable) [env: FIREBACKUP_MASTER_KEY holds the key itself]
    #[arg(long = "master-key-file", global = true, value_name = "FILE", help_heading = KEYS)]
    pub(crate) master_key_files: Vec<PathBuf>,
    /// Passphrase that opens the repository [env: FIREBACKUP_PASSPHRASE holds the passphrase itself]
    #[arg(long, global = true, value_name = "FILE", help_heading = KEYS)]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// ARN of the AWS KMS key that opens the repository (repeatable); credentials and region as the AWS tools find them
    #[arg(long = "kms", global = true, value_name = "ARN", help_heading = KEYS, value_parser = kms_key)]
    pub(crate) kms_keys: Vec<String>,
    /// Private half of a recovery key
    #[arg(long, global = true, value_name = "FILE", help_heading = KEYS)]
    pub(crate) recovery_key_file: Option<PathBuf>,
    /// Public half of a recovery key: enough to write backups, not to read them
    #[arg(long, global = true, value_name = "KEY", help_heading = KEYS)]
    pub(crate) recovery_public_key: Option<String>,
    /// Signing key of a machine that holds no key of the repository
    #[arg(long, global = true, value_name = "FILE", help_heading = KEYS)]
    pub(crate) signing_key_file: Option<PathBuf>,
    /// Believe only what this writer signed (repeatable); `init` and `show` print it
    #[arg(long = "writer-key", global = true, value_name = "KEY", help_heading = KEYS)]
    pub(crate) writer_keys: Vec<String>,
    /// Accept what is not encrypted although a key was given
    #[arg(long, global = true, help_heading = KEYS)]
    pub(crate) allow_unencrypted: bool,
    /// One JSON document on standard output, errors too
    #[arg(long, global = true, help_heading = OUTPUT)]
    pub(crate) json: bool,
    /// No progress and no remarks
    #[arg(long, short, global = true, help_heading = OUTPUT, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Logs on standard error; repeat for more [env: RUST_LOG]
    #[arg(long, short, global = true, action = ArgAction::Count, help_heading = OUTPUT)]
    pub(crate) verbose: u8,
}

/// The ARN of a key or an alias would let another key in later: only a key's own is taken.
fn kms_key(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        ["arn", partition, "kms", region, account, key]
            if ![partition, region, account].contains(&"")
                && key.strip_prefix("key/").is_some_and(|id| !id.is_empty()) =>
        {
            Ok(text.to_owned())
        }
        _ => Err("expected the ARN of a key, such as arn:aws:kms:eu-central-1:123456789012:key/…".to_owned()),
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show all of it on a local Firestore emulator: back up, destroy, restore, compare
    #[command(after_help = demo::EXAMPLES)]
    Demo(demo::DemoArgs),
    /// Serve the API, run schedules and jobs: the whole of it on this machine
    #[command(after_help = serve::EXAMPLES)]
    Serve(serve::ServeArgs),
    /// Measure backup and restore on a local Firestore emulator, beside what the same server does bare
    #[command(after_help = bench::EXAMPLES)]
    Bench(bench::BenchArgs),
    /// Make a repository
    #[command(after_help = init::EXAMPLES)]
    Init(init::InitArgs),
    /// Back up a database, all documents at one instant
    #[command(after_help = backup::EXAMPLES)]
    Backup(backup::BackupArgs),
    /// Put documents back: whole, in part, elsewhere; with a dry run before and an undo after
    #[command(after_help = restore::EXAMPLES)]
    Restore(restore::RestoreArgs),
    /// List the snapshots
    #[command(after_help = "Examples:\n  firebackup list --repo file:///srv/backups --master-key-file master.key")]
    List,
    /// Show one snapshot: when, what, how large, by whom
    #[command(after_help = show::EXAMPLES)]
    Show(show::ShowArgs),
    /// Read snapshots back and check every byte
    #[command(after_help = verify::EXAMPLES)]
    Verify(verify::VerifyArgs),
    /// Restore a backup into a scratch database, compare every document, and keep a report
    #[command(after_help = drill::EXAMPLES)]
    Drill(drill::DrillArgs),
    /// Compare two snapshots or moments, or one of them and the live database
    #[command(after_help = diff::EXAMPLES)]
    Diff(diff::DiffArgs),
    /// Print one document of a snapshot, or as it was at a moment
    #[command(after_help = get::EXAMPLES)]
    Get(get::GetArgs),
    /// List every version of a document that is known
    #[command(after_help = history::EXAMPLES)]
    History(history::HistoryArgs),
    /// Capture the changes of a database, and see which moments can be put back
    #[command(after_help = pitr::EXAMPLES)]
    Pitr(pitr::PitrArgs),
    /// Write a snapshot's documents as JSON, one a line
    #[command(after_help = export::EXAMPLES)]
    Export(export::ExportArgs),
    /// Drop old snapshots, and delete what nothing refers to any more
    #[command(after_help = prune::EXAMPLES)]
    Prune(prune::PruneArgs),
    /// List backups and restores that were begun and have not ended
    #[command(after_help = "Examples:\n  firebackup jobs --repo file:///srv/backups --master-key-file master.key")]
    Jobs,
    /// Make keys, and say who can open the repository
    #[command(after_help = key::EXAMPLES)]
    Key(key::KeyArgs),
    /// Print the completions for a shell
    #[command(after_help = completions::EXAMPLES)]
    Completions(completions::CompletionsArgs),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_description_and_an_example_that_it_takes() {
        fn check(command: &clap::Command) {
            for command in command.get_subcommands() {
                assert!(command.get_about().is_some(), "{}", command.get_name());
                let help = command.get_after_help().map(ToString::to_string);
                if let Some(help) = help {
                    assert!(help.starts_with("Examples:\n"), "{}", command.get_name());
                    help.lines().skip(1).filter(|line| line.starts_with("  firebackup")).for_each(takes);
                }
                check(command);
            }
        }
        fn takes(line: &str) {
            let line = line.trim().split([';', '>', '|']).next().unwrap();
            let words = line.split_whitespace().map(|word| word.trim_matches('\''));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
        let command = Cli::command();
        assert!(command.get_subcommands().all(|command| command.get_after_help().is_some()));
        check(&command);
    }

    /// An option that another one forbids is asked for by none: what goes with it only must be refused outright.
    #[test]
    fn what_goes_with_an_option_is_refused_with_whatever_forbids_that_option() {
        const AT: &str = "--at 2026-11-24T10:15:03Z";
        const BACKUP: &str = "bkp_01ARZ3NDEKTSV4RRFFQ69G5FAV";
        const RESTORE: &str = "restore_01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let refusal = |line: &str| {
            let words = ["firebackup"].into_iter().chain(line.split_whitespace());
            Cli::try_parse_from(words).err().map(|refused| refused.kind())
        };
        for good in [
            format!("backup --synthetic {AT}"),
            "backup --incremental --collection users --no-subcollections".to_owned(),
            "backup --include-auth --allow-redacted-hashes".to_owned(),
            format!("backup --resume {BACKUP} --allow-redacted-hashes"),
            format!("restore {AT} --exact"),
            format!("restore {AT} --reported --document users/a"),
            format!("restore --undo {RESTORE}"),
            "serve --tls-cert cert.pem --tls-key key.pem".to_owned(),
            "serve --behind-proxy".to_owned(),
            "drill --reports".to_owned(),
            "drill latest --scratch-emulator --sample 10 --moments 2 --no-ramp --cron @daily --timezone UTC".to_owned(),
        ] {
            assert_eq!(refusal(&good), None, "{good}");
        }
        let mut bad = vec![
            format!("backup --incremental {AT}"),
            format!("backup --plan {AT}"),
            format!("backup --resume {BACKUP} {AT}"),
            format!("backup --read-time 2026-11-24T10:15:03Z {AT}"),
            format!("backup --include-auth {AT}"),
            format!("backup --allow-redacted-hashes {AT}"),
            format!("backup --collection users {AT}"),
            format!("backup --exclude users {AT}"),
            format!("backup --no-subcollections {AT}"),
            format!("backup --max-reads 1 {AT}"),
            "backup --incremental --allow-redacted-hashes".to_owned(),
            "backup --synthetic --allow-redacted-hashes".to_owned(),
            "backup --synthetic --no-subcollections".to_owned(),
            format!("backup --resume {BACKUP} --no-subcollections"),
            "restore --exact --snapshot latest".to_owned(),
            format!("restore --undo {RESTORE} --exact"),
            format!("restore --undo {RESTORE} --reported --document users/a"),
            "serve --behind-proxy --tls-key key.pem".to_owned(),
        ];
        let of_a_drill = [
            "latest",
            "--scratch-emulator",
            "--scratch-project p",
            "--scratch-database d",
            "--sample 10",
            "--all",
            "--moments 2",
            "--seed 1",
            "--take-over",
            "--no-ramp",
            "--cron @daily",
            "--timezone UTC",
        ];
        bad.extend(of_a_drill.map(|option| format!("drill --reports {option}")));
        for bad in bad {
            assert_eq!(refusal(&bad), Some(ErrorKind::ArgumentConflict), "{bad}");
        }
    }

    #[test]
    fn global_options_stand_before_and_behind_the_command() {
        for line in ["firebackup --repo file:///b --json list", "firebackup list --repo file:///b --json"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.global.repo.as_deref(), Some("file:///b"));
            assert!(cli.global.json);
        }
    }
}
