//! The database of a demonstration or a measurement: an emulator, ours or one that runs already, and documents in it.

use bytes::Bytes;
use firebackup_embedded::{Emulator, EmulatorOptions};
use firebackup_engine::{Meter, Target};
use firebackup_google::corpus::corpus;
use firebackup_google::sample::sample;
use firebackup_google::{Access, Firestore, FirestoreOptions, Retrying};
use firebackup_model::database::DEFAULT_DATABASE;
use firebackup_model::port::{DocumentSink, MAX_BATCH_BYTES, Precondition, Write};
use firebackup_model::{DatabaseName, DocumentPath};
use futures::{StreamExt, TryStreamExt, stream};
use std::sync::Arc;

use crate::context::world;
use crate::error::{CliError, Result};

/// The project of an emulator of our own.
const PROJECT: &str = "demo-firebackup";
const SEED: u64 = 42;
const BATCH: usize = 300;
const BATCHES_AT_ONCE: usize = 4;
/// Smaller databases than usual are cut, so that several streams have something to do.
const SPLIT_THRESHOLD: u64 = 500;
/// Heap of the emulator: what it needs at rest, and MiB for each thousand documents.
const HEAP_MIB: u64 = 1024;
const HEAP_MIB_PER_THOUSAND: u64 = 20;

/// An emulator with a database.
pub(in crate::commands) struct Stage {
    /// The database.
    pub(in crate::commands) database: DatabaseName,
    /// To read and write it.
    pub(in crate::commands) target: Target,
    host: String,
    /// Ours ends with this.
    emulator: Option<Emulator>,
}

/// What was put into the database.
pub(in crate::commands) struct Seeded {
    pub(in crate::commands) ordinary: u64,
    pub(in crate::commands) hard: u64,
}

impl Stage {
    /// Starts an emulator for about `documents` documents, or connects to the one that was named.
    ///
    /// # Errors
    /// When there is none.
    pub(in crate::commands) async fn open(access: &Access, documents: u64) -> Result<Self> {
        let project =
            if matches!(access, Access::Emulator { .. }) { unused_project(PROJECT) } else { PROJECT.to_owned() };
        Self::open_in(project, access, documents).await
    }

    /// The same, with a project that nobody used before, whose name begins with this.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(in crate::commands) async fn open_unused(name: &str, access: &Access, documents: u64) -> Result<Self> {
        Self::open_in(unused_project(name), access, documents).await
    }

    async fn open_in(project: String, access: &Access, documents: u64) -> Result<Self> {
        let (emulator, host, project) = match access {
            Access::Emulator { host } => (None, host.clone(), project),
            Access::ServiceAccountFile(_)
            | Access::ServiceAccountKey(_)
            | Access::ApplicationDefault
            | Access::Federated(_)
            | Access::Consented(_) => {
                let heap_mib = HEAP_MIB + documents / 1000 * HEAP_MIB_PER_THOUSAND;
                let heap_mib = u32::try_from(heap_mib).unwrap_or(u32::MAX);
                let emulator =
                    Emulator::start_with(&EmulatorOptions { heap_mib, ..EmulatorOptions::default() }).await?;
                let host = emulator.host().to_owned();
                (Some(emulator), host, project)
            }
        };
        let database = DatabaseName::new(project, DEFAULT_DATABASE);
        let options = FirestoreOptions { database: database.clone(), access: Access::Emulator { host: host.clone() } };
        let firestore = Firestore::connect(options).await?.with_split_threshold(SPLIT_THRESHOLD);
        let target = Target { source: Arc::new(Retrying::new(firestore.clone())), sink: Arc::new(firestore) };
        Ok(Self { database, target, host, emulator })
    }

    /// Whether the emulator is ours.
    pub(in crate::commands) const fn is_ours(&self) -> bool {
        self.emulator.is_some()
    }

    /// Where it listens.
    pub(in crate::commands) fn host(&self) -> &str {
        &self.host
    }

    /// Fills the database.
    ///
    /// # Errors
    /// When a document cannot be written.
    pub(in crate::commands) async fn seed(&self, documents: u64, meter: &Meter) -> Result<Seeded> {
        let hard = corpus(&self.database);
        let ordinary = sample(&self.database, usize::try_from(documents).unwrap_or(usize::MAX), SEED);
        let seeded = Seeded { ordinary: documents, hard: hard.len() as u64 };
        meter.expected.set(seeded.ordinary + seeded.hard);
        let write = |(path, bytes)| Write { path, document: Some(bytes), precondition: Precondition::None };
        self.write(hard.into_iter().chain(ordinary).map(write), meter).await?;
        Ok(seeded)
    }

    /// Deletes documents.
    ///
    /// # Errors
    /// When one cannot be deleted.
    pub(in crate::commands) async fn delete(&self, paths: impl Iterator<Item = &DocumentPath> + Send) -> Result<()> {
        let write =
            |path: &DocumentPath| Write { path: path.clone(), document: None, precondition: Precondition::None };
        self.write(paths.map(write), &Meter::default()).await
    }

    /// Deletes everything: in an emulator of ours at once, in another one the documents at `paths`.
    ///
    /// # Errors
    /// When something cannot be deleted.
    pub(in crate::commands) async fn empty(&self, paths: impl Iterator<Item = &DocumentPath> + Send) -> Result<()> {
        match &self.emulator {
            Some(emulator) => Ok(emulator.clear(&self.database).await?),
            None => self.delete(paths).await,
        }
    }

    async fn write(&self, writes: impl Iterator<Item = Write> + Send, meter: &Meter) -> Result<()> {
        stream::iter(Batches(writes.peekable()))
            .map(Ok)
            .try_for_each_concurrent(BATCHES_AT_ONCE, |batch| write_batch(&*self.target.sink, batch, meter))
            .await
    }
}

