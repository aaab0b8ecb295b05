//! Compression of blocks and payloads. Decompression takes no more memory than the length it was told, and a window.

use std::cell::RefCell;
use std::io::{Read, Write};

use brotli::enc::{BrotliEncoderParams, StandardAlloc};
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use firebackup_model::manifest::Algorithm;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

use crate::error::{FormatError, FormatErrorKind};

/// Brotli's largest window, in bits: 4 MiB. A reader refuses larger ones, which would have it take more memory than it
/// was told.
const BROTLI_WINDOW: u32 = 22;
/// Brotli's smallest window, in bits.
const BROTLI_SMALLEST_WINDOW: u32 = 10;
const BROTLI_BUFFER: usize = 64 * 1024;

thread_local! {
    // A zstd context is a few hundred KiB that would be made and cleared for every block.
    static ZSTD: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    static UNZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The number that stands for an algorithm in headers and frames.
pub(crate) const fn code(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::None => 0,
        Algorithm::Brotli => 1,
        Algorithm::Zstd => 2,
        Algorithm::Gzip => 3,
    }
}

/// The algorithm that a number of a header or frame stands for.
pub(crate) fn algorithm(code: u8, offset: u64) -> Result<Algorithm, FormatError> {
    match code {
        0 => Ok(Algorithm::None),
        1 => Ok(Algorithm::Brotli),
        2 => Ok(Algorithm::Zstd),
        3 => Ok(Algorithm::Gzip),
        _ => {
            let reason = format!("unknown compression {code}");
            Err(FormatError::new(FormatErrorKind::Unsupported, offset, reason))
        }
    }
}

/// Replaces what is in `out` by `raw`, compressed. A level outside the algorithm's becomes its nearest.
///
/// # Errors
/// When the compressor fails, which is a matter of memory, not of `raw`.
pub fn compress(algorithm: Algorithm, level: u8, raw: &[u8], out: &mut Vec<u8>) -> Result<(), FormatError> {
    let (low, high) = algorithm.levels();
    let level = level.clamp(low, high);
    out.clear();
    let result = match algorithm {
        Algorithm::None => {
            out.extend_from_slice(raw);
            Ok(())
        }
        Algorithm::Brotli => compress_brotli(level, raw, out),
        Algorithm::Zstd => compress_zstd(level, raw, out),
        Algorithm::Gzip => compress_gzip(level, raw, out),
    };
    result.map_err(|error| FormatError::damaged(0, "the compressor failed").with_source(error))
}

fn compress_brotli(level: u8, raw: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    let params = BrotliEncoderParams {
        quality: i32::from(level),
        lgwin: brotli_window(raw.len()) as i32,
        size_hint: raw.len(),
        ..BrotliEncoderParams::default()
    };
    // The crate's own default of 4 KiB a call costs a fifth of the time at low levels.
    let mut writer = brotli::CompressorWriter::with_params(out, BROTLI_BUFFER, &params);
    writer.write_all(raw)?;
    writer.flush()?;
    drop(writer);
    Ok(())
}

/// A window that just about holds the block: a larger one takes memory and time, and finds nothing more.
fn brotli_window(length: usize) -> u32 {
    let length = length.max(1);
    // a block passes its size by one record: an eighth more does not need twice the window
    (length + length * 7 / 8).ilog2().clamp(BROTLI_SMALLEST_WINDOW, BROTLI_WINDOW)
}

fn compress_zstd(level: u8, raw: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    out.reserve(zstd::zstd_safe::compress_bound(raw.len()));
    ZSTD.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(zstd::bulk::Compressor::new(i32::from(level))?),
        };
        compressor.set_compression_level(i32::from(level))?;
        compressor.compress_to_buffer(raw, out).map(drop)
    })
}

fn compress_gzip(level: u8, raw: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    let mut writer = GzEncoder::new(out, flate2::Compression::new(u32::from(level)));
    writer.write_all(raw)?;
    writer.finish().map(drop)
}

/// Replaces what is in `out` by what `stored` was made of, `raw_length` bytes: not one more, not one less.
///
/// # Errors
/// When `stored` is malformed, goes on behind its end, or holds another number of bytes.
pub fn decompress(
    algorithm: Algorithm,
    stored: &[u8],
    raw_length: usize,
    out: &mut Vec<u8>,
) -> Result<(), FormatError> {
    out.clear();
    match algorithm {
        Algorithm::None => out.extend_from_slice(stored),
        Algorithm::Brotli => decompress_brotli(stored, raw_length, out)?,
        Algorithm::Zstd => decompress_zstd(stored, raw_length, out)?,
        Algorithm::Gzip => decompress_gzip(stored, raw_length, out)?,
    }
    if out.len() == raw_length { Ok(()) } else { Err(wrong_length(raw_length)) }
}

fn wrong_length(raw_length: usize) -> FormatError {
    FormatError::damaged(0, format!("it does not decompress to the {raw_length} bytes that it should"))
}

fn malformed(name: &'static str) -> FormatError {
    FormatError::damaged(0, format!("it does not decompress: malformed {name}"))
}

