//! What goes in comes out.

use std::sync::Arc;

use firebackup_engine::{
    Change, Contents, EngineError, Estimate, Meter, ProvenOrigin, RestoreOptions, Stop, diff, estimate, lookup, verify,
};
use firebackup_model::manifest::{Consistency, Level};
use firebackup_model::port::DocumentSource;
use firebackup_model::{DocumentPath, ErrorKind, Selection, Timestamp};

use crate::faults::{Trouble, Troubled};
use crate::fixture::{Fixture, backup, backup_of, contents, restore, target};

#[tokio::test]
async fn a_restored_database_is_the_one_that_was_backed_up() {
    let (fixture, repository) = Fixture::new(400).await;
    let before = contents(&fixture.database);
    let outcome = backup(&repository, &fixture.database).build().run().await.unwrap();
    assert!(!outcome.resumed);
    let manifest = outcome.manifest;
    assert_eq!((manifest.totals.documents, manifest.reads), (400, 400));
    assert_eq!(manifest.consistency, Consistency::Snapshot);
    assert_eq!(manifest.collections["orders"].documents, 200);
    let verification = verify(&repository, &manifest.id, &Arc::default()).await.unwrap();
    assert_eq!((verification.records, verification.origin_proven), (400, true));
    for path in before.keys() {
        fixture.database.remove(path.as_str());
    }
    fixture.database.set("users/added-since", 1);
    let report = restore(&repository, &manifest.id, fixture.target(), RestoreOptions::default()).run().await.unwrap();
    assert_eq!((report.tally.written, report.tally.failed), (400, 0));
    fixture.database.remove("users/added-since");
    assert_eq!(contents(&fixture.database), before);
    // nothing of the jobs is left but what they made
    assert!(fixture.objects().await.iter().all(|path| !path.starts_with("receipts/") && !path.starts_with("intents/")));
}

#[tokio::test]
async fn the_records_are_the_very_bytes_that_were_read() {
    let (fixture, repository) = Fixture::new(100).await;
    let before = fixture.database.documents();
    let manifest = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
    let mut stored =
        Contents::of_snapshot(&repository, &manifest.id, &Selection::default(), &Arc::default()).await.unwrap();
    for (path, bytes) in before {
        let item = stored.next().await.unwrap().unwrap();
        assert_eq!((item.path, item.document), (path, Some(bytes)));
    }
    assert!(stored.next().await.unwrap().is_none());
}

#[tokio::test]
async fn every_read_is_at_one_time_whatever_is_written_meanwhile() {
    let (fixture, repository) = Fixture::new(100).await;
    let before = contents(&fixture.database);
    let at = fixture.database.clone();
    let read_time = at.snapshot_time().await.unwrap();
    fixture.database.set("users/u00000", 99);
    fixture.database.set("users/later", 99);
    fixture.database.remove("users/u00004");
    let manifest =
        backup(&repository, &fixture.database).read_time(Some(read_time)).build().run().await.unwrap().manifest;
    assert_eq!(manifest.read_times, [read_time]);
    let copy = firebackup_engine::memory::MemoryDatabase::new(manifest.source.clone());
    restore(&repository, &manifest.id, target(&copy), RestoreOptions { undo: false, ..RestoreOptions::default() })
        .run()
        .await
        .unwrap();
    assert_eq!(contents(&copy), before);
}

#[tokio::test]
async fn streams_that_break_go_on_behind_their_last_document() {
    let (fixture, repository) = Fixture::new(200).await;
    let source = Arc::new(Troubled::new(fixture.database.clone(), &[Trouble::CutStreams(17)]));
    let meter = Arc::new(Meter::default());
    let manifest = backup_of(&repository, source).meter(meter.clone()).build().run().await.unwrap().manifest;
    assert_eq!((manifest.totals.documents, manifest.reads), (200, 200));
    assert!(meter.retries.get() >= 8, "{}", meter.retries.get());
    verify(&repository, &manifest.id, &Arc::default()).await.unwrap();
}

#[tokio::test]
async fn a_stream_that_never_gets_on_gives_up_and_what_was_read_is_kept() {
    let (fixture, repository) = Fixture::new(200).await;
    let source = Arc::new(Troubled::new(fixture.database.clone(), &[Trouble::CutStreams(0)]));
    tokio::time::pause();
    let error = backup_of(&repository, source).build().run().await.unwrap_err();
    assert_eq!(error.port_kind(), Some(ErrorKind::Unavailable));
    let outcome = backup(&repository, &fixture.database).build().run().await.unwrap();
    assert!(outcome.resumed);
    assert_eq!(outcome.manifest.totals.documents, 200);
}

