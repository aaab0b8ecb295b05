//! Asks before something is done that somebody may regret.

use std::io;

use crate::context::Context;
use crate::error::{CliError, Result};

/// Goes on when the user says yes to `what`. Without a terminal nobody can be asked: then only `--yes` goes on.
///
/// # Errors
/// When the answer is no, or nobody can be asked.
pub(crate) async fn confirm(context: &Context, what: &str, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !context.output.can_ask() {
        return Err(CliError::Refused(format!("{what}. There is no terminal to ask on: give --yes to do it")));
    }
    context.output.ask(&format!("{what}. Go on? [y/N]"));
    if is_yes(&answer().await?) { Ok(()) } else { Err(CliError::Refused("not confirmed: nothing was done".to_owned())) }
}

async fn answer() -> Result<String> {
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|_| line)
    });
    let line = read.await.map_err(|_| CliError::Interrupted)?;
    line.map_err(CliError::file("read an answer from", "standard input"))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_yes_is_one() {
        assert!(["y", "Y\n", " yes\r\n"].iter().all(|answer| is_yes(answer)));
        assert!(["", "\n", "n", "yep", "ye s"].iter().all(|answer| !is_yes(answer)));
    }
}
