//! `firebackup completions`: what a shell completes.

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use serde::Serialize;

use crate::args::Cli;
use crate::context::Context;
use crate::error::Result;
use crate::exit::Exit;

/// Examples for the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  firebackup completions bash > ~/.local/share/bash-completion/completions/firebackup
  firebackup completions zsh > ~/.zfunc/_firebackup
  firebackup completions fish > ~/.config/fish/completions/firebackup.fish";

/// Which shell.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Serialize)]
struct Completions {
    shell: String,
    script: String,
}

/// Prints the script.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn run(context: &Context, args: &CompletionsArgs) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "firebackup", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    context.output.result(&Completions { shell: args.shell.to_string(), script: script.clone() }, &script)?;
    Ok(Exit::Done)
}
