//! `firebackup prune`: drops old snapshots, and deletes what nothing refers to any more.

use std::time::Duration;

use clap::Args;
use firebackup_bootstrap::buckets::kept_versions;
use firebackup_engine::{FOLDERS, GRACE_SECONDS, PrunePolicy, PruneReport, prune, prune_versions};
use firebackup_model::Generations;
use firebackup_model::id::SnapshotId;
use firebackup_storage::Staging;
use serde::Serialize;

use crate::confirm::confirm;
use crate::context::Context;
use crate::error::Result;
use crate::exit::Exit;
use crate::units::{bytes, of};

/// Examples for the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  firebackup prune --keep-last 30 --dry-run --repo file:///srv/backups --master-key-file master.key
  firebackup prune --keep-days 90 --keep-last 10 --repo s3://bucket/prod --master-key-file master.key
  firebackup prune --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --repo s3://bucket/prod --master-key-file master.key
  firebackup prune --drop bkp_01ARZ3NDEKTSV4RRFFQ69G5FAV --repo file:///srv/backups --master-key-file master.key";

/// What is kept.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Keep so many of the newest backups of each database and selection, by the moment they hold; of several options, what any of them keeps stays
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    keep_last: Option<u64>,
    /// Keep backups of moments younger than so many days
    #[arg(long, value_name = "DAYS")]
    keep_days: Option<u32>,
    /// Keep the newest backup of each of the last N days (in UTC, by the moment it holds) in which there is one, of each database and selection
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    keep_daily: Option<u32>,
    /// The same for weeks, which begin on Monday (ISO 8601)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    keep_weekly: Option<u32>,
    /// The same for months
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    keep_monthly: Option<u32>,
    /// The same for years; without any of these six options all backups are kept
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    keep_yearly: Option<u32>,
    /// Keep what restores replaced for so many days
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    keep_undo_days: u32,
    /// Keep every captured moment of so many days, and the backups that they build on, whatever the rest says
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    keep_moments_days: u32,
    /// Drop this snapshot (repeatable), whatever the policy keeps, and even when it is damaged
    #[arg(long = "drop", value_name = "SNAPSHOT")]
    drop: Vec<SnapshotId>,
    /// Do not ask before snapshots that were named are dropped
    #[arg(long, short)]
    yes: bool,
    /// No other job runs on this repository: delete at once, and give unfinished backups up
    #[arg(long)]
    exclusive: bool,
    /// Say what would happen, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl PruneArgs {
    fn generations(&self) -> Generations {
        Generations {
            daily: self.keep_daily.unwrap_or_default(),
            weekly: self.keep_weekly.unwrap_or_default(),
            monthly: self.keep_monthly.unwrap_or_default(),
            yearly: self.keep_yearly.unwrap_or_default(),
        }
    }
}

#[derive(Serialize)]
struct Pruned<'r> {
    #[serde(flatten)]
    report: &'r PruneReport,
    staging_files: u64,
    staging_bytes: u64,
}

/// Prunes.
///
/// # Errors
/// When anything that may refer to something cannot be read: then nothing is deleted.
pub(crate) async fn run(context: &Context, args: PruneArgs) -> Result<Exit> {
    let destination = context.destination()?;
    let repository = context.repository_in(destination.store()).await?;
    if !args.drop.is_empty() && !args.dry_run {
        let ids: Vec<_> = args.drop.iter().map(SnapshotId::as_str).collect();
        confirm(context, &format!("This drops {} for good", ids.join(", ")), args.yes).await?;
    }
    let policy = PrunePolicy {
        keep_last: args.keep_last.map(|last| usize::try_from(last).unwrap_or(usize::MAX)),
        keep_days: args.keep_days,
        keep_generations: args.generations(),
        keep_undo_days: args.keep_undo_days,
        keep_moments_days: args.keep_moments_days,
        drop: args.drop,
        exclusive: args.exclusive,
        dry_run: args.dry_run,
        only: None,
    };
    let report = match kept_versions(&destination, &context.settings.storage).await? {
        Some(versions) => prune_versions(&repository, &policy, &versions).await?,
        None => prune(&repository, &policy).await?,
    };
    let age = Duration::from_secs(if policy.exclusive { 0 } else { GRACE_SECONDS.unsigned_abs() });
    let staging = destination.remove_staging(FOLDERS, age, policy.dry_run).await?;
    let pruned = Pruned { report: &report, staging_files: staging.files, staging_bytes: staging.bytes };
    context.output.result(&pruned, &text(&report, &staging, &policy))?;
    Ok(Exit::Done)
}

