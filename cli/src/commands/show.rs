//! `firebackup show`: everything that a snapshot's manifest says.

use clap::Args;
use firebackup_engine::ProvenOrigin;
use firebackup_model::manifest::{AuthUsers, Consistency, Manifest};
use serde::Serialize;

use crate::commands::list::kind_name;
use crate::context::{Context, LATEST};
use crate::error::Result;
use crate::exit::Exit;
use crate::output::Output;
use crate::selection_args::describe;
use crate::table::{pairs, table};
use crate::units::{bytes, count, moment, of, seconds, smaller};

/// Examples for the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  firebackup show latest --repo file:///srv/backups --master-key-file master.key
  firebackup show bkp_01K --json --repo file:///srv/backups --master-key-file master.key";

/// Which snapshot.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The snapshot: its id, the beginning of it, or `latest`
    #[arg(value_name = "SNAPSHOT", default_value = LATEST)]
    snapshot: String,
}

#[derive(Serialize)]
struct Shown<'m> {
    #[serde(flatten)]
    manifest: &'m Manifest,
    origin_proven: bool,
    writer_key: Option<String>,
}

/// Shows the snapshot.
///
/// # Errors
/// When there is no such snapshot.
pub(crate) async fn run(context: &Context, args: ShowArgs) -> Result<Exit> {
    let repository = context.repository().await?;
    let id = context.snapshot(&repository, &args.snapshot).await?;
    let (manifest, origin) = repository.manifest(&id).await?;
    let writer_key = match &origin {
        ProvenOrigin::Proven(key) => Some(key.to_string()),
        ProvenOrigin::NotProven => None,
    };
    let text = text(&context.output, &manifest, writer_key.as_deref());
    context.output.result(&Shown { manifest: &manifest, origin_proven: writer_key.is_some(), writer_key }, &text)?;
    Ok(Exit::Done)
}

/// A manifest for people.
pub(crate) fn text(output: &Output, manifest: &Manifest, writer_key: Option<&str>) -> String {
    let mut text = format!("{}\n", output.bold(&manifest.id.to_string()));
    text.push_str(&pairs([
        ("kind", kind_name(manifest.kind).to_owned()),
        ("database", manifest.source.to_string()),
        ("selection", describe(&manifest.selection)),
        ("consistency", consistency(manifest)),
        ("documents", documents(manifest)),
        ("stored", stored(manifest)),
        ("compression", compression(manifest)),
        ("reads", format!("{} billed", count(manifest.reads))),
        ("encryption", manifest.key.map_or_else(|| "none".to_owned(), |key| format!("AES-256-GCM, data key {key}"))),
        ("origin", writer_key.map_or_else(|| "not proven".to_owned(), |key| format!("proven: writer {key}"))),
        ("made", made(manifest)),
    ]));
    text.push_str(&format!("\n\n{}", collections(manifest)));
    if let Some(auth) = &manifest.auth {
        text.push_str(&format!("\n\n{}", users(auth)));
    }
    if !manifest.runs.is_empty() {
        text.push_str(&format!("\n\n{}", runs(manifest)));
    }
    text
}

fn consistency(manifest: &Manifest) -> String {
    let times: Vec<String> = manifest.read_times.iter().map(ToString::to_string).collect();
    match (manifest.consistency, times.as_slice()) {
        (_, []) => "no read time".to_owned(),
        (Consistency::Snapshot, [time, ..]) => format!("snapshot: all documents as of {time}"),
        (Consistency::Ranged, times) => format!("ranged: each run at its own read time: {}", times.join(", ")),
    }
}

fn documents(manifest: &Manifest) -> String {
    let totals = manifest.totals;
    let deletions =
        if totals.deletions > 0 { format!(", {}", of(totals.deletions, "tombstone")) } else { String::new() };
    format!("{}, {}{deletions}", count(totals.documents), bytes(totals.bytes))
}

fn stored(manifest: &Manifest) -> String {
    let smaller = smaller(manifest.totals.bytes, manifest.stored_bytes).map(|text| format!(" ({text})"));
    let runs = of(manifest.all_runs().count() as u64, "run");
    format!("{} in {runs}{}", bytes(manifest.stored_bytes), smaller.unwrap_or_default())
}

/// How blocks were compressed: what was asked for and what it came to.
pub(crate) fn compression(manifest: &Manifest) -> String {
    let levels: Vec<_> =
        manifest.levels.iter().map(|(level, blocks)| format!("{} {level}", of(*blocks, "block"))).collect();
    let used = if levels.is_empty() { String::new() } else { format!(" ({})", levels.join(", ")) };
    format!("{}{used}", manifest.compression)
}

fn made(manifest: &Manifest) -> String {
    let took = seconds(manifest.finished.seconds_since(manifest.started));
    format!("{}, in {took}, by firebackup {}", moment(manifest.started), manifest.tool)
}

fn collections(manifest: &Manifest) -> String {
    let rows = manifest.collections.iter().map(|(group, counts)| {
        vec![group.clone(), count(counts.documents), count(counts.deletions), bytes(counts.bytes)]
    });
    table(&["COLLECTION GROUP", "DOCUMENTS", "TOMBSTONES", "SIZE"], &["DOCUMENTS", "TOMBSTONES", "SIZE"], rows)
}

fn users(auth: &AuthUsers) -> String {
    let redacted = match auth.redacted {
        0 => "all with their password hashes".to_owned(),
        redacted => format!("{} without a password hash (the credential may not read them)", count(redacted)),
    };
    let tenants = if auth.tenants.is_empty() { "none".to_owned() } else { auth.tenants.join(", ") };
    let parameters = if auth.hash_config.is_some() { "kept" } else { "not readable with the credential" };
    pairs([
        ("Auth users", format!("{}, {redacted}", count(auth.users))),
        ("  listed", format!("from {} to {}", moment(auth.listed_from), moment(auth.listed_until))),
        ("  tenants", tenants),
        ("  hash parameters", parameters.to_owned()),
    ])
}

fn runs(manifest: &Manifest) -> String {
    const MOST: usize = 20;
    let rows = manifest.runs.iter().take(MOST).map(|run| {
        let read_time = run.read_time.map_or_else(|| "–".to_owned(), |time| time.to_string());
        let paths = format!("{} … {}", shorter(run.first.as_str()), shorter(run.last.as_str()));
        vec![run.id.to_string(), count(run.records), count(run.blocks), bytes(run.size), read_time, paths]
    });
    let header = ["RUN", "RECORDS", "BLOCKS", "SIZE", "READ TIME", "PATHS"];
    let mut text = table(&header, &["RECORDS", "BLOCKS", "SIZE"], rows);
    if manifest.runs.len() > MOST {
        text.push_str(&format!("\n… and {} (all with --json)", of((manifest.runs.len() - MOST) as u64, "more run")));
    }
    text
}

/// A path that fits into a table.
fn shorter(path: &str) -> String {
    const MOST: usize = 40;
    if path.chars().count() <= MOST { path.to_owned() } else { path.chars().take(MOST - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_are_cut_between_characters() {
        assert_eq!(shorter("users/alice"), "users/alice");
        let cut = shorter(&"ü".repeat(100));
        assert_eq!(cut.chars().count(), 40);
        assert!(cut.ends_with('…'));
    }
}
