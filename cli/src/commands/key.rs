//! `firebackup key`: makes keys, and says and changes who can open a repository.

mod generate;
mod rotate;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use firebackup_codec::wrap::{Wrap, WrapKind};
use firebackup_engine::Holder;
use firebackup_model::Timestamp;
use firebackup_model::id::WrapId;
use serde::Serialize;

use crate::confirm::confirm;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit::Exit;
use crate::keys::{read_passphrase, recovery_public_key, secret_key};
use crate::table::table;
use crate::units::moment;

/// Examples for the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  firebackup key generate --output master.key
  firebackup key generate --recovery --output recovery.key
  firebackup key list --repo file:///srv/backups --master-key-file master.key
  firebackup key rotate --new-master-key-file new.key --repo file:///srv/backups --master-key-file master.key";

/// What to do with keys.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key and write it to a new file that only you can read
    Generate(generate::GenerateArgs),
    /// Say who can open the repository
    List,
    /// Let another key or passphrase open the repository, all old backups too
    Add(AddArgs),
    /// Take a wrap away: its holder cannot open the repository any more, except with a copy made before
    Remove(RemoveArgs),
    /// Let a new master key open the repository, check that it does, and take the old one's wraps away
    Rotate(rotate::RotateArgs),
}

/// Who is let in.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct AddArgs {
    /// A master key
    #[arg(long, value_name = "FILE")]
    new_master_key_file: Option<PathBuf>,
    /// A passphrase
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
    /// The public half of a recovery key
    #[arg(long, value_name = "KEY")]
    new_recovery_public_key: Option<String>,
}

/// Which wrap.
#[derive(Debug, Args)]
struct RemoveArgs {
    /// The wrap; `firebackup key list` shows it
    #[arg(value_name = "WRAP")]
    wrap: WrapId,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Somebody who can open a repository.
#[derive(Debug, Serialize)]
pub(crate) struct HolderInfo {
    wrap: WrapId,
    kind: &'static str,
    holder: Option<String>,
    created: Timestamp,
}

#[derive(Serialize)]
struct Holders {
    holders: Vec<HolderInfo>,
}

#[derive(Serialize)]
struct Changed {
    /// Nothing when whoever was to be let in is in already.
    added: Option<WrapId>,
    removed: Vec<WrapId>,
    holders: Vec<HolderInfo>,
}

impl HolderInfo {
    /// What a wrap says of its holder.
    pub(crate) fn of(wrap: &Wrap) -> Self {
        let ids = wrap.ids();
        Self { wrap: ids.wrap, kind: kind_name(wrap.kind()), holder: wrap.holder(), created: ids.created }
    }
}

const fn kind_name(kind: WrapKind) -> &'static str {
    match kind {
        WrapKind::Local => "master key",
        WrapKind::Passphrase => "passphrase",
        WrapKind::Recovery => "recovery key",
        WrapKind::Key => "key",
        WrapKind::Kms => "AWS KMS",
    }
}

/// The holders as a table.
pub(crate) fn holders_table(holders: &[HolderInfo]) -> String {
    let rows = holders.iter().map(|holder| {
        let who = holder.holder.clone().unwrap_or_else(|| "–".to_owned());
        vec![holder.wrap.to_string(), holder.kind.to_owned(), who, moment(holder.created)]
    });
    table(&["WRAP", "KIND", "FINGERPRINT OR PUBLIC KEY", "ADDED"], &[], rows)
}

/// Does it.
///
/// # Errors
/// When a key cannot be used, or the repository not be opened or changed.
pub(crate) async fn run(context: &Context, args: KeyArgs) -> Result<Exit> {
    match args.command {
        KeyCommand::Generate(args) => generate::run(context, &args),
        KeyCommand::List => list(context).await,
        KeyCommand::Add(args) => add(context, &args).await,
        KeyCommand::Remove(args) => remove(context, &args).await,
        KeyCommand::Rotate(args) => rotate::run(context, &args).await,
    }
}

async fn list(context: &Context) -> Result<Exit> {
    let repository = context.repository().await?;
    let holders: Vec<_> = repository.holders().await?.iter().map(HolderInfo::of).collect();
    let text = holders_table(&holders);
    context.output.result(&Holders { holders }, &text)?;
    Ok(Exit::Done)
}

async fn add(context: &Context, args: &AddArgs) -> Result<Exit> {
    let repository = context.repository().await?;
    let new = new_holder(args)?;
    let holders = repository.holders().await?;
    if holders.iter().any(|wrap| is_for(wrap, &new)) {
        return tell(context, &holders, None, Vec::new());
    }
    let added = repository.add_holder(&new).await?;
    tell(context, &repository.holders().await?, Some(added), Vec::new())
}