/// A project that nobody used before in an emulator that is not ours: what others keep there stays untouched.
fn unused_project(name: &str) -> String {
    let random: [u8; 4] = world().bytes();
    format!("{name}-{:08x}", u32::from_be_bytes(random))
}

/// Sends one batch, every write of which must be done.
///
/// # Errors
/// When the request or one of its writes fails.
pub(in crate::commands) async fn write_batch(sink: &dyn DocumentSink, batch: Vec<Write>, meter: &Meter) -> Result<()> {
    let documents = batch.len() as u64;
    let size: usize = batch.iter().map(request_bytes).sum();
    for outcome in sink.write(batch).await? {
        outcome.map_err(CliError::Port)?;
    }
    meter.documents.add(documents);
    meter.bytes.add(size as u64);
    Ok(())
}

fn request_bytes(write: &Write) -> usize {
    write.document.as_ref().map_or(0, Bytes::len) + write.path.as_str().len() + 256
}

/// Writes in requests that the server takes.
struct Batches<I: Iterator<Item = Write>>(std::iter::Peekable<I>);

impl<I: Iterator<Item = Write>> Iterator for Batches<I> {
    type Item = Vec<Write>;

    fn next(&mut self) -> Option<Vec<Write>> {
        let mut batch = vec![self.0.next()?];
        let mut size = request_bytes(&batch[0]);
        while let Some(write) =
            self.0.next_if(|write| batch.len() < BATCH && size + request_bytes(write) <= MAX_BATCH_BYTES)
        {
            size += request_bytes(&write);
            batch.push(write);
        }
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_keep_to_the_limits_and_lose_nothing() {
        let database = DatabaseName::new("p", DEFAULT_DATABASE);
        let documents = corpus(&database).into_iter().chain(sample(&database, 1000, SEED));
        let writes: Vec<Write> = documents
            .map(|(path, bytes)| Write { path, document: Some(bytes), precondition: Precondition::None })
            .collect();
        let batches: Vec<Vec<Write>> = Batches(writes.clone().into_iter().peekable()).collect();
        assert!(batches.iter().all(|batch| batch.len() <= BATCH));
        assert!(batches.iter().all(|batch| batch.iter().map(request_bytes).sum::<usize>() <= MAX_BATCH_BYTES));
        assert_eq!(batches.concat(), writes);
    }
}
