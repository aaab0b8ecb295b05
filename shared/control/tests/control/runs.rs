//! Jobs that start, go on, end, and are looked after.

use firebackup_control::{
    Care, Code, JobEnd, JobError, JobErrorCode, JobMessage, JobResult, JobStatus, NewRestore, OrganizationChange,
    StartOutcome,
};
use firebackup_model::ErrorKind;
use firebackup_model::port::{Workflow, WorkflowState};

use crate::world::{World, code, completed, failed, new_restore};

#[tokio::test]
async fn a_job_starts_once_however_often_it_is_asked_for() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let worker = world.worker().await;
    let backup = world.backup(&project).await;
    let id = &backup.job.id;
    let outcomes = futures::join!(
        world.control.start_job(&worker, id),
        world.control.start_job(&worker, id),
        world.control.start_job(&worker, id),
    );
    let outcomes = [outcomes.0.unwrap(), outcomes.1.unwrap(), outcomes.2.unwrap()];
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == StartOutcome::Started).count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == StartOutcome::AlreadyStarted).count(), 2);
    let started = world.workflows.started();
    let input = serde_json::to_value(JobMessage { job: id.clone(), organization: worker.organization() }).unwrap();
    assert_eq!(started, [(Workflow::Backup, id.to_string(), input)]);
    let read = world.control.backup(&world.owner().await, &project.id, id).await.unwrap();
    assert_eq!((read.job.status, read.job.started_at.is_some()), (JobStatus::Running, true));
    world.control.finish_job(&worker, id, completed()).await.unwrap();
    assert_eq!(world.control.start_job(&worker, id).await.unwrap(), StartOutcome::Ended);
    let unknown = "bkp_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    assert_eq!(world.control.start_job(&worker, &unknown).await.unwrap(), StartOutcome::Ended);
}

#[tokio::test]
async fn dying_before_the_workflow_is_started_is_mended_by_doing_it_again() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let worker = world.worker().await;
    let backup = world.backup(&project).await;
    world.workflows.fail(Some(ErrorKind::Unavailable));
    assert_eq!(code(world.control.start_job(&worker, &backup.job.id).await), Code::Unavailable);
    assert!(world.workflows.started().is_empty());
    world.workflows.fail(None);
    assert_eq!(world.control.start_job(&worker, &backup.job.id).await.unwrap(), StartOutcome::Started);
}

#[tokio::test]
async fn an_organization_runs_so_many_jobs_and_the_next_is_woken() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let worker = world.worker().await;
    let mut jobs = Vec::new();
    for _ in 0..5 {
        jobs.push(world.backup(&project).await.job.id);
        world.clock.advance(1);
    }
    let mut outcomes = Vec::new();
    for id in &jobs {
        outcomes.push(world.control.start_job(&worker, id).await.unwrap());
    }
    assert_eq!(outcomes[..2], [StartOutcome::Started; 2]);
    assert_eq!(outcomes[2..], [StartOutcome::Busy; 3]);
    let _ = world.queue.drain();
    world.control.finish_job(&worker, &jobs[0], failed()).await.unwrap();
    let woken: Vec<JobMessage> = world.queue.drain().iter().map(|body| serde_json::from_str(body).unwrap()).collect();
    assert_eq!(woken.iter().map(|message| &message.job).collect::<Vec<_>>(), [&jobs[2]], "the one that waits longest");
    assert_eq!(world.control.start_job(&worker, &jobs[2]).await.unwrap(), StartOutcome::Started);
    assert_eq!(world.control.start_job(&worker, &jobs[3]).await.unwrap(), StartOutcome::Busy);
    let more = OrganizationChange { max_running_jobs: Some(3), ..OrganizationChange::default() };
    world.control.update_organization(&world.owner().await, more).await.unwrap();
    assert_eq!(world.control.start_job(&worker, &jobs[3]).await.unwrap(), StartOutcome::Started);
}

