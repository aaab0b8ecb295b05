//! Restores a backup, and moments of its database, into a scratch database, and compares every document with what it should be:
//! a backup that was never restored is not known to be good.
//!
//! The scratch database must be empty. What a drill puts into it is deleted again, and what one that died has left there
//! by the next: `drills/<id>/begun` says whose it is. Of drills of other repositories, a copy of this one among them, that says
//! nothing: so each leaves a document in the database too for as long as it runs, and nobody deletes beside another's.

use std::sync::Arc;

use firebackup_model::drill::{DrillBegun, DrillReport, Exercise};
use firebackup_model::id::{JobKind, SnapshotId};
use firebackup_model::job::RestoreMode;
use firebackup_model::manifest::{FORMAT_VERSION, Manifest};
use firebackup_model::{Selection, Timestamp};

use crate::contents::{Contents, stored};
use crate::diff::Change;
use crate::drill_sample::{Dice, sample};
use crate::drill_scratch::MARKS;
use crate::error::{EngineError, Result};
use crate::moments::{Moment, Moments};
use crate::repository::Repository;
use crate::restore::{DryRun, Restore, RestoreOptions, RestoreReport, Target};
use crate::users::read_users;
use crate::verify::{check, verify, verify_segments_of};
use crate::world::{Meter, Stop};

/// Differences that a report keeps of each restore.
const MAX_DIFFERENCES: usize = 100;
/// How often a sample is chosen until there is something in it.
const MAX_CHOICES: usize = 10;

/// How much a drill does.
#[derive(Debug, Clone, Copy)]
pub struct DrillOptions {
    /// About how many documents of each restore; nothing for all of them, and every byte of what is stored.
    pub sample: Option<u64>,
    /// How many moments are put back too, where there are any: about half of them behind the backup, the others of all that are kept.
    pub moments: u32,
    /// What chooses the sample and the moments.
    pub seed: u64,
    /// Whether writes ramp up as Firestore asks.
    pub ramp: bool,
    /// Whether to delete what a drill that died has left in the scratch database. It must not run any more.
    pub take_over: bool,
}

/// A drill that is ready to run.
pub struct Drill {
    /// The repository.
    pub repository: Repository,
    /// The backup.
    pub snapshot: SnapshotId,
    /// The database into which it is restored: one that is empty, and nobody's source.
    pub scratch: Target,
    /// How much.
    pub options: DrillOptions,
    /// Whose drills this is one of, if any: one at a time, so that what another of them has left is of one that died.
    pub by: Option<String>,
    /// Where progress is counted.
    pub meter: Arc<Meter>,
    /// What may ask the drill to stop.
    pub stop: Stop,
}

/// What is put back: the backup, or a moment on top of one.
struct Subject {
    base: SnapshotId,
    at: Option<Timestamp>,
    point: Timestamp,
}

impl Drill {
    /// Runs the drill, and keeps its report. That a backup cannot be restored is what a report says, and no error.
    ///
    /// # Errors
    /// When the snapshot is no backup, the scratch database cannot be used or the store be reached: that says nothing of the
    /// backup.
    pub async fn run(&self) -> Result<DrillReport> {
        check_drillable(&self.snapshot)?;
        let (manifest, _) = self.repository.manifest(&self.snapshot).await?;
        self.check_scratch().await?;
        let begun = self.begin().await?;
        let mut report = self.report(&begun, &manifest);
        let before = self.meter.stored.get();
        if let Err(error) = self.exercise(&manifest, &mut report).await {
            let is_dropped = error.is_of_the_backup() && self.repository.is_dropped(&self.snapshot).await?;
            if is_dropped || !error.is_of_the_backup() {
                // what is there already must not stand in the way of the next one
                self.empty(&[&begun.id]).await?;
                self.forget(&begun.id).await?;
                return Err(if is_dropped { self.was_dropped() } else { error });
            }
            report.failure = Some(error.in_full());
        }
        self.empty(&[&begun.id]).await?;
        report.bytes = self.meter.stored.get() - before;
        report.finished = self.repository.world().now();
        self.repository.keep_drill(&report).await?;
        self.forget(&begun.id).await?;
        Ok(report)
    }

    /// What went while it was read was not damaged.
    fn was_dropped(&self) -> EngineError {
        EngineError::NotFound(format!("{} was dropped while it was drilled: drill another backup", self.snapshot))
    }

