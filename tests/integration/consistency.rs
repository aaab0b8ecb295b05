//! A backup is of one moment, whatever is written while it runs and however often its streams break.

use std::sync::Arc;
use std::time::Duration;

use firebackup_engine::{Backup, Contents, Meter, Repository};
use firebackup_google::Retrying;
use firebackup_google::sample::sample;
use firebackup_model::Selection;
use firebackup_model::id::SnapshotId;
use firebackup_model::manifest::Consistency;
use firebackup_testkit::workload::{Balances, Transfers, sum};
use firebackup_testkit::{Method, Proxy, ProxyOptions};

use crate::stage::{database, emulator, firestore, read_all, repository, write_all};

const ACCOUNTS: usize = 400;
const TOTAL: i64 = 1_000_000;

async fn balances(repository: &Repository, snapshot: &SnapshotId) -> Balances {
    let mut stored = Contents::of_snapshot(repository, snapshot, &Selection::default(), &Arc::default()).await.unwrap();
    let mut documents = Vec::new();
    while let Some(item) = stored.next().await.unwrap() {
        documents.extend(item.document);
    }
    sum(documents).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn money_is_never_seen_twice_while_transfers_go_on_and_streams_are_cut() {
    let emulator = emulator().await;
    let proxy = Proxy::start(emulator.host(), ProxyOptions::default()).await.unwrap();
    let direct = firestore(emulator.host(), &database()).await;
    write_all(&direct, sample(&database(), 1500, 1)).await;
    let mut transfers = Transfers::start(emulator.host(), &database(), ACCOUNTS, TOTAL).await.unwrap();
    transfers.wait_for(20).await;
    let source = firestore(&proxy.host(), &database()).await.with_split_threshold(100);
    let (_folder, repository) = repository().await;
    for round in 0..8u64 {
        // breaks inside the accounts, which sort first, and again and again behind them
        proxy.control().cut_streams_after(37 + round * 13, 6);
        if round % 2 == 1 {
            proxy.control().delay(Method::RunQuery, Duration::from_millis(20));
        }
        let before = transfers.transfers();
        let meter = Arc::new(Meter::default());
        let backup = Backup::builder(repository.clone(), Arc::new(Retrying::new(source.clone())));
        let manifest =
            backup.parallel(1 + round as usize % 3).meter(meter.clone()).build().run().await.unwrap().manifest;
        proxy.control().clear_faults();
        assert!(meter.retries.get() > 0, "no stream was cut in round {round}");
        assert_eq!((manifest.consistency, manifest.read_times.len()), (Consistency::Snapshot, 1));
        assert_eq!(manifest.reads, manifest.totals.documents);
        assert_eq!(
            balances(&repository, &manifest.id).await,
            Balances { accounts: ACCOUNTS, total: TOTAL },
            "round {round}"
        );
        transfers.wait_for(before + 1).await;
    }
    assert!(transfers.stop().await.unwrap() > 28);
    // the sum is no accident of the reader: what is there now has it too, and the check can fail
    let now: Vec<_> = read_all(&direct).await.into_values().collect();
    assert_eq!(sum(&now).unwrap().total, TOTAL);
    assert_ne!(sum(now.iter().skip(1)).unwrap(), sum(&now).unwrap());
}
