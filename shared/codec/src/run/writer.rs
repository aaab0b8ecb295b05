//! Writes a run: seals blocks on as many threads as there are, and puts them one behind the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use firebackup_model::Timestamp;
use firebackup_model::id::{RepositoryId, RunId};
use firebackup_model::manifest::{Algorithm, Compression, Counts, GroupCounts, Level, RunEntry, RunKind};
use sha2::{Digest, Sha256};

use crate::compress;
use crate::error::FormatError;
use crate::limit::{MAX_BLOCK_SIZE, MAX_BLOCKS, MAX_FOOTER, MAX_RAW_BLOCK};
use crate::run::block::{BlockSummary, RawBlock, span};
use crate::run::footer::{BlockInfo, Footer};
use crate::run::header::{HEADER, RunHeader};
use crate::run::{FRAME, RunCipher, TRAILER, TRAILER_MAGIC};
use crate::sealing::{NONCE_ZERO, Sealing, TAG};

/// A writer should end its run here, with room for the blocks that are under way.
const SOFT_BLOCKS: usize = MAX_BLOCKS as usize / 2;
const SOFT_INDEX: usize = MAX_FOOTER / 2;

/// What a run is going to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSpec {
    /// The repository it is written to.
    pub repository: RepositoryId,
    /// Its id: random, used once.
    pub run: RunId,
    /// What it holds.
    pub kind: RunKind,
    /// The compression that was asked for.
    pub compression: Compression,
    /// Bytes before compression that blocks are aimed at; at most 8 MiB.
    pub block_size: u32,
    /// The read time of its documents, where there is one.
    pub read_time: Option<Timestamp>,
    /// Random bytes, used once.
    pub salt: [u8; 32],
}

/// Buffers that a thread uses again for each block.
#[derive(Debug, Default)]
pub struct Scratch {
    /// A buffer for the next sealed block; handed out with it.
    pub sealed: Vec<u8>,
    compressed: Vec<u8>,
    opened: Vec<u8>,
    raw: Vec<u8>,
}

/// Seals the blocks of one run. Cheap to clone, used by many threads at once.
#[derive(Debug, Clone)]
pub struct RunSealer(Arc<SealerInner>);

#[derive(Debug)]
struct SealerInner {
    header: RunHeader,
    bytes: [u8; HEADER],
    cipher: RunCipher,
}

/// A block as it stands in the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedBlock {
    /// Frame and sealed bytes.
    pub bytes: Vec<u8>,
    /// Its place in the run, from 0.
    pub index: u64,
    /// Whether the run ends with it.
    pub last: bool,
    /// How it was compressed in the end.
    pub algorithm: Algorithm,
    /// And at which level.
    pub level: u8,
    raw_length: u32,
}

impl RunSealer {
    /// Prepares the ciphers of a new run.
    #[must_use]
    pub fn new(spec: RunSpec, sealing: &Sealing) -> Self {
        let mut header = RunHeader {
            kind: spec.kind,
            cipher: sealing.cipher(),
            compression: clamp(spec.compression),
            run: spec.run,
            key: sealing.key_id(),
            salt: spec.salt,
            commitment: [0; 32],
            block_size: spec.block_size.min(MAX_BLOCK_SIZE),
            read_time: spec.read_time,
        };
        if let Some(commitment) = RunCipher::commitment(sealing, spec.repository, &header) {
            header.commitment = *commitment;
        }
        let bytes = header.encode();
        let cipher = RunCipher::new(sealing, spec.repository, &header, &bytes);
        Self(Arc::new(SealerInner { header, bytes, cipher }))
    }

    /// The bytes that the run begins with.
    #[must_use]
    pub fn header_bytes(&self) -> [u8; HEADER] {
        self.0.bytes
    }

    /// What the run is.
    #[must_use]
    pub fn header(&self) -> &RunHeader {
        &self.0.header
    }

