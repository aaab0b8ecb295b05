//! Random histories whose events are shuffled, doubled, late, lost and made up, against a model that knows nothing of segments.

use bytes::Bytes;
use firebackup_engine::{Origin, as_reported};
use firebackup_model::document::{CREATE_TIME_FIELD, NAME_FIELD, UPDATE_TIME_FIELD};
use firebackup_model::reported::{ReportedChange, ReportedEvent};
use firebackup_model::wire::{put_bytes_field, put_varint};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::capture::{all_moments_are_right, back_up, compaction, held_at, moments};
use crate::fixture::{Fixture, backup};

const PATHS: [&str; 4] = ["users/u00000", "users/new", "fresh/1", "users/u00004/orders/1"];

/// How a document is from a time on, as the model has it.
#[derive(Debug, Clone, PartialEq)]
struct State {
    began: Timestamp,
    document: Option<Bytes>,
    is_reported: bool,
    point: Timestamp,
}

fn updated(document: &Option<Bytes>) -> Option<Timestamp> {
    document.as_ref().map(|document| document::head(document).unwrap().update_time.unwrap())
}

/// A version that never was.
fn made_up(random: &mut StdRng, database: &MemoryDatabase, path: &str, time: Timestamp) -> ReportedEvent {
    let stamp = |moment: Timestamp| {
        let mut time = Vec::new();
        put_varint(&mut time, 1 << 3);
        put_varint(&mut time, moment.seconds as u64);
        put_varint(&mut time, 2 << 3);
        put_varint(&mut time, u64::from(moment.nanos));
        time
    };
    let mut document = Vec::new();
    put_bytes_field(&mut document, NAME_FIELD, name(database).document_name(path).as_bytes());
    put_bytes_field(&mut document, CREATE_TIME_FIELD, &stamp(time));
    put_bytes_field(&mut document, UPDATE_TIME_FIELD, &stamp(time));
    let change = match random.random_range(0..3u32) {
        0 => ReportedChange::Gone,
        _ => ReportedChange::Put(reported(document.into())),
    };
    let id = format!("made up {path} {time}");
    ReportedEvent { id, time, change, ..bare(&event_of(database, path, None)) }
}

/// All versions that events tell of, by time; of two at one time a document rather than that it is gone.
fn told_of(events: &[ReportedEvent], path: &str) -> BTreeMap<Timestamp, Option<Bytes>> {
    let mut told: BTreeMap<Timestamp, Option<Bytes>> = BTreeMap::new();
    let mut tell = |time, document: Option<Bytes>| {
        let there = told.entry(time).or_default();
        *there = there.take().max(document);
    };
    for event in events.iter().filter(|event| event.path.as_str() == path) {
        match &event.change {
            ReportedChange::Put(put) => tell(put.update_time, Some(put.document.clone())),
            ReportedChange::Gone => tell(event.time, None),
        }
        if let Some(before) = &event.before {
            tell(before.update_time, Some(before.document.clone()));
        }
    }
    told
}

/// What the history of a document should be: known states at all points, and between two of them what was told.
fn expected(known: &[(Timestamp, Option<Bytes>)], told: &BTreeMap<Timestamp, Option<Bytes>>) -> Vec<State> {
    let is_known = |document: &Option<Bytes>| {
        document.is_some() && known.iter().any(|(_, state)| updated(state) == updated(document))
    };
    let mut states: Vec<State> = Vec::new();
    let mut told: Vec<_> = told.iter().filter(|(_, document)| !is_known(document)).collect();
    told.reverse();
    let ends = known.iter().map(|(point, state)| (*point, Some(state))).chain([(Timestamp::new(i64::MAX, 0), None)]);
    for (point, known_state) in ends {
        while let Some((time, document)) = told.pop_if(|(time, _)| **time <= point) {
            let current = states.last().map(|state| &state.document);
            // of a document of which nothing was ever known, that it was deleted is news
            let is_news = document.is_some()
                || match current {
                    Some(current) => current.is_some(),
                    None => !was_absent(known, *time),
                };
            if *time < point && is_news {
                states.push(State { began: *time, document: document.clone(), is_reported: true, point: *time });
            }
        }
        let Some(known_state) = known_state else { break };
        match states.last_mut() {
            Some(last) if updated(&last.document) == updated(known_state) => {
                if last.is_reported {
                    (last.is_reported, last.point) = (false, point);
                }
            }
            None if known_state.is_none() => {}
            _ => {
                let began = updated(known_state).unwrap_or(point);
                let follows = states.last().is_none_or(|last| last.began < began);
                let began = if follows { began } else { point };
                states.push(State { began, document: known_state.clone(), is_reported: false, point });
            }
        }
    }
    states
}

