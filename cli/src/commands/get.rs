//! `firebackup get`: one document of a snapshot, or as it was at a moment, read with few requests.

use std::sync::Arc;

use clap::Args;
use firebackup_codec::typed_json::write_json;
use firebackup_engine::{Found, Meter, Origin, Repository, as_reported, lookup, lookup_at};
use firebackup_model::id::SnapshotId;
use firebackup_model::{DocumentPath, Timestamp};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::context::{Context, LATEST};
use crate::counting_store::CountingStore;
use crate::error::{CliError, Result};
use crate::exit::Exit;
use crate::json_indent::indent;
use crate::units::{bytes, of};

/// Examples for the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  firebackup get users/alice --repo file:///srv/backups --master-key-file master.key
  firebackup get users/alice --at 2026-11-24T10:15:03Z --repo file:///srv/backups --master-key-file master.key
  firebackup get users/alice --at 2026-11-24T10:15:03.5Z --reported --repo s3://bucket/prod
  firebackup get users/alice/orders/1 --at bkp_01K --repo file:///srv/backups --master-key-file master.key";

/// Which document.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The document: `users/alice`
    #[arg(value_name = "PATH")]
    path: String,
    /// The snapshot (its id, the beginning of it, or `latest`), or a time, from captured changes: 2026-11-24T10:15:03Z
    #[arg(long, value_name = "SNAPSHOT|TIME", default_value = LATEST)]
    at: String,
    /// As events told that it was at the time of --at, also between two consistent points
    #[arg(long, requires = "at")]
    reported: bool,
}

#[derive(Serialize)]
struct Got {
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<String>,
    /// Whether an event told of it, and nothing else.
    reported: bool,
    /// The consistent point that was taken, where a time was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<Timestamp>,
    path: String,
    read_time: Option<String>,
    update_time: Option<String>,
    document: Box<RawValue>,
    run_bytes_read: u64,
    bytes_read: u64,
    requests: u64,
}

/// Prints the document as Firestore's own typed JSON.
///
/// # Errors
/// When the snapshot does not hold it.
pub(crate) async fn run(context: &Context, args: GetArgs) -> Result<Exit> {
    let path = DocumentPath::new(args.path.as_str()).map_err(|error| CliError::Usage(error.to_string()))?;
    let store = Arc::new(CountingStore::new(context.destination()?.store()));
    let repository = context.repository_in(store.clone()).await?;
    let meter = Arc::new(Meter::default());
    let looked_up = match args.reported {
        true => look_up_reported(context, &repository, &args.at, &path, &meter).await?,
        false => look_up(context, &repository, &args.at, &path, &meter).await?,
    };
    let name = looked_up.name();
    let found = looked_up.found.ok_or_else(|| CliError::NotFound(format!("`{path}` is not in {name}")))?;
    let mut json = Vec::new();
    write_json(&found.document, &mut json).map_err(|source| CliError::Show { path: path.to_string(), source })?;
    let text = String::from_utf8_lossy(&indent(&json)).into_owned();
    let got = Got {
        snapshot: looked_up.snapshot.map(|snapshot| snapshot.to_string()),
        reported: looked_up.is_reported,
        at: looked_up.moment.map(|(at, _)| at),
        asked: looked_up.moment.map(|(_, asked)| asked),
        path: path.to_string(),
        read_time: found.read_time.map(|time| time.to_string()),
        update_time: found.update_time.map(|time| time.to_string()),
        document: serde_json::from_slice(&json).map_err(|error| CliError::Output(error.into()))?,
        run_bytes_read: meter.stored.get(),
        bytes_read: store.bytes(),
        requests: store.requests(),
    };
    context.output.result(&got, &text)?;
    context.output.note(&format!(
        "{name}: read {} of its runs, {} in all with keys and manifest, in {}",
        bytes(got.run_bytes_read),
        bytes(got.bytes_read),
        of(got.requests, "request")
    ));
    Ok(Exit::Done)
}

/// Where a document was looked for, and what was found.
struct LookedUp {
    /// Nothing where it was not looked for in one.
    snapshot: Option<SnapshotId>,
    is_reported: bool,
    /// The moment that was taken, and the time that was asked for.
    moment: Option<(Timestamp, Timestamp)>,
    found: Option<Found>,
}

impl LookedUp {
    fn name(&self) -> String {
        match (self.moment, &self.snapshot) {
            (Some((at, _)), _) if self.is_reported => format!("what was reported of {at}"),
            (Some((at, _)), _) => format!("the database as of {at}"),
            (None, snapshot) => snapshot.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

async fn look_up(
    context: &Context,
    repository: &Repository,
    at: &str,
    path: &DocumentPath,
    meter: &Arc<Meter>,
) -> Result<LookedUp> {
    let Some(asked) = asked(at)? else {
        let snapshot = context.snapshot_to_use(repository, at).await?;
        let (manifest, _) = repository.manifest(&snapshot).await?;
        let found = lookup(repository, &manifest, path, meter).await?;
        return Ok(LookedUp { snapshot: Some(snapshot), is_reported: false, moment: None, found });
    };
    let database = context.database_in(repository).await?;
    let (moments, moment) = context.moment(repository, &database, asked, false).await?;
    let found = lookup_at(repository, &moments, &moment, path, meter).await?;
    let (snapshot, moment) = (Some(moment.base), Some((moment.point, asked)));
    Ok(LookedUp { snapshot, is_reported: false, moment, found })
}

/// The time that is meant; nothing where a snapshot is.
fn asked(at: &str) -> Result<Option<Timestamp>> {
    match at.parse::<Timestamp>() {
        Ok(asked) => Ok(Some(asked)),
        Err(error) if looks_like_a_time(at) => Err(CliError::Usage(format!("--at: {error}"))),
        Err(_) => Ok(None),
    }
}

/// Whether somebody meant a time: no snapshot's name begins with a year.
pub(crate) fn looks_like_a_time(at: &str) -> bool {
    at.split_once('-').is_some_and(|(year, _)| year.len() == 4 && year.bytes().all(|digit| digit.is_ascii_digit()))
}

async fn look_up_reported(
    context: &Context,
    repository: &Repository,
    at: &str,
    path: &DocumentPath,
    meter: &Arc<Meter>,
) -> Result<LookedUp> {
    let asked = asked(at)?
        .ok_or_else(|| CliError::Usage(format!("--reported is of a time, and `{at}` is none: 2026-11-24T10:15:03Z")))?;
    let database = context.database_in(repository).await?;
    let version = as_reported(repository, &database, path, asked, meter).await?;
    let (update_time, read_time) = (version.update_time, Some(version.point));
    let is_reported = version.origin == Origin::Reported;
    let moment = Some((version.time(), asked));
    let found = version.document.map(|document| Found { document, update_time, read_time });
    Ok(LookedUp { snapshot: None, is_reported, moment, found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_a_zone_is_no_snapshot() {
        for time in ["2026-11-24T10:15:03", "2026-11-24", "2026-11-24 10:15"] {
            assert!(time.parse::<Timestamp>().is_err() && looks_like_a_time(time), "{time}");
            assert_eq!(asked(time).unwrap_err().kind(), "usage", "{time}");
        }
        let leap = asked("2026-06-30T23:59:60Z").unwrap_err().to_string();
        assert!(leap.contains("--at") && leap.contains("seconds go from 00 to 59"), "{leap}");
        for name in ["latest", "bkp_01K", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "2026"] {
            assert!(!looks_like_a_time(name), "{name}");
            assert_eq!(asked(name).unwrap(), None, "{name}");
        }
    }
}
