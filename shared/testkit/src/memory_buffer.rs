//! Events that wait, in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use firebackup_model::port::{
    BufferBounds, BufferState, Buffered, BufferedEvent, Clock, EventBuffer, MAX_BUFFER_NAME, Settled, WaitingBuffer,
};
use firebackup_model::{ErrorKind, PortError, Timestamp};

use crate::hand_clock::HandClock;

/// Seconds for which names are known.
const KNOWN: i64 = 3600;

struct Kept {
    key: String,
    /// Nothing once it was dealt with.
    body: Option<Vec<u8>>,
    received: Timestamp,
    held: bool,
    forgotten: Option<Timestamp>,
}

#[derive(Default)]
struct Buffer {
    events: Vec<Kept>,
    state: BufferState,
}

/// Buffers of events.
pub struct MemoryBuffer {
    buffers: Mutex<BTreeMap<String, Buffer>>,
    clock: Arc<HandClock>,
    trouble: Mutex<Option<ErrorKind>>,
    is_full: Mutex<bool>,
}

impl MemoryBuffer {
    /// Empty ones.
    #[must_use]
    pub fn new(clock: Arc<HandClock>) -> Self {
        Self { buffers: Mutex::default(), clock, trouble: Mutex::default(), is_full: Mutex::default() }
    }

    /// Lets every call fail from now on, or none.
    pub fn fail(&self, kind: Option<ErrorKind>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = kind;
    }

    /// Says from now on that too much waits, or not.
    pub fn set_full(&self, is_full: bool) {
        *self.is_full.lock().unwrap_or_else(PoisonError::into_inner) = is_full;
    }

    /// Every byte that waits, of all buffers.
    #[must_use]
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        let buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        buffers.values().flat_map(|buffer| &buffer.events).filter_map(|event| event.body.clone()).collect()
    }

    /// Puts other bytes in the place of all that wait.
    pub fn garble(&self) {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let bodies = buffers.values_mut().flat_map(|buffer| &mut buffer.events).filter_map(|event| event.body.as_mut());
        bodies.for_each(|body| body.reverse());
    }

    fn all(&self) -> Result<MutexGuard<'_, BTreeMap<String, Buffer>>, PortError> {
        match *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(kind) => Err(PortError::new(kind, "buffer events", "told to fail")),
            None => Ok(self.buffers.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

fn check_name(name: &str) -> Result<(), PortError> {
    match (1..=MAX_BUFFER_NAME).contains(&name.chars().count()) {
        true => Ok(()),
        false => Err(PortError::new(ErrorKind::InvalidArgument, "put an event", "the name is too long, or none")),
    }
}

#[async_trait]
impl EventBuffer for MemoryBuffer {
    async fn put(&self, buffer: &str, event: BufferedEvent, bounds: BufferBounds) -> Result<Buffered, PortError> {
        check_name(buffer)?;
        check_name(&event.key)?;
        let now = self.clock.now();
        let mut all = self.all()?;
        let Buffer { events, state } = all.entry(buffer.to_owned()).or_default();
        events.retain(|event| event.forgotten.is_none_or(|forgotten| now < forgotten));
        if events.iter().any(|known| known.key == event.key) {
            (state.repeated, state.last) = (state.repeated + 1, Some(now));
            return Ok(Buffered::Repeated);
        }
        let bytes = event.body.len() as u64;
        let is_full = *self.is_full.lock().unwrap_or_else(PoisonError::into_inner);
        if is_full || state.waiting >= bounds.events || state.waiting_bytes + bytes > bounds.bytes {
            return Ok(Buffered::Full);
        }
        events.push(Kept { key: event.key, body: Some(event.body), received: now, held: false, forgotten: None });
        (state.received, state.waiting, state.last) = (state.received + 1, state.waiting + 1, Some(now));
        state.waiting_bytes += bytes;
        Ok(Buffered::Taken)
    }

    async fn refuse(&self, buffer: &str) -> Result<(), PortError> {
        self.all()?.entry(buffer.to_owned()).or_default().state.refused += 1;
        Ok(())
    }

    async fn waiting(&self, most: u32) -> Result<Vec<WaitingBuffer>, PortError> {
        let all = self.all()?;
        let waiting = all.iter().filter_map(|(buffer, Buffer { events, state })| {
            let since = events.iter().filter(|event| event.body.is_some()).map(|event| event.received).min()?;
            Some(WaitingBuffer { buffer: buffer.clone(), events: state.waiting, since })
        });
        let mut waiting: Vec<_> = waiting.collect();
        waiting.sort_by_key(|waiting| waiting.since);
        waiting.truncate(most as usize);
        Ok(waiting)
    }

    async fn batch(&self, buffer: &str, bounds: BufferBounds) -> Result<Vec<BufferedEvent>, PortError> {
        let mut all = self.all()?;
        let Some(Buffer { events, .. }) = all.get_mut(buffer) else { return Ok(Vec::new()) };
        if !events.iter().any(|event| event.held) {
            let (mut count, mut bytes) = (0, 0);
            for event in events.iter_mut() {
                let Some(body) = &event.body else { continue };
                bytes += body.len() as u64;
                if count > 0 && (count >= bounds.events || bytes > bounds.bytes) {
                    break;
                }
                (event.held, count) = (true, count + 1);
            }
        }
        let held = events.iter().filter(|event| event.held);
        Ok(held.filter_map(|event| Some(BufferedEvent { key: event.key.clone(), body: event.body.clone()? })).collect())
    }

    async fn settle(&self, buffer: &str, keys: &[String], settled: Settled) -> Result<(), PortError> {
        let forgotten = self.clock.now().plus_seconds(KNOWN);
        let mut all = self.all()?;
        let Some(Buffer { events, state }) = all.get_mut(buffer) else { return Ok(()) };
        for event in events.iter_mut().filter(|event| keys.contains(&event.key)) {
            let Some(body) = event.body.take() else { continue };
            (event.held, event.forgotten) = (false, Some(forgotten));
            state.waiting -= 1;
            state.waiting_bytes -= body.len() as u64;
            match settled {
                Settled::Folded => state.folded += 1,
                Settled::Refused => state.refused += 1,
            }
        }
        Ok(())
    }

    async fn state(&self, buffer: &str) -> Result<BufferState, PortError> {
        Ok(self.all()?.get(buffer).map(|buffer| buffer.state).unwrap_or_default())
    }

    async fn forget(&self, buffer: &str) -> Result<(), PortError> {
        self.all()?.remove(buffer);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_conforms() {
        let clock = Arc::new(HandClock::default());
        crate::event_buffer_suite::conforms(Arc::new(MemoryBuffer::new(Arc::clone(&clock))), &clock).await;
    }
}
