//! The catalog, made anew from what lies in repositories: after a lost database, or of what the command line has put there.
//!
//! Nothing that was deleted on purpose comes back: the record of a backup goes after its manifest. So whoever finds no record
//! first, and reads the manifest behind that, knows that the backup was not deleted.

use std::collections::BTreeMap;

use firebackup_model::Timestamp;
use firebackup_model::database::DEFAULT_DATABASE;
use firebackup_model::id::JobId;
use firebackup_model::manifest::Manifest;
use firebackup_model::port::ItemWrite;
use serde::Deserialize;

use crate::access::DestinationAccess;
use crate::backup::{BackupConfig, BackupType};
use crate::control::Control;
use crate::destination::DestinationRecord;
use crate::error::{Code, ControlError, Kind, Result};
use crate::id::{DestinationId, ProjectId};
use crate::job::{BackupJob, Job, JobFacts, JobResult, JobStatus, is_backup};
use crate::job_records::{index, job_act};
use crate::limit;
use crate::project::ProjectRecord;
use crate::record::{MAX_ATTEMPTS, Written, new_item};
use crate::role::Right;
use crate::tenant::Caller;
use crate::work::OpenedPlace;

/// Which destinations are looked through for backups that the catalog lacks.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CatalogSync {
    /// Which; all where none is named.
    #[schema(max_items = 100)]
    pub destination_ids: Vec<DestinationId>,
    /// To which project the backups in the repository of an unknown one are added, by the id that the repository has: a
    /// project that was lost, or removed and connected again. Where the installation has one organization only, for nobody
    /// else's can they be.
    #[schema(value_type = BTreeMap<String, String>)]
    pub attach: BTreeMap<ProjectId, ProjectId>,
    /// How many backups are looked at.
    #[schema(minimum = 1, maximum = 1000, default = 500)]
    pub limit: Option<u32>,
    /// Where to go on: the `cursor` of the answer before, with everything else as it was.
    #[schema(
        pattern = r"^storage_[0-7][0-9A-HJKMNP-TV-Z]{25}/proj_[0-7][0-9A-HJKMNP-TV-Z]{25}/(true|false)/(bkp_[0-7][0-9A-HJKMNP-TV-Z]{25})?$"
    )]
    pub cursor: Option<String>,
}

/// A repository whose backups can be added to the catalog.
#[derive(Debug, Clone)]
pub struct PlaceToSync {
    /// Where it is.
    pub place: OpenedPlace,
    /// To which project they are added.
    project: ProjectId,
}

/// The most destinations and repositories that are named.
const MAX_NAMED: usize = 100;
/// The most backups that are looked at, and how many where nothing is said.
const MAX_LIMIT: u32 = 1000;
const LIMIT: u32 = 500;

impl CatalogSync {
    /// How many backups are looked at.
    ///
    /// # Errors
    /// [`Unprocessable`](crate::Kind::Unprocessable) where that is too many, or none.
    pub fn most(&self) -> Result<usize> {
        let limit = self.limit.unwrap_or(LIMIT);
        limit::between("limit", limit, 1, MAX_LIMIT)?;
        Ok(limit as usize)
    }
}

