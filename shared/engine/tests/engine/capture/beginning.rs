//! Two captures at once where one of them begins at a backup: the chain is one all the same.

use std::sync::Arc;

use firebackup_engine::memory::MemoryDatabase;
use firebackup_engine::{CaptureEvent, Captured, PrunePolicy, Repository, prune, verify_segments};
use firebackup_model::manifest::Consistency;
use firebackup_model::port::DocumentSource;
use firebackup_model::segment::{SegmentKind, SegmentManifest};
use object_store::ObjectStoreExt;

use super::{all_moments_are_right, begun, capture, until_now};
use crate::faults::{Held, Trouble, Troubled};
use crate::fixture::{Fixture, backup, backup_of};

/// A capture up to now that was begun.
type Started = tokio::task::JoinHandle<(Captured, Vec<CaptureEvent>)>;

/// Captures up to now, to be held on its way.
fn started(repository: &Repository, database: &MemoryDatabase) -> Started {
    let capture = capture(repository, database);
    tokio::spawn(async move { until_now(&capture).await })
}

fn was_overtaken(events: &[CaptureEvent]) -> bool {
    events.iter().any(|event| matches!(event, CaptureEvent::Overtaken))
}

/// What was sealed.
fn sealed(events: &[CaptureEvent]) -> Vec<&SegmentManifest> {
    let mut sealed = Vec::new();
    for event in events {
        if let CaptureEvent::Sealed(segment) = event {
            sealed.push(&**segment);
        }
    }
    sealed
}

fn segments(objects: &std::collections::BTreeSet<String>) -> Vec<String> {
    objects.iter().filter(|path| path.starts_with("segments/")).cloned().collect()
}

/// A chain, a backup behind its end, and changes behind that.
async fn backed_up_since() -> (Fixture, Repository) {
    let (fixture, repository, _) = begun(24).await;
    let database = &fixture.database;
    database.set("users/u00000", 1);
    until_now(&capture(&repository, database)).await;
    database.set("users/u00000", 2);
    backup(&repository, database).build().run().await.unwrap();
    database.set("users/u00001", 1);
    (fixture, repository)
}

/// The next change is sealed by whoever comes, behind the last segment, once.
async fn goes_on_as_one(fixture: &Fixture, repository: &Repository, last: &SegmentManifest) {
    let database = &fixture.database;
    database.set("users/u00002", 1);
    let (_, events) = until_now(&capture(repository, database)).await;
    let next = sealed(&events);
    assert!(matches!(&next[..], [next] if next.after == last.end()), "{events:?}");
    assert_eq!(next[0].sequence, last.sequence + 1);
    let verified = verify_segments(repository, &Arc::default()).await.unwrap();
    assert!(verified.damaged.is_empty(), "{verified:?}");
}

/// Another one captures while `one` is held, which yields to it: it seals nothing itself, and the chain goes on as one.
async fn yields(fixture: &Fixture, repository: &Repository, held: &Held, one: Started) {
    let (_, other) = until_now(&capture(repository, &fixture.database)).await;
    let [segment] = sealed(&other)[..] else { panic!("{other:?}") };
    held.goes();
    let (captured, events) = one.await.unwrap();
    assert!(matches!(captured, Captured::Through(_)) && was_overtaken(&events), "{events:?}");
    assert!(sealed(&events).is_empty(), "{events:?}");
    goes_on_as_one(fixture, repository, segment).await;
}

#[tokio::test]
async fn who_begins_anew_yields_to_a_segment_that_was_put_just_before() {
    let (fixture, repository) = backed_up_since().await;
    let database = &fixture.database;
    database.listen_faults(|faults| faults.resets = 1);
    // one has lost its stream, and has looked already whether others went on
    let held = fixture.shared.hold_put("segments");
    let one = started(&repository, database);
    held.came().await;
    yields(&fixture, &repository, &held, one).await;
    assert_eq!(all_moments_are_right(&repository, database).await.len(), 1, "nothing is missing");
}

