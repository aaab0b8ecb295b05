//! The keys of all items, here and nowhere else.
//!
//! | partition | sort | holds |
//! |---|---|---|
//! | `ORG#<org>` | `ORGANIZATION` | the organization and its wrapped data key |
//! | `ORG#<org>` | `KEY#<key>` | an API key, its secret as a hash |
//! | `ORG#<org>` | `PROJECT#<proj>` | a project, its credentials sealed |
//! | `ORG#<org>` | `COLLECTIONS#<proj>#<database>` | the collections of a database, as they were seen last |
//! | `ORG#<org>` | `CONSENT#<hash>` | what a browser came back with that was asked for a consent, sealed; for 10 minutes |
//! | `ORG#<org>` | `STORAGE#<storage>` | a destination, its options sealed |
//! | `ORG#<org>` | `SCHEDULE#<sched>` | a schedule |
//! | `ORG#<org>` | `SCHEDRUN#<sched>#<time>` | the job that was made of a due time; for 7 days |
//! | `ORG#<org>` | `SCHEDMISSED#<sched>#<time>` | that a due time was missed and its backup cannot be made; for 7 days |
//! | `ORG#<org>` | `PITR#<proj>#<database>` | how changes of a database are captured, and how that goes; one that is to be gone on with in the index under `PITR`, `<time>#<org>#<proj>#<database>` |
//! | `ORG#<org>` | `MERGE#<proj>#<database>#<day>` | the job that merges what was captured of a database, of one day; for 2 days |
//! | `ORG#<org>` | `DRILLS#<proj>` | the drills of a project, and how the last one went; while one is to be run, or is, in the index under `DRILLS`, `<time>#<org>#<proj>` |
//! | `ORG#<org>` | `JOB#<job>` | a job; backups in the index under `ORG#<org>#PROJECT#<proj>`, `JOB#<job>` |
//! | `ORG#<org>` | `ACTIVE#<job>` | what a job uses that has not ended, and why a step of it failed |
//! | `ORG#<org>` | `RUNNING` | the jobs that have a place to run |
//! | `ORG#<org>` | `DELETING#<job>` | a backup that is to be deleted |
//! | `ORG#<org>` | `CLEANUP#<storage>` | that what nothing refers to is to be deleted in a destination |
//! | `ORG#<org>` | `MIGRATION#<storage>` | how far everything in a destination was moved to another |
//! | `ORG#<org>` | `IDEMPOTENCY#<hash>` | what a request has made; for 24 hours |
//! | `ORG#<org>` | `MEMBER#<user>` | a member and their role |
//! | `ORG#<org>` | `INVITE#<inv>` | an open invite, its token as a hash; for 7 days |
//! | `ORG#<org>` | `WEBHOOK#<webhook>` | a webhook, its address and secret sealed |
//! | `ORG#<org>` | `ROOM#<what>` | that one more was made of what there may be only so many of |
//! | `ORG#<org>` | `TOLD` | up to which entry of the audit log webhooks were told |
//! | `ORG#<org>#WEBHOOK#<webhook>` | `<dlv>` | a delivery, for 30 days; one that waits in the index under `ORG#<org>#WAITING`, `<time>#<dlv>` |
//! | `ORG#<org>#AUDIT#<month>` | `<evt>` | an entry of the audit log; never changed |
//! | `ORG#<org>#SEALED#<month>` | `<part>` | where a part of a month of the audit log lies that has left the table |
//! | `ORG#<org>#REFUSED` | `<evt>` | how often a refused attempt came; for 400 days |
//! | `ORG#<org>#JOB#<job>` | `PROGRESS` | counters; a partition of their own, as they are written often |
//!
//! Some belong to no organization, because they lead to one, or because their owner is a person or the installation:
//!
//! | partition | sort | holds |
//! |---|---|---|
//! | `KEY#<key>` | `ORGANIZATION` | whose an API key is |
//! | `INVITE#<inv>` | `ORGANIZATION` | whose an invite is; for 7 days |
//! | `PUSH#<proj>` | `ORGANIZATION` | whose a project is that events are posted of |
//! | `INVITED#<hash of the address>` | `<inv>` | that an address is invited; for 7 days |
//! | `ORGANIZATIONS` | `ORG#<org>` | all of them, for sweeps |
//! | `INSTALLATION` | `OWNER` | that the first was made |
//! | `USER#<user>` | `USER` | a user |
//! | `USER#<user>` | `ORG#<org>` | that they are a member |
//! | `USER#<user>` | `ROOM#organizations` | that they made one more |
//! | `SUBJECT#<hash of issuer and subject>` | `USER` | whom an issuer's subject is here |
//! | `SIGNIN#<hash of the state>` | `SIGNIN` | that a sign-in, or a question for a consent, was used; for 11 minutes |
//! | `CODE#<hash>` | `CODE` | the code at its end; for 2 minutes, the local owner's for 15 |
//! | `SESSION#<ses>` | `SESSION` | a session, its access tokens as hashes; for 90 days |
//! | `REFRESH#<hash>` | `SESSION` | a refresh token, used or not; for 30 days |
//! | `LIVE#<connection>` | `LIVE` | what a live client is told of; for 15 minutes, in the index under `ORG#<org>#LIVE`, `<connection>` |
//! | `STRANGERS#<month>` | `<evt>` | somebody unknown who was refused; for 90 days |
//! | `STRANGERS` | `<evt>` | how often in that minute; for 90 days |
//! | `EVENTS#<buffer>` | `EVENT#<place>` | an event that was posted and waits; places are given in the order of arrival |
//! | `EVENTS#<buffer>` | `PART#<place>#<n>` | a part of it, where it is larger than an item |
//! | `EVENTS#<buffer>` | `BATCH` | those that are given until they are settled |
//! | `EVENTS#<buffer>` | `SETTLED` | how many were |
//! | `EVENTS#<buffer>` | `COUNTS` | counters: places that were given, what repeated, what was refused |
//! | `EVENTS#<buffer>` | `MARK` | that something waits; in the index under `EVENTS`, `<time>#<buffer>` |
//! | `EVENTNAMES#<buffer>` | `<event>` | that an event of this name waits; for an hour more once it was settled |
//!
//! A buffer is named by `<org>/<proj>/<database>`, by whoever has proven that events of it may be posted or folded.