#[tokio::test]
async fn many_starts_at_once_keep_to_the_limit() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let worker = world.worker().await;
    let mut jobs = Vec::new();
    for _ in 0..20 {
        jobs.push(world.backup(&project).await.job.id);
    }
    let starts = jobs.iter().map(|id| world.control.start_job(&worker, id));
    let outcomes = futures::future::join_all(starts).await;
    let started = outcomes.iter().filter(|outcome| matches!(outcome, Ok(StartOutcome::Started))).count();
    assert_eq!(started, 2);
    assert_eq!(world.workflows.started().len(), 2);
}

#[tokio::test]
async fn an_end_is_for_ever_and_is_told_again() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (owner, worker) = (world.owner().await, world.worker().await);
    let backup = world.backup(&project).await;
    let id = &backup.job.id;
    world.control.start_job(&worker, id).await.unwrap();
    world.events.fail(Some(ErrorKind::Unavailable));
    assert_eq!(code(world.control.finish_job(&worker, id, completed()).await), Code::Unavailable);
    world.events.fail(None);
    for end in [completed(), failed(), JobEnd::Cancelled] {
        world.clock.advance(10);
        assert_eq!(world.control.finish_job(&worker, id, end).await.unwrap().status(), JobStatus::Completed);
    }
    let events = world.events_of("backup.");
    let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["backup.started", "backup.completed", "backup.completed", "backup.completed"]);
    assert_eq!(events[1], events[2], "twice is once");
    assert_ne!(events[0].id, events[1].id);
    assert_eq!(events[1].organization, worker.organization().to_string());
    assert_eq!(events[1].data["result"]["documents"], 7);
    let read = world.control.backup(&owner, &project.id, id).await.unwrap();
    assert_eq!((read.job.result.unwrap().documents, read.job.error), (7, None));
    assert_eq!(read.job.progress.unwrap().percent, Some(100));
}

#[tokio::test]
async fn a_failure_is_told_with_its_reason_to_the_user_only() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let worker = world.worker().await;
    let backup = world.backup(&project).await;
    let message = format!("users/alice@example.com {}", "x".repeat(5000));
    let end = JobEnd::Failed { code: JobErrorCode::JobFailed, message };
    world.control.finish_job(&worker, &backup.job.id, end).await.unwrap();
    let read = world.control.backup(&world.owner().await, &project.id, &backup.job.id).await.unwrap();
    assert_eq!(read.job.error.unwrap().message.len(), 2000);
    let event = world.events.published().pop().unwrap();
    assert_eq!((event.kind.as_str(), &event.data["error"]["code"]), ("backup.failed", &"JOB_FAILED".into()));
    assert!(!event.data.to_string().contains("alice"), "{event:?}");
}

#[tokio::test]
async fn the_failure_noted_last_explains_an_end_that_nobody_explains() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (control, worker) = (&world.control, world.worker().await);
    let unexplained = || JobEnd::Unexplained { message: "chunks failed".to_owned() };
    let own = |message: &str| JobError { code: JobErrorCode::JobFailed, message: message.to_owned() };
    for (noted, end, status, error) in [
        (vec!["first", "last"], unexplained(), JobStatus::Failed, Some(own("last"))),
        (vec![], unexplained(), JobStatus::Failed, Some(own("chunks failed"))),
        (
            vec!["first"],
            failed(),
            JobStatus::Failed,
            Some(JobError { code: JobErrorCode::JobFailed, message: "google refused".to_owned() }),
        ),
        (vec!["first"], completed(), JobStatus::Completed, None),
        (vec!["first"], JobEnd::Cancelled, JobStatus::Cancelled, None),
    ] {
        let id = world.backup(&project).await.job.id;
        control.start_job(&worker, &id).await.unwrap();
        for message in noted {
            control.note_failure(&worker, &id, JobErrorCode::JobFailed, message).await.unwrap();
        }
        let shown = async || control.backup(&world.owner().await, &project.id, &id).await.unwrap().job;
        assert_eq!((shown().await.status, shown().await.error), (JobStatus::Running, None), "it goes on");
        assert_eq!(control.finish_job(&worker, &id, end).await.unwrap().status(), status);
        control.note_failure(&worker, &id, JobErrorCode::JobFailed, "behind its end").await.unwrap();
        assert_eq!((shown().await.status, shown().await.error), (status, error));
    }
    assert!(control.running_jobs(&worker).await.unwrap().is_empty());
}

