//! Migrations over two folders, and what stores do to them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path as FilePath, PathBuf};

use firebackup_control::{DestinationId, Migration, MigrationStatus, NewMigration};

use super::*;

/// A home with a repository in its folder, and a folder to move it to.
struct Moved {
    home: Home,
    backup: BackupJob,
    target: TempDir,
    from: DestinationId,
    to: DestinationId,
}

/// Names and contents below a folder.
fn files(folder: &FilePath) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

impl Moved {
    /// With a repository and `runs` objects in it.
    async fn new(runs: usize) -> Self {
        let home = Home::new().await;
        let backup = home.started_backup().await;
        let repository = home.repository(&backup).await;
        for run in 0..runs {
            let name = format!("runs/{run:02x}/{run:032x}.run");
            repository.store().put(&Path::from(name), vec![run as u8; 100 + run].into()).await.unwrap();
        }
        let manifest = format!("snapshots/{}.manifest", backup.job.id);
        repository.store().put(&Path::from(manifest), "manifest".into()).await.unwrap();
        for name in ["receipts/j/0/0", "intents/j", "prunes/p", "probes/p"] {
            repository.store().put(&Path::from(name), "x".into()).await.unwrap();
        }
        home.clock.advance(60 * 86_400);
        home.maintenance.run(&MaintenanceTask::Audit).await.unwrap();
        let target = tempfile::tempdir().unwrap();
        let from = backup.storage_destination_id;
        let to = home.control.add_destination(&home.owner, destination(&target)).await.unwrap().id;
        Self { home, backup, target, from, to }
    }

    /// The backup that was begun is no more in the way.
    async fn end_backup(&self) {
        let end = firebackup_control::JobEnd::Completed(Box::default());
        self.home.control.finish_job(&self.home.worker, &self.backup.job.id, end).await.unwrap();
    }

    async fn request(&self) {
        let new = NewMigration { target_destination_id: self.to, dry_run: false };
        self.home.control.request_migration(&self.home.owner, &self.from, &new, None).await.unwrap();
    }

    async fn round(&self) -> Value {
        self.home.maintenance.run(&MaintenanceTask::Migrate).await.unwrap()
    }

    async fn migration(&self) -> Migration {
        self.home.control.destination(&self.home.owner, &self.from).await.unwrap().migration.unwrap()
    }

    /// What should be in the target: all but what comes and goes with jobs.
    fn kept(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let goes = ["receipts", "intents", "prunes", "probes"];
        let is_kept = |path: &FilePath| !path.iter().any(|part| goes.iter().any(|name| part == *name));
        files(self.home.folder.path()).into_iter().filter(|(path, _)| is_kept(path)).collect()
    }

    fn repository_name(&self) -> String {
        self.home.project.id.to_string()
    }

    fn in_target(&self, name: &str) -> PathBuf {
        self.target.path().join(self.repository_name()).join(name)
    }
}

#[tokio::test]
async fn everything_that_is_kept_is_in_the_target_byte_for_byte() {
    let moved = Moved::new(5).await;
    moved.end_backup().await;
    moved.request().await;
    assert_eq!(moved.round().await, json!({ "migrations": 1, "failed": 0 }));
    let done = moved.migration().await;
    assert_eq!((done.status, done.error), (MigrationStatus::Completed, None));
    let there = files(moved.target.path());
    assert_eq!(there, moved.kept());
    assert!(there.keys().any(|path| path.starts_with("audit")) && there.len() > 9, "{:?}", there.keys());
    assert_eq!((done.objects, done.bytes), (done.objects_done, done.bytes_done));
    assert_eq!(done.objects, there.len() as u64);
    assert_eq!(done.bytes, there.values().map(|bytes| bytes.len() as u64).sum::<u64>());
    assert_eq!(moved.round().await["migrations"], 0, "there is nothing more to do");

    // without the source
    fs::remove_dir_all(moved.home.folder.path()).unwrap();
    let shown = moved.home.shown(&moved.backup).await;
    assert_eq!(shown.storage_destination_id, moved.to);
    moved.home.repository(&shown).await.key_holders().await;
    let page = Page { limit: 100, ..Page::default() };
    moved.home.control.audit(&moved.home.owner, &AuditFilter::default(), &page).await.unwrap();
    moved.home.control.remove_destination(&moved.home.owner, &moved.from).await.unwrap();
}