/// Whether nothing but its absence was known of the document before a time.
fn was_absent(known: &[(Timestamp, Option<Bytes>)], time: Timestamp) -> bool {
    let before: Vec<_> = known.iter().filter(|(point, _)| *point < time).collect();
    !before.is_empty() && before.iter().all(|(_, state)| state.is_none())
}

/// Has a random history happen; returns its events.
async fn happen(random: &mut StdRng, fixture: &Fixture, repository: &Repository) -> Vec<ReportedEvent> {
    let database = &fixture.database;
    let mut events = Vec::new();
    for _ in 0..random.random_range(2..9u32) {
        for _ in 0..random.random_range(0..7u32) {
            let path = PATHS[random.random_range(0..PATHS.len())];
            events.push(match random.random_range(0..3u32) {
                0 => remove(database, path),
                _ => set(database, path, random.random_range(0..1000)),
            });
        }
        let is_terse = random.random_range(0..2u32) == 0;
        let resets = u32::from(random.random_range(0..8u32) == 0);
        database.listen_faults(|faults| (faults.is_terse, faults.resets) = (is_terse, resets));
        database.pass_seconds(random.random_range(0..50));
        match random.random_range(0..6u32) {
            0 => drop(backup(repository, database).build().run().await.unwrap()),
            1 => drop(back_up(repository, fixture).await.unwrap()),
            _ => drop(until_now(&capture(repository, database)).await),
        }
    }
    events
}

/// Loses, doubles and makes up events, and folds them in batches of any size and order.
async fn post(
    random: &mut StdRng,
    fixture: &Fixture,
    repository: &Repository,
    mut events: Vec<ReportedEvent>,
) -> Vec<ReportedEvent> {
    let database = &fixture.database;
    events.retain(|_| random.random_range(0..4u32) > 0);
    for event in &mut events {
        if random.random_range(0..2u32) == 0 {
            event.before = None;
        }
    }
    let start = Timestamp::new(1_700_000_000, 0);
    let span = database.now().seconds_since(start) as i64;
    for _ in 0..random.random_range(0..4u32) {
        let nanos = random.random_range(0..1_000_000_000);
        let time = Timestamp::new(start.seconds + random.random_range(0..=span), nanos);
        let path = PATHS[random.random_range(0..PATHS.len())];
        events.push(made_up(random, database, path, time));
    }
    let doubled: Vec<_> = events.iter().filter(|_| random.random_range(0..3u32) == 0).cloned().collect();
    let mut posted: Vec<_> = events.iter().cloned().chain(doubled).collect();
    posted.shuffle(random);
    while !posted.is_empty() {
        let batch: Vec<_> = posted.drain(..random.random_range(1..=posted.len())).collect();
        folded(repository, &batch).await;
        if random.random_range(0..3u32) == 0 {
            assert!(folded(repository, &batch).await.was_there);
        }
    }
    events
}

