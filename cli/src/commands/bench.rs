//! `firebackup bench`: what backup and restore do on this machine, beside what the same server does bare.
//!
//! The server is an emulator, ours or one that was named: a project in production is never read or written.

mod figure;
mod load;
mod round;

use std::time::Instant;

use clap::Args;
use firebackup_model::manifest::Compression;
use serde::Serialize;

use crate::commands::demo::stage::Stage;
use crate::context::Context;
use crate::error::Result;
use crate::exit::Exit;
use crate::units::{bytes, count, of, parse_count, seconds};

use figure::{Figure, figures_table};
use round::Bench;

/// Examples for the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  firebackup bench
  firebackup bench --documents 5,000 --rounds 5 --compression zstd:3 --compression brotli:auto";

/// Everything is written many times over, and an emulator holds it in memory: more of it than a demonstration takes.
const VERSIONS: u64 = 4;

/// How much is measured.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Documents of about 1 KB
    #[arg(long, value_name = "N", default_value = "20,000", value_parser = documents)]
    documents: u64,
    /// Rounds; a figure is the median of them
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Back up with this compression (repeatable): brotli, zstd, gzip or none, with a level if you like
    #[arg(long, value_name = "ALGORITHM", default_value = "brotli:auto")]
    compression: Vec<Compression>,
}

#[derive(Serialize)]
struct Measured {
    server: Server,
    machine: Machine,
    documents: u64,
    bytes: u64,
    rounds: u32,
    figures: Vec<Figure>,
    seconds: f64,
}

/// What the figures were measured on.
#[derive(Serialize)]
struct Server {
    kind: &'static str,
    host: String,
    started_for_this: bool,
}

#[derive(Serialize)]
struct Machine {
    cores: usize,
    build: &'static str,
}

/// Measures.
///
/// # Errors
/// When there is no emulator, or anything is not read or written whole: half a figure is none.
pub(crate) async fn run(context: &Context, args: &BenchArgs) -> Result<Exit> {
    let started = Instant::now();
    let output = &context.output;
    output.note("starting or finding the Firestore emulator …");
    let stage = Stage::open(&context.settings.access, args.documents.saturating_mul(VERSIONS)).await?;
    let server =
        Server { kind: "Firestore emulator", host: stage.host().to_owned(), started_for_this: stage.is_ours() };
    let bench = Bench::prepare(stage, args.documents, &args.compression).await?;
    let figures = bench.measure(args.rounds, output).await;
    // also behind a failure: an emulator that is not ours is left as it was
    let emptied = bench.empty().await;
    let measured = Measured {
        server,
        machine: Machine::this(),
        documents: args.documents,
        bytes: bench.bytes(),
        rounds: args.rounds,
        figures: figures?,
        seconds: started.elapsed().as_secs_f64(),
    };
    emptied?;
    output.result(&measured, &text(&measured))?;
    Ok(Exit::Done)
}

impl Machine {
    fn this() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { cores, build: if cfg!(debug_assertions) { "debug" } else { "release" } }
    }
}

fn text(measured: &Measured) -> String {
    let whose = if measured.server.started_for_this { "started for this" } else { "already running" };
    let Machine { cores, build } = measured.machine;
    format!(
        "{}\n\nMeasured on the {} at {} ({whose}), which shares this machine's {}: it is no figure of production.\n\
         {}, {}; median of {} after a warm-up, in all {}; firebackup is a {build} build.",
        figures_table(&measured.figures),
        measured.server.kind,
        measured.server.host,
        of(cores as u64, "core"),
        of(measured.documents, "document"),
        bytes(measured.bytes),
        if measured.rounds == 1 { "1 round".to_owned() } else { format!("{} rounds", count(measured.rounds.into())) },
        seconds(measured.seconds),
    )
}

fn documents(text: &str) -> Result<u64, String> {
    match parse_count(text)? {
        0 => Err("expected more than nothing".to_owned()),
        documents => Ok(documents),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;

    fn parse(line: &str) -> Result<BenchArgs, clap::Error> {
        Cli::arguments("bench", line)
    }

    #[test]
    fn something_is_always_measured() {
        let usual = parse("").unwrap();
        assert_eq!((usual.documents, usual.rounds), (20_000, 3));
        assert_eq!(usual.compression, [Compression::default()]);
        assert_eq!(parse("--compression none --compression zstd:3").unwrap().compression.len(), 2);
        for bad in ["--documents 0", "--rounds 0", "--compression lzma"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_was_measured_on_is_told() {
        let measured = Measured {
            server: Server { kind: "Firestore emulator", host: "127.0.0.1:9".to_owned(), started_for_this: false },
            machine: Machine { cores: 2, build: "debug" },
            documents: 1,
            bytes: 1024,
            rounds: 1,
            figures: Vec::new(),
            seconds: 2.0,
        };
        let text = text(&measured);
        for part in ["127.0.0.1:9 (already running)", "2 cores", "1 document, 1.0 KiB", "1 round ", "debug build"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