use firebackup_model::Timestamp;
use firebackup_model::id::JobId;
use firebackup_model::port::{ItemKey, ItemQuery, MAX_PAGE_ITEMS, SortRange};

use crate::id::{
    ApiKeyId, AuditId, DeliveryId, DestinationId, InviteId, OrganizationId, ProjectId, ScheduleId, SessionId, UserId,
    WebhookId,
};
use crate::month::Month;
use crate::tenant::OrganizationScope;

const KEY: &str = "KEY#";
const PROJECT: &str = "PROJECT#";
const COLLECTIONS: &str = "COLLECTIONS#";
const CONSENT: &str = "CONSENT#";
const DESTINATION: &str = "STORAGE#";
const SCHEDULE: &str = "SCHEDULE#";
const SCHEDULE_RUN: &str = "SCHEDRUN#";
const SCHEDULE_MISSED: &str = "SCHEDMISSED#";
const PITR: &str = "PITR#";
const MERGE: &str = "MERGE#";
const JOB: &str = "JOB#";
const ACTIVE: &str = "ACTIVE#";
const DELETING: &str = "DELETING#";
const CLEANUP: &str = "CLEANUP#";
const MIGRATION: &str = "MIGRATION#";
const IDEMPOTENCY: &str = "IDEMPOTENCY#";
const MEMBER: &str = "MEMBER#";
const INVITE: &str = "INVITE#";
const WEBHOOK: &str = "WEBHOOK#";
const ROOM: &str = "ROOM#";
const ORG: &str = "ORG#";
const ORGANIZATIONS: &str = "ORGANIZATIONS";
const PITRS: &str = "PITR";
const EVENTS: &str = "EVENTS";
const EVENT_NAMES: &str = "EVENTNAMES";
const BUFFERED: &str = "EVENT#";
const DRILL: &str = "DRILLS#";
const DRILLS: &str = "DRILLS";

