//! The figures of `docs/benchmarks.md`: each a ratio taken in one run, with what it is compared with interleaved.
//!
//! `make bench FIGURES="..."`, or `cargo bench --workspace --bench figures -- [engine] [emulator] [memory] [lookup]
//! [serve] [api] [capture] [follow]`; without names, all of them.

mod api;
mod capture;
mod emulator;
mod engine_alone;
mod follow;
mod lookup;
mod memory;
mod serve;
mod stage;

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let names: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with("--")).collect();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|other| other == name);
    stage::print_machine();
    let runtime = tokio::runtime::Runtime::new()?;
    if wanted("engine") {
        runtime.block_on(engine_alone::run())?;
    }
    if wanted("lookup") {
        runtime.block_on(lookup::run())?;
    }
    if wanted("memory") {
        runtime.block_on(memory::run())?;
    }
    if wanted("serve") {
        serve::run()?;
    }
    if wanted("api") {
        runtime.block_on(api::run())?;
    }
    if wanted("capture") {
        runtime.block_on(capture::run())?;
    }
    if wanted("follow") {
        runtime.block_on(follow::run())?;
    }
    if wanted("emulator") {
        runtime.block_on(emulator::run())?;
    }
    Ok(())
}
