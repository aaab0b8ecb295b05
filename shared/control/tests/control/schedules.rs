//! Schedules: kept in step with the scheduler, due once, and what their retention keeps.

use firebackup_control::{
    Code, Gfs, JobStatus, NewSchedule, NewSchedulePreview, Page, Retention, RetentionType, ScheduleChange,
    ScheduleFilter, ScheduleMessage,
};
use firebackup_model::port::Clock;
use firebackup_model::{ErrorKind, Timestamp};

use crate::world::{World, code, completed, failed, new_project, new_schedule};

#[tokio::test]
async fn a_schedule_is_stored_and_the_scheduler_is_told() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let schedule = world.schedule(&project).await;
    assert_eq!(schedule.next_runs.len(), 5);
    assert!(schedule.next_runs.windows(2).all(|pair| pair[0] < pair[1]) && schedule.next_runs[0] > world.clock.now());
    let rules = world.scheduler.rules();
    let rule = &rules[&schedule.id.to_string()];
    assert_eq!((rule.cron.expression(), rule.cron.timezone(), rule.enabled), ("0 3 * * *", "Europe/Berlin", true));
    let message: ScheduleMessage = serde_json::from_value(rule.payload.clone()).unwrap();
    let organization = world.owner().await.organization();
    assert_eq!(message, ScheduleMessage { schedule: schedule.id, organization, scheduled: None });
    assert_eq!(world.control.schedule(&world.owner().await, &schedule.id).await.unwrap(), schedule);
}

#[tokio::test]
async fn changes_reach_the_scheduler() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, control) = (world.owner().await, &world.control);
    let schedule = world.schedule(&project).await;
    let name = schedule.id.to_string();
    let toggled = control.toggle_schedule(&owner, &schedule.id).await.unwrap();
    assert!(!toggled.enabled && toggled.next_runs.is_empty() && !world.scheduler.rules()[&name].enabled);
    assert!(control.toggle_schedule(&owner, &schedule.id).await.unwrap().enabled);
    let change = ScheduleChange { cron_expression: Some("*/5 * * * *".to_owned()), ..ScheduleChange::default() };
    let changed = control.update_schedule(&owner, &schedule.id, change).await.unwrap();
    assert_eq!((changed.cron_expression.as_str(), changed.timezone.as_str()), ("*/5 * * * *", "Europe/Berlin"));
    assert_eq!(world.scheduler.rules()[&name].cron.expression(), "*/5 * * * *");
    let none: ScheduleChange = serde_json::from_str(r#"{"retention":null}"#).unwrap();
    assert_eq!(control.update_schedule(&owner, &schedule.id, none).await.unwrap().retention, None);
    control.remove_schedule(&owner, &schedule.id).await.unwrap();
    assert!(world.scheduler.rules().is_empty());
    assert_eq!(code(control.schedule(&owner, &schedule.id).await), Code::NotFound);
}

#[tokio::test]
async fn what_may_not_be_is_refused() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, control) = (world.owner().await, &world.control);
    let new = || new_schedule(&project);
    let retention = Some(Retention { kind: RetentionType::Days, value: 0 });
    for new in [
        NewSchedule { name: String::new(), ..new() },
        NewSchedule { cron_expression: "never".to_owned(), ..new() },
        NewSchedule { timezone: "Mars/Olympus".to_owned(), ..new() },
        NewSchedule { retention, ..new() },
    ] {
        assert_eq!(code(control.create_schedule(&owner, new).await), Code::ValidationFailed);
    }
    let elsewhere = NewSchedule { timezone: "Mars/Olympus".to_owned(), ..new() };
    let error = control.create_schedule(&owner, elsewhere).await.unwrap_err();
    assert_eq!(error.details, Some(serde_json::json!({"field": "timezone"})));
    world.scheduler.fail(Some(ErrorKind::InvalidArgument));
    assert_eq!(code(control.create_schedule(&owner, new()).await), Code::ValidationFailed);
    world.scheduler.fail(Some(ErrorKind::Unavailable));
    assert_eq!(code(control.create_schedule(&owner, new()).await), Code::Unavailable);
    assert!(
        control.schedules(&owner, &ScheduleFilter::default(), &Page::default()).await.unwrap().items.is_empty(),
        "none was made"
    );
}

