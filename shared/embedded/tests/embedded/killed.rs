//! A process that is killed: what it was told to be stored is stored, and its execution goes on in the next.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use firebackup_embedded::{Database, SqliteItemStore, SqliteWorkflows, SystemClock, SystemRandom, WorkflowOptions};
use firebackup_model::port::{
    ItemBody, ItemKey, ItemStore, ItemWrite, NewItem, StepError, Steps, Workflow, WorkflowState, Workflows,
};
use firebackup_testkit::eventually;
use serde_json::{Value, json};

const DATABASE: &str = "FIREBACKUP_TEST_DATABASE";
const WRITTEN: &str = "written ";
const AT_WORK: &str = "a chunk is at work";
const BOUND: Duration = Duration::from_secs(30);

/// Two chunks of one sequence.
#[derive(Default)]
struct Plain {
    /// Says that a chunk is at work, which never ends then.
    hangs: bool,
    steps: Mutex<Vec<String>>,
}

#[async_trait]
impl Steps for Plain {
    async fn run(&self, step: &str, _: Value) -> Result<Value, StepError> {
        self.steps.lock().unwrap().push(step.to_owned());
        if self.hangs && step == "backup-chunk" {
            eprintln!("{AT_WORK}");
            std::future::pending::<()>().await;
        }
        Ok(json!({"chunks": 2, "sequence": 1, "done": true}))
    }
}

fn workflows(database: &Database) -> SqliteWorkflows {
    SqliteWorkflows::new(database.clone(), Arc::new(SystemRandom), WorkflowOptions::default())
}

async fn write_for_ever(database: Database) {
    let store = SqliteItemStore::new(database, Arc::new(SystemClock));
    for number in 0_u64.. {
        let pair = ["a", "b"].map(|half| {
            let key = ItemKey::new("killed", format!("{number}/{half}"));
            ItemWrite::Create(NewItem::new(key, ItemBody::new()))
        });
        store.write(pair.into()).await.unwrap();
        eprintln!("{WRITTEN}{number}");
    }
}

/// The process that the test below starts and kills; on its own there is nothing for it to do.
#[tokio::test]
async fn victim() {
    let Some(path) = std::env::var_os(DATABASE).map(PathBuf::from) else { return };
    let database = Database::open(path).await.unwrap();
    let workflows = workflows(&database);
    workflows.start(Workflow::Backup, "bkp_1", &json!({"job": "bkp_1", "organization": "org_1"})).await.unwrap();
    let steps = Arc::new(Plain { hangs: true, ..Plain::default() });
    workflows.run(steps, write_for_ever(database)).await;
}

/// Starts a process on the database and kills it in the middle; returns the last pair that it was told to be stored.
fn kill_one(database: &std::path::Path) -> u64 {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::victim", "--nocapture"])
        .env(DATABASE, database)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stderr.take().unwrap()).lines().map(Result::unwrap);
    let (mut written, mut is_at_work) = (None, false);
    for line in lines {
        is_at_work |= line == AT_WORK;
        written = line.strip_prefix(WRITTEN).map(|number| number.parse().unwrap()).or(written);
        if is_at_work && written.is_some_and(|number: u64| number >= 20) {
            break;
        }
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    written.expect("it wrote until it was killed")
}

#[tokio::test]
async fn nothing_is_lost_with_a_process_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let file = path.clone();
    let written = tokio::task::spawn_blocking(move || kill_one(&file)).await.unwrap();
    let database = Database::open(&path).await.unwrap();
    let store = SqliteItemStore::new(database.clone(), Arc::new(SystemClock));
    let is_there = async |number: u64, half: &str| {
        store.get(&ItemKey::new("killed", format!("{number}/{half}"))).await.unwrap().is_some()
    };
    for number in 0..=written {
        assert!(is_there(number, "a").await && is_there(number, "b").await, "{number} of {written}");
    }
    for number in written + 1..written + 50 {
        assert_eq!(is_there(number, "a").await, is_there(number, "b").await, "no transaction is half there");
    }
    let workflows = workflows(&database);
    let state = async || workflows.state(Workflow::Backup, "bkp_1").await.unwrap();
    assert_eq!(state().await, Some(WorkflowState::Running));
    let steps = Arc::new(Plain::default());
    let ended = eventually("the execution ends", BOUND, async || {
        (state().await == Some(WorkflowState::Succeeded)).then_some(())
    });
    // the killed process has left its lock behind, and holds it no more
    workflows.run(steps.clone(), ended).await;
    let steps = steps.steps.lock().unwrap();
    assert_eq!(*steps, ["backup-chunk", "backup-chunk", "backup-finalize"], "the plan was made before");
}
