//! A bucket that is asked too often.

use firebackup_bootstrap::StepSettings;
use firebackup_model::port::{Workflow, WorkflowState, Workflows};
use firebackup_testkit::{AwsFault, eventually};
use serde_json::json;

use super::bucket::{Bucketed, is_put, throttles};
use super::within::Within;
use super::{BOUND, cut_power};
use crate::serve::installation::{Api, id};
use crate::stage::{assert_same, delete_all, read_all};

const DOCUMENTS: u64 = 200;

/// As [`SMALL`](crate::serve::installation::SMALL).
fn small_steps() -> StepSettings {
    StepSettings { chunk_documents: 50, part_documents: 50, ..StepSettings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_throttles_every_third_request_only_takes_time() {
    let stage = Bucketed::with(DOCUMENTS as usize).await;
    let (api, source) = (stage.place.api(), &stage.place.source);
    let wanted = read_all(source).await;
    let faults = stage.aws.faults();
    let mut asked = 0u64;
    faults.strike(throttles(move |_| {
        asked += 1;
        asked.is_multiple_of(3)
    }));
    let backup = api.back_up(&stage.place.project).await;
    stage.assert_whole(&api, &backup, DOCUMENTS).await;
    let of_backup = faults.struck().len();
    delete_all(source).await;
    let restore = id(&api.post("/backups/restore", json!({"backupId": backup})).await);
    let done = api.ends(&format!("/restores/{restore}"), "completed").await;
    let of_restore = faults.clear().len() - of_backup;
    assert!(of_backup > 20 && of_restore > 20, "throttled {of_backup} times, and {of_restore} times");
    assert_eq!(done["result"]["failed"], 0, "{done:#}");
    assert_same(&read_all(source).await, &wanted);
    stage.assert_no_traces().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_takes_no_runs_for_long_fails_the_backup_and_keeps_nothing_of_it() {
    let mut stage = Bucketed::with(DOCUMENTS as usize).await;
    cut_power(&mut stage.place);
    let within = Within::on(&stage.place.installation, small_steps()).await;
    let api = within.api(&stage.place.key);
    let test = async |_: &_| {
        stage.aws.faults().strike(throttles(|call| is_put(call) && call.path.contains("/runs/")));
        let backup = api.back_up(&stage.place.project).await;
        let failed = api.ends(&stage.place.backup_path(&backup), "failed").await;
        assert_explained(&failed);
        assert_outage(&stage);
        assert_eq!(stage.listed(), [""; 0]);
        stage.assert_no_traces().await;
        goes_on(&stage, &api).await;
    };
    within.working_with_little_patience(test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_answers_nothing_for_long_fails_the_backup_as_soon_as_it_can_be_said() {
    let mut stage = Bucketed::with(DOCUMENTS as usize).await;
    cut_power(&mut stage.place);
    let within = Within::on(&stage.place.installation, small_steps()).await;
    let api = within.api(&stage.place.key);
    let path = within
        .working_with_little_patience(async |workflows| {
            let mut is_out = false;
            stage.aws.faults().strike(throttles(move |call| {
                // once the plan is made
                let is_throttled = is_out;
                is_out |= is_put(call) && call.path.ends_with("/plan");
                is_throttled
            }));
            let backup = api.back_up(&stage.place.project).await;
            eventually("the workflow gives up", BOUND, async || {
                let state = workflows.state(Workflow::Backup, &backup).await.unwrap();
                (state == Some(WorkflowState::Failed)).then_some(())
            })
            .await;
            let path = stage.place.backup_path(&backup);
            let job = api.get(&path).await;
            assert_eq!(job["status"], "running", "whether it was committed cannot be known: {job:#}");
            path
        })
        .await;
    assert_outage(&stage);

    stage.place.restart().await;
    let api = stage.place.api();
    let failed = api.ends(&path, "failed").await;
    assert_explained(&failed);
    assert_eq!(stage.listed(), [""; 0]);
    stage.assert_no_traces().await;
    goes_on(&stage, &api).await;
}

/// The bucket throttled at least one request as often as one is tried, and does so no more.
#[track_caller]
fn assert_outage(stage: &Bucketed) {
    let struck = stage.aws.faults().clear();
    let throttled = struck.iter().filter(|(_, fault)| *fault == AwsFault::Throttle).count();
    assert!(throttled >= 11, "throttled {throttled} times");
}

#[track_caller]
fn assert_explained(failed: &serde_json::Value) {
    let message = failed["error"]["message"].as_str().unwrap();
    assert_eq!(failed["error"]["code"], "DESTINATION_FAILED", "{failed:#}");
    assert!(message.contains("could not") && !message.contains("stopped before"), "{message}");
    assert!(failed["endedAt"].is_string() && failed.get("result").is_none(), "{failed:#}");
}

/// The next backup is whole, and the only one.
async fn goes_on(stage: &Bucketed, api: &Api) {
    let next = api.back_up(&stage.place.project).await;
    stage.assert_whole(api, &next, DOCUMENTS).await;
    assert_eq!(stage.listed(), [next]);
}
