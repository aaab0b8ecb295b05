//! Proofs that fail: what was heard is sealed all the same, and proven later.

use std::time::Duration;

use firebackup_engine::CaptureEvent;
use firebackup_engine::memory::CountFault;

use super::{all_moments_are_right, begun, capture, follow, until_now};

/// A capture that follows while nothing is counted: each change is sealed, and asked for is a count once in a pause.
async fn changes_are_sealed_without_counts(fault: CountFault) {
    let (fixture, repository, _) = begun(24).await;
    let database = fixture.database.clone();
    let mut following = capture(&repository, &database);
    // what is not counted is no silence
    following.options.silence = Duration::from_secs(3600);
    let (following, mut told, task) = follow(following);
    database.listen_faults(|faults| faults.counts = Some((0, fault)));
    let (mut failures, mut sealed) = (0, 0);
    for round in 0..5 {
        database.set("users/u00000", round);
        database.tell();
        loop {
            match told.recv().await.unwrap() {
                CaptureEvent::Unproven(_) => failures += 1,
                CaptureEvent::Sealed(segment) if segment.proofs.is_empty() => break,
                other => panic!("{other:?}"),
            }
        }
        sealed += 1;
    }
    assert_eq!((failures, sealed), (1, 5));
    database.listen_faults(|faults| faults.counts = None);
    tokio::time::sleep(following.options.proof_pause).await;
    database.set("users/u00000", 9);
    database.tell();
    let event = told.recv().await.unwrap();
    assert!(matches!(&event, CaptureEvent::Sealed(segment) if !segment.proofs.is_empty()), "{event:?}");
    following.stop.request();
    task.await.unwrap().unwrap();
    let windows = all_moments_are_right(&repository, &database).await;
    assert_eq!((windows.len(), windows[0].moments), (1, 7));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_count_holds_up_no_segment() {
    changes_are_sealed_without_counts(CountFault::Unavailable).await;
}

#[tokio::test(start_paused = true)]
async fn a_count_that_is_never_answered_holds_up_a_segment_for_a_while_only() {
    changes_are_sealed_without_counts(CountFault::Silence).await;
}

#[tokio::test]
async fn what_could_not_be_counted_for_two_days_is_read_instead() {
    let (fixture, repository, _) = begun(24).await;
    let database = &fixture.database;
    database.listen_faults(|faults| faults.counts = Some((0, CountFault::Unavailable)));
    for hours in [1, 46] {
        database.set("users/u00000", hours);
        database.pass_seconds(hours * 3600);
        let (_, events) = until_now(&capture(&repository, database)).await;
        assert!(matches!(&events[..], [CaptureEvent::Unproven(_), CaptureEvent::Sealed(_)]), "{events:?}");
    }
    database.set("users/u00000", 49);
    database.pass_seconds(2 * 3600);
    let (_, events) = until_now(&capture(&repository, database)).await;
    assert!(matches!(&events[..], [CaptureEvent::Scanning(_), CaptureEvent::Sealed(_)]), "{events:?}");
    let windows = all_moments_are_right(&repository, database).await;
    assert_eq!((windows.len(), windows[1].moments), (2, 1), "{windows:?}");
}

#[tokio::test]
async fn a_proof_that_fails_half_way_leaves_nothing_that_a_later_one_would_believe() {
    let mut has_failed = false;
    for counts in 0..20 {
        let (fixture, repository, _) = begun(24).await;
        let database = &fixture.database;
        // nobody listens to it: it is found by a proof, and read
        database.set("hidden/x/deep/1", 1);
        database.set("users/u00000", 1);
        database.listen_faults(|faults| faults.counts = Some((counts, CountFault::Unavailable)));
        let mut one = capture(&repository, database);
        one.options.proof_pause = Duration::ZERO;
        let (_, events) = until_now(&one).await;
        has_failed |= events.iter().any(|event| matches!(event, CaptureEvent::Unproven(_)));
        database.listen_faults(|faults| faults.counts = None);
        database.set("users/u00000", 2);
        until_now(&one).await;
        let windows = all_moments_are_right(&repository, database).await;
        assert!(windows[0].moments >= 2, "{counts} counts: {windows:?}");
    }
    assert!(has_failed);
}
