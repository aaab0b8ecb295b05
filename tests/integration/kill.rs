//! `kill -9`, at random instants, many times in a row, on the program as users run it.

use std::collections::BTreeSet;
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firebackup_engine::{PrunePolicy, Repository, prune, verify};
use firebackup_google::sample::sample;
use firebackup_model::id::{JobKind, SnapshotId};
use firebackup_storage::{Destination, DestinationSettings};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::binary::Program;
use crate::stage::{assert_same, database, emulator, firestore, read_all, secrets, world, write_all};

/// Kills children at random instants of the time that a whole run takes, which it learns from those that end by themselves.
struct Killer {
    random: StdRng,
    whole_run: Duration,
    killed: u32,
}

impl Killer {
    fn new(seed: u64, whole_run: Duration) -> Self {
        Self { random: StdRng::seed_from_u64(seed), whole_run, killed: 0 }
    }

    fn kill(&mut self, mut child: Child) {
        let started = Instant::now();
        let instant = self.whole_run.mul_f64(self.random.random::<f64>());
        while started.elapsed() < instant {
            if child.try_wait().unwrap().is_some() {
                self.whole_run = started.elapsed();
                return;
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        self.killed += 1;
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

async fn open(program: &Program) -> Repository {
    let destination = Destination::open(&program.url(), &DestinationSettings::default()).unwrap();
    Repository::open(destination.store(), secrets(), world()).await.unwrap()
}

async fn assert_all_whole(repository: &Repository, documents: u64) -> usize {
    assert_new_ones_whole(repository, documents, &mut BTreeSet::new()).await
}

/// Verifies those snapshots that are not in `seen`: nothing changes what was written.
async fn assert_new_ones_whole(repository: &Repository, documents: u64, seen: &mut BTreeSet<SnapshotId>) -> usize {
    let ids = repository.snapshot_ids().await.unwrap();
    for id in &ids {
        if seen.insert(id.clone()) {
            let verification = verify(repository, id, &Arc::default()).await.unwrap();
            assert_eq!(verification.records, documents, "{id}");
        }
    }
    ids.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_of_a_backup_leave_whole_snapshots_and_a_rerun_completes() {
    let emulator = emulator().await;
    let source = firestore(emulator.host(), &database()).await;
    write_all(&source, sample(&database(), 1500, 1)).await;
    let program = Program::new(emulator.host());
    let started = Instant::now();
    assert_eq!(program.run(&["backup", "--fresh"]).status.code(), Some(0));
    let mut killer = Killer::new(7, started.elapsed());
    let mut seen = BTreeSet::new();
    for _ in 0..50 {
        let child = program.command(&["backup", "--compression", "zstd:3"]).spawn().unwrap();
        killer.kill(child);
        assert_new_ones_whole(&open(&program).await, 1500, &mut seen).await;
    }
    assert!(killer.killed > 20, "only {} of 50 were killed before they ended", killer.killed);
    let (code, _) = program.json(&["backup", "--compression", "zstd:3"]);
    assert_eq!(code, 0);
    let repository = open(&program).await;
    let snapshots = assert_all_whole(&repository, 1500).await;
    prune(&repository, &PrunePolicy { exclusive: true, ..PrunePolicy::default() }).await.unwrap();
    assert_eq!(assert_all_whole(&repository, 1500).await, snapshots, "a prune takes leftovers and nothing else");
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
    write_all(&source, sample(&database(), 1200, 1)).await;
    let wanted = read_all(&source).await;
    let program = Program::new(emulator.host());
    assert_eq!(program.run(&["backup"]).status.code(), Some(0));
    write_all(&source, sample(&database(), 1200, 2)).await;
    write_all(&source, sample(&database(), 1500, 3).skip(1200)).await;
    let before = read_all(&source).await;
    let arguments = ["restore", "--mode", "mirror", "--yes"];
    let mut killer = Killer::new(11, Duration::from_secs(2));
    let mut touched = 0;
    for _ in 0..12 {
        let child = program.command(&arguments).spawn().unwrap();
        killer.kill(child);
        touched += u32::from(crate::stage::contents(&read_all(&source).await) != crate::stage::contents(&before));
    }
    assert!(killer.killed > 5 && touched > 0, "{} killed, {touched} behind their first write", killer.killed);
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
