//! Writers that never pause: what they commit together is put back together, and a counter is exactly what it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firebackup_engine::{CaptureEvent, Contents, Moment, Moments};
use firebackup_model::Selection;
use firebackup_testkit::Method;
use firebackup_testkit::workload::{Balances, Transfers, sum};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::task::JoinHandle;
use tonic::Code;

use super::place::{Place, between, until_now};
use super::writer::{Changes, Writer, number};
use crate::stage::{Documents, emulator};

const WRITERS: usize = 3;
/// Each in a collection of its own.
const COUNTERS: usize = 5;
const LIMIT: Duration = Duration::from_secs(60);

/// All counters of a writer, in a transaction that has read the first.
async fn count(mut writer: Writer, name: usize, stop: Arc<AtomicBool>) -> i64 {
    let path = |counter: usize| format!("counters{counter}/writer{name}");
    let mut counted = 0;
    while !stop.load(Ordering::Relaxed) {
        counted += 1;
        let changes = (0..COUNTERS).fold(Changes::default(), |changes, counter| changes.put(path(counter), counted));
        writer.transact(&path(0), changes).await;
    }
    counted
}

struct Counting {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<i64>>,
}

impl Counting {
    fn begin(place: &Place) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let writers = (0..WRITERS).map(|name| tokio::spawn(count(place.writer(), name, Arc::clone(&stop)))).collect();
        Self { stop, writers }
    }

    async fn end(self) -> Vec<i64> {
        self.stop.store(true, Ordering::Relaxed);
        futures::future::try_join_all(self.writers).await.unwrap()
    }
}

/// Follows until so many segments were put, and is killed then.
async fn follow_and_die(place: &Place, segments: usize) {
    let capture = place.capture();
    let (told, mut events) = tokio::sync::mpsc::unbounded_channel();
    let task = tokio::spawn(async move { capture.follow(&mut |event| drop(told.send(event))).await });
    let sealed = async {
        let mut sealed = 0;
        while sealed < segments {
            let event = events.recv().await.expect("a capture that follows goes on");
            assert!(!matches!(event, CaptureEvent::Scanning(_)), "{event:?}");
            sealed += usize::from(matches!(event, CaptureEvent::Sealed(_)));
        }
    };
    tokio::time::timeout(LIMIT, sealed).await.expect("segments are put");
    task.abort();
}

/// The numbers of each writer's counters.
fn counters(documents: &Documents) -> BTreeMap<String, Vec<i64>> {
    let mut counters = BTreeMap::<String, Vec<i64>>::new();
    for (path, document) in documents.iter().filter(|(path, _)| path.as_str().starts_with("counters")) {
        counters.entry(path.id().to_owned()).or_default().push(number(document));
    }
    counters
}

fn assert_whole(documents: &Documents) {
    let counters = counters(documents);
    assert_eq!(counters.len(), WRITERS);
    for (writer, numbers) in counters {
        let is_whole = numbers.len() == COUNTERS && numbers.iter().all(|number| *number == numbers[0]);
        assert!(is_whole, "a transaction of {writer} is torn: {numbers:?}");
    }
}

async fn documents(place: &Place, moments: &Moments, moment: &Moment) -> Documents {
    let (everything, meter) = (Selection::default(), Arc::default());
    let mut stored = Contents::of_moment(&place.repository, moments, moment, &everything, &meter).unwrap();
    let mut documents = Documents::new();
    while let Some(item) = stored.next().await.unwrap() {
        documents.insert(item.path, item.document.unwrap());
    }
    documents
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_every_counter_is_what_it_was_at_the_point_named() {
    let emulator = emulator().await;
    let begin = (0..WRITERS).fold(Changes::default(), |changes, name| {
        (0..COUNTERS).fold(changes, |changes, counter| changes.put(format!("counters{counter}/writer{name}"), 0))
    });
    let place = Place::begun(emulator.host(), "boundary", begin).await;
    let counting = Counting::begin(&place);
    for round in 0..4 {
        place.proxy.control().set_coalescing(Duration::from_millis(round * 15));
        follow_and_die(&place, 5).await;
        place.proxy.control().cut_listens_after(3 + round, Code::Unavailable, 2);
    }
    let counted = counting.end().await;
    assert!(counted.iter().all(|counted| *counted > 20), "{counted:?}");
    until_now(&place.capture()).await;
    let moments = place.assert_all_right().await;
    let [window] = &moments.windows()[..] else { panic!("{:?}", moments.windows()) };
    assert!(window.moments > 20, "{window:?}");
    for point in moments.points() {
        assert_whole(&documents(&place, &moments, &moments.resolve(point, true).unwrap()).await);
    }
    let mut random = StdRng::seed_from_u64(1);
    for number in 0..4 {
        let moment = moments.resolve(between(&mut random, window.start, window.end), false).unwrap();
        place.assert_restores(&moment, &format!("boundary-{number}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_is_moved_while_changes_are_captured_is_all_there_at_every_moment() {
    const ACCOUNTS: usize = 60;
    const TOTAL: i64 = 100_000;
    let emulator = emulator().await;
    let place = Place::new(emulator.host(), "money", 0).await;
    let mut transfers = Transfers::start(&place.proxy.host(), &place.database, ACCOUNTS, TOTAL).await.unwrap();
    transfers.wait_for(5).await;
    place.backup().await;
    for round in 1..4 {
        place.proxy.control().fail_every(Method::RunAggregationQuery, 7, Code::Unavailable);
        follow_and_die(&place, 4).await;
        transfers.wait_for(20 * round).await;
    }
    transfers.stop().await.unwrap();
    until_now(&place.capture()).await;
    let moments = place.moments().await;
    assert_eq!(moments.windows().len(), 1);
    assert!(moments.points().count() > 12);
    for point in moments.points() {
        let documents = documents(&place, &moments, &moments.resolve(point, true).unwrap()).await;
        assert_eq!(sum(documents.values()).unwrap(), Balances { accounts: ACCOUNTS, total: TOTAL }, "at {point}");
    }
}
