//! How long captured moments are kept.

use firebackup_engine::memory::MemoryDatabase;
use firebackup_engine::{Backup, Capture, CaptureOptions, Moments, Stop};
use firebackup_model::DatabaseName;

use super::*;

/// A change, and what it takes to be a moment.
pub(super) async fn captured(repository: &Repository, database: &MemoryDatabase, n: i64) {
    database.set("users/alice", n);
    let (source, options) = (Arc::new(database.clone()), CaptureOptions::default());
    let options = CaptureOptions { prove_cheaply_every_seconds: 0, ..options };
    let (changes, meter, stop) = (source.clone(), Arc::default(), Stop::default());
    let capture = Capture { repository: repository.clone(), source, changes, options, meter, stop };
    capture.until_now(&mut |_| {}).await.unwrap();
}

pub(super) async fn backed_up(repository: &Repository, database: &MemoryDatabase) {
    Backup::builder(repository.clone(), Arc::new(database.clone())).build().run().await.unwrap();
}

/// The database of the project, at the time of the clock.
pub(super) fn database() -> MemoryDatabase {
    let database = MemoryDatabase::new(name());
    database.pass_seconds(4_102_444_800 - database.now().seconds);
    database.flow();
    database.set("users/bob", 1);
    database
}

fn name() -> DatabaseName {
    DatabaseName::new("shop-1", "(default)")
}

/// How many moments are left of five after ten days, where somebody says for how many days they are kept, or nobody does.
async fn left(days: Option<u32>) -> usize {
    let home = Home::new().await;
    let database = database();
    let repository = home.repository(&home.started_backup().await).await;
    backed_up(&repository, &database).await;
    for n in 0..2 {
        captured(&repository, &database, n).await;
    }
    backed_up(&repository, &database).await;
    captured(&repository, &database, 2).await;
    assert_eq!(Moments::read(&repository, &name()).await.unwrap().points().count(), 5);
    if let Some(days) = days {
        let new = json!({ "projectId": home.project.id, "config": { "retentionDays": days } });
        home.control.enable_pitr(&home.owner, serde_json::from_value(new).unwrap()).await.unwrap();
    }
    home.clock.advance(10 * 24 * 3600);
    home.maintenance.run(&MaintenanceTask::Retention).await.unwrap();
    Moments::read(&repository, &name()).await.unwrap().points().count()
}

#[tokio::test]
async fn moments_are_kept_for_as_long_as_somebody_says() {
    // what the last backup was made behind
    let short = left(Some(7)).await;
    assert!(short < 5, "{short}");
    assert_eq!(left(Some(30)).await, 5);
    // what somebody has said may be gone with a project: then it is the longest that it may have been
    assert_eq!(left(None).await, 5);
}