/// Captures of all organizations that are due before `time`, the longest due first, at most so many.
pub(crate) fn due_pitrs(time: Timestamp, most: u32) -> ItemQuery {
    let range = SortRange::Between("0".to_owned(), time.to_string());
    ItemQuery { by_index: true, range, limit: most, ..ItemQuery::prefix(PITRS, "") }
}

/// Captures of all organizations that should go on, the longest due first.
pub(crate) fn pitrs_on() -> ItemQuery {
    // a colon follows the digits, with one of which every time begins
    let range = SortRange::Between("0".to_owned(), ":".to_owned());
    ItemQuery { by_index: true, range, ..ItemQuery::prefix(PITRS, "") }
}

/// An event that waits.
pub(crate) fn buffered_event(buffer: &str, place: u64) -> ItemKey {
    of_buffer(buffer, format!("{BUFFERED}{place:020}"))
}

/// The events of a buffer, in the order in which they came.
pub(crate) fn buffered_events(buffer: &str, most: u32) -> ItemQuery {
    ItemQuery { limit: most, ..ItemQuery::prefix(format!("{EVENTS}#{buffer}"), BUFFERED) }
}

/// Those from one place to another.
pub(crate) fn buffered_between(buffer: &str, first: u64, last: u64) -> ItemQuery {
    let range = SortRange::Between(buffered_event(buffer, first).sort, buffered_event(buffer, last).sort);
    ItemQuery { range, ..buffered_events(buffer, MAX_PAGE_ITEMS) }
}

/// A part of an event.
pub(crate) fn buffered_part(buffer: &str, place: u64, part: u32) -> ItemKey {
    of_buffer(buffer, format!("PART#{place:020}#{part:02}"))
}

/// Those that are given until they are settled.
pub(crate) fn buffered_batch(buffer: &str) -> ItemKey {
    of_buffer(buffer, "BATCH")
}

/// How many were settled.
pub(crate) fn buffered_settled(buffer: &str) -> ItemKey {
    of_buffer(buffer, "SETTLED")
}

/// What is counted of a buffer besides.
pub(crate) fn buffer_counts(buffer: &str) -> ItemKey {
    of_buffer(buffer, "COUNTS")
}

/// That something waits in a buffer.
pub(crate) fn buffer_mark(buffer: &str) -> ItemKey {
    of_buffer(buffer, "MARK")
}

/// The place of that in the index.
pub(crate) fn waiting_buffer(since: Timestamp, buffer: &str) -> ItemKey {
    ItemKey::new(EVENTS, format!("{since}#{buffer}"))
}

/// The buffers in which something waits, those that wait longest first.
pub(crate) fn waiting_buffers(most: u32) -> ItemQuery {
    ItemQuery { by_index: true, range: SortRange::All, limit: most, ..ItemQuery::prefix(EVENTS, "") }
}

/// That an event of this name is known.
pub(crate) fn event_name(buffer: &str, event: &str) -> ItemKey {
    ItemKey::new(format!("{EVENT_NAMES}#{buffer}"), event)
}

/// All that is kept of a buffer, its names first.
pub(crate) fn all_of_buffer(buffer: &str) -> [ItemQuery; 2] {
    let all = |prefix| ItemQuery { range: SortRange::All, ..ItemQuery::prefix(format!("{prefix}#{buffer}"), "") };
    [all(EVENT_NAMES), all(EVENTS)]
}

fn of_buffer(buffer: &str, sort: impl Into<String>) -> ItemKey {
    ItemKey::new(format!("{EVENTS}#{buffer}"), sort)
}

/// Drills of all organizations that are due before `time`, the longest due first, at most so many.
pub(crate) fn due_drills(time: Timestamp, most: u32) -> ItemQuery {
    let range = SortRange::Between("0".to_owned(), time.to_string());
    ItemQuery { by_index: true, range, limit: most, ..ItemQuery::prefix(DRILLS, "") }
}

/// That the first organization was made.
pub(crate) fn first_owner() -> ItemKey {
    ItemKey::new("INSTALLATION", "OWNER")
}

/// Whose an API key is.
pub(crate) fn key_owner(id: &ApiKeyId) -> ItemKey {
    ItemKey::new(format!("{KEY}{id}"), "ORGANIZATION")
}