trait Opened {
    async fn key_holders(&self) -> usize;
}

impl Opened for Repository {
    async fn key_holders(&self) -> usize {
        let holders = self.holders().await.unwrap().len();
        assert!(holders > 0);
        holders
    }
}

#[tokio::test]
async fn manifests_come_last_when_nobody_writes_there_any_more_and_what_came_since_comes_along() {
    let moved = Moved::new(3).await;
    moved.request().await;
    let manifest = moved.in_target(&format!("snapshots/{}.manifest", moved.backup.job.id));
    for _ in 0..3 {
        moved.round().await;
        assert_eq!(moved.migration().await.status, MigrationStatus::Switching, "a job has not ended");
        assert!(moved.in_target("firebackup.json").exists() && !manifest.exists());
    }
    let late = "runs/ff/ffffffffffffffffffffffffffffffff.run";
    let place = moved.home.repository(&moved.backup).await;
    place.store().put(&Path::from(late), "late".into()).await.unwrap();
    moved.end_backup().await;
    moved.round().await;
    let done = moved.migration().await;
    assert_eq!((done.status, done.objects_done), (MigrationStatus::Completed, done.objects));
    assert!(manifest.exists() && fs::read(moved.in_target(late)).unwrap() == b"late");
    assert_eq!(files(moved.target.path()), moved.kept());
}

/// Whatever is in the target of a round that died is compared by the next, and nothing is put twice.
#[tokio::test]
async fn what_is_there_already_is_compared_and_something_else_stops_it() {
    let moved = Moved::new(3).await;
    moved.end_backup().await;
    let name = format!("runs/01/{:032x}.run", 1);
    let there = moved.in_target(&name);
    fs::create_dir_all(there.parent().unwrap()).unwrap();
    for content in [vec![2; 101], vec![1; 7]] {
        fs::write(&there, &content).unwrap();
        moved.request().await;
        moved.round().await;
        let failed = moved.migration().await;
        let error = failed.error.unwrap();
        assert_eq!(failed.status, MigrationStatus::Failed);
        let project = moved.repository_name();
        assert!(error.message.contains(&name) && error.message.contains(&project), "{}", error.message);
        assert!(error.remedy.contains("another prefix"));
        assert_eq!(fs::read(&there).unwrap(), content, "nothing is replaced");
        assert_eq!(moved.home.shown(&moved.backup).await.storage_destination_id, moved.from);
    }
    // mended, and asked for again
    fs::write(&there, vec![1; 101]).unwrap();
    moved.request().await;
    moved.round().await;
    assert_eq!(moved.migration().await.status, MigrationStatus::Copying, "a prune of before may be at it");
    moved.home.clock.advance(21 * 60);
    moved.round().await;
    assert_eq!(moved.migration().await.status, MigrationStatus::Completed);
    assert_eq!(files(moved.target.path()), moved.kept());
}

#[tokio::test]
async fn another_repository_of_the_project_in_the_target_stops_it_before_anything_is_copied_but_keys() {
    let moved = Moved::new(3).await;
    moved.end_backup().await;
    let asked = json!({ "projectId": moved.home.project.id, "storageDestinationId": moved.to });
    let asked = serde_json::from_value(asked).unwrap();
    let other = moved.home.control.create_backup(&moved.home.owner, asked, None).await.unwrap();
    moved.home.repository(&other).await;
    moved.request().await;
    moved.round().await;
    let error = moved.migration().await.error.unwrap();
    assert!(error.message.contains("firebackup.json"), "{}", error.message);
    assert!(files(moved.target.path()).keys().all(|path| path.extension().is_none_or(|kind| kind != "run")));
    moved.home.repository(&other).await.key_holders().await;
}

