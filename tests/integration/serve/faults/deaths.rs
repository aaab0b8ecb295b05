//! `kill -9` at exactly the worst moments: what was asked for is done, and whoever asked never knows.

use std::os::unix::process::ExitStatusExt;
use std::process::Child;

use firebackup_google::sample::sample;
use firebackup_testkit::{AwsCall, AwsFault, AwsFaults, eventually};
use serde_json::json;

use super::BOUND;
use super::bucket::{Bucketed, is_put};
use crate::serve::installation::{SMALL, id};
use crate::stage::{assert_same, database, read_all, write_all};

/// Which paths a death is behind.
type Behind = fn(&str) -> bool;

const DOCUMENTS: u64 = 300;

/// A rule that kills whoever puts the first such object, once it is put.
fn kills(behind: Behind) -> impl FnMut(&AwsCall) -> Option<AwsFault> + Send + 'static {
    let mut has_struck = false;
    move |call| {
        let strikes = !has_struck && is_put(call) && behind(&call.path);
        has_struck |= strikes;
        strikes.then_some(AwsFault::KillCaller)
    }
}

/// Waits until this server was killed, by the one rule there is, and takes that back.
async fn dies(server: &mut Child, faults: &AwsFaults) {
    let status = eventually("the server dies", BOUND, async || server.try_wait().unwrap()).await;
    assert_eq!(status.signal(), Some(9));
    // it is dead before the proxy says that it killed it
    eventually("the proxy has killed it", BOUND, async || (faults.killed().last() == Some(&server.id())).then_some(()))
        .await;
    let struck = faults.clear();
    assert!(matches!(struck[..], [(_, AwsFault::KillCaller)]), "{struck:?}");
}

impl Bucketed {
    /// Begins a job, and lets the server die behind each of these, one after the other; gives the job.
    async fn dies_behind(&mut self, deaths: &[Behind], begin: impl AsyncFnOnce(&Self) -> String) -> String {
        let faults = self.aws.faults().clone();
        faults.strike(kills(deaths[0]));
        let job = begin(self).await;
        dies(&mut self.place.server.running.child, &faults).await;
        for behind in &deaths[1..] {
            faults.strike(kills(*behind));
            // it may be dead before it says where it listens
            let mut next = self.place.installation.spawn(&SMALL);
            dies(&mut next.child, &faults).await;
        }
        assert_eq!(faults.killed().len(), deaths.len());
        job
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_behind_the_manifest_has_committed_and_the_next_start_says_so() {
    let mut stage = Bucketed::with(DOCUMENTS as usize).await;
    let begin = async |stage: &Bucketed| stage.place.api().back_up(&stage.place.project).await;
    let backup = stage.dies_behind(&[|path| path.contains("/snapshots/")], begin).await;
    assert_eq!(stage.listed(), [backup.as_str()], "it is committed");

    let puts = stage.note_puts();
    stage.place.restart().await;
    let api = stage.place.api();
    stage.assert_whole(&api, &backup, DOCUMENTS).await;
    for part in ["/runs/", "/receipts/", "/snapshots/"] {
        assert_eq!(puts.of(part), [""; 0], "there was nothing left to put");
    }
    stage.aws.faults().clear();
    // and whatever came of it is in nobody's way
    let next = api.back_up(&stage.place.project).await;
    stage.assert_whole(&api, &next, DOCUMENTS).await;
    assert_eq!(api.backups(&stage.place.project).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_backup_survives_deaths_behind_its_plan_a_run_and_a_receipt() {
    let mut stage = Bucketed::with(DOCUMENTS as usize).await;
    let deaths: [Behind; 3] = [
        |path| path.ends_with("/plan"),
        |path| path.contains("/runs/"),
        |path| path.contains("/receipts/") && !path.ends_with("/plan"),
    ];
    let begin = async |stage: &Bucketed| stage.place.api().back_up(&stage.place.project).await;
    let backup = stage.dies_behind(&deaths, begin).await;
    assert_eq!(stage.listed(), [""; 0], "nothing is committed");
    stage.place.restart().await;
    let api = stage.place.api();
    stage.assert_whole(&api, &backup, DOCUMENTS).await;
    assert_eq!(stage.listed().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_restore_survives_deaths_behind_what_it_keeps_a_part_and_its_undo() {
    let mut stage = Bucketed::with(DOCUMENTS as usize).await;
    let source = stage.place.source.clone();
    let api = stage.place.api();
    let backup = api.back_up(&stage.place.project).await;
    api.ends(&stage.place.backup_path(&backup), "completed").await;
    let wanted = read_all(&source).await;
    write_all(&source, sample(&database(), DOCUMENTS as usize, 2)).await;
    let before = read_all(&source).await;

    let deaths: [Behind; 3] =
        [|path| path.contains("/undo/"), |path| path.contains("/parts/"), |path| path.contains("/snapshots/")];
    let wish = json!({"backupId": backup, "mode": "mirror"});
    let begin = async |stage: &Bucketed| id(&stage.place.api().post("/backups/restore", wish).await);
    let restore = stage.dies_behind(&deaths, begin).await;
    stage.place.restart().await;
    let api = stage.place.api();
    let done = api.ends(&format!("/restores/{restore}"), "completed").await;
    assert_eq!((&done["result"]["failed"], &done["result"]["undo"]), (&json!(0), &json!(true)), "{done:#}");
    assert_same(&read_all(&source).await, &wanted);
    // what was there before the first attempt, whatever the attempts behind it have found
    let undo = id(&api.post("/backups/restore", json!({"backupId": restore})).await);
    api.ends(&format!("/restores/{undo}"), "completed").await;
    assert_same(&read_all(&source).await, &before);
    stage.assert_no_traces().await;
}
