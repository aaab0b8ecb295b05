//! Each way in which a capture goes on, one at a time.

use std::sync::Arc;
use std::time::Duration;

use firebackup_engine::memory::MemoryDatabase;
use firebackup_engine::{
    Capture, CaptureEvent, CaptureOptions, Captured, EngineError, Repository, RestoreOptions, as_reported,
};
use firebackup_model::job::RestoreMode;
use firebackup_model::manifest::Consistency;
use firebackup_model::port::{Clock, DocumentSource};
use firebackup_model::segment::SegmentKind;
use firebackup_model::{DocumentPath, ErrorKind, Selection, Timestamp};
use object_store::ObjectStoreExt;

use super::{all_moments_are_right, begun, capture, follow, moments, options, until_now};
use crate::faults::{Trouble, Troubled};
use crate::fixture::{backup_of, contents, contents_at, restore, target};

#[tokio::test]
async fn changes_are_captured_and_each_point_is_a_moment() {
    let (fixture, repository, manifest) = begun(40).await;
    let database = &fixture.database;
    let capture = capture(&repository, database);
    for round in 0..4 {
        database.set("users/u00000", 1000 + round);
        database.set(&format!("users/new{round}"), round);
        database.remove(&format!("zoo/ü{}", 3 + 4 * round));
        let (captured, events) = until_now(&capture).await;
        assert!(matches!(captured, Captured::Through(_)));
        assert!(matches!(&events[..], [CaptureEvent::Sealed(_)]), "{events:?}");
    }
    let windows = all_moments_are_right(&repository, database).await;
    assert_eq!((windows.len(), windows[0].moments), (1, 5));
    assert_eq!(windows[0].start, manifest.read_time().unwrap());
}

#[tokio::test]
async fn a_moment_is_restored_whole_and_a_moment_in_between_is_the_point_before() {
    let (fixture, repository, _) = begun(40).await;
    let database = &fixture.database;
    let capture = capture(&repository, database);
    let mut points = Vec::new();
    for round in 0..3 {
        database.set("users/u00000", 1000 + round);
        database.remove(&format!("zoo/ü{}", 3 + 4 * round));
        database.set(&format!("fresh{round}/1"), 1);
        let (Captured::Through(point), _) = until_now(&capture).await else { panic!("not captured") };
        points.push(point);
    }
    database.set("users/later", 7);
    let moments = moments(&repository, database).await;
    let at = points[1].plus_seconds(0);
    let just_before = Timestamp::new(at.seconds, at.nanos - 1);
    assert_eq!(moments.resolve(just_before, false).unwrap().point, points[0]);
    assert!(moments.resolve(just_before, true).unwrap_err().to_string().contains("no consistent point"));
    let moment = moments.resolve(at, true).unwrap();
    let mut put_back = restore(
        &repository,
        &moment.base,
        target(database),
        RestoreOptions { mode: RestoreMode::Mirror, ..RestoreOptions::default() },
    );
    put_back.at = Some(moment.point);
    let report = put_back.run().await.unwrap();
    assert_eq!(report.tally.failed, 0);
    assert_eq!(contents(database), contents_at(database, at));
}

