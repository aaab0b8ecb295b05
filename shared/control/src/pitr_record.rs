//! How changes of a database are captured, as users see it and as it is stored.
//!
//! Where a capture stands the repository alone knows. What is kept of it here is what whoever captured last has found there,
//! so that a look at it opens no bucket.

use firebackup_model::Timestamp;
use firebackup_model::id::JobId;
use firebackup_model::port::ItemKey;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::event_push::PushRecord;
use crate::id::{DestinationId, OrganizationId, PitrId, ProjectId};
use crate::pitr::{MERGE_AFTER_DAYS, PitrConfig};
use crate::tenant::OrganizationScope;

/// How a recovery to a point in time stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PitrStatus {
    /// The backup that it begins from is not complete yet.
    Initializing,
    /// Changes are captured, and proven to be all of them.
    Active,
    /// It was paused: what changes meanwhile may be lost as moments.
    Paused,
    /// Changes are captured late, or it is not proven that they are all of them.
    Degraded,
    /// Nothing can be captured; it is tried again and again.
    Error,
    /// It was switched off. What was captured can be put back as long as it is kept.
    Disabled,
}

impl PitrStatus {
    /// Whether changes are not captured as they should be.
    pub(crate) const fn is_ill(self) -> bool {
        matches!(self, Self::Degraded | Self::Error)
    }
}

/// Recovery to a point in time, of one database of a project.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pitr {
    /// Names it.
    pub id: PitrId,
    /// Of which project.
    pub project_id: ProjectId,
    /// The Google Cloud project.
    pub google_project: String,
    /// Which of its databases.
    pub database: String,
    /// How it stands.
    pub status: PitrStatus,
    /// Why it stands so, where there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How changes are captured and kept.
    pub config: PitrConfig,
    /// The backup that was begun so that there is one to begin from; nothing where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub initial_backup_id: Option<JobId>,
    /// When it was enabled, for the last time.
    #[schema(value_type = String, format = DateTime)]
    pub enabled_at: Timestamp,
    /// When its settings were last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// A stretch of time of which nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CapturedGap {
    /// The last moment before it.
    #[schema(value_type = String, format = DateTime)]
    pub after: Timestamp,
    /// The first moment behind it.
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
}

/// What a repository says of the captured changes of a database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CaptureFacts {
    /// The last consistent point in a segment.
    pub captured_through: Option<Timestamp>,
    /// The last one that can be put back.
    pub proven_through: Option<Timestamp>,
    /// Whether it could not be proven for long that what was captured is all.
    pub is_unproven: bool,
    /// Segments that there are.
    pub segments: u64,
    /// Documents that they say were put or deleted.
    pub changes: u64,
    /// Bytes of their runs.
    pub stored_bytes: u64,
    /// How often the whole database was read in 24 hours because the stream could not be believed.
    pub scans_today: u64,
    /// Document reads of that.
    pub scan_reads_today: u64,
    /// How many gaps there are.
    pub gaps: u64,
    /// The newest of them, the newest first.
    pub newest_gaps: Vec<CapturedGap>,
}

/// How capturing goes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Course {
    /// Up to where it was listened: changes behind the last segment are none.
    pub(crate) through: Option<Timestamp>,
    /// What was last found in the repository.
    pub(crate) facts: CaptureFacts,
    /// When that was.
    pub(crate) looked_at: Option<Timestamp>,
    /// Whether a window has begun and it was not looked since what came of it: one that died, or failed half way, may have sealed.
    pub(crate) is_unseen: bool,
    /// When the last window ended well.
    pub(crate) captured_at: Option<Timestamp>,
    /// Windows that failed since.
    pub(crate) failures: u32,
    /// That the last failure does not pass by itself.
    pub(crate) is_fatal: bool,
    /// Why the last one failed, or could not read all, for people.
    pub(crate) trouble: Option<String>,
    /// When that was.
    pub(crate) trouble_at: Option<Timestamp>,
    /// That the database would have to be read and cannot be: that may not cost so much, or takes longer than a window.
    pub(crate) is_spent: bool,
    /// Since when it rests because reading it takes longer than a window, until the next one begins.
    pub(crate) rests_since: Option<Timestamp>,
    /// Whether a backup to go on from was completed while the window went on that is going on.
    pub(crate) has_new_backup: bool,
    /// When segments were last merged, or it was tried.
    pub(crate) compacted_at: Option<Timestamp>,
    /// When there was last not the time to merge them all.
    pub(crate) merging_took_too_long_at: Option<Timestamp>,
    /// When there was last not even the time to merge those that are small.
    pub(crate) small_merging_took_too_long_at: Option<Timestamp>,
    /// Whether somebody was told that it is not as it should be.
    pub(crate) is_told_ill: bool,
    /// Changes of which nobody was told yet.
    pub(crate) untold: u64,
    /// When somebody was told last.
    pub(crate) told_at: Option<Timestamp>,
}