#[tokio::test]
async fn the_sweep_tells_the_scheduler_what_it_does_not_know() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let worker = world.worker().await;
    let (first, second) = (world.schedule(&project).await, world.schedule(&project).await);
    assert_eq!(world.control.repair_schedules(&worker).await.unwrap(), 0);
    world.scheduler.forget(&first.id.to_string());
    assert_eq!(world.control.repair_schedules(&worker).await.unwrap(), 1);
    assert_eq!(world.scheduler.rules().len(), 2);
    world.scheduler.fail(Some(ErrorKind::Unavailable));
    assert!(world.control.toggle_schedule(&world.owner().await, &second.id).await.is_err());
    world.scheduler.fail(None);
    assert_eq!(world.control.repair_schedules(&worker).await.unwrap(), 1);
    assert!(!world.scheduler.rules()[&second.id.to_string()].enabled);
    // a change that died before the scheduler heard of it
    world.scheduler.fail(Some(ErrorKind::Unavailable));
    let change = ScheduleChange { cron_expression: Some("0 5 * * *".to_owned()), ..ScheduleChange::default() };
    assert!(world.control.update_schedule(&world.owner().await, &first.id, change).await.is_err());
    world.scheduler.fail(None);
    assert_eq!(world.control.repair_schedules(&worker).await.unwrap(), 1);
    assert_eq!(world.scheduler.rules()[&first.id.to_string()].cron.expression(), "0 5 * * *");
    assert_eq!(world.control.repair_schedules(&worker).await.unwrap(), 0);
}

#[tokio::test]
async fn a_due_time_makes_one_backup_however_often_it_comes() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (worker, control) = (world.worker().await, &world.control);
    let schedule = world.schedule(&project).await;
    let due = schedule.next_runs[0];
    let racers = (0..8).map(|_| control.schedule_due(&worker, &schedule.id, due));
    let made: Vec<_> = futures::future::join_all(racers).await.into_iter().map(|made| made.unwrap().unwrap()).collect();
    assert!(made.iter().all(|id| *id == made[0]), "{made:?}");
    assert_eq!(control.running_jobs(&worker).await.unwrap().len(), 1);
    let next = control.schedule_due(&worker, &schedule.id, schedule.next_runs[1]).await.unwrap().unwrap();
    assert_ne!(next, made[0]);
    let backup = control.backup(&world.owner().await, &project.id, &next).await.unwrap();
    assert_eq!((backup.schedule_id, backup.job.created_by), (Some(schedule.id), schedule.id.to_string()));
    control.finish_job(&worker, &next, completed()).await.unwrap();
    control.drop_backup(&worker, &next).await.unwrap();
    control.backup_gone(&worker, &next).await.unwrap();
    let again = control.schedule_due(&worker, &schedule.id, schedule.next_runs[1]).await.unwrap();
    assert_eq!(again, Some(next), "it is not made again though it is gone");
}

