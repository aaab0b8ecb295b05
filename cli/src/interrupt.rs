//! Ctrl-C: asked once, a job stops at a safe point; asked twice, the process ends.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use firebackup_engine::Stop;
use tokio::sync::watch;

use crate::error::{CliError, Result};
use crate::output::Output;

/// Hears when the user wants an end.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt {
    stop: Stop,
    is_graceful: Arc<AtomicBool>,
    asked: watch::Receiver<bool>,
    sender: watch::Sender<bool>,
}

impl Interrupt {
    /// Begins to listen. Needs a runtime.
    pub(crate) fn listen(output: Output) -> Self {
        let (sender, asked) = watch::channel(false);
        let interrupt = Self { stop: Stop::default(), is_graceful: Arc::default(), asked, sender: sender.clone() };
        let (stop, is_graceful) = (interrupt.stop.clone(), Arc::clone(&interrupt.is_graceful));
        let mut signals = Signals::listen();
        tokio::spawn(async move {
            while signals.next().await {
                if stop.is_requested() {
                    // the user asked twice: what stands in the repository is safe at every instruction
                    output.bar().set(None);
                    std::process::exit(output.fail(&CliError::Interrupted).code().into());
                }
                stop.request();
                if is_graceful.load(Ordering::SeqCst) {
                    output.note("stopping at a safe point … press Ctrl-C again to end at once");
                }
                // nobody listens any more when the command has ended
                let _ = sender.send(true);
            }
        });
        interrupt
    }

    /// One who hears it where `asked` says so, and no signals.
    #[cfg(test)]
    pub(crate) fn told_by(asked: watch::Receiver<bool>) -> Self {
        let sender = watch::channel(false).0;
        Self { stop: Stop::default(), is_graceful: Arc::default(), asked, sender }
    }

    /// Turns true when the user wants an end. From now on the user is told that it comes.
    pub(crate) fn asked(&self) -> watch::Receiver<bool> {
        self.is_graceful.store(true, Ordering::SeqCst);
        self.asked.clone()
    }

    /// Asks for an end as the user would.
    pub(crate) fn end(&self) {
        // nobody listens any more when the command has ended
        let _ = self.sender.send(true);
    }

    /// What a verb looks at that can stop at a safe point. From now on the user is told so.
    pub(crate) fn graceful(&self) -> Stop {
        self.is_graceful.store(true, Ordering::SeqCst);
        self.stop.clone()
    }

    /// Runs what has no safe points until it ends or the user wants an end.
    ///
    /// # Errors
    /// As `work`, or [`CliError::Interrupted`].
    pub(crate) async fn race<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut asked = self.asked.clone();
        tokio::select! {
            biased;
            Ok(_) = asked.wait_for(|asked| *asked) => Err(CliError::Interrupted),
            result = work => result,
        }
    }
}

/// Ctrl-C, and an orderly request to end from a supervisor. Listening never pauses, so that none is missed.
struct Signals {
    #[cfg(unix)]
    streams: Option<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)>,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self { streams: signal(SignalKind::interrupt()).ok().zip(signal(SignalKind::terminate()).ok()) }
    }

    /// Waits for the next; no when there can be none.
    async fn next(&mut self) -> bool {
        let Some((interrupt, terminate)) = &mut self.streams else { return false };
        tokio::select! {
            interrupted = interrupt.recv() => interrupted.is_some(),
            terminated = terminate.recv() => terminated.is_some(),
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    const fn listen() -> Self {
        Self {}
    }

    /// Waits for the next; no when there can be none.
    async fn next(&mut self) -> bool {
        tokio::signal::ctrl_c().await.is_ok()
    }
}