/// Recovery to a point in time, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PitrRecord {
    pub(crate) id: PitrId,
    pub(crate) organization_id: OrganizationId,
    pub(crate) project_id: ProjectId,
    pub(crate) google_project: String,
    pub(crate) database: String,
    pub(crate) storage_destination_id: DestinationId,
    pub(crate) encrypt: bool,
    pub(crate) retention_days: u32,
    pub(crate) change_window_minutes: u32,
    #[serde(default = "merge_after_days")]
    pub(crate) merge_after_days: u32,
    pub(crate) enabled: bool,
    pub(crate) paused: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) initial_backup_id: Option<JobId>,
    pub(crate) enabled_at: Timestamp,
    /// When it was resumed, if it was paused since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resumed_at: Option<Timestamp>,
    pub(crate) updated_at: Timestamp,
    /// When the next window begins; while somebody holds it, from when on that one counts as dead.
    pub(crate) due: Timestamp,
    /// Who may post events of its changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) push: Option<PushRecord>,
    /// Until when somebody folds events at the longest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) folds_until: Option<Timestamp>,
    /// Who captures now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) holder: Option<String>,
    #[serde(default)]
    pub(crate) course: Course,
}

/// What was enabled before there was a choice.
const fn merge_after_days() -> u32 {
    MERGE_AFTER_DAYS
}

/// So often may one window after the other fail before that is the status.
const FAILURES: u32 = 3;
/// So long may nothing be captured at least before that is the status.
const PATIENCE_SECONDS: i64 = 600;

/// Times that are compared as text are of whole seconds.
pub(crate) const fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::new(time.seconds, 0)
}

impl PitrRecord {
    /// Whether somebody should capture.
    pub(crate) const fn is_on(&self) -> bool {
        self.enabled && !self.paused
    }

    /// Since when somebody should: what was missed before that is no fault.
    pub(crate) fn on_since(&self) -> Timestamp {
        self.resumed_at.unwrap_or(self.enabled_at)
    }

    /// Whether somebody captures just now, or folds events.
    pub(crate) fn is_held(&self, now: Timestamp) -> bool {
        let is_folded = self.folds_until.is_some_and(|until| until > now);
        is_folded || self.is_on() && self.holder.is_some() && self.due > now
    }

    /// Its place among those that are due; none while nobody should capture.
    pub(crate) fn index(&self, scope: &OrganizationScope) -> Option<ItemKey> {
        self.is_on().then(|| scope.due_pitr(self.due, &self.project_id, &self.database))
    }

    /// In which repository of its destination it is kept: whose, and whether that is encrypted.
    pub(crate) const fn repository(&self) -> (ProjectId, bool) {
        (self.project_id, self.encrypt)
    }

    pub(crate) fn window_seconds(&self) -> i64 {
        i64::from(self.change_window_minutes) * 60
    }

    /// How it stands, and why where there is more to say.
    pub(crate) fn status(&self, now: Timestamp) -> (PitrStatus, Option<String>) {
        let course = &self.course;
        if !self.enabled {
            return (PitrStatus::Disabled, None);
        }
        if self.paused {
            return (PitrStatus::Paused, None);
        }
        if course.is_fatal || course.failures >= FAILURES {
            return (PitrStatus::Error, course.trouble.clone());
        }
        if course.through.is_none() {
            return (PitrStatus::Initializing, self.waits_for());
        }
        match self.degraded(now) {
            Some(reason) => (PitrStatus::Degraded, Some(reason)),
            None => (PitrStatus::Active, None),
        }
    }

    fn waits_for(&self) -> Option<String> {
        let of_backup = |id: &JobId| format!("it begins once the backup {id} is complete");
        self.course.trouble.clone().or_else(|| self.initial_backup_id.as_ref().map(of_backup))
    }

