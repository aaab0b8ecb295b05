//! Restores a backup, and moments behind it, into a scratch database, and compares every document with what it should be:
//! a backup that was never restored is not known to be good.
//!
//! The scratch database must be empty. What a drill puts into it is deleted again, and what one that died has left there
//! by the next: `drills/<id>/begun` says whose it is. Of drills of other repositories, a copy of this one among them, that says
//! nothing: so each leaves a document in the database too for as long as it runs, and nobody deletes beside another's.

use std::sync::Arc;

use firebackup_codec::object::ObjectType;
use firebackup_model::document::NAME_FIELD;
use firebackup_model::drill::{DrillBegun, DrillReport, Exercise};
use firebackup_model::id::{JobId, JobKind, SnapshotId};
use firebackup_model::job::RestoreMode;
use firebackup_model::manifest::{FORMAT_VERSION, Manifest};
use firebackup_model::port::{MAX_BATCH_WRITES, Precondition, Write};
use firebackup_model::wire::put_bytes_field;
use firebackup_model::{DatabaseName, DocumentPath, ErrorKind, PathRange, PortError, Selection, Timestamp};
use futures::StreamExt;

use crate::contents::{Contents, stored};
use crate::diff::Change;
use crate::drill_sample::{Dice, sample};
use crate::error::{EngineError, Result};
use crate::layout;
use crate::moments::{Moment, Moments};
use crate::repository::Repository;
use crate::restore::{DryRun, Restore, RestoreOptions, RestoreReport, Target};
use crate::restore_plan::unfinished_restores;
use crate::users::read_users;
use crate::verify::{check, verify, verify_segments};
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
    /// How many moments behind the backup are put back too, where there are any.
    pub moments: u32,
    /// What chooses the sample and the moments.
    pub seed: u64,
    /// Whether writes ramp up as Firestore asks.
    pub ramp: bool,
    /// Whether to delete what a drill that died has left in the scratch database. It must not run any more.
    pub take_over: bool,
}

