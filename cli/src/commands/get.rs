//! `firebackup get`: one document of a snapshot, read with few requests.

use std::sync::Arc;

use clap::Args;
use firebackup_codec::typed_json::write_json;
use firebackup_engine::{Meter, lookup};
use firebackup_model::DocumentPath;
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
  firebackup get users/alice/orders/1 --at bkp_01K --repo file:///srv/backups --master-key-file master.key";

/// Which document.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The document: `users/alice`
    #[arg(value_name = "PATH")]
    path: String,
    /// The snapshot: its id, the beginning of it, or `latest`
    #[arg(long, value_name = "SNAPSHOT", default_value = LATEST)]
    at: String,
}

#[derive(Serialize)]
struct Got {
    snapshot: String,
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
    let id = context.snapshot_to_use(&repository, &args.at).await?;
    let (manifest, _) = repository.manifest(&id).await?;
    let meter = Arc::new(Meter::default());
    let found = lookup(&repository, &manifest, &path, &meter).await?;
    let found = found.ok_or_else(|| CliError::NotFound(format!("`{path}` is not in {id}")))?;
    let mut json = Vec::new();
    write_json(&found.document, &mut json).map_err(|source| CliError::Show { path: path.to_string(), source })?;
    let text = String::from_utf8_lossy(&indent(&json)).into_owned();
    let got = Got {
        snapshot: id.to_string(),
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
        "{id}: read {} of its runs, {} in all with keys and manifest, in {}",
        bytes(got.run_bytes_read),
        bytes(got.bytes_read),
        of(got.requests, "request")
    ));
    Ok(Exit::Done)
}
