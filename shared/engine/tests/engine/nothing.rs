//! Selections that fit nothing: a mistake in writing must not pass for work done.

use firebackup_engine::{EngineError, RestoreOptions, estimate};
use firebackup_model::Selection;
use firebackup_model::job::RestoreMode;

use crate::fixture::{Fixture, all_whole, backup, contents, restore};

fn collections(patterns: &[&str]) -> Selection {
    Selection { include: patterns.iter().map(ToString::to_string).collect(), ..Selection::default() }
}

fn documents(patterns: &[&str]) -> Selection {
    Selection { paths: patterns.iter().map(ToString::to_string).collect(), ..Selection::default() }
}

#[tokio::test]
async fn a_backup_of_nothing_is_not_committed_and_leaves_no_job() {
    let (fixture, repository) = Fixture::new(40).await;
    for selection in [collections(&["usres"]), collections(&["**/usres"]), documents(&["users/nobody"])] {
        let job = || backup(&repository, &fixture.database).selection(selection.clone());
        for _ in 0..2 {
            let error = job().build().run().await.unwrap_err();
            assert!(matches!(&error, EngineError::NotFound(text) if text.contains('`')), "{error:?}");
        }
        assert!(all_whole(&repository).await.is_empty());
        assert!(firebackup_engine::unfinished_jobs(&repository).await.unwrap().is_empty());
        let empty = job().allow_empty(true).build().run().await.unwrap();
        assert_eq!((empty.manifest.totals.documents, empty.resumed), (0, false));
        firebackup_engine::prune(
            &repository,
            &firebackup_engine::PrunePolicy { drop: vec![empty.manifest.id], ..Default::default() },
        )
        .await
        .unwrap();
    }
    // what was empty and is not any more is backed up, not gone on with
    fixture.database.set("usres/a", 1);
    let job = backup(&repository, &fixture.database).selection(collections(&["usres"]));
    assert_eq!(job.build().run().await.unwrap().manifest.totals.documents, 1);
}

#[tokio::test]
async fn a_backup_names_the_patterns_that_fitted_nothing() {
    let (fixture, repository) = Fixture::new(40).await;
    let selection = collections(&["users", "usres", "zoo"]);
    let outcome = backup(&repository, &fixture.database).selection(selection).build().run().await.unwrap();
    assert_eq!(outcome.unmatched, ["usres"]);
    let whole = backup(&repository, &fixture.database).build().run().await.unwrap();
    assert!(whole.unmatched.is_empty());
}

#[tokio::test]
async fn an_empty_database_is_backed_up_as_what_it_is() {
    let (fixture, repository) = Fixture::new(0).await;
    let outcome = backup(&repository, &fixture.database).build().run().await.unwrap();
    assert_eq!(outcome.manifest.totals.documents, 0);
    let report = restore(&repository, &outcome.manifest.id, fixture.target(), RestoreOptions::default());
    assert_eq!(report.run().await.unwrap().tally.written, 0);
    assert_eq!(estimate(&fixture.database, &Selection::default()).await.unwrap().documents, Some(0));
}

#[tokio::test]
async fn a_restore_of_nothing_is_refused_before_anything_is_begun() {
    let (fixture, repository) = Fixture::new(40).await;
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    let before = fixture.objects().await;
    for mode in [RestoreMode::Overwrite, RestoreMode::SkipExisting, RestoreMode::Mirror] {
        for selection in [documents(&["users/nobody"]), collections(&["usres"])] {
            let options = RestoreOptions { selection, mode, ..RestoreOptions::default() };
            let job = restore(&repository, &snapshot, fixture.target(), options);
            assert!(matches!(job.dry_run(5).await.unwrap_err(), EngineError::NotFound(_)));
            assert!(matches!(job.run().await.unwrap_err(), EngineError::NotFound(_)));
        }
    }
    assert_eq!(fixture.objects().await, before, "no job, no undo");
}

#[tokio::test]
async fn a_mirror_may_find_in_the_target_alone_what_it_is_about() {
    let (fixture, repository) = Fixture::new(40).await;
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    let wanted = contents(&fixture.database);
    fixture.database.set("added/a", 1);
    let options =
        RestoreOptions { selection: collections(&["added"]), mode: RestoreMode::Mirror, ..RestoreOptions::default() };
    let job = restore(&repository, &snapshot, fixture.target(), options);
    assert_eq!(job.dry_run(5).await.unwrap().difference.totals.deleted, 1);
    let report = job.run().await.unwrap();
    assert_eq!((report.tally.deleted, report.unmatched.len()), (1, 0));
    assert_eq!(contents(&fixture.database), wanted);
}

#[tokio::test]
async fn a_restore_names_the_documents_that_the_snapshot_lacks() {
    let (fixture, repository) = Fixture::new(40).await;
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    let selection = documents(&["users/u00000", "users/nobody"]);
    let options = RestoreOptions { selection, ..RestoreOptions::default() };
    let job = restore(&repository, &snapshot, fixture.target(), options);
    assert_eq!(job.dry_run(5).await.unwrap().unmatched, ["users/nobody"]);
    let report = job.run().await.unwrap();
    assert_eq!((report.tally.same, report.unmatched), (1, vec!["users/nobody".to_owned()]));
}
