//! `firebackup diff`: what changed between two moments.

use std::sync::Arc;

use clap::Args;
use firebackup_engine::{
    Change, ChangeCounts, Contents, Difference, Meter, Moment, Moments, Repository, Sample, diff, nothing_fits,
};
use firebackup_model::manifest::Manifest;
use firebackup_model::{DatabaseName, DocumentPath, Selection, Timestamp};
use serde::Serialize;

use super::get::looks_like_a_time;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit::Exit;
use crate::progress::{Activity, Progress};
use crate::selection_args::CollectionArgs;
use crate::table::{printable, table};
use crate::units::{count, of};

/// Examples for the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  firebackup diff latest live --repo file:///srv/backups --master-key-file master.key
  firebackup diff --from 2026-11-24T10:00:00Z --to 2026-11-24T10:15:03Z --repo file:///srv/backups --master-key-file master.key
  firebackup diff bkp_01K1 bkp_01K2 --documents --collection users --repo file:///srv/backups --master-key-file master.key";

/// The word for the database as it is now.
const LIVE: &str = "live";

/// What is compared.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// Before: a snapshot (id, beginning of an id, or `latest`), `live`, or a time
    #[arg(value_name = "A", required_unless_present_any = ["from", "to"])]
    before: Option<String>,
    /// After: a snapshot, `live` for the database as it is now, or a time
    #[arg(value_name = "B", required_unless_present_any = ["from", "to"])]
    after: Option<String>,
    /// Before, as A: a time, from captured changes, such as 2026-11-24T10:15:03Z
    #[arg(long, value_name = "A", conflicts_with_all = ["before", "after"])]
    from: Option<String>,
    /// After, as B
    #[arg(long, value_name = "B", conflicts_with_all = ["before", "after"])]
    to: Option<String>,
    /// List every document that differs
    #[arg(long, visible_alias = "document")]
    documents: bool,
    /// End with 3 when something differs
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    collections: CollectionArgs,
}

/// A side of the comparison.
enum Side {
    Live,
    Snapshot(Box<Manifest>),
    Moment(Box<(Moments, Moment)>),
}

/// A side as it was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Live,
    At(Timestamp),
    Snapshot(String),
}

#[derive(Serialize)]
struct Compared {
    before: String,
    after: String,
    #[serde(flatten)]
    difference: Difference,
    /// Patterns that fit no document on either side.
    unmatched: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    documents: Option<Vec<Sample>>,
}

/// Compares.
///
/// # Errors
/// When a side cannot be read, or both are the live database.
pub(crate) async fn run(context: &Context, args: DiffArgs) -> Result<Exit> {
    let (before, after) = named(&args)?;
    let (before, after) = (asked(before)?, asked(after)?);
    let repository = context.repository().await?;
    let (before, after) = sides(context, &repository, before, after).await?;
    let selection = selection(&args.collections, &before, &after)?;
    let meter = Arc::new(Meter::default());
    let (mut left, before_name) = open(context, &repository, &before, &after, &selection, &meter).await?;
    let (mut right, after_name) = open(context, &repository, &after, &before, &selection, &meter).await?;
    let progress = Progress::show(&context.output, Activity::Read, &meter);
    let mut documents = Vec::new();
    let lists = args.documents;
    let difference = diff(&mut left, &mut right, 20, |path: &DocumentPath, change| {
        if lists {
            documents.push(Sample { path: path.to_string(), change });
        }
    })
    .await?;
    drop(progress);
    if difference.collections.is_empty() && !args.collections.is_everything() {
        return Err(nothing_fits(&selection, &format!("{before_name} and {after_name}")).into());
    }
    let right_unmatched = right.unmatched();
    let unmatched: Vec<_> = left.unmatched().into_iter().filter(|pattern| right_unmatched.contains(pattern)).collect();
    context.warn_unmatched(&unmatched);
    let text =
        text(context, &before_name, &after_name, &difference, if lists { &documents } else { &difference.samples });
    let same = difference.totals.nothing_differs();
    let documents = lists.then_some(documents);
    let compared = Compared { before: before_name, after: after_name, difference, unmatched, documents };
    context.output.result(&compared, &text)?;
    Ok(if args.exit_code && !same { Exit::Partial } else { Exit::Done })
}

