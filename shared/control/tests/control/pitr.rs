//! Recovery to a point in time: what is stored of it, who captures when, and what others are told.

use async_trait::async_trait;
use firebackup_control::{
    AskedMoment, BackupJob, BackupType, CaptureFacts, CapturedGap, CapturedWindow, ClaimedWindow, Code,
    ControlSettings, DueCapture, FindMoment, FoundMoment, JobEnd, JobResult, Merges, Merging, NewBackup,
    NewDestination, NewPitr, NewRestore, OpenedPlace, Page, Pitr, PitrChange, PitrStatus, Project, RestoredReport,
    Result, Right, Role, WindowEnd,
};
use firebackup_model::id::JobId;
use firebackup_model::{DatabaseName, Timestamp};

use crate::world::{NoMoments, World, code, failed, new_backup, new_destination, new_restore};

const LEASE: u32 = 30;

pub(crate) fn new_pitr(project: &Project) -> NewPitr {
    serde_json::from_value(serde_json::json!({ "projectId": project.id })).unwrap()
}

/// A world in which changes of a project are captured, behind a backup that is complete.
pub(crate) async fn capturing() -> (World, Project, Pitr) {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    world.completed(&project).await;
    let pitr = world.control.enable_pitr(&world.owner().await, new_pitr(&project)).await.unwrap();
    (world, project, pitr)
}

async fn due(world: &World) -> Vec<DueCapture> {
    world.control.due_captures(10).await.unwrap()
}

async fn claim(world: &World) -> Option<ClaimedWindow> {
    let all = due(world).await;
    let due = all.first()?;
    world.control.claim_window(&world.worker().await, due, LEASE).await.unwrap()
}

/// Captures what is due first.
pub(crate) async fn capture_once(world: &World) {
    end(world, &claim(world).await.unwrap(), &captured(world, 1)).await;
}

/// Finds that there is nothing to capture on top of, so that a backup is begun.
pub(crate) async fn find_no_backup(world: &World) {
    end(world, &claim(world).await.unwrap(), &WindowEnd::NoBackup).await;
}

async fn end(world: &World, claimed: &ClaimedWindow, end: &WindowEnd) {
    world.control.end_window(&world.worker().await, claimed, end).await.unwrap();
}

/// A window in which so much was captured.
fn captured(world: &World, changes: u64) -> WindowEnd {
    let facts = CaptureFacts {
        captured_through: Some(world.now()),
        proven_through: Some(world.now()),
        segments: 1,
        changes,
        ..CaptureFacts::default()
    };
    WindowEnd::Captured(Box::new(CapturedWindow {
        through: Some(world.now()),
        changes,
        facts: Some(facts),
        ..CapturedWindow::default()
    }))
}

fn trouble(may_pass: bool) -> WindowEnd {
    WindowEnd::Failed { message: "no answer".to_owned(), may_pass }
}

async fn status(world: &World, project: &Project) -> PitrStatus {
    world.control.pitr(&world.owner().await, &project.id, None).await.unwrap().status
}

async fn backups(world: &World) -> Vec<BackupJob> {
    world.control.backups(&world.owner().await, None, &Page::default()).await.unwrap().items
}

/// All that others are told of captures happens.
pub(crate) async fn capture_and_fail(world: &World, project: &Project) {
    world.control.enable_pitr(&world.owner().await, new_pitr(project)).await.unwrap();
    end(world, &claim(world).await.unwrap(), &captured(world, 1)).await;
    world.clock.advance(60);
    end(world, &claim(world).await.unwrap(), &trouble(false)).await;
    world.control.disable_pitr(&world.owner().await, &project.id, None).await.unwrap();
}

#[tokio::test]
async fn nothing_is_enabled_where_nobody_captures() {
    let world = World::first(ControlSettings::default()).await;
    let (project, _) = world.set_up().await;
    let owner = world.owner().await;
    assert_eq!(code(world.control.enable_pitr(&owner, new_pitr(&project)).await), Code::PitrUnavailable);
    assert!(backups(&world).await.is_empty());
}

#[tokio::test]
async fn enabling_begins_a_backup_where_there_is_none_to_begin_from() {
    let world = World::new().await;
    let (project, destination) = world.set_up().await;
    let owner = world.owner().await;
    let pitr = world.control.enable_pitr(&owner, new_pitr(&project)).await.unwrap();
    let begun = backups(&world).await;
    assert_eq!(begun.len(), 1);
    assert_eq!(pitr.initial_backup_id.as_ref(), Some(&begun[0].job.id));
    assert_eq!((pitr.status, pitr.config.storage_destination_id), (PitrStatus::Initializing, Some(destination.id)));
    assert!(pitr.reason.unwrap().contains(begun[0].job.id.as_str()));
    assert_eq!(world.events_of("pitr.").len(), 1);
    // while that backup runs nobody captures
    assert!(claim(&world).await.is_none());
    assert!(due(&world).await.is_empty());
    let done = crate::world::completed();
    world.control.finish_job(&world.worker().await, &begun[0].job.id, done).await.unwrap();
    world.clock.advance(15);
    let claimed = claim(&world).await.unwrap();
    let work = world.control.window_work(&world.worker().await, &claimed).await.unwrap();
    assert_eq!((work.database.as_str(), work.place.project, work.place.encrypted), ("(default)", project.id, true));
    assert!(work.merges == Merges::All && work.looks && work.window_seconds == 60);
    end(&world, &claimed, &captured(&world, 3)).await;
    assert_eq!(status(&world, &project).await, PitrStatus::Active);
}

