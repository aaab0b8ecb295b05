//! What one machine offers: the local Firestore emulator, the system's clock and randomness, key files, and the ports of
//! the control plane on one SQLite file.

pub mod alarm;
pub mod database;
pub mod emulator;
pub mod emulator_search;
pub mod event_buffer;
pub mod event_bus;
pub mod item_store;
pub mod job_queue;
pub mod key_file;
mod names;
mod push;
pub mod scheduler;
pub mod secret_file;
mod sole_worker;
pub mod system;
pub mod workflows;

pub use alarm::{Alarm, SystemAlarm};
pub use database::{DataVersion, Database};
pub use emulator::{Emulator, EmulatorError, EmulatorOptions};
pub use emulator_search::EmulatorSearch;
pub use event_buffer::SqliteEventBuffer;
pub use event_bus::LocalEventBus;
pub use item_store::SqliteItemStore;
pub use job_queue::SqliteJobQueue;
pub use key_file::{KeyFileError, KeyKind, KeyText, KeyTextError, MasterKeyBytes, MasterKeyText, SecretBytes};
pub use push::LocalPush;
pub use scheduler::{Fire, FireIntoQueue, SqliteScheduler};
pub use sole_worker::SoleWorker;
pub use system::{SystemClock, SystemRandom};
pub use workflows::{SqliteWorkflows, WorkflowOptions};
