//! Verbs on projects.

use firebackup_model::Timestamp;
use firebackup_model::database::DEFAULT_DATABASE;
use firebackup_model::port::ItemWrite;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::access::ProjectAccess;
use crate::audit::Act;
use crate::control::Control;
use crate::credentials::{NewCredentials, StoredCredentials};
use crate::database::{Ability, DatabaseFacts, DatabaseLimit, limits_of};
use crate::error::{Code, ControlError, Result};
use crate::id::ProjectId;
use crate::limit;
use crate::page::{Page, Paged};
use crate::permission::{self, MissingPermission, PermissionCheck, Purpose, status_of};
use crate::probes::ProjectFindings;
use crate::record::{MAX_ATTEMPTS, Stored, Written, new_item};
use crate::role::Right;
use crate::room::Kept;
use crate::schedule::Schedule;
use crate::tenant::{Caller, OrganizationScope, Worker};

/// Whether a project can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProjectStatus {
    /// It can be backed up, as far as permissions go. What else they do not allow stands in `missing`.
    Connected,
    /// Somebody has disconnected it: no job is made for it.
    Disconnected,
    /// Permissions are missing that a backup needs; `missing` says which. Jobs that need them will fail.
    Error,
}

/// A project that is to be connected.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewProject {
    /// For people.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// The Google Cloud project id.
    #[schema(example = "my-app-1234")]
    pub google_project: String,
    /// How Google is told who we are.
    pub credentials: NewCredentials,
    /// Its databases; all that are found where nothing is said.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub databases: Option<Vec<String>>,
}

/// What is to be changed of a project; what is left out stays.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProjectChange {
    /// For people.
    pub name: Option<String>,
    /// How Google is told who we are; checked again.
    pub credentials: Option<NewCredentials>,
    /// Its databases; checked again.
    pub databases: Option<Vec<String>>,
    /// False disconnects it; true checks it again and connects it.
    pub connected: Option<bool>,
}

/// Which projects are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProjectFilter {
    /// Only those of this status.
    pub status: Option<ProjectStatus>,
    /// Only those whose name or Google project contains this, in any case.
    pub search: Option<String>,
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Project {
    /// Names it.
    pub id: ProjectId,
    /// For people.
    pub name: String,
    /// The Google Cloud project id.
    pub google_project: String,
    /// `service_account`, `federation`, `oauth` or `emulator`.
    pub credentials_type: String,
    /// The service account's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// The address of the Google account whose consent let us in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Whether it can be used.
    pub status: ProjectStatus,
    /// What the credentials may not do.
    pub missing: Vec<MissingPermission>,
    /// When and how that was found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<PermissionCheck>,
    /// The ids of its databases.
    pub databases: Vec<String>,
    /// What cannot be done with which of them, as far as was seen when the project was looked at last.
    #[serde(default)]
    pub limits: Vec<DatabaseLimit>,
    /// When it was connected.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// What is told of a project that jobs cannot reach any more, because somebody said so or a consent is gone.
const DISCONNECTED: &str = "project.disconnected";

/// A project, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProjectRecord {
    #[serde(flatten)]
    pub(crate) project: Project,
    pub(crate) credentials: StoredCredentials,
    /// How its databases are set up; those of which Google says nothing are left out.
    #[serde(default)]
    pub(crate) facts: Vec<DatabaseFacts>,
    /// Whether somebody is about to remove it: nothing new may begin to use it.
    #[serde(default)]
    removing: bool,
}

impl Project {
    /// What it is, as the audit log tells it.
    fn told(&self) -> Value {
        json!({
            "name": self.name, "googleProject": self.google_project, "credentialsType": self.credentials_type,
            "status": self.status, "databases": self.databases,
        })
    }
}

impl ProjectRecord {
    fn take_findings(&mut self, findings: ProjectFindings, now: Timestamp) {
        let member = self.member();
        let project = &mut self.project;
        project.missing = findings.missing(&project.google_project, &member);
        project.status = status_of(&project.missing);
        project.permissions = Some(PermissionCheck { checked_at: now, checked_by: findings.checked_by() });
        project.databases = findings.databases;
        project.limits = limits_of(&project.google_project, &findings.facts);
        self.facts = findings.facts;
    }

