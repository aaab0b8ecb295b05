//! What a restore puts back, and where it may go.

use firebackup_engine::{EngineError, Moments, Repository, unfinished_restore};
use firebackup_model::id::{JobId, JobKind, SnapshotId};
use firebackup_model::manifest::{Manifest, SnapshotKind};
use firebackup_model::reported::AsReported;
use firebackup_model::{DatabaseName, DocumentPath, Selection, Timestamp};
use serde::Serialize;

use super::{Mode, RestoreArgs};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::units::seconds;

/// The moment that is put back.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct At {
    /// The time that was asked for.
    pub(super) asked: Timestamp,
    /// The consistent point that is taken: the newest one at or before it.
    pub(super) at: Timestamp,
    /// Whether it is the snapshot itself.
    #[serde(skip)]
    is_base: bool,
}

impl At {
    /// The point that lies behind the snapshot.
    pub(super) fn on_base(self) -> Option<Timestamp> {
        (!self.is_base).then_some(self.at)
    }

    /// How long before the time that was asked for, in words.
    pub(super) fn lies(self) -> String {
        match self.asked.seconds_since(self.at) {
            before if before > 0.0 => format!("{}, {} before {}", self.at, seconds(before), self.asked),
            _ => self.at.to_string(),
        }
    }
}

/// What is put back.
pub(super) struct What {
    /// The snapshot, or the restore whose undo it is; of a moment what it builds on.
    pub(super) id: SnapshotId,
    /// The moment, where one was asked for.
    pub(super) at: Option<At>,
    /// The one document that is put back as it was reported.
    pub(super) reported: Option<AsReported>,
    /// The backup whose Auth users belong to the moment.
    pub(super) users: Option<Manifest>,
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
        if let (Some(at), true) = (args.at, args.reported) {
            return Self::reported(context, repository, &args.paths.documents, at).await;
        }
        if let Some(at) = args.at {
            return Self::moment(context, repository, args, at, asked).await;
        }
        let id = context.snapshot_to_use(repository, &args.snapshot).await?;
        let (manifest, _) = repository.manifest(&id).await?;
        if manifest.kind == SnapshotKind::Undo {
            return Err(CliError::Refused(format!(
                "{id} is what a restore replaced: take the restore back with --undo {id}"
            )));
        }
        let selection = selection(args.mode, asked, &manifest)?;
        Ok(Self::of(id, manifest.source.clone(), Some(manifest), selection))
    }

    const fn of(id: SnapshotId, source: DatabaseName, manifest: Option<Manifest>, selection: Selection) -> Self {
        Self { id, at: None, reported: None, users: None, source, manifest, selection }
    }

    async fn moment(
        context: &Context,
        repository: &Repository,
        args: &RestoreArgs,
        asked: Timestamp,
        selection: Selection,
    ) -> Result<Self> {
        let database = context.database_in(repository).await?;
        let (_, moment) = context.moment(repository, &database, asked, args.exact).await?;
        let users = match args.include_auth || args.auth_only {
            true => Some(users_before(context, repository, &database, asked).await?),
            false => None,
        };
        let (manifest, _) = repository.manifest(&moment.base).await?;
        let at = At { asked, at: moment.point, is_base: moment.is_base };
        Ok(Self { at: Some(at), users, ..Self::of(moment.base, database, Some(manifest), selection) })
    }

    async fn reported(context: &Context, repository: &Repository, documents: &[String], at: Timestamp) -> Result<Self> {
        let [document] = documents else {
            return Err(CliError::Usage("--reported puts back one document: give it with --document".to_owned()));
        };
        let path = DocumentPath::new(document.as_str())
            .map_err(|error| CliError::Usage(format!("--document `{document}`: {error}")))?;
        let database = context.database_in(repository).await?;
        let near = Moments::read(repository, &database).await?.snapshot_near(at);
        let near = near.ok_or_else(|| {
            CliError::NotFound(format!("there is no backup of the whole of {database}: make one first"))
        })?;
        context.warn_unproven(repository, &near);
        let selection = Selection::of_document(&path);
        let reported = Some(AsReported { path, at });
        Ok(Self { reported, ..Self::of(near, database, None, selection) })
    }

    /// What it is called.
    pub(super) fn name(&self) -> String {
        match (&self.reported, self.at) {
            (Some(reported), _) => format!("{} as it was reported at {}", self.source, reported.at),
            (None, Some(at)) => format!("{} as of {}", self.source, at.at),
            (None, None) => self.id.to_string(),
        }
    }

    async fn undo(repository: &Repository, job: &JobId, selection: Selection) -> Result<Self> {
        if job.kind() != JobKind::Restore {
            return Err(CliError::Usage(format!("{job} is no restore: --undo takes the id that a restore printed")));
        }
        match repository.manifest(job).await {
            Ok((manifest, _)) => Ok(Self::of(job.clone(), manifest.source.clone(), Some(manifest), selection)),
            Err(EngineError::NotFound(_)) => Self::unfinished_undo(repository, job, selection).await,
            Err(error) => Err(error.into()),
        }
    }

    async fn unfinished_undo(repository: &Repository, job: &JobId, selection: Selection) -> Result<Self> {
        match unfinished_restore(repository, job).await? {
            Some(plan) if plan.undo => Ok(Self::of(plan.job, plan.target, None, selection)),
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

/// The backup with Auth users of the project that were listed last at or before a time. They have no moments of their own.
async fn users_before(
    context: &Context,
    repository: &Repository,
    database: &DatabaseName,
    at: Timestamp,
) -> Result<Manifest> {
    let listed =
        |manifest: &Manifest| manifest.auth.as_ref().map(|auth| auth.listed_until).filter(|until| *until <= at);
    let has_some = |manifest: &Manifest| manifest.source.project == database.project && listed(manifest).is_some();
    let all = repository.all_manifests(has_some).await?;
    let newest = all.into_iter().max_by_key(|manifest| listed(manifest));
    let newest = newest.ok_or_else(|| {
        CliError::NotFound(format!(
            "no backup holds Auth users of {} as they were at or before {at}: leave them out, or make backups with --include-auth",
            database.project
        ))
    })?;
    if let Some(until) = listed(&newest) {
        let age = seconds(at.seconds_since(until));
        context.output.note(&format!("Auth users are those of {}, listed {age} before {at}", newest.id));
    }
    Ok(newest)
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
