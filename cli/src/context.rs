//! What a command works with: settings, a repository, databases, somewhere to talk to.

use std::sync::Arc;

use firebackup_aws::{AwsClients, AwsSettings, KmsKeyService, region_of_key};
use firebackup_embedded::{SystemClock, SystemRandom};
use firebackup_engine::{Moment, Moments, Repository, Secrets, ServiceKey, Target, Trust, World};
use firebackup_google::{Access, Firestore, FirestoreOptions, IdentityOptions, IdentityToolkit, Retrying};
use firebackup_model::id::SnapshotId;
use firebackup_model::manifest::{Manifest, SnapshotKind};
use firebackup_model::port::{DocumentSource, EncryptionContext};
use firebackup_model::{DatabaseName, Timestamp};
use firebackup_storage::Destination;
use object_store::ObjectStore;

use crate::args::GlobalArgs;
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::settings::Settings;
use crate::shell::shell_line;

/// The snapshot that is meant when none is named.
pub(crate) const LATEST: &str = "latest";

/// What it means that an origin is not proven, and what to do about it.
pub(crate) const ANYBODY: &str =
    "whoever can write to the destination may have made it; give --writer-key to believe one writer only";

/// What a command works with.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// What was asked for, typed.
    pub(crate) settings: Settings,
    /// Where words go.
    pub(crate) output: Output,
    /// When the user wants an end.
    pub(crate) interrupt: Interrupt,
}

impl Context {
    /// Takes arguments and environment, and begins to listen for Ctrl-C. Needs a runtime.
    ///
    /// # Errors
    /// When a setting is of no use.
    pub(crate) fn new(global: &GlobalArgs, environment: &Environment, output: Output) -> Result<Self> {
        let settings = Settings::new(global, environment)?;
        let interrupt = Interrupt::listen(output.clone());
        Ok(Self { settings, output, interrupt })
    }

    /// Opens the destination that was named.
    ///
    /// # Errors
    /// When none was named, or it cannot be used.
    pub(crate) fn destination(&self) -> Result<Destination> {
        Ok(Destination::open(self.settings.repo()?, &self.settings.storage)?)
    }

    /// Opens the repository that was named, with the keys that were given.
    ///
    /// # Errors
    /// When there is none, or the keys do not open it.
    pub(crate) async fn repository(&self) -> Result<Repository> {
        self.repository_in(self.destination()?.store()).await
    }

    /// As [`Self::repository`], in a store that somebody has wrapped.
    ///
    /// # Errors
    /// As [`Self::repository`].
    pub(crate) async fn repository_in(&self, store: Arc<dyn ObjectStore>) -> Result<Repository> {
        Ok(Repository::open(store, self.secrets().await?, world()).await?)
    }

    /// What the user holds, and what may be asked for.
    ///
    /// # Errors
    /// When a key cannot be used, or AWS not be reached for want of a region.
    pub(crate) async fn secrets(&self) -> Result<Secrets> {
        let mut secrets = self.settings.secrets()?;
        let masters = self.settings.kms_keys().to_vec();
        if let Some(first) = masters.first() {
            let region = region_of_key(first).map(str::to_owned);
            let clients = AwsClients::load(&AwsSettings { region, ..AwsSettings::default() }).await?;
            let service = Arc::new(KmsKeyService::new(&clients, first.clone()));
            secrets.service = Some(ServiceKey { service, masters, context: EncryptionContext::new() });
        }
        Ok(secrets)
    }

    /// Connects to a database to read it.
    ///
    /// # Errors
    /// When there are no credentials or nothing answers.
    pub(crate) async fn source(&self, database: &DatabaseName) -> Result<Arc<dyn DocumentSource>> {
        let firestore = connect(database, &self.settings.access).await?;
        Ok(Arc::new(Retrying::new(firestore)))
    }

    /// Connects to a database to read it and to listen to its changes.
    ///
    /// # Errors
    /// As [`Self::source`].
    pub(crate) async fn changes(&self, database: &DatabaseName) -> Result<Arc<Retrying<Firestore>>> {
        Ok(Arc::new(Retrying::new(connect(database, &self.settings.access).await?)))
    }

    /// Connects to a database to restore into it. Writes are not tried again here: the engine must know of every try.
    ///
    /// # Errors
    /// As [`Self::source`].
    pub(crate) async fn target(&self, database: &DatabaseName) -> Result<Target> {
        let firestore = connect(database, &self.settings.access).await?;
        Ok(Target { source: Arc::new(Retrying::new(firestore.clone())), sink: Arc::new(firestore) })
    }