/// Whether a wrap lets this holder in. It is opened where it can be: anybody who writes to the store can put one there
/// that only says so.
fn is_for(wrap: &Wrap, holder: &Holder) -> bool {
    match holder {
        Holder::Master(master) => wrap.open_local(master).is_ok(),
        Holder::Passphrase(passphrase) => wrap.open_passphrase(passphrase).is_ok(),
        Holder::Recovery(public) => {
            wrap.kind() == WrapKind::Recovery && wrap.holder().is_some_and(|holder| holder == public.to_string())
        }
        // which masters there are is not asked for here: the wrap says it
        Holder::Service(service) => {
            wrap.kms().is_ok_and(|(arn, ..)| service.masters.first().is_some_and(|master| master == arn))
        }
    }
}

fn new_holder(args: &AddArgs) -> Result<Holder> {
    if let Some(file) = &args.new_master_key_file {
        return Ok(Holder::Master(secret_key(&firebackup_embedded::key_file::read(file)?)));
    }
    if let Some(file) = &args.new_passphrase_file {
        return Ok(Holder::Passphrase(read_passphrase(file)?));
    }
    let public = recovery_public_key(args.new_recovery_public_key.as_deref())?;
    public.map(Holder::Recovery).ok_or_else(|| CliError::Usage("no new holder was given".to_owned()))
}

async fn remove(context: &Context, args: &RemoveArgs) -> Result<Exit> {
    let repository = context.repository().await?;
    let holders = repository.holders().await?;
    let holder = holders.iter().map(HolderInfo::of).find(|holder| holder.wrap == args.wrap);
    let holder = holder
        .ok_or_else(|| CliError::NotFound(format!("there is no wrap {}: see `firebackup key list`", args.wrap)))?;
    let who = holder.holder.map(|who| format!(" {who}")).unwrap_or_default();
    confirm(context, &format!("The {}{who} will not open the repository any more", holder.kind), args.yes).await?;
    repository.remove_holder(args.wrap).await?;
    tell(context, &repository.holders().await?, None, vec![args.wrap])
}

fn tell(context: &Context, holders: &[Wrap], added: Option<WrapId>, removed: Vec<WrapId>) -> Result<Exit> {
    let holders: Vec<_> = holders.iter().map(HolderInfo::of).collect();
    let mut lines: Vec<String> =
        added.iter().map(|wrap| format!("{} added {wrap}", context.output.good("✓"))).collect();
    lines.extend(removed.iter().map(|wrap| format!("{} removed {wrap}", context.output.good("✓"))));
    if lines.is_empty() {
        lines.push("It opens the repository already: nothing was changed.".to_owned());
    }
    lines.push(format!("\nThe repository can be opened by:\n{}", holders_table(&holders)));
    context.output.result(&Changed { added, removed, holders }, &lines.join("\n"))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebackup_codec::secret::SecretKey;
    use firebackup_codec::wrap::{PassphraseParams, RecoveryKeyPair, WrapIds};
    use firebackup_embedded::SystemRandom;
    use firebackup_model::id::{KeyId, RepositoryId};

    #[test]
    fn only_a_wrap_that_lets_the_holder_in_is_for_it() {
        let ids = WrapIds {
            repository: RepositoryId([1; 16]),
            key: KeyId([2; 16]),
            wrap: WrapId([3; 16]),
            created: Timestamp::new(0, 0),
        };
        let (key, master) = (SecretKey::from_bytes([9; 32]), SecretKey::from_bytes([4; 32]));
        let pair = RecoveryKeyPair::generate(&SystemRandom);
        let quick = PassphraseParams { memory_kib: 64, iterations: 1, lanes: 1 };
        let wraps = [
            Wrap::wrap_local(&master, &ids, &key, &SystemRandom).unwrap(),
            Wrap::wrap_passphrase("sesame", &quick, &ids, &key, &SystemRandom).unwrap(),
            Wrap::wrap_recovery(&pair.public, &ids, &key, &SystemRandom).unwrap(),
        ];
        let check = |holder: Holder, expected: [bool; 3]| {
            assert_eq!(wraps.each_ref().map(|wrap| is_for(wrap, &holder)), expected);
        };
        check(Holder::Master(master), [true, false, false]);
        check(Holder::Passphrase("sesame".to_owned()), [false, true, false]);
        check(Holder::Recovery(pair.public), [false, false, true]);
        check(Holder::Master(SecretKey::from_bytes([5; 32])), [false; 3]);
        check(Holder::Passphrase("another".to_owned()), [false; 3]);
        check(Holder::Recovery(RecoveryKeyPair::generate(&SystemRandom).public), [false; 3]);

        // one that was moved names the master key, and does not open
        let mut moved = serde_json::to_value(&wraps[0]).unwrap();
        moved["wrap"] = serde_json::to_value(WrapId([7; 16])).unwrap();
        let moved: Wrap = serde_json::from_value(moved).unwrap();
        assert_eq!(moved.holder(), wraps[0].holder());
        assert!(!is_for(&moved, &Holder::Master(SecretKey::from_bytes([4; 32]))));
    }
}
