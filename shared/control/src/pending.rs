#![allow(missing_docs, clippy::unused_async)]
use firebackup_model::Timestamp;
use firebackup_model::id::JobId;
use crate::*;

fn pending<T>() -> Result<T> { Err(ControlError::internal("being written")) }

impl Control {
    pub async fn first_owner(&self, _name: &str) -> Result<Option<FirstOwner>> { pending() }
    pub async fn authenticate(&self, _bearer: &str, _organization: Option<&OrganizationId>) -> Result<Caller> { pending() }
    pub async fn organization(&self, _caller: &Caller) -> Result<Organization> { pending() }
    pub async fn update_organization(&self, _caller: &Caller, _change: OrganizationChange) -> Result<Organization> { pending() }
    pub async fn create_api_key(&self, _caller: &Caller, _new: NewApiKey) -> Result<(ApiKey, zeroize::Zeroizing<String>)> { pending() }
    pub async fn api_keys(&self, _caller: &Caller, _page: &Page) -> Result<Paged<ApiKey>> { pending() }
    pub async fn revoke_api_key(&self, _caller: &Caller, _id: &ApiKeyId) -> Result<ApiKey> { pending() }
    pub async fn connect_project(&self, _caller: &Caller, _new: NewProject) -> Result<Project> { pending() }
    pub async fn projects(&self, _caller: &Caller, _filter: &ProjectFilter, _page: &Page) -> Result<Paged<Project>> { pending() }
    pub async fn project(&self, _caller: &Caller, _id: &ProjectId) -> Result<Project> { pending() }
    pub async fn update_project(&self, _caller: &Caller, _id: &ProjectId, _change: ProjectChange) -> Result<Project> { pending() }
    pub async fn remove_project(&self, _caller: &Caller, _id: &ProjectId) -> Result<()> { pending() }
    pub async fn add_destination(&self, _caller: &Caller, _new: NewDestination) -> Result<Destination> { pending() }
    pub async fn destinations(&self, _caller: &Caller, _page: &Page) -> Result<Paged<Destination>> { pending() }
    pub async fn destination(&self, _caller: &Caller, _id: &DestinationId) -> Result<Destination> { pending() }
    pub async fn update_destination(&self, _caller: &Caller, _id: &DestinationId, _change: DestinationChange) -> Result<Destination> { pending() }
    pub async fn remove_destination(&self, _caller: &Caller, _id: &DestinationId) -> Result<()> { pending() }
    pub async fn verify_destination(&self, _caller: &Caller, _id: &DestinationId) -> Result<DestinationFindings> { pending() }
    pub async fn create_backup(&self, _caller: &Caller, _new: NewBackup, _idempotency: Option<&str>) -> Result<BackupJob> { pending() }
    pub async fn backups(&self, _caller: &Caller, _project: Option<&ProjectId>, _page: &Page) -> Result<Paged<BackupJob>> { pending() }
    pub async fn backup(&self, _caller: &Caller, _project: &ProjectId, _id: &JobId) -> Result<BackupJob> { pending() }
    /// What opens the repository of a completed backup, to read in it (verify, preview).
    pub async fn open_backup(&self, _caller: &Caller, _project: &ProjectId, _id: &JobId) -> Result<Work> { pending() }
    pub async fn delete_backup(&self, _caller: &Caller, _project: &ProjectId, _id: &JobId) -> Result<BackupJob> { pending() }
    pub async fn cancel_backup(&self, _caller: &Caller, _project: &ProjectId, _id: &JobId) -> Result<BackupJob> { pending() }
    pub async fn create_restore(&self, _caller: &Caller, _new: NewRestore, _idempotency: Option<&str>) -> Result<RestoreJob> { pending() }
    pub async fn restores(&self, _caller: &Caller, _page: &Page) -> Result<Paged<RestoreJob>> { pending() }
    pub async fn restore(&self, _caller: &Caller, _id: &JobId) -> Result<RestoreJob> { pending() }
    pub async fn cancel_restore(&self, _caller: &Caller, _id: &JobId) -> Result<RestoreJob> { pending() }
    pub async fn create_schedule(&self, _caller: &Caller, _new: NewSchedule) -> Result<Schedule> { pending() }
    pub async fn schedules(&self, _caller: &Caller, _project: Option<&ProjectId>, _page: &Page) -> Result<Paged<Schedule>> { pending() }
    pub async fn schedule(&self, _caller: &Caller, _id: &ScheduleId) -> Result<Schedule> { pending() }
    pub async fn update_schedule(&self, _caller: &Caller, _id: &ScheduleId, _change: ScheduleChange) -> Result<Schedule> { pending() }
    /// Enables it if it is disabled, and the other way round.
    pub async fn toggle_schedule(&self, _caller: &Caller, _id: &ScheduleId) -> Result<Schedule> { pending() }
    pub async fn remove_schedule(&self, _caller: &Caller, _id: &ScheduleId) -> Result<()> { pending() }
    pub async fn trigger_schedule(&self, _caller: &Caller, _id: &ScheduleId, _idempotency: Option<&str>) -> Result<BackupJob> { pending() }

