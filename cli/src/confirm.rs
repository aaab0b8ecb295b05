//! Asks before something is done that somebody may regret.

use std::future::Future;
use std::io;

use crate::context::Context;
use crate::error::{CliError, Result};
use crate::interrupt::Interrupt;

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
    decide(&context.interrupt, answer()).await.inspect_err(|error| {
        if matches!(error, CliError::Interrupted) {
            context.output.end_question();
        }
    })
}

/// Waits for the answer, or for Ctrl-C: nothing is begun yet that could stop at a safe point.
async fn decide(interrupt: &Interrupt, answer: impl Future<Output = Result<String>>) -> Result<()> {
    if is_yes(&interrupt.race(answer).await?) {
        Ok(())
    } else {
        Err(CliError::Refused("not confirmed: nothing was done".to_owned()))
    }
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
    use crate::exit::Exit;

    #[tokio::test]
    async fn ctrl_c_at_the_question_ends_at_once_and_an_answer_counts() {
        let (sender, asked) = tokio::sync::watch::channel(false);
        let interrupt = Interrupt::told_by(asked);
        let says = |answer: &'static str| async move { Ok::<_, CliError>(answer.to_owned()) };
        decide(&interrupt, says("y\n")).await.unwrap();
        assert_eq!(decide(&interrupt, says("\n")).await.unwrap_err().exit(), Exit::Failed);
        let (ended, ()) = tokio::join!(decide(&interrupt, std::future::pending()), async {
            sender.send(true).unwrap();
        });
        assert_eq!(ended.unwrap_err().exit(), Exit::Interrupted);
        // a yes that comes together with Ctrl-C is none
        assert_eq!(decide(&interrupt, says("y\n")).await.unwrap_err().exit(), Exit::Interrupted);
    }

    #[test]
    fn only_a_plain_yes_is_one() {
        assert!(["y", "Y\n", " yes\r\n"].iter().all(|answer| is_yes(answer)));
        assert!(["", "\n", "n", "yep", "ye s"].iter().all(|answer| !is_yes(answer)));
    }
}
