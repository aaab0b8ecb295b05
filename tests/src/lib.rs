//! The integration tests live in `integration/`, the benchmarks in `benches/`.
