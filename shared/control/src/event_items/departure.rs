//! Events go: a batch is given again and again until it is settled.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use firebackup_model::PortError;
use firebackup_model::port::{BufferBounds, BufferedEvent, ItemQuery, ItemWrite, Settled};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::{ItemEventBuffer, KNOWN_SECONDS, Name, Part, Settlements, Waiting, item, outrun, read};
use crate::item_keys;
use crate::record::{MAX_ATTEMPTS, Stored, Written};

/// How many items are read at one time.
const AT_ONCE: usize = 16;
/// What a transaction holds at most: less than it may, and room for what is counted.
const MOST_WRITES: usize = 90;
const MOST_BYTES: u64 = 3 * 1024 * 1024;
/// The most items of a buffer that are dropped in one transaction, however large they are.
const DROPPED_AT_ONCE: u32 = 10;

/// The events that are given until they are settled, by their places. One that came by now to a place before the last of them had
/// none when they were chosen, and is none of them.
#[derive(Debug, Serialize, Deserialize)]
struct Batch {
    places: BTreeSet<u64>,
}

/// An event that is settled: what is known of it, and what that removes.
struct Leaving {
    name: Stored<Name>,
    writes: Vec<ItemWrite>,
}

impl ItemEventBuffer {
    pub(super) async fn hand_out(&self, buffer: &str, bounds: BufferBounds) -> Result<Vec<BufferedEvent>, PortError> {
        for _ in 0..MAX_ATTEMPTS {
            let given = self.load::<Batch>(&item_keys::buffered_batch(buffer)).await?;
            if let Some(batch) = &given {
                let left = self.left_of(buffer, &batch.value).await?;
                if !left.is_empty() {
                    return self.opened(buffer, left).await;
                }
            }
            let next = self.next(buffer, bounds).await?;
            if next.is_empty() {
                self.close_mark(buffer).await?;
                return Ok(Vec::new());
            }
            if self.give(buffer, given, &next).await? == Written::Yes {
                return self.opened(buffer, next).await;
            }
        }
        Err(outrun())
    }

    async fn give(&self, buffer: &str, given: Option<Stored<Batch>>, next: &[Waiting]) -> Result<Written, PortError> {
        let batch = Batch { places: next.iter().map(|waiting| waiting.place).collect() };
        let batch = item(item_keys::buffered_batch(buffer), &batch)?;
        let write = match given {
            Some(given) => ItemWrite::Replace(batch, given.version),
            None => ItemWrite::Create(batch),
        };
        self.write(vec![write]).await
    }

    async fn left_of(&self, buffer: &str, batch: &Batch) -> Result<Vec<Waiting>, PortError> {
        let (Some(first), Some(last)) = (batch.places.first(), batch.places.last()) else { return Ok(Vec::new()) };
        let query = item_keys::buffered_between(buffer, *first, *last);
        let mut left = self.read_while(query, |_| true).await?;
        left.retain(|waiting| batch.places.contains(&waiting.place));
        Ok(left)
    }

    async fn next(&self, buffer: &str, bounds: BufferBounds) -> Result<Vec<Waiting>, PortError> {
        let (mut events, mut bytes) = (0, 0);
        let query = item_keys::buffered_events(buffer, u32::try_from(bounds.events).unwrap_or(u32::MAX).clamp(1, 1000));
        let fits = |waiting: &Waiting| {
            bytes += waiting.bytes;
            events += 1;
            events == 1 || (events <= bounds.events && bytes <= bounds.bytes)
        };
        self.read_while(query, fits).await
    }

    async fn read_while(
        &self,
        mut query: ItemQuery,
        mut fits: impl FnMut(&Waiting) -> bool + Send,
    ) -> Result<Vec<Waiting>, PortError> {
        let mut found = Vec::new();
        loop {
            let page = self.items.query(&query).await?;
            for item in page.items {
                let waiting: Waiting = read(item)?.value;
                if !fits(&waiting) {
                    return Ok(found);
                }
                found.push(waiting);
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(found),
            }
        }
    }

    async fn opened(&self, buffer: &str, waiting: Vec<Waiting>) -> Result<Vec<BufferedEvent>, PortError> {
        let opening = waiting.into_iter().map(|waiting| self.open(buffer, waiting));
        let opened: Vec<_> = stream::iter(opening).buffered(AT_ONCE).try_collect().await?;
        Ok(opened.into_iter().flatten().collect())
    }

    /// Nothing of an event that somebody settles at this moment. What is no base64 is given as nothing, which whoever opens it
    /// refuses.
    async fn open(&self, buffer: &str, waiting: Waiting) -> Result<Option<BufferedEvent>, PortError> {
        let mut body = STANDARD.decode(&waiting.body).unwrap_or_default();
        for number in 0..waiting.parts {
            let key = item_keys::buffered_part(buffer, waiting.place, number);
            let Some(part) = self.load::<Part>(&key).await? else { return Ok(None) };
            body.extend(STANDARD.decode(&part.value.body).unwrap_or_default());
        }
        Ok(Some(BufferedEvent { key: waiting.name, body }))
    }