    /// Whom roles are granted to.
    fn member(&self) -> String {
        let audience = match &self.credentials {
            StoredCredentials::Federation { audience, .. } => Some(audience.as_str()),
            _ => None,
        };
        permission::member(self.project.service_account.as_deref(), self.project.account.as_deref(), audience)
    }

    /// Goes on only if something new may use the project.
    pub(crate) fn check_usable(&self) -> Result<()> {
        if self.removing {
            return Err(ControlError::conflict(Code::Conflict, "the project is being removed"));
        }
        if self.project.status == ProjectStatus::Disconnected {
            return Err(ControlError::conflict(Code::ProjectDisconnected, "the project is disconnected"));
        }
        Ok(())
    }

    /// Goes on only if nothing that is switched off keeps a database from this.
    pub(crate) fn check_able(&self, database: &str, ability: Ability) -> Result<()> {
        let limit = self.project.limits.iter().find(|limit| limit.database == database && limit.rules_out(ability));
        limit.map_or(Ok(()), |limit| Err(limit.refusal(ability)))
    }

    /// The database that is meant: the one named, else `(default)`, else the only one.
    pub(crate) fn database(&self, named: Option<&str>) -> Result<String> {
        let known = &self.project.databases;
        match named {
            Some(named) if known.iter().any(|id| id == named) => Ok(named.to_owned()),
            Some(_) => Err(ControlError::field("database", "the project has no such database")),
            None if known.iter().any(|id| id == DEFAULT_DATABASE) => Ok(DEFAULT_DATABASE.to_owned()),
            None if known.len() == 1 => Ok(known[0].clone()),
            None => Err(ControlError::field("database", "the project has several databases: name one")),
        }
    }
}

impl Control {
    /// Connects a project: looks at it with the credentials, and keeps those sealed.
    ///
    /// # Errors
    /// [`Unprocessable`](crate::Kind::Unprocessable) where a field may not be so;
    /// [`Upstream`](crate::Kind::Upstream) where Google does not let us look.
    pub async fn connect_project(&self, caller: &Caller, new: NewProject) -> Result<Project> {
        caller.may(Right::Manage)?;
        let name = limit::name("name", &new.name)?;
        check_google_project(&new.google_project)?;
        let mut credentials = self.check_credentials(caller, new.credentials).await?;
        // before Google is asked, and again with what is stored
        self.room_for(caller.scope(), Kept::Projects).await?;
        let access = ProjectAccess { google_project: new.google_project, credentials: credentials.opened.clone() };
        let findings = self.look_at_project(&access, new.databases).await?;
        let now = self.now();
        let project = Project {
            id: ProjectId::new(now, self.ports().random.as_ref()),
            name,
            google_project: access.google_project,
            credentials_type: credentials.kind.to_owned(),
            service_account: credentials.service_account.clone(),
            account: credentials.account.clone(),
            status: ProjectStatus::Connected,
            missing: Vec::new(),
            permissions: None,
            databases: Vec::new(),
            limits: Vec::new(),
            created_at: now,
            updated_at: now,
        };
        let stored = self.stored_credentials(caller.scope(), project.id, &credentials).await?;
        let mut record = ProjectRecord { project, credentials: stored, facts: Vec::new(), removing: false };
        record.take_findings(findings, now);
        let item = new_item(caller.scope().project_key(&record.project.id), &record, None)?;
        let act = Act::new("project.created", record.project.id).with(record.project.told());
        let mut writes = vec![ItemWrite::Create(item)];
        writes.extend(credentials.spent.take());
        self.store_one_more(caller.author(), Kept::Projects, &act, &writes).await?;
        Ok(record.project)
    }

    /// The organization's projects, oldest first.
    ///
    /// # Errors
    /// When the page cannot be, or the store fails.
    pub async fn projects(&self, caller: &Caller, filter: &ProjectFilter, page: &Page) -> Result<Paged<Project>> {
        caller.may(Right::Read)?;
        let search = filter.search.as_ref().map(|search| search.to_lowercase());
        let pick = |record: ProjectRecord| {
            let project = record.project;
            let has_status = filter.status.is_none_or(|status| status == project.status);
            let is_found = search.as_ref().is_none_or(|search| {
                [&project.name, &project.google_project].iter().any(|text| text.to_lowercase().contains(search))
            });
            (has_status && is_found).then_some(project)
        };
        self.list(caller.scope().projects(), page, pick).await
    }