    fn degraded(&self, now: Timestamp) -> Option<String> {
        let course = &self.course;
        if course.is_spent {
            return course.trouble.clone();
        }
        if course.facts.is_unproven {
            return Some("what was captured is not proven to be all of it".to_owned());
        }
        let patience = PATIENCE_SECONDS.max(3 * self.window_seconds());
        let since = course.captured_at.unwrap_or_default().max(self.on_since());
        (since.plus_seconds(patience) < now).then(|| format!("nothing was captured since {since}"))
    }

    pub(crate) fn shown(&self, now: Timestamp) -> Pitr {
        let (status, reason) = self.status(now);
        Pitr {
            id: self.id,
            project_id: self.project_id,
            google_project: self.google_project.clone(),
            database: self.database.clone(),
            status,
            reason,
            config: PitrConfig {
                retention_days: self.retention_days,
                change_window_minutes: self.change_window_minutes,
                merge_after_days: self.merge_after_days,
                storage_destination_id: Some(self.storage_destination_id),
                encrypt: self.encrypt,
                push: self.push.as_ref().map(|push| push.config.clone()),
            },
            initial_backup_id: self.initial_backup_id.clone(),
            enabled_at: self.enabled_at,
            updated_at: self.updated_at,
        }
    }

    /// What it is, as the audit log tells it.
    pub(crate) fn told(&self) -> Value {
        json!({
            "projectId": self.project_id, "database": self.database, "retentionDays": self.retention_days,
            "changeWindowMinutes": self.change_window_minutes, "mergeAfterDays": self.merge_after_days,
            "storageDestinationId": self.storage_destination_id, "encrypt": self.encrypt, "push": self.push.as_ref().map(|push| &push.config),
        })
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::new(1_700_000_000 + seconds, 0)
    }

    fn record(course: Course) -> PitrRecord {
        let ulid = Ulid::from_parts(1, 1);
        PitrRecord {
            id: ulid.into(),
            organization_id: ulid.into(),
            project_id: ulid.into(),
            google_project: "shop-1".to_owned(),
            database: "(default)".to_owned(),
            storage_destination_id: ulid.into(),
            encrypt: true,
            retention_days: 7,
            change_window_minutes: 1,
            merge_after_days: 7,
            enabled: true,
            paused: false,
            initial_backup_id: None,
            enabled_at: at(0),
            resumed_at: None,
            updated_at: at(0),
            due: at(0),
            push: None,
            folds_until: None,
            holder: None,
            course,
        }
    }

    #[test]
    fn the_status_follows_from_what_was_found() {
        let good = Course { through: Some(at(60)), captured_at: Some(at(60)), ..Course::default() };
        let unproven = CaptureFacts { is_unproven: true, ..CaptureFacts::default() };
        let trouble = Some("no".to_owned());
        for (course, now, expected) in [
            (Course::default(), 1, PitrStatus::Initializing),
            (good.clone(), 61, PitrStatus::Active),
            (good.clone(), 660, PitrStatus::Active),
            (good.clone(), 661, PitrStatus::Degraded),
            (Course { facts: unproven, ..good.clone() }, 61, PitrStatus::Degraded),
            (Course { is_spent: true, trouble: trouble.clone(), ..good.clone() }, 61, PitrStatus::Degraded),
            (Course { failures: 2, trouble: trouble.clone(), ..good.clone() }, 61, PitrStatus::Active),
            (Course { failures: 3, trouble: trouble.clone(), ..good.clone() }, 61, PitrStatus::Error),
            (Course { failures: 1, is_fatal: true, trouble, ..Course::default() }, 61, PitrStatus::Error),
        ] {
            let record = record(course);
            assert_eq!(record.status(at(now)).0, expected, "{:?} at {now}", record.course);
            assert_eq!(PitrRecord { paused: true, ..record.clone() }.status(at(now)).0, PitrStatus::Paused);
            let off = PitrRecord { enabled: false, paused: true, ..record };
            assert_eq!((off.status(at(now)).0, off.is_on()), (PitrStatus::Disabled, false));
        }
    }

    #[test]
    fn what_was_enabled_again_or_resumed_just_now_is_not_late() {
        let old = Course { through: Some(at(60)), captured_at: Some(at(60)), ..Course::default() };
        let again = PitrRecord { enabled_at: at(100_000), ..record(old.clone()) };
        assert_eq!(again.status(at(100_001)).0, PitrStatus::Active);
        let resumed = PitrRecord { resumed_at: Some(at(100_000)), ..record(old) };
        assert_eq!(resumed.status(at(100_001)).0, PitrStatus::Active);
    }
}