    pub async fn schedule_due(&self, _worker: &Worker, _schedule: &ScheduleId, _scheduled: Timestamp) -> Result<Option<JobId>> { pending() }
    pub async fn start_job(&self, _worker: &Worker, _job: &JobId) -> Result<StartOutcome> { pending() }
    pub async fn work(&self, _worker: &Worker, _job: &JobId) -> Result<Work> { pending() }
    /// As `work`, for finalize: also of a job that was asked to end, or has ended.
    pub async fn work_to_end(&self, _worker: &Worker, _job: &JobId) -> Result<Work> { pending() }
    pub async fn is_cancelled(&self, _worker: &Worker, _job: &JobId) -> Result<bool> { pending() }
    /// How many chunks the plan has; saying it twice is saying it once.
    pub async fn note_chunks(&self, _worker: &Worker, _job: &JobId, _chunks: u64) -> Result<()> { pending() }
    pub async fn note_progress(&self, _worker: &Worker, _job: &JobId, _amounts: &[(&str, i64)]) -> Result<()> { pending() }
    /// The status that the job has for ever now.
    pub async fn finish_job(&self, _worker: &Worker, _job: &JobId, _end: JobEnd) -> Result<JobStatus> { pending() }
    pub async fn organizations_page(&self, _cursor: Option<&str>) -> Result<(Vec<OrganizationId>, Option<String>)> { pending() }
    /// All jobs that have not ended, those that wait included.
    pub async fn running_jobs(&self, _worker: &Worker) -> Result<Vec<Job>> { pending() }
    pub async fn look_after(&self, _worker: &Worker, _job: &JobId) -> Result<Care> { pending() }
    /// Backups to be deleted that no unfinished restore reads.
    pub async fn deleted_backups(&self, _worker: &Worker) -> Result<Vec<JobId>> { pending() }
    /// Its manifest is gone: so is its record now.
    pub async fn backup_gone(&self, _worker: &Worker, _job: &JobId) -> Result<()> { pending() }
    pub async fn kept_by_schedule(&self, _worker: &Worker, _schedule: &ScheduleId, _now: Timestamp) -> Result<RetentionOutcome> { pending() }
    /// Marks a completed backup `deleting`.
    pub async fn drop_backup(&self, _worker: &Worker, _job: &JobId) -> Result<()> { pending() }
    pub async fn schedules_of(&self, _worker: &Worker) -> Result<Vec<Schedule>> { pending() }
    pub async fn repair_schedules(&self, _worker: &Worker) -> Result<u32> { pending() }
    pub async fn rewrap_secrets(&self, _worker: &Worker) -> Result<()> { pending() }
}