#[tokio::test]
async fn enabling_takes_a_whole_backup_that_is_there_and_no_other() {
    let (_, _, pitr) = capturing().await;
    assert_eq!(pitr.initial_backup_id, None);
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let mut partial = new_backup(&project);
    partial.collections = vec!["users".to_owned()];
    world.completed_of(partial).await;
    let mut clear = new_backup(&project);
    clear.encrypt = false;
    world.completed_of(clear).await;
    let pitr = world.control.enable_pitr(&world.owner().await, new_pitr(&project)).await.unwrap();
    assert!(pitr.initial_backup_id.is_some());
}

#[tokio::test]
async fn enabling_twice_is_once_and_otherwise_a_conflict() {
    let (world, project, pitr) = capturing().await;
    let owner = world.owner().await;
    let entries = world.events_of("pitr.").len();
    let again = world.control.enable_pitr(&owner, new_pitr(&project)).await.unwrap();
    assert_eq!(again.id, pitr.id);
    assert_eq!(world.events_of("pitr.").len(), entries);
    let mut other = new_pitr(&project);
    other.config.retention_days = 8;
    assert_eq!(code(world.control.enable_pitr(&owner, other).await), Code::Conflict);
}

#[tokio::test]
async fn what_may_not_be_is_refused() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let owner = world.owner().await;
    for (days, minutes) in [(0, 1), (91, 1), (7, 0), (7, 61)] {
        let mut new = new_pitr(&project);
        (new.config.retention_days, new.config.change_window_minutes) = (days, minutes);
        assert_eq!(code(world.control.enable_pitr(&owner, new).await), Code::ValidationFailed, "{days} {minutes}");
    }
    let mut new = new_pitr(&project);
    new.database = Some("nothing".to_owned());
    assert_eq!(code(world.control.enable_pitr(&owner, new).await), Code::ValidationFailed);
    for verb in [
        world.control.pitr(&owner, &project.id, None).await,
        world.control.pause_pitr(&owner, &project.id, None).await,
        world.control.disable_pitr(&owner, &project.id, Some("orders")).await,
    ] {
        assert_eq!(code(verb), Code::NotFound);
    }
}

#[tokio::test]
async fn members_look_and_admins_configure() {
    let (world, project, _) = capturing().await;
    let change =
        PitrChange { retention_days: Some(30), change_window_minutes: Some(5), merge_after_days: Some(0), push: None };
    for role in [Role::Viewer, Role::Member] {
        let caller = world.caller(role).await;
        assert!(caller.may(Right::Read).is_ok());
        assert!(world.control.pitr(&caller, &project.id, None).await.is_ok());
        assert!(world.control.pitr_health(&caller, &project.id, None).await.is_ok());
        for refused in [
            world.control.enable_pitr(&caller, new_pitr(&project)).await,
            world.control.pause_pitr(&caller, &project.id, None).await,
            world.control.resume_pitr(&caller, &project.id, None).await,
            world.control.disable_pitr(&caller, &project.id, None).await,
            world.control.update_pitr(&caller, &project.id, None, &change).await,
        ] {
            assert_eq!(code(refused), Code::Forbidden);
        }
    }
    let admin = world.caller(Role::Admin).await;
    let changed = world.control.update_pitr(&admin, &project.id, None, &change).await.unwrap();
    assert_eq!((changed.config.retention_days, changed.config.change_window_minutes), (30, 5));
    assert_eq!(changed.config.merge_after_days, 0);
    let stranger = world.second_organization().await;
    assert_eq!(code(world.control.pitr(&stranger, &project.id, None).await), Code::NotFound);
    assert_eq!(code(world.control.enable_pitr(&stranger, new_pitr(&project)).await), Code::NotFound);
}

#[tokio::test]
async fn a_window_is_one_holders_and_the_next_comes_on_the_beat() {
    let (world, _, _) = capturing().await;
    let known = due(&world).await;
    let claimed = claim(&world).await.unwrap();
    let again = world.control.claim_window(&world.worker().await, &known[0], LEASE).await.unwrap();
    assert!(again.is_none() && due(&world).await.is_empty());
    world.clock.advance(7);
    end(&world, &claimed, &captured(&world, 0)).await;
    world.clock.advance(52);
    assert!(due(&world).await.is_empty());
    world.clock.advance(1);
    assert_eq!(due(&world).await, known);
}

#[tokio::test]
async fn whoever_dies_is_followed_by_another_and_says_nothing_more() {
    let (world, project, _) = capturing().await;
    let worker = world.worker().await;
    let dead = claim(&world).await.unwrap();
    world.clock.advance(i64::from(LEASE) - 1);
    assert!(claim(&world).await.is_none());
    assert!(world.control.hold_window(&worker, &dead).await.unwrap());
    world.clock.advance(i64::from(LEASE));
    let next = claim(&world).await.unwrap();
    assert!(!world.control.hold_window(&worker, &dead).await.unwrap());
    end(&world, &dead, &trouble(false)).await;
    assert_eq!(status(&world, &project).await, PitrStatus::Initializing);
    end(&world, &next, &captured(&world, 1)).await;
    assert_eq!(status(&world, &project).await, PitrStatus::Active);
}

#[tokio::test]
async fn of_many_who_claim_at_once_one_does() {
    let (world, _, _) = capturing().await;
    let (known, worker) = (due(&world).await, world.worker().await);
    let claims = (0..8).map(|_| world.control.claim_window(&worker, &known[0], LEASE));
    let claims = futures::future::join_all(claims).await;
    assert_eq!(claims.into_iter().filter(|claim| claim.as_ref().unwrap().is_some()).count(), 1);
}

