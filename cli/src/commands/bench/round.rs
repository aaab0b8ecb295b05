//! The rounds: everything that is compared runs in each of them, so that a slow minute of the machine hits all alike.

use std::sync::Arc;
use std::time::Instant;

use firebackup_codec::secret::SecretKey;
use firebackup_engine::{Backup, Meter, Repository, Restore, RestoreOptions, Resume, Secrets};
use firebackup_model::PathRange;
use firebackup_model::id::SnapshotId;
use firebackup_model::manifest::{Compression, Manifest};
use firebackup_model::port::Write;
use firebackup_storage::{Destination, DestinationSettings};
use futures::{StreamExt, TryStreamExt, stream};
use tempfile::TempDir;

use super::figure::{Figure, Run, Series};
use super::load::Load;
use crate::commands::demo::stage::{Stage, write_batch};
use crate::context::world;
use crate::error::{CliError, Result};
use crate::output::Output;
use crate::settings::folder_url;

/// Batches on their way at one time, as a restore has them.
const BATCHES_AT_ONCE: usize = 4;
/// An emulator is a Java program: it is at speed when it has done the same a few times.
const WARM_UPS: u32 = 2;

/// A database, a repository in a temporary folder, and what passes between them.
pub(super) struct Bench {
    stage: Stage,
    load: Load,
    documents: u64,
    compressions: Vec<Compression>,
    repository: Repository,
    /// Removed with this.
    _folder: TempDir,
}

/// All that is measured.
struct AllSeries {
    bare_read: Series,
    backups: Vec<Series>,
    bare_write: Series,
    restore: Series,
    restore_in_place: Series,
}

impl Bench {
    /// Makes the repository, and the documents in memory.
    ///
    /// # Errors
    /// When the temporary folder cannot be made or used.
    pub(super) async fn prepare(stage: Stage, documents: u64, compressions: &[Compression]) -> Result<Self> {
        let folder = tempfile::tempdir().map_err(CliError::file("make a folder in", std::env::temp_dir()))?;
        let url = folder_url(&folder.path().join("repository"))?;
        let destination = Destination::create(&url, &DestinationSettings::default())?;
        // of one run, and never written down
        let master = SecretKey::from_bytes(world().bytes());
        let secrets = Secrets { masters: vec![master], ..Secrets::default() };
        let repository = Repository::init(destination.store(), secrets, world()).await?;
        let load = Load::new(&stage.database, documents);
        Ok(Self { stage, load, documents, compressions: compressions.to_vec(), repository, _folder: folder })
    }

    /// Bytes of the documents.
    pub(super) const fn bytes(&self) -> u64 {
        self.load.bytes
    }

    /// Empties the database.
    ///
    /// # Errors
    /// When something cannot be deleted.
    pub(super) async fn empty(&self) -> Result<()> {
        self.stage.empty(self.load.paths()).await
    }

    /// Warms up, and measures.
    ///
    /// # Errors
    /// When anything is not read or written whole.
    pub(super) async fn measure(&self, rounds: u32, output: &Output) -> Result<Vec<Figure>> {
        let mut series = AllSeries::new(&self.compressions);
        for warm_up in 1..=WARM_UPS {
            output.note(&format!("warming up, {warm_up} of {WARM_UPS} …"));
            self.bare_write(&self.load.documents).await?;
            self.bare_read().await?;
        }
        let snapshot = self.backup(Compression::default()).await?.1.id;
        for round in 1..=rounds {
            output.note(&format!("round {round} of {rounds} …"));
            self.round(&snapshot, &mut series).await?;
        }
        Ok(series.figures())
    }

    /// Each begins and ends with the documents in the database.
    async fn round(&self, snapshot: &SnapshotId, series: &mut AllSeries) -> Result<()> {
        series.bare_read.add(self.bare_read().await?);
        for (compression, backups) in self.compressions.iter().zip(&mut series.backups) {
            let (run, manifest) = self.backup(*compression).await?;
            backups.add_stored(run, manifest.stored_bytes, &manifest.levels);
        }
        self.empty().await?;
        series.bare_write.add(self.bare_write(&self.load.documents).await?);
        self.empty().await?;
        series.restore.add(self.restore(snapshot, false).await?);
        self.bare_write(&self.load.changed).await?;
        series.restore_in_place.add(self.restore(snapshot, true).await?);
        Ok(())
    }

    /// What the server gives when nothing is done with it.
    async fn bare_read(&self) -> Result<Run> {
        let source = &self.stage.target.source;
        let at = source.snapshot_time().await?;
        let started = Instant::now();
        let mut stream = source.stream(&PathRange::everything(), at, None).await?;
        let (mut documents, mut bytes) = (0, 0);
        while let Some(document) = stream.try_next().await? {
            documents += 1;
            bytes += document.0.len() as u64;
        }
        self.run("a bare read returned", documents, bytes, started)
    }

    async fn backup(&self, compression: Compression) -> Result<(Run, Manifest)> {
        let started = Instant::now();
        let backup = Backup::builder(self.repository.clone(), Arc::clone(&self.stage.target.source))
            .compression(compression)
            .resume(Resume::Never)
            .build();
        let manifest = backup.run().await?.manifest;
        let totals = manifest.totals;
        Ok((self.run("a backup held", totals.documents, totals.bytes, started)?, manifest))
    }

    /// What the server takes when it is only written to.
    async fn bare_write(&self, batches: &[Vec<Write>]) -> Result<Run> {
        let (batches, meter) = (batches.to_vec(), Meter::default());
        let started = Instant::now();
        stream::iter(batches)
            .map(Ok)
            .try_for_each_concurrent(BATCHES_AT_ONCE, |batch| write_batch(&*self.stage.target.sink, batch, &meter))
            .await?;
        self.run("a bare write wrote", meter.documents.get(), self.load.bytes, started)
    }

    async fn restore(&self, snapshot: &SnapshotId, undo: bool) -> Result<Run> {
        let started = Instant::now();
        let restore = Restore {
            repository: self.repository.clone(),
            snapshot: snapshot.clone(),
            at: None,
            target: self.stage.target.clone(),
            // an emulator needs no ramp
            options: RestoreOptions { undo, ramp: false, parallel: BATCHES_AT_ONCE, ..RestoreOptions::default() },
            meter: Arc::default(),
            stop: Default::default(),
        };
        let written = restore.run().await?.tally.written;
        self.run("a restore wrote", written, self.load.bytes, started)
    }

    /// A run that went through all documents; one that did not is not comparable with the others.
    fn run(&self, what: &str, documents: u64, bytes: u64, started: Instant) -> Result<Run> {
        let seconds = started.elapsed().as_secs_f64();
        if documents == self.documents {
            return Ok(Run { documents, bytes, seconds });
        }
        Err(CliError::Refused(format!("{what} {documents} of {} documents: nothing can be said of it", self.documents)))
    }
}

impl AllSeries {
    fn new(compressions: &[Compression]) -> Self {
        Self {
            bare_read: Series::new("bare read"),
            backups: compressions.iter().map(|compression| Series::new(format!("backup, {compression}"))).collect(),
            bare_write: Series::new("bare write"),
            restore: Series::new("restore, empty database"),
            restore_in_place: Series::new("restore in place, with undo"),
        }
    }

    fn figures(&self) -> Vec<Figure> {
        let mut figures = vec![self.bare_read.figure(None)];
        figures.extend(self.backups.iter().map(|backup| backup.figure(Some(&self.bare_read))));
        figures.push(self.bare_write.figure(None));
        figures.extend([&self.restore, &self.restore_in_place].map(|restore| restore.figure(Some(&self.bare_write))));
        figures
    }
}
