//! What one machine offers: the local Firestore emulator, the system's clock and randomness, and key files.

pub mod emulator;
pub mod emulator_search;
pub mod key_file;
pub mod secret_file;
pub mod system;

pub use emulator::{Emulator, EmulatorError, EmulatorOptions};
pub use emulator_search::EmulatorSearch;
pub use key_file::{KeyFileError, KeyKind, KeyText, KeyTextError, MasterKeyBytes, MasterKeyText, SecretBytes};
pub use system::{SystemClock, SystemRandom};
