//! The verbs of the control plane: organizations, API keys, projects, destinations, jobs and schedules.
//!
//! Everything here is decided over ports: no HTTP, no SDK, no SQL, no clock and no randomness of its own. Three things
//! hold everywhere:
//!
//! - **Tenants are a type.** A verb takes a [`Caller`] (who calls, in which organization, with which role) or a
//!   [`Worker`] (a step of our own, in which organization). Keys of items are made of nothing else, so a verb cannot
//!   reach into another organization: a foreign id is an id that is not there.
//! - **Every change is conditional.** Records have versions; a change is a transaction that holds only if nobody else
//!   has changed what it was decided on, and is decided anew where somebody has.
//! - **Everything may happen twice.** Messages come twice, requests are repeated, and every verb can be killed at any
//!   instruction: what it had begun is gone on with when it is called again.

mod access;
mod actor;
mod api_key;
mod archive;
mod audit;
mod audit_list;
mod audit_part;
mod audit_seal;
mod backup;
mod catalog;
mod cleanup;
mod collection;
mod consent;
mod control;
mod credentials;
mod database;
mod delete_organization;
mod delivery;
mod delivery_attempt;
mod destination;
mod destination_check;
mod destination_use;
mod drill;
mod drill_run;
mod error;
mod event_fold;
mod event_intake;
mod event_items;
mod event_push;
mod federation;
mod gfs;
mod id;
mod idempotency;
mod invite;
mod item_keys;
mod job;
mod job_events;
mod job_records;
mod job_run;
mod limit;
mod live;
mod live_progress;
mod look_after;
mod member;
mod merge;
mod migration;
mod migration_run;
mod migration_switch;
mod month;
mod moving;
mod new_bucket;
mod organization;
mod page;
mod permission;
mod pitr;
mod pitr_record;
mod pitr_status;
mod pitr_watch;
mod pitr_window;
mod place;
mod probes;
mod project;
mod quota;
mod reach;
mod record;
mod restore;
mod retention;
mod role;
mod room;
mod schedule;
mod schedule_due;
mod schedule_missed;
mod schedule_overview;
mod schedule_preset;
mod secrets;
mod server_side_encryption;
mod service_account;
mod session;
mod sign_in;
mod signature;
mod slack;
mod stranger;
mod tenant;
mod token;
mod untold;
mod user;
mod verified;
mod webhook;
mod webhook_event;
mod work;

pub use access::{Credentials, DestinationAccess, ProjectAccess};
pub use actor::{Actor, Origin};
pub use api_key::{ApiKey, NewApiKey};
pub use archive::{Archive, ArchivePlace};
pub use audit::{AuditEntry, AuditFilter, MAX_EXPORTED, Outcome, Refused};
pub use audit_seal::SealedAudit;
pub use backup::{BackupConfig, BackupType, NewBackup};
pub use catalog::{CatalogSync, PlaceToSync};
pub use cleanup::{BegunCleanup, CleanupOutcome, PlaceToClean};
pub use collection::{Collection, CollectionFacts, CollectionSync};
pub use consent::BegunConsent;
pub use control::{Control, ControlSettings, Ports};
pub use credentials::NewCredentials;
pub use database::{Ability, DatabaseEdition, DatabaseFacts, DatabaseLimit, DatabaseType, ProjectDatabase};
pub use delete_organization::{DeletedOrganization, OrganizationDeletion};
pub use delivery::{Delivery, DeliveryMessage, DeliveryStatus};
pub use delivery_attempt::AttemptOutcome;
pub use destination::{Destination, DestinationChange, DestinationTrouble, NewDestination, NewPlace};
pub use destination_use::{
    BulkDeletion, BulkOutcome, BulkOutcomes, DestinationLinks, DestinationStats, LinkedProject, LinkedSchedule,
    StorageStats,
};
pub use drill::{BackupDrill, DrillOutcome, DrillRun, DrillScratch, Drills, NewDrills};
pub use drill_run::{ClaimedDrill, DrillEnd, DrillWork, DueDrill, HeldDrill, ScratchWork};
pub use error::{Code, ControlError, Kind, Result};
pub use event_fold::{FoldMessage, FoldWork, WaitingEvents};
pub use event_intake::{EventOutcome, EventTaken, PushStatistics};
pub use event_items::ItemEventBuffer;
pub use event_push::PushConfig;
pub use federation::provider_name;
pub use gfs::Gfs;
pub use id::{
    ApiKeyId, AuditId, DeliveryId, DestinationId, IdError, InviteId, OrganizationId, PitrId, ProjectId, ScheduleId,
    SessionId, UserId, WebhookId,
};
pub use invite::{Invite, NewInvite};
pub use job::{
    BackupJob, Job, JobEnd, JobError, JobErrorCode, JobFacts, JobMessage, JobResult, JobStatus, Progress, QueuedJobs,
    Rename, RestoreJob, RestoreModeName, RestoredMoment, RestoredReport, StartOutcome,
};
pub use live::{LiveStanding, MAX_LIVE_REQUEST, SUBSCRIPTION_SECONDS};
pub use look_after::Care;
pub use member::{Member, MemberChange};
pub use merge::CapturedChain;
pub use migration::{
    Migration, MigrationError, MigrationObstacle, MigrationPlan, MigrationStatus, MigrationUses, NewMigration,
};
pub use migration_run::{BegunMigration, MigrationPlaces, MigrationPosition, PlaceToMove};
pub use new_bucket::{BucketMade, BucketToMake, NewBucket};
pub use organization::{NewOrganization, Organization, OrganizationChange};
pub use page::{MAX_PAGE_LIMIT, MAX_SKIPPED, Page, Paged};
pub use permission::{
    CheckedBy, DELETE_DOCUMENTS, MissingPermission, PermissionCheck, Purpose, READ_DOCUMENTS, asked_permissions,
};
pub use pitr::{LONGEST_RETENTION_DAYS, NewPitr, PitrChange, PitrConfig};
pub use pitr_record::{CaptureFacts, CapturedGap, Pitr, PitrStatus};
pub use pitr_status::{PitrHealth, PitrStatistics};
pub use pitr_watch::CapturesSeen;
pub use pitr_window::{CapturedWindow, ClaimedWindow, DueCapture, DueWindow, Merges, Merging, WindowEnd, WindowWork};
pub use probes::{CollectionFindings, DestinationFindings, Probes, ProjectFindings};
pub use project::{NewProject, Project, ProjectChange, ProjectFilter, ProjectStatus};
pub use quota::{Quota, Quotas};
pub use restore::{AskedMoment, FindMoment, FoundMoment, NewRestore};
pub use retention::{Retention, RetentionOutcome, RetentionType};
pub use role::{Right, Role};
pub use schedule::{NewSchedule, Schedule, ScheduleChange, ScheduleFilter, ScheduleMessage};
pub use schedule_overview::{NextRun, ScheduleOutcome, ScheduleOverview};
pub use schedule_preset::{NewSchedulePreview, SchedulePreset, SchedulePreview};
pub use secrets::SecretText;
pub use server_side_encryption::ServerSideEncryption;
pub use session::{ACCESS_SECONDS, Tokens};
pub use sign_in::{BegunSignIn, SIGN_IN_SECONDS, SignUp};
pub use signature::Signed;
pub use tenant::{Caller, EventProof, EventSender, FirstOwner, Me, Person, Worker};
pub use user::User;
pub use verified::Verified;
pub use webhook::{NewWebhook, Webhook, WebhookChange, WebhookType};
pub use webhook_event::EventName;
pub use work::{OpenedPlace, Work};