#[tokio::test]
async fn one_place_by_two_names_is_found_out() {
    let moved = Moved::new(1).await;
    moved.end_backup().await;
    fs::remove_dir(moved.target.path()).unwrap();
    std::os::unix::fs::symlink(moved.home.folder.path(), moved.target.path()).unwrap();
    let before = files(moved.home.folder.path());
    moved.request().await;
    moved.round().await;
    let failed = moved.migration().await;
    assert_eq!(failed.status, MigrationStatus::Failed);
    assert!(failed.error.unwrap().message.contains("one place"));
    assert_eq!(files(moved.home.folder.path()), before);
    fs::remove_file(moved.target.path()).unwrap();
    fs::create_dir(moved.target.path()).unwrap();
}

#[tokio::test]
async fn nothing_is_pruned_in_either_and_what_was_marked_before_does_not_come_back() {
    let moved = Moved::new(3).await;
    moved.end_backup().await;
    let (control, owner) = (&moved.home.control, &moved.home.owner);
    control.delete_backup(owner, &moved.home.project.id, &moved.backup.job.id).await.unwrap();
    moved.request().await;
    let before = files(moved.home.folder.path());
    let retained = moved.home.maintenance.run(&MaintenanceTask::Retention).await.unwrap();
    assert_eq!((&retained["deleted"], &retained["failed"]), (&json!(0), &json!(0)), "{retained}");
    assert_eq!(files(moved.home.folder.path()), before);
    moved.round().await;
    assert_eq!(moved.migration().await.status, MigrationStatus::Completed);
    let manifest = format!("snapshots/{}.manifest", moved.backup.job.id);
    assert!(!moved.in_target(&manifest).exists());
    moved.home.maintenance.run(&MaintenanceTask::Retention).await.unwrap();
    let gone = control.backup(owner, &moved.home.project.id, &moved.backup.job.id).await.unwrap_err();
    assert_eq!(gone.code, firebackup_control::Code::NotFound);
}

#[tokio::test]
async fn a_target_that_cannot_be_written_is_tried_again_and_given_up_at_last() {
    let moved = Moved::new(1).await;
    moved.end_backup().await;
    moved.request().await;
    fs::remove_dir(moved.target.path()).unwrap();
    fs::write(moved.target.path(), "no folder").unwrap();
    let mut rounds = 0;
    while moved.migration().await.status == MigrationStatus::Copying {
        moved.round().await;
        moved.home.clock.advance(120);
        rounds += 1;
        assert!(rounds < 20);
    }
    let failed = moved.migration().await;
    assert!(failed.error.unwrap().remedy.contains("ask for the same migration again"));
    fs::remove_file(moved.target.path()).unwrap();
    fs::create_dir(moved.target.path()).unwrap();
    moved.request().await;
    moved.home.clock.advance(21 * 60);
    moved.round().await;
    assert_eq!(moved.migration().await.status, MigrationStatus::Completed);
}

/// A round whose time is up hands over, and the next goes on behind what was compared.
#[tokio::test]
async fn a_round_without_time_begins_nothing_and_one_with_little_hands_over() {
    let moved = Moved::new(40).await;
    moved.end_backup().await;
    moved.request().await;
    let round =
        async |time: Duration| moved.home.maintenance.migrate(&moved.home.worker, Round::within(time)).await.unwrap();
    assert_eq!(round(Duration::ZERO).await, 0);
    const LITTLE: Duration = Duration::from_millis(25);
    let (mut rounds, mut done, mut time) = (0, 0, LITTLE);
    while moved.migration().await.status != MigrationStatus::Completed {
        round(time).await;
        let now = moved.migration().await.objects_done;
        assert!(now >= done, "it never falls back");
        // on a machine that is busy the little may be too little for anything
        time = if now > done { LITTLE } else { time * 2 };
        (done, rounds) = (now, rounds + 1);
        assert!(rounds < 500, "{:?}", moved.migration().await);
    }
    assert_eq!(files(moved.target.path()), moved.kept());
    assert_eq!(done, moved.migration().await.objects);
}

#[tokio::test]
async fn two_at_once_do_it_once() {
    let moved = Moved::new(8).await;
    moved.end_backup().await;
    moved.request().await;
    let (one, other) = tokio::join!(moved.round(), moved.round());
    assert_eq!(one["migrations"].as_u64().unwrap() + other["migrations"].as_u64().unwrap(), 1);
    assert_eq!(moved.migration().await.status, MigrationStatus::Completed);
    assert_eq!(files(moved.target.path()), moved.kept());
}
