//! A replay server in a process of its own, for benchmarks: prints its port and runs until it is ended.
//!
//! `cargo run -p firebackup-testkit --example replay -- --documents 100000 --size 1024 --seed 1`

use std::error::Error;

use firebackup_model::DatabaseName;
use firebackup_testkit::{Replay, samples};

struct Arguments {
    project: String,
    documents: u64,
    size: usize,
    seed: u64,
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut arguments = Self { project: "demo-replay".to_owned(), documents: 100_000, size: 1024, seed: 1 };
        while let Some(option) = words.next() {
            let value = words.next().ok_or_else(|| format!("{option} needs a value"))?;
            match option.as_str() {
                "--project" => arguments.project = value,
                "--documents" => arguments.documents = value.parse()?,
                "--size" => arguments.size = value.parse()?,
                "--seed" => arguments.seed = value.parse()?,
                _ => return Err(format!("unknown option {option}").into()),
            }
        }
        Ok(arguments)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { project, documents, size, seed } = Arguments::read(std::env::args().skip(1))?;
    let database = DatabaseName::new(project, "(default)");
    let replay = Replay::start(samples::documents(&database, documents, size, seed)).await?;
    println!("{}", replay.host().rsplit(':').next().unwrap_or_default());
    tokio::signal::ctrl_c().await?;
    Ok(())
}
