//! Objects are written once, under new names, and each role deletes and puts only what is its own: what the policy of the
//! stack's bucket and those of its roles let them do.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use firebackup_codec::secret::SecretKey;
use firebackup_engine::{
    BackupSteps, Copied, Layer, PrunePolicy, Repository, RestoreOptions, RestoreOutcome, RestoreSteps, RestoredUsers,
    Secrets, UserRestoreOptions, copy_object, holds_another, prune,
};
use firebackup_model::PortError;
use firebackup_model::id::{JobId, JobKind, SnapshotId};
use firebackup_model::manifest::{Manifest, SnapshotKind};
use firebackup_model::port::{UserFailure, UserPage, UserRecord, UserSink, UserSource};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::fixture::{Fixture, all_whole, backup, contents, master, restore};

/// What jobs leave behind to be removed again: here objects may be replaced, too.
const JOB_STATE: Folders = Folders::Only(&["receipts", "intents", "probes"]);
/// A step of a job.
const WRITER: Policy = Policy { puts: Folders::All, deletes: JOB_STATE };
/// What keeps house, ends what a stopped job left, and copies repositories that are moved.
const MAINTENANCE: Policy = Policy {
    puts: Folders::Only(&[
        "snapshots",
        "segments",
        "reported",
        "drills",
        "prunes",
        "intents",
        "receipts",
        "keys",
        "runs",
        "probes",
        "firebackup.json",
    ]),
    deletes: Folders::All,
};

/// Folders at the top of a repository.
#[derive(Clone, Copy)]
enum Folders {
    All,
    Only(&'static [&'static str]),
}

impl Folders {
    fn hold(self, location: &Path) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => location.parts().next().is_some_and(|folder| names.contains(&folder.as_ref())),
        }
    }
}

/// What a role may do. Outside of [`JOB_STATE`] none replaces an object.
#[derive(Clone, Copy)]
struct Policy {
    puts: Folders,
    deletes: Folders,
}

/// Refuses what a role may not do, and remembers it: some refusals are only logged by who meets them. (That an upload in
/// parts replaces nothing is the storage's to ask for.)
#[derive(Clone)]
struct PolicedStore {
    inner: Arc<dyn ObjectStore>,
    policy: Policy,
    refused: Arc<Mutex<Vec<String>>>,
}

impl PolicedStore {
    fn new(fixture: &Fixture, policy: Policy) -> Self {
        Self { inner: Arc::clone(&fixture.store), policy, refused: Arc::default() }
    }

    /// What was refused so far: verb and path.
    fn refused(&self) -> Vec<String> {
        self.refused.lock().unwrap().clone()
    }

    fn check(&self, may: bool, verb: &str, location: &Path) -> Result<()> {
        if may {
            return Ok(());
        }
        let path = location.to_string();
        let what = format!("{verb} {path}");
        self.refused.lock().unwrap().push(what.clone());
        Err(Error::PermissionDenied { source: format!("the role may not {what}").into(), path })
    }

    fn check_put(&self, location: &Path) -> Result<()> {
        self.check(self.policy.puts.hold(location), "put", location)
    }
}

impl fmt::Display for PolicedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PolicedStore")
    }
}

impl fmt::Debug for PolicedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PolicedStore")
    }
}

#[async_trait]
impl ObjectStore for PolicedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.check_put(location)?;
        let may = options.mode == PutMode::Create || JOB_STATE.hold(location);
        self.check(may, "replace", location)?;
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.check_put(location)?;
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let police = self.clone();
        let checked = locations.map(move |location| {
            let location = location?;
            police.check(police.policy.deletes.hold(&location), "delete", &location)?;
            Ok(location)
        });
        self.inner.delete_stream(checked.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        self.check(false, "copy", from)
    }
}

/// The fixture's repository as a role has it.
async fn open_as(fixture: &Fixture, policy: Policy) -> (Repository, PolicedStore) {
    let police = PolicedStore::new(fixture, policy);
    (fixture.open_on(Arc::new(police.clone())).await.unwrap(), police)
}

#[track_caller]
fn assert_nothing_refused(police: &PolicedStore) {
    assert_eq!(police.refused(), Vec::<String>::new());
}

/// The Auth users of a project, in memory.
#[derive(Default)]
pub struct Users(Mutex<Vec<UserRecord>>);