#[tokio::test]
async fn a_read_time_that_became_too_old_is_replaced_and_the_manifest_says_so() {
    let (fixture, repository) = Fixture::new(100).await;
    let stopped = backup(&repository, &fixture.database).max_reads(Some(60)).build().run().await.unwrap_err();
    assert!(stopped.is_resumable_stop(), "{stopped:?}");
    // the last document of all, in a chunk that is not read yet
    fixture.database.set("zzz/later", 1);
    let oldest = fixture.database.snapshot_time().await.unwrap();
    let source = Arc::new(Troubled::new(fixture.database.clone(), &[Trouble::TooOld(oldest)]));
    let strict = backup_of(&repository, source.clone()).may_reanchor(false).build().run().await.unwrap_err();
    assert_eq!(strict.port_kind(), Some(ErrorKind::ReadTimeTooOld));
    let outcome = backup_of(&repository, source).build().run().await.unwrap();
    assert!(outcome.resumed);
    let manifest = outcome.manifest;
    assert_eq!((manifest.consistency, manifest.read_times.len()), (Consistency::Ranged, 2));
    assert_eq!((manifest.read_times[1], manifest.totals.documents), (oldest, 101));
    verify(&repository, &manifest.id, &Arc::default()).await.unwrap();
}

#[tokio::test]
async fn a_read_time_that_was_asked_for_is_never_replaced_and_leaves_nothing_behind() {
    let (fixture, repository) = Fixture::new(100).await;
    let early = Timestamp::new(1_700_000_000, 50_000);
    let source =
        Arc::new(Troubled::new(fixture.database.clone(), &[Trouble::TooOld(Timestamp::new(1_700_000_000, 60_000))]));
    let error = backup_of(&repository, source.clone()).read_time(Some(early)).build().run().await.unwrap_err();
    assert_eq!(error.port_kind(), Some(ErrorKind::ReadTimeTooOld));
    let outcome = backup_of(&repository, source).build().run().await.unwrap();
    assert!(!outcome.resumed && outcome.manifest.totals.documents == 100);
}

#[tokio::test]
async fn bytes_that_were_appended_to_a_run_or_taken_from_it_are_found() {
    use object_store::ObjectStoreExt;
    let (fixture, repository) = Fixture::new(30).await;
    let manifest = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
    let path = format!("runs/{}/{}.run", &manifest.runs[0].id.to_string()[..2], manifest.runs[0].id);
    let whole = fixture.read(&path).await;
    for changed in [[&whole[..], b"x"].concat(), Vec::new(), whole[..whole.len() - 1].to_vec()] {
        fixture.store.put(&path.as_str().into(), changed.into()).await.unwrap();
        let error = verify(&repository, &manifest.id, &Arc::default()).await.unwrap_err();
        assert!(error.to_string().contains(&path), "{error}");
    }
}

#[tokio::test]
async fn a_read_budget_is_never_passed_and_a_higher_one_goes_on() {
    let (fixture, repository) = Fixture::new(100).await;
    let stopped = backup(&repository, &fixture.database).max_reads(Some(30)).build().run().await.unwrap_err();
    assert!(matches!(&stopped, EngineError::ReadBudget { reads: 30, max: 30, .. }), "{stopped:?}");
    assert!(repository.snapshot_ids().await.unwrap().is_empty());
    let outcome = backup(&repository, &fixture.database).max_reads(Some(100)).build().run().await;
    // with just as many reads as documents, nobody has seen that the last chunk ends: one more read shows it
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            assert!(error.is_resumable_stop(), "{error:?}");
            backup(&repository, &fixture.database).max_reads(Some(200)).build().run().await.unwrap()
        }
    };
    assert!(outcome.resumed);
    assert_eq!((outcome.manifest.totals.documents, outcome.manifest.reads), (100, 100));
}

#[tokio::test]
async fn a_stopped_backup_goes_on_where_it_stopped() {
    let (fixture, repository) = Fixture::new(100).await;
    let stop = Stop::default();
    stop.request();
    let error = backup(&repository, &fixture.database).stop(stop).build().run().await.unwrap_err();
    assert!(error.is_resumable_stop());
    let outcome = backup(&repository, &fixture.database).build().run().await.unwrap();
    assert!(outcome.resumed);
    assert_eq!(outcome.manifest.totals.documents, 100);
}