#[tokio::test]
async fn many_failures_at_once_leave_one_and_lose_nothing_of_the_job() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (control, worker) = (&world.control, world.worker().await);
    let id = world.backup(&project).await.job.id;
    control.start_job(&worker, &id).await.unwrap();
    let reasons: Vec<String> = (0..40).map(|n| format!("chunk {n} failed: {}", "x".repeat(3000))).collect();
    let notes = reasons.iter().map(|reason| control.note_failure(&worker, &id, JobErrorCode::JobFailed, reason));
    for noted in futures::future::join_all(notes).await {
        noted.unwrap();
    }
    let end = JobEnd::Unexplained { message: "chunks failed".to_owned() };
    control.finish_job(&worker, &id, end).await.unwrap();
    let error = control.backup(&world.owner().await, &project.id, &id).await.unwrap().job.error.unwrap();
    assert!(reasons.iter().any(|reason| reason[..2000] == error.message), "{error:?}");
}

#[tokio::test]
async fn a_job_that_was_asked_to_end_is_cancelled_however_it_failed() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (control, worker, owner) = (&world.control, world.worker().await, world.owner().await);
    for end in [failed(), JobEnd::Unexplained { message: "chunks failed".to_owned() }, JobEnd::Cancelled] {
        let id = world.backup(&project).await.job.id;
        control.start_job(&worker, &id).await.unwrap();
        control.note_failure(&worker, &id, JobErrorCode::JobFailed, "a chunk failed").await.unwrap();
        control.cancel_backup(&owner, &project.id, &id).await.unwrap();
        assert_eq!(control.finish_job(&worker, &id, end).await.unwrap().status(), JobStatus::Cancelled);
        assert_eq!(control.backup(&owner, &project.id, &id).await.unwrap().job.error, None);
        assert_eq!(world.events.published().pop().unwrap().kind, "backup.cancelled");
    }
    let id = world.backup(&project).await.job.id;
    control.start_job(&worker, &id).await.unwrap();
    control.cancel_backup(&owner, &project.id, &id).await.unwrap();
    assert_eq!(
        control.finish_job(&worker, &id, completed()).await.unwrap().status(),
        JobStatus::Completed,
        "it was committed"
    );
}

#[tokio::test]
async fn progress_adds_up_and_chunks_are_said_once() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (control, worker) = (&world.control, world.worker().await);
    let id = world.backup(&project).await.job.id;
    let steps = (0..50).map(|_| control.note_progress(&worker, &id, &[("documents", 10), ("chunksDone", 1)]));
    for noted in futures::future::join_all(steps).await {
        noted.unwrap();
    }
    for _ in 0..2 {
        control.note_chunks(&worker, &id, 200).await.unwrap();
    }
    let read = control.backup(&world.owner().await, &project.id, &id).await.unwrap();
    let progress = read.job.progress.unwrap();
    assert_eq!((progress.documents, progress.chunks, progress.chunks_done), (500, 200, 50));
    assert_eq!(progress.percent, Some(25));
    assert_eq!(code(control.note_progress(&worker, &id, &[("secrets", 1)]).await), Code::Internal);
}

