//! Stands in for the crate `crc-fast`, which the clients of S3 use for three checksums and which brings tables for a hundred:
//! 700 KB that do not compress, in every function (see `docs/adr/0010-small-functions.md`). The checksums themselves are
//! those of `crc32fast`, `crc32c` and `crc64fast-nvme`.

/// The checksums that S3 knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrcAlgorithm {
    /// CRC-32 as gzip has it.
    Crc32IsoHdlc,
    /// CRC-32C.
    Crc32Iscsi,
    /// CRC-64/NVME.
    Crc64Nvme,
}

#[derive(Clone)]
enum State {
    IsoHdlc(crc32fast::Hasher),
    Iscsi(u32),
    Nvme(crc64fast_nvme::Digest),
}

/// A checksum that is being computed.
#[derive(Clone)]
pub struct Digest(State);

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Digest").finish_non_exhaustive()
    }
}

impl Digest {
    /// Of no bytes yet.
    #[must_use]
    pub fn new(algorithm: CrcAlgorithm) -> Self {
        Self(match algorithm {
            CrcAlgorithm::Crc32IsoHdlc => State::IsoHdlc(crc32fast::Hasher::new()),
            CrcAlgorithm::Crc32Iscsi => State::Iscsi(0),
            CrcAlgorithm::Crc64Nvme => State::Nvme(crc64fast_nvme::Digest::new()),
        })
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::IsoHdlc(state) => state.update(bytes),
            State::Iscsi(state) => *state = crc32c::crc32c_append(*state, bytes),
            State::Nvme(state) => state.write(bytes),
        }
    }

    /// The checksum of all bytes.
    #[must_use]
    pub fn finalize(&self) -> u64 {
        match &self.0 {
            State::IsoHdlc(state) => state.clone().finalize().into(),
            State::Iscsi(state) => (*state).into(),
            State::Nvme(state) => state.sum64(),
        }
    }
}

/// The checksum of these bytes.
#[must_use]
pub fn checksum(algorithm: CrcAlgorithm, bytes: &[u8]) -> u64 {
    let mut digest = Digest::new(algorithm);
    digest.update(bytes);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check values of the catalogue of CRC algorithms.
    const CHECKS: [(CrcAlgorithm, u64); 3] = [
        (CrcAlgorithm::Crc32IsoHdlc, 0xcbf4_3926),
        (CrcAlgorithm::Crc32Iscsi, 0xe306_9283),
        (CrcAlgorithm::Crc64Nvme, 0xae8b_1486_0a79_9888),
    ];

    #[test]
    fn the_checksums_are_those_of_the_catalogue_however_the_bytes_come() {
        for (algorithm, wanted) in CHECKS {
            assert_eq!(checksum(algorithm, b"123456789"), wanted, "{algorithm:?}");
            assert_eq!(checksum(algorithm, b""), 0, "{algorithm:?}");
            for cut in 0..=9 {
                let mut digest = Digest::new(algorithm);
                digest.update(&b"123456789"[..cut]);
                digest.update(&b"123456789"[cut..]);
                assert_eq!(digest.finalize(), wanted, "{algorithm:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn large_inputs_are_summed_as_small_ones() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|number| (number % 251) as u8).collect();
        for (algorithm, _) in CHECKS {
            let mut digest = Digest::new(algorithm);
            for byte in &bytes {
                digest.update(std::slice::from_ref(byte));
            }
            assert_eq!(digest.finalize(), checksum(algorithm, &bytes), "{algorithm:?}");
        }
    }
}
