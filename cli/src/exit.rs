//! What a process tells by the way it ends.

use std::process::ExitCode;

/// How a command ended; documented in the long help and in `docs/cli.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for is done.
    Done,
    /// It failed.
    Failed,
    /// The arguments make no sense.
    Usage,
    /// It came to its end, but something failed, was in conflict, is damaged or differs.
    Partial,
    /// It stopped on request or at its read budget, and the same command goes on.
    Stopped,
    /// The repository, snapshot, document or job is not there.
    NotFound,
    /// Ended by the user, with nothing to go on with.
    Interrupted,
}

impl Exit {
    /// The exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Partial => 3,
            Self::Stopped => 4,
            Self::NotFound => 5,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_documentation() {
        let documented = include_str!("../../docs/cli.md");
        for exit in [Exit::Done, Exit::Failed, Exit::Usage, Exit::Partial, Exit::Stopped, Exit::NotFound] {
            assert!(documented.contains(&format!("| {} |", exit.code())), "{exit:?}");
            assert!(crate::args::EXIT_CODES.contains(&format!("\n  {}  ", exit.code())), "{exit:?}");
        }
    }
}