#[tokio::test]
async fn an_idle_database_makes_no_segment_until_twenty_minutes_have_passed() {
    let (fixture, repository, manifest) = begun(12).await;
    let capture = capture(&repository, &fixture.database);
    let objects = fixture.objects().await;
    for _ in 0..5 {
        fixture.database.pass_seconds(60);
        assert!(until_now(&capture).await.1.is_empty());
    }
    assert_eq!(fixture.objects().await, objects);
    fixture.database.pass_seconds(900);
    let (_, events) = until_now(&capture).await;
    let [CaptureEvent::Sealed(segment)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((segment.runs.len(), segment.after), (0, manifest.read_time().unwrap()));
    assert_eq!(all_moments_are_right(&repository, &fixture.database).await.len(), 1);
}

#[tokio::test]
async fn a_day_of_windows_of_an_idle_database_makes_three_segments_an_hour_and_reads_nothing_again() {
    let (fixture, repository, _) = begun(12).await;
    let mut capture = capture(&repository, &fixture.database);
    // as it is when nobody sets anything: what an idle day costs hangs on how often it proves and says that it lives
    capture.options = CaptureOptions::default();
    let (before, mut sealed) = (fixture.objects().await, 0);
    for window in 1..=1440 {
        fixture.database.pass_seconds(60);
        if window % 60 == 0 {
            fixture.clock.pass_hours(1);
        }
        // whoever was away for half an hour is told everything again
        let known_since = fixture.database.now().plus_seconds(-1800);
        fixture.database.listen_faults(|faults| faults.forgotten_before = known_since);
        let (captured, events) = until_now(&capture).await;
        assert!(matches!(captured, Captured::Through(_)));
        for event in &events {
            let CaptureEvent::Sealed(segment) = event else { panic!("window {window}: {event:?}") };
            assert!(segment.runs.is_empty(), "window {window}: {segment:?}");
            sealed += 1;
        }
    }
    assert!((68..=72).contains(&sealed), "{sealed} segments");
    let after = fixture.objects().await;
    let added: Vec<&String> = after.difference(&before).collect();
    let are_in = |folder: &str| added.iter().filter(|path| path.starts_with(folder)).count();
    // and what says where the chain begins
    assert_eq!(are_in("segments/"), sealed + 1, "{added:?}");
    assert_eq!(added.len(), sealed + 1 + are_in("keys/"), "{added:?}");
    assert!(are_in("keys/") <= 3, "a key a day: {added:?}");
    let windows = all_moments_are_right(&repository, &fixture.database).await;
    assert_eq!((windows.len(), windows[0].moments), (1, sealed as u64 + 1));
}

#[tokio::test]
async fn a_collection_that_nobody_listened_to_is_found_and_read_at_every_point() {
    let (fixture, repository, _) = begun(40).await;
    let database = &fixture.database;
    let capture = capture(&repository, database);
    database.set("hidden/x/deep/1", 1);
    database.set("hidden/x", 1);
    let (_, events) = until_now(&capture).await;
    assert!(matches!(&events[..], [CaptureEvent::Sealed(segment)] if segment.token.is_none()), "{events:?}");
    // from now on it is listened to
    database.set("hidden/x/deep/1", 2);
    database.set("hidden/x/deep/2", 2);
    database.remove("hidden/x");
    let (_, events) = until_now(&capture).await;
    assert!(matches!(&events[..], [CaptureEvent::Sealed(segment)] if segment.token.is_some()), "{events:?}");
    assert_eq!(all_moments_are_right(&repository, database).await[0].moments, 3);
}

#[tokio::test]
async fn points_that_are_not_proven_yet_are_no_moments_and_become_some() {
    let (fixture, repository, _) = begun(40).await;
    let database = &fixture.database;
    let mut capture = capture(&repository, database);
    capture.options = CaptureOptions { prove_cheaply_every_seconds: 500, prove_every_seconds: 500, ..options() };
    for round in 0..3 {
        database.set("secret/1", round);
        database.set("users/u00000", round);
        database.pass_seconds(60);
        let (_, events) = until_now(&capture).await;
        assert!(matches!(&events[..], [CaptureEvent::Sealed(segment)] if segment.proofs.is_empty()), "{events:?}");
    }
    assert_eq!(all_moments_are_right(&repository, database).await[0].moments, 1);
    database.set("secret/2", 1);
    database.pass_seconds(500);
    let (_, events) = until_now(&capture).await;
    assert!(matches!(&events[..], [CaptureEvent::Sealed(segment)] if !segment.proofs.is_empty()), "{events:?}");
    assert_eq!(all_moments_are_right(&repository, database).await[0].moments, 5);
}

#[tokio::test]
async fn documents_that_came_and_went_between_two_points_do_not_upset_the_counts() {
    let (fixture, repository, _) = begun(40).await;
    let database = &fixture.database;
    let capture = capture(&repository, database);
    database.remove("users/u00000");
    database.set("users/u00000", 5);
    database.set("users/short", 5);
    database.remove("users/short");
    database.remove("users/u00004");
    let (_, events) = until_now(&capture).await;
    assert!(matches!(&events[..], [CaptureEvent::Sealed(_)]), "{events:?}");
    assert_eq!(all_moments_are_right(&repository, database).await[0].moments, 2);
}

/// What makes a stream useless ends in a scan, and what was lost is a gap.
async fn ends_in_a_scan(trouble: impl FnOnce(&mut firebackup_engine::memory::ListenFaults)) {
    let (fixture, repository, _) = begun(40).await;
    let database = &fixture.database;
    let capture = capture(&repository, database);
    database.set("users/u00000", 1);
    until_now(&capture).await;
    database.set("users/u00000", 2);
    database.remove("users/u00004");
    database.set("orders/fresh", 1);
    database.set("unheard/of", 1);
    database.listen_faults(trouble);
    let (captured, events) = until_now(&capture).await;
    assert!(matches!(captured, Captured::Through(_)));
    let compared = events.iter().find_map(|event| match event {
        CaptureEvent::Sealed(segment) if segment.kind == SegmentKind::Compared => Some(segment),
        _ => None,
    });
    let compared = compared.unwrap_or_else(|| panic!("{events:?}"));
    let windows = all_moments_are_right(&repository, database).await;
    assert_eq!(windows.len(), 2);
    assert_eq!((windows[0].end, windows[1].start), (compared.after, compared.end()));
    let between = compared.after.plus_seconds(0);
    let between = Timestamp::new(between.seconds, between.nanos + 1);
    let refusal = moments(&repository, database).await.resolve(between, false).unwrap_err().to_string();
    assert!(refusal.contains("gap") && refusal.contains(&compared.end().to_string()), "{refusal}");
    // what was seen before the gap is not taken to last through it, either
    let (path, name) = (DocumentPath::new("users/u00000").unwrap(), DocumentSource::database(database).clone());
    let reported = as_reported(&repository, &name, &path, between, &Arc::default()).await;
    assert!(matches!(&reported, Err(EngineError::Refused(text)) if text.contains("gap")), "{reported:?}");
    // and it goes on
    database.listen_faults(|faults| *faults = Default::default());
    database.set("unheard/of", 2);
    let (_, events) = until_now(&capture).await;
    assert!(matches!(&events[..], [CaptureEvent::Sealed(_)]), "{events:?}");
    assert_eq!(all_moments_are_right(&repository, database).await[1].moments, 2);
}

#[tokio::test]
async fn a_reset_ends_in_a_scan() {
    ends_in_a_scan(|faults| faults.resets = 1).await;
}

#[tokio::test]
async fn a_token_that_is_not_known_any_more_ends_in_a_scan() {
    ends_in_a_scan(|faults| faults.forgotten_before = Timestamp::new(4_000_000_000, 0)).await;
}

#[tokio::test]
async fn a_refused_token_ends_in_a_scan() {
    ends_in_a_scan(|faults| faults.breaks = vec![ErrorKind::InvalidArgument]).await;
}

#[tokio::test]
async fn a_deletion_that_a_filter_tells_of_ends_in_a_scan() {
    ends_in_a_scan(|faults| faults.swallows_deletions = true).await;
}

#[tokio::test]
async fn a_group_of_which_the_stream_tells_nothing_ends_in_a_scan() {
    ends_in_a_scan(|faults| faults.hidden = ["orders".to_owned()].into()).await;
}

#[tokio::test(start_paused = true)]
async fn streams_that_say_nothing_are_replaced_and_then_end_in_a_scan() {
    ends_in_a_scan(|faults| faults.is_silent = true).await;
}

#[tokio::test]
async fn streams_that_only_say_that_they_live_are_replaced_and_then_end_in_a_scan() {
    let ends = ends_in_a_scan(|faults| (faults.is_silent, faults.has_heartbeats) = (true, true));
    tokio::time::timeout(Duration::from_secs(60), ends).await.expect("they are waited for without end");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_comes_further_now_and_then_is_not_taken_for_dead() {
    let (fixture, repository, _) = begun(24).await;
    let database = fixture.database.clone();
    database.listen_faults(|faults| faults.has_heartbeats = true);
    let (following, mut told, task) = follow(capture(&repository, &database));
    for round in 0..4 {
        // longer than a stream may be silent; in all, longer than it may come no further
        tokio::time::sleep(following.options.silence * 3).await;
        database.set("users/u00000", round);
        database.tell();
        let event = told.recv().await.unwrap();
        assert!(matches!(event, CaptureEvent::Sealed(_)), "{event:?}");
    }
    following.stop.request();
    task.await.unwrap().unwrap();
    assert_eq!(all_moments_are_right(&repository, &database).await.len(), 1);
}

#[tokio::test]
async fn a_stream_that_breaks_before_its_point_is_opened_again_and_nothing_is_lost() {
    let (fixture, repository, _) = begun(40).await;
    let database = &fixture.database;
    let capture = capture(&repository, database);
    database.set("users/u00000", 1);
    database.remove("users/u00004");
    database.listen_faults(|faults| faults.breaks = vec![ErrorKind::Unavailable; 3]);
    let (_, events) = until_now(&capture).await;
    assert_eq!(events.iter().filter(|event| matches!(event, CaptureEvent::Reopened(_))).count(), 3);
    let windows = all_moments_are_right(&repository, database).await;
    assert_eq!((windows.len(), windows[0].moments), (1, 2));
}

#[tokio::test]
async fn filters_that_are_right_change_nothing() {
    let (fixture, repository, _) = begun(40).await;
    let database = &fixture.database;
    let capture = capture(&repository, database);
    database.listen_faults(|faults| faults.has_filters = true);
    database.remove("users/u00000");
    database.set("users/u00000", 1);
    database.remove("users/u00004");
    let (_, events) = until_now(&capture).await;
    assert!(matches!(&events[..], [CaptureEvent::Sealed(_)]), "{events:?}");
}

#[tokio::test]
async fn a_spent_budget_degrades_and_moments_stay_as_they_were() {
    let (fixture, repository, _) = begun(40).await;
    let database = &fixture.database;
    let mut capture = capture(&repository, database);
    capture.options.max_scans_a_day = Some(1);
    database.set("users/u00000", 1);
    database.listen_faults(|faults| faults.resets = 1);
    assert!(matches!(until_now(&capture).await.0, Captured::Through(_)));
    database.set("users/u00000", 2);
    database.listen_faults(|faults| faults.resets = 1);
    let (captured, events) = until_now(&capture).await;
    assert_eq!(captured, Captured::Degraded);
    assert!(matches!(&events[..], [CaptureEvent::Degraded(_)]), "{events:?}");
    // a stream that can be believed again is
    let (captured, _) = until_now(&capture).await;
    assert!(matches!(captured, Captured::Through(_)));
    all_moments_are_right(&repository, database).await;
    fixture.clock.pass_hours(25);
    capture.options.max_scan_reads_a_day = Some(10);
    database.listen_faults(|faults| faults.resets = 1);
    assert_eq!(until_now(&capture).await.0, Captured::Degraded);
}

/// Whether a window of so many seconds is proven, and how many document reads it takes.
async fn window(capture: &Capture, database: &MemoryDatabase, seconds: i64) -> (bool, u64) {
    let before = capture.meter.reads.get();
    database.set("users/u00000", seconds);
    database.pass_seconds(seconds);
    let (_, events) = until_now(capture).await;
    let [CaptureEvent::Sealed(segment)] = &events[..] else { panic!("{events:?}") };
    (!segment.proofs.is_empty(), capture.meter.reads.get() - before)
}

#[tokio::test]
async fn where_a_proof_reads_every_name_those_of_a_day_keep_to_the_budget() {
    let (fixture, repository, _) = begun(400).await;
    let database = &fixture.database;
    let source = Arc::new(Troubled::new(database.clone(), &[Trouble::CountsByName]));
    let mut capture = Capture { source, ..capture(&repository, database) };
    // two thousand seconds a proof, or a little more
    capture.options.max_scan_reads_a_day = Some(86_400 / 5);
    assert!(CaptureOptions::default().cheap_proof_reads < 400);
    let (is_proven, reads) = window(&capture, database, 60).await;
    assert!(!is_proven && reads < 20, "nothing is read before it is known to be dear: {reads}");
    assert!(!window(&capture, database, 600).await.0, "it is put off");
    let (is_proven, reads) = window(&capture, database, 2500).await;
    assert!(is_proven && (400..500).contains(&reads), "the last point alone is counted: {reads}");
    assert!(!window(&capture, database, 600).await.0);
    capture.options.max_scan_reads_a_day = None;
    assert!(window(&capture, database, 60).await.0, "ten minutes have passed");
    capture.options.max_scan_reads_a_day = Some(399);
    assert!(!window(&capture, database, 200_000).await.0, "no day allows one");
    capture.options.max_scan_reads_a_day = Some(86_400 / 5);
    assert!(window(&capture, database, 60).await.0);
    assert_eq!(all_moments_are_right(&repository, database).await.len(), 1);
}

#[tokio::test]
async fn without_a_backup_of_the_whole_there_is_nothing_to_begin_from() {
    let (fixture, repository) = crate::fixture::Fixture::new(8).await;
    let capture = capture(&repository, &fixture.database);
    let error = capture.until_now(&mut |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("make one with"), "{error}");
}

#[tokio::test]
async fn two_captures_at_once_make_one_chain() {
    let (fixture, repository, _) = begun(40).await;
    let database = &fixture.database;
    for round in 0..10 {
        database.set("users/u00000", round);
        database.set(&format!("users/more{round}"), round);
        let (one, other) = (capture(&repository, database), capture(&repository, database));
        let both: (_, _) = tokio::join!(until_now(&one), until_now(&other));
        assert!(matches!((both.0.0, both.1.0), (Captured::Through(_), Captured::Through(_))));
    }
    assert_eq!(all_moments_are_right(&repository, database).await.len(), 1);
}

#[tokio::test]
async fn whoever_follows_seals_while_the_stream_stays_open_and_stops_when_asked() {
    let (fixture, repository, _) = begun(40).await;
    let database = fixture.database.clone();
    let (following, mut told, task) = follow(capture(&repository, &database));
    for round in 0..5 {
        database.set("users/u00000", round);
        database.tell();
        let event = tokio::time::timeout(Duration::from_secs(30), told.recv()).await.unwrap().unwrap();
        assert!(matches!(event, CaptureEvent::Sealed(_)), "{event:?}");
    }
    database.set("users/last", 1);
    database.tell();
    following.stop.request();
    task.await.unwrap().unwrap();
    assert!(all_moments_are_right(&repository, &database).await[0].moments >= 6);
}

/// The stream tells what is otherwise than at its last point: of such a document it need not.
#[tokio::test]
async fn documents_that_only_a_backup_between_two_points_has_seen_are_gone_at_the_second() {
    for group in ["users", "new"] {
        let (fixture, repository, _) = begun(24).await;
        let database = &fixture.database;
        database.listen_faults(|faults| faults.is_terse = true);
        database.set("users/u00000", 1);
        until_now(&capture(&repository, database)).await;
        database.set(&format!("{group}/short"), 1);
        database.set(&format!("{group}/long"), 1);
        crate::fixture::backup(&repository, database).build().run().await.unwrap();
        database.remove(&format!("{group}/short"));
        database.set("users/u00000", 2);
        until_now(&capture(&repository, database)).await;
        // what a scan compares with knows it too
        database.set("users/u00004", 1);
        database.listen_faults(|faults| faults.resets = 1);
        until_now(&capture(&repository, database)).await;
        all_moments_are_right(&repository, database).await;
    }
}

#[tokio::test]
async fn an_increment_of_a_backup_between_two_points_holds_nothing_that_came_and_went() {
    let (fixture, repository, _) = begun(24).await;
    let database = &fixture.database;
    database.listen_faults(|faults| faults.is_terse = true);
    database.set("users/u00000", 1);
    until_now(&capture(&repository, database)).await;
    database.set("users/short", 1);
    database.set("users/long", 1);
    crate::fixture::backup(&repository, database).build().run().await.unwrap();
    database.remove("users/short");
    database.set("users/u00000", 2);
    until_now(&capture(&repository, database)).await;
    let (way, manifest) = super::increments::back_up(&repository, &fixture).await.unwrap();
    assert_eq!(way, super::increments::Way::Captured);
    super::increments::is_right(&repository, &fixture, &manifest).await;
}

#[tokio::test]
async fn a_database_without_documents_is_captured_from_its_first_one_on() {
    let (fixture, repository, _) = begun(0).await;
    let database = &fixture.database;
    assert!(until_now(&capture(&repository, database)).await.1.is_empty());
    database.set("users/first", 1);
    let (_, events) = until_now(&capture(&repository, database)).await;
    assert!(matches!(&events[..], [CaptureEvent::Sealed(_)]), "{events:?}");
    database.set("users/first", 2);
    until_now(&capture(&repository, database)).await;
    let windows = all_moments_are_right(&repository, database).await;
    assert_eq!((windows.len(), windows[0].moments), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn what_a_stream_says_after_a_silence_is_proven_at_once() {
    let (fixture, repository, _) = begun(24).await;
    let database = fixture.database.clone();
    let mut following = capture(&repository, &database);
    (following.options.prove_cheaply_every_seconds, following.options.prove_every_seconds) = (10_000, 10_000);
    let (following, mut told, task) = follow(following);
    database.set("users/u00000", 1);
    database.tell();
    let event = told.recv().await.unwrap();
    assert!(matches!(&event, CaptureEvent::Sealed(segment) if segment.proofs.is_empty()), "{event:?}");
    database.listen_faults(|faults| faults.is_silent = true);
    database.set("users/u00000", 2);
    assert!(matches!(told.recv().await.unwrap(), CaptureEvent::Reopened(_)));
    database.listen_faults(|faults| faults.is_silent = false);
    database.set("hidden/1", 1);
    database.tell();
    let event = told.recv().await.unwrap();
    assert!(matches!(&event, CaptureEvent::Sealed(segment) if !segment.proofs.is_empty()), "{event:?}");
    following.stop.request();
    task.await.unwrap().unwrap();
    assert_eq!(all_moments_are_right(&repository, &database).await.len(), 1);
}

#[tokio::test]
async fn a_chain_whose_base_is_gone_begins_anew_at_a_later_backup() {
    let (fixture, repository, _) = begun(24).await;
    let database = &fixture.database;
    for round in 0..5 {
        database.set("users/u00000", round);
        until_now(&capture(&repository, database)).await;
    }
    let objects = fixture.objects().await;
    let segments: Vec<_> = objects.iter().filter(|path| path.starts_with("segments/")).collect();
    // the first of these says where the chain begins
    fixture.store.delete(&segments[3].as_str().into()).await.unwrap();
    let verified = firebackup_engine::verify_segments(&repository, &Arc::default()).await.unwrap();
    assert_eq!((verified.segments, verified.damaged.len()), (4, 1), "{verified:?}");
    assert!(verified.damaged[0].1.to_string().contains("a segment before it is missing"));
    // what must be compared cannot be, until there is a new beginning
    database.set("users/u00000", 9);
    database.listen_faults(|faults| faults.resets = 1);
    let error = capture(&repository, database).until_now(&mut |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("make a full backup"), "{error}");
    crate::fixture::backup(&repository, database).build().run().await.unwrap();
    database.set("users/u00004", 9);
    database.listen_faults(|faults| faults.resets = 2);
    let (captured, events) = until_now(&capture(&repository, database)).await;
    assert!(matches!(captured, Captured::Through(_)), "{events:?}");
    database.set("users/u00004", 10);
    until_now(&capture(&repository, database)).await;
    let windows = all_moments_are_right(&repository, database).await;
    assert!(windows.last().unwrap().moments >= 2, "{windows:?}");
}

/// What a backup has read need not be read again, and less time is lost: the gap ends where it was made.
#[tokio::test]
async fn where_the_stream_is_lost_capturing_goes_on_at_a_backup_that_was_made_since() {
    let (fixture, repository, _) = begun(24).await;
    let database = &fixture.database;
    let mut capture = capture(&repository, database);
    // not even where nothing may be read
    capture.options.max_scans_a_day = Some(0);
    database.set("users/u00000", 1);
    until_now(&capture).await;
    let before = moments(&repository, database).await.points().last().unwrap();
    database.set("users/u00000", 2);
    let within = database.now();
    let backup = crate::fixture::backup(&repository, database).build().run().await.unwrap().manifest;
    let made = backup.read_time().unwrap();
    database.set("users/u00004", 1);
    database.listen_faults(|faults| faults.resets = 1);
    let (captured, events) = until_now(&capture).await;
    assert!(matches!(captured, Captured::Through(_)), "{events:?}");
    let [CaptureEvent::Reopened(said), CaptureEvent::Sealed(segment)] = &events[..] else { panic!("{events:?}") };
    assert!(said.contains("it begins anew at the backup"), "{said}");
    assert_eq!((segment.after, segment.base.clone(), segment.gaps.len()), (made, backup.id.clone(), 0));
    // what follows builds on it, also for whoever knows nothing of it
    database.set("users/u00004", 2);
    let (_, events) = until_now(&capture).await;
    assert!(matches!(&events[..], [CaptureEvent::Sealed(next)] if next.after == segment.end()), "{events:?}");
    let gaps = moments(&repository, database).await.gaps();
    assert_eq!(gaps.iter().map(|gap| (gap.after, gap.until)).collect::<Vec<_>>(), [(before, made)]);
    assert_eq!(all_moments_are_right(&repository, database).await.len(), 2);
    // what was seen before the gap is not taken to last through it
    assert!(before < within && within < made);
    let (path, name) = (DocumentPath::new("users/u00000").unwrap(), DocumentSource::database(database).clone());
    let reported = as_reported(&repository, &name, &path, within, &Arc::default()).await;
    assert!(matches!(&reported, Err(EngineError::Refused(text)) if text.contains("gap")), "{reported:?}");
    // where the stream is lost from the backup on as well, there is nothing newer
    database.listen_faults(|faults| faults.resets = 1);
    assert_eq!(until_now(&capture).await.0, Captured::Degraded);
}

/// A backup of a part says nothing of the rest, and one that was read at several times is a state of none of them.
#[tokio::test]
async fn nobody_goes_on_at_a_backup_of_a_part_or_of_several_times() {
    let (fixture, repository, _) = begun(100).await;
    let database = &fixture.database;
    database.set("users/u00000", 1);
    until_now(&capture(&repository, database)).await;
    let users = Selection { include: vec!["users".to_owned()], ..Selection::default() };
    crate::fixture::backup(&repository, database).selection(users).build().run().await.unwrap();
    is_scanned(&repository, database).await;
    let stopped = crate::fixture::backup(&repository, database).max_reads(Some(60)).build().run().await.unwrap_err();
    assert!(stopped.is_resumable_stop(), "{stopped:?}");
    let now = database.snapshot_time().await.unwrap();
    let source = Arc::new(Troubled::new(database.clone(), &[Trouble::TooOld(now)]));
    let ranged = backup_of(&repository, source).build().run().await.unwrap();
    assert_eq!(ranged.manifest.consistency, Consistency::Ranged);
    is_scanned(&repository, database).await;
    all_moments_are_right(&repository, database).await;
}

/// Loses the stream once.
async fn is_scanned(repository: &Repository, database: &MemoryDatabase) {
    database.set("users/u00004", 1);
    database.listen_faults(|faults| faults.resets = 1);
    let (_, events) = until_now(&capture(repository, database)).await;
    assert!(matches!(&events[..], [CaptureEvent::Scanning(_), CaptureEvent::Sealed(_)]), "{events:?}");
}

/// While one begins anew at a backup, another one that hears what there is goes on from before it, to behind it.
#[tokio::test]
async fn who_begins_anew_at_a_backup_does_not_go_on_beside_others() {
    let (fixture, repository, _) = begun(24).await;
    let database = &fixture.database;
    database.set("users/u00000", 1);
    until_now(&capture(&repository, database)).await;
    crate::fixture::backup(&repository, database).build().run().await.unwrap();
    database.set("users/u00001", 1);
    database.listen_faults(|faults| faults.resets = 1);
    let (one, other) = (capture(&repository, database), capture(&repository, database));
    let mut events = Vec::new();
    let meanwhile = |event: &CaptureEvent| {
        if matches!(event, CaptureEvent::Reopened(_)) {
            let other = &other;
            std::thread::scope(|scope| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                scope.spawn(move || runtime.block_on(until_now(other)));
            });
        }
    };
    let ended = one
        .until_now(&mut |event| {
            meanwhile(&event);
            events.push(event);
        })
        .await;
    assert!(matches!(ended, Ok(Captured::Through(_))), "{ended:?}");
    assert!(matches!(&events[..], [CaptureEvent::Reopened(_), CaptureEvent::Overtaken, ..]), "{events:?}");
    assert_eq!(all_moments_are_right(&repository, database).await.len(), 1, "nothing is missing");
}

#[tokio::test]
async fn behind_the_last_moment_nothing_is_known_longer_than_a_heartbeat_may_take() {
    let (fixture, repository, _) = begun(8).await;
    fixture.database.set("users/u00000", 1);
    until_now(&capture(&repository, &fixture.database)).await;
    fixture.clock.pass_hours(3);
    let moments = moments(&repository, &fixture.database).await;
    let last = moments.points().last().unwrap();
    assert_eq!(moments.resolve(last.plus_seconds(3700), false).unwrap().point, last);
    let refusal = moments.resolve(last.plus_seconds(7200), false).unwrap_err().to_string();
    assert!(refusal.contains(&format!("yet: the last moment is {last}")), "{refusal}");
}

#[tokio::test]
async fn a_time_that_has_not_come_is_refused_and_what_is_known_is_not_whatever_the_clock_says() {
    let (fixture, repository, _) = begun(8).await;
    fixture.database.set("users/u00000", 1);
    until_now(&capture(&repository, &fixture.database)).await;
    let now = fixture.clock.now();
    let known = moments(&repository, &fixture.database).await;
    let last = known.points().last().unwrap();
    assert!(last < now);
    let refusal = known.resolve(now.plus_seconds(120), false).unwrap_err().to_string();
    assert!(refusal.contains("is in the future") && refusal.contains(&last.to_string()), "{refusal}");
    assert_eq!(known.resolve(now.plus_seconds(30), false).unwrap().point, last);
    // a clock that is hours behind Firestore's
    fixture.clock.pass_hours(-2);
    let known = moments(&repository, &fixture.database).await;
    for at in known.points() {
        assert_eq!(known.resolve(at, true).unwrap().point, at);
    }
    assert_eq!(known.resolve(last.plus_seconds(30), false).unwrap().point, last);
    let refusal = known.resolve(last.plus_seconds(120), false).unwrap_err().to_string();
    assert!(refusal.contains("is in the future"), "{refusal}");
}