    /// A project.
    ///
    /// # Errors
    /// [`NotFound`](crate::Kind::NotFound).
    pub async fn project(&self, caller: &Caller, id: &ProjectId) -> Result<Project> {
        caller.may(Right::Read)?;
        Ok(self.project_record(caller.scope(), id).await?.value.project)
    }

    /// Changes a project. New credentials, other databases and `connected: true` have it looked at again.
    ///
    /// # Errors
    /// As [`Self::connect_project`], and [`NotFound`](crate::Kind::NotFound).
    pub async fn update_project(&self, caller: &Caller, id: &ProjectId, change: ProjectChange) -> Result<Project> {
        caller.may(Right::Manage)?;
        let name = change.name.map(|name| limit::name("name", &name)).transpose()?;
        let must_look = change.credentials.is_some() || change.databases.is_some() || change.connected == Some(true);
        for _ in 0..MAX_ATTEMPTS {
            let mut record = self.project_record(caller.scope(), id).await?;
            let before = record.value.clone();
            let disconnected = before.project.status == ProjectStatus::Disconnected;
            let mut writes = Vec::new();
            if let Some(new) = change.credentials.clone() {
                let credentials = self.check_credentials(caller, new).await?;
                self.take_credentials(caller.scope(), &mut record.value, &credentials).await?;
                writes.extend(credentials.spent);
            }
            if must_look {
                let organization = self.organization_record(caller.scope()).await?;
                let access = self.project_access(&organization, &record.value).await?;
                let wanted = change.databases.clone();
                let findings = self.look_at_project(&access, wanted).await?;
                record.value.take_findings(findings, self.now());
            }
            let project = &mut record.value.project;
            if change.connected == Some(false) || disconnected && change.connected.is_none() {
                project.status = ProjectStatus::Disconnected;
            }
            if let Some(name) = &name {
                project.name.clone_from(name);
            }
            project.updated_at = self.now();
            record.value.removing = false;
            let is_ended = change.connected == Some(false) && !disconnected;
            let action = if is_ended { DISCONNECTED } else { "project.updated" };
            let act = Act::new(action, id).with(record.value.project.told());
            writes.push(record.replace(None)?);
            if self.commit(caller.author(), act, writes).await? == Written::Yes {
                if change.credentials.is_some() {
                    self.give_consent_back(caller.scope(), &before).await;
                }
                return Ok(record.value.project);
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Removes a project and its credentials. Its backups stay where they are, and can be restored into another one.
    ///
    /// # Errors
    /// [`InUse`](Code::InUse) while schedules, recovery to a point in time, drills or unfinished jobs use it.
    pub async fn remove_project(&self, caller: &Caller, id: &ProjectId) -> Result<()> {
        caller.may(Right::Manage)?;
        for _ in 0..MAX_ATTEMPTS {
            // first nothing new may begin to use it, then nothing may be using it: whatever began before is seen
            let mut record = self.project_record(caller.scope(), id).await?;
            record.value.removing = true;
            if self.write_unrecorded(vec![record.replace(None)?]).await? == Written::Outrun {
                continue;
            }
            let mut record = self.project_record(caller.scope(), id).await?;
            let users = self.users_of_project(caller.scope(), id).await?;
            if !users.is_empty() {
                record.value.removing = false;
                match self.write_unrecorded(vec![record.replace(None)?]).await? {
                    Written::Yes => return Err(in_use("project", &users)),
                    Written::Outrun => continue,
                }
            }
            let act = Act::new("project.deleted", id).with(record.value.project.told());
            if self.commit(caller.author(), act, vec![record.delete()]).await? == Written::Yes {
                self.forget_collections(caller.scope(), id).await;
                self.forget_pitrs(caller.scope(), id).await;
                self.forget_drills(caller.scope(), id).await;
                self.give_consent_back(caller.scope(), &record.value).await;
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }

    /// Says of a project that the consent it stands on is gone, where it is the consent of then: `seen` is when the project that
    /// could not be opened was last changed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn consent_is_gone(&self, worker: &Worker, id: &ProjectId, seen: Timestamp) -> Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(mut record) = self.load::<ProjectRecord>(&worker.scope().project_key(id)).await? else {
                return Ok(());
            };
            let project = &mut record.value.project;
            let is_said = matches!(&project.missing[..], [missing] if missing.permission == CONSENT);
            let is_known = project.status == ProjectStatus::Disconnected || is_said;
            if project.updated_at != seen || is_known {
                return Ok(());
            }
            project.status = ProjectStatus::Error;
            project.missing = vec![consent_missing()];
            project.updated_at = self.now();
            let act = Act::new(DISCONNECTED, id).with(project.told());
            if self.commit(&worker.author(), act, vec![record.replace(None)?]).await? == Written::Yes {
                return Ok(());
            }
        }
        Err(ControlError::concurrent_change())
    }

    pub(crate) async fn project_record(
        &self,
        scope: &OrganizationScope,
        id: &ProjectId,
    ) -> Result<Stored<ProjectRecord>> {
        self.found(&scope.project_key(id), "project").await
    }

    /// Looks at a project, and takes of its databases those that are wanted.
    async fn look_at_project(&self, access: &ProjectAccess, wanted: Option<Vec<String>>) -> Result<ProjectFindings> {
        if let Some(wanted) = &wanted {
            limit::list("databases", wanted)?;
            if wanted.is_empty() {
                return Err(ControlError::field("databases", "expected at least one, or nothing for all"));
            }
        }
        let mut findings = self.ports().probes.project(access).await?;
        if let Some(mut wanted) = wanted {
            if let Some(unknown) = wanted.iter().find(|id| !findings.databases.contains(id)) {
                return Err(ControlError::field("databases", format!("the project has no database `{unknown}`")));
            }
            wanted.sort();
            wanted.dedup();
            findings.facts.retain(|facts| wanted.contains(&facts.id));
            findings.databases = wanted;
        }
        if findings.databases.is_empty() {
            return Err(ControlError::field("googleProject", "the project has no Firestore database"));
        }
        Ok(findings)
    }

    /// The schedules, recoveries to a point in time, drills and unfinished jobs that use a project, as ids.
    async fn users_of_project(&self, scope: &OrganizationScope, id: &ProjectId) -> Result<Vec<String>> {
        let schedules = self.all::<Schedule>(scope.schedules()).await?.into_iter().map(|schedule| schedule.value);
        let schedules = schedules.filter(|schedule| schedule.project_id == *id).map(|schedule| schedule.id.to_string());
        let jobs = self.active_jobs(scope).await?.into_iter();
        let jobs = jobs.filter(|job| job.project == *id).map(|job| job.job.to_string());
        let pitrs = self.pitrs_on(scope, |pitr| pitr.project_id == *id).await?;
        let drills = self.drills_using(scope, Some(id)).await?;
        Ok(schedules.chain(pitrs).chain(drills).chain(jobs).collect())
    }
}

/// It cannot be removed, and why.
pub(crate) fn in_use(what: &str, users: &[String]) -> ControlError {
    let some: Vec<_> = users.iter().take(20).collect();
    ControlError::conflict(Code::InUse, format!("the {what} is in use")).with_details(json!({ "usedBy": some }))
}

const CONSENT: &str = "consent";

/// What is missing where a consent was taken back.
fn consent_missing() -> MissingPermission {
    let remedy =
        "connect the project again: ask for the consent at `GET /projects/oauth`, and give it to `PUT /projects/{id}`";
    let needed_for = vec![Purpose::Backup, Purpose::Restore, Purpose::AuthBackup, Purpose::AuthRestore];
    MissingPermission { permission: CONSENT.to_owned(), needed_for, remedy: remedy.to_owned() }
}

/// 6 to 30 lower-case letters, digits and hyphens; a domain before it with a colon is Google's old way.
pub(crate) fn check_google_project(id: &str) -> Result<()> {
    let is_id = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:".contains(&byte);
    match (1..=100).contains(&id.len()) && id.bytes().all(is_id) {
        true => Ok(()),
        false => Err(ControlError::field("googleProject", "expected a Google Cloud project id, such as `my-app-1234`")),
    }
}
