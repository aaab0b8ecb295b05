//! The threads that compress and seal: one a core, for all runs of a job.
//!
//! Threads of their own, not tokio's blocking pool: that spreads a job's blocks over as many threads as there are blocks
//! waiting, and each would have its own, cold buffers of several MiB.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use firebackup_codec::run::writer::Scratch;
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce(&mut Scratch) + Send>;

/// Threads that seal blocks. They end when this is dropped.
pub(crate) struct Workers {
    jobs: Sender<Job>,
    waiting: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts a thread a core.
    pub(crate) fn start() -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let (jobs, queue) = channel();
        let (queue, waiting) = (Arc::new(Mutex::new(queue)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..threads {
            let (queue, waiting) = (Arc::clone(&queue), Arc::clone(&waiting));
            thread::spawn(move || work(&queue, &waiting));
        }
        Self { jobs, waiting }
    }

    /// How many blocks wait because all threads are at work.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Queues a block; the answer comes when a thread is done with it, or never when that thread died.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        seal: impl FnOnce(&mut Scratch) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |scratch| drop(answer.send(seal(scratch))));
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // no thread left to take it: the receiver learns of it
        drop(self.jobs.send(job));
        answered
    }
}

fn work(queue: &Mutex<Receiver<Job>>, waiting: &AtomicUsize) {
    let mut scratch = Scratch::default();
    loop {
        let job = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok(job) = job else { return };
        waiting.fetch_sub(1, Ordering::Relaxed);
        job(&mut scratch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn jobs_are_answered_and_a_dead_thread_is_noticed() {
        let workers = Workers::start();
        let answers: Vec<_> = (0..20).map(|n| workers.run(move |_| n * 2)).collect();
        for (n, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.await, Ok(n * 2));
        }
        assert_eq!(workers.waiting(), 0);
        assert!(workers.run(|_| -> u8 { panic!("a thread of the test dies here") }).await.is_err());
    }
}