/// What a window that died, or failed half way, had sealed is not known: the one after it may find nothing more to seal, and yet
/// has to say how the chain stands.
#[tokio::test]
async fn the_chain_is_looked_at_behind_a_window_that_did_not_end_well() {
    let (world, _, _) = capturing().await;
    let looks =
        async |claimed: &ClaimedWindow| world.control.window_work(&world.worker().await, claimed).await.unwrap().looks;
    capture_once(&world).await;
    let next = async || {
        world.clock.advance(60);
        claim(&world).await.unwrap()
    };
    let idle = captured_without_a_look(&world);
    let claimed = next().await;
    assert!(!looks(&claimed).await, "the window before it ended well");
    end(&world, &claimed, &idle).await;
    let dies = next().await;
    assert!(!looks(&dies).await);
    world.clock.advance(i64::from(LEASE));
    let fails = claim(&world).await.unwrap();
    assert!(looks(&fails).await, "one died before it");
    let failed = WindowEnd::Failed { message: "away".to_owned(), may_pass: true };
    end(&world, &fails, &failed).await;
    let claimed = next().await;
    assert!(looks(&claimed).await, "one died, and one failed behind it");
    end(&world, &claimed, &captured(&world, 0)).await;
    assert!(!looks(&next().await).await, "somebody looked");
}

/// A window in which there was nothing, and nobody looked how the chain stands.
fn captured_without_a_look(world: &World) -> WindowEnd {
    WindowEnd::Captured(Box::new(CapturedWindow { through: Some(world.now()), ..CapturedWindow::default() }))
}

/// Ends a claimed window in which this became of merging.
async fn merged(world: &World, claimed: &ClaimedWindow, merging: Merging) {
    let window = CapturedWindow { through: Some(world.now()), merging, ..CapturedWindow::default() };
    end(world, claimed, &WindowEnd::Captured(Box::new(window))).await;
}

#[tokio::test]
async fn segments_are_merged_every_ten_minutes_and_what_there_was_not_the_time_for_rests_for_six_hours() {
    const REST: i64 = 6 * 3600;
    let (world, _, _) = capturing().await;
    let begun = world.now();
    // at which second behind the first window, what is merged then, and what becomes of that
    for (second, merges, merging) in [
        (0, Merges::All, Merging::Tried),
        (599, Merges::Nothing, Merging::NotTried),
        (660, Merges::All, Merging::TooLong),
        // what is small goes on, each ten minutes
        (660 + 599, Merges::Nothing, Merging::NotTried),
        (660 + 660, Merges::Small, Merging::Tried),
        (660 + REST - 1, Merges::Small, Merging::NotTried),
        (660 + REST + 59, Merges::All, Merging::TooLong),
        (10_000 + REST, Merges::Small, Merging::SmallTooLong),
        // nothing does any more, not even where what is large would be tried again
        (10_700 + REST, Merges::Nothing, Merging::NotTried),
        (9999 + 2 * REST, Merges::Nothing, Merging::NotTried),
        (10_060 + 2 * REST, Merges::All, Merging::Tried),
    ] {
        world.clock.advance(second - world.now().seconds_since(begun) as i64);
        let claimed = claim(&world).await.unwrap();
        let work = world.control.window_work(&world.worker().await, &claimed).await.unwrap();
        assert_eq!(work.merges, merges, "in second {second}");
        merged(&world, &claimed, merging).await;
    }
}

#[tokio::test]
async fn where_somebody_looks_once_a_minute_a_window_is_due_before_it_is_over() {
    let ahead = ControlSettings { captures_changes: true, captures_ahead_seconds: 20, ..ControlSettings::default() };
    let world = World::first(ahead).await;
    let (project, _) = world.set_up().await;
    world.completed(&project).await;
    world.control.enable_pitr(&world.owner().await, new_pitr(&project)).await.unwrap();
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let id = world.control.due_windows(10).await.unwrap()[0].id();
        assert!(ids.insert(id), "a queue would not take it: {ids:?}");
        end(&world, &claim(&world).await.unwrap(), &captured(&world, 0)).await;
        world.clock.advance(39);
        assert!(due(&world).await.is_empty());
        // whoever looks once a minute comes a moment early
        world.clock.advance(20);
    }
}

/// A backup reads in parts what a window cannot.
#[tokio::test]
async fn a_database_that_takes_too_long_to_read_is_gone_on_with_behind_a_backup() {
    let (world, project, _) = capturing().await;
    capture_once(&world).await;
    world.clock.advance(60);
    let before = backups(&world).await.len();
    end(&world, &claim(&world).await.unwrap(), &WindowEnd::TooLong).await;
    let shown = world.control.pitr(&world.owner().await, &project.id, None).await.unwrap();
    assert_eq!(shown.status, PitrStatus::Degraded);
    assert!(shown.reason.unwrap().contains("goes on behind a backup"));
    let all = backups(&world).await;
    let begun = all.iter().find(|backup| Some(&backup.job.id) == shown.initial_backup_id.as_ref()).unwrap();
    assert_eq!(all.len(), before + 1);
    // nobody captures while it is made
    world.clock.advance(15);
    assert!(claim(&world).await.is_none());
    world.control.finish_job(&world.worker().await, &begun.job.id, crate::world::completed()).await.unwrap();
    world.clock.advance(15);
    end(&world, &claim(&world).await.unwrap(), &captured(&world, 0)).await;
    assert_eq!(status(&world, &project).await, PitrStatus::Active);
}

