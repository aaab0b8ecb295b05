//! Two hundred random histories, and as many more as somebody wants to wait for.
//!
//! `FIREBACKUP_HISTORIES` says how many, `FIREBACKUP_SEED` has a single one happen.

use std::ops::Range;
use std::time::Duration;

use futures::{StreamExt, stream};

use super::history::History;
use crate::stage::emulator;

const HISTORIES: u64 = 200;
const TESTS: u64 = 4;
/// As many as keep two cores busy: a history mostly waits.
const AT_ONCE: usize = 6;
const LIMIT: Duration = Duration::from_secs(120);

/// The number that a variable of the environment says, if it is set.
pub fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// The seeds of one of the tests.
fn seeds(part: u64) -> Range<u64> {
    if let Some(seed) = number("FIREBACKUP_SEED") {
        return if seed % TESTS == part { seed..seed + 1 } else { 0..0 };
    }
    let each = number("FIREBACKUP_HISTORIES").unwrap_or(HISTORIES).div_ceil(TESTS);
    part * each..(part + 1) * each
}

/// Each in a task of its own, so that one that fails fails alone; returns those that did.
async fn failing(host: &str, seeds: Range<u64>) -> Vec<u64> {
    let histories = stream::iter(seeds).map(|seed| {
        let host = host.to_owned();
        let history = tokio::spawn(async move { tokio::time::timeout(LIMIT, History::happen(&host, seed)).await });
        async move { (seed, matches!(history.await, Ok(Ok(())))) }
    });
    let ended = histories.buffer_unordered(AT_ONCE);
    ended.filter_map(|(seed, is_right)| async move { (!is_right).then_some(seed) }).collect().await
}

async fn all_are_right(part: u64) {
    let seeds = seeds(part);
    if seeds.is_empty() {
        return;
    }
    let emulator = emulator().await;
    let failing = failing(emulator.host(), seeds).await;
    assert!(failing.is_empty(), "not what the database was: the histories of FIREBACKUP_SEED = {failing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_moment_of_the_first_histories_is_what_the_database_was() {
    all_are_right(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_moment_of_the_second_histories_is_what_the_database_was() {
    all_are_right(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_moment_of_the_third_histories_is_what_the_database_was() {
    all_are_right(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_moment_of_the_last_histories_is_what_the_database_was() {
    all_are_right(3).await;
}