impl Control {
    /// The destinations that are to be looked through, in order.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound) of one that is named; [`Unprocessable`](crate::Kind::Unprocessable) where too many
    /// are, or something cannot be attached.
    pub async fn destinations_to_sync(&self, caller: &Caller, sync: &CatalogSync) -> Result<Vec<DestinationId>> {
        caller.may(Right::Manage)?;
        if sync.destination_ids.len() > MAX_NAMED {
            return Err(ControlError::field("destinationIds", format!("at most {MAX_NAMED}")));
        }
        self.check_attached(caller, &sync.attach).await?;
        let mut ids = sync.destination_ids.clone();
        for id in &ids {
            self.destination_record(caller.scope(), id).await?;
        }
        if ids.is_empty() {
            let all = self.all::<DestinationRecord>(caller.scope().destinations()).await?;
            ids.extend(all.into_iter().map(|record| record.value.destination.id));
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// A key of the installation may open the repository of another organization, if their destinations lie in one bucket. So
    /// one that no project of the caller's has made is taken only where there is nobody else.
    async fn check_attached(&self, caller: &Caller, attach: &BTreeMap<ProjectId, ProjectId>) -> Result<()> {
        let wrong = |message: &str| Err(ControlError::field("attach", message));
        if attach.is_empty() {
            return Ok(());
        }
        if attach.len() > MAX_NAMED {
            return wrong(&format!("at most {MAX_NAMED}"));
        }
        for project in attach.values() {
            self.project_record(caller.scope(), project).await?;
        }
        match self.is_alone(caller).await? {
            true => Ok(()),
            false => wrong(
                "the installation has other organizations, and it is not known whose that repository is: restore from it by \
                 the command line",
            ),
        }
    }

    async fn is_alone(&self, caller: &Caller) -> Result<bool> {
        let mut cursor = None;
        loop {
            let (ids, next) = self.organizations_page(cursor.as_deref()).await?;
            if ids.iter().any(|id| *id != caller.organization()) {
                return Ok(false);
            }
            if next.is_none() {
                return Ok(true);
            }
            cursor = next;
        }
    }

    /// What opens a destination, to look which repositories lie in it.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound); [`Conflict`](crate::Kind::Conflict) while it is being removed.
    pub async fn destination_to_sync(&self, caller: &Caller, id: &DestinationId) -> Result<DestinationAccess> {
        caller.may(Right::Manage)?;
        let record = self.destination_record(caller.scope(), id).await?;
        record.value.check_usable()?;
        record.value.check_settled()?;
        let organization = self.organization_record(caller.scope()).await?;
        self.destination_access(&organization, &record.value).await
    }

    /// A repository that was found, opened; nothing where no project of the organization has made it, and none is named for
    /// it.
    ///
    /// # Errors
    /// As [`Self::destinations_to_sync`].
    pub async fn place_to_sync(
        &self,
        caller: &Caller,
        id: DestinationId,
        (repository, encrypted): (ProjectId, bool),
        attach: &BTreeMap<ProjectId, ProjectId>,
    ) -> Result<Option<PlaceToSync>> {
        caller.may(Right::Manage)?;
        let scope = caller.scope();
        let is_own = self.load::<ProjectRecord>(&scope.project_key(&repository)).await?.is_some();
        let project = match attach.get(&repository) {
            _ if is_own => repository,
            None => return Ok(None),
            Some(project) => {
                self.check_attached(caller, attach).await?;
                *project
            }
        };
        let organization = self.organization_record(scope).await?;
        let place = self.place_at(scope, organization, id, (repository, encrypted)).await?;
        Ok(Some(PlaceToSync { place, project }))
    }

    /// Whether the catalog has a backup, however that stands.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn knows_backup(&self, caller: &Caller, id: &JobId) -> Result<bool> {
        caller.may(Right::Read)?;
        Ok(self.items().get(&caller.scope().job_key(id)).await?.is_some())
    }

    /// Adds a backup to the catalog whose manifest was read after it was not found there; says whether it was missing. Doing it
    /// twice is doing it once.
    ///
    /// # Errors
    /// [`Unprocessable`](crate::Kind::Unprocessable) where it cannot be one of the project's.
    pub async fn recover_backup(&self, caller: &Caller, to: &PlaceToSync, manifest: &Manifest) -> Result<bool> {
        caller.may(Right::Manage)?;
        let scope = caller.scope();
        let backup = recovered(caller, to, manifest)?;
        let job = Job::Backup(Box::new(backup));
        for _ in 0..MAX_ATTEMPTS {
            if self.knows_backup(caller, &manifest.id).await? {
                return Ok(false);
            }
            let project = self.project_record(scope, &to.project).await?;
            check_source(&project.value, to, manifest)?;
            let destination = self.destination_record(scope, &to.place.destination.id).await?;
            destination.value.check_usable()?;
            destination.value.check_settled()?;
            let item = new_item(scope.job_key(&manifest.id), &job, index(scope, &job))?;
            let writes =
                vec![ItemWrite::Create(item), project.check(), destination.check(), self.goes_on(scope).await?];
            if self.commit(caller.author(), job_act(&job, "recovered"), writes).await? == Written::Yes {
                return Ok(true);
            }
        }
        Err(ControlError::concurrent_change())
    }
}

/// What was of another project once belongs to one of the same database.
fn check_source(project: &ProjectRecord, to: &PlaceToSync, manifest: &Manifest) -> Result<()> {
    let is_own = to.project == to.place.project;
    if is_own || project.project.google_project == manifest.source.project {
        return Ok(());
    }
    let message = format!("it is of the Google project `{}`, and the one to add it to is not", manifest.source.project);
    Err(ControlError::new(Kind::Unprocessable, Code::ValidationFailed, message))
}

fn recovered(caller: &Caller, to: &PlaceToSync, manifest: &Manifest) -> Result<BackupJob> {
    let id = &manifest.id;
    if !is_backup(id) {
        return Err(ControlError::internal("what a restore replaced is no backup"));
    }
    let config = config(to, manifest);
    limit::backup(&config)?;
    let mut result = JobResult::of(manifest);
    result.warnings.push("it was found in its repository, and added to the catalog again".to_owned());
    if !manifest.selection.paths.is_empty() {
        result.warnings.push("it holds only documents whose paths match what was given to the command line".to_owned());
    }
    Ok(BackupJob {
        job: JobFacts {
            id: id.clone(),
            organization_id: caller.organization(),
            status: JobStatus::Completed,
            created_at: Timestamp::from_millis(i64::try_from(id.millis()).unwrap_or(i64::MAX)),
            started_at: Some(manifest.started),
            ended_at: Some(manifest.finished),
            created_by: caller.actor().to_string(),
            request_id: caller.author().origin().request.clone(),
            progress: None,
            result: Some(result),
            error: None,
            chunks: None,
        },
        project_id: to.project,
        google_project: manifest.source.project.clone(),
        database: manifest.source.database.clone(),
        storage_destination_id: to.place.destination.id,
        repository_project_id: (to.project != to.place.project).then_some(to.place.project),
        schedule_id: None,
        config,
        last_drill: None,
    })
}

fn config(to: &PlaceToSync, manifest: &Manifest) -> BackupConfig {
    let database = &manifest.source.database;
    BackupConfig {
        kind: BackupType::of(manifest.kind).unwrap_or_default(),
        database: (database != DEFAULT_DATABASE).then(|| database.clone()),
        collections: manifest.selection.include.clone(),
        exclude_collections: manifest.selection.exclude.clone(),
        include_subcollections: manifest.selection.subcollections,
        include_auth: manifest.auth.is_some(),
        compression: manifest.compression.to_string(),
        encrypt: to.place.encrypted,
    }
}