#[tokio::test]
async fn who_still_hears_yields_to_one_that_began_anew_just_before() {
    let (fixture, repository) = backed_up_since().await;
    let database = &fixture.database;
    // one has heard everything, and has looked already whether others went on
    let held = fixture.shared.hold_put("segments");
    let one = started(&repository, database);
    held.came().await;
    database.listen_faults(|faults| faults.resets = 1);
    yields(&fixture, &repository, &held, one).await;
    assert_eq!(all_moments_are_right(&repository, database).await.len(), 2, "the gap of the one that began anew");
}

#[tokio::test]
async fn two_that_begin_at_two_backups_make_one_chain() {
    let (fixture, repository, _) = begun(24).await;
    let database = &fixture.database;
    database.set("users/u00000", 1);
    let held = fixture.shared.hold_put("segments");
    let one = started(&repository, database);
    held.came().await;
    backup(&repository, database).build().run().await.unwrap();
    database.set("users/u00000", 2);
    yields(&fixture, &repository, &held, one).await;
    all_moments_are_right(&repository, database).await;
}

/// Two that begin anew at one backup say the same, and of their first segments one counts.
#[tokio::test]
async fn two_that_begin_anew_at_one_backup_make_one_chain() {
    let (fixture, repository) = backed_up_since().await;
    let database = &fixture.database;
    database.listen_faults(|faults| faults.resets = 2);
    let (one, other) = tokio::join!(started(&repository, database), started(&repository, database));
    let (one, other) = (one.unwrap().1, other.unwrap().1);
    let both: Vec<_> = sealed(&one).into_iter().chain(sealed(&other)).collect();
    let [segment] = both[..] else { panic!("{one:?} {other:?}") };
    goes_on_as_one(&fixture, &repository, segment).await;
    assert_eq!(all_moments_are_right(&repository, database).await.len(), 2);
}

/// Says that the chain goes on at the backup, and dies.
async fn dies_behind_its_beginning(fixture: &Fixture, repository: &Repository) {
    let before = segments(&fixture.objects().await).len();
    fixture.database.listen_faults(|faults| faults.resets = 1);
    let said = fixture.shared.hold_put("segments");
    let one = started(repository, &fixture.database);
    said.came().await;
    let next = fixture.shared.hold_put("segments");
    said.goes();
    next.came().await;
    one.abort();
    assert!(one.await.unwrap_err().is_cancelled());
    assert_eq!(segments(&fixture.objects().await).len(), before + 1);
}

#[tokio::test]
async fn what_one_that_died_said_of_a_beginning_is_gone_on_with_at_once() {
    let (fixture, repository) = backed_up_since().await;
    let database = &fixture.database;
    dies_behind_its_beginning(&fixture, &repository).await;
    // a newer backup is not where the chain was said to go on, and no policy drops the one that is
    backup(&repository, database).build().run().await.unwrap();
    let policy = PrunePolicy { keep_last: Some(1), exclusive: true, ..PrunePolicy::default() };
    assert_eq!(prune(&repository, &policy).await.unwrap().dropped.len(), 0);
    let (_, events) = until_now(&capture(&repository, database)).await;
    let [segment] = sealed(&events)[..] else { panic!("{events:?}") };
    assert!(!was_overtaken(&events), "{events:?}");
    goes_on_as_one(&fixture, &repository, segment).await;
    assert_eq!(all_moments_are_right(&repository, database).await.len(), 2);
}

#[tokio::test]
async fn a_beginning_at_a_backup_of_several_times_is_scanned_by_whoever_goes_on() {
    let (fixture, repository) = Fixture::new(100).await;
    let database = &fixture.database;
    database.flow();
    let stopped = backup(&repository, database).max_reads(Some(60)).build().run().await.unwrap_err();
    assert!(stopped.is_resumable_stop(), "{stopped:?}");
    let now = database.snapshot_time().await.unwrap();
    let source = Arc::new(Troubled::new(database.clone(), &[Trouble::TooOld(now)]));
    let ranged = backup_of(&repository, source).build().run().await.unwrap().manifest;
    assert_eq!(ranged.consistency, Consistency::Ranged);
    database.set("users/u00001", 1);
    dies_behind_its_beginning(&fixture, &repository).await;
    database.listen_faults(|faults| faults.resets = 0);
    let (_, events) = until_now(&capture(&repository, database)).await;
    let [segment] = sealed(&events)[..] else { panic!("{events:?}") };
    assert_eq!(segment.kind, SegmentKind::Compared);
    goes_on_as_one(&fixture, &repository, segment).await;
    all_moments_are_right(&repository, database).await;
}