/// What is read is paid for: where a backup did not help, there is no second one on that day.
#[tokio::test]
async fn a_database_that_takes_too_long_to_read_behind_a_backup_waits_for_long_or_for_somebody_to_resume() {
    let (world, project, _) = capturing().await;
    let owner = world.owner().await;
    end(&world, &claim(&world).await.unwrap(), &WindowEnd::TooLong).await;
    let begun = world.control.pitr(&owner, &project.id, None).await.unwrap().initial_backup_id.unwrap();
    world.control.finish_job(&world.worker().await, &begun, crate::world::completed()).await.unwrap();
    world.clock.advance(15);
    end(&world, &claim(&world).await.unwrap(), &WindowEnd::TooLong).await;
    let shown = world.control.pitr(&owner, &project.id, None).await.unwrap();
    assert_eq!((shown.status, shown.initial_backup_id), (PitrStatus::Error, Some(begun.clone())));
    assert!(shown.reason.unwrap().contains("tried again later"));
    assert_eq!(world.events_of("pitr.degraded").len(), 1);
    world.clock.advance(24 * 3600 - 16);
    assert!(due(&world).await.is_empty());
    world.control.pause_pitr(&owner, &project.id, None).await.unwrap();
    world.control.resume_pitr(&owner, &project.id, None).await.unwrap();
    end(&world, &claim(&world).await.unwrap(), &WindowEnd::TooLong).await;
    let again = world.control.pitr(&owner, &project.id, None).await.unwrap().initial_backup_id;
    assert_eq!(again, Some(begun.clone()), "a day is not over");
    world.clock.advance(24 * 3600);
    end(&world, &claim(&world).await.unwrap(), &WindowEnd::TooLong).await;
    let again = world.control.pitr(&owner, &project.id, None).await.unwrap().initial_backup_id.unwrap();
    assert_ne!(again, begun);
    // this one helps, for a while
    world.control.finish_job(&world.worker().await, &again, crate::world::completed()).await.unwrap();
    world.clock.advance(15);
    capture_once(&world).await;
    world.clock.advance(6 * 3600);
    end(&world, &claim(&world).await.unwrap(), &WindowEnd::TooLong).await;
    let third = world.control.pitr(&owner, &project.id, None).await.unwrap().initial_backup_id;
    assert_ne!(third, Some(again), "six hours are enough then");
}

/// A backup that is completed with this.
async fn completed_with(world: &World, project: &Project, result: JobResult) {
    let backup = world.backup(project).await;
    let end = JobEnd::Completed(Box::new(result));
    world.control.finish_job(&world.worker().await, &backup.job.id, end).await.unwrap();
}

#[tokio::test]
async fn what_rests_because_a_database_takes_too_long_to_read_goes_on_behind_whoevers_backup_of_it() {
    let (world, project, _) = capturing().await;
    let (owner, worker) = (world.owner().await, world.worker().await);
    let read_before = world.now();
    capture_once(&world).await;
    world.clock.advance(60);
    end(&world, &claim(&world).await.unwrap(), &WindowEnd::TooLong).await;
    let begun = world.control.pitr(&owner, &project.id, None).await.unwrap().initial_backup_id.unwrap();
    world.control.finish_job(&worker, &begun, crate::world::completed()).await.unwrap();
    world.clock.advance(15);
    end(&world, &claim(&world).await.unwrap(), &WindowEnd::TooLong).await;
    assert_eq!(status(&world, &project).await, PitrStatus::Error);
    world.clock.advance(60);
    // in part, in another repository, merged from what was captured
    for other in [
        NewBackup { collections: vec!["users".to_owned()], ..new_backup(&project) },
        NewBackup { encrypt: false, ..new_backup(&project) },
        NewBackup { kind: BackupType::Synthetic, ..new_backup(&project) },
    ] {
        world.completed_of(other.clone()).await;
        assert!(due(&world).await.is_empty(), "{other:?}");
    }
    let ranged = JobResult { consistency: Some("ranged".to_owned()), ..JobResult::default() };
    let before = JobResult { read_time: Some(read_before), ..JobResult::default() };
    for result in [ranged, before] {
        completed_with(&world, &project, result.clone()).await;
        assert!(due(&world).await.is_empty(), "{result:?}");
    }
    let failing = world.backup(&project).await;
    world.control.finish_job(&worker, &failing.job.id, failed()).await.unwrap();
    // the one that did not help is told once more
    world.control.finish_job(&worker, &begun, crate::world::completed()).await.unwrap();
    assert!(due(&world).await.is_empty());

    completed_with(&world, &project, JobResult { read_time: Some(world.now()), ..JobResult::default() }).await;
    capture_once(&world).await;
    assert_eq!(status(&world, &project).await, PitrStatus::Active);
    // what does not rest stays on its beat
    world.completed(&project).await;
    assert!(due(&world).await.is_empty());
    world.clock.advance(60);
    assert!(!due(&world).await.is_empty());
}

#[tokio::test]
async fn a_backup_that_is_made_while_a_window_reads_in_vain_is_gone_on_from_at_once() {
    let (world, project, _) = capturing().await;
    let owner = world.owner().await;
    capture_once(&world).await;
    world.clock.advance(60);
    let window = claim(&world).await.unwrap();
    completed_with(&world, &project, JobResult { read_time: Some(world.now()), ..JobResult::default() }).await;
    // it is held for longer meanwhile
    assert!(world.control.hold_window(&world.worker().await, &window).await.unwrap());
    let before = world.control.pitr(&owner, &project.id, None).await.unwrap().initial_backup_id;
    end(&world, &window, &WindowEnd::TooLong).await;
    assert_eq!(world.control.pitr(&owner, &project.id, None).await.unwrap().initial_backup_id, before, "none is begun");
    // once: one that did not help is not gone on from for ever
    let window = claim(&world).await.unwrap();
    end(&world, &window, &WindowEnd::TooLong).await;
    assert_ne!(world.control.pitr(&owner, &project.id, None).await.unwrap().initial_backup_id, before);
}