/// Proven points, and the read times of backups: all of them are of everything, at one time.
async fn known_points(repository: &Repository, database: &MemoryDatabase) -> BTreeSet<Timestamp> {
    let mut points: BTreeSet<Timestamp> = moments(repository, database).await.points().collect();
    for id in repository.snapshot_ids().await.unwrap() {
        points.extend(repository.manifest(&id).await.unwrap().0.read_time());
    }
    points
}

async fn agrees(
    random: &mut StdRng,
    repository: &Repository,
    database: &MemoryDatabase,
    path: &str,
    events: &[ReportedEvent],
    seed: u64,
) {
    let document_path = DocumentPath::new(path).unwrap();
    let at = |point| (point, database.documents_at(point).remove(&document_path));
    let known: Vec<_> = known_points(repository, database).await.into_iter().map(at).collect();
    let expected = expected(&known, &told_of(events, path));
    let found = versions(repository, database, path).await;
    let states: Vec<State> = found
        .iter()
        .map(|version| State {
            began: version.time(),
            document: version.document.clone(),
            is_reported: version.origin == Origin::Reported,
            point: version.point,
        })
        .collect();
    let brief = |states: &[State]| -> Vec<_> {
        states.iter().map(|s| (s.began, updated(&s.document), s.is_reported, s.point)).collect()
    };
    assert_eq!(
        brief(&states),
        brief(&expected),
        "seed {seed}, {path}, known {:?}",
        known.iter().map(|(p, d)| (*p, updated(d))).collect::<Vec<_>>()
    );
    assert_eq!(states, expected, "seed {seed}");
    let gaps = moments(repository, database).await.gaps();
    for _ in 0..4 {
        let began = known[0].0.seconds - 5;
        let seconds = random.random_range(began..=database.now().seconds + 1);
        let at = Timestamp::new(seconds, random.random_range(0..1_000_000_000));
        let in_a_gap = gaps.iter().any(|gap| gap.after < at && at < gap.until);
        let in_force = expected.iter().rfind(|state| state.began <= at);
        let found = as_reported(repository, &name(database), &document_path, at, &Arc::default()).await;
        // one that a backup before did not hold was gone, or never there
        let found = found.ok().and_then(|version| version.document);
        let is_refused = found.is_none() && in_a_gap && in_force.is_some_and(|state| !state.is_reported);
        let expected = in_force.and_then(|state| state.document.clone());
        // through a gap that a scan has left nothing is taken to last but what an event told of it
        assert!(is_refused || found == expected, "seed {seed}, {path} at {at}: {found:?} and not {expected:?}");
    }
}

async fn holds(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let (fixture, repository, _) = begun(8).await;
    let database = &fixture.database;
    let events = happen(&mut random, &fixture, &repository).await;
    let all = moments(&repository, database).await;
    let mut before = BTreeMap::new();
    for point in all.points() {
        before.insert(point, held_at(&repository, &all, point).await);
    }
    let events = post(&mut random, &fixture, &repository, events).await;
    for path in PATHS {
        agrees(&mut random, &repository, database, path, &events, seed).await;
    }
    fixture.clock.pass_hours(49);
    compaction(&repository, &fixture).run().await.unwrap();
    for path in PATHS {
        agrees(&mut random, &repository, database, path, &events, seed).await;
    }
    // what a restore of everything reads is what it was, byte for byte
    let all = moments(&repository, database).await;
    for point in all.points() {
        assert_eq!(held_at(&repository, &all, point).await, before[&point], "seed {seed} at {point}");
    }
    all_moments_are_right(&repository, database).await;
}

#[tokio::test]
async fn whatever_becomes_of_events_a_history_tells_what_points_know_and_what_lies_between() {
    let first = std::env::var("FIREBACKUP_SEED").ok().and_then(|seed| seed.parse().ok());
    let number = std::env::var("FIREBACKUP_HISTORIES").ok().and_then(|number| number.parse().ok()).unwrap_or(60);
    let seeds = first.map_or(0..number, |seed: u64| seed..seed + 1);
    for seed in seeds {
        holds(seed).await;
    }
}
