//! `firebackup key rotate`: a new master key in, the old one out, data untouched.

use std::path::PathBuf;

use clap::Args;
use firebackup_codec::secret::SecretKey;
use firebackup_codec::wrap::{Wrap, WrapKind, fingerprint};
use firebackup_embedded::key_file;
use firebackup_engine::{Holder, Repository, Secrets};
use firebackup_model::id::WrapId;

use super::tell;
use crate::confirm::confirm;
use crate::context::{Context, world};
use crate::error::{CliError, Result};
use crate::exit::Exit;
use crate::keys::secret_key;

/// The new key.
#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// The master key that takes the place of the one given with --master-key-file
    #[arg(long, value_name = "FILE")]
    new_master_key_file: PathBuf,
    /// Do not ask before the old wraps are removed
    #[arg(long, short)]
    yes: bool,
}

/// Rotates. Killed anywhere, it leaves a repository that the old key, the new one or both open, and can be run again.
///
/// # Errors
/// When a key does not open the repository, or it is not confirmed: then both keys open it.
pub(super) async fn run(context: &Context, args: &RotateArgs) -> Result<Exit> {
    let secrets = context.secrets().await?;
    let old: Vec<String> = secrets.masters.iter().map(fingerprint).collect();
    if old.is_empty() {
        return Err(CliError::Usage("give the key that is to be replaced with --master-key-file".to_owned()));
    }
    let new = secret_key(&key_file::read(&args.new_master_key_file)?);
    if old.contains(&fingerprint(&new)) {
        return Err(CliError::Refused("the new key is the old one".to_owned()));
    }
    let repository = context.repository().await?;
    let added = add(&repository, &new).await?;
    opens(context, &secrets, new).await?;
    let stale = stale(&repository.holders().await?, &old);
    if stale.is_empty() {
        return tell(context, &repository.holders().await?, added, stale);
    }
    let question = format!("The new key opens the repository. Master key {} will not any more", old.join(", "));
    confirm(context, &question, args.yes).await.map_err(|error| match error {
        CliError::Refused(text) => CliError::Refused(format!("{text}; both keys open the repository now")),
        error => error,
    })?;
    for wrap in &stale {
        repository.remove_holder(*wrap).await?;
    }
    tell(context, &repository.holders().await?, added, stale)
}

/// Adds the new key's wrap, unless an earlier try did.
async fn add(repository: &Repository, new: &SecretKey) -> Result<Option<WrapId>> {
    let is_there = !stale(&repository.holders().await?, &[fingerprint(new)]).is_empty();
    if is_there { Ok(None) } else { Ok(Some(repository.add_holder(&Holder::Master(new.clone())).await?)) }
}

/// Opens the repository with the new key and nothing else.
async fn opens(context: &Context, secrets: &Secrets, new: SecretKey) -> Result<()> {
    let only_new = Secrets { masters: vec![new], pinned: secrets.pinned.clone(), ..Secrets::default() };
    let reopened = Repository::open(context.destination()?.store(), only_new, world()).await?;
    for id in reopened.snapshot_ids().await?.iter().rev().take(1) {
        reopened.manifest(id).await?;
    }
    Ok(())
}

/// The wraps of master keys with these fingerprints.
fn stale(wraps: &[Wrap], fingerprints: &[String]) -> Vec<WrapId> {
    let of_old = |wrap: &&Wrap| {
        wrap.kind() == WrapKind::Local && wrap.holder().is_some_and(|holder| fingerprints.contains(&holder))
    };
    wraps.iter().filter(of_old).map(|wrap| wrap.ids().wrap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebackup_codec::wrap::WrapIds;
    use firebackup_embedded::SystemRandom;
    use firebackup_model::Timestamp;
    use firebackup_model::id::{KeyId, RepositoryId};

    #[test]
    fn only_wraps_of_the_old_key_go() {
        let key = SecretKey::from_bytes([9; 32]);
        let wrap = |number: u8, master: &SecretKey| {
            let ids = WrapIds {
                repository: RepositoryId([1; 16]),
                key: KeyId([2; 16]),
                wrap: WrapId([number; 16]),
                created: Timestamp::new(0, 0),
            };
            Wrap::wrap_local(master, &ids, &key, &SystemRandom).unwrap()
        };
        let (old, new) = (SecretKey::from_bytes([3; 32]), SecretKey::from_bytes([4; 32]));
        let wraps = [wrap(1, &old), wrap(2, &new), wrap(3, &old)];
        assert_eq!(stale(&wraps, &[fingerprint(&old)]), [WrapId([1; 16]), WrapId([3; 16])]);
    }
}