#[tokio::test]
async fn failures_wait_longer_are_told_once_and_end() {
    let (world, project, _) = capturing().await;
    end(&world, &claim(&world).await.unwrap(), &captured(&world, 0)).await;
    world.clock.advance(60);
    let mut pauses = Vec::new();
    for _ in 0..6 {
        end(&world, &claim(&world).await.unwrap(), &trouble(true)).await;
        let begun = world.now();
        while due(&world).await.is_empty() {
            world.clock.advance(1);
        }
        pauses.push(world.now().seconds_since(begun) as i64);
    }
    assert_eq!(pauses, [60, 120, 240, 480, 600, 600]);
    let health = world.control.pitr_health(&world.owner().await, &project.id, None).await.unwrap();
    assert_eq!((health.status, health.failures, health.reason.as_deref()), (PitrStatus::Error, 6, Some("no answer")));
    assert_eq!(world.events_of("pitr.degraded").len(), 1);
    end(&world, &claim(&world).await.unwrap(), &captured(&world, 0)).await;
    assert_eq!(status(&world, &project).await, PitrStatus::Active);
    world.clock.advance(60);
    end(&world, &claim(&world).await.unwrap(), &trouble(false)).await;
    assert_eq!(status(&world, &project).await, PitrStatus::Error);
    assert_eq!(world.events_of("pitr.degraded").len(), 2);
}

/// A window behind which these gaps are listed, the newest first.
fn captured_with(world: &World, gaps: &[CapturedGap], expects_gaps: bool) -> WindowEnd {
    let WindowEnd::Captured(window) = captured(world, 0) else { panic!("a window that was captured") };
    let (gaps, newest_gaps) = (gaps.len() as u64, gaps.to_vec());
    let facts = window.facts.clone().map(|facts| CaptureFacts { gaps, newest_gaps, ..facts });
    WindowEnd::Captured(Box::new(CapturedWindow { facts, expects_gaps, ..*window }))
}

/// A gap between two seconds.
fn gap(from: Timestamp, after: i64, until: i64) -> CapturedGap {
    CapturedGap { after: from.plus_seconds(after), until: from.plus_seconds(until) }
}

#[tokio::test]
async fn each_gap_is_told_of_once_with_its_two_ends() {
    let (world, project, pitr) = capturing().await;
    let (start, told) = (world.now(), || world.events_of("pitr.degraded"));
    world.clock.advance(60);
    let (before, first, second) = (gap(start, -600, -300), gap(start, -10, 50), gap(start, 70, 100));
    let grown = gap(start, 70, 170);
    let windows =
        [(vec![first, before], 1), (vec![first, before], 1), (vec![second, first], 2), (vec![grown, first], 2)];
    for (gaps, expected) in windows {
        let claimed = claim(&world).await.unwrap();
        // noted twice it is one window
        for _ in 0..2 {
            end(&world, &claimed, &captured_with(&world, &gaps, false)).await;
        }
        assert_eq!(told().len(), expected, "{gaps:?}");
        world.clock.advance(60);
    }
    let told: Vec<_> = told().into_iter().map(|event| event.data).collect();
    for (data, gap) in told.iter().zip([first, second]) {
        assert_eq!((&data["gap"], data["id"].as_str()), (&serde_json::json!(gap), Some(pitr.id.to_string().as_str())));
        let reason = data["reason"].as_str().unwrap();
        assert!(reason.contains(&gap.after.to_string()) && reason.contains(&gap.until.to_string()), "{reason}");
    }
    // what is lost is lost: the capture itself is as it should be, and told of when it is not
    assert_eq!(status(&world, &project).await, PitrStatus::Active);
    end(&world, &claim(&world).await.unwrap(), &trouble(false)).await;
    assert_eq!(world.events_of("pitr.degraded").len(), 3);
}

#[tokio::test]
async fn gaps_of_what_is_read_anew_in_each_window_are_told_to_nobody() {
    let (world, _, _) = capturing().await;
    let gaps = [gap(world.now(), 0, 60)];
    world.clock.advance(60);
    end(&world, &claim(&world).await.unwrap(), &captured_with(&world, &gaps, true)).await;
    world.clock.advance(60);
    end(&world, &claim(&world).await.unwrap(), &captured_with(&world, &gaps, false)).await;
    assert!(world.events_of("pitr.degraded").is_empty());
}

/// What a sweep finds: how many captures are not as they should be, how many windows are due, and how often that was told.
async fn seen(world: &World) -> (u64, usize, usize) {
    let seen = world.control.look_after_captures().await.unwrap();
    assert_eq!(seen.untold, 0);
    (seen.degraded, seen.due.len(), world.events_of("pitr.degraded").len())
}

#[tokio::test]
async fn that_nobody_captures_is_told_by_a_sweep_once_and_again_after_it_was_captured_or_resumed() {
    let (world, project, _) = capturing().await;
    let owner = world.owner().await;
    capture_once(&world).await;
    assert_eq!(seen(&world).await, (0, 0, 0));
    world.clock.advance(600);
    assert_eq!(seen(&world).await, (0, 1, 0));
    world.clock.advance(1);
    for _ in 0..2 {
        assert_eq!(seen(&world).await, (1, 1, 1));
    }
    let told = world.events_of("pitr.degraded").remove(0).data;
    assert!(told["reason"].as_str().unwrap().contains("nothing was captured since"), "{told:#}");
    assert_eq!((&told["projectId"], told.get("gap")), (&serde_json::json!(project.id), None));
    capture_once(&world).await;
    assert_eq!(seen(&world).await, (0, 0, 1));
    world.clock.advance(601);
    assert_eq!(seen(&world).await, (1, 1, 2));
    world.control.pause_pitr(&owner, &project.id, None).await.unwrap();
    assert_eq!(seen(&world).await, (0, 0, 2));
    world.control.resume_pitr(&owner, &project.id, None).await.unwrap();
    assert_eq!(seen(&world).await, (0, 1, 2));
    world.clock.advance(601);
    assert_eq!(seen(&world).await, (1, 1, 3));
}

