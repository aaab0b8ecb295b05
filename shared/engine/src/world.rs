//! What a verb is handed besides its ports: time, randomness, a meter, a way to stop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use firebackup_model::Timestamp;
use firebackup_model::id::{JobId, JobKind};
use firebackup_model::port::{Clock, Random};

/// Time and randomness.
#[derive(Clone)]
pub struct World {
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The source of keys, salts and ids.
    pub random: Arc<dyn Random>,
}

impl World {
    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// `N` random bytes.
    #[must_use]
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes);
        bytes
    }

    /// A new job id.
    #[must_use]
    pub fn job_id(&self, kind: JobKind) -> JobId {
        JobId::new(kind, u64::try_from(self.now().millis()).unwrap_or_default(), self.bytes())
    }

    /// A new job id that says it is no older than `moment`, whatever this machine's clock says.
    #[must_use]
    pub fn job_id_after(&self, kind: JobKind, moment: Timestamp) -> JobId {
        let millis = self.now().millis().max(moment.millis());
        JobId::new(kind, u64::try_from(millis).unwrap_or_default(), self.bytes())
    }

    /// A random share of `upper` (full jitter).
    #[must_use]
    pub fn jitter(&self, upper: std::time::Duration) -> std::time::Duration {
        upper.mul_f64(f64::from(u32::from_le_bytes(self.bytes())) / f64::from(u32::MAX))
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

/// Asks a running verb to stop at the next safe point; it then leaves a state that can go on.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks to stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether somebody asked to stop.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

macro_rules! meter {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters of a running verb, for whoever shows progress.
        #[derive(Debug, Default)]
        pub struct Meter {
            $($(#[$doc])* pub $name: Counter,)*
        }
    };
}

meter! {
    /// Documents done.
    documents,
    /// Documents expected; 0 when unknown.
    expected,
    /// Bytes of documents done.
    bytes,
    /// Bytes read from or written to the repository.
    stored,
    /// Document reads that Firestore bills.
    reads,
    /// Document writes that Firestore bills.
    writes,
    /// Requests that were tried again.
    retries,
    /// Items that failed for good.
    failed,
    /// The most writes a second that are allowed right now; 0 when nothing limits.
    rate,
    /// The compression level of the newest block.
    level,
}

/// One counter of a [`Meter`].
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Replaces the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
