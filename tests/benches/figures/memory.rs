//! Peak memory of the command line, for two sizes of database.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use firebackup_engine::Backup;

use crate::capture::{PROJECT, filled, ten_segments};
use crate::stage::{ReplayProcess, Result, firebackup, repository};

pub async fn run() -> Result<()> {
    println!("\n# peak memory of the command line, documents of about 1 KB, folder destination");
    let program = firebackup()?;
    for documents in [20_000, 200_000] {
        let replay = ReplayProcess::start(documents as u64)?;
        read(&program, &replay, documents)?;
        merged(&program, &replay, documents).await?;
    }
    // whether a merge stays bounded shows only where what is read ahead and written behind has long been filled
    let nobody_reads_it = ReplayProcess::start(1)?;
    for documents in [1_000_000, 3_000_000] {
        merged(&program, &nobody_reads_it, documents).await?;
    }
    Ok(())
}

/// What reads documents from the replay server, and back from the repository.
fn read(program: &Path, replay: &ReplayProcess, documents: usize) -> Result<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let line = CommandLine { program, host: &replay.host, folder: folder.path(), project: "demo-replay" };
    if !line.command(&["init"]).status()?.success() {
        return Err("init failed".into());
    }
    for (label, arguments) in [
        // one stream is one chunk at a time: what the whole program takes bounds what a chunk takes
        ("backup, 1 stream", &["backup", "--fresh"][..]),
        ("backup, 4 streams", &["backup", "--fresh", "--parallel", "4"]),
        ("backup, brotli:5", &["backup", "--fresh", "--compression", "brotli:5"]),
        ("backup, zstd:3", &["backup", "--fresh", "--compression", "zstd:3"]),
        ("backup, none, 2 streams", &["backup", "--fresh", "--compression", "none", "--parallel", "2"]),
        ("verify", &["verify"]),
        ("restore", &["restore", "--no-undo", "--yes"]),
    ] {
        line.print_peak(documents, label, arguments)?;
    }
    Ok(())
}

/// A full backup that is merged, and reads no database: so what is captured may be one in the memory of this process.
async fn merged(program: &Path, replay: &ReplayProcess, documents: usize) -> Result<()> {
    let database = filled(documents, 1).await?;
    let (folder, repository) = repository().await?;
    let base = Backup::builder(repository.clone(), Arc::new(database.clone())).compression("zstd:3".parse()?);
    base.build().run().await?;
    let line = CommandLine { program, host: &replay.host, folder: folder.path(), project: PROJECT };
    for (seed, label, arguments) in [
        (2, "merged backup, 1 stream", &["backup", "--synthetic"][..]),
        (12, "merged backup, 4 streams", &["backup", "--synthetic", "--parallel", "4"]),
    ] {
        // each merges changes of its own: where nothing has changed since a merge there is nothing to merge
        ten_segments(&repository, &database, documents, seed).await?;
        line.print_peak(documents, label, arguments)?;
    }
    Ok(())
}

/// The command line, over the repository in a folder.
struct CommandLine<'c> {
    program: &'c Path,
    host: &'c str,
    folder: &'c Path,
    project: &'c str,
}

impl CommandLine<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let repository = format!("file://{}", self.folder.join("repository").display());
        let mut command = Command::new(self.program);
        command.args(arguments).args(["--repo", &repository, "--project", self.project, "--quiet"]);
        command.env("FIRESTORE_EMULATOR_HOST", self.host);
        // the key that `stage::repository` makes its own with
        command.env("FIREBACKUP_MASTER_KEY", "KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKio=");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn print_peak(&self, documents: usize, label: &str, arguments: &[&str]) -> Result<()> {
        let peak = peak_kib(self.command(arguments).spawn()?)?;
        println!("{documents:>7} documents   {label:<24} {:>6.1} MiB", peak as f64 / 1024.0);
        Ok(())
    }
}

/// The high-water mark of the child's resident memory, in KiB.
fn peak_kib(mut child: Child) -> Result<u64> {
    let path = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        if let Ok(status) = std::fs::read_to_string(&path) {
            let mark = status
                .lines()
                .find_map(|line| line.strip_prefix("VmHWM:"))
                .and_then(|text| text.trim().trim_end_matches(" kB").trim().parse().ok());
            peak = mark.unwrap_or(peak);
        }
        if let Some(status) = child.try_wait()? {
            return if status.success() { Ok(peak) } else { Err(format!("firebackup ended with {status}").into()) };
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
