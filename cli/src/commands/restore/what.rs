//! What a restore puts back, and where it may go.

use firebackup_engine::{EngineError, Repository, unfinished_restore};
use firebackup_model::id::{JobId, JobKind, SnapshotId};
use firebackup_model::manifest::{Manifest, SnapshotKind};
use firebackup_model::{DatabaseName, Selection};

use super::{Mode, RestoreArgs};
use crate::context::Context;
use crate::error::{CliError, Result};

/// What is put back.
pub(super) struct What {
    /// The snapshot, or the restore whose undo it is.
    pub(super) id: SnapshotId,
    /// The database that it came from.
    pub(super) source: DatabaseName,
    /// Nothing for the undo of a restore that has not ended.
    pub(super) manifest: Option<Manifest>,
    /// Which of its documents.
    pub(super) selection: Selection,
}

impl What {
    /// Finds the snapshot or the undo.
    ///
    /// # Errors
    /// When it is not there, or must not be restored in this way.
    pub(super) async fn find(context: &Context, repository: &Repository, args: &RestoreArgs) -> Result<Self> {
        let asked = args.collections.with_paths(&args.paths)?;
        if let Some(job) = &args.undo {
            let undo = Self::undo(repository, job, asked).await?;
            context.warn_unproven(repository, &undo.id);
            return Ok(undo);
        }
        let id = context.snapshot_to_use(repository, &args.snapshot).await?;
        let (manifest, _) = repository.manifest(&id).await?;
        if manifest.kind == SnapshotKind::Undo {
            return Err(CliError::Refused(format!(
                "{id} is what a restore replaced: take the restore back with --undo {id}"
            )));
        }
        let selection = selection(args.mode, asked, &manifest)?;
        Ok(Self { id, source: manifest.source.clone(), manifest: Some(manifest), selection })
    }

    async fn undo(repository: &Repository, job: &JobId, selection: Selection) -> Result<Self> {
        if job.kind() != JobKind::Restore {
            return Err(CliError::Usage(format!("{job} is no restore: --undo takes the id that a restore printed")));
        }
        match repository.manifest(job).await {
            Ok((manifest, _)) => {
                Ok(Self { id: job.clone(), source: manifest.source.clone(), manifest: Some(manifest), selection })
            }
            Err(EngineError::NotFound(_)) => Self::unfinished_undo(repository, job, selection).await,
            Err(error) => Err(error.into()),
        }
    }

    async fn unfinished_undo(repository: &Repository, job: &JobId, selection: Selection) -> Result<Self> {
        match unfinished_restore(repository, job).await? {
            Some(plan) if plan.undo => Ok(Self { id: plan.job, source: plan.target, manifest: None, selection }),
            _ => Err(CliError::NotFound(format!(
                "there is no undo of {job}: the restore is unknown, kept none, or a prune has dropped it"
            ))),
        }
    }

    /// The database to restore into: the one that was backed up, unless another is named outright.
    ///
    /// # Errors
    /// When a project or database was named that is not the one that was backed up, and not as a target.
    pub(super) fn target(&self, context: &Context, args: &RestoreArgs) -> Result<DatabaseName> {
        let elsewhere = args.to_project.is_some() || args.to_database.is_some();
        if !elsewhere && !context.settings.names(&self.source) {
            return Err(CliError::Refused(format!(
                "{} is of {}, and another project or database was named: to restore into another one give --to-project or \
                 --to-database",
                self.id, self.source
            )));
        }
        let project = args.to_project.as_ref().unwrap_or(&self.source.project);
        let database = args.to_database.as_ref().unwrap_or(&self.source.database);
        Ok(DatabaseName::new(project, database))
    }
}

/// What a mirror may delete is bounded by what was backed up: a snapshot of some collections says nothing of the others.
fn selection(mode: Mode, asked: Selection, manifest: &Manifest) -> Result<Selection> {
    if mode != Mode::Mirror || manifest.selection.is_everything() {
        return Ok(asked);
    }
    if asked == Selection::default() || asked == manifest.selection {
        return Ok(manifest.selection.clone());
    }
    Err(CliError::Refused(format!(
        "{} holds only some collections, and a mirror of others would delete what was never backed up: leave the selection \
         out to mirror what it holds, or use another mode",
        manifest.id
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebackup_model::Timestamp;
    use firebackup_model::manifest::{Compression, Consistency, Counts};

    fn manifest(selection: Selection) -> Manifest {
        let now = Timestamp::new(0, 0);
        Manifest {
            format: 1,
            id: "bkp_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            kind: SnapshotKind::Full,
            parent: None,
            parent_changed_until: None,
            source: DatabaseName::new("p", "(default)"),
            selection,
            consistency: Consistency::Snapshot,
            read_times: vec![now],
            runs: Vec::new(),
            totals: Counts::default(),
            collections: Default::default(),
            stored_bytes: 0,
            auth: None,
            compression: Compression::default(),
            levels: Default::default(),
            key: None,
            reads: 0,
            tool: String::new(),
            started: now,
            finished: now,
        }
    }

    fn collections(names: &[&str]) -> Selection {
        Selection { include: names.iter().map(|name| (*name).to_owned()).collect(), ..Selection::default() }
    }

    #[test]
    fn a_mirror_deletes_only_within_what_was_backed_up() {
        let partial = manifest(collections(&["users"]));
        let mirrored = selection(Mode::Mirror, Selection::default(), &partial).unwrap();
        assert_eq!(mirrored, collections(&["users"]));
        assert!(selection(Mode::Mirror, collections(&["orders"]), &partial).is_err());
        let whole = manifest(Selection::default());
        assert_eq!(selection(Mode::Mirror, collections(&["a"]), &whole).unwrap(), collections(&["a"]));
        let overwritten = selection(Mode::Overwrite, Selection::default(), &partial).unwrap();
        assert_eq!(overwritten, Selection::default());
    }
}
