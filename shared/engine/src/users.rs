//! Auth users, both ways: listed into runs, and created again from them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use firebackup_codec::object::ObjectType;
use firebackup_codec::record::{Origin, RecordRef};
use firebackup_model::drill::UsersRead;
use firebackup_model::job::{Plan, UsersReceipt};
use firebackup_model::manifest::{AuthUsers, Manifest, RunEntry, RunKind};
use firebackup_model::path::compare;
use firebackup_model::port::{MAX_USERS_PER_CALL, UserRecord, UserSink, UserSource};
use firebackup_model::{ErrorKind, PortError};

use crate::error::{EngineError, Result};
use crate::layout;
use crate::read::RunSource;
use crate::repository::Repository;
use crate::run_upload::{RunSettings, RunUpload};
use crate::world::{Meter, Stop};

/// A run of users ends at this size, so that sorting it takes bounded memory.
const RUN_BYTES: usize = 16 * 1024 * 1024;
/// The tenant part of the path of a project's own users.
const NO_TENANT: &str = "-";

/// Lists all users into runs and puts the receipt. A second process adopts the receipt that is there.
pub(crate) async fn export_users(
    repository: &Repository,
    plan: &Plan,
    settings: &RunSettings,
    source: &dyn UserSource,
    allow_redacted: bool,
    stop: &Stop,
) -> Result<()> {
    let path = layout::users_receipt(&plan.job);
    if let Some((receipt, _)) = repository.get_sealed::<UsersReceipt>(ObjectType::UsersReceipt, &path).await? {
        return check_redacted(receipt.auth.redacted, receipt.auth.users, allow_redacted);
    }
    let mut listing =
        Listing { settings, pending: BTreeMap::new(), pending_bytes: 0, runs: Vec::new(), users: 0, redacted: 0 };
    let listed_from = repository.world().now();
    let hash_config = source.hash_config().await?;
    let tenants = source.tenants().await?;
    listing.list(source, None, plan, stop).await?;
    for tenant in &tenants {
        listing.list(source, Some(tenant), plan, stop).await?;
    }
    listing.flush().await?;
    check_redacted(listing.redacted, listing.users, allow_redacted)?;
    let (users, redacted, runs) = (listing.users, listing.redacted, listing.runs);
    let listed_until = repository.world().now();
    let auth = AuthUsers { listed_from, listed_until, users, redacted, tenants, hash_config, runs };
    let receipt = UsersReceipt { job: plan.job.clone(), auth };
    repository.put_sealed(ObjectType::UsersReceipt, &path, &settings.sealing, &receipt).await?;
    Ok(())
}

fn check_redacted(redacted: u64, users: u64, allow_redacted: bool) -> Result<()> {
    if redacted == 0 || allow_redacted {
        return Ok(());
    }
    Err(EngineError::Refused(format!(
        "the credential may not read password hashes: {redacted} of {users} users came with a redacted one and could not sign in \
         after a restore; grant firebaseauth.configs.getHashConfig and firebaseauth.users.get, or give --allow-redacted-hashes"
    )))
}

struct Listing<'l> {
    settings: &'l RunSettings,
    pending: BTreeMap<String, UserRecord>,
    pending_bytes: usize,
    runs: Vec<RunEntry>,
    users: u64,
    redacted: u64,
}

impl Listing<'_> {
    async fn list(&mut self, source: &dyn UserSource, tenant: Option<&str>, plan: &Plan, stop: &Stop) -> Result<()> {
        let mut token: Option<String> = None;
        let mut seen = HashSet::new();
        loop {
            if stop.is_requested() {
                return Err(EngineError::Interrupted { job: plan.job.clone() });
            }
            let page = source.page(tenant, token.as_deref()).await?;
            for user in page.users {
                self.take(user);
            }
            if self.pending_bytes >= RUN_BYTES {
                self.flush().await?;
            }
            match page.next {
                None => return Ok(()),
                Some(next) if seen.insert(next.clone()) => token = Some(next),
                Some(_) => {
                    let text = "the server sent a page token twice: the list would have no end";
                    return Err(PortError::new(ErrorKind::Corrupt, "list Auth users", text).into());
                }
            }
        }
    }

    fn take(&mut self, user: UserRecord) {
        self.pending_bytes += user.json.len();
        self.redacted += u64::from(user.redacted);
        self.pending.insert(user_path(&user), user);
    }

    async fn flush(&mut self) -> Result<()> {
        let mut users: Vec<_> = std::mem::take(&mut self.pending).into_iter().collect();
        self.pending_bytes = 0;
        if users.is_empty() {
            return Ok(());
        }
        users.sort_by(|(a, _), (b, _)| compare(a, b));
        let mut run = RunUpload::start(self.settings.clone(), RunKind::Users, None)?;
        for (path, user) in &users {
            let body = Some(&*user.json);
            run.push(&RecordRef {
                path,
                body,
                origin: Origin::Base,
                update_time: None,
                commit_time: None,
                point: None,
            })
            .await?;
        }
        self.users += users.len() as u64;
        self.runs.push(run.finish().await?.entry);
        Ok(())
    }
}

/// `<tenant or ->/<user id>`, both with `/` and `%` percent-encoded.
fn user_path(user: &UserRecord) -> String {
    let tenant = user.tenant.as_deref().map_or_else(|| NO_TENANT.to_owned(), encode);
    format!("{tenant}/{}", encode(&user.id))
}

fn encode(text: &str) -> String {
    text.replace('%', "%25").replace('/', "%2F")
}

