//! The verbs on documents: back up, restore, verify, compare, look up, prune.
//!
//! This is also FireBackup's public face as a library: [`Backup::builder`], [`quick_backup`], [`Restore`]. Databases
//! and stores are handed in behind the ports of `firebackup-model` and [`object_store`]; time and randomness by [`World`].
//!
//! A verb can be killed at any instruction and run again: what it has finished stands in receipts, and the manifest, put
//! last and only if absent, is the commit. `docs/format.md` describes every object, ARCHITECTURE.md the way of the data.

mod auto_level;
mod backup;
mod backup_steps;
mod batch;
mod bill;
mod budget;
mod capture;
mod capture_buffer;
mod capture_position;
mod capture_scan;
mod chain;
mod compact;
mod contents;
mod copy;
mod diff;
mod error;
mod export;
mod finalize;
mod holders;
mod incremental;
mod jobs;
mod keyring;
mod layout;
mod ledger;
mod locks;
mod lookup;
pub mod memory;
mod merge;
mod moments;
mod objects;
mod orphans;
mod plan;
mod proof;
mod prune;
mod prune_marks;
mod prune_segments;
mod ramp;
mod read;
mod receipt_sum;
mod repository;
mod restore;
mod restore_plan;
mod restore_progress;
mod restore_steps;
mod retry;
mod run_upload;
mod segment;
mod snapshots;
mod synthesize;
mod undo;
mod unmatched;
mod upload;
mod users;
mod verify;
mod wanted;
mod workers;
mod world;
mod wraps;
mod write_batch;

pub use backup::{Backup, BackupBuilder, BackupOutcome, Estimate, estimate, quick_backup};
pub use backup_steps::{BackupSteps, StepDone};
pub use bill::RestoreBill;
pub use capture::{Capture, CaptureEvent, CaptureOptions, Captured};
pub use compact::{CompactReport, Compaction};
pub use contents::{Contents, Item};
pub use copy::{Copied, FoundObject, Layer, copy_object, found_below, holds_another};
pub use diff::{Change, ChangeCounts, Difference, Sample, diff};
pub use error::{EngineError, Result};
pub use holders::Holder;
pub use incremental::{CapturedIncrement, Increment, MAX_DEPTH, increment};
pub use jobs::{UnfinishedJob, unfinished_jobs};
pub use keyring::{Secrets, ServiceKey, Trust};
pub use layout::FOLDERS;
pub use locks::{LockReport, extend_locks};
pub use lookup::{Found, lookup, lookup_at};
pub use moments::{Moment, Moments, Window};
pub use orphans::{Fate, Orphans, fates, orphans};
pub use plan::{MAX_JOB_SECONDS, Resume};
pub use prune::{GRACE_SECONDS, PrunePolicy, PruneReport, prune, prune_versions};
pub use repository::{ProvenOrigin, Repository};
pub use restore::{DryRun, Problem, Restore, RestoreOptions, RestoreReport, Tally, Target};
pub use restore_plan::{unfinished_restore, unfinished_restores};
pub use restore_steps::{PartDone, RestoreOutcome, RestoreSteps, RestoredUsers};
pub use synthesize::synthesize;
pub use unmatched::nothing_fits;
pub use users::{UserReport, UserRestoreFailure, UserRestoreOptions, restore_users};
pub use verify::{Verification, check, verify};
pub use wanted::check_renames;
pub use world::{Counter, Meter, Stop, World};