/// What was named, before and after: in their places, or by options, of which one alone would leave the other side open.
fn named(args: &DiffArgs) -> Result<(&str, &str)> {
    let before = args.from.as_deref().or(args.before.as_deref());
    let after = args.to.as_deref().or(args.after.as_deref());
    before.zip(after).ok_or_else(|| {
        CliError::Usage("--from and --to go together: give both, such as --from latest --to live".to_owned())
    })
}

async fn sides(context: &Context, repository: &Repository, before: Asked, after: Asked) -> Result<(Side, Side)> {
    // a time that is compared with a snapshot is one of the same database
    match (&before, &after) {
        (Asked::At(_), _) => {
            let after = side(context, repository, after, None).await?;
            Ok((side(context, repository, before, Some(&after)).await?, after))
        }
        _ => {
            let before = side(context, repository, before, None).await?;
            let after = side(context, repository, after, Some(&before)).await?;
            Ok((before, after))
        }
    }
}

fn asked(text: &str) -> Result<Asked> {
    match text.parse::<Timestamp>() {
        Ok(at) => Ok(Asked::At(at)),
        Err(_) if text == LIVE => Ok(Asked::Live),
        Err(error) if looks_like_a_time(text) => Err(CliError::Usage(error.to_string())),
        Err(_) => Ok(Asked::Snapshot(text.to_owned())),
    }
}

async fn side(context: &Context, repository: &Repository, asked: Asked, other: Option<&Side>) -> Result<Side> {
    match asked {
        Asked::Live => Ok(Side::Live),
        Asked::Snapshot(text) => {
            let id = context.snapshot_to_use(repository, &text).await?;
            Ok(Side::Snapshot(Box::new(repository.manifest(&id).await?.0)))
        }
        Asked::At(at) => {
            let database = match other.and_then(Side::source) {
                Some(source) => source.clone(),
                None => context.database_in(repository).await?,
            };
            Ok(Side::Moment(Box::new(context.moment(repository, &database, at, false).await?)))
        }
    }
}

impl Side {
    /// The database; nothing of what is live, which is that of the other side.
    fn source(&self) -> Option<&DatabaseName> {
        match self {
            Self::Live => None,
            Self::Snapshot(manifest) => Some(&manifest.source),
            Self::Moment(moment) => Some(moment.0.database()),
        }
    }
}

/// What both sides can say something of: a snapshot of some collections says nothing of the others.
fn selection(asked: &CollectionArgs, before: &Side, after: &Side) -> Result<Selection> {
    let partial = |side: &Side| match side {
        Side::Snapshot(manifest) if !manifest.selection.is_everything() => Some(manifest.selection.clone()),
        Side::Live | Side::Moment(_) | Side::Snapshot(_) => None,
    };
    match (asked.is_everything(), partial(before), partial(after)) {
        (false, _, _) | (true, None, None) => asked.selection(),
        (true, Some(one), Some(other)) if one != other => Err(CliError::Refused(
            "the two snapshots hold different selections: say with --collection what to compare".to_owned(),
        )),
        (true, Some(one), _) | (true, None, Some(one)) => Ok(one),
    }
}

async fn open(
    context: &Context,
    repository: &Repository,
    side: &Side,
    other: &Side,
    selection: &Selection,
    meter: &Arc<Meter>,
) -> Result<(Contents, String)> {
    match (side, other.source()) {
        (Side::Snapshot(manifest), _) => {
            let contents = Contents::of_snapshot(repository, &manifest.id, selection, meter).await?;
            Ok((contents, manifest.id.to_string()))
        }
        (Side::Moment(side), _) => {
            let (moments, moment) = &**side;
            let contents = Contents::of_moment(repository, moments, moment, selection, meter)?;
            Ok((contents, format!("{} as of {}", moments.database(), moment.point)))
        }
        (Side::Live, Some(database)) => {
            let source = context.source(database).await?;
            let at = source.snapshot_time().await?;
            let contents = Contents::of_database(source, at, selection, repository.world(), meter)?;
            Ok((contents, format!("{database} as of {at}")))
        }
        (Side::Live, None) => Err(CliError::Usage("one side must be a snapshot or a time".to_owned())),
    }
}