impl Users {
    pub fn named(names: &[&str]) -> Self {
        let user = |name: &&str| {
            let json = format!(r#"{{"localId":"{name}"}}"#).into();
            UserRecord { id: (*name).to_owned(), tenant: None, json, redacted: false }
        };
        Self(Mutex::new(names.iter().map(user).collect()))
    }

    fn all(&self) -> Vec<UserRecord> {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait]
impl UserSource for Users {
    async fn hash_config(&self) -> Result<Option<serde_json::Value>, PortError> {
        Ok(None)
    }

    async fn tenants(&self) -> Result<Vec<String>, PortError> {
        Ok(Vec::new())
    }

    async fn page(&self, _: Option<&str>, _: Option<&str>) -> Result<UserPage, PortError> {
        Ok(UserPage { users: self.all(), next: None })
    }
}

#[async_trait]
impl UserSink for Users {
    async fn create(
        &self,
        _: Option<&str>,
        users: &[UserRecord],
        _: Option<&serde_json::Value>,
        _: bool,
    ) -> Result<Vec<UserFailure>, PortError> {
        self.0.lock().unwrap().extend_from_slice(users);
        Ok(Vec::new())
    }
}

fn restoring(fixture: &Fixture, repository: &Repository, snapshot: &SnapshotId) -> RestoreSteps {
    RestoreSteps {
        restore: restore(repository, snapshot, fixture.target(), RestoreOptions::default()),
        users: None,
        dry_run: false,
        part_documents: 30,
        step_time: Duration::from_secs(60),
        samples: 3,
    }
}

/// A backup of which each step is done twice, as when the answer was lost.
async fn back_up_twice(steps: &BackupSteps, job: &JobId) -> Manifest {
    let planned = steps.plan(job).await.unwrap();
    assert_eq!(steps.plan(job).await.unwrap(), planned);
    for chunk in (0..planned.chunks).flat_map(|chunk| [chunk; 2]) {
        assert!(steps.chunk(job, chunk, 0).await.unwrap().done);
    }
    let manifest = steps.finalize(job).await.unwrap();
    assert_eq!(steps.finalize(job).await.unwrap(), manifest);
    manifest
}

/// The same for a restore.
async fn restore_twice(steps: &RestoreSteps, job: &JobId) -> [RestoreOutcome; 2] {
    let parts = steps.plan(job).await.unwrap();
    assert_eq!(steps.plan(job).await.unwrap(), parts);
    for part in (0..parts).flat_map(|part| [part; 2]) {
        assert!(steps.part(job, part, 0).await.unwrap().done);
    }
    let outcomes = [steps.finalize(job).await.unwrap(), steps.finalize(job).await.unwrap()];
    steps.clear(job).await.unwrap();
    steps.clear(job).await.unwrap();
    outcomes
}

async fn assert_no_traces(fixture: &Fixture) {
    let objects = fixture.objects().await;
    let is_trace = |path: &&String| path.starts_with("receipts/") || path.starts_with("intents/");
    assert_eq!(objects.iter().find(is_trace), None);
}

/// Changes one document in two, of those that [`Fixture::new`] makes.
fn change(fixture: &Fixture, documents: usize) {
    for n in (0..documents).step_by(4) {
        fixture.database.set(&format!("users/u{n:05}"), -1);
        fixture.database.set(&format!("orders/__id{}__", n + 2), -1);
    }
}

#[tokio::test]
async fn a_backup_and_a_restore_in_steps_each_done_twice_do_what_a_writer_may() {
    let (fixture, _) = Fixture::new(120).await;
    let (repository, police) = open_as(&fixture, WRITER).await;
    let (users, restored) = (Arc::new(Users::named(&["ann", "bob"])), Arc::new(Users::default()));
    let steps = backup(&repository, &fixture.database).users(users.clone()).chunk_documents(20).steps();
    let manifest = back_up_twice(&steps, &fixture.world.job_id(JobKind::Backup)).await;
    assert_eq!((manifest.totals.documents, manifest.auth.as_ref().map(|auth| auth.users)), (120, Some(2)));

    let before = contents(&fixture.database);
    change(&fixture, 120);
    let sink = RestoredUsers { sink: restored.clone(), options: UserRestoreOptions::default() };
    let steps = RestoreSteps { users: Some(sink), ..restoring(&fixture, &repository, &manifest.id) };
    for outcome in restore_twice(&steps, &fixture.world.job_id(JobKind::Restore)).await {
        let RestoreOutcome::Restored { report, users } = outcome else { panic!("{outcome:?}") };
        assert_eq!((report.tally.written, report.tally.failed), (60, 0));
        assert_eq!(users.map(|report| (report.restored, report.failed)), Some((2, 0)));
    }
    assert_eq!((contents(&fixture.database), restored.all()), (before, users.all()));
    assert_eq!(all_whole(&repository).await.len(), 2, "the backup, and the undo of the restore");
    assert_no_traces(&fixture).await;
    assert_nothing_refused(&police);
}

fn run_name(path: &str) -> Option<&str> {
    path.rsplit('/').next()?.strip_suffix(".run")
}

#[tokio::test]
async fn a_backup_and_a_restore_in_one_go_leave_to_a_prune_what_a_writer_may_not_delete() {
    let (fixture, _) = Fixture::new(120).await;
    let (writer, police) = open_as(&fixture, WRITER).await;
    let snapshot = backup(&writer, &fixture.database).build().run().await.unwrap().manifest.id;
    assert_nothing_refused(&police);

    let backed_up = contents(&fixture.database);
    change(&fixture, 120);
    let before = contents(&fixture.database);
    let restored = restore(&writer, &snapshot, fixture.target(), RestoreOptions::default()).run().await.unwrap();
    assert_eq!((restored.tally.written, restored.tally.failed, restored.undo), (60, 0, true));
    assert_eq!(contents(&fixture.database), backed_up);
    let refused = police.refused();
    assert!(refused.iter().all(|what| what.starts_with("delete runs/")), "{refused:?}");
    let snapshots = all_whole(&writer).await;
    let undo = snapshots.iter().find(|manifest| manifest.id == restored.job).unwrap();
    assert_eq!((snapshots.len(), undo.kind, undo.totals.documents), (2, SnapshotKind::Undo, 60));
    assert_no_traces(&fixture).await;

    let (maintenance, _) = open_as(&fixture, MAINTENANCE).await;
    let policy = PrunePolicy { exclusive: true, ..PrunePolicy::default() };
    assert_eq!(prune(&maintenance, &policy).await.unwrap().dropped, []);
    let needed: BTreeSet<_> = snapshots.iter().flat_map(Manifest::all_runs).map(|run| run.id.to_string()).collect();
    let left: BTreeSet<_> =
        fixture.objects().await.iter().filter_map(|path| run_name(path)).map(str::to_owned).collect();
    assert_eq!(left, needed, "what the undo was merged from is gone");
    restore(&writer, &restored.job, fixture.target(), RestoreOptions::default()).run().await.unwrap();
    assert_eq!(contents(&fixture.database), before);
}

#[tokio::test]
async fn either_role_gives_a_backup_up() {
    for policy in [WRITER, MAINTENANCE] {
        let (fixture, _) = Fixture::new(60).await;
        let (writer, _) = open_as(&fixture, WRITER).await;
        let steps = backup(&writer, &fixture.database).chunk_documents(20).steps();
        let job = fixture.world.job_id(JobKind::Backup);
        steps.plan(&job).await.unwrap();
        steps.chunk(&job, 0, 0).await.unwrap();
        let (repository, police) = open_as(&fixture, policy).await;
        for _ in 0..2 {
            assert_eq!(BackupSteps::give_up(&repository, &job).await.unwrap(), None);
        }
        assert_no_traces(&fixture).await;
        assert_nothing_refused(&police);
    }
}

#[tokio::test]
async fn either_role_gives_a_restore_up_and_leaves_its_undo() {
    for policy in [WRITER, MAINTENANCE] {
        let (fixture, whole) = Fixture::new(60).await;
        let snapshot = backup(&whole, &fixture.database).build().run().await.unwrap().manifest.id;
        change(&fixture, 60);
        let before = contents(&fixture.database);
        let (writer, _) = open_as(&fixture, WRITER).await;
        let steps = RestoreSteps { part_documents: 10, ..restoring(&fixture, &writer, &snapshot) };
        let job = fixture.world.job_id(JobKind::Restore);
        assert!(steps.plan(&job).await.unwrap() > 1);
        let written = steps.part(&job, 0, 0).await.unwrap().tally.written;
        assert!(written > 0 && contents(&fixture.database) != before, "{written} were replaced");

        let (repository, police) = open_as(&fixture, policy).await;
        for _ in 0..2 {
            assert!(RestoreSteps::give_up(&repository, &job).await.unwrap(), "there is an undo");
        }
        assert_nothing_refused(&police);
        let snapshots = all_whole(&repository).await;
        let undo = snapshots.iter().find(|manifest| manifest.id == job).unwrap();
        assert_eq!((undo.kind, undo.totals.documents), (SnapshotKind::Undo, written));
        assert_no_traces(&fixture).await;
        restore(&whole, &job, fixture.target(), RestoreOptions::default()).run().await.unwrap();
        assert_eq!(contents(&fixture.database), before);
    }
}

#[tokio::test]
async fn maintenance_adds_holders() {
    let (fixture, _) = Fixture::new(10).await;
    let (maintenance, police) = open_as(&fixture, MAINTENANCE).await;
    let masters = [7, 8].map(|byte| SecretKey::from_bytes([byte; 32])).to_vec();
    let secrets = Secrets { masters, ..Secrets::default() };
    for added in [1, 0] {
        assert_eq!(maintenance.add_missing_holders(&secrets).await.unwrap(), added);
    }
    assert_nothing_refused(&police);
    Repository::open(fixture.store.clone(), master(8), fixture.world.clone()).await.unwrap();
}

#[tokio::test]
async fn maintenance_copies_what_opens_and_reads_as_the_repository_does() {
    let (fixture, _) = Fixture::new(60).await;
    let ids = three_backups(&fixture).await;
    let (target, _) = Fixture::new(0).await;
    for path in target.objects().await {
        target.store.delete(&Path::from(path)).await.unwrap();
    }
    let police = PolicedStore::new(&target, MAINTENANCE);
    let to: Arc<dyn ObjectStore> = Arc::new(police.clone());
    for layer in Layer::ALL {
        for object in layer.found(&fixture.store).await.unwrap() {
            assert_eq!(copy_object(&fixture.store, &to, &object, None).await.unwrap(), Copied::Put);
        }
    }
    assert_nothing_refused(&police);
    assert!(!holds_another(&fixture.store, &to).await.unwrap());
    let copy = Repository::open(target.store.clone(), master(7), fixture.world.clone()).await.unwrap();
    assert_eq!(all_whole(&copy).await.len(), ids.len());
    assert!(target.objects().await.iter().all(|path| !path.starts_with("intents/")));
}

/// Three backups of a database that changes.
async fn three_backups(fixture: &Fixture) -> Vec<SnapshotId> {
    let repository = fixture.open().await;
    let mut ids = Vec::new();
    for n in 0..3 {
        fixture.database.set("users/u00000", n);
        ids.push(backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id);
    }
    ids
}

#[tokio::test]
async fn maintenance_marks_what_no_backup_needs_and_deletes_it_later() {
    let (fixture, _) = Fixture::new(60).await;
    let ids = three_backups(&fixture).await;
    let (maintenance, police) = open_as(&fixture, MAINTENANCE).await;
    let policy = PrunePolicy { keep_last: Some(1), ..PrunePolicy::default() };
    let marking = prune(&maintenance, &policy).await.unwrap();
    assert_eq!((marking.dropped.len(), marking.deleted), (2, 0));
    fixture.clock.pass_hours(25);
    let sweeping = prune(&maintenance, &policy).await.unwrap();
    assert_eq!((sweeping.marked, sweeping.deleted), (0, marking.marked));
    assert!(marking.marked > 0);
    let kept = all_whole(&maintenance).await;
    assert_eq!((kept.len(), &kept[0].id), (1, &ids[2]));
    assert!(fixture.objects().await.iter().all(|path| !path.starts_with("prunes/")), "the marks have served");
    assert_nothing_refused(&police);
}

#[tokio::test]
async fn maintenance_alone_prunes() {
    let (fixture, _) = Fixture::new(60).await;
    let ids = three_backups(&fixture).await;
    let policy = PrunePolicy { keep_last: Some(1), exclusive: true, ..PrunePolicy::default() };
    let (writer, police) = open_as(&fixture, WRITER).await;
    assert!(prune(&writer, &policy).await.is_err());
    assert!(!police.refused().is_empty());
    assert_eq!(all_whole(&writer).await.len(), 3);

    let (maintenance, police) = open_as(&fixture, MAINTENANCE).await;
    let pruned = prune(&maintenance, &policy).await.unwrap();
    assert_eq!(pruned.dropped.len(), 2);
    assert!(pruned.deleted > 0);
    let kept = all_whole(&maintenance).await;
    assert_eq!((kept.len(), &kept[0].id), (1, &ids[2]));
    assert_nothing_refused(&police);
}

#[tokio::test]
async fn nobody_replaces_anything_but_what_jobs_leave_behind() {
    let (fixture, repository) = Fixture::new(10).await;
    backup(&repository, &fixture.database).build().run().await.unwrap();
    let run = fixture.objects().await.into_iter().find(|path| path.starts_with("runs/")).unwrap();
    let was = fixture.read(&run).await;
    for policy in [WRITER, MAINTENANCE] {
        let store = PolicedStore::new(&fixture, policy);
        assert!(store.put(&run.as_str().into(), "x".into()).await.is_err());
        store.put(&"intents/x".into(), "x".into()).await.unwrap();
        store.put(&"intents/x".into(), "y".into()).await.unwrap();
        store.delete(&"intents/x".into()).await.unwrap();
        assert_eq!(store.refused(), [format!("replace {run}")]);
    }
    assert_eq!(fixture.read(&run).await, was);
}

#[tokio::test]
async fn the_police_knows_the_folders_of_a_role() {
    let (fixture, repository) = Fixture::new(10).await;
    backup(&repository, &fixture.database).build().run().await.unwrap();
    let objects = fixture.objects().await;
    let run = Path::from(objects.iter().find(|path| path.starts_with("runs/")).unwrap().as_str());
    let writer = PolicedStore::new(&fixture, WRITER);
    assert!(writer.delete(&run).await.is_err());
    assert_eq!((writer.refused(), fixture.objects().await), (vec![format!("delete {run}")], objects));

    let maintenance = PolicedStore::new(&fixture, MAINTENANCE);
    for elsewhere in ["elsewhere/a", "elsewhere.json"].map(Path::from) {
        assert!(maintenance.put_opts(&elsewhere, "x".into(), PutMode::Create.into()).await.is_err());
        assert!(maintenance.put_multipart(&elsewhere).await.is_err());
    }
    assert_eq!(maintenance.refused().len(), 4);
    maintenance.put_multipart(&"runs/a".into()).await.unwrap();
    maintenance.delete(&run).await.unwrap();
    assert_eq!(maintenance.refused().len(), 4);
}

#[tokio::test]
async fn capturing_scanning_and_merging_delete_nothing_but_what_a_job_leaves() {
    let (fixture, _) = Fixture::new(40).await;
    fixture.database.flow();
    let police = PolicedStore::new(&fixture, WRITER);
    let repository = fixture.open_on(Arc::new(police.clone())).await.unwrap();
    backup(&repository, &fixture.database).build().run().await.unwrap();
    for round in 0..12 {
        fixture.database.set("users/u00000", round);
        fixture.database.listen_faults(|faults| faults.resets = u32::from(round == 5));
        crate::capture::until_now(&crate::capture::capture(&repository, &fixture.database)).await;
    }
    assert!(crate::capture::compaction(&repository, &fixture).run().await.unwrap().made > 0);
    let all = crate::capture::moments(&repository, &fixture.database).await;
    let last = all.resolve(all.points().last().unwrap(), true).unwrap();
    firebackup_engine::synthesize(&repository, &all, &last).unwrap().build().run().await.unwrap();
    fixture.database.set("users/u00000", 99);
    let scanned = backup(&repository, &fixture.database).incremental();
    back_up_twice(&scanned.steps(), &fixture.world.job_id(JobKind::Backup)).await;
    crate::capture::until_now(&crate::capture::capture(&repository, &fixture.database)).await;
    let captured = backup(&repository, &fixture.database).incremental();
    let captured = back_up_twice(&captured.steps(), &fixture.world.job_id(JobKind::Backup)).await;
    let merged = firebackup_engine::merging(&repository, all.database());
    let merged = back_up_twice(&merged.steps(), &fixture.world.job_id(JobKind::Backup)).await;
    assert_eq!((captured.reads, merged.reads), (0, 0));
    crate::capture::all_moments_are_right(&repository, &fixture.database).await;
    assert_nothing_refused(&police);
}