/// Whose a project is that events are posted of.
pub(crate) fn push_owner(project: &ProjectId) -> ItemKey {
    ItemKey::new(format!("PUSH#{project}"), "ORGANIZATION")
}

/// An organization in the list of all.
pub(crate) fn listed_organization(id: &OrganizationId) -> ItemKey {
    ItemKey::new(ORGANIZATIONS, format!("ORG#{id}"))
}

/// All organizations.
pub(crate) fn all_organizations() -> ItemQuery {
    ItemQuery::prefix(ORGANIZATIONS, "ORG#")
}

/// A user.
pub(crate) fn user(id: &UserId) -> ItemKey {
    ItemKey::new(format!("USER#{id}"), "USER")
}

/// That a user is a member of an organization.
pub(crate) fn membership(user: &UserId, organization: &OrganizationId) -> ItemKey {
    ItemKey::new(format!("USER#{user}"), format!("{ORG}{organization}"))
}

/// All organizations of which a user is a member.
pub(crate) fn memberships(user: &UserId) -> ItemQuery {
    ItemQuery::prefix(format!("USER#{user}"), ORG)
}

/// That a user made one more organization.
pub(crate) fn organizations_room(user: &UserId) -> ItemKey {
    ItemKey::new(format!("USER#{user}"), format!("{ROOM}organizations"))
}

/// Whom an issuer's subject is here.
pub(crate) fn subject(hash: &str) -> ItemKey {
    ItemKey::new(format!("SUBJECT#{hash}"), "USER")
}

/// That a sign-in was used.
pub(crate) fn sign_in(hash: &str) -> ItemKey {
    ItemKey::new(format!("SIGNIN#{hash}"), "SIGNIN")
}

/// The code at the end of a sign-in.
pub(crate) fn sign_in_code(hash: &str) -> ItemKey {
    ItemKey::new(format!("CODE#{hash}"), "CODE")
}

/// A session.
pub(crate) fn session(id: &SessionId) -> ItemKey {
    ItemKey::new(format!("SESSION#{id}"), "SESSION")
}

/// A refresh token.
pub(crate) fn refresh_token(hash: &str) -> ItemKey {
    ItemKey::new(format!("REFRESH#{hash}"), "SESSION")
}

/// Whose an invite is.
pub(crate) fn invite_owner(id: &InviteId) -> ItemKey {
    ItemKey::new(format!("{INVITE}{id}"), "ORGANIZATION")
}

/// That an address is invited.
pub(crate) fn invited(hash: &str, id: &InviteId) -> ItemKey {
    ItemKey::new(format!("INVITED#{hash}"), id.to_string())
}

/// The open invites of an address; one is enough.
pub(crate) fn invites_of(hash: &str) -> ItemQuery {
    ItemQuery { limit: 1, ..ItemQuery::prefix(format!("INVITED#{hash}"), InviteId::PREFIX) }
}

/// Somebody unknown who was refused.
pub(crate) fn stranger(month: Month, id: &AuditId) -> ItemKey {
    ItemKey::new(format!("STRANGERS#{month}"), id.to_string())
}

/// How often they were.
pub(crate) fn stranger_count(id: &AuditId) -> ItemKey {
    ItemKey::new("STRANGERS", id.to_string())
}

/// Those of a month, newest first.
pub(crate) fn strangers(month: Month) -> ItemQuery {
    entries(format!("STRANGERS#{month}"))
}

/// What a live client is told of.
pub(crate) fn live_connection(connection: &str) -> ItemKey {
    ItemKey::new(format!("LIVE#{connection}"), "LIVE")
}

