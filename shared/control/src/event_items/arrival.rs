//! An event comes: it is known, or gets a place.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use firebackup_model::PortError;
use firebackup_model::port::{BufferBounds, Buffered, BufferedEvent, ItemWrite};

use super::{
    BYTES, EVENTS, INLINE_BYTES, ItemEventBuffer, MOST_PARTS, Name, PART_BYTES, PLACES, Part, REPEATED, Sums, Waiting,
    item, outrun,
};
use crate::item_keys;
use crate::record::{MAX_ATTEMPTS, Written};

/// Where an event comes.
struct Place {
    number: u64,
    before: Sums,
}

impl ItemEventBuffer {
    /// Takes an event. Whoever dies before the transaction has taken nothing; whoever dies behind it has answered nothing, and
    /// who sends the event again has its buffer marked.
    pub(super) async fn take(
        &self,
        buffer: &str,
        event: &BufferedEvent,
        bounds: BufferBounds,
    ) -> Result<Buffered, PortError> {
        if event.body.len() > MOST_PARTS * PART_BYTES {
            return Ok(Buffered::TooLarge);
        }
        let bytes = event.body.len() as u64;
        for _ in 0..MAX_ATTEMPTS {
            if let Some(name) = self.load::<Name>(&item_keys::event_name(buffer, &event.key)).await? {
                return self.repeated(buffer, &name.value).await;
            }
            let Some(place) = self.place(buffer, bytes, bounds).await? else { return Ok(Buffered::Full) };
            if self.write(self.arrival(buffer, event, &place)?).await? == Written::Yes {
                self.open_mark(buffer, place.number).await?;
                return Ok(Buffered::Taken);
            }
            // the same event came at the same time
            self.give_back(buffer, bytes).await?;
        }
        Err(outrun())
    }

    async fn repeated(&self, buffer: &str, name: &Name) -> Result<Buffered, PortError> {
        self.count(buffer, &[(REPEATED, 1)]).await?;
        if !name.settled {
            self.open_mark(buffer, name.place).await?;
        }
        Ok(Buffered::Repeated)
    }

    /// The next place; nothing where more would wait then than may.
    async fn place(&self, buffer: &str, bytes: u64, bounds: BufferBounds) -> Result<Option<Place>, PortError> {
        let counts = self.count(buffer, &[(PLACES, 1), (EVENTS, 1), (BYTES, bytes.cast_signed())]).await?;
        let own = Sums { events: 1, bytes };
        let waiting = match self.oldest(buffer).await? {
            Some(oldest) => counts.come.since(oldest.before),
            None => own,
        };
        if waiting.events > bounds.events || waiting.bytes > bounds.bytes {
            self.give_back(buffer, bytes).await?;
            return Ok(None);
        }
        Ok(Some(Place { number: counts.places, before: counts.come.since(own) }))
    }

    /// Says of an event that it has not come. Its place is nobody's any more: they only tell an order.
    async fn give_back(&self, buffer: &str, bytes: u64) -> Result<(), PortError> {
        self.count(buffer, &[(EVENTS, -1), (BYTES, -bytes.cast_signed())]).await.map(drop)
    }

    fn arrival(&self, buffer: &str, event: &BufferedEvent, place: &Place) -> Result<Vec<ItemWrite>, PortError> {
        let (received, bytes) = (self.clock.now(), event.body.len() as u64);
        let is_inline = event.body.len() <= INLINE_BYTES;
        let parts: Vec<_> = if is_inline { Vec::new() } else { event.body.chunks(PART_BYTES).collect() };
        let waiting = Waiting {
            name: event.key.clone(),
            place: place.number,
            bytes,
            received,
            before: place.before,
            parts: parts.len() as u32,
            body: if is_inline { STANDARD.encode(&event.body) } else { String::new() },
        };
        let name = Name { place: place.number, parts: waiting.parts, bytes, received, settled: false };
        let mut writes = vec![
            ItemWrite::Create(item(item_keys::event_name(buffer, &event.key), &name)?),
            ItemWrite::Create(item(item_keys::buffered_event(buffer, place.number), &waiting)?),
        ];
        for (part, number) in parts.into_iter().zip(0..) {
            let key = item_keys::buffered_part(buffer, place.number, number);
            writes.push(ItemWrite::Create(item(key, &Part { body: STANDARD.encode(part) })?));
        }
        Ok(writes)
    }
}
