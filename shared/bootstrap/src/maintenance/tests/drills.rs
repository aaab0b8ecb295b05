//! Drills that end before there is a database to restore into.

use firebackup_control::{BackupDrill, DrillOutcome, DrillRun, NewDrills};
use firebackup_control::{JobEnd, JobResult};
use futures::TryStreamExt;

use super::*;
use crate::steps::DrillBounds;

/// A home with a completed backup, whose drill was asked for.
async fn asked() -> (Home, BackupJob) {
    let home = Home::new().await;
    let backup = home.started_backup().await;
    home.repository(&backup).await;
    let end = JobEnd::Completed(Box::new(JobResult { documents: 7, ..JobResult::default() }));
    home.control.finish_job(&home.worker, &backup.job.id, end).await.unwrap();
    let new: NewDrills =
        serde_json::from_value(json!({ "cronExpression": "0 4 * * 0", "scratch": { "kind": "emulator" } })).unwrap();
    home.control.put_drills(&home.owner, &home.project.id, new).await.unwrap();
    home.control.ask_for_drill(&home.owner, &home.project.id, None).await.unwrap();
    (home, backup)
}

impl Home {
    async fn drill(&self, bounds: &DrillBounds) -> bool {
        let due = self.control.due_drills(10).await.unwrap().remove(0);
        self.maintenance.steps.drill(&due, None, bounds).await.unwrap()
    }

    async fn last_run(&self) -> Option<DrillRun> {
        self.control.drills(&self.owner, &self.project.id).await.unwrap().last_run
    }
}

#[tokio::test]
async fn a_backup_whose_manifest_is_gone_or_damaged_does_not_pass() {
    for manifest in [None, Some("junk")] {
        let (home, backup) = asked().await;
        if let Some(junk) = manifest {
            let path = format!("snapshots/{}.manifest", backup.job.id);
            home.repository(&backup).await.store().put(&Path::from(path), junk.into()).await.unwrap();
        }
        assert!(home.drill(&DrillBounds::default()).await);
        let BackupDrill { outcome, documents, .. } = home.shown(&backup).await.last_drill.unwrap();
        assert_eq!((outcome, documents), (DrillOutcome::Failed, 0), "{manifest:?}");
        let run = home.last_run().await.unwrap();
        assert_eq!(run.backup_id, Some(backup.job.id.clone()));
        let kept = home.repository(&backup).await.drills(10).await.unwrap();
        let [(report, _)] = &kept.reports[..] else { panic!("one report") };
        assert_eq!((Some(&report.id), &report.snapshot), (run.report_id.as_ref(), &backup.job.id));
        assert!(!report.has_passed() && report.failure.is_some() && report.source.project == "shop-1", "{report:?}");
        assert!(home.control.due_drills(10).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_backup_whose_repository_is_gone_damaged_or_not_opened_does_not_pass() {
    for object in ["firebackup.json", "keys/"] {
        for junk in [None, Some("junk")] {
            let (home, backup) = asked().await;
            let store = Arc::clone(home.repository(&backup).await.store());
            let all: Vec<_> = store.list(None).try_collect().await.unwrap();
            for meta in all.into_iter().filter(|meta| meta.location.as_ref().starts_with(object)) {
                match junk {
                    Some(junk) => drop(store.put(&meta.location, junk.into()).await.unwrap()),
                    None => store.delete(&meta.location).await.unwrap(),
                }
            }
            assert!(home.drill(&DrillBounds::default()).await);
            let shown = home.shown(&backup).await.last_drill;
            assert_eq!(shown.unwrap().outcome, DrillOutcome::Failed, "{object} {junk:?}");
            let message = home.last_run().await.unwrap().message.unwrap();
            assert!(message.contains("repository of the backup") && !message.contains("firebackup init"), "{message}");
        }
    }
}

#[tokio::test]
async fn what_does_not_fit_into_the_time_is_told_as_such() {
    let (home, backup) = asked().await;
    assert!(home.drill(&DrillBounds::within(Duration::ZERO)).await);
    assert_eq!(home.shown(&backup).await.last_drill.unwrap().outcome, DrillOutcome::OutOfTime);
    assert!(home.last_run().await.unwrap().message.unwrap().contains("fewer documents"));
}

#[tokio::test]
async fn a_sweep_drills_while_there_is_time_for_it_and_leaves_the_rest_to_the_next() {
    let (home, _) = asked().await;
    let sweep = async |seconds| {
        let maintenance = home.maintenance.clone().migrating_in_sweeps(Duration::from_secs(seconds));
        maintenance.run(&MaintenanceTask::Sweep).await.unwrap()["drills"].clone()
    };
    assert_eq!(sweep(60).await, 0);
    assert_eq!(home.last_run().await, None);
    assert_eq!(sweep(800).await, 1);
    assert!(home.last_run().await.is_some());
    assert_eq!(sweep(800).await, 0);
}