#[tokio::test]
async fn where_the_backup_of_a_beginning_is_damaged_the_chain_begins_anew_at_the_next_one() {
    let (fixture, repository) = backed_up_since().await;
    let database = &fixture.database;
    dies_behind_its_beginning(&fixture, &repository).await;
    let newest = repository.snapshot_ids().await.unwrap().pop().unwrap();
    let manifest = format!("snapshots/{newest}.manifest");
    fixture.damage(&manifest).await;
    assert!(capture(&repository, database).until_now(&mut |_| {}).await.is_err());
    // so long that which backup is the newest is known without it
    fixture.clock.pass_hours(9 * 24);
    database.pass_seconds(9 * 24 * 3600);
    backup(&repository, database).build().run().await.unwrap();
    // a proof that looked a document up would need to know what the damaged one is
    database.set("users/new", 5);
    let (_, events) = until_now(&capture(&repository, database)).await;
    let [segment] = sealed(&events)[..] else { panic!("{events:?}") };
    fixture.store.delete(&manifest.as_str().into()).await.unwrap();
    goes_on_as_one(&fixture, &repository, segment).await;
    all_moments_are_right(&repository, database).await;
}

#[tokio::test]
async fn where_the_backup_of_a_beginning_is_gone_the_chain_begins_anew_at_the_next_one() {
    let (fixture, repository) = backed_up_since().await;
    let database = &fixture.database;
    dies_behind_its_beginning(&fixture, &repository).await;
    let newest = repository.snapshot_ids().await.unwrap().pop().unwrap();
    let policy = PrunePolicy { drop: vec![newest], exclusive: true, ..PrunePolicy::default() };
    let report = prune(&repository, &policy).await.unwrap();
    assert_eq!((report.dropped.len(), report.segments_dropped), (1, 0), "{report:?}");
    let error = capture(&repository, database).until_now(&mut |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("make a full backup"), "{error}");
    backup(&repository, database).build().run().await.unwrap();
    database.set("users/u00001", 5);
    let (_, events) = until_now(&capture(&repository, database)).await;
    let [segment] = sealed(&events)[..] else { panic!("{events:?}") };
    goes_on_as_one(&fixture, &repository, segment).await;
    all_moments_are_right(&repository, database).await;
}

/// It stands in nobody's way as long as moments are kept from before, and goes with them.
#[tokio::test]
async fn beginnings_go_with_the_moments_before_them() {
    let (fixture, repository) = backed_up_since().await;
    let database = &fixture.database;
    database.listen_faults(|faults| faults.resets = 1);
    until_now(&capture(&repository, database)).await;
    let policy = PrunePolicy { keep_moments_days: 7, exclusive: true, ..PrunePolicy::default() };
    // not even where no moments are kept: who was held up may still believe the old end
    for policy in [&policy, &PrunePolicy { keep_moments_days: 0, ..policy.clone() }] {
        prune(&repository, policy).await.unwrap();
        let left = segments(&fixture.objects().await);
        assert!(left.iter().any(|path| path.contains("/1970-01-01T")), "{left:?}");
    }
    fixture.clock.pass_hours(9 * 24);
    database.pass_seconds(9 * 24 * 3600);
    backup(&repository, database).build().run().await.unwrap();
    database.set("users/u00001", 9);
    until_now(&capture(&repository, database)).await;
    let report = prune(&repository, &policy).await.unwrap();
    assert_eq!(report.segments_dropped, 2, "both beginnings: {report:?}");
    let left = segments(&fixture.objects().await);
    assert!(left.iter().all(|path| !path.contains("/1970-01-01T")), "{left:?}");
    database.set("users/u00001", 10);
    let (_, events) = until_now(&capture(&repository, database)).await;
    assert!(!was_overtaken(&events) && sealed(&events).len() == 1, "{events:?}");
    all_moments_are_right(&repository, database).await;
}