#[tokio::test]
async fn a_disabled_or_removed_schedule_makes_nothing() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, worker, control) = (world.owner().await, world.worker().await, &world.control);
    let schedule = world.schedule(&project).await;
    control.toggle_schedule(&owner, &schedule.id).await.unwrap();
    assert_eq!(control.schedule_due(&worker, &schedule.id, Timestamp::new(0, 0)).await.unwrap(), None);
    control.remove_schedule(&owner, &schedule.id).await.unwrap();
    assert_eq!(control.schedule_due(&worker, &schedule.id, Timestamp::new(0, 0)).await.unwrap(), None);
    assert!(control.running_jobs(&worker).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_due_time_that_makes_nothing_is_told() {
    let world = World::new().await;
    let (project, destination) = world.set_up().await;
    let (owner, worker) = (world.owner().await, world.worker().await);
    let mut new = new_schedule(&project);
    new.backup_config.database = Some("orders".to_owned());
    let schedule = world.control.create_schedule(&owner, new).await.unwrap();
    let change = firebackup_control::ProjectChange {
        databases: Some(vec!["(default)".to_owned()]),
        ..firebackup_control::ProjectChange::default()
    };
    world.control.update_project(&owner, &project.id, change).await.unwrap();
    for _ in 0..2 {
        let due = world.control.schedule_due(&worker, &schedule.id, schedule.next_runs[0]).await;
        assert_eq!(code(due), Code::ValidationFailed);
    }
    let events = world.events_of("schedule.failed");
    assert_eq!(events.len(), 2);
    assert_eq!(events[0], events[1]);
    assert_eq!(destination.kind, "s3");
}

#[tokio::test]
async fn a_trigger_makes_the_backup_of_the_schedule_now() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, control) = (world.owner().await, &world.control);
    let schedule = world.schedule(&project).await;
    control.toggle_schedule(&owner, &schedule.id).await.unwrap();
    let first = control.trigger_schedule(&owner, &schedule.id, Some("key")).await.unwrap();
    assert_eq!((first.schedule_id, first.job.status), (Some(schedule.id), JobStatus::Pending));
    assert_eq!(control.trigger_schedule(&owner, &schedule.id, Some("key")).await.unwrap(), first);
    assert_ne!(control.trigger_schedule(&owner, &schedule.id, None).await.unwrap().job.id, first.job.id);
}

#[tokio::test]
async fn retention_drops_completed_backups_of_the_schedule_only() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, worker, control) = (world.owner().await, world.worker().await, &world.control);
    let schedule = world.schedule(&project).await;
    let by_hand = world.completed(&project).await;
    let mut made = Vec::new();
    for due in &schedule.next_runs[..4] {
        world.clock.set(*due);
        let id = control.schedule_due(&worker, &schedule.id, *due).await.unwrap().unwrap();
        made.insert(0, id);
    }
    for id in &made[1..] {
        control.finish_job(&worker, id, completed()).await.unwrap();
    }
    let now = world.clock.now();
    let outcome = control.kept_by_schedule(&worker, &schedule.id, now).await.unwrap();
    assert_eq!((outcome.kept.as_slice(), outcome.dropped.as_slice()), (&made[1..3], &made[3..]));
    let place = world.control.work_to_end(&worker, &made[3]).await.unwrap().place;
    assert_eq!(outcome.places[&made[3]], (place.project, place.destination.id, place.encrypted));
    assert!(!outcome.dropped.contains(&by_hand.job.id));
    control.drop_backup(&worker, &made[3]).await.unwrap();
    assert!(control.kept_by_schedule(&worker, &schedule.id, now).await.unwrap().dropped.is_empty());
    let none: ScheduleChange = serde_json::from_str(r#"{"retention":null}"#).unwrap();
    control.update_schedule(&owner, &schedule.id, none).await.unwrap();
    assert_eq!(control.kept_by_schedule(&worker, &schedule.id, now).await.unwrap().kept.len(), 2);
    control.remove_schedule(&owner, &schedule.id).await.unwrap();
    let gone = control.kept_by_schedule(&worker, &schedule.id, now).await.unwrap();
    assert!(gone.kept.is_empty() && gone.dropped.is_empty());
}

