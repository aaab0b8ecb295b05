//! Documents on their way into one request.

use firebackup_model::port::MAX_BATCH_WRITES;

use crate::wanted::Wanted;

/// The size at which a batch is sent, well below Firestore's 10 MiB: the emulator takes no request above 4 MiB, and smaller
/// ones are retried at less cost. A larger document goes alone.
const BATCH_BYTES: usize = 3 * 1024 * 1024;

/// Documents on their way into one request.
pub(crate) struct Batch {
    pub(crate) items: Vec<Wanted>,
    bytes: usize,
    most: usize,
}

impl Batch {
    pub(crate) fn new(most: usize) -> Self {
        Self { items: Vec::new(), bytes: 0, most: most.clamp(1, MAX_BATCH_WRITES) }
    }

    pub(crate) fn has_room_for(&self, wanted: &Wanted) -> bool {
        self.items.len() < self.most && self.bytes + request_bytes(wanted) <= BATCH_BYTES
    }

    pub(crate) fn push(&mut self, wanted: Wanted) {
        self.bytes += request_bytes(&wanted);
        self.items.push(wanted);
    }

    pub(crate) fn take(&mut self) -> Vec<Wanted> {
        self.bytes = 0;
        std::mem::take(&mut self.items)
    }
}

/// What a write takes of a request, rounded up: document, name, precondition and framing.
pub(crate) fn request_bytes(wanted: &Wanted) -> usize {
    wanted.document.as_ref().map_or(0, bytes::Bytes::len) + wanted.path.as_str().len() + 256
}
