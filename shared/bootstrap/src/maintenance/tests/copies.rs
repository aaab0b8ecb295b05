//! Single objects, and what stores do to those who copy them.

use std::sync::Arc;

use firebackup_engine::{Copied, FoundObject, copy_object, found_below};
use firebackup_testkit::faulty_store::{Fault, FaultyStore, Operation};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

/// The size of a part.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// More than two parts.
const LARGE: usize = 2 * PART_BYTES + 5;
const NAME: &str = "runs/ab/a.run";

struct Two {
    from: FaultyStore,
    to: FaultyStore,
    object: FoundObject,
}

impl Two {
    async fn new(size: usize) -> Self {
        let [from, to] = [(); 2].map(|()| FaultyStore::new(Arc::new(InMemory::new())));
        from.put(&Path::from(NAME), bytes(size).into()).await.unwrap();
        let object = found_below(&from, "runs").await.unwrap().remove(0);
        from.reset();
        Self { from, to, object }
    }

    async fn copy(&self) -> firebackup_engine::Result<Copied> {
        let there = found_below(&self.to, "runs").await?.first().map(|found| found.size);
        copy_object(&store(&self.from), &store(&self.to), &self.object, there).await
    }

    async fn is_copied(&self) -> bool {
        self.to.heal();
        let there = self.to.get(&self.object.path).await;
        there.is_ok() && there.unwrap().bytes().await.unwrap() == bytes(self.object.size as usize)
    }
}

fn store(of: &FaultyStore) -> Arc<dyn ObjectStore> {
    Arc::new(of.clone())
}

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8).collect()
}

#[tokio::test]
async fn an_object_of_any_size_is_put_once_and_compared_after_that() {
    for size in [0, 5, PART_BYTES, PART_BYTES + 1, LARGE] {
        let two = Two::new(size).await;
        assert_eq!(two.copy().await.unwrap(), Copied::Put, "{size}");
        assert!(two.is_copied().await, "{size}");
        let written = two.to.bytes_written();
        assert_eq!(two.copy().await.unwrap(), Copied::There, "{size}");
        assert_eq!((two.to.bytes_written(), written), (size as u64, size as u64));
    }
    let large = Two::new(LARGE).await;
    large.copy().await.unwrap();
    assert_eq!(large.to.tally(Operation::PutPart).operations, 3, "in parts, none of which is the whole");
    assert_eq!(large.to.tally(Operation::Put).operations, 0);
}

#[tokio::test]
async fn what_is_there_under_the_name_is_compared_and_never_replaced() {
    let two = Two::new(5).await;
    for other in ["other", "longer than that"] {
        two.to.delete(&two.object.path).await.ok();
        two.to.put(&two.object.path, other.into()).await.unwrap();
        let error = two.copy().await.unwrap_err();
        assert!(error.to_string().contains(NAME) && !error.may_pass(), "{error}");
        assert_eq!(two.to.get(&two.object.path).await.unwrap().bytes().await.unwrap(), other);
    }
    // and what somebody else puts between the look and the put
    let error = copy_object(&store(&two.from), &store(&two.to), &two.object, None).await.unwrap_err();
    assert!(error.to_string().contains(NAME), "{error}");
    assert!(!two.is_copied().await);
}

#[tokio::test]
async fn a_store_that_lies_is_found_out() {
    for at in [0, 3, PART_BYTES as u64 - 1] {
        let two = Two::new(LARGE).await;
        two.to.fail(Operation::Get, 2, Fault::Flipped { at });
        let error = two.copy().await.unwrap_err();
        assert!(error.to_string().contains("is not what it is in the source"), "{error}");
    }
    for of in ["from", "to"] {
        let two = Two::new(LARGE).await;
        let lying = if of == "from" { &two.from } else { &two.to };
        lying.fail(Operation::Get, 2, Fault::Truncated { keep: 9 });
        let error = two.copy().await.unwrap_err();
        assert!(error.may_pass(), "a short answer is asked for again: {error}");
        assert!(two.copy().await.is_ok() && two.is_copied().await, "{of}");
    }
}

#[tokio::test]
async fn whatever_operation_it_dies_at_the_next_try_brings_it_to_its_end() {
    for size in [5, LARGE] {
        let whole = Two::new(size).await;
        whole.copy().await.unwrap();
        for operations in 0..whole.to.operations() {
            let two = Two::new(size).await;
            two.to.crash_after(operations);
            assert!(two.copy().await.is_err(), "{size} {operations}");
            two.to.heal();
            two.copy().await.unwrap();
            assert!(two.is_copied().await, "{size} {operations}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_and_a_name_that_is_taken_are_told_apart_by_the_bytes() {
    for (size, operation) in [(5, Operation::Put), (LARGE, Operation::Complete)] {
        let two = Two::new(size).await;
        two.to.fail(operation, 1, Fault::LostAcknowledgement);
        let _ = two.copy().await;
        two.copy().await.unwrap();
        assert!(two.is_copied().await, "{size}");
    }
    let two = Two::new(5).await;
    two.to.fail_from(Operation::Put, 1, Fault::Conflict);
    assert!(two.copy().await.is_err(), "refused, and nothing is there");
    assert!(two.copy().await.is_err());
}

#[tokio::test]
async fn what_is_gone_from_the_source_is_no_failure_and_an_outage_may_pass() {
    let two = Two::new(LARGE).await;
    two.from.fail(Operation::Get, 1, Fault::Unavailable);
    assert!(two.copy().await.unwrap_err().may_pass());
    two.from.delete(&two.object.path).await.unwrap();
    assert_eq!(two.copy().await.unwrap(), Copied::Gone);
    assert!(found_below(&two.to, "runs").await.unwrap().is_empty());
}