    /// Compresses and seals block `index`. An index may be sealed again only with the same bytes and arguments: its
    /// nonce is the index. A block that does not shrink is stored as it is. With `verify`, the result is opened,
    /// decompressed and compared with what went in before it is handed out.
    ///
    /// # Errors
    /// When the block is beyond a limit, or when what was read back differs: then memory or the compressor failed.
    #[allow(clippy::too_many_arguments)] // each is a decision of the caller, and none has a default
    pub fn seal_block(
        &self,
        block: &RawBlock,
        index: u64,
        last: bool,
        algorithm: Algorithm,
        level: u8,
        verify: bool,
        scratch: &mut Scratch,
    ) -> Result<SealedBlock, FormatError> {
        let raw = &block.bytes;
        if index >= MAX_BLOCKS || raw.len() > MAX_RAW_BLOCK || raw.is_empty() {
            return Err(FormatError::limit(0, format!("block {index} of {} bytes", raw.len())));
        }
        let (low, high) = algorithm.levels();
        let (mut algorithm, mut level) = (algorithm, level.clamp(low, high));
        if algorithm != Algorithm::None {
            compress::compress(algorithm, level, raw, &mut scratch.compressed)?;
            if scratch.compressed.len() >= raw.len() {
                (algorithm, level) = (Algorithm::None, 0);
            }
        }
        let stored = if algorithm == Algorithm::None { raw } else { &scratch.compressed };
        let frame = frame(stored.len() + TAG, raw.len(), block.summary.records, algorithm, level, last);
        let mut bytes = std::mem::take(&mut scratch.sealed);
        bytes.clear();
        bytes.reserve_exact(FRAME + stored.len() + TAG);
        bytes.extend_from_slice(&frame);
        bytes.extend_from_slice(stored);
        let (nonce, data) = self.0.cipher.block_binding(index, &frame);
        self.0.cipher.block.seal(nonce, &data, &mut bytes, FRAME);
        let sealed = SealedBlock { bytes, index, last, algorithm, level, raw_length: raw.len() as u32 };
        if verify {
            self.compare(&sealed, raw, scratch)?;
        }
        Ok(sealed)
    }

    /// Opens what was sealed and compares it with what went in.
    fn compare(&self, sealed: &SealedBlock, raw: &[u8], scratch: &mut Scratch) -> Result<(), FormatError> {
        let differs = || {
            let reason = format!("block {} read back differs from what went in: memory is failing", sealed.index);
            FormatError::damaged(0, reason)
        };
        let (frame, stored) = sealed.bytes.split_at(FRAME);
        let frame: &[u8; FRAME] = frame.try_into().map_err(|_| differs())?;
        let (nonce, data) = self.0.cipher.block_binding(sealed.index, frame);
        scratch.opened.clear();
        scratch.opened.extend_from_slice(stored);
        self.0.cipher.block.open(nonce, &data, &mut scratch.opened).map_err(|_| differs())?;
        let same = if sealed.algorithm == Algorithm::None {
            scratch.opened == raw
        } else {
            compress::decompress(sealed.algorithm, &scratch.opened, raw.len(), &mut scratch.raw)
                .map_err(|error| differs().with_source(error))?;
            scratch.raw == raw
        };
        if same { Ok(()) } else { Err(differs()) }
    }
}

/// A level that the algorithm does not have would make a header that nobody reads.
fn clamp(compression: Compression) -> Compression {
    let (low, high) = compression.algorithm.levels();
    match compression.level {
        Level::Auto => compression,
        Level::Fixed(level) => Compression { level: Level::Fixed(level.clamp(low, high)), ..compression },
    }
}

fn frame(stored: usize, raw: usize, records: u32, algorithm: Algorithm, level: u8, last: bool) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    frame[..4].copy_from_slice(&(stored as u32).to_le_bytes());
    frame[4..8].copy_from_slice(&(raw as u32).to_le_bytes());
    frame[8..12].copy_from_slice(&records.to_le_bytes());
    frame[12] = compress::code(algorithm);
    frame[13] = level;
    frame[14] = u8::from(last);
    frame
}

/// Puts sealed blocks one behind the other and knows the index. What it does is cheap: hashing and counting.
#[derive(Debug)]
pub struct RunWriter {
    sealer: RunSealer,
    hash: Sha256,
    footer: Footer,
    levels: BTreeMap<String, u64>,
    index_bytes: usize,
    ended: bool,
}

/// What a finished run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// Footer and trailer: the last bytes of the run.
    pub bytes: Vec<u8>,
    /// The run, for a receipt or manifest.
    pub entry: RunEntry,
    /// Counts for each collection group (of a users run: for each tenant).
    pub collections: GroupCounts,
    /// How many blocks took each algorithm and level (`brotli:5`).
    pub levels: BTreeMap<String, u64>,
}

impl RunWriter {
    /// Begins the run; write [`Self::header`] first.
    #[must_use]
    pub fn new(sealer: RunSealer) -> Self {
        let hash = Sha256::new().chain_update(sealer.header_bytes());
        let footer = Footer {
            records: 0,
            tombstones: 0,
            document_bytes: 0,
            raw_bytes: 0,
            points: Vec::new(),
            times: None,
            blocks: Vec::new(),
            collections: GroupCounts::new(),
            sha256: [0; 32],
        };
        Self { sealer, hash, footer, levels: BTreeMap::new(), index_bytes: 0, ended: false }
    }

    /// The bytes that the run begins with.
    #[must_use]
    pub fn header(&self) -> [u8; HEADER] {
        self.sealer.header_bytes()
    }

