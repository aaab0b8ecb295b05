//! Figures: medians of several runs, each as a share of the bare run that it is compared with.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::table::table;
use crate::units::{count, ratio};

/// One thing that is measured, with the runs so far.
#[derive(Debug, Default)]
pub(super) struct Series {
    name: String,
    runs: Vec<Run>,
    /// How many blocks took each algorithm and level, in all runs.
    levels: BTreeMap<String, u64>,
    /// Bytes in the repository, of the last run.
    stored: Option<u64>,
}

/// One run of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// Documents that passed.
    pub(super) documents: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// How long it took.
    pub(super) seconds: f64,
}

/// What is told of a series.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    name: String,
    documents_per_second: f64,
    megabytes_per_second: f64,
    /// Documents a second as a share of the bare run's.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio_to_bare: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_bytes: Option<u64>,
    #[serde(skip)]
    smaller: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    levels: BTreeMap<String, u64>,
}

impl Series {
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    pub(super) fn add(&mut self, run: Run) {
        self.runs.push(run);
    }

    /// As [`Self::add`], of a run that stored something.
    pub(super) fn add_stored(&mut self, run: Run, stored: u64, levels: &BTreeMap<String, u64>) {
        self.add(run);
        self.stored = Some(stored);
        for (level, blocks) in levels {
            *self.levels.entry(level.clone()).or_default() += blocks;
        }
    }

    /// What came of it, compared with `bare`.
    pub(super) fn figure(&self, bare: Option<&Self>) -> Figure {
        let documents_per_second = self.median(|run| run.documents as f64);
        let bare = bare.map(|bare| bare.median(|run| run.documents as f64));
        let bytes = self.runs.last().map_or(0, |run| run.bytes);
        Figure {
            name: self.name.clone(),
            documents_per_second,
            megabytes_per_second: self.median(|run| run.bytes as f64 / 1e6),
            ratio_to_bare: bare.map(|bare| documents_per_second / bare),
            stored_bytes: self.stored,
            smaller: self.stored.map(|stored| ratio(bytes, stored)),
            levels: self.levels.clone(),
        }
    }

    /// The median of an amount a second; of an even number of runs the mean of the two in the middle.
    fn median(&self, amount: impl Fn(&Run) -> f64) -> f64 {
        let mut rates: Vec<f64> = self.runs.iter().map(|run| amount(run) / run.seconds.max(1e-9)).collect();
        rates.sort_by(f64::total_cmp);
        let middle = [rates.len().saturating_sub(1) / 2, rates.len() / 2];
        middle.map(|index| rates.get(index).copied().unwrap_or_default()).iter().sum::<f64>() / 2.0
    }
}

/// The figures, one a line.
pub(super) fn figures_table(figures: &[Figure]) -> String {
    let header = ["WHAT", "DOCS/S", "MB/S", "OF BARE", "SMALLER", "BLOCKS BY LEVEL"];
    let rows = figures.iter().map(|figure| {
        vec![
            figure.name.clone(),
            count(figure.documents_per_second as u64),
            format!("{:.1}", figure.megabytes_per_second),
            figure.ratio_to_bare.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            figure.smaller.clone().unwrap_or_default(),
            figure.levels.iter().map(|(level, blocks)| format!("{level} × {blocks}")).collect::<Vec<_>>().join(", "),
        ]
    });
    table(&header, &header[1..5], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, seconds: &[f64]) -> Series {
        let mut series = Series::new(name);
        for seconds in seconds {
            series.add(Run { documents: 1200, bytes: 6_000_000, seconds: *seconds });
        }
        series
    }

    #[test]
    fn the_middle_counts_and_an_outlier_does_not() {
        let figure = series("x", &[3.0, 2.0, 600.0]).figure(None);
        assert!((figure.documents_per_second - 400.0).abs() < 1e-9, "{figure:?}");
        assert!((figure.megabytes_per_second - 2.0).abs() < 1e-9, "{figure:?}");
        let even = series("x", &[1.0, 2.0, 3.0, 600.0]).figure(None);
        assert!((even.documents_per_second - 500.0).abs() < 1e-9, "{even:?}");
        assert!(figure.ratio_to_bare.is_none());
    }

    #[test]
    fn figures_are_shares_of_the_bare_run() {
        let bare = series("bare read", &[1.0]);
        let mut backup = series("backup", &[]);
        let run = Run { documents: 1200, bytes: 6_000_000, seconds: 2.0 };
        backup.add_stored(run, 2_000_000, &BTreeMap::from([("zstd:3".to_owned(), 5)]));
        backup.add_stored(run, 2_000_000, &BTreeMap::from([("zstd:3".to_owned(), 4), ("zstd:4".to_owned(), 1)]));
        let figure = backup.figure(Some(&bare));
        assert!(figure.ratio_to_bare.is_some_and(|ratio| (ratio - 0.5).abs() < 1e-9), "{figure:?}");
        let table = figures_table(&[bare.figure(None), figure]);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["bare", "read", "1,200", "6.0"]);
        assert_eq!(lines[2][..5], ["backup", "600", "3.0", "0.50", "3.0×"]);
        assert!(table.ends_with("zstd:3 × 9, zstd:4 × 1"), "{table}");
    }
}
