//! A job in steps writes once, under new names, and deletes only what it leaves behind: what the policy of the stack's
//! bucket lets the writing role do.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use firebackup_engine::{BackupSteps, RestoreOptions, RestoreSteps};
use firebackup_model::id::JobKind;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::fixture::{Fixture, all_whole, backup, restore};

const JOB_STATE: [&str; 3] = ["receipts", "intents", "probes"];

/// Refuses what the bucket's policy refuses a writer. (Of an upload in parts that is the storage's to ask for.)
struct PolicedStore(Arc<dyn ObjectStore>);

fn is_job_state(location: &Path) -> bool {
    location.parts().next().is_some_and(|folder| JOB_STATE.contains(&folder.as_ref()))
}

fn refused(verb: &str, location: &Path) -> Error {
    let path = location.to_string();
    Error::PermissionDenied { source: format!("a writer may not {verb} {path}").into(), path }
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
        if options.mode != PutMode::Create && !is_job_state(location) {
            return Err(refused("replace", location));
        }
        self.0.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<Bytes>> {
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let checked = locations.map(|location| {
            let location = location?;
            if is_job_state(&location) { Ok(location) } else { Err(refused("delete", &location)) }
        });
        self.0.delete_stream(checked.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(refused("copy", from))
    }
}

async fn policed(fixture: &Fixture) -> firebackup_engine::Repository {
    fixture.open_on(Arc::new(PolicedStore(Arc::clone(&fixture.store)))).await.unwrap()
}

fn backup_steps(fixture: &Fixture, repository: &firebackup_engine::Repository) -> BackupSteps {
    backup(repository, &fixture.database).chunk_documents(20).steps()
}

#[tokio::test]
async fn a_backup_and_a_restore_in_steps_do_what_a_writer_may() {
    let (fixture, _) = Fixture::new(120).await;
    let repository = policed(&fixture).await;
    let job = fixture.world.job_id(JobKind::Backup);
    let steps = backup_steps(&fixture, &repository);
    let chunks = steps.plan(&job).await.unwrap();
    for chunk in 0..chunks {
        assert!(steps.chunk(&job, chunk, 0).await.unwrap().done);
    }
    let manifest = steps.finalize(&job).await.unwrap();

    fixture.database.set("users/u00000", 99);
    let restore = restore(&repository, &manifest.id, fixture.target(), RestoreOptions::default());
    let steps = RestoreSteps {
        restore,
        users: None,
        dry_run: false,
        part_documents: 30,
        step_time: std::time::Duration::from_secs(60),
        samples: 3,
    };
    let job = fixture.world.job_id(JobKind::Restore);
    for part in 0..steps.plan(&job).await.unwrap() {
        assert!(steps.part(&job, part, 0).await.unwrap().done);
    }
    steps.finalize(&job).await.unwrap();
    steps.clear(&job).await.unwrap();
    assert_eq!(all_whole(&repository).await.len(), 2, "the backup, and the undo of the restore");
    let left = fixture.objects().await;
    assert!(!left.iter().any(|path| path.starts_with("receipts/") || path.starts_with("intents/")), "{left:?}");
}

#[tokio::test]
async fn jobs_that_are_given_up_do_what_a_writer_may() {
    let (fixture, whole) = Fixture::new(60).await;
    let snapshot = backup(&whole, &fixture.database).build().run().await.unwrap().manifest.id;
    let repository = policed(&fixture).await;
    let job = fixture.world.job_id(JobKind::Backup);
    let steps = backup_steps(&fixture, &repository);
    steps.plan(&job).await.unwrap();
    steps.chunk(&job, 0, 0).await.unwrap();
    assert_eq!(BackupSteps::give_up(&repository, &job).await.unwrap(), None);

    fixture.database.set("users/u00000", 99);
    let steps = RestoreSteps {
        restore: restore(&repository, &snapshot, fixture.target(), RestoreOptions::default()),
        users: None,
        dry_run: false,
        part_documents: 10,
        step_time: std::time::Duration::from_secs(60),
        samples: 3,
    };
    let job = fixture.world.job_id(JobKind::Restore);
    steps.plan(&job).await.unwrap();
    steps.part(&job, 0, 0).await.unwrap();
    RestoreSteps::give_up(&repository, &job).await.unwrap();
    assert!(fixture.objects().await.iter().all(|path| !path.starts_with("receipts/")));
}

#[tokio::test]
async fn the_police_refuses() {
    let (fixture, repository) = Fixture::new(10).await;
    backup(&repository, &fixture.database).build().run().await.unwrap();
    let store = PolicedStore(Arc::clone(&fixture.store));
    let run = fixture.objects().await.into_iter().find(|path| path.starts_with("runs/")).unwrap();
    let gone = store.delete_stream(futures::stream::iter([Ok(Path::from(run.as_str()))]).boxed());
    assert!(gone.try_collect::<Vec<_>>().await.is_err());
    assert!(store.put_opts(&run.as_str().into(), "x".into(), PutOptions::default()).await.is_err());
    assert!(fixture.objects().await.contains(&run));
}