    /// Lists the consistent points that the run proves.
    pub fn set_points(&mut self, mut points: Vec<Timestamp>) {
        points.sort_unstable();
        points.dedup();
        self.footer.points = points;
    }

    /// Bytes of the run so far, the header included.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.footer.offset()
    }

    /// Whether the run is so long that it should end soon: the next blocks belong in a run of their own.
    #[must_use]
    pub fn should_end(&self) -> bool {
        self.footer.blocks.len() >= SOFT_BLOCKS || self.index_bytes >= SOFT_INDEX
    }

    /// Notes a block; the caller writes its bytes behind those of the block before.
    ///
    /// # Errors
    /// When it is not the next in line: another index, behind the last block, or paths that do not ascend.
    pub fn append(&mut self, block: &SealedBlock, summary: &BlockSummary) -> Result<(), FormatError> {
        let offset = self.size();
        if self.ended || block.index != self.footer.blocks.len() as u64 {
            return Err(out_of_turn(offset, block.index));
        }
        if self.footer.blocks.last().is_some_and(|before| before.last > summary.first) {
            return Err(out_of_turn(offset, block.index));
        }
        self.hash.update(&block.bytes);
        self.index_bytes += 32 + summary.first.as_str().len() + summary.last.as_str().len();
        self.ended = block.last;
        self.count(block, summary);
        self.footer.blocks.push(BlockInfo {
            offset,
            length: block.bytes.len() as u32,
            raw_length: block.raw_length,
            records: summary.records,
            first: summary.first.clone(),
            last: summary.last.clone(),
        });
        Ok(())
    }

    fn count(&mut self, block: &SealedBlock, summary: &BlockSummary) {
        let footer = &mut self.footer;
        footer.records += u64::from(summary.records);
        footer.raw_bytes += u64::from(block.raw_length);
        footer.times = summary.times.map_or(footer.times, |times| span(footer.times, times));
        for (group, counts) in &summary.collections {
            footer.tombstones += counts.deletions;
            footer.document_bytes += counts.bytes;
            match footer.collections.get_mut(group) {
                Some(sum) => sum.add(*counts),
                None => drop(footer.collections.insert(group.clone(), Counts::clone(counts))),
            }
        }
        let level = Compression { algorithm: block.algorithm, level: Level::Fixed(block.level) };
        *self.levels.entry(level.to_string()).or_default() += 1;
    }

    /// Ends the run: its last bytes, and what to say of it.
    ///
    /// # Errors
    /// When there was no last block, or the index is not one that a reader would take.
    pub fn finish(mut self) -> Result<RunEnd, FormatError> {
        let offset = self.size();
        let (Some(first), Some(last)) = (self.footer.blocks.first(), self.footer.blocks.last()) else {
            return Err(FormatError::damaged(offset, "a run without blocks cannot end"));
        };
        if !self.ended {
            return Err(FormatError::damaged(offset, "a run whose last block is missing cannot end"));
        }
        let (first, last) = (first.first.clone(), last.last.clone());
        self.footer.sha256 = self.hash.clone().finalize().into();
        let bytes = self.seal_footer(offset)?;
        self.hash.update(&bytes);
        let header = self.sealer.header();
        let entry = RunEntry {
            id: header.run,
            kind: header.kind,
            size: offset + bytes.len() as u64,
            sha256: hex::encode(self.hash.finalize()),
            records: self.footer.records,
            blocks: self.footer.blocks.len() as u64,
            raw_bytes: self.footer.raw_bytes,
            first,
            last,
            read_time: header.read_time,
        };
        Ok(RunEnd { bytes, entry, collections: self.footer.collections, levels: self.levels })
    }

    fn seal_footer(&self, offset: u64) -> Result<Vec<u8>, FormatError> {
        let mut bytes = self.footer.encode();
        // What no reader would take must not be written: points that are no times, or too many of anything.
        if Footer::parse(&bytes, offset, self.sealer.header().kind)? != self.footer {
            return Err(FormatError::damaged(offset, "its footer read back differs from what went in"));
        }
        let cipher = &self.sealer.0.cipher;
        cipher.footer.seal(NONCE_ZERO, &cipher.footer_binding(offset), &mut bytes, 0);
        if bytes.len() > MAX_FOOTER {
            return Err(FormatError::limit(offset, format!("a footer of {} bytes", bytes.len())));
        }
        bytes.reserve(TRAILER);
        let length = (bytes.len() as u32).to_le_bytes();
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), &length);
        bytes.extend_from_slice(&length);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&TRAILER_MAGIC);
        Ok(bytes)
    }
}

fn out_of_turn(offset: u64, index: u64) -> FormatError {
    FormatError::new(crate::FormatErrorKind::Order, offset, format!("block {index} is not the next in line"))
}