    /// Connects to a project's Auth users.
    ///
    /// # Errors
    /// When there are no credentials, or emulator and production would be mixed.
    pub(crate) async fn users(&self, project: &str) -> Result<Arc<Retrying<IdentityToolkit>>> {
        let options = IdentityOptions { project: project.to_owned(), access: self.settings.auth_access()? };
        Ok(Arc::new(Retrying::new(IdentityToolkit::connect(options).await?)))
    }

    /// The snapshot that a user means; `latest` is the backup of the newest moment, of the database that was
    /// named, if one was.
    ///
    /// # Errors
    /// When there is none, or the newest cannot be read: an older one is never taken for it.
    pub(crate) async fn snapshot(&self, repository: &Repository, text: &str) -> Result<SnapshotId> {
        if text != LATEST {
            return Ok(repository.resolve(text).await?);
        }
        let latest = repository.latest(|manifest| self.settings.latest_may_be_of(&manifest.source)).await?;
        latest.ok_or_else(|| {
            let text = "there is no snapshot of this database yet: make one with `firebackup backup`, or name another \
                        --database";
            CliError::NotFound(text.to_owned())
        })
    }

    /// The database whose moments are meant: the one that was named, else the only one that the repository has backups
    /// of, else of those the one of the environment.
    ///
    /// # Errors
    /// When there is none, or it is not clear which.
    pub(crate) async fn database_in(&self, repository: &Repository) -> Result<DatabaseName> {
        if let Some(named) = self.settings.named_database() {
            return Ok(named);
        }
        let is_backup = |manifest: &Manifest| manifest.kind != SnapshotKind::Undo;
        let of_what = |manifest: &Manifest| is_backup(manifest) && self.settings.names(&manifest.source);
        let manifests = repository.all_manifests(of_what).await?;
        let mut databases: Vec<_> = manifests.into_iter().map(|manifest| manifest.source).collect();
        databases.sort();
        databases.dedup();
        match (&databases[..], self.settings.database()) {
            ([], _) => Err(CliError::NotFound(
                "there is no backup of this database yet: make one with `firebackup backup`".to_owned(),
            )),
            ([only], _) => Ok(only.clone()),
            (several, Ok(ambient)) if several.contains(&ambient) => Ok(ambient),
            (several, _) => {
                let names: Vec<String> = several.iter().map(ToString::to_string).collect();
                let names = names.join(", ");
                Err(CliError::Usage(format!("the repository holds {names}: say which with --project and --database")))
            }
        }
    }

    /// Finds the moment of a database that a user means, for a command that makes use of what it holds.
    ///
    /// # Errors
    /// When there is none, or it lies in a gap.
    pub(crate) async fn moment(
        &self,
        repository: &Repository,
        database: &DatabaseName,
        at: Timestamp,
        exact: bool,
    ) -> Result<(Moments, Moment)> {
        let moments = Moments::read(repository, database).await?;
        let moment = moments.resolve(at, exact)?;
        self.warn_unproven(repository, &moment.base);
        Ok((moments, moment))
    }

    /// As [`Self::snapshot`], for a command that makes use of what it holds without saying who wrote it.
    ///
    /// # Errors
    /// As [`Self::snapshot`].
    pub(crate) async fn snapshot_to_use(&self, repository: &Repository, text: &str) -> Result<SnapshotId> {
        let id = self.snapshot(repository, text).await?;
        self.warn_unproven(repository, &id);
        Ok(id)
    }

    /// Tells that anybody may have written a snapshot or an undo, where nobody said whom to believe.
    pub(crate) fn warn_unproven(&self, repository: &Repository, id: &SnapshotId) {
        if matches!(repository.trust(), Trust::Anybody) {
            self.output.warn(&format!("the origin of {id} is not proven: {ANYBODY}"));
        }
    }

    /// Tells of patterns that fitted nothing, while others did.
    pub(crate) fn warn_unmatched(&self, patterns: &[String]) {
        for pattern in patterns {
            self.output.warn(&format!("no document fits `{pattern}`"));
        }
    }

    /// A command for the same repository that a user can copy.
    pub(crate) fn command(&self, words: &[&str]) -> String {
        let program = ["firebackup".to_owned()];
        let words = words.iter().map(|word| (*word).to_owned());
        shell_line(program.into_iter().chain(words).chain(self.settings.same_repository()))
    }
}

/// The clock and the randomness of this machine.
pub(crate) fn world() -> World {
    World { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom) }
}

async fn connect(database: &DatabaseName, access: &Access) -> Result<Firestore> {
    let options = FirestoreOptions { database: database.clone(), access: access.clone() };
    Ok(Firestore::connect(options).await?)
}