fn text(context: &Context, before: &str, after: &str, difference: &Difference, documents: &[Sample]) -> String {
    let mut text = format!("{} {before}\n{} {after}\n\n", context.output.dim("from"), context.output.dim("to  "));
    text.push_str(&counts(difference));
    if difference.totals.nothing_differs() {
        text.push_str("\n\nNothing differs.");
        return text;
    }
    text.push_str("\n\n");
    text.push_str(&samples(documents));
    let totals = difference.totals;
    let left = (totals.created + totals.updated + totals.deleted).saturating_sub(documents.len() as u64);
    if left > 0 {
        text.push_str(&format!("\n… and {} more (all with --documents)", count(left)));
    }
    text
}

/// Counts for each collection group in which something differs, and for all together.
pub(crate) fn counts(difference: &Difference) -> String {
    let numbers = ["CREATED", "UPDATED", "DELETED", "SAME"];
    let header = ["COLLECTION GROUP", "CREATED", "UPDATED", "DELETED", "SAME"];
    let row = |name: &str, counts: &ChangeCounts| {
        let numbers = [counts.created, counts.updated, counts.deleted, counts.same].map(count);
        std::iter::once(name.to_owned()).chain(numbers).collect::<Vec<_>>()
    };
    let changed: Vec<_> = difference.collections.iter().filter(|(_, counts)| !counts.nothing_differs()).collect();
    let unchanged = difference.collections.len() - changed.len();
    let mut rows: Vec<_> = changed.into_iter().map(|(group, counts)| row(group, counts)).collect();
    if unchanged > 0 {
        let same = difference.collections.values().filter(|counts| counts.nothing_differs()).map(|counts| counts.same);
        let same = ChangeCounts { same: same.sum(), ..ChangeCounts::default() };
        rows.push(row(&format!("({} unchanged)", of(unchanged as u64, "group")), &same));
    }
    rows.push(row("(all)", &difference.totals));
    table(&header, &numbers, rows)
}

/// Documents that differ, a line each: `+` created, `~` updated, `-` deleted.
pub(crate) fn samples(samples: &[Sample]) -> String {
    let lines: Vec<String> =
        samples.iter().map(|sample| format!("{} {}", sign(sample.change), printable(&sample.path))).collect();
    lines.join("\n")
}

const fn sign(change: Change) -> char {
    match change {
        Change::Created => '+',
        Change::Deleted => '-',
        Change::Updated => '~',
        Change::Same => '=',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;

    #[test]
    fn both_sides_are_named_in_their_places_or_both_by_options() {
        let parse = |line: &str| Cli::arguments::<DiffArgs>("diff", line);
        for (line, expected) in [("latest live", ("latest", "live")), ("--to live --from latest", ("latest", "live"))] {
            assert_eq!(named(&parse(line).unwrap()).unwrap(), expected, "{line}");
        }
        for half in ["--from latest", "--to live"] {
            let refused = named(&parse(half).unwrap()).unwrap_err();
            assert_eq!(refused.kind(), "usage", "{half}");
            assert!(refused.to_string().contains("--from and --to go together"), "{refused}");
        }
        for bad in ["", "latest", "--from latest live", "latest --to live", "latest live --from latest"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_side_is_a_time_a_snapshot_or_the_database_and_half_a_time_is_none() {
        assert_eq!(asked("live").unwrap(), Asked::Live);
        let time = "2026-11-24T10:00:00Z";
        assert_eq!(asked(time).unwrap(), Asked::At(time.parse().unwrap()));
        for name in ["latest", "bkp_01K1", "rst_01K1", "2026"] {
            assert_eq!(asked(name).unwrap(), Asked::Snapshot(name.to_owned()));
        }
        for wrong in ["2026-11-24T10:00:00", "2026-13-01T00:00:00Z", "2026-11-24"] {
            let refused = asked(wrong).unwrap_err();
            assert_eq!(refused.kind(), "usage", "{refused}");
            assert!(refused.to_string().contains("with a time zone"), "{refused}");
        }
        let leap = asked("2026-06-30T23:59:60Z").unwrap_err().to_string();
        assert!(leap.contains("seconds go from 00 to 59"), "{leap}");
    }
}
