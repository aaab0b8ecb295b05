//! Peak memory of the command line, for two sizes of database.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::stage::{ReplayProcess, Result, firebackup};

pub async fn run() -> Result<()> {
    println!("\n# peak memory of the command line, replay server, documents of about 1 KB, folder destination");
    let program = firebackup()?;
    for documents in [20_000, 200_000] {
        let replay = ReplayProcess::start(documents)?;
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let repository = format!("file://{}", folder.path().join("repository").display());
        let firebackup = |arguments: &[&str]| {
            let mut command = Command::new(&program);
            command.args(arguments).args(["--repo", &repository, "--project", "demo-replay", "--quiet"]);
            command.env("FIRESTORE_EMULATOR_HOST", &replay.host);
            command.env("FIREBACKUP_MASTER_KEY", "KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKio=");
            command.stdin(Stdio::null()).stdout(Stdio::null());
            command
        };
        if !firebackup(&["init"]).status()?.success() {
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
            let peak = peak_kib(firebackup(arguments).spawn()?)?;
            println!("{documents:>7} documents   {label:<24} {:>6.1} MiB", peak as f64 / 1024.0);
        }
    }
    Ok(())
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
