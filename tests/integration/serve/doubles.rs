//! Two servers on one folder: both answer, one works, and when that one is gone the other goes on.

use futures::future::join_all;
use serde_json::json;

use super::installation::{Place, SMALL, id};
use crate::stage::{assert_same, delete_all, read_all};

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_on_one_folder_do_each_job_once_and_the_second_goes_on_when_the_first_is_gone() {
    let mut place = Place::with(400).await;
    let wanted = read_all(&place.source).await;
    let second = place.installation.start(&SMALL).await;
    assert!(second.told.get("apiKey").is_none(), "there is one owner: {:#}", second.told);
    let apis = [place.api(), second.api(&place.key)];
    let asked = apis.iter().flat_map(|api| [api, api]).map(|api| api.back_up(&place.project));
    let backups = join_all(asked).await;
    for (backup, api) in backups.iter().zip(apis.iter().cycle()) {
        let done = api.ends(&place.backup_path(backup), "completed").await;
        assert_eq!(done["result"]["documents"].as_u64(), Some(400), "{done:#}");
        // a chunk that was done twice would have been counted twice
        assert_eq!(done["progress"]["documents"].as_u64(), Some(400), "{done:#}");
        apis[0].verified(&place.project, backup, 400).await;
    }
    let listed = place.installation.cli_json(&place.project, &["list"]);
    assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(backups.len()), "{listed:#}");
    drop(apis);

    // one is asked, and killed; the other one was waiting
    delete_all(&place.source).await;
    let restore = id(&place.api().post("/backups/restore", json!({"backupId": backups[0]})).await);
    std::mem::replace(&mut place.server, second).running.kill();
    let api = place.api();
    api.ends(&format!("/restores/{restore}"), "completed").await;
    assert_same(&read_all(&place.source).await, &wanted);
    let log = place.installation.log();
    assert!(log.contains("another process does this work; waiting for its end"), "the second has waited");
}
