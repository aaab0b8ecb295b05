//! The keys of all items, here and nowhere else.
//!
//! | partition | sort | holds |
//! |---|---|---|
//! | `ORG#<org>` | `ORGANIZATION` | the organization and its wrapped data key |
//! | `ORG#<org>` | `KEY#<key>` | an API key, its secret as a hash |
//! | `ORG#<org>` | `PROJECT#<proj>` | a project, its credentials sealed |
//! | `ORG#<org>` | `STORAGE#<storage>` | a destination, its options sealed |
//! | `ORG#<org>` | `SCHEDULE#<sched>` | a schedule |
//! | `ORG#<org>` | `SCHEDRUN#<sched>#<time>` | the job that was made of a due time; for 7 days |
//! | `ORG#<org>` | `SCHEDMISSED#<sched>#<time>` | that a due time was missed and its backup cannot be made; for 7 days |
//! | `ORG#<org>` | `JOB#<job>` | a job; backups in the index under `ORG#<org>#PROJECT#<proj>`, `JOB#<job>` |
//! | `ORG#<org>` | `ACTIVE#<job>` | what a job uses that has not ended, and why a step of it failed |
//! | `ORG#<org>` | `RUNNING` | the jobs that have a place to run |
//! | `ORG#<org>` | `DELETING#<job>` | a backup that is to be deleted |
//! | `ORG#<org>` | `IDEMPOTENCY#<hash>` | what a request has made; for 24 hours |
//! | `ORG#<org>#JOB#<job>` | `PROGRESS` | counters; a partition of their own, as they are written often |
//!
//! Three kinds belong to no organization, because they lead to one: `KEY#<key>`/`ORGANIZATION` (whose an API key is),
//! `ORGANIZATIONS`/`ORG#<org>` (all of them, for sweeps) and `INSTALLATION`/`OWNER` (that the first was made).

use firebackup_model::Timestamp;
use firebackup_model::id::JobId;
use firebackup_model::port::{ItemKey, ItemQuery};

use crate::id::{ApiKeyId, DestinationId, OrganizationId, ProjectId, ScheduleId};
use crate::tenant::OrganizationScope;

const KEY: &str = "KEY#";
const PROJECT: &str = "PROJECT#";
const DESTINATION: &str = "STORAGE#";
const SCHEDULE: &str = "SCHEDULE#";
const SCHEDULE_RUN: &str = "SCHEDRUN#";
const SCHEDULE_MISSED: &str = "SCHEDMISSED#";
const JOB: &str = "JOB#";
const ACTIVE: &str = "ACTIVE#";
const DELETING: &str = "DELETING#";
const IDEMPOTENCY: &str = "IDEMPOTENCY#";
const ORGANIZATIONS: &str = "ORGANIZATIONS";

/// That the first organization was made.
pub(crate) fn first_owner() -> ItemKey {
    ItemKey::new("INSTALLATION", "OWNER")
}

/// Whose an API key is.
pub(crate) fn key_owner(id: &ApiKeyId) -> ItemKey {
    ItemKey::new(format!("{KEY}{id}"), "ORGANIZATION")
}

/// An organization in the list of all.
pub(crate) fn listed_organization(id: &OrganizationId) -> ItemKey {
    ItemKey::new(ORGANIZATIONS, format!("ORG#{id}"))
}

/// All organizations.
pub(crate) fn all_organizations() -> ItemQuery {
    ItemQuery::prefix(ORGANIZATIONS, "ORG#")
}

/// Keys of one organization.
impl OrganizationScope {
    fn partition(&self) -> String {
        format!("ORG#{}", self.organization())
    }

    fn key(&self, sort: impl Into<String>) -> ItemKey {
        ItemKey::new(self.partition(), sort)
    }

    fn list(&self, prefix: &str) -> ItemQuery {
        ItemQuery::prefix(self.partition(), prefix)
    }

    fn newest_first(&self, prefix: &str) -> ItemQuery {
        ItemQuery { descending: true, ..self.list(prefix) }
    }

    pub(crate) fn organization_key(&self) -> ItemKey {
        self.key("ORGANIZATION")
    }

    pub(crate) fn api_key_key(&self, id: &ApiKeyId) -> ItemKey {
        self.key(format!("{KEY}{id}"))
    }

    pub(crate) fn api_keys(&self) -> ItemQuery {
        self.list(KEY)
    }

    pub(crate) fn project_key(&self, id: &ProjectId) -> ItemKey {
        self.key(format!("{PROJECT}{id}"))
    }

    pub(crate) fn projects(&self) -> ItemQuery {
        self.list(PROJECT)
    }

    pub(crate) fn destination_key(&self, id: &DestinationId) -> ItemKey {
        self.key(format!("{DESTINATION}{id}"))
    }

    pub(crate) fn destinations(&self) -> ItemQuery {
        self.list(DESTINATION)
    }

    pub(crate) fn schedule_key(&self, id: &ScheduleId) -> ItemKey {
        self.key(format!("{SCHEDULE}{id}"))
    }

    pub(crate) fn schedules(&self) -> ItemQuery {
        self.list(SCHEDULE)
    }

    pub(crate) fn schedule_run_key(&self, id: &ScheduleId, scheduled: Timestamp) -> ItemKey {
        self.key(format!("{SCHEDULE_RUN}{id}#{scheduled}"))
    }

    pub(crate) fn schedule_given_up_key(&self, id: &ScheduleId, scheduled: Timestamp) -> ItemKey {
        self.key(format!("{SCHEDULE_MISSED}{id}#{scheduled}"))
    }

    pub(crate) fn job_key(&self, id: &JobId) -> ItemKey {
        self.key(format!("{JOB}{id}"))
    }