fn decompress_brotli(stored: &[u8], raw_length: usize, out: &mut Vec<u8>) -> Result<(), FormatError> {
    // RFC 7932, 9.1: these are windows of 8 and 16 MiB.
    if stored.first().is_some_and(|first| matches!(first & 0x0f, 0x0d | 0x0f)) {
        return Err(FormatError::limit(0, "a brotli window larger than 4 MiB"));
    }
    out.resize(raw_length, 0);
    let alloc = StandardAlloc::default;
    // strict: without the extension that has windows of up to 1 GiB
    let mut state = BrotliState::new_strict(alloc(), alloc(), alloc());
    let (mut available_in, mut input_offset) = (stored.len(), 0);
    let (mut available_out, mut output_offset, mut written) = (raw_length, 0, 0);
    let result = BrotliDecompressStream(
        &mut available_in,
        &mut input_offset,
        stored,
        &mut available_out,
        &mut output_offset,
        out,
        &mut written,
        &mut state,
    );
    match result {
        BrotliResult::ResultSuccess if available_in == 0 && output_offset == raw_length => Ok(()),
        BrotliResult::ResultSuccess | BrotliResult::NeedsMoreOutput => Err(wrong_length(raw_length)),
        _ => Err(malformed("brotli")),
    }
}

fn decompress_zstd(stored: &[u8], raw_length: usize, out: &mut Vec<u8>) -> Result<(), FormatError> {
    out.reserve_exact(raw_length);
    let result = UNZSTD.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => slot.insert(zstd::bulk::Decompressor::new()?),
        };
        decompressor.decompress_to_buffer(stored, out)
    });
    result.map(drop).map_err(|error| malformed("zstd").with_source(error))
}

fn decompress_gzip(stored: &[u8], raw_length: usize, out: &mut Vec<u8>) -> Result<(), FormatError> {
    let failed = |error| malformed("gzip").with_source(error);
    out.resize(raw_length, 0);
    let mut reader = GzDecoder::new(stored);
    reader.read_exact(out).map_err(failed)?;
    // Reading on is what makes the decoder check the member's own length and checksum.
    let more = reader.read(&mut [0]).map_err(failed)?;
    if more == 0 && reader.into_inner().is_empty() { Ok(()) } else { Err(wrong_length(raw_length)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Algorithm; 4] = [Algorithm::None, Algorithm::Brotli, Algorithm::Zstd, Algorithm::Gzip];

    fn text(length: usize) -> Vec<u8> {
        b"the quick brown fox, and then some more; ".iter().copied().cycle().take(length).collect()
    }

    #[test]
    fn every_level_of_every_algorithm_round_trips() {
        let raw = text(70_000);
        let (mut stored, mut out) = (Vec::new(), Vec::new());
        for algorithm in ALL {
            let (low, high) = algorithm.levels();
            for level in low..=high {
                compress(algorithm, level, &raw, &mut stored).unwrap();
                decompress(algorithm, &stored, raw.len(), &mut out).unwrap();
                assert!(out == raw, "{algorithm:?} {level}");
                if level > 0 {
                    assert!(stored.len() < raw.len() / 10, "{algorithm:?} {level}: {}", stored.len());
                }
            }
        }
    }

    #[test]
    fn a_length_that_lies_is_refused_and_bounds_what_is_taken() {
        let raw = text(8 << 20);
        let mut stored = Vec::new();
        for algorithm in ALL {
            compress(algorithm, 3, &raw, &mut stored).unwrap();
            for lie in [0, 1, 1000, raw.len() - 1, raw.len() + 1] {
                let mut out = Vec::new();
                assert!(decompress(algorithm, &stored, lie, &mut out).is_err(), "{algorithm:?} {lie}");
                let bound = if algorithm == Algorithm::None { stored.len() } else { lie };
                assert!(out.capacity() <= bound + 64, "{algorithm:?} {lie} took {}", out.capacity());
            }
        }
    }

    #[test]
    fn a_brotli_window_beyond_the_bound_is_refused() {
        for window in [23, 24] {
            let params = BrotliEncoderParams { quality: 5, lgwin: window, ..BrotliEncoderParams::default() };
            let (raw, mut stored, mut out) = (text(9 << 20), Vec::new(), Vec::new());
            brotli::BrotliCompress(&mut raw.as_slice(), &mut stored, &params).unwrap();
            let error = decompress(Algorithm::Brotli, &stored, raw.len(), &mut out).unwrap_err();
            assert_eq!(error.kind(), FormatErrorKind::Limit);
        }
    }

    #[test]
    fn what_follows_the_end_is_refused() {
        let raw = text(1000);
        let (mut stored, mut out) = (Vec::new(), Vec::new());
        for algorithm in ALL {
            compress(algorithm, 3, &raw, &mut stored).unwrap();
            stored.push(0);
            assert!(decompress(algorithm, &stored, raw.len(), &mut out).is_err(), "{algorithm:?}");
        }
    }

    proptest! {
        #[test]
        fn bytes_round_trip(raw: Vec<u8>, level: u8) {
            let (mut stored, mut out) = (Vec::new(), Vec::new());
            for algorithm in ALL {
                compress(algorithm, level, &raw, &mut stored).unwrap();
                decompress(algorithm, &stored, raw.len(), &mut out).unwrap();
                prop_assert_eq!(&out, &raw);
            }
        }

        #[test]
        fn rubbish_is_refused_or_right_in_length(stored: Vec<u8>, raw_length in 0usize..5000) {
            let mut out = Vec::new();
            for algorithm in ALL {
                if decompress(algorithm, &stored, raw_length, &mut out).is_ok() {
                    prop_assert_eq!(out.len(), raw_length);
                }
            }
        }

        #[test]
        fn cuts_are_refused(cut in 0usize..200) {
            let (raw, mut stored, mut out) = (text(5000), Vec::new(), Vec::new());
            for algorithm in ALL {
                compress(algorithm, 3, &raw, &mut stored).unwrap();
                let cut = cut % stored.len();
                prop_assert!(decompress(algorithm, &stored[..cut], raw.len(), &mut out).is_err());
            }
        }
    }
}
