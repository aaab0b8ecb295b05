//! The limits of `docs/format.md`. Every length that is read is compared with one of them before memory is taken.

/// The most bytes of records in a block, before compression.
pub const MAX_RAW_BLOCK: usize = 32 * 1024 * 1024;
/// The largest block size that can be aimed at, in bytes; a block may pass it by one record.
pub const MAX_BLOCK_SIZE: u32 = 8 * 1024 * 1024;
/// The most bytes of a record's body.
pub const MAX_BODY: usize = 17 * 1024 * 1024;
/// The most bytes of an event's body: two documents, and what JSON and base64 add.
pub const MAX_EVENT: usize = 64 * 1024 * 1024;
/// The most bytes of an event's attribute: a path, with every byte of it percent-encoded.
pub const MAX_ATTRIBUTE: usize = 32 * 1024;
/// The most blocks of a run.
pub const MAX_BLOCKS: u64 = 65_536;
/// The most consistent points of a run, and the most collection groups: in memory they take many times their bytes.
pub const MAX_ENTRIES: u64 = 1 << 20;
/// The most bytes of a run's footer, sealed.
pub const MAX_FOOTER: usize = 64 * 1024 * 1024;
/// The most bytes of a sealed object's payload, before compression.
pub const MAX_PAYLOAD: usize = 64 * 1024 * 1024;
/// The most bytes of a sealed object as it is stored.
pub const MAX_OBJECT: usize = MAX_PAYLOAD + 4096;
/// The most bytes of a wrap file.
pub const MAX_WRAP: usize = 64 * 1024;