#[tokio::test]
async fn jobs_that_are_forgotten_are_looked_after() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let (control, worker) = (&world.control, world.worker().await);
    let backup = world.completed(&project).await;
    let new = NewRestore { dry_run: true, ..new_restore(&backup) };
    let id = control.create_restore(&world.owner().await, new, &crate::world::NoMoments, None).await.unwrap().job.id;
    let care = async || control.look_after(&worker, &id).await.unwrap();
    assert_eq!(care().await, Care::None, "it has just been asked for");
    control.start_job(&worker, &id).await.unwrap();
    world.clock.advance(3600);
    assert_eq!(care().await, Care::None, "its workflow runs");
    world.workflows.forget(Workflow::Restore, id.as_str());
    assert_eq!(care().await, Care::StartedAgain);
    for state in [WorkflowState::Failed, WorkflowState::Stopped, WorkflowState::Succeeded] {
        world.workflows.set(Workflow::Restore, id.as_str(), state);
        assert_eq!(care().await, Care::Finalize);
    }
    assert_eq!(control.running_jobs(&worker).await.unwrap().len(), 1);
    control.finish_job(&worker, &id, failed()).await.unwrap();
    assert_eq!(care().await, Care::None);
    assert!(control.running_jobs(&worker).await.unwrap().is_empty());
    assert_eq!(code(control.work(&worker, &id).await), Code::JobState);
}

#[tokio::test]
async fn work_whose_project_is_gone_says_so() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let worker = world.worker().await;
    let backup = world.completed(&project).await;
    world.control.remove_project(&world.owner().await, &project.id).await.unwrap();
    let error = world.control.work_to_end(&worker, &backup.job.id).await.unwrap_err();
    assert_eq!(error.to_string(), "the project was removed");
    assert!(!error.can_be_retried());
}

#[tokio::test]
async fn a_result_fits_into_a_record_whatever_was_found() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let worker = world.worker().await;
    let backup = world.backup(&project).await;
    let result = JobResult {
        documents: 7,
        preview: Some(vec!["x".repeat(1000); 1000].into()),
        warnings: vec!["ä".repeat(10_000); 1000],
        ..JobResult::default()
    };
    world.control.finish_job(&worker, &backup.job.id, JobEnd::Completed(Box::new(result))).await.unwrap();
    let read = world.control.backup(&world.owner().await, &project.id, &backup.job.id).await.unwrap();
    let result = read.job.result.unwrap();
    assert_eq!((result.documents, result.preview, result.warnings.len()), (7, None, 100));
    assert!(result.warnings[0].contains("too large") && result.warnings[99].chars().count() == 500);
}

/// Whoever finishes chunks at the same time, and however often a job is planned: nine tenths are told, each once.
#[tokio::test]
async fn each_tenth_of_a_job_is_told_once_and_the_last_by_its_end() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let worker = world.worker().await;
    let id = world.backup(&project).await.job.id;
    world.control.start_job(&worker, &id).await.unwrap();
    world.control.note_progress(&worker, &id, &[("chunksDone", 0), ("documents", 1)]).await.unwrap();
    world.control.note_chunks(&worker, &id, 37).await.unwrap();
    let steps = (0..37).map(|_| world.control.note_progress(&worker, &id, &[("documents", 10), ("chunksDone", 1)]));
    futures::future::try_join_all(steps).await.unwrap();
    let told = || world.events.published().into_iter().filter(|event| event.kind == "backup.progress");
    let mut percents: Vec<_> = told().map(|event| event.data["progress"]["percent"].as_u64().unwrap()).collect();
    percents.sort_unstable();
    assert_eq!(percents.len(), 9, "{percents:?}");
    assert!(percents.iter().enumerate().all(|(index, percent)| percent / 10 == index as u64 + 1), "{percents:?}");
    let ids: std::collections::BTreeSet<_> = told().map(|event| event.id).collect();
    assert_eq!(ids.len(), 9);
    world.control.finish_job(&worker, &id, completed()).await.unwrap();
    world.control.note_progress(&worker, &id, &[("chunksDone", 1)]).await.unwrap();
    assert_eq!(told().count(), 9, "a step that comes late tells nothing");
}
