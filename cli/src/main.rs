//! `firebackup`: backs up Firestore databases and Firebase Auth users, and puts them back exactly.
//!
//! [`args`] says what can be asked, [`settings`] makes it typed, [`context`] opens what a command needs, and each
//! command is one file below [`commands`]. [`environment`] is read once, here; standard output
//! belongs to results, standard error to everything that is told on the way.

// what `serve` awaits nests deeper than the compiler looks by itself
#![recursion_limit = "256"]

mod args;
mod commands;
mod confirm;
mod context;
mod counting_store;
mod dashed_value;
mod environment;
mod error;
mod exit;
mod interrupt;
mod json_indent;
mod keys;
mod output;
mod progress;
mod selection_args;
mod settings;
mod shell;
mod table;
mod units;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;
use crate::context::Context;
use crate::environment::Environment;
use crate::exit::Exit;
use crate::output::Output;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refusal) => return output::refuse_arguments(&refusal, std::env::args_os()).into(),
    };
    let environment = Environment::from_system();
    let output = Output::new(&cli.global, &environment);
    output.start_logging(&environment);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output.fail(&error::CliError::Runtime(error)).into(),
    };
    let exit = runtime.block_on(run(cli, &environment, &output));
    // a thread may still wait for an answer on standard input: nobody waits for it
    runtime.shutdown_background();
    exit.into()
}

async fn run(cli: Cli, environment: &Environment, output: &Output) -> Exit {
    let result = match Context::new(&cli.global, environment, output.clone()) {
        Ok(context) => commands::run(&context, cli.command).await,
        Err(error) => Err(error),
    };
    result.unwrap_or_else(|error| output.fail(&error))
}