fn text(report: &PruneReport, staging: &Staging, policy: &PrunePolicy) -> String {
    let would = if policy.dry_run { "would be " } else { "" };
    let mut lines = Vec::new();
    for id in &report.dropped {
        lines.push(format!("{id}  {would}dropped"));
    }
    for job in &report.abandoned {
        lines.push(format!("{job}  unfinished, {would}given up"));
    }
    lines.push(format!("{} {would}dropped, {} kept", of(report.dropped.len() as u64, "snapshot"), report.kept));
    if report.segments_dropped + report.segments_kept > 0 {
        lines.push(format!(
            "{} of captured changes {would}dropped, {} kept",
            of(report.segments_dropped, "segment"),
            report.segments_kept
        ));
    }
    for moments in report.moments.iter().filter(|moments| moments.from_after != Some(moments.from_before)) {
        let (database, from) = (&moments.database, moments.from_before);
        let stays = match moments.from_after {
            Some(oldest) => format!("the oldest that stays is {oldest}"),
            None => "none stays".to_owned(),
        };
        lines.push(format!("captured moments of {database} from {from} on {would}dropped; {stays}"));
    }
    if report.reported_dropped + report.reported_kept > 0 {
        lines.push(format!(
            "{} of reported versions {would}dropped, {} kept",
            of(report.reported_dropped, "manifest"),
            report.reported_kept
        ));
    }
    if report.drills_deleted > 0 {
        lines.push(format!("{} of drills {would}deleted", of(report.drills_deleted, "report")));
    }
    if report.deleted > 0 {
        lines.push(format!("{} ({}) {would}deleted", of(report.deleted, "object"), bytes(report.deleted_bytes)));
    }
    if report.marked > 0 {
        lines.push(format!(
            "{} ({}) {would}marked: a prune in {} hours or later deletes what is still not needed then",
            of(report.marked, "object"),
            bytes(report.marked_bytes),
            GRACE_SECONDS / 3600
        ));
    }
    for id in &report.locked {
        lines.push(format!("{id}  is locked and stays"));
    }
    for id in &report.needed {
        lines.push(format!("{id}  is what other backups or captured moments build on, and stays"));
    }
    if report.locked_objects > 0 {
        lines.push(format!(
            "{} locked: a prune deletes them when their locks have ended",
            of(report.locked_objects, "object")
        ));
    }
    if staging.files > 0 {
        lines.push(format!(
            "{} ({}) that killed writers left {would}removed",
            of(staging.files, "file"),
            bytes(staging.bytes)
        ));
    }
    if report.deleted == 0 && report.marked == 0 && staging.files == 0 {
        lines.push(format!("nothing {}", if policy.dry_run { "would be deleted" } else { "to delete" }));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use firebackup_engine::MomentsKept;
    use firebackup_model::{DatabaseName, Timestamp};

    fn parse(line: &str) -> Result<PruneArgs, clap::Error> {
        Cli::arguments("prune", line)
    }

    #[test]
    fn each_period_has_a_number_of_its_own() {
        let all = parse("--keep-daily 7 --keep-weekly 5 --keep-monthly 12 --keep-yearly 36500").unwrap();
        assert_eq!(all.generations(), Generations { daily: 7, weekly: 5, monthly: 12, yearly: 36_500 });
        let weeks = parse("--keep-weekly 1 --keep-last 3").unwrap();
        assert_eq!(weeks.generations(), Generations { weekly: 1, ..Generations::default() });
        assert!(parse("--keep-last 3").unwrap().generations().is_empty());
    }

    #[test]
    fn moments_that_go_are_told_and_those_that_all_stay_are_not() {
        let moment = |seconds: i64| Timestamp::new(1_700_000_000 + seconds, 0);
        let told = |from_after| {
            let database = DatabaseName::new("shop", "(default)");
            let moments = vec![MomentsKept { database, from_before: moment(0), from_after }];
            let report = PruneReport { moments, ..PruneReport::default() };
            let policy = PrunePolicy { dry_run: true, ..PrunePolicy::default() };
            text(&report, &Staging::default(), &policy)
        };
        let from = "captured moments of shop/(default) from 2023-11-14T22:13:20Z on would be dropped";
        assert!(told(Some(moment(60))).contains(&format!("{from}; the oldest that stays is 2023-11-14T22:14:20Z")));
        assert!(told(None).contains(&format!("{from}; none stays")));
        assert!(!told(Some(moment(0))).contains("moments"));
    }

    #[test]
    fn the_number_of_each_period_is_1_to_36500() {
        for period in ["daily", "weekly", "monthly", "yearly"] {
            for number in ["0", "36501", "-1", "all"] {
                assert!(parse(&format!("--keep-{period}={number}")).is_err(), "{period} {number}");
            }
        }
    }
}