#[tokio::test]
async fn a_window_that_hangs_is_told_of_while_it_hangs_and_may_end_well() {
    let (world, project, _) = capturing().await;
    let worker = world.worker().await;
    capture_once(&world).await;
    world.clock.advance(60);
    let claimed = claim(&world).await.unwrap();
    for _ in 0..30 {
        world.clock.advance(20);
        assert!(world.control.hold_window(&worker, &claimed).await.unwrap());
    }
    assert_eq!(seen(&world).await, (1, 0, 1));
    assert!(world.control.hold_window(&worker, &claimed).await.unwrap());
    end(&world, &claimed, &captured(&world, 1)).await;
    assert_eq!((status(&world, &project).await, seen(&world).await.2), (PitrStatus::Active, 1));
}

#[tokio::test]
async fn changes_are_told_of_once_a_minute_with_how_many() {
    let (world, _, _) = capturing().await;
    let mut told = Vec::new();
    for changes in [2, 0, 5] {
        end(&world, &claim(&world).await.unwrap(), &captured(&world, changes)).await;
        world.clock.advance(60);
    }
    told.extend(world.events_of("pitr.change_captured").iter().map(|event| event.data["changes"].as_u64().unwrap()));
    assert_eq!(told, [2, 5]);
    // a window that is gone on with at once is told of with the next
    end(&world, &claim(&world).await.unwrap(), &captured(&world, 1)).await;
    world.control.pause_pitr(&world.owner().await, &project_of(&world).await, None).await.unwrap();
    world.control.resume_pitr(&world.owner().await, &project_of(&world).await, None).await.unwrap();
    end(&world, &claim(&world).await.unwrap(), &captured(&world, 4)).await;
    assert_eq!(world.events_of("pitr.change_captured").len(), 3);
    world.clock.advance(60);
    end(&world, &claim(&world).await.unwrap(), &captured(&world, 1)).await;
    assert_eq!(world.events_of("pitr.change_captured").last().unwrap().data["changes"], 5);
}

async fn project_of(world: &World) -> firebackup_control::ProjectId {
    let page = world.control.projects(&world.owner().await, &Default::default(), &Page::default()).await.unwrap();
    page.items[0].id
}

#[tokio::test]
async fn what_is_paused_or_disabled_is_not_captured_and_whoever_does_is_told() {
    let (world, project, _) = capturing().await;
    let (owner, worker) = (world.owner().await, world.worker().await);
    let enabled = world.control.pitr(&owner, &project.id, None).await.unwrap().enabled_at;
    let claimed = claim(&world).await.unwrap();
    let paused = world.control.pause_pitr(&owner, &project.id, None).await.unwrap();
    assert_eq!(paused.status, PitrStatus::Paused);
    assert!(!world.control.hold_window(&worker, &claimed).await.unwrap());
    end(&world, &claimed, &captured(&world, 9)).await;
    world.clock.advance(3600);
    assert!(due(&world).await.is_empty());
    assert!(world.events_of("pitr.change_captured").is_empty());
    let resumed = world.control.resume_pitr(&owner, &project.id, None).await.unwrap();
    assert_eq!(resumed.status, PitrStatus::Initializing);
    assert_eq!((resumed.enabled_at, paused.enabled_at), (enabled, enabled), "it was enabled before");
    assert_eq!(due(&world).await.len(), 1);
    let disabled = world.control.disable_pitr(&owner, &project.id, None).await.unwrap();
    assert_eq!((disabled.status, due(&world).await.len()), (PitrStatus::Disabled, 0));
    assert_eq!(world.events_of("pitr.disabled").len(), 1);
    assert_eq!(world.control.disable_pitr(&owner, &project.id, None).await.unwrap(), disabled);
    assert_eq!(world.events_of("pitr.disabled").len(), 1);
    assert_eq!(code(world.control.pause_pitr(&owner, &project.id, None).await), Code::Conflict);
    let again = world.control.enable_pitr(&owner, new_pitr(&project)).await.unwrap();
    assert_eq!((again.id, due(&world).await.len()), (disabled.id, 1));
    assert_eq!((again.enabled_at, disabled.enabled_at), (world.now(), enabled));
}

#[tokio::test]
async fn a_backup_that_is_gone_or_failed_is_made_anew_less_and_less_often() {
    let (world, project, _) = capturing().await;
    let worker = world.worker().await;
    let mut begun = Vec::new();
    for _ in 0..4 {
        end(&world, &claim(&world).await.unwrap(), &WindowEnd::NoBackup).await;
        let newest = backups(&world).await[0].job.id.clone();
        world.control.finish_job(&worker, &newest, failed()).await.unwrap();
        begun.push(world.now());
        world.clock.advance(15);
        // looked at before its pause is over: none is made
        if let Some(claimed) = claim(&world).await {
            end(&world, &claimed, &WindowEnd::NoBackup).await;
            assert_eq!(backups(&world).await[0].job.id, newest);
        }
        while due(&world).await.is_empty() {
            world.clock.advance(1);
        }
    }
    let pauses: Vec<_> = begun.windows(2).map(|two| two[1].seconds_since(two[0]) as i64).collect();
    assert_eq!(pauses, [60, 60, 120]);
    let pitr = world.control.pitr(&world.owner().await, &project.id, None).await.unwrap();
    assert_eq!(pitr.status, PitrStatus::Error);
    assert!(pitr.reason.unwrap().contains("google refused"));
}

#[tokio::test]
async fn what_is_captured_holds_its_project_and_destination() {
    let (world, project, pitr) = capturing().await;
    let owner = world.owner().await;
    let error = world.control.remove_project(&owner, &project.id).await.unwrap_err();
    assert_eq!(error.code, Code::InUse);
    assert!(error.details.unwrap().to_string().contains(&pitr.id.to_string()));
    let destination = pitr.config.storage_destination_id.unwrap();
    let error = world.control.remove_destination(&owner, &destination).await.unwrap_err();
    assert!(error.details.unwrap().to_string().contains(&pitr.id.to_string()));
    assert_eq!(world.control.destination_links(&owner, &destination).await.unwrap().pitr, [pitr.id]);
    world.control.disable_pitr(&owner, &project.id, None).await.unwrap();
    world.control.remove_project(&owner, &project.id).await.unwrap();
    assert_eq!(code(world.control.pitr(&owner, &project.id, None).await), Code::NotFound);
}

