//! Death at every operation of a capture, with answers that come and that do not.

use std::sync::Arc;

use super::{all_moments_are_right, begun, capture, held_at, moments, until_now};
use crate::faults::{DyingStore, Fuse};
use crate::fixture::backup;

/// How a capture goes on that is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Listens,
    Scans,
    BeginsAnew,
}

async fn killed_at_any_operation(way: Way) {
    for lost_answers in [false, true] {
        for operations in 1.. {
            let (fixture, repository, _) = begun(24).await;
            let database = &fixture.database;
            database.set("users/u00000", 1);
            until_now(&capture(&repository, database)).await;
            database.set("users/u00000", 2);
            database.remove("users/u00004");
            database.set("new/one", 1);
            if way == Way::BeginsAnew {
                backup(&repository, database).build().run().await.unwrap();
                database.set("users/u00004", 2);
            }
            database.listen_faults(|faults| faults.resets = u32::from(way != Way::Listens));
            let fuse = Fuse::new(operations);
            let store = Arc::new(DyingStore::new(fixture.store.clone(), fuse.clone(), lost_answers));
            let lived = match fixture.open_on(store).await {
                Ok(dying) => capture(&dying, database).until_now(&mut |_| {}).await.is_ok(),
                Err(_) => false,
            };
            assert!(lived || fuse.blew());
            all_moments_are_right(&fixture.open().await, database).await;
            database.set("users/u00000", 3);
            let changed = database.now();
            until_now(&capture(&fixture.open().await, database)).await;
            let repository = fixture.open().await;
            let windows = all_moments_are_right(&repository, database).await;
            // whoever was killed while it listened is gone on with from where it was: only the other ways leave a gap, and one
            assert!(
                windows.len() == 1 || way != Way::Listens && windows.len() == 2,
                "killed at {operations}: {windows:?}"
            );
            let moments = moments(&repository, database).await;
            let last = moments.points().last().unwrap();
            assert!(last >= changed, "killed at {operations}: {last} is the last moment, {changed} the last change");
            let held = held_at(&repository, &moments, last).await;
            assert!(held == database.documents(), "killed at {operations}: {last} is not what the database is");
            if lived {
                assert!(operations > 8, "a capture takes more operations than {operations}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_capture_killed_at_any_operation_is_gone_on_with() {
    killed_at_any_operation(Way::Listens).await;
}

#[tokio::test]
async fn a_scan_killed_at_any_operation_is_gone_on_with() {
    killed_at_any_operation(Way::Scans).await;
}

#[tokio::test]
async fn a_chain_that_begins_anew_and_is_killed_at_any_operation_is_gone_on_with() {
    killed_at_any_operation(Way::BeginsAnew).await;
}
