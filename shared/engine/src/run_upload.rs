//! Writes one run: records in, blocks compressed and sealed on all cores, parts out, in bounded memory.
//!
//! ```text
//! push → block full → worker (compress, seal, open, compare) → in order → hash, part → put_part
//! ```
//!
//! At most [`IN_FLIGHT`] blocks are with the workers and two parts on their way; whoever pushes waits for room.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use firebackup_codec::record::RecordRef;
use firebackup_codec::run::block::{BlockBuilder, BlockSummary, RawBlock};
use firebackup_codec::run::writer::{RunEnd, RunSealer, RunSpec, RunWriter, SealedBlock};
use firebackup_codec::sealing::Sealing;
use firebackup_model::Timestamp;
use firebackup_model::id::RunId;
use firebackup_model::manifest::{Algorithm, Compression, RunKind};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::auto_level::LevelChoice;
use crate::error::{EngineError, Result};
use crate::layout;
use crate::repository::Repository;
use crate::upload::{PART_BYTES, Upload};
use crate::workers::Workers;
use crate::world::Meter;

/// Blocks of one run that are sealed, being sealed, or waiting for a worker.
const IN_FLIGHT: usize = 6;
/// Buffers of sealed blocks that are kept: half a part.
const KEPT_BUFFERS: usize = PART_BYTES / (2 * 1024 * 1024);

/// How a job writes its runs.
#[derive(Clone)]
pub(crate) struct RunSettings {
    pub(crate) repository: Repository,
    pub(crate) sealing: Sealing,
    pub(crate) compression: Compression,
    pub(crate) block_bytes: usize,
    /// Whether each block is opened again and compared before it is uploaded.
    pub(crate) verify_blocks: bool,
    pub(crate) levels: Arc<LevelChoice>,
    /// For all runs of the job.
    pub(crate) workers: Arc<Workers>,
    pub(crate) meter: Arc<Meter>,
}

impl RunSettings {
    pub(crate) fn new(repository: Repository, sealing: Sealing, compression: Compression, meter: Arc<Meter>) -> Self {
        let levels = Arc::new(LevelChoice::new(compression));
        let workers = Arc::new(Workers::start());
        Self { repository, sealing, compression, block_bytes: 1024 * 1024, verify_blocks: true, levels, workers, meter }
    }
}

type Sealed = Result<(SealedBlock, BlockSummary)>;

/// Buffers of sealed blocks that the store has, for blocks to come: fresh ones would be cleared page by page.
type SealedBuffers = Arc<Mutex<Vec<Vec<u8>>>>;

/// A sealed block on its way to the store; its buffer comes back when nobody needs it any more.
struct Returning {
    bytes: Vec<u8>,
    home: SealedBuffers,
}