    /// Drops events. An event is counted in the transaction that drops it, so that it is counted once; whoever dies between two
    /// of them is followed, or what is left is given again.
    pub(super) async fn drop_settled(&self, buffer: &str, keys: &[String], settled: Settled) -> Result<(), PortError> {
        for _ in 0..MAX_ATTEMPTS {
            let leaving = self.leaving(buffer, keys).await?;
            if self.drop_groups(buffer, leaving, settled).await? == Written::Yes {
                return self.close_mark(buffer).await;
            }
        }
        Err(outrun())
    }

    /// Those of these events that wait.
    async fn leaving(&self, buffer: &str, keys: &[String]) -> Result<Vec<Leaving>, PortError> {
        let names = keys.iter().map(|key| item_keys::event_name(buffer, key)).collect::<BTreeSet<_>>();
        let names = names.into_iter().map(|key| async move { self.load::<Name>(&key).await });
        let names: Vec<Option<Stored<Name>>> = stream::iter(names).buffered(AT_ONCE).try_collect().await?;
        let waiting = names.into_iter().flatten().filter(|name| !name.value.settled);
        waiting.map(|name| self.leave(buffer, name)).collect()
    }

    fn leave(&self, buffer: &str, name: Stored<Name>) -> Result<Leaving, PortError> {
        let Name { place, parts, .. } = name.value;
        let mut known = item(name.key.clone(), &Name { settled: true, ..name.value.clone() })?;
        known.expires = Some(self.clock.now().plus_seconds(KNOWN_SECONDS));
        // what was created once and never replaced is of version 1
        let mut writes = vec![
            ItemWrite::Replace(known, name.version),
            ItemWrite::Delete(item_keys::buffered_event(buffer, place), 1),
        ];
        let parts = (0..parts).map(|number| item_keys::buffered_part(buffer, place, number));
        writes.extend(parts.map(|key| ItemWrite::Delete(key, 1)));
        Ok(Leaving { name, writes })
    }

    async fn drop_groups(&self, buffer: &str, leaving: Vec<Leaving>, settled: Settled) -> Result<Written, PortError> {
        for group in grouped(leaving) {
            let key = item_keys::buffered_settled(buffer);
            let before = self.load::<Settlements>(&key).await?;
            let counted = counted(before.as_ref().map(|before| before.value), &group, settled);
            let counted = item(key, &counted)?;
            let mut writes: Vec<_> = group.into_iter().flat_map(|leaving| leaving.writes).collect();
            writes.push(match before {
                Some(before) => ItemWrite::Replace(counted, before.version),
                None => ItemWrite::Create(counted),
            });
            if self.write(writes).await? == Written::Outrun {
                return Ok(Written::Outrun);
            }
        }
        Ok(Written::Yes)
    }

    /// Drops a buffer, its mark last: for as long as that stands, whoever looks what waits goes on with it.
    pub(super) async fn drop_all(&self, buffer: &str) -> Result<(), PortError> {
        let mark = item_keys::buffer_mark(buffer);
        for query in item_keys::all_of_buffer(buffer) {
            let mut query = ItemQuery { limit: DROPPED_AT_ONCE, ..query };
            let mut outrun_by_others = 0;
            loop {
                let page = self.items.query(&query).await?;
                let items = page.items.into_iter().filter(|item| item.key != mark);
                let writes: Vec<_> = items.map(|item| ItemWrite::Delete(item.key, item.version)).collect();
                match (writes.is_empty(), page.next) {
                    (true, None) => break,
                    (true, next) => query.after = next,
                    (false, _) if self.write(writes).await? == Written::Yes => {}
                    (false, _) if outrun_by_others < MAX_ATTEMPTS => outrun_by_others += 1,
                    (false, _) => return Err(outrun()),
                }
            }
        }
        self.close_mark(buffer).await
    }
}

/// What is one transaction each.
fn grouped(leaving: Vec<Leaving>) -> Vec<Vec<Leaving>> {
    let (mut groups, mut writes, mut bytes) = (Vec::<Vec<Leaving>>::new(), 0, 0);
    for one in leaving {
        // in base64 and with its key an event takes more than it has
        let size = one.name.value.bytes * 4 / 3 + 1024;
        let fits = writes + one.writes.len() <= MOST_WRITES && bytes + size <= MOST_BYTES;
        (writes, bytes) = if fits { (writes + one.writes.len(), bytes + size) } else { (one.writes.len(), size) };
        match groups.last_mut().filter(|_| fits) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    groups
}

fn counted(before: Option<Settlements>, group: &[Leaving], settled: Settled) -> Settlements {
    let mut counted = before.unwrap_or_default();
    match settled {
        Settled::Folded => counted.folded += group.len() as u64,
        Settled::Refused => counted.refused += group.len() as u64,
    }
    counted.last = counted.last.max(group.iter().map(|leaving| leaving.name.value.received).max());
    counted
}
