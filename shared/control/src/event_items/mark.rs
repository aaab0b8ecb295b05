//! That something waits in a buffer is a mark, so that one query finds all buffers in which something does.
//!
//! It is set behind the event's transaction, and taken away in two steps: first it says that it is about to go, then it is looked
//! once more whether something waits, and only then does it go. An event that comes in between finds the mark that is about to go
//! and says that it stays. So where an event was answered as taken, there is a mark, whoever dies when; one where nothing waits
//! any more is taken away by whoever looks next.

use firebackup_model::port::{ItemWrite, NewItem, WaitingBuffer};
use firebackup_model::{PortError, Timestamp};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::{ItemEventBuffer, item, outrun, read};
use crate::item_keys;
use crate::pitr_window::DueCapture;
use crate::record::{MAX_ATTEMPTS, Written};

/// How many buffers are looked at at one time.
const AT_ONCE: usize = 8;

/// That something waits.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Mark {
    buffer: String,
    since: Timestamp,
    /// Whether somebody looks if it can go.
    closing: bool,
}

impl Mark {
    fn item(&self) -> Result<NewItem, PortError> {
        let index = Some(item_keys::waiting_buffer(self.since, &self.buffer));
        Ok(NewItem { index, ..item(item_keys::buffer_mark(&self.buffer), self)? })
    }
}

impl ItemEventBuffer {
    /// Has a buffer marked in which something waits; whoever marks it first asks for its events to be folded.
    pub(super) async fn open_mark(&self, buffer: &str, place: u64) -> Result<(), PortError> {
        let key = item_keys::buffer_mark(buffer);
        for _ in 0..MAX_ATTEMPTS {
            let mark = self.load::<Mark>(&key).await?;
            let write = match mark {
                Some(mark) if !mark.value.closing => return Ok(()),
                Some(mark) => ItemWrite::Replace(Mark { closing: false, ..mark.value }.item()?, mark.version),
                None => {
                    let mark = Mark { buffer: buffer.to_owned(), since: self.clock.now(), closing: false };
                    ItemWrite::Create(mark.item()?)
                }
            };
            if self.write(vec![write]).await? == Written::Yes {
                self.wake(buffer, place).await;
                return Ok(());
            }
        }
        Err(outrun())
    }

    /// Takes the mark away if nothing waits. Where somebody else is at it, it is theirs.
    pub(super) async fn close_mark(&self, buffer: &str) -> Result<(), PortError> {
        if self.oldest(buffer).await?.is_some() {
            return Ok(());
        }
        let key = item_keys::buffer_mark(buffer);
        let Some(mark) = self.load::<Mark>(&key).await? else { return Ok(()) };
        let closing = Mark { closing: true, ..mark.value };
        if self.write(vec![ItemWrite::Replace(closing.item()?, mark.version)]).await? == Written::Outrun {
            return Ok(());
        }
        let version = mark.version + 1;
        let Some(came) = self.oldest(buffer).await? else {
            return self.write(vec![ItemWrite::Delete(key, version)]).await.map(drop);
        };
        let stays = Mark { closing: false, ..closing }.item()?;
        if self.write(vec![ItemWrite::Replace(stays, version)]).await? == Written::Yes {
            self.wake(buffer, came.place).await;
        }
        Ok(())
    }

    pub(super) async fn marked(&self, most: u32) -> Result<Vec<WaitingBuffer>, PortError> {
        let page = self.items.query(&item_keys::waiting_buffers(most)).await?;
        let marks = page.items.into_iter().map(|item| Ok(read::<Mark>(item)?.value));
        let marks: Vec<Mark> = marks.collect::<Result<_, PortError>>()?;
        let looking = marks.into_iter().map(|mark| self.look_at(mark));
        let found: Vec<_> = stream::iter(looking).buffered(AT_ONCE).try_collect().await?;
        let mut found: Vec<WaitingBuffer> = found.into_iter().flatten().collect();
        found.sort_by_key(|waiting| waiting.since);
        Ok(found)
    }

    async fn look_at(&self, mark: Mark) -> Result<Option<WaitingBuffer>, PortError> {
        let Mark { buffer, .. } = mark;
        let backlog = self.backlog(&buffer, &self.counts(&buffer).await?).await?;
        match backlog.since {
            Some(since) => Ok(Some(WaitingBuffer { buffer, events: backlog.sums.events, since })),
            // whoever was to take the mark away has died
            None => self.close_mark(&buffer).await.map(|()| None),
        }
    }

    /// Says that something waits where nothing did. Who is not told now is told by the next tick: no reason to take no event.
    async fn wake(&self, buffer: &str, place: u64) {
        let (Some(folders), Some(of)) = (&self.folders, DueCapture::of_buffer(buffer)) else { return };
        if let Err(error) = of.ask_to_fold(folders.as_ref(), &place.to_string()).await {
            tracing::warn!(project = %of.project, error = %error, "events wait for the next tick to be folded");
        }
    }
}
