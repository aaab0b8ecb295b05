//! `firebackup key generate`: a new key in a new file.

use std::path::PathBuf;

use clap::Args;
use firebackup_codec::signature::WriterKey;
use firebackup_codec::wrap::{RecoveryKeyPair, fingerprint};
use firebackup_embedded::SystemRandom;
use firebackup_embedded::key_file::{KeyKind, KeyText, SecretBytes, parse_kind};
use serde::Serialize;

use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit::Exit;
use crate::keys::secret_key;

/// Which kind, and where to.
#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    /// A recovery key: its public half lets others write backups for it, its private half is kept offline
    #[arg(long, conflicts_with = "signing")]
    recovery: bool,
    /// A signing key, for a machine that writes backups and holds no key of the repository
    #[arg(long)]
    signing: bool,
    /// The new file
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Serialize)]
struct Generated {
    kind: &'static str,
    file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
}

/// Makes the key. An existing file is never overwritten.
///
/// # Errors
/// When the file exists or cannot be written.
pub(super) fn run(context: &Context, args: &GenerateArgs) -> Result<Exit> {
    let (generated, advice) = if args.recovery {
        recovery(args)?
    } else if args.signing {
        signing(args)?
    } else {
        master(args)?
    };
    let file = args.output.display();
    let text = format!("{} {} written to {file}\n{advice}", context.output.good("✓"), generated.kind);
    context.output.result(&generated, &text)?;
    Ok(Exit::Done)
}

fn master(args: &GenerateArgs) -> Result<(Generated, String)> {
    let secret = SecretBytes::generate(&SystemRandom);
    KeyText::new(KeyKind::Master, &secret).write_new(&args.output)?;
    let fingerprint = fingerprint(&secret_key(&secret));
    let advice = format!(
        "  fingerprint  {fingerprint}\n\nWhoever has this file can read the backups, and without it nobody can: keep a copy elsewhere."
    );
    let file = args.output.clone();
    Ok((Generated { kind: "master key", file, fingerprint: Some(fingerprint), public_key: None }, advice))
}

fn recovery(args: &GenerateArgs) -> Result<(Generated, String)> {
    let pair = RecoveryKeyPair::generate(&SystemRandom);
    let unusable = |error| CliError::Refused(format!("the new recovery key is of no use: {error}"));
    let secret = parse_kind(KeyKind::Recovery, &pair.private.to_text()).map_err(unusable)?;
    KeyText::new(KeyKind::Recovery, &secret).write_new(&args.output)?;
    let public = pair.public.to_string();
    let advice = format!(
        "  public key  {public}\n\nGive the public key to `init` or `key add`. Keep the file offline: it opens the backups when everything else is lost."
    );
    let file = args.output.clone();
    Ok((Generated { kind: "recovery key", file, fingerprint: None, public_key: Some(public) }, advice))
}

fn signing(args: &GenerateArgs) -> Result<(Generated, String)> {
    let secret = SecretBytes::generate(&SystemRandom);
    KeyText::new(KeyKind::Signing, &secret).write_new(&args.output)?;
    let public = WriterKey::from_seed(&secret_key(&secret)).public().to_string();
    let advice =
        format!("  writer key  {public}\n\nReaders give it to --writer-key to believe what this machine writes.");
    let file = args.output.clone();
    Ok((Generated { kind: "signing key", file, fingerprint: None, public_key: Some(public) }, advice))
}