impl AsRef<[u8]> for Returning {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        if let Ok(mut home) = self.home.lock()
            && home.len() < KEPT_BUFFERS
        {
            home.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// A run on its way to the store.
pub(crate) struct RunUpload {
    settings: RunSettings,
    sealer: RunSealer,
    builder: BlockBuilder,
    /// A full block that waits to learn whether it is the last.
    pending: Option<RawBlock>,
    next_index: u64,
    /// Buffers of blocks that are sealed, for blocks to come.
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
    sealed_buffers: SealedBuffers,
    to_uploader: mpsc::Sender<oneshot::Receiver<Sealed>>,
    uploader: JoinHandle<Result<RunEnd>>,
    raw_bytes: u64,
}

impl RunUpload {
    /// Begins a run.
    pub(crate) fn start(settings: RunSettings, kind: RunKind, read_time: Option<Timestamp>) -> Result<Self> {
        let world = settings.repository.world();
        let run = RunId(world.bytes());
        let spec = RunSpec {
            repository: settings.repository.id(),
            run,
            kind,
            compression: settings.compression,
            block_size: u32::try_from(settings.block_bytes).unwrap_or(u32::MAX),
            read_time,
            salt: world.bytes(),
        };
        let sealer = RunSealer::new(spec, &settings.sealing);
        let (to_uploader, from_sealers) = mpsc::channel(IN_FLIGHT);
        let upload =
            Upload::new(Arc::clone(settings.repository.store()), layout::run(run), Arc::clone(&settings.meter));
        let sealed_buffers = SealedBuffers::default();
        let writer = RunWriter::new(sealer.clone());
        let uploader = tokio::spawn(upload_in_order(upload, writer, from_sealers, Arc::clone(&sealed_buffers)));
        let builder = BlockBuilder::new(kind, settings.block_bytes);
        Ok(Self {
            settings,
            sealer,
            builder,
            pending: None,
            next_index: 0,
            spare: Arc::default(),
            sealed_buffers,
            to_uploader,
            uploader,
            raw_bytes: 0,
        })
    }

    /// Bytes of records taken so far.
    pub(crate) const fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    /// Adds a record, copying it. Waits while the workers are behind.
    pub(crate) async fn push(&mut self, record: &RecordRef<'_>) -> Result<()> {
        let before = self.builder.raw_len();
        self.builder.push(record)?;
        self.raw_bytes += (self.builder.raw_len() - before) as u64;
        if self.builder.is_full()
            && let Some(full) = self.builder.take()?
            && let Some(block) = self.pending.replace(full)
        {
            self.dispatch(block, false).await?;
        }
        Ok(())
    }

    /// Ends the run and waits until the store has it.
    pub(crate) async fn finish(mut self) -> Result<RunEnd> {
        let pending = self.pending.take();
        let rest = self.builder.take()?;
        match (pending, rest) {
            (Some(block), Some(last)) => {
                self.dispatch(block, false).await?;
                self.dispatch(last, true).await?;
            }
            (Some(last), None) | (None, Some(last)) => self.dispatch(last, true).await?,
            (None, None) => {}
        }
        let Self { to_uploader, uploader, .. } = self;
        drop(to_uploader);
        uploader.await?
    }

    async fn dispatch(&mut self, block: RawBlock, last: bool) -> Result<()> {
        let raw_len = block.bytes.len() as u64;
        let index = self.next_index;
        self.next_index += 1;
        if let Some(buffer) = self.spare.lock().ok().and_then(|mut spare| spare.pop()) {
            self.builder.recycle(buffer);
        }
        // waiting for the compressors says "too high a level"; waiting for the store does not
        let waiting = self.settings.workers.waiting();
        let to_uploader = self.to_uploader.clone();
        let Ok(slot) = to_uploader.reserve().await else { return self.failure().await };
        self.settings.levels.observe(Instant::now(), raw_len, waiting);
        let (algorithm, level) = self.settings.levels.next();
        self.settings.meter.level.set(u64::from(level));
        slot.send(self.seal(block, index, last, algorithm, level));
        Ok(())
    }

    fn seal(
        &self,
        block: RawBlock,
        index: u64,
        last: bool,
        algorithm: Algorithm,
        level: u8,
    ) -> oneshot::Receiver<Sealed> {
        let (sealer, spare, buffers) = (self.sealer.clone(), Arc::clone(&self.spare), Arc::clone(&self.sealed_buffers));
        let verify = self.settings.verify_blocks;
        self.settings.workers.run(move |scratch| {
            if let Some(buffer) = buffers.lock().ok().and_then(|mut buffers| buffers.pop()) {
                scratch.sealed = buffer;
            }
            let sealed = sealer.seal_block(&block, index, last, algorithm, level, verify, scratch);
            if let Ok(mut spare) = spare.lock() {
                spare.push(block.bytes);
            }
            Ok((sealed?, block.summary))
        })
    }

    /// The uploader ended early: its error is the reason.
    async fn failure(&mut self) -> Result<()> {
        match (&mut self.uploader).await? {
            Err(error) => Err(error),
            Ok(_) => Err(EngineError::Refused("a run was ended before its last block".to_owned())),
        }
    }
}

async fn upload_in_order(
    mut upload: Upload,
    mut writer: RunWriter,
    mut blocks: mpsc::Receiver<oneshot::Receiver<Sealed>>,
    buffers: SealedBuffers,
) -> Result<RunEnd> {
    upload.write(Bytes::copy_from_slice(&writer.header())).await?;
    while let Some(block) = blocks.recv().await {
        let (sealed, summary) = block.await.map_err(|_| EngineError::Worker)??;
        writer.append(&sealed, &summary)?;
        upload.write(Bytes::from_owner(Returning { bytes: sealed.bytes, home: Arc::clone(&buffers) })).await?;
    }
    let mut end = writer.finish()?;
    upload.write(std::mem::take(&mut end.bytes).into()).await?;
    upload.finish().await?;
    Ok(end)
}
