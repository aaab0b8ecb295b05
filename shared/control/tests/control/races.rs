//! Two at once never lose what one of them did.

use firebackup_control::{
    Code, DestinationChange, JobStatus, OrganizationChange, ProjectChange, Retention, RetentionType, ScheduleChange,
};

use crate::world::{World, completed, new_backup};

/// Runs futures on several threads at once.
async fn side_by_side<T: Send + 'static>(futures: Vec<impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let tasks: Vec<_> = futures.into_iter().map(tokio::spawn).collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_of_different_fields_lose_nothing() {
    for _ in 0..20 {
        let world = World::new().await;
        let (project, _) = world.set_up().await;
        let schedule = world.schedule(&project).await;
        let owner = world.owner().await;
        let changes = [
            ScheduleChange { name: Some("changed".to_owned()), ..ScheduleChange::default() },
            ScheduleChange { cron_expression: Some("1 2 * * *".to_owned()), ..ScheduleChange::default() },
            ScheduleChange { timezone: Some("UTC".to_owned()), ..ScheduleChange::default() },
            ScheduleChange { enabled: Some(false), ..ScheduleChange::default() },
            ScheduleChange {
                retention: Some(Some(Retention { kind: RetentionType::Days, value: 9 })),
                ..ScheduleChange::default()
            },
        ];
        let writers = changes.map(|change| {
            let (control, owner, id) = (world.control.clone(), owner.clone(), schedule.id);
            async move { control.update_schedule(&owner, &id, change).await.unwrap() }
        });
        side_by_side(writers.into()).await;
        let read = world.control.schedule(&owner, &schedule.id).await.unwrap();
        assert_eq!((read.name.as_str(), read.enabled), ("changed", false));
        assert_eq!((read.cron_expression.as_str(), read.timezone.as_str()), ("1 2 * * *", "UTC"));
        assert_eq!(read.retention.unwrap().value, 9);
        let rule = &world.scheduler.rules()[&schedule.id.to_string()];
        assert_eq!(
            (rule.cron.expression(), rule.cron.timezone(), rule.enabled),
            ("1 2 * * *", "UTC", false),
            "the scheduler knows the last of them"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn toggles_are_all_done() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let schedule = world.schedule(&project).await;
    let owner = world.owner().await;
    let toggles = (0..31).map(|_| {
        let (control, owner, id) = (world.control.clone(), owner.clone(), schedule.id);
        async move { control.toggle_schedule(&owner, &id).await.unwrap() }
    });
    side_by_side(toggles.collect()).await;
    assert!(!world.control.schedule(&owner, &schedule.id).await.unwrap().enabled, "31 is odd");
    assert!(!world.scheduler.rules()[&schedule.id.to_string()].enabled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_key_at_once_makes_one_job() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let owner = world.owner().await;
    for key in ["a", "b", "c", "d", "e"] {
        let requests = (0..8).map(|_| {
            let (control, owner, new) = (world.control.clone(), owner.clone(), new_backup(&project));
            async move { control.create_backup(&owner, new, Some(key)).await.unwrap().job.id }
        });
        let made = side_by_side(requests.collect()).await;
        assert!(made.iter().all(|id| *id == made[0]), "{made:?}");
    }
    assert_eq!(world.control.running_jobs(&world.worker().await).await.unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_project_is_removed_or_used_and_never_both() {
    let (mut removed, mut used) = (0, 0);
    for round in 0..300 {
        let world = World::new().await;
        world.items.vary(u64::from(round) * 1000);
        let (project, _) = world.set_up().await;
        let owner = world.owner().await;
        let (control, caller, id) = (world.control.clone(), owner.clone(), project.id);
        let remove = tokio::spawn(async move {
            head_start(round % 10).await;
            control.remove_project(&caller, &id).await
        });
        let (control, caller, new) = (world.control.clone(), owner.clone(), new_backup(&project));
        let create = tokio::spawn(async move {
            head_start(9 - round % 10).await;
            control.create_backup(&caller, new, None).await
        });
        let (remove, create) = (remove.await.unwrap(), create.await.unwrap());
        assert!(remove.is_err() || create.is_err(), "a job of a project that is gone");
        match remove {
            Ok(()) => removed += 1,
            Err(error) => {
                assert_eq!(error.code, Code::InUse);
                used += 1;
            }
        }
        let is_there = world.control.project(&owner, &project.id).await.is_ok();
        assert!(is_there || create.is_err());
    }
    assert!(removed > 0 && used > 0, "{removed} removed, {used} used");
}

/// Lets others do so many steps first.
async fn head_start(steps: u32) {
    for _ in 0..steps {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cancel_and_start_and_end_agree() {
    for _ in 0..50 {
        let world = World::new().await;
        let (project, _) = world.set_up().await;
        let (owner, worker) = (world.owner().await, world.worker().await);
        let id = world.backup(&project).await.job.id;
        let (control, job) = (world.control.clone(), id.clone());
        let start = tokio::spawn(async move { control.start_job(&worker, &job).await });
        let (control, caller, job, of) = (world.control.clone(), owner.clone(), id.clone(), project.id);
        let cancel = tokio::spawn(async move { control.cancel_backup(&caller, &of, &job).await });
        start.await.unwrap().unwrap();
        cancel.await.unwrap().unwrap();
        let status = world.control.backup(&owner, &project.id, &id).await.unwrap().job.status;
        let has_run = !world.workflows.started().is_empty();
        assert_eq!(status, if has_run { JobStatus::Cancelling } else { JobStatus::Cancelled });
        let end = world.control.finish_job(&worker, &id, completed()).await.unwrap();
        assert_eq!(end.status(), if has_run { JobStatus::Completed } else { JobStatus::Cancelled });
        assert!(world.control.running_jobs(&worker).await.unwrap().is_empty());
        let next = world.completed(&project).await;
        assert_eq!(next.job.status, JobStatus::Completed, "its place is free");
    }
}

#[tokio::test]
async fn a_transaction_that_is_refused_is_done_again() {
    let world = World::new().await;
    let (project, destination) = world.set_up().await;
    let schedule = world.schedule(&project).await;
    let owner = world.owner().await;
    let control = &world.control;
    world.items.refuse(3);
    let change = OrganizationChange { name: Some("a".to_owned()), ..OrganizationChange::default() };
    assert!(control.update_organization(&owner, change).await.is_ok());
    world.items.refuse(3);
    let change = ProjectChange { name: Some("a".to_owned()), ..ProjectChange::default() };
    assert!(control.update_project(&owner, &project.id, change).await.is_ok());
    world.items.refuse(3);
    let change = DestinationChange { name: Some("a".to_owned()), ..DestinationChange::default() };
    assert!(control.update_destination(&owner, &destination.id, change).await.is_ok());
    world.items.refuse(3);
    assert!(control.toggle_schedule(&owner, &schedule.id).await.is_ok());
    world.items.refuse(3);
    assert!(control.create_backup(&owner, new_backup(&project), None).await.is_ok());
    world.items.refuse(1000);
    let refused = control.create_backup(&owner, new_backup(&project), None).await.unwrap_err();
    assert_eq!(refused.code, Code::ConcurrentChange);
    assert!(refused.can_be_retried());
}