/// The collection of the documents that say who drills in a scratch database. Nothing that is below it is drilled.
const MARKS: &str = "firebackup-drills";

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
    /// When the scratch database cannot be used or the store be reached: that says nothing of the backup.
    pub async fn run(&self) -> Result<DrillReport> {
        let (manifest, _) = self.repository.manifest(&self.snapshot).await?;
        self.check_scratch().await?;
        let begun = self.begin().await?;
        let mut report = self.report(&begun, &manifest);
        let before = self.meter.stored.get();
        if let Err(error) = self.exercise(&manifest, &mut report).await {
            if !is_of_the_backup(&error) {
                // what is there already must not stand in the way of the next one
                self.empty(&[&begun.id]).await?;
                self.forget(&begun.id).await?;
                return Err(error);
            }
            report.failure = Some(error.in_full());
        }
        self.empty(&[&begun.id]).await?;
        report.bytes = self.meter.stored.get() - before;
        report.finished = self.repository.world().now();
        let path = layout::drill_report(&begun.id);
        self.repository.put_sealed(ObjectType::Drill, &path, &self.repository.root_sealing(), &report).await?;
        self.forget(&begun.id).await?;
        Ok(report)
    }

    /// Refuses a database that is anybody's source, or holds documents that no drill has left there.
    async fn check_scratch(&self) -> Result<()> {
        let scratch = self.scratch.source.database();
        if self.was_backed_up(scratch).await? {
            return Err(EngineError::Refused(format!(
                "{scratch} was backed up into this repository: a drill deletes what it finds, so give it a database of its own"
            )));
        }
        self.scratch.sink.can_write().await?;
        let others = self.others(None).await?;
        if let Some(other) = others.iter().find(|other| !self.takes_over(other)) {
            return Err(in_use(other));
        }
        if !others.is_empty() {
            let dead: Vec<&JobId> = others.iter().map(|other| &other.id).collect();
            self.empty(&dead).await?;
            for other in dead {
                self.forget(other).await?;
            }
        }
        match self.count().await? {
            0 => Ok(()),
            documents => Err(EngineError::Refused(format!(
                "{scratch} holds {documents} documents: a drill needs a database that is empty, and leaves it empty"
            ))),
        }
    }

    /// Whether the repository has backups of a database. Those that cannot be read say nothing of it.
    async fn was_backed_up(&self, database: &DatabaseName) -> Result<bool> {
        for id in self.repository.snapshot_ids().await? {
            match self.repository.manifest(&id).await {
                Ok((manifest, _)) if manifest.source == *database => return Ok(true),
                Ok(_) => {}
                Err(error) if error.is_of_the_object() => {
                    tracing::warn!(snapshot = %id, error = %error.in_full(), "a backup cannot be read: passed over");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    fn takes_over(&self, other: &DrillBegun) -> bool {
        self.options.take_over || self.by.is_some() && self.by == other.by
    }

    /// How many documents there are, without those that say who drills.
    async fn count(&self) -> Result<u64> {
        let source = &self.scratch.source;
        let now = source.snapshot_time().await?;
        let all = source.count(&PathRange::everything(), now).await?;
        Ok(all - source.count(&marks()?, now).await?.min(all))
    }

    /// Other drills in the same database.
    async fn others(&self, ours: Option<&JobId>) -> Result<Vec<DrillBegun>> {
        let mut begun = self.repository.drills_begun().await?;
        begun.retain(|one| Some(&one.id) != ours && one.scratch == *self.scratch.source.database());
        Ok(begun)
    }

    /// Says whose the scratch database is. Of two that begin at once, at least one sees the other.
    async fn begin(&self) -> Result<DrillBegun> {
        let (world, scratch) = (self.repository.world(), self.scratch.source.database().clone());
        let by = self.by.clone();
        let begun = DrillBegun { id: world.job_id(JobKind::Drill), scratch, started: world.now(), by };
        let path = layout::drill_begun(&begun.id);
        self.repository.put_sealed(ObjectType::Drill, &path, &self.repository.root_sealing(), &begun).await?;
        if let Some(other) = self.others(Some(&begun.id)).await?.first() {
            self.forget(&begun.id).await?;
            return Err(in_use(other));
        }
        if let Err(error) = self.mark(&begun.id).await {
            // where it cannot be taken away, the next one takes it over
            if self.unmark(&[&begun.id]).await.is_ok() {
                self.forget(&begun.id).await?;
            }
            return Err(error);
        }
        Ok(begun)
    }

    /// Says the same in the database itself, to drills of other repositories.
    async fn mark(&self, ours: &JobId) -> Result<()> {
        let path = mark(ours)?;
        let name = self.scratch.sink.database().document_name(path.as_str());
        let mut document = Vec::new();
        put_bytes_field(&mut document, NAME_FIELD, name.as_bytes());
        self.write(vec![Write { path, document: Some(document.into()), precondition: Precondition::None }]).await?;
        self.check_marks(&[ours]).await?;
        match self.count().await? {
            0 => Ok(()),
            _ => Err(self.in_use_elsewhere()),
        }
    }

    async fn unmark(&self, drills: &[&JobId]) -> Result<()> {
        let deletions = drills.iter().map(|drill| mark(drill).map(deletion)).collect::<Result<Vec<_>>>()?;
        for deletions in deletions.chunks(MAX_BATCH_WRITES) {
            self.write(deletions.to_vec()).await?;
        }
        Ok(())
    }

    /// Goes on only if nobody but these drills has said that the database is theirs.
    async fn check_marks(&self, ours: &[&JobId]) -> Result<()> {
        let source = &self.scratch.source;
        let mut marks = source.stream(&marks()?, source.snapshot_time().await?, None).await?;
        while let Some(found) = marks.next().await {
            let found = found?;
            let head = found.head().map_err(|source| EngineError::Document { path: None, source })?;
            let is_ours = |drill: &&JobId| {
                mark(drill).is_ok_and(|path| source.database().document_name(path.as_str()) == head.name)
            };
            if !ours.iter().any(is_ours) {
                return Err(self.in_use_elsewhere());
            }
        }
        Ok(())
    }

    /// Goes on only if the database is still this drill's: somebody may have taken it for dead.
    async fn check_mark(&self, ours: &JobId) -> Result<()> {
        match self.scratch.source.get(&[mark(ours)?], None).await?.first() {
            Some(Some(_)) => Ok(()),
            _ => Err(in_trouble("somebody else has taken it over or cleared it while a drill ran".to_owned())),
        }
    }

    fn in_use_elsewhere(&self) -> EngineError {
        in_trouble(format!(
            "{} is in use by a drill of another repository: give each a database of its own; if none runs, delete all of its \
             documents",
            self.scratch.source.database()
        ))
    }

    /// Leaves nothing in the scratch database that these drills have put there, and no restore into it that has not ended: nobody
    /// goes on with them, and what they rely on would be kept.
    async fn empty(&self, drills: &[&JobId]) -> Result<()> {
        self.clear(drills).await?;
        self.unmark(drills).await?;
        for plan in unfinished_restores(&self.repository).await? {
            if plan.target == *self.scratch.source.database() {
                self.repository.clear_quietly(&plan.job).await;
            }
        }
        Ok(())
    }

    async fn forget(&self, drill: &JobId) -> Result<()> {
        self.repository.delete_all(vec![layout::drill_begun(drill)]).await.map(drop)
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
        for moment in self.moments(manifest, &mut dice).await? {
            self.clear(&[&report.id]).await?;
            let at = (!moment.is_base).then_some(moment.point);
            let subject = Subject { base: moment.base, at, point: moment.point };
            match self.restore(&subject, &mut dice).await {
                // a prune has dropped it since: it is no moment any more
                Err(EngineError::NotFound(_)) => {}
                exercised => report.exercises.push(exercised?),
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
        verify(&self.repository, &self.snapshot, &self.meter).await?;
        if self.options.moments == 0 {
            return Ok(());
        }
        match verify_segments(&self.repository, &self.meter).await?.damaged.pop() {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// Moments behind the backup, as many as are wanted and there are.
    async fn moments(&self, manifest: &Manifest, dice: &mut Dice) -> Result<Vec<Moment>> {
        if self.options.moments == 0 || !manifest.is_whole() {
            return Ok(Vec::new());
        }
        let moments = Moments::read(&self.repository, &manifest.source).await?;
        let mut points: Vec<Timestamp> = moments.points().filter(|point| Some(*point) > manifest.read_time()).collect();
        let mut chosen = Vec::new();
        while chosen.len() < self.options.moments as usize && !points.is_empty() {
            let point = points.swap_remove(dice.below(points.len() as u64) as usize);
            chosen.push(moments.moment(point)?);
        }
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

    /// Deletes all documents of the scratch database, which was empty when the first of these drills began, but what says that it
    /// is theirs.
    async fn clear(&self, drills: &[&JobId]) -> Result<()> {
        loop {
            self.check_marks(drills).await?;
            if self.delete_all().await? == 0 {
                return Ok(());
            }
        }
    }

    /// Deletes what is there now; says how much that was.
    async fn delete_all(&self) -> Result<u64> {
        let source = &self.scratch.source;
        let (world, meter) = (self.repository.world(), Arc::default());
        let everything = Selection { exclude: vec![MARKS.to_owned()], ..Selection::default() };
        let now = source.snapshot_time().await?;
        let mut contents = Contents::of_database(Arc::clone(source), now, &everything, world, &meter)?.reanchoring();
        let (mut deletions, mut deleted) = (Vec::new(), 0);
        while let Some(item) = contents.next().await? {
            deletions.push(deletion(item.path));
            deleted += 1;
            if deletions.len() == MAX_BATCH_WRITES {
                self.write(std::mem::take(&mut deletions)).await?;
            }
        }
        self.write(deletions).await?;
        Ok(deleted)
    }

    async fn write(&self, writes: Vec<Write>) -> Result<()> {
        if !writes.is_empty() {
            for outcome in self.scratch.sink.write(writes).await? {
                outcome?;
            }
        }
        Ok(())
    }
}

/// A failure of the scratch database, which says nothing of a backup.
fn in_trouble(text: String) -> EngineError {
    PortError::new(ErrorKind::FailedPrecondition, "use the scratch database", text).into()
}

const fn deletion(path: DocumentPath) -> Write {
    Write { path, document: None, precondition: Precondition::None }
}

/// The document that says that a database is a drill's.
fn mark(drill: &JobId) -> Result<DocumentPath> {
    DocumentPath::new(format!("{MARKS}/{drill}")).map_err(|error| EngineError::Refused(error.to_string()))
}

fn marks() -> Result<PathRange> {
    PathRange::collection(MARKS).map_err(|error| EngineError::Refused(error.to_string()))
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

fn in_use(other: &DrillBegun) -> EngineError {
    EngineError::Refused(format!(
        "{} is in use by {} since {}: wait for it, or give another database; if it runs no more, --take-over deletes what it has left",
        other.scratch, other.id, other.started
    ))
}

/// Whether a failure says something of the backup that is restored, and not of the way to it or of the database.
fn is_of_the_backup(error: &EngineError) -> bool {
    let is_missing = matches!(error, EngineError::Store { source: object_store::Error::NotFound { .. }, .. });
    is_missing || error.is_of_the_object() && !error.may_pass() && !error.is_resumable_stop()
}