#[tokio::test]
async fn a_due_time_that_nobody_came_with_is_made_up_for_once() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (worker, control) = (world.worker().await, &world.control);
    let schedule = world.schedule(&project).await;
    let (due, minute) = (schedule.next_runs[0], 60);
    for (passed, missed) in [(-minute, 0), (0, 0), (10 * minute - 1, 0), (10 * minute, 1), (15 * minute, 0)] {
        world.clock.set(due.plus_seconds(passed));
        assert_eq!(control.make_up_for_missed(&worker).await.unwrap(), missed, "{passed} s after it was due");
    }
    let jobs = control.running_jobs(&worker).await.unwrap();
    assert_eq!(jobs.len(), 1);
    // the scheduler comes after all
    let late = control.schedule_due(&worker, &schedule.id, due).await.unwrap();
    assert_eq!(late.as_ref(), Some(jobs[0].id()));
    assert_eq!(control.running_jobs(&worker).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_due_time_that_was_served_or_is_long_past_or_was_not_one_yet_is_not_missed() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, worker, control) = (world.owner().await, world.worker().await, &world.control);
    let schedule = world.schedule(&project).await;
    let late = |due: Timestamp| due.plus_seconds(15 * 60);
    control.schedule_due(&worker, &schedule.id, schedule.next_runs[0]).await.unwrap();
    world.clock.set(late(schedule.next_runs[0]));
    assert_eq!(control.make_up_for_missed(&worker).await.unwrap(), 0, "it was served");
    world.clock.set(schedule.next_runs[1].plus_seconds(60 * 60));
    assert_eq!(control.make_up_for_missed(&worker).await.unwrap(), 0, "it is long past");
    control.toggle_schedule(&owner, &schedule.id).await.unwrap();
    world.clock.set(late(schedule.next_runs[2]));
    assert_eq!(control.make_up_for_missed(&worker).await.unwrap(), 0, "it was disabled");
    control.toggle_schedule(&owner, &schedule.id).await.unwrap();
    assert_eq!(control.make_up_for_missed(&worker).await.unwrap(), 0, "it was enabled after it would have been due");
    world.clock.set(late(schedule.next_runs[3]));
    assert_eq!(control.make_up_for_missed(&worker).await.unwrap(), 1);
}

#[tokio::test]
async fn a_missed_backup_that_cannot_be_made_is_tried_once_and_keeps_no_other() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, worker, control) = (world.owner().await, world.worker().await, &world.control);
    let mut new = new_schedule(&project);
    new.backup_config.database = Some("orders".to_owned());
    control.create_schedule(&owner, new).await.unwrap();
    let change = firebackup_control::ProjectChange {
        databases: Some(vec!["(default)".to_owned()]),
        ..firebackup_control::ProjectChange::default()
    };
    control.update_project(&owner, &project.id, change).await.unwrap();
    let schedule = world.schedule(&project).await;
    world.clock.set(schedule.next_runs[0].plus_seconds(15 * 60));
    assert_eq!(control.make_up_for_missed(&worker).await.unwrap(), 2);
    assert_eq!(control.running_jobs(&worker).await.unwrap().len(), 1);
    world.clock.advance(60);
    assert_eq!(control.make_up_for_missed(&worker).await.unwrap(), 0);
    assert_eq!(world.events.published().iter().filter(|event| event.kind == "schedule.failed").count(), 1);
}

#[tokio::test]
async fn an_outage_of_a_dense_schedule_is_made_up_for_by_one_backup() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, worker, control) = (world.owner().await, world.worker().await, &world.control);
    let new = NewSchedule { cron_expression: "* * * * *".to_owned(), ..new_schedule(&project) };
    let schedule = control.create_schedule(&owner, new).await.unwrap();
    let first = schedule.next_runs[0];
    // for half an hour it does not come; then it comes every minute again
    world.clock.set(first.plus_seconds(30 * 60));
    assert_eq!(control.make_up_for_missed(&worker).await.unwrap(), 1);
    for minute in 31..60 {
        let due = first.plus_seconds(minute * 60);
        world.clock.set(due);
        control.schedule_due(&worker, &schedule.id, due).await.unwrap();
        assert_eq!(control.make_up_for_missed(&worker).await.unwrap(), 0, "minute {minute}");
    }
}

