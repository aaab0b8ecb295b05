//! What users are burnt by, one at a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use firebackup_engine::{Capture, CaptureEvent, CaptureOptions, Moments, Restore, RestoreOptions};
use firebackup_google::Retrying;
use firebackup_model::job::RestoreMode;
use firebackup_model::port::{Change, ChangeSource, ChangeStream, DocumentSource, DocumentStream, ListenFrom};
use firebackup_model::{DatabaseName, PathRange, PortError, Timestamp, document};
use futures::StreamExt;
use tokio::sync::mpsc;
use tonic::Code;

use super::oracle::{State, contents};
use super::place::{Place, until_now};
use super::writer::Changes;
use crate::stage::{self, Documents, emulator, firestore, read_all, restore, target};

const LIMIT: Duration = Duration::from_secs(60);
/// What Firestore takes, less the document's other fields.
const NEARLY_A_MEBIBYTE: usize = 1_048_576 - 1024;

fn numbered(group: &str, documents: i64) -> Changes {
    (0..documents).fold(Changes::default(), |changes, number| changes.put(format!("{group}/{number}"), number))
}

/// A capture that follows in a task of its own, and what it tells.
struct Following {
    stop: firebackup_engine::Stop,
    task: tokio::task::JoinHandle<firebackup_engine::Result<firebackup_engine::Captured>>,
    events: mpsc::UnboundedReceiver<CaptureEvent>,
}

impl Following {
    fn begin(capture: Capture) -> Self {
        let (told, events) = mpsc::unbounded_channel();
        let stop = capture.stop.clone();
        let task = tokio::spawn(async move { capture.follow(&mut |event| drop(told.send(event))).await });
        Self { stop, task, events }
    }

    async fn event(&mut self) -> CaptureEvent {
        tokio::time::timeout(LIMIT, self.events.recv()).await.expect("something happens").expect("it follows")
    }

    /// Waits until everything up to a moment is in segments.
    async fn sealed_through(&mut self, moment: Timestamp) {
        while !matches!(self.event().await, CaptureEvent::Sealed(segment) if segment.end() >= moment) {}
    }

    async fn end(self) {
        self.stop.request();
        self.task.await.unwrap().unwrap();
    }
}

fn scans(events: &[CaptureEvent]) -> usize {
    events.iter().filter(|event| matches!(event, CaptureEvent::Scanning(_))).count()
}