#[tokio::test]
async fn a_project_that_is_gone_or_closed_is_a_failure_that_says_so() {
    let (world, project, _) = capturing().await;
    let owner = world.owner().await;
    let closed = serde_json::from_value(serde_json::json!({ "connected": false })).unwrap();
    world.control.update_project(&owner, &project.id, closed).await.unwrap();
    let claimed = claim(&world).await.unwrap();
    let error = world.control.window_work(&world.worker().await, &claimed).await.unwrap_err();
    assert_eq!(error.code, Code::ProjectDisconnected);
    end(&world, &claimed, &WindowEnd::from(&error)).await;
    assert_eq!(status(&world, &project).await, PitrStatus::Error);
}

#[tokio::test]
async fn databases_are_captured_each_by_itself() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let owner = world.owner().await;
    let orders = NewPitr { database: Some("orders".to_owned()), ..new_pitr(&project) };
    let orders = world.control.enable_pitr(&owner, orders).await.unwrap();
    assert_eq!(world.control.pitr(&owner, &project.id, None).await.unwrap().id, orders.id);
    let first = world.control.enable_pitr(&owner, new_pitr(&project)).await.unwrap();
    assert_ne!(first.id, orders.id);
    assert_eq!(world.control.pitr(&owner, &project.id, None).await.unwrap().id, first.id);
    assert_eq!(world.control.pitr(&owner, &project.id, Some("orders")).await.unwrap().id, orders.id);
}

#[tokio::test]
async fn moments_are_kept_as_long_as_somebody_says() {
    let (world, project, _) = capturing().await;
    let (owner, worker) = (world.owner().await, world.worker().await);
    let (place, database) = world.control.open_moments(&owner, &project.id, None).await.unwrap();
    assert_eq!(database.to_string(), "shop-1/(default)");
    assert_eq!(world.control.moments_kept(&worker, &place).await.unwrap(), Some(7));
    let change = PitrChange { retention_days: Some(30), ..PitrChange::default() };
    world.control.update_pitr(&owner, &project.id, None, &change).await.unwrap();
    world.control.disable_pitr(&owner, &project.id, None).await.unwrap();
    assert_eq!(world.control.moments_kept(&worker, &place).await.unwrap(), Some(30));
    let clear = OpenedPlace { encrypted: false, ..place };
    assert_eq!(world.control.moments_kept(&worker, &clear).await.unwrap(), None);
}

#[tokio::test]
async fn a_destination_that_is_moved_takes_captures_along() {
    let (world, project, pitr) = capturing().await;
    let (owner, worker) = (world.owner().await, world.worker().await);
    let (from, target) = (pitr.config.storage_destination_id.unwrap(), new_destination("Target"));
    let target = NewDestination { url: "s3://other/prefix".to_owned(), ..target };
    let target = world.control.add_destination(&owner, target).await.unwrap();
    let new = serde_json::from_value(serde_json::json!({ "targetDestinationId": target.id, "dryRun": false })).unwrap();
    world.control.request_migration(&owner, &from, &new, None).await.unwrap();
    let mut begun = world.control.begin_migration(&worker, &from).await.unwrap().unwrap();
    let known = due(&world).await;
    let claimed = claim(&world).await.unwrap();
    assert!(world.control.switch_migration(&worker, &mut begun).await.unwrap());
    // whoever captures is waited for, and nobody begins
    assert!(world.control.migration_waits(&worker, &begun).await.unwrap());
    end(&world, &claimed, &WindowEnd::Stopped).await;
    assert!(!world.control.migration_waits(&worker, &begun).await.unwrap());
    assert!(world.control.claim_window(&worker, &known[0], LEASE).await.unwrap().is_none());
    world.control.complete_migration(&worker, &mut begun).await.unwrap();
    let moved = world.control.pitr(&owner, &project.id, None).await.unwrap();
    assert_eq!(moved.config.storage_destination_id, Some(target.id));
    world.clock.advance(60);
    let claimed = claim(&world).await.unwrap();
    let work = world.control.window_work(&worker, &claimed).await.unwrap();
    assert_eq!(work.place.destination.id, target.id);
}

#[tokio::test]
async fn what_was_captured_is_told_with_when_it_was_seen() {
    let (world, project, _) = capturing().await;
    let owner = world.owner().await;
    let before = world.control.pitr_statistics(&owner, &project.id, None).await.unwrap();
    assert_eq!((before.segments, before.checked_at), (0, None));
    let seen: Timestamp = world.now();
    end(&world, &claim(&world).await.unwrap(), &captured(&world, 4)).await;
    world.clock.advance(30);
    let after = world.control.pitr_statistics(&owner, &project.id, None).await.unwrap();
    assert_eq!((after.segments, after.changes, after.checked_at), (1, 4, Some(seen)));
    let health = world.control.pitr_health(&owner, &project.id, None).await.unwrap();
    assert_eq!((health.lag_seconds, health.failures), (Some(30.0), 0));
}

/// Finds a moment ten seconds before whatever is asked for.
struct Before(BackupJob);

#[async_trait]
impl FindMoment for Before {
    async fn find(&self, place: &OpenedPlace, database: &DatabaseName, asked: AskedMoment) -> Result<FoundMoment> {
        assert_eq!((place.project, database.to_string().as_str()), (self.0.project_id, "shop-1/(default)"));
        assert!(!asked.exact);
        Ok(FoundMoment { point: asked.at.plus_seconds(-10), base: self.0.job.id.clone(), is_base: false })
    }

    async fn find_reported(&self, place: &OpenedPlace, _: &DatabaseName, _: &RestoredReport) -> Result<JobId> {
        assert_eq!(place.project, self.0.project_id);
        Ok(self.0.job.id.clone())
    }
}