fn decode(text: &str) -> String {
    text.replace("%2F", "/").replace("%25", "%")
}

fn user_of(path: &str) -> Option<(Option<String>, String)> {
    let (tenant, id) = path.split_once('/')?;
    Some(((tenant != NO_TENANT).then(|| decode(tenant)), decode(id)))
}

/// How users are restored.
#[derive(Debug, Clone, Copy, Default)]
pub struct UserRestoreOptions {
    /// Replace users of the same id instead of failing on them.
    pub overwrite: bool,
    /// Restore users although their password hashes were redacted when they were backed up.
    pub allow_redacted: bool,
}

/// What a restore of users did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UserReport {
    /// Users created or replaced.
    pub restored: u64,
    /// Users that failed, with the reason, up to 1,000.
    pub failures: Vec<UserRestoreFailure>,
    /// Users that failed.
    pub failed: u64,
}

/// A user that could not be restored.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UserRestoreFailure {
    /// The user's id.
    pub user: String,
    /// Its tenant.
    pub tenant: Option<String>,
    /// What the API said.
    pub reason: String,
}

/// Creates the users of a snapshot.
///
/// # Errors
/// When the snapshot holds none, hashes were redacted and that was not allowed, or a port fails.
pub async fn restore_users(
    repository: &Repository,
    manifest: &Manifest,
    sink: &dyn UserSink,
    options: UserRestoreOptions,
    meter: &Arc<Meter>,
) -> Result<UserReport> {
    let auth = manifest.auth.as_ref();
    let auth = auth.ok_or_else(|| EngineError::NotFound(format!("{} holds no Auth users", manifest.id)))?;
    if auth.redacted > 0 && !options.allow_redacted {
        let text = format!(
            "{} of {} users were backed up without their password hash and could not sign in; give --allow-redacted-hashes to restore them all the same",
            auth.redacted, auth.users
        );
        return Err(EngineError::Refused(text));
    }
    let mut report = UserReport::default();
    for entry in &auth.runs {
        let run = RunSource::open(repository, manifest.key, entry, meter).await?;
        let mut batch: Vec<UserRecord> = Vec::new();
        for block in 0..run.blocks() {
            let raw = run.block(block).await?;
            for record in run.records(&raw) {
                let user = read_user(&record?)?;
                if batch.len() == MAX_USERS_PER_CALL || batch.first().is_some_and(|first| first.tenant != user.tenant) {
                    create(sink, &mut batch, auth, options, &mut report).await?;
                }
                batch.push(user);
            }
        }
        create(sink, &mut batch, auth, options, &mut report).await?;
    }
    Ok(report)
}

/// Opens and decodes every user of a snapshot, and counts them; nothing where it holds none.
///
/// # Errors
/// When the store fails, a run is damaged, or a record is no user.
pub(crate) async fn read_users(
    repository: &Repository,
    manifest: &Manifest,
    meter: &Arc<Meter>,
) -> Result<Option<UsersRead>> {
    let Some(auth) = &manifest.auth else { return Ok(None) };
    let mut read = 0;
    for entry in &auth.runs {
        let run = RunSource::open(repository, manifest.key, entry, meter).await?;
        for block in 0..run.blocks() {
            for record in run.records(&run.block(block).await?) {
                check_user(&read_user(&record?)?, entry)?;
                read += 1;
            }
        }
    }
    Ok(Some(UsersRead { users: auth.users, read }))
}

/// That a user could be created: its JSON is an object of this user.
fn check_user(user: &UserRecord, entry: &RunEntry) -> Result<()> {
    let json: Option<serde_json::Value> = serde_json::from_slice(&user.json).ok();
    match json.as_ref().and_then(|json| json.get("localId")?.as_str()) == Some(&user.id) {
        true => Ok(()),
        false => Err(EngineError::Refused(format!("`{}` holds a user that is none", layout::run(entry.id)))),
    }
}

fn read_user(record: &RecordRef<'_>) -> Result<UserRecord> {
    let unreadable = || EngineError::NotFound("a users run holds a record that is no user".to_owned());
    let (tenant, id) = user_of(record.path).ok_or_else(unreadable)?;
    let json = record.body.ok_or_else(unreadable)?;
    Ok(UserRecord { id, tenant, json: bytes::Bytes::copy_from_slice(json), redacted: false })
}

async fn create(
    sink: &dyn UserSink,
    batch: &mut Vec<UserRecord>,
    auth: &AuthUsers,
    options: UserRestoreOptions,
    report: &mut UserReport,
) -> Result<()> {
    let users = std::mem::take(batch);
    let Some(first) = users.first() else { return Ok(()) };
    let failures = sink.create(first.tenant.as_deref(), &users, auth.hash_config.as_ref(), options.overwrite).await?;
    report.restored += (users.len() - failures.len()) as u64;
    report.failed += failures.len() as u64;
    for failure in failures {
        if let (Some(user), true) = (users.get(failure.index), report.failures.len() < 1000) {
            let (user, tenant) = (user.id.clone(), user.tenant.clone());
            report.failures.push(UserRestoreFailure { user, tenant, reason: failure.message });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_users_path_and_the_user_are_inverse(id in "\\PC{1,20}", tenant in proptest::option::of("[a-z%/2F]{2,8}")) {
            let user = UserRecord { id: id.clone(), tenant: tenant.clone(), json: bytes::Bytes::new(), redacted: false };
            let path = user_path(&user);
            prop_assert!(firebackup_model::path::check(&path).is_ok());
            prop_assert_eq!(user_of(&path), Some((tenant, id)));
        }
    }
}