#[tokio::test]
async fn selections_take_just_what_they_name() {
    let (fixture, repository) = Fixture::new(100).await;
    let own = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let cases: [(&[&str], &[&str], &[&str]); 5] = [
        (&["users"], &[], &[]),
        (&["**/orders"], &[], &[]),
        (&[], &["users"], &[]),
        (&["users"], &["**/orders"], &[]),
        (&[], &[], &["zoo/*"]),
    ];
    for (include, exclude, paths) in cases {
        let selection =
            Selection { include: own(include), exclude: own(exclude), paths: own(paths), subcollections: true };
        let filter = selection.filter().unwrap();
        let expected: Vec<_> = contents(&fixture.database).into_keys().filter(|path| filter.selects(path)).collect();
        assert!(!expected.is_empty());
        let manifest =
            backup(&repository, &fixture.database).selection(selection.clone()).build().run().await.unwrap().manifest;
        assert_eq!(manifest.totals.documents, expected.len() as u64, "{selection:?}");
        let mut stored =
            Contents::of_snapshot(&repository, &manifest.id, &Selection::default(), &Arc::default()).await.unwrap();
        for path in expected {
            assert_eq!(stored.next().await.unwrap().unwrap().path, path);
        }
        assert!(stored.next().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn an_empty_database_makes_an_empty_snapshot() {
    let (fixture, repository) = Fixture::new(0).await;
    let manifest = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
    assert_eq!((manifest.totals.documents, manifest.runs.len(), manifest.read_times.len()), (0, 0, 1));
    verify(&repository, &manifest.id, &Arc::default()).await.unwrap();
    restore(&repository, &manifest.id, fixture.target(), RestoreOptions::default()).run().await.unwrap();
}

#[tokio::test]
async fn one_document_is_found_by_reading_little() {
    let (fixture, repository) = Fixture::new(2000).await;
    let manifest = backup(&repository, &fixture.database).parallel(1).build().run().await.unwrap().manifest;
    let documents = fixture.database.documents();
    for (path, bytes) in documents.iter().step_by(97) {
        let meter = Arc::new(Meter::default());
        let found = lookup(&repository, &manifest, path, &meter).await.unwrap().unwrap();
        assert_eq!(found.document, *bytes);
        let whole: u64 = manifest.runs.iter().map(|run| run.size).sum();
        assert!(meter.stored.get() * 2 < whole + 70_000, "{} of {whole}", meter.stored.get());
    }
    for absent in ["users/u00001x", "aaa/b", "zzzz/z", "users/u00000/orders/none"] {
        let path = DocumentPath::new(absent).unwrap();
        assert!(lookup(&repository, &manifest, &path, &Arc::default()).await.unwrap().is_none(), "{absent}");
    }
}

#[tokio::test]
async fn two_snapshots_and_the_live_database_can_be_compared() {
    let (fixture, repository) = Fixture::new(40).await;
    let first = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
    fixture.database.set("users/u00000", -1);
    fixture.database.remove("users/u00004");
    fixture.database.set("users/new", 5);
    fixture.database.set("users/u00008", 8);
    let second = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
    let everything = Selection::default();
    let of = |id| Contents::of_snapshot(&repository, id, &everything, &*Box::leak(Box::new(Arc::default())));
    let mut changes = Vec::new();
    let difference = diff(&mut of(&first.id).await.unwrap(), &mut of(&second.id).await.unwrap(), 10, |path, change| {
        changes.push((path.to_string(), change))
    })
    .await
    .unwrap();
    let expected =
        [("users/new", Change::Created), ("users/u00000", Change::Updated), ("users/u00004", Change::Deleted)];
    assert_eq!(changes, expected.map(|(path, change)| (path.to_owned(), change)));
    assert_eq!(
        (difference.totals.created, difference.totals.updated, difference.totals.deleted, difference.totals.same),
        (1, 1, 1, 38)
    );
    let now = fixture.database.snapshot_time().await.unwrap();
    let mut live =
        Contents::of_database(Arc::new(fixture.database.clone()), now, &everything, &fixture.world, &Arc::default())
            .unwrap();
    assert!(diff(&mut of(&second.id).await.unwrap(), &mut live, 0, |_, _| {}).await.unwrap().totals.nothing_differs());
}

#[tokio::test]
async fn the_bill_is_known_before_the_run() {
    let (fixture, _) = Fixture::new(250).await;
    let estimate = estimate(&fixture.database, &Selection::default()).await.unwrap();
    assert_eq!((estimate.documents, estimate.count_reads, estimate.sampled_documents), (Some(250), 1, 100));
    assert!(estimate.sampled_bytes > 100 * 40);
}

/// The bill of so many documents, on a server that does not count.
async fn uncounted(documents: usize, collections: &[&str]) -> Estimate {
    let (fixture, _) = Fixture::new(documents).await;
    let source = Troubled::new(fixture.database.clone(), &[Trouble::CountsByName]);
    let include = collections.iter().map(ToString::to_string).collect();
    let estimate = estimate(&source, &Selection { include, ..Selection::default() }).await.unwrap();
    assert!(!source.counts_by_reading(), "names were read");
    estimate
}

#[tokio::test]
async fn where_nothing_is_counted_the_bill_costs_a_sample_and_says_what_that_tells() {
    let told = |estimate: &Estimate| (estimate.documents, estimate.count_reads, estimate.sampled_documents);
    assert_eq!(told(&uncounted(250, &[]).await), (None, 0, 100));
    assert_eq!(told(&uncounted(100, &[]).await), (None, 0, 100), "there may be more");
    assert_eq!(told(&uncounted(99, &[]).await), (Some(99), 0, 99), "that is all there is");
    assert_eq!(told(&uncounted(0, &[]).await), (Some(0), 1, 0));
    // the first is more than a sample
    let some = uncounted(250, &["users", "usres", "zoo"]).await;
    assert_eq!(told(&some), (None, 1, 101));
    assert_eq!(some.unmatched, ["usres"]);
}

#[tokio::test]
async fn every_compression_and_the_origin_are_kept_in_the_manifest() {
    let (fixture, repository) = Fixture::new(60).await;
    for text in ["none", "brotli:5", "brotli:auto", "zstd:auto", "gzip:6"] {
        let compression = text.parse().unwrap();
        let manifest =
            backup(&repository, &fixture.database).compression(compression).build().run().await.unwrap().manifest;
        assert_eq!(manifest.compression, compression);
        let blocks: u64 = manifest.levels.values().sum();
        assert_eq!(blocks, manifest.runs.iter().map(|run| run.blocks).sum::<u64>());
        if let (Level::Fixed(_), "brotli:5") = (compression.level, text) {
            assert!(manifest.levels.keys().all(|level| level == text || level == "none"), "{:?}", manifest.levels);
        }
        let (_, origin) = repository.manifest(&manifest.id).await.unwrap();
        assert!(matches!(origin, ProvenOrigin::Proven(_)));
        verify(&repository, &manifest.id, &Arc::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_database_that_keeps_versions_is_read_at_a_whole_minute_which_lasts() {
    let (fixture, repository) = Fixture::new(60).await;
    fixture.database.pass_seconds(90);
    fixture.clock.pass_hours(1);
    fixture.database.keep_versions_since(Timestamp::new(1_700_000_000, 0));
    fixture.database.set("users/u00000", -1);
    let stopped = backup(&repository, &fixture.database).max_reads(Some(20)).build().run().await.unwrap_err();
    assert!(matches!(stopped, EngineError::ReadBudget { .. }));
    // two hours on that very moment can still be read at
    fixture.clock.pass_hours(2);
    fixture.database.set("users/u00004", -1);
    let outcome = backup(&repository, &fixture.database).build().run().await.unwrap();
    assert!(outcome.resumed);
    let read_time = outcome.manifest.read_time().unwrap();
    assert_eq!((read_time.seconds % 60, read_time.nanos), (0, 0), "{read_time}");
    assert_eq!((outcome.manifest.consistency, outcome.manifest.totals.documents), (Consistency::Snapshot, 60));

    // without, the server's own time is taken, and an hour is the end of it
    let (fixture, repository) = Fixture::new(60).await;
    let now = fixture.database.snapshot_time().await.unwrap();
    backup(&repository, &fixture.database).max_reads(Some(20)).build().run().await.unwrap_err();
    fixture.clock.pass_hours(2);
    let outcome = backup(&repository, &fixture.database).build().run().await.unwrap();
    assert!(!outcome.resumed);
    assert_eq!(outcome.manifest.read_time(), Some(now));
}