    fn report(&self, begun: &DrillBegun, manifest: &Manifest) -> DrillReport {
        DrillReport {
            format: FORMAT_VERSION,
            id: begun.id.clone(),
            source: manifest.source.clone(),
            snapshot: self.snapshot.clone(),
            scratch: begun.scratch.clone(),
            is_whole: self.options.sample.is_none(),
            seed: self.options.seed,
            moments_wanted: self.options.moments,
            exercises: Vec::new(),
            users: None,
            failure: None,
            bytes: 0,
            started: begun.started,
            finished: begun.started,
            tool: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    async fn exercise(&self, manifest: &Manifest, report: &mut DrillReport) -> Result<()> {
        self.read_back().await?;
        report.users = read_users(&self.repository, manifest, &self.meter).await?;
        let mut dice = Dice::new(self.options.seed);
        let point = manifest.read_time().unwrap_or_default();
        let backup = Subject { base: self.snapshot.clone(), at: None, point };
        report.exercises.push(self.restore(&backup, &mut dice).await?);
        self.check_mark(&report.id).await?;
        self.read_captured(manifest).await?;
        for moment in self.moments(manifest, &mut dice).await? {
            self.clear(&[&report.id]).await?;
            let point = moment.point;
            let subject = Subject { base: moment.base, at: Some(point), point };
            match self.restore(&subject, &mut dice).await {
                // a prune has dropped it since: it is no moment any more
                Err(EngineError::NotFound(_)) => {}
                exercised => report.exercises.push(exercised.map_err(|error| of_moment(error, point))?),
            }
            self.check_mark(&report.id).await?;
        }
        Ok(())
    }

    /// Opens and checks what is stored: all of it, or its structure where a sample is restored.
    async fn read_back(&self) -> Result<()> {
        if self.options.sample.is_some() {
            return check(&self.repository, &self.snapshot, &self.meter).await.map(drop);
        }
        verify(&self.repository, &self.snapshot, &self.meter).await.map(drop)
    }

    /// Where all is drilled, opens and checks all that was captured of the database. The backup by itself is restored by then.
    async fn read_captured(&self, manifest: &Manifest) -> Result<()> {
        if self.options.sample.is_some() || self.options.moments == 0 {
            return Ok(());
        }
        match verify_segments_of(&self.repository, &manifest.source, &self.meter).await?.damaged.pop() {
            Some((path, source)) => {
                let text = format!("`{path}`, of the captured changes, cannot be read back");
                Err(EngineError::Explained { text, source: Box::new(source) })
            }
            None => Ok(()),
        }
    }

    /// Captured moments, as many as are wanted and there are, whatever backup they build on. Half of them lie behind the backup,
    /// where there are as many, and the others anywhere: right behind a backup there is none yet, and those of before it would
    /// never be drilled. Of a number that is odd the dice say to which half the last one belongs.
    async fn moments(&self, manifest: &Manifest, dice: &mut Dice) -> Result<Vec<Moment>> {
        if self.options.moments == 0 {
            return Ok(Vec::new());
        }
        let moments = Moments::read(&self.repository, &manifest.source).await?;
        let (mut behind, mut others): (Vec<Timestamp>, Vec<Timestamp>) =
            moments.points().partition(|point| Some(*point) > manifest.read_time());
        let wanted = self.options.moments as usize;
        let half = (wanted + dice.below(2) as usize) / 2;
        let mut chosen = draw(&moments, &mut behind, half, dice)?;
        others.append(&mut behind);
        let left = wanted - chosen.len();
        chosen.extend(draw(&moments, &mut others, left, dice)?);
        Ok(chosen)
    }

    async fn restore(&self, subject: &Subject, dice: &mut Dice) -> Result<Exercise> {
        let (selection, documents) = self.choose(subject, dice).await?;
        let restore = self.prepare(subject, selection);
        let mut exercise = Exercise {
            point: subject.point,
            is_backup: subject.at.is_none(),
            documents,
            same: 0,
            differences: Vec::new(),
        };
        if exercise.documents > 0 {
            let (report, found) = (restore.run().await?, restore.dry_run(MAX_DIFFERENCES).await?);
            exercise.same = found.difference.totals.same;
            exercise.differences = differences(&report, &found);
        }
        if exercise.documents == 0 && !is_whole(&restore.options.selection) {
            exercise.differences.push("of the sample nothing was there: nothing is shown by it".to_owned());
        }
        let there = self.count().await?;
        if there != exercise.documents {
            let text = format!("{} documents were to be restored, and {there} are there", exercise.documents);
            exercise.differences.push(text);
        }
        Ok(exercise)
    }

    /// The documents to restore, and how many there should be. What is chosen from blocks may be gone at the moment, and is
    /// chosen again then.
    async fn choose(&self, subject: &Subject, dice: &mut Dice) -> Result<(Selection, u64)> {
        let mut choices = 0;
        loop {
            let selection = match self.options.sample.map(|documents| documents.max(1)) {
                None => Selection::default(),
                Some(documents) => {
                    sample(&self.repository, &subject.base, subject.at, documents, dice, &self.meter).await?
                }
            };
            let selection = Selection { exclude: vec![MARKS.to_owned()], ..selection };
            let expected = self.expected(subject, &selection).await?;
            choices += 1;
            if expected > 0 || is_whole(&selection) || choices == MAX_CHOICES {
                return Ok((selection, expected));
            }
        }
    }

    fn prepare(&self, subject: &Subject, selection: Selection) -> Restore {
        let options = RestoreOptions {
            // what is missing in a sample is counted: that is less to ask than what lies between its documents
            mode: if is_whole(&selection) { RestoreMode::Mirror } else { RestoreMode::Overwrite },
            selection,
            undo: false,
            fresh: true,
            ramp: self.options.ramp,
            ..RestoreOptions::default()
        };
        Restore {
            repository: self.repository.clone(),
            snapshot: subject.base.clone(),
            at: subject.at,
            target: self.scratch.clone(),
            options,
            meter: Arc::clone(&self.meter),
            stop: self.stop.clone(),
        }
    }

    /// How many documents there should be, as the repository has them.
    async fn expected(&self, subject: &Subject, selection: &Selection) -> Result<u64> {
        let stored = stored(&self.repository, &subject.base, subject.at).await?;
        let mut contents = Contents::of_layers(&self.repository, stored.layers, selection, &self.meter)?;
        let mut documents = 0;
        while let Some(item) = contents.next().await? {
            documents += u64::from(item.document.is_some());
        }
        Ok(documents)
    }
}

/// Refuses what is no backup. An undo holds only what a restore has replaced: that it gives no whole database is no fault of it.
///
/// # Errors
/// When the snapshot is an undo.
pub fn check_drillable(snapshot: &SnapshotId) -> Result<()> {
    if snapshot.kind() != JobKind::Restore {
        return Ok(());
    }
    Err(EngineError::Refused(format!(
        "{snapshot} holds what a restore has replaced, and only backups can be drilled: name one (`bkp_…`), or `latest`; \
         `firebackup verify {snapshot}` reads back all of this"
    )))
}

/// Takes captured moments at random out of points. One that is a backup by itself shows nothing of what was captured.
fn draw(moments: &Moments, points: &mut Vec<Timestamp>, wanted: usize, dice: &mut Dice) -> Result<Vec<Moment>> {
    let mut drawn = Vec::new();
    while drawn.len() < wanted && !points.is_empty() {
        let point = points.swap_remove(dice.below(points.len() as u64) as usize);
        let moment = moments.moment(point)?;
        if !moment.is_base {
            drawn.push(moment);
        }
    }
    Ok(drawn)
}

/// Names the moment that cannot be put back: the backup that is drilled may be whole all the same.
fn of_moment(error: EngineError, point: Timestamp) -> EngineError {
    if !error.is_of_the_backup() {
        return error;
    }
    EngineError::Explained { text: format!("the moment {point} cannot be put back"), source: Box::new(error) }
}

/// Whether all documents are selected that may be drilled.
const fn is_whole(selection: &Selection) -> bool {
    selection.paths.is_empty()
}

/// What was found otherwise than it should be.
fn differences(report: &RestoreReport, found: &DryRun) -> Vec<String> {
    let problems = report.tally.problems.iter().chain(&found.problems);
    let problems = problems.map(|problem| format!("`{}` could not be put back: {}", problem.path, problem.reason));
    let samples = found.difference.samples.iter().map(|sample| match sample.change {
        Change::Created => format!("`{}` is not there", sample.path),
        Change::Deleted => format!("`{}` should not be there", sample.path),
        Change::Updated | Change::Same => format!("`{}` is another than it should be", sample.path),
    });
    problems.chain(samples).take(MAX_DIFFERENCES).collect()
}
