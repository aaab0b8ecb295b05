//! `firebackup export`: a snapshot's documents as JSON, one a line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use firebackup_codec::typed_json::write_json;
use firebackup_engine::{Contents, Meter, nothing_fits};
use serde::Serialize;

use crate::context::{Context, LATEST};
use crate::error::{CliError, Result};
use crate::exit::Exit;
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
    /// The file to write, replaced when all is written; a pipe or device is written into; else standard output
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
    /// Whether the reader of a pipe went before all was written.
    ended_by_reader: bool,
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
    let id = context.snapshot_to_use(&repository, &args.snapshot).await?;
    let meter = Arc::new(Meter::default());
    let mut contents = Contents::of_snapshot(&repository, &id, &selection, &meter).await?;
    let progress = Progress::show(&context.output, Activity::Read, &meter);
    let mut exported = Exported { snapshot: id.to_string(), output: args.output.clone(), ..Exported::default() };
    let out = Out::open(args.output.as_deref()).await?;
    let written = match &out {
        Out::Standard => write_all(&mut contents, io::stdout(), &meter, &mut exported).await?,
        Out::Direct { file, .. } => write_all(&mut contents, file, &meter, &mut exported).await?,
        Out::Beside(partial) => write_all(&mut contents, &partial.out, &meter, &mut exported).await?,
    };
    drop(progress);
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => exported.ended_by_reader = true,
        written => written.map_err(|error| out.failed(error))?,
    }
    if exported.items == 0 && !selection.is_everything() {
        return Err(nothing_fits(&selection, id.as_str()).into());
    }
    out.keep()?;
    // what nobody read on for may fit
    exported.unmatched = if exported.ended_by_reader { Vec::new() } else { contents.unmatched() };
    tell(context, &exported)?;
    Ok(if exported.failed == 0 && exported.unmatched.is_empty() { Exit::Done } else { Exit::Partial })
}

/// Where the documents go.
enum Out {
    Standard,
    /// A pipe or a device: there is nothing in it that could be replaced.
    Direct {
        path: PathBuf,
        file: File,
    },
    Beside(Partial),
}

impl Out {
    async fn open(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::Standard) };
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            let path = path.to_owned();
            let file = open_existing(path.clone()).await.map_err(CliError::file("write", &path))?;
            return Ok(Self::Direct { path, file });
        }
        let file = followed(path).map_err(CliError::file("write", path))?;
        Ok(Self::Beside(Partial::create(&file)?))
    }

    fn failed(&self, error: io::Error) -> CliError {
        match self {
            Self::Standard => CliError::Output(error),
            Self::Direct { path, .. } => CliError::file("write", path)(error),
            Self::Beside(partial) => CliError::file("write", &partial.path)(error),
        }
    }

    fn keep(self) -> Result<()> {
        match self {
            Self::Standard | Self::Direct { .. } => Ok(()),
            Self::Beside(partial) => partial.keep(),
        }
    }
}

/// Opens a pipe or a device. A pipe without a reader blocks until there is one, and must not block Ctrl-C.
async fn open_existing(path: PathBuf) -> io::Result<File> {
    let opened = tokio::task::spawn_blocking(move || OpenOptions::new().write(true).open(path)).await;
    opened.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// The file that a symbolic link means, even one that is not there yet: the link stays what it is.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let Ok(target) = fs::read_link(path) else { return Ok(path.to_owned()) };
    match fs::canonicalize(path) {
        // links that go round in circles are told apart from this
        Err(error) if error.kind() == ErrorKind::NotFound => {
            followed(&path.parent().unwrap_or(Path::new("")).join(target))
        }
        found => found,
    }
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
    out: impl Write,
    meter: &Meter,
    exported: &mut Exported,
) -> Result<io::Result<()>> {
    let mut out = BufWriter::new(Counted { out, lines: 0, bytes: 0 });
    let written = write_lines(contents, &mut out, meter, exported).await?;
    exported.documents = out.get_ref().lines;
    exported.bytes = out.get_ref().bytes;
    Ok(written)
}

/// Counts what was taken, which may be less than what was written: somebody may end the pipe in between.
struct Counted<W> {
    out: W,
    lines: u64,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.out.write(bytes)?;
        self.lines += bytes[..length].iter().filter(|byte| **byte == b'\n').count() as u64;
        self.bytes += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

async fn write_lines(
    contents: &mut Contents,
    out: &mut impl Write,
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
    let documents = of(exported.documents, "document");
    let text = if exported.ended_by_reader {
        format!("{}: the reader closed its end after {documents}", exported.snapshot)
    } else {
        let left_out =
            if exported.failed > 0 { format!(", {} left out", of(exported.failed, "document")) } else { String::new() };
        format!("{}: {documents} ({} of JSON){left_out}", exported.snapshot, bytes(exported.bytes))
    };
    if exported.output.is_some() {
        context.output.result(exported, &text)
    } else {
        context.output.note(&text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, and then no more.
    struct Pipe(usize);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 { Err(ErrorKind::BrokenPipe.into()) } else { Ok(taken) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_lines_that_were_taken_whole_are_counted() {
        let mut out = Counted { out: Pipe(9), lines: 0, bytes: 0 };
        let error = out.write_all(b"one\ntwo\nthree\n").unwrap_err();
        assert_eq!((error.kind(), out.lines, out.bytes), (ErrorKind::BrokenPipe, 2, 9));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_means_what_it_points_to_there_or_not() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let plain = root.join("plain");
        assert_eq!(followed(&plain).unwrap(), plain);
        symlink("plain", root.join("first")).unwrap();
        symlink("first", root.join("second")).unwrap();
        assert_eq!(followed(&root.join("second")).unwrap(), plain);
        fs::write(&plain, "").unwrap();
        assert_eq!(followed(&root.join("second")).unwrap(), plain);
        symlink("circle", root.join("circle")).unwrap();
        assert!(followed(&root.join("circle")).is_err());
    }
}