    /// All backups, newest first.
    pub(crate) fn backups(&self) -> ItemQuery {
        self.newest_first(&format!("{JOB}bkp_"))
    }

    /// All restores, newest first.
    pub(crate) fn restores(&self) -> ItemQuery {
        self.newest_first(&format!("{JOB}restore_"))
    }

    fn project_partition(&self, project: &ProjectId) -> String {
        format!("{}#{PROJECT}{project}", self.partition())
    }

    /// A backup's place in the index.
    pub(crate) fn backup_of_project(&self, project: &ProjectId, id: &JobId) -> ItemKey {
        ItemKey::new(self.project_partition(project), format!("{JOB}{id}"))
    }

    /// The backups of a project, newest first.
    pub(crate) fn backups_of_project(&self, project: &ProjectId) -> ItemQuery {
        let query = ItemQuery::prefix(self.project_partition(project), format!("{JOB}bkp_"));
        ItemQuery { by_index: true, descending: true, ..query }
    }

    pub(crate) fn active_key(&self, id: &JobId) -> ItemKey {
        self.key(format!("{ACTIVE}{id}"))
    }

    pub(crate) fn active_jobs(&self) -> ItemQuery {
        self.list(ACTIVE)
    }

    pub(crate) fn running_key(&self) -> ItemKey {
        self.key("RUNNING")
    }

    pub(crate) fn deleting_key(&self, id: &JobId) -> ItemKey {
        self.key(format!("{DELETING}{id}"))
    }

    pub(crate) fn deleting_backups(&self) -> ItemQuery {
        self.list(DELETING)
    }

    pub(crate) fn idempotency_key(&self, hash: &str) -> ItemKey {
        self.key(format!("{IDEMPOTENCY}{hash}"))
    }

    pub(crate) fn progress_key(&self, id: &JobId) -> ItemKey {
        ItemKey::new(format!("{}#{JOB}{id}", self.partition()), "PROGRESS")
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;
    use crate::tenant::scope_for_tests;

    const ULID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    /// Items that are stored must be found for ever: a key that changes here needs a migration.
    #[test]
    fn keys_stay() {
        let ulid = Ulid::from_string(ULID).unwrap();
        let scope = scope_for_tests(ulid.into());
        let job: JobId = format!("bkp_{ULID}").parse().unwrap();
        let (key, project) = (ApiKeyId::from(ulid), ProjectId::from(ulid));
        let (destination, schedule) = (DestinationId::from(ulid), ScheduleId::from(ulid));
        let time = "2026-01-31T14:03:00Z".parse().unwrap();
        let found = [
            first_owner(),
            key_owner(&key),
            listed_organization(&ulid.into()),
            scope.organization_key(),
            scope.api_key_key(&key),
            scope.project_key(&project),
            scope.destination_key(&destination),
            scope.schedule_key(&schedule),
            scope.schedule_run_key(&schedule, time),
            scope.schedule_given_up_key(&schedule, time),
            scope.job_key(&job),
            scope.backup_of_project(&project, &job),
            scope.active_key(&job),
            scope.running_key(),
            scope.deleting_key(&job),
            scope.idempotency_key("00ff"),
            scope.progress_key(&job),
        ];
        let found: Vec<String> = found.into_iter().map(|key| format!("{} {}", key.partition, key.sort)).collect();
        let expected = [
            "INSTALLATION OWNER",
            "KEY#key_U ORGANIZATION",
            "ORGANIZATIONS ORG#org_U",
            "ORG#org_U ORGANIZATION",
            "ORG#org_U KEY#key_U",
            "ORG#org_U PROJECT#proj_U",
            "ORG#org_U STORAGE#storage_U",
            "ORG#org_U SCHEDULE#sched_U",
            "ORG#org_U SCHEDRUN#sched_U#2026-01-31T14:03:00Z",
            "ORG#org_U SCHEDMISSED#sched_U#2026-01-31T14:03:00Z",
            "ORG#org_U JOB#bkp_U",
            "ORG#org_U#PROJECT#proj_U JOB#bkp_U",
            "ORG#org_U ACTIVE#bkp_U",
            "ORG#org_U RUNNING",
            "ORG#org_U DELETING#bkp_U",
            "ORG#org_U IDEMPOTENCY#00ff",
            "ORG#org_U#JOB#bkp_U PROGRESS",
        ];
        assert_eq!(found, expected.map(|line| line.replace("_U", &format!("_{ULID}"))));
    }

    #[test]
    fn queries_find_what_keys_name() {
        let ulid = Ulid::from_string(ULID).unwrap();
        let scope = scope_for_tests(ulid.into());
        let job: JobId = format!("bkp_{ULID}").parse().unwrap();
        let restore: JobId = format!("restore_{ULID}").parse().unwrap();
        for (query, key) in [
            (all_organizations(), listed_organization(&ulid.into())),
            (scope.api_keys(), scope.api_key_key(&ulid.into())),
            (scope.projects(), scope.project_key(&ulid.into())),
            (scope.destinations(), scope.destination_key(&ulid.into())),
            (scope.schedules(), scope.schedule_key(&ulid.into())),
            (scope.backups(), scope.job_key(&job)),
            (scope.restores(), scope.job_key(&restore)),
            (scope.backups_of_project(&ulid.into()), scope.backup_of_project(&ulid.into(), &job)),
            (scope.active_jobs(), scope.active_key(&job)),
            (scope.deleting_backups(), scope.deleting_key(&job)),
        ] {
            assert_eq!(query.partition, key.partition);
            let firebackup_model::port::SortRange::Prefix(prefix) = &query.range else { panic!("{query:?}") };
            assert!(key.sort.starts_with(prefix.as_str()), "{query:?} {key:?}");
        }
    }
}