/// Entries of one partition, newest first.
fn entries(partition: String) -> ItemQuery {
    ItemQuery { descending: true, ..ItemQuery::prefix(partition, AuditId::PREFIX) }
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

    /// All that is kept in the organization's own partition.
    pub(crate) fn all_items(&self) -> ItemQuery {
        ItemQuery { range: SortRange::All, ..self.list("") }
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

    pub(crate) fn collections_key(&self, project: &ProjectId, database: &str) -> ItemKey {
        self.key(format!("{COLLECTIONS}{project}#{database}"))
    }

    /// The collections of all databases of a project.
    pub(crate) fn collections(&self, project: &ProjectId) -> ItemQuery {
        self.list(&format!("{COLLECTIONS}{project}#"))
    }

    pub(crate) fn consent_key(&self, hash: &str) -> ItemKey {
        self.key(format!("{CONSENT}{hash}"))
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

    /// The due times that were missed for good.
    pub(crate) fn schedules_given_up(&self) -> ItemQuery {
        self.list(SCHEDULE_MISSED)
    }

    pub(crate) fn pitr_key(&self, project: &ProjectId, database: &str) -> ItemKey {
        self.key(format!("{PITR}{project}#{database}"))
    }

    pub(crate) fn merge_key(&self, project: &ProjectId, database: &str, day: Timestamp) -> ItemKey {
        self.key(format!("{MERGE}{project}#{database}#{day}"))
    }

    pub(crate) fn pitrs(&self) -> ItemQuery {
        self.list(PITR)
    }

    /// Those of the databases of a project.
    pub(crate) fn pitrs_of(&self, project: &ProjectId) -> ItemQuery {
        self.list(&format!("{PITR}{project}#"))
    }

    /// The place in the index of a capture that is due then.
    pub(crate) fn due_pitr(&self, due: Timestamp, project: &ProjectId, database: &str) -> ItemKey {
        ItemKey::new(PITRS, format!("{due}#{}#{project}#{database}", self.organization()))
    }

    pub(crate) fn drills_key(&self, project: &ProjectId) -> ItemKey {
        self.key(format!("{DRILL}{project}"))
    }

    /// Those of all projects.
    pub(crate) fn all_drills(&self) -> ItemQuery {
        self.list(DRILL)
    }

    /// The place in the index of drills that are due then.
    pub(crate) fn due_drill(&self, due: Timestamp, project: &ProjectId) -> ItemKey {
        ItemKey::new(DRILLS, format!("{due}#{}#{project}", self.organization()))
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

    pub(crate) fn cleanup_key(&self, id: &DestinationId) -> ItemKey {
        self.key(format!("{CLEANUP}{id}"))
    }

    pub(crate) fn cleanups(&self) -> ItemQuery {
        self.list(CLEANUP)
    }

    /// The migration out of a destination.
    pub(crate) fn migration_key(&self, id: &DestinationId) -> ItemKey {
        self.key(format!("{MIGRATION}{id}"))
    }

    pub(crate) fn migrations(&self) -> ItemQuery {
        self.list(MIGRATION)
    }

    pub(crate) fn idempotency_key(&self, hash: &str) -> ItemKey {
        self.key(format!("{IDEMPOTENCY}{hash}"))
    }

    pub(crate) fn member_key(&self, id: &UserId) -> ItemKey {
        self.key(format!("{MEMBER}{id}"))
    }

    pub(crate) fn members(&self) -> ItemQuery {
        self.list(MEMBER)
    }

    pub(crate) fn invite_key(&self, id: &InviteId) -> ItemKey {
        self.key(format!("{INVITE}{id}"))
    }

    pub(crate) fn invites(&self) -> ItemQuery {
        self.list(INVITE)
    }

    /// That one more was made of what there may be only so many of.
    pub(crate) fn room_key(&self, what: &str) -> ItemKey {
        self.key(format!("{ROOM}{what}"))
    }

    /// Up to which entry of the audit log webhooks were told.
    pub(crate) fn told_key(&self) -> ItemKey {
        self.key("TOLD")
    }

    pub(crate) fn webhook_key(&self, id: &WebhookId) -> ItemKey {
        self.key(format!("{WEBHOOK}{id}"))
    }

    pub(crate) fn webhooks(&self) -> ItemQuery {
        self.list(WEBHOOK)
    }

    fn deliveries_partition(&self, webhook: &WebhookId) -> String {
        format!("{}#{WEBHOOK}{webhook}", self.partition())
    }

    pub(crate) fn delivery_key(&self, webhook: &WebhookId, id: &DeliveryId) -> ItemKey {
        ItemKey::new(self.deliveries_partition(webhook), id.to_string())
    }

    /// The deliveries to a webhook, newest first.
    pub(crate) fn deliveries(&self, webhook: &WebhookId) -> ItemQuery {
        let query = ItemQuery::prefix(self.deliveries_partition(webhook), DeliveryId::PREFIX);
        ItemQuery { descending: true, ..query }
    }

    fn waiting_partition(&self) -> String {
        format!("{}#WAITING", self.partition())
    }

    /// The place in the index of a delivery that waits until then.
    pub(crate) fn waiting_delivery(&self, until: Timestamp, id: &DeliveryId) -> ItemKey {
        ItemKey::new(self.waiting_partition(), format!("{until}#{id}"))
    }

    /// The deliveries that have waited since before `time`, the longest waiting first, at most so many.
    pub(crate) fn waiting_deliveries(&self, time: Timestamp, most: u32) -> ItemQuery {
        let range = SortRange::Between("0".to_owned(), time.to_string());
        ItemQuery { by_index: true, range, limit: most, ..ItemQuery::prefix(self.waiting_partition(), "") }
    }

    pub(crate) fn audit_key(&self, month: Month, id: &AuditId) -> ItemKey {
        ItemKey::new(format!("{}#AUDIT#{month}", self.partition()), id.to_string())
    }

    /// The entries of a month, newest first.
    pub(crate) fn audit(&self, month: Month) -> ItemQuery {
        entries(format!("{}#AUDIT#{month}", self.partition()))
    }

    fn sealed_partition(&self, month: Month) -> String {
        format!("{}#SEALED#{month}", self.partition())
    }

    /// A part of a month that has left the table.
    pub(crate) fn sealed_part_key(&self, month: Month, name: &str) -> ItemKey {
        ItemKey::new(self.sealed_partition(month), name)
    }

    pub(crate) fn sealed_parts(&self, month: Month) -> ItemQuery {
        ItemQuery::prefix(self.sealed_partition(month), "audit/")
    }

    pub(crate) fn refused_key(&self, id: &AuditId) -> ItemKey {
        ItemKey::new(format!("{}#REFUSED", self.partition()), id.to_string())
    }

    /// A live client's place in the index.
    pub(crate) fn live_place(&self, connection: &str) -> ItemKey {
        ItemKey::new(format!("{}#LIVE", self.partition()), connection)
    }

    /// The live clients.
    pub(crate) fn live_connections(&self) -> ItemQuery {
        let query = ItemQuery::prefix(format!("{}#LIVE", self.partition()), "");
        ItemQuery { by_index: true, range: SortRange::All, ..query }
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
        let (user_id, invite) = (UserId::from(ulid), InviteId::from(ulid));
        let (entry, month) = (AuditId::from(ulid), Month::of(time));
        let found = [
            scope.member_key(&user_id),
            scope.invite_key(&invite),
            scope.audit_key(month, &entry),
            scope.refused_key(&entry),
            scope.sealed_part_key(month, "audit/name"),
            user(&user_id),
            membership(&user_id, &ulid.into()),
            subject("00ff"),
            sign_in("00ff"),
            sign_in_code("00ff"),
            session(&ulid.into()),
            refresh_token("00ff"),
            invite_owner(&invite),
            invited("00ff", &invite),
            stranger(month, &entry),
            stranger_count(&entry),
            first_owner(),
            key_owner(&key),
            push_owner(&project),
            listed_organization(&ulid.into()),
            scope.organization_key(),
            scope.api_key_key(&key),
            scope.project_key(&project),
            scope.collections_key(&project, "(default)"),
            scope.consent_key("00ff"),
            scope.destination_key(&destination),
            scope.schedule_key(&schedule),
            scope.schedule_run_key(&schedule, time),
            scope.schedule_given_up_key(&schedule, time),
            scope.pitr_key(&project, "(default)"),
            scope.merge_key(&project, "(default)", time),
            scope.due_pitr(time, &project, "(default)"),
            scope.drills_key(&project),
            scope.due_drill(time, &project),
            scope.job_key(&job),
            scope.backup_of_project(&project, &job),
            scope.active_key(&job),
            scope.running_key(),
            scope.deleting_key(&job),
            scope.cleanup_key(&destination),
            scope.migration_key(&destination),
            scope.idempotency_key("00ff"),
            scope.progress_key(&job),
            scope.webhook_key(&ulid.into()),
            scope.room_key("webhooks"),
            organizations_room(&ulid.into()),
            scope.told_key(),
            scope.delivery_key(&ulid.into(), &ulid.into()),
            scope.waiting_delivery(time, &ulid.into()),
            live_connection("c"),
            scope.live_place("c"),
            buffered_event("b", 7),
            buffered_part("b", 7, 1),
            buffered_batch("b"),
            buffered_settled("b"),
            buffer_counts("b"),
            buffer_mark("b"),
            waiting_buffer(time, "b"),
            event_name("b", "00ff"),
        ];
        let found: Vec<String> = found.into_iter().map(|key| format!("{} {}", key.partition, key.sort)).collect();
        let expected = [
            "ORG#org_U MEMBER#user_U",
            "ORG#org_U INVITE#inv_U",
            "ORG#org_U#AUDIT#2026-01 evt_U",
            "ORG#org_U#REFUSED evt_U",
            "ORG#org_U#SEALED#2026-01 audit/name",
            "USER#user_U USER",
            "USER#user_U ORG#org_U",
            "SUBJECT#00ff USER",
            "SIGNIN#00ff SIGNIN",
            "CODE#00ff CODE",
            "SESSION#ses_U SESSION",
            "REFRESH#00ff SESSION",
            "INVITE#inv_U ORGANIZATION",
            "INVITED#00ff inv_U",
            "STRANGERS#2026-01 evt_U",
            "STRANGERS evt_U",
            "INSTALLATION OWNER",
            "KEY#key_U ORGANIZATION",
            "PUSH#proj_U ORGANIZATION",
            "ORGANIZATIONS ORG#org_U",
            "ORG#org_U ORGANIZATION",
            "ORG#org_U KEY#key_U",
            "ORG#org_U PROJECT#proj_U",
            "ORG#org_U COLLECTIONS#proj_U#(default)",
            "ORG#org_U CONSENT#00ff",
            "ORG#org_U STORAGE#storage_U",
            "ORG#org_U SCHEDULE#sched_U",
            "ORG#org_U SCHEDRUN#sched_U#2026-01-31T14:03:00Z",
            "ORG#org_U SCHEDMISSED#sched_U#2026-01-31T14:03:00Z",
            "ORG#org_U PITR#proj_U#(default)",
            "ORG#org_U MERGE#proj_U#(default)#2026-01-31T14:03:00Z",
            "PITR 2026-01-31T14:03:00Z#org_U#proj_U#(default)",
            "ORG#org_U DRILLS#proj_U",
            "DRILLS 2026-01-31T14:03:00Z#org_U#proj_U",
            "ORG#org_U JOB#bkp_U",
            "ORG#org_U#PROJECT#proj_U JOB#bkp_U",
            "ORG#org_U ACTIVE#bkp_U",
            "ORG#org_U RUNNING",
            "ORG#org_U DELETING#bkp_U",
            "ORG#org_U CLEANUP#storage_U",
            "ORG#org_U MIGRATION#storage_U",
            "ORG#org_U IDEMPOTENCY#00ff",
            "ORG#org_U#JOB#bkp_U PROGRESS",
            "ORG#org_U WEBHOOK#webhook_U",
            "ORG#org_U ROOM#webhooks",
            "USER#user_U ROOM#organizations",
            "ORG#org_U TOLD",
            "ORG#org_U#WEBHOOK#webhook_U dlv_U",
            "ORG#org_U#WAITING 2026-01-31T14:03:00Z#dlv_U",
            "LIVE#c LIVE",
            "ORG#org_U#LIVE c",
            "EVENTS#b EVENT#00000000000000000007",
            "EVENTS#b PART#00000000000000000007#01",
            "EVENTS#b BATCH",
            "EVENTS#b SETTLED",
            "EVENTS#b COUNTS",
            "EVENTS#b MARK",
            "EVENTS 2026-01-31T14:03:00Z#b",
            "EVENTNAMES#b 00ff",
        ];
        assert_eq!(found, expected.map(|line| line.replace("_U", &format!("_{ULID}"))));
    }

    #[test]
    fn queries_find_what_keys_name() {
        let ulid = Ulid::from_string(ULID).unwrap();
        let scope = scope_for_tests(ulid.into());
        let job: JobId = format!("bkp_{ULID}").parse().unwrap();
        let restore: JobId = format!("restore_{ULID}").parse().unwrap();
        let month = Month::of(Timestamp::new(0, 0));
        for (query, key) in [
            (all_organizations(), listed_organization(&ulid.into())),
            (scope.api_keys(), scope.api_key_key(&ulid.into())),
            (scope.projects(), scope.project_key(&ulid.into())),
            (scope.collections(&ulid.into()), scope.collections_key(&ulid.into(), "(default)")),
            (scope.destinations(), scope.destination_key(&ulid.into())),
            (scope.schedules(), scope.schedule_key(&ulid.into())),
            (scope.schedules_given_up(), scope.schedule_given_up_key(&ulid.into(), Timestamp::new(0, 0))),
            (scope.pitrs(), scope.pitr_key(&ulid.into(), "(default)")),
            (scope.pitrs_of(&ulid.into()), scope.pitr_key(&ulid.into(), "(default)")),
            (scope.all_drills(), scope.drills_key(&ulid.into())),
            (scope.backups(), scope.job_key(&job)),
            (scope.restores(), scope.job_key(&restore)),
            (scope.backups_of_project(&ulid.into()), scope.backup_of_project(&ulid.into(), &job)),
            (scope.active_jobs(), scope.active_key(&job)),
            (scope.deleting_backups(), scope.deleting_key(&job)),
            (scope.cleanups(), scope.cleanup_key(&ulid.into())),
            (scope.migrations(), scope.migration_key(&ulid.into())),
            (scope.members(), scope.member_key(&ulid.into())),
            (scope.invites(), scope.invite_key(&ulid.into())),
            (scope.audit(month), scope.audit_key(month, &ulid.into())),
            (scope.sealed_parts(month), scope.sealed_part_key(month, "audit/name")),
            (memberships(&ulid.into()), membership(&ulid.into(), &ulid.into())),
            (invites_of("00ff"), invited("00ff", &ulid.into())),
            (strangers(month), stranger(month, &ulid.into())),
            (scope.webhooks(), scope.webhook_key(&ulid.into())),
            (scope.deliveries(&ulid.into()), scope.delivery_key(&ulid.into(), &ulid.into())),
            (buffered_events("b", 1), buffered_event("b", 7)),
        ] {
            assert_eq!(query.partition, key.partition);
            let SortRange::Prefix(prefix) = &query.range else { panic!("{query:?}") };
            assert!(key.sort.starts_with(prefix.as_str()), "{query:?} {key:?}");
        }
    }

    #[test]
    fn what_waits_is_found_from_its_time_on() {
        let ulid = Ulid::from_string(ULID).unwrap();
        let scope = scope_for_tests(ulid.into());
        let time: Timestamp = "2026-01-31T14:03:00Z".parse().unwrap();
        let key = scope.waiting_delivery(time, &ulid.into());
        for (seconds, is_found) in [(-1, false), (1, true), (86_400, true)] {
            let due = scope.due_pitr(time, &ulid.into(), "(default)");
            let until = time.plus_seconds(seconds);
            let drill = scope.due_drill(time, &ulid.into());
            for (query, key) in [
                (scope.waiting_deliveries(until, 1), &key),
                (due_pitrs(until, 1), &due),
                (due_drills(until, 1), &drill),
            ] {
                assert_eq!(query.partition, key.partition);
                let SortRange::Between(low, high) = query.range else { panic!("{query:?}") };
                assert_eq!((low..=high).contains(&key.sort), is_found, "{seconds}");
            }
            let on = pitrs_on();
            let SortRange::Between(low, high) = on.range else { panic!("{on:?}") };
            assert!(on.partition == due.partition && (low..=high).contains(&due.sort));
        }
    }
}