fn at(world: &World, project: &Project) -> NewRestore {
    serde_json::from_value(serde_json::json!({ "projectId": project.id, "pointInTime": world.now() })).unwrap()
}

#[tokio::test]
async fn a_moment_is_found_when_it_is_asked_for_and_stays_that_one() {
    let (world, project, _) = capturing().await;
    let owner = world.owner().await;
    let base = backups(&world).await.remove(0);
    let new = at(&world, &project);
    let found = Before(base.clone());
    let restore = world.control.create_restore(&owner, new.clone(), &found, Some("key")).await.unwrap();
    let moment = restore.moment.unwrap();
    assert_eq!((moment.point_in_time, moment.captured()), (world.now(), Some(world.now().plus_seconds(-10))));
    assert_eq!((restore.backup_id.clone(), restore.repository_project_id), (base.job.id.clone(), project.id));
    // the same request is answered by what it made, though nothing is found any more
    let again = world.control.create_restore(&owner, new.clone(), &NoMoments, Some("key")).await.unwrap();
    assert_eq!(again, restore);
    let listed = world.control.moment_restores(&owner, &project.id, &Page::default()).await.unwrap().items;
    assert_eq!(listed, std::slice::from_ref(&restore));
    assert!(world.control.moment_restore(&owner, &project.id, &restore.job.id).await.is_ok());
    let of_backup = world.control.create_restore(&owner, new_restore(&base), &NoMoments, None).await.unwrap();
    let not_listed = world.control.moment_restore(&owner, &project.id, &of_backup.job.id).await;
    assert_eq!(code(not_listed), Code::NotFound);
    // what it builds on is not deleted under it
    assert_eq!(code(world.control.delete_backup(&owner, &project.id, &base.job.id).await), Code::InUse);
}

#[tokio::test]
async fn a_moment_that_may_not_be_put_back_is_refused() {
    let (world, project, _) = capturing().await;
    let owner = world.owner().await;
    let base = backups(&world).await.remove(0);
    let found = Before(base.clone());
    let new = || at(&world, &project);
    for wrong in [
        NewRestore { backup_id: Some(base.job.id.clone()), ..new() },
        NewRestore { point_in_time: None, ..new() },
        NewRestore { point_in_time: None, project_id: None, ..new() },
        NewRestore { project_id: None, ..new() },
        NewRestore { include_auth: true, ..new() },
        NewRestore { exact: true, ..new_restore(&base) },
    ] {
        let refused = world.control.create_restore(&owner, wrong.clone(), &found, None).await;
        assert_eq!(code(refused), Code::ValidationFailed, "{wrong:?}");
    }
    let unknown = world.control.create_restore(&owner, new(), &NoMoments, None).await;
    assert_eq!(code(unknown), Code::MomentUnavailable);
    let other = NewRestore { source_database: Some("orders".to_owned()), ..new() };
    assert_eq!(code(world.control.create_restore(&owner, other, &found, None).await), Code::NotFound);
    let viewer = world.caller(Role::Viewer).await;
    assert_eq!(code(world.control.create_restore(&viewer, new(), &found, None).await), Code::Forbidden);
    world.control.delete_backup(&owner, &project.id, &base.job.id).await.unwrap();
    // what is kept of it because moments build on it can be put back
    assert!(world.control.create_restore(&owner, new(), &found, None).await.is_ok());
}

#[tokio::test]
async fn one_document_is_put_back_as_it_was_reported() {
    let (world, project, _) = capturing().await;
    let owner = world.owner().await;
    let base = backups(&world).await.remove(0);
    let found = Before(base.clone());
    let paths = |paths: &[&str]| paths.iter().map(ToString::to_string).collect::<Vec<_>>();
    // the path is no glob
    let new = || NewRestore { reported: true, paths: paths(&["users/[a"]), ..at(&world, &project) };
    let restore = world.control.create_restore(&owner, new(), &found, None).await.unwrap();
    let reported = restore.reported.clone().unwrap();
    assert_eq!((reported.document.as_str(), reported.point_in_time), ("users/[a", world.now()));
    assert_eq!((restore.moment, restore.backup_id.clone()), (None, base.job.id.clone()));
    let listed = world.control.moment_restores(&owner, &project.id, &Page::default()).await.unwrap().items;
    assert_eq!(listed, std::slice::from_ref(&restore));
    for wrong in [
        NewRestore { paths: paths(&[]), ..new() },
        NewRestore { paths: paths(&["users/a", "users/b"]), ..new() },
        NewRestore { paths: paths(&["users"]), ..new() },
        NewRestore { exact: true, ..new() },
        NewRestore { collections: paths(&["users"]), ..new() },
        NewRestore { exclude: paths(&["users"]), ..new() },
        NewRestore { include_auth: true, ..new() },
        NewRestore { point_in_time: None, project_id: None, ..new() },
        NewRestore { reported: true, paths: paths(&["users/a"]), ..new_restore(&base) },
    ] {
        let refused = world.control.create_restore(&owner, wrong.clone(), &found, None).await;
        assert_eq!(code(refused), Code::ValidationFailed, "{wrong:?}");
    }
    assert_eq!(code(world.control.create_restore(&owner, new(), &NoMoments, None).await), Code::MomentUnavailable);
    // what can be a glob is one where there is no such document
    for glob in ["users/*", "users/{a,b}", "*/a"] {
        let new = || NewRestore { paths: paths(&[glob]), ..new() };
        let refused = world.control.create_restore(&owner, new(), &NoMoments, None).await;
        assert_eq!(code(refused), Code::ValidationFailed, "{glob}");
        assert!(world.control.create_restore(&owner, new(), &found, None).await.is_ok(), "{glob}");
    }
}