#[tokio::test]
async fn schedules_are_found_by_project_state_and_name() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, control) = (world.owner().await, &world.control);
    let other = control.connect_project(&owner, new_project("Other")).await.unwrap();
    let named = |name: &str, project, enabled| NewSchedule { name: name.to_owned(), enabled, ..new_schedule(project) };
    for new in [named("Nightly", &project, true), named("weekly", &project, false), named("NIGHT", &other, true)] {
        control.create_schedule(&owner, new).await.unwrap();
        world.clock.advance(1);
    }
    let any = ScheduleFilter::default;
    for (filter, expected) in [
        (any(), vec!["Nightly", "weekly", "NIGHT"]),
        (ScheduleFilter { project: Some(project.id), ..any() }, vec!["Nightly", "weekly"]),
        (ScheduleFilter { enabled: Some(false), ..any() }, vec!["weekly"]),
        (ScheduleFilter { search: Some("night".to_owned()), ..any() }, vec!["Nightly", "NIGHT"]),
        (ScheduleFilter { project: Some(other.id), enabled: Some(false), ..any() }, vec![]),
    ] {
        let found = control.schedules(&owner, &filter, &Page::default()).await.unwrap();
        let names: Vec<_> = found.items.iter().map(|schedule| schedule.name.as_str()).collect();
        assert_eq!((names, found.total), (expected.clone(), Some(expected.len() as u64)), "{filter:?}");
    }
}

#[tokio::test]
async fn the_overview_says_how_the_schedules_are_doing() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, worker, control) = (world.owner().await, world.worker().await, &world.control);
    let (good, bad, idle) =
        (world.schedule(&project).await, world.schedule(&project).await, world.schedule(&project).await);
    control.toggle_schedule(&owner, &idle.id).await.unwrap();
    let made = async |id, end: Option<firebackup_control::JobEnd>| {
        let due = world.now();
        let job = control.schedule_due(&worker, id, due).await.unwrap().unwrap();
        if let Some(end) = end {
            control.start_job(&worker, &job).await.unwrap();
            control.finish_job(&worker, &job, end).await.unwrap();
        }
        world.clock.advance(60);
        job
    };
    made(&bad.id, Some(failed())).await;
    world.clock.advance(8 * 24 * 60 * 60);
    made(&good.id, Some(failed())).await;
    let newest = made(&good.id, Some(completed())).await;
    let running = made(&bad.id, None).await;
    // nobody's, and so no matter
    world.completed(&project).await;
    let overview = control.schedule_overview(&owner).await.unwrap();
    assert_eq!((overview.total, overview.enabled, overview.disabled), (3, 2, 1));
    let statuses: Vec<_> = overview.by_status.into_iter().collect();
    assert_eq!(statuses, [("completed", 1), ("none", 1), ("pending", 1)]);
    assert_eq!((overview.completed_in_7_days, overview.failed_in_7_days, overview.missed_in_7_days), (1, 1, 0));
    let last: Vec<_> = overview.last_outcomes.iter().map(|last| (last.schedule_id, last.backup_id.clone())).collect();
    assert_eq!(last, [(bad.id, running), (good.id, newest)]);
    let next = overview.next_run.unwrap();
    assert!(next.at > world.now() && [good.id, bad.id].contains(&next.schedule_id));
    assert!(!overview.partial);
}

#[tokio::test]
async fn a_due_time_that_was_missed_for_good_is_counted() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, worker, control) = (world.owner().await, world.worker().await, &world.control);
    let schedule = world.schedule(&project).await;
    let change = firebackup_control::ProjectChange { connected: Some(false), ..Default::default() };
    control.update_project(&owner, &project.id, change).await.unwrap();
    world.clock.set(schedule.next_runs[0].plus_seconds(15 * 60));
    assert_eq!(control.make_up_for_missed(&worker).await.unwrap(), 1);
    let overview = control.schedule_overview(&owner).await.unwrap();
    assert_eq!((overview.missed_in_7_days, overview.by_status["none"]), (1, 1));
    world.clock.advance(8 * 24 * 60 * 60);
    assert_eq!(control.schedule_overview(&owner).await.unwrap().missed_in_7_days, 0);
}

