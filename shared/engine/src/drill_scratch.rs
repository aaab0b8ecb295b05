//! The scratch database of a drill: whose it is, that it was empty, and that it is so again.

use std::sync::Arc;

use firebackup_codec::object::ObjectType;
use firebackup_model::document::NAME_FIELD;
use firebackup_model::drill::DrillBegun;
use firebackup_model::id::{JobId, JobKind};
use firebackup_model::port::{MAX_BATCH_WRITES, Precondition, Write};
use firebackup_model::wire::put_bytes_field;
use firebackup_model::{DatabaseName, DocumentPath, ErrorKind, PathRange, PortError, Selection};
use futures::StreamExt;

use crate::contents::Contents;
use crate::drill::Drill;
use crate::error::{EngineError, Result};
use crate::layout;
use crate::restore_plan::unfinished_restores;

/// The collection of the documents that say who drills in a scratch database. Nothing that is below it is drilled.
pub(crate) const MARKS: &str = "firebackup-drills";

impl Drill {
    /// Refuses a database that is anybody's source, or holds documents that no drill has left there.
    pub(crate) async fn check_scratch(&self) -> Result<()> {
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
        if self.is_empty().await? {
            return Ok(());
        }
        Err(EngineError::Refused(format!(
            "{scratch} holds documents: a drill needs a database that is empty, and leaves it empty"
        )))
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

    /// How many documents there are, without those that say who drills. Where the server does not count, their names are read:
    /// they are the drill's own.
    pub(crate) async fn count(&self) -> Result<u64> {
        let source = &self.scratch.source;
        let (now, mut documents) = (source.snapshot_time().await?, 0);
        for range in drilled().ranges()? {
            documents += source.count_surely(&range, now).await?;
        }
        Ok(documents)
    }

    /// Whether there are none. They are not counted: a database that is not empty may be a large one.
    async fn is_empty(&self) -> Result<bool> {
        let source = &self.scratch.source;
        let now = source.snapshot_time().await?;
        for range in drilled().ranges()? {
            let mut first = source.stream(&range, now, Some(1)).await?;
            if first.next().await.transpose()?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Other drills in the same database.
    async fn others(&self, ours: Option<&JobId>) -> Result<Vec<DrillBegun>> {
        let mut begun = self.repository.drills_begun().await?;
        begun.retain(|one| Some(&one.id) != ours && one.scratch == *self.scratch.source.database());
        Ok(begun)
    }

    /// Says whose the scratch database is. Of two that begin at once, at least one sees the other.
    pub(crate) async fn begin(&self) -> Result<DrillBegun> {
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
        if self.is_empty().await? { Ok(()) } else { Err(self.in_use_elsewhere()) }
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
    pub(crate) async fn check_mark(&self, ours: &JobId) -> Result<()> {
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
    pub(crate) async fn empty(&self, drills: &[&JobId]) -> Result<()> {
        self.clear(drills).await?;
        self.unmark(drills).await?;
        for plan in unfinished_restores(&self.repository).await? {
            if plan.target == *self.scratch.source.database() {
                self.repository.clear_quietly(&plan.job).await;
            }
        }
        Ok(())
    }

    pub(crate) async fn forget(&self, drill: &JobId) -> Result<()> {
        self.repository.delete_all(vec![layout::drill_begun(drill)]).await.map(drop)
    }

    /// Deletes all documents of the scratch database, which was empty when the first of these drills began, but what says that it
    /// is theirs.
    pub(crate) async fn clear(&self, drills: &[&JobId]) -> Result<()> {
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
        let now = source.snapshot_time().await?;
        let mut contents = Contents::of_database(Arc::clone(source), now, &drilled(), world, &meter)?.reanchoring();
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

/// All but the documents that say who drills.
fn drilled() -> Selection {
    Selection { exclude: vec![MARKS.to_owned()], ..Selection::default() }
}

/// The document that says that a database is a drill's.
fn mark(drill: &JobId) -> Result<DocumentPath> {
    DocumentPath::new(format!("{MARKS}/{drill}")).map_err(|error| EngineError::Refused(error.to_string()))
}

fn marks() -> Result<PathRange> {
    PathRange::collection(MARKS).map_err(|error| EngineError::Refused(error.to_string()))
}

fn in_use(other: &DrillBegun) -> EngineError {
    EngineError::Refused(format!(
        "{} is in use by {} since {}: wait for it, or give another database; if it runs no more, --take-over deletes what it has left",
        other.scratch, other.id, other.started
    ))
}
