//! `kill -9`, at random instants, many times in a row, on the program as users run it.

use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use firebackup_engine::{PrunePolicy, Repository, prune, verify};
use firebackup_google::sample::sample;
use firebackup_model::id::JobKind;
use firebackup_storage::{Destination, DestinationSettings};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::binary::Program;
use crate::stage::{assert_same, database, emulator, firestore, read_all, secrets, world, write_all};

/// Ends the child at a random instant; says whether it had ended by itself.
fn kill_within(mut child: Child, longest: Duration, random: &mut StdRng) -> bool {
    std::thread::sleep(longest.mul_f64(random.random::<f64>()));
    let ended = child.try_wait().unwrap().is_some();
    child.kill().unwrap();
    child.wait().unwrap();
    ended
}

async fn open(program: &Program) -> Repository {
    let destination = Destination::open(&program.url(), &DestinationSettings::default()).unwrap();
    Repository::open(destination.store(), secrets(), world()).await.unwrap()
}

async fn assert_all_whole(repository: &Repository, documents: u64) -> usize {
    let ids = repository.snapshot_ids().await.unwrap();
    for id in &ids {
        let verification = verify(repository, id, &Arc::default()).await.unwrap();
        assert_eq!(verification.records, documents, "{id}");
    }
    ids.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_of_a_backup_leave_whole_snapshots_and_a_rerun_completes() {
    let emulator = emulator().await;
    let source = firestore(emulator.host(), &database()).await;
    write_all(&source, sample(&database(), 3000, 1)).await;
    let program = Program::new(emulator.host());
    let started = std::time::Instant::now();
    assert_eq!(program.run(&["backup", "--fresh"]).status.code(), Some(0));
    // instants from the start to a little behind the end
    let longest = started.elapsed().mul_f64(1.1);
    let mut random = StdRng::seed_from_u64(7);
    let mut killed = 0;
    for _ in 0..50 {
        let child = program.command(&["backup", "--compression", "zstd:3"]).spawn().unwrap();
        killed += u32::from(!kill_within(child, longest, &mut random));
        assert_all_whole(&open(&program).await, 3000).await;
    }
    assert!(killed > 20, "only {killed} of 50 were killed before they ended");
    let (code, _) = program.json(&["backup", "--compression", "zstd:3"]);
    assert_eq!(code, 0);
    let repository = open(&program).await;
    let snapshots = assert_all_whole(&repository, 3000).await;
    prune(&repository, &PrunePolicy { exclusive: true, ..PrunePolicy::default() }).await.unwrap();
    assert_eq!(assert_all_whole(&repository, 3000).await, snapshots, "a prune takes leftovers and nothing else");
    // what is left: the configuration, a wrap of the repository key, and for each snapshot a manifest, runs and a key
    let objects = program.objects();
    let mut runs = 0;
    for id in repository.snapshot_ids().await.unwrap() {
        runs += repository.manifest(&id).await.unwrap().0.runs.len();
    }
    let count = |folder: &str| objects.iter().filter(|path| path.starts_with(folder)).count();
    assert_eq!((count("snapshots/"), count("runs/"), count("keys/")), (snapshots, runs, snapshots + 1), "{objects:?}");
    // a killed writer's staging files (`name#1`) are no objects: they are never listed
    let others = objects.iter().filter(|path| {
        !path.contains('#') && !["snapshots/", "runs/", "keys/"].iter().any(|folder| path.starts_with(folder))
    });
    assert_eq!(others.collect::<Vec<_>>(), ["firebackup.json"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_a_restore_lose_nothing_and_its_undo_gives_back_the_state_before_the_first_try() {
    let emulator = emulator().await;
    let source = firestore(emulator.host(), &database()).await;
    write_all(&source, sample(&database(), 2000, 1)).await;
    let wanted = read_all(&source).await;
    let program = Program::new(emulator.host());
    assert_eq!(program.run(&["backup"]).status.code(), Some(0));
    write_all(&source, sample(&database(), 2000, 2)).await;
    write_all(&source, sample(&database(), 2600, 3).skip(2000)).await;
    let before = read_all(&source).await;
    let arguments = ["restore", "--mode", "mirror", "--yes"];
    let mut random = StdRng::seed_from_u64(11);
    let (mut killed, mut touched) = (0, 0);
    for _ in 0..15 {
        let child = program.command(&arguments).spawn().unwrap();
        killed += u32::from(!kill_within(child, Duration::from_millis(2500), &mut random));
        touched += u32::from(crate::stage::contents(&read_all(&source).await) != crate::stage::contents(&before));
    }
    assert!(killed > 5 && touched > 0, "{killed} killed, {touched} of them behind their first write");
    let (code, report) = program.json(&arguments);
    assert_eq!(code, 0, "{report}");
    assert_same(&read_all(&source).await, &wanted);
    // newest first: a restore that was killed behind its commit has an undo of its own
    let mut undos = open(&program).await.snapshot_ids().await.unwrap();
    undos.retain(|id| id.kind() == JobKind::Restore);
    for job in undos.iter().rev() {
        let (code, report) = program.json(&["restore", "--undo", job.as_str(), "--yes"]);
        assert_eq!(code, 0, "{report}");
    }
    assert_same(&read_all(&source).await, &before);
}

#[tokio::test(flavor = "multi_thread")]
async fn prunes_beside_backups_in_processes_of_their_own_take_nothing_away() {
    let emulator = emulator().await;
    let source = firestore(emulator.host(), &database()).await;
    write_all(&source, sample(&database(), 800, 1)).await;
    let program = Program::new(emulator.host());
    for _ in 0..8 {
        let backup = program.command(&["backup", "--fresh"]).spawn().unwrap();
        let prunes: Vec<_> = (0..3).map(|_| program.command(&["prune", "--keep-last", "2"]).spawn().unwrap()).collect();
        assert_eq!(backup.wait_with_output().unwrap().status.code(), Some(0));
        for prune in prunes {
            let output = prune.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{output:?}");
        }
        assert_all_whole(&open(&program).await, 800).await;
    }
    assert_eq!(program.run(&["prune", "--keep-last", "2"]).status.code(), Some(0));
    assert_eq!(assert_all_whole(&open(&program).await, 800).await, 2);
}