#[tokio::test]
async fn an_expression_is_looked_at_without_a_schedule() {
    let world = World::new().await;
    let owner = world.owner().await;
    let asked = |expression: &str, timezone: &str| NewSchedulePreview {
        cron_expression: expression.to_owned(),
        timezone: timezone.to_owned(),
    };
    let preview = world.control.preview_schedule(&owner, &asked(" 0  3 * * *", "Europe/Berlin")).unwrap();
    let (project, _) = world.set_up().await;
    assert_eq!(preview.next_runs, world.schedule(&project).await.next_runs, "as a schedule has them");
    assert_eq!(preview.cron_expression, "0 3 * * *");
    for (bad, field) in [(asked("never", "UTC"), "cronExpression"), (asked("0 3 * * *", "Mars"), "timezone")] {
        let error = world.control.preview_schedule(&owner, &bad).unwrap_err();
        assert_eq!(error.details, Some(serde_json::json!({ "field": field })));
    }
}

#[tokio::test]
async fn what_is_kept_is_said_in_one_of_two_ways() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, control) = (world.owner().await, &world.control);
    let schedule = world.schedule(&project).await;
    let change = async |json: &str| {
        let change: ScheduleChange = serde_json::from_str(json).unwrap();
        control.update_schedule(&owner, &schedule.id, change).await
    };
    let gfs = Gfs { daily: 7, monthly: 12, ..Gfs::default() };
    let changed = change(r#"{"gfs": {"daily": 7, "monthly": 12}}"#).await.unwrap();
    assert_eq!((changed.retention, changed.gfs), (None, Some(gfs)));
    assert_eq!(change(r#"{"name": "renamed"}"#).await.unwrap().gfs, Some(gfs));
    let changed = change(r#"{"retention": {"type": "size", "value": 5000000000000}}"#).await.unwrap();
    assert_eq!((changed.retention.unwrap().value, changed.gfs), (5_000_000_000_000, None));
    assert!(change(r#"{"gfs": null}"#).await.unwrap().retention.is_some(), "there was none");
    let both = change(r#"{"gfs": {"daily": 1}, "retention": {"type": "count", "value": 1}}"#).await;
    assert_eq!(code(both), Code::ValidationFailed);
    assert_eq!(code(change(r#"{"gfs": {}}"#).await), Code::ValidationFailed);
    let none = change(r#"{"gfs": null, "retention": null}"#).await.unwrap();
    assert_eq!((none.retention, none.gfs), (None, None));
}

#[tokio::test]
async fn one_of_each_day_is_kept_in_the_zone_of_the_schedule() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, worker, control) = (world.owner().await, world.worker().await, &world.control);
    // noon in Berlin is still the day before in Honolulu
    let new = NewSchedule {
        timezone: "Pacific/Honolulu".to_owned(),
        retention: None,
        gfs: Some(Gfs { daily: 2, ..Gfs::default() }),
        ..new_schedule(&project)
    };
    let schedule = control.create_schedule(&owner, new).await.unwrap();
    let mut made = Vec::new();
    for at in ["2026-05-01T09:00:00Z", "2026-05-01T11:00:00Z", "2026-05-02T09:30:00Z", "2026-05-02T10:30:00Z"] {
        world.clock.set(at.parse().unwrap());
        let job = control.schedule_due(&worker, &schedule.id, world.now()).await.unwrap().unwrap();
        control.start_job(&worker, &job).await.unwrap();
        control.finish_job(&worker, &job, completed()).await.unwrap();
        made.push(job);
    }
    let outcome = control.kept_by_schedule(&worker, &schedule.id, world.now()).await.unwrap();
    assert_eq!(outcome.kept, [made[3].clone(), made[2].clone()]);
    assert_eq!(outcome.dropped, [made[1].clone(), made[0].clone()]);
}
