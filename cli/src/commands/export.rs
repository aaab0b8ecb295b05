//! `firebackup export`: a snapshot's documents as JSON, one a line.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use firebackup_codec::typed_json::write_json;
use firebackup_engine::{Contents, Meter, nothing_fits};
use serde::Serialize;

use crate::context::{Context, LATEST};
use crate::error::{CliError, Result};
use crate::exit::Exit;
use crate::output::ended_by_reader;
use crate::progress::{Activity, Progress};
use crate::selection_args::{CollectionArgs, PathArgs};
use crate::units::{bytes, of};

/// Examples for the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  firebackup export --output users.ndjson --collection users --repo file:///srv/backups --master-key-file master.key
  firebackup export --repo file:///srv/backups --master-key-file master.key | jq .name";

/// What is exported, and where to.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The snapshot: its id, the beginning of it, or `latest`
    #[arg(long, value_name = "SNAPSHOT", default_value = LATEST)]
    snapshot: String,
    /// The file to write, replaced when all is written; else standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    collections: CollectionArgs,
    #[command(flatten)]
    paths: PathArgs,
}

#[derive(Debug, Default, Serialize)]
struct Exported {
    snapshot: String,
    output: Option<PathBuf>,
    documents: u64,
    bytes: u64,
    failed: u64,
    problems: Vec<String>,
    /// Patterns that fit no document.
    unmatched: Vec<String>,
    /// Documents and tombstones seen.
    #[serde(skip)]
    items: u64,
}

/// How many problems are kept.
const MAX_PROBLEMS: usize = 100;

/// Exports. A document that JSON cannot hold is told and left out, and the command ends with 3.
///
/// # Errors
/// When the snapshot cannot be read or the output not written.
pub(crate) async fn run(context: &Context, args: ExportArgs) -> Result<Exit> {
    if context.output.is_json() && args.output.is_none() {
        return Err(CliError::Usage(
            "with --json standard output is one JSON document: give --output FILE for the documents".to_owned(),
        ));
    }
    let selection = args.collections.with_paths(&args.paths)?;
    let repository = context.repository().await?;
    let id = context.snapshot(&repository, &args.snapshot).await?;
    let meter = Arc::new(Meter::default());
    let mut contents = Contents::of_snapshot(&repository, &id, &selection, &meter).await?;
    let progress = Progress::show(&context.output, Activity::Read, &meter);
    let mut exported = Exported { snapshot: id.to_string(), output: args.output.clone(), ..Exported::default() };
    let partial = args.output.as_deref().map(Partial::create).transpose()?;
    match &partial {
        None => {
            let stdout = BufWriter::new(io::stdout());
            ended_by_reader(write_all(&mut contents, stdout, &meter, &mut exported).await?)?;
        }
        Some(partial) => {
            let written = write_all(&mut contents, BufWriter::new(&partial.out), &meter, &mut exported).await?;
            written.map_err(CliError::file("write", &partial.path))?;
        }
    }
    drop(progress);
    if exported.items == 0 && !selection.is_everything() {
        return Err(nothing_fits(&selection, id.as_str()).into());
    }
    partial.map_or(Ok(()), Partial::keep)?;
    exported.unmatched = contents.unmatched();
    tell(context, &exported)?;
    Ok(if exported.failed == 0 && exported.unmatched.is_empty() { Exit::Done } else { Exit::Partial })
}

/// A file beside the one that is asked for, which takes its place at the end: that one is never half of an export. What
/// was written in the clear does not stay behind when the export fails.
struct Partial {
    file: PathBuf,
    path: PathBuf,
    out: File,
    is_kept: bool,
}

impl Partial {
    fn create(file: &Path) -> Result<Self> {
        let mut path = file.as_os_str().to_owned();
        path.push(".partial");
        let path = PathBuf::from(path);
        let out = File::create(&path).map_err(CliError::file("write", &path))?;
        Ok(Self { file: file.to_owned(), path, out, is_kept: false })
    }

    fn keep(mut self) -> Result<()> {
        fs::rename(&self.path, &self.file).map_err(CliError::file("write", &self.file))?;
        self.is_kept = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_kept
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(file = %self.path.display(), error = %error, "a part of an export could not be removed");
        }
    }
}

/// The outer error is the repository's, the inner the output's.
async fn write_all(
    contents: &mut Contents,
    mut out: impl Write,
    meter: &Meter,
    exported: &mut Exported,
) -> Result<io::Result<()>> {
    let mut line = Vec::new();
    while let Some(item) = contents.next().await? {
        exported.items += 1;
        let Some(document) = item.document else { continue };
        line.clear();
        if let Err(source) = write_json(&document, &mut line) {
            exported.fail(&CliError::Show { path: item.path.to_string(), source });
            continue;
        }
        line.push(b'\n');
        if let Err(error) = out.write_all(&line) {
            return Ok(Err(error));
        }
        meter.documents.add(1);
        exported.documents += 1;
        exported.bytes += line.len() as u64;
    }
    Ok(out.flush())
}

impl Exported {
    fn fail(&mut self, error: &CliError) {
        self.failed += 1;
        if self.problems.len() < MAX_PROBLEMS {
            let report = error.report();
            self.problems.push(report.causes.into_iter().fold(report.message, |text, cause| text + ": " + &cause));
        }
    }
}

fn tell(context: &Context, exported: &Exported) -> Result<()> {
    for problem in &exported.problems {
        context.output.warn(problem);
    }
    context.warn_unmatched(&exported.unmatched);
    let text = format!(
        "{}: {} ({} of JSON){}",
        exported.snapshot,
        of(exported.documents, "document"),
        bytes(exported.bytes),
        if exported.failed > 0 { format!(", {} left out", of(exported.failed, "document")) } else { String::new() }
    );
    if exported.output.is_some() {
        context.output.result(exported, &text)
    } else {
        context.output.note(&text);
        Ok(())
    }
}