fn moments_in_one_window(moments: &Moments) -> u64 {
    let [window] = &moments.windows()[..] else { panic!("{:?}", moments.windows()) };
    window.moments
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_of_a_mebibyte_that_change_every_second_are_captured() {
    let emulator = emulator().await;
    let place = Place::begun(emulator.host(), "large", Changes::default().put("large/0", 0)).await;
    let mut capture = place.capture();
    capture.options.buffer_bytes = 4 * 1024 * 1024;
    let mut following = Following::begin(capture);
    let mut writer = place.writer();
    let mut every = tokio::time::interval(Duration::from_secs(1));
    let mut last = Timestamp::default();
    for number in 1..=20 {
        every.tick().await;
        let large = |changes: Changes, name| changes.put_padded(format!("large/{name}"), number, NEARLY_A_MEBIBYTE);
        last = writer.commit((0..2).fold(Changes::default(), large)).await;
    }
    following.sealed_through(last).await;
    following.end().await;
    let moments = place.assert_all_right().await;
    assert!(moments_in_one_window(&moments) >= 15, "{:?}", moments.windows());
    place.assert_restores(&moments.resolve(last.plus_seconds(1), false).unwrap(), "large-restored").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_collection_groups_and_twenty_that_nobody_had_heard_of_are_captured() {
    let emulator = emulator().await;
    let put = |changes: Changes, group: i64| {
        changes.put(format!("group{group}/1"), group).put(format!("deep/x/group{group}/2"), group)
    };
    let place = Place::begun(emulator.host(), "hundred", (0..100).fold(Changes::default(), put)).await;
    let capture = place.capture();
    let mut writer = place.writer();
    writer
        .commit((0..100).fold(Changes::default(), |changes, group| changes.put(format!("group{group}/1"), -group)))
        .await;
    assert_eq!(scans(&until_now(&capture).await), 0);
    writer.commit((100..120).fold(Changes::default(), put)).await;
    writer
        .commit(
            (0..120).step_by(3).fold(Changes::default(), |changes, group| changes.delete(format!("group{group}/1"))),
        )
        .await;
    assert_eq!(scans(&until_now(&capture).await), 0);
    writer
        .commit((100..120).fold(Changes::default(), |changes, group| changes.put(format!("group{group}/1"), -group)))
        .await;
    assert_eq!(scans(&until_now(&capture).await), 0);
    assert!(moments_in_one_window(&place.assert_all_right().await) >= 4);
}

/// A silence is noticed at the next look, a tenth of a second later at most; the rest is for a slow machine, and as long
/// whatever the silence.
const SLACK: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_server_that_counts_single_groups_only_points_are_proven_and_new_groups_found() {
    let emulator = emulator().await;
    let refusals = [Code::InvalidArgument, Code::Unimplemented, Code::FailedPrecondition];
    for (number, code) in refusals.into_iter().enumerate() {
        let place = Place::begun(emulator.host(), &format!("uncounted-{number}"), numbered("users", 10)).await;
        place.proxy.control().refuse_kindless_counts(Some(code));
        place.proxy.control().reset_counts();
        let capture = place.capture();
        let mut writer = place.writer();
        writer.commit(Changes::default().put("users/1", -1).delete("users/2")).await;
        assert_eq!(scans(&until_now(&capture).await), 0);
        writer.commit(numbered("new", 3).put("users/1/below/1", 1)).await;
        assert_eq!(scans(&until_now(&capture).await), 0);
        writer.commit(Changes::default().delete("new/1").put("users/1/below/1", 2)).await;
        assert_eq!(scans(&until_now(&capture).await), 0);
        let moments = place.assert_all_right().await;
        assert!(moments_in_one_window(&moments) >= 4);
        assert!(moments.points().last() >= Some(place.oracle.last_commit()));
        assert!(place.source.counts_by_reading(), "else nothing was refused");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_falls_silent_is_found_dead_and_replaced() {
    assert!(CaptureOptions::default().silence + SLACK < Duration::from_secs(120), "within two minutes");
    let emulator = emulator().await;
    let place = Place::begun(emulator.host(), "silent", Changes::default().put("users/1", 0)).await;
    let mut capture = place.capture();
    // longer than the slack, or a stream found dead at twice the silence would pass
    capture.options.silence = Duration::from_secs(4);
    let silence = capture.options.silence;
    let mut following = Following::begin(capture);
    let mut writer = place.writer();
    let first = writer.commit(Changes::default().put("users/1", 1)).await;
    following.sealed_through(first).await;
    place.proxy.control().silence_listens(true);
    let since = Instant::now();
    writer.commit(Changes::default().put("users/1", 2)).await;
    while !matches!(following.event().await, CaptureEvent::Reopened(_)) {}
    assert!(since.elapsed() < silence + SLACK, "{:?}", since.elapsed());
    place.proxy.control().silence_listens(false);
    let last = writer.commit(Changes::default().put("users/1", 3)).await;
    following.sealed_through(last).await;
    following.end().await;
    assert!(moments_in_one_window(&place.assert_all_right().await) >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_again_when_streams_are_resumed_changes_nothing() {
    let emulator = emulator().await;
    let place = Place::begun(emulator.host(), "again", numbered("users", 10)).await;
    let capture = place.capture();
    let mut writer = place.writer();
    for round in 0..6 {
        // a document whose write was refused is told again, and what came behind the token is
        writer.commit(numbered("users", 5).delete(format!("users/{}", 5 + round % 5)).put("users/x", round)).await;
        place.proxy.control().cut_listens_after(2 + u64::try_from(round).unwrap(), Code::Unavailable, 2);
        assert_eq!(scans(&until_now(&capture).await), 0);
    }
    assert!(place.proxy.control().counts().resumes > 12);
    moments_in_one_window(&place.assert_all_right().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_are_deleted_and_created_anew_between_two_points_are_what_they_are() {
    let emulator = emulator().await;
    let place = Place::begun(emulator.host(), "anew", numbered("users", 10)).await;
    place.proxy.control().set_coalescing(Duration::from_millis(300));
    let mut following = Following::begin(place.capture());
    let mut writer = place.writer();
    let mut last = Timestamp::default();
    for round in 0..5 {
        for document in 0..4 {
            let path = format!("users/{document}");
            writer.commit(Changes::default().delete(&path)).await;
            last = writer.commit(Changes::default().put(&path, round)).await;
        }
        // neither was ever told to be there
        writer.commit(Changes::default().put("users/short", round)).await;
        last = last.max(writer.commit(Changes::default().delete("users/short")).await);
        following.sealed_through(last).await;
    }
    following.end().await;
    let moments = place.assert_all_right().await;
    assert!(moments_in_one_window(&moments) >= 6);
    place.assert_restores(&moments.resolve(last.plus_seconds(5), false).unwrap(), "anew-restored").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_documents_is_captured_from_its_first_one_on() {
    let emulator = emulator().await;
    let place = Place::begun(emulator.host(), "empty", Changes::default().delete("users/1")).await;
    let capture = place.capture();
    assert_eq!(scans(&until_now(&capture).await), 0);
    place.writer().commit(numbered("users", 2)).await;
    assert_eq!(scans(&until_now(&capture).await), 0);
    moments_in_one_window(&place.assert_all_right().await);
}

/// The stream tells of what is otherwise than at its last point: of such a document it need not.
#[tokio::test(flavor = "multi_thread")]
async fn documents_that_only_a_backup_between_two_points_has_seen_are_gone_at_the_second() {
    let emulator = emulator().await;
    for group in ["users", "new"] {
        let place = Place::begun(emulator.host(), &format!("only-seen-{group}"), numbered("users", 5)).await;
        place.proxy.control().leave_out_what_came_and_went(true);
        let capture = place.capture();
        let mut writer = place.writer();
        writer.commit(Changes::default().put("users/1", -1)).await;
        until_now(&capture).await;
        writer.commit(Changes::default().put(format!("{group}/short"), 1).put(format!("{group}/long"), 1)).await;
        place.backup().await;
        writer.commit(Changes::default().delete(format!("{group}/short")).put("users/1", -2)).await;
        assert_eq!(scans(&until_now(&capture).await), 0);
        place.assert_all_right().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn creations_that_the_stream_leaves_out_are_never_missing_in_a_moment() {
    let emulator = emulator().await;
    let place = Place::begun(emulator.host(), "left-out", numbered("users", 5)).await;
    let mut capture = place.capture();
    // without what shows a group as soon as it is listened to
    capture.changes = Arc::new(Retrying::new(place.source.clone()));
    let mut writer = place.writer();
    writer.commit(numbered("late", 2)).await;
    until_now(&capture).await;
    place.proxy.control().hide_group("late");
    writer.commit(numbered("users", 3).put("late/hidden", 1)).await;
    assert_eq!(scans(&until_now(&capture).await), 1);
    place.proxy.control().show_group("late");
    writer.commit(Changes::default().put("late/hidden", 2)).await;
    assert_eq!(scans(&until_now(&capture).await), 0);
    assert_eq!(place.assert_all_right().await.windows().len(), 2);
}

/// Tells a document once more after it was told to be gone: a write that comes late.
struct Late {
    inner: Retrying<firebackup_google::Firestore>,
    document: Bytes,
}

#[async_trait]
impl ChangeSource for Late {
    async fn listen(&self, groups: &BTreeSet<String>, from: ListenFrom) -> Result<ChangeStream, PortError> {
        let late = self.document.clone();
        let told = self.inner.listen(groups, from).await?.flat_map(move |change| {
            let again = matches!(&change, Ok(Change::Gone(_)));
            let again = again.then(|| Ok(Change::Put(document::RawDocument(late.clone()))));
            futures::stream::iter([change].into_iter().chain(again))
        });
        Ok(told.boxed())
    }

    async fn count_group(&self, group: &str, range: &PathRange, at: Timestamp) -> Result<u64, PortError> {
        self.inner.count_group(group, range, at).await
    }

    async fn stream_group(&self, group: &str, at: Timestamp) -> Result<DocumentStream, PortError> {
        self.inner.stream_group(group, at).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_write_never_brings_a_deleted_document_back() {
    let emulator = emulator().await;
    let place = Place::begun(emulator.host(), "late-write", numbered("users", 5)).await;
    let before = read_all(&place.source).await;
    let (path, document) = before.iter().next().unwrap();
    let mut capture = place.capture();
    capture.changes = Arc::new(Late { inner: Retrying::new(place.source.clone()), document: document.clone() });
    let mut writer = place.writer();
    writer.commit(Changes::default().delete(path.as_str()).put("users/4", 9)).await;
    assert!(scans(&until_now(&capture).await) > 0, "the counts tell that it is gone");
    writer.commit(Changes::default().put("users/4", 10)).await;
    until_now(&capture).await;
    let moments = place.assert_all_right().await;
    let last = moments.points().last().unwrap();
    assert!(last >= place.oracle.last_commit());
    assert!(!place.held_at(&moments, &moments.resolve(last, true).unwrap()).await.contains_key(path));
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_server_that_always_begins_from_nothing_moments_are_right_all_the_same() {
    let emulator = emulator().await;
    let place = Place::begun(emulator.host(), "alone", numbered("users", 8)).await;
    let direct = Arc::new(Retrying::new(firestore(emulator.host(), &place.database).await));
    let capture = Capture { source: direct.clone(), changes: direct, ..place.capture() };
    let mut writer = place.writer();
    let mut scanned = 0;
    for round in 0..4 {
        writer
            .commit(Changes::default().put("users/1", round).delete(format!("users/{}", 2 + round)).put("new/1", round))
            .await;
        scanned += scans(&until_now(&capture).await);
    }
    assert!(scanned > 0, "the emulator resets what is to go on");
    let moments = place.assert_all_right().await;
    assert!(moments.points().last() >= Some(place.oracle.last_commit()));
}

/// The documents of one collection under the name of another.
fn renamed(state: &State, from: &str, to: &str) -> Vec<(String, Bytes)> {
    let renamed = contents(state).into_iter().map(|(path, content)| {
        let path = path.as_str();
        (path.strip_prefix(from).map_or_else(|| path.to_owned(), |rest| format!("{to}{rest}")), content)
    });
    let mut renamed: Vec<_> = renamed.collect();
    renamed.sort();
    renamed
}

fn sorted(documents: &Documents) -> Vec<(String, Bytes)> {
    let mut sorted: Vec<_> = stage::contents(documents)
        .into_iter()
        .map(|(path, content)| (path.as_str().to_owned(), content.into()))
        .collect();
    sorted.sort();
    sorted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_is_restored_under_another_name_and_undone() {
    let emulator = emulator().await;
    let place = Place::begun(emulator.host(), "renames", numbered("users", 8)).await;
    let mut writer = place.writer();
    writer.commit(Changes::default().delete("users/1").put("users/2", 20).put("members/2", 1).put("orders/1", 1)).await;
    until_now(&place.capture()).await;
    let at = place.oracle.last_commit();
    writer.commit(Changes::default().delete("orders/1").put("users/3", 30).put("users/9", 9)).await;
    until_now(&place.capture()).await;
    let moments = place.moments().await;
    let point = moments.points().find(|point| *point >= at).unwrap();
    let moment = moments.resolve(point, true).unwrap();
    let elsewhere = firestore(emulator.host(), &DatabaseName::new("demo-capture", "renamed")).await;
    let options = RestoreOptions {
        renames: vec![("users".to_owned(), "people".to_owned())],
        mode: RestoreMode::Mirror,
        ..RestoreOptions::default()
    };
    let renaming = restore(&place.repository, &moment.base, target(&elsewhere), options);
    let report = Restore { at: Some(moment.point), ..renaming }.run().await.unwrap();
    assert_eq!(report.tally.failed, 0);
    assert!(sorted(&read_all(&elsewhere).await) == renamed(&place.oracle.at(point), "users", "people"));
    let undo = restore(&place.repository, &report.job, target(&elsewhere), RestoreOptions::default());
    undo.run().await.unwrap();
    assert!(read_all(&elsewhere).await.is_empty());
}
