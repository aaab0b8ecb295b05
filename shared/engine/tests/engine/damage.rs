//! Damage to what unfinished jobs and old snapshots left: named, and never without a way forward.

use firebackup_engine::{
    EngineError, PrunePolicy, RestoreOptions, Resume, UnfinishedJob, prune, unfinished_jobs, unfinished_restores,
};
use firebackup_model::id::JobId;
use object_store::ObjectStoreExt;

use crate::fixture::{Fixture, all_whole, backup, contents, restore};

impl Fixture {
    /// Flips a bit in the middle of an object.
    pub async fn damage(&self, path: &str) {
        let mut bytes = self.read(path).await.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        self.store.put(&path.into(), bytes.into()).await.unwrap();
    }

    async fn objects_below(&self, folder: &str) -> Vec<String> {
        self.objects().await.into_iter().filter(|path| path.starts_with(folder)).collect()
    }
}

/// A backup that stopped on its way, with a plan and a receipt.
async fn unfinished_backup() -> (Fixture, firebackup_engine::Repository, JobId) {
    let (fixture, repository) = Fixture::new(60).await;
    let stopped = backup(&repository, &fixture.database).max_reads(Some(20)).build().run().await.unwrap_err();
    let EngineError::ReadBudget { job, .. } = stopped else { panic!("{stopped:?}") };
    (fixture, repository, job)
}

#[tokio::test]
async fn a_backup_whose_plan_or_receipt_is_damaged_is_passed_over_and_said_so() {
    for part in ["plan", "0/0"] {
        let (fixture, repository, job) = unfinished_backup().await;
        let object = format!("receipts/{job}/{part}");
        fixture.damage(&object).await;

        let asked = backup(&repository, &fixture.database).resume(Resume::Job(job.clone())).build().run().await;
        let text = asked.unwrap_err().in_full();
        assert!(text.contains("--fresh") && text.contains(&object), "{text}");

        let outcome = backup(&repository, &fixture.database).build().run().await.unwrap();
        assert!(!outcome.resumed);
        assert_eq!(outcome.manifest.totals.documents, 60);
        assert!(outcome.passed_over.iter().any(|text| text.contains(&object)), "{:?}", outcome.passed_over);
        assert_eq!(all_whole(&repository).await.len(), 1);
    }
}

#[tokio::test]
async fn jobs_lists_what_it_cannot_read() {
    let (fixture, repository, job) = unfinished_backup().await;
    fixture.damage(&format!("intents/{job}")).await;
    let jobs = unfinished_jobs(&repository).await.unwrap();
    assert!(matches!(&jobs[..], [UnfinishedJob::Backup(plan)] if plan.job == job), "the plan says enough: {jobs:?}");
    let plan = format!("receipts/{job}/plan");
    fixture.damage(&plan).await;
    let jobs = unfinished_jobs(&repository).await.unwrap();
    let [UnfinishedJob::Unreadable { job: unreadable, error }] = &jobs[..] else { panic!("{jobs:?}") };
    assert!(*unreadable == job && error.contains(&plan), "{error}");
}

#[tokio::test]
async fn a_damaged_job_stops_a_prune_with_a_way_forward() {
    for parts in [&["receipts/JOB/0/0"][..], &["receipts/JOB/plan", "intents/JOB"]] {
        let (fixture, repository, job) = unfinished_backup().await;
        for part in parts {
            fixture.damage(&part.replace("JOB", job.as_str())).await;
        }
        let before = fixture.objects().await;
        let text = prune(&repository, &PrunePolicy::default()).await.unwrap_err().in_full();
        assert!(text.contains("--exclusive") && text.contains(job.as_str()), "{text}");
        assert_eq!(fixture.objects().await, before);
        prune(&repository, &PrunePolicy { exclusive: true, ..PrunePolicy::default() }).await.unwrap();
        assert!(fixture.objects_below("receipts/").await.is_empty());
        assert!(fixture.objects_below("intents/").await.is_empty());
    }
}

#[tokio::test]
async fn a_damaged_intent_pins_what_its_plan_says() {
    let (fixture, repository, job) = unfinished_backup().await;
    fixture.damage(&format!("intents/{job}")).await;
    prune(&repository, &PrunePolicy::default()).await.unwrap();
    fixture.clock.pass_hours(11);
    prune(&repository, &PrunePolicy::default()).await.unwrap();
    let outcome = backup(&repository, &fixture.database).resume(Resume::Job(job)).build().run().await.unwrap();
    assert_eq!(outcome.manifest.totals.documents, 60);
    all_whole(&repository).await;
}

#[tokio::test]
async fn a_damaged_manifest_stops_a_prune_until_it_is_dropped_by_name() {
    let (fixture, repository) = Fixture::new(30).await;
    let one = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
    let two = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
    fixture.damage(&format!("snapshots/{}.manifest", one.id)).await;
    let exclusive = PrunePolicy { exclusive: true, ..PrunePolicy::default() };
    let text = prune(&repository, &exclusive).await.unwrap_err().in_full();
    assert!(text.contains(&format!("--drop {}", one.id)) && text.contains("is damaged"), "{text}");

    let drop_one = PrunePolicy { drop: vec![one.id.clone()], ..exclusive };
    let before = fixture.objects().await;
    let dry = prune(&repository, &PrunePolicy { dry_run: true, ..drop_one.clone() }).await.unwrap();
    assert_eq!((dry.dropped, fixture.objects().await), (vec![one.id.clone()], before));
    assert_eq!(prune(&repository, &drop_one).await.unwrap().dropped, std::slice::from_ref(&one.id));
    for run in one.all_runs() {
        assert!(!fixture.objects().await.iter().any(|path| path.contains(&run.id.to_string())));
    }
    assert_eq!(all_whole(&repository).await, [two]);
    let again = prune(&repository, &drop_one).await.unwrap_err();
    assert!(matches!(again, EngineError::NotFound(_)), "{again:?}");
}

#[tokio::test]
async fn what_a_restore_needs_is_not_dropped_by_name() {
    let (fixture, repository) = Fixture::new(60).await;
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    let job = restore(&repository, &snapshot, fixture.target(), RestoreOptions::default());
    job.stop.request();
    job.run().await.unwrap_err();
    let policy = PrunePolicy { drop: vec![snapshot], exclusive: true, ..PrunePolicy::default() };
    assert!(matches!(prune(&repository, &policy).await.unwrap_err(), EngineError::Refused(_)));
    assert_eq!(all_whole(&repository).await.len(), 1);
}

#[tokio::test]
async fn a_damaged_wrap_is_named_and_not_blamed_on_a_recovery_key() {
    let (fixture, _) = Fixture::new(30).await;
    let repository = fixture.open().await;
    let manifest = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
    let key = manifest.key.unwrap();
    let wrap = fixture.objects_below(&format!("keys/{key}/")).await.remove(0);
    let json = String::from_utf8(fixture.read(&wrap).await.to_vec()).unwrap();

    // still JSON, but other bytes
    let (before, wrapped) = json.split_once("\"wrapped\": \"").unwrap();
    let flipped = if wrapped.starts_with('A') { "B" } else { "A" };
    let other = format!("{before}\"wrapped\": \"{flipped}{}", &wrapped[1..]);
    for damaged in [other, json[..json.len() / 2].to_owned(), String::new()] {
        fixture.store.put(&wrap.as_str().into(), damaged.into()).await.unwrap();
        let fresh = fixture.open().await;
        let text = fresh.manifest(&manifest.id).await.unwrap_err().in_full();
        assert!(text.contains(&wrap), "{text}");
        let text = prune(&fresh, &PrunePolicy::default()).await.unwrap_err().in_full();
        assert!(text.contains(&wrap) && text.contains("--drop") && !text.contains("recovery"), "{text}");
    }
    fixture.store.delete(&wrap.as_str().into()).await.unwrap();
    let text = fixture.open().await.manifest(&manifest.id).await.unwrap_err().in_full();
    assert!(text.contains(&key.to_string()) && text.contains("gone"), "{text}");
}

#[tokio::test]
async fn a_damaged_wrap_of_the_repository_key_is_named() {
    let (fixture, repository) = Fixture::new(3).await;
    let root = repository.config().key.unwrap();
    let wrap = fixture.objects_below(&format!("keys/{root}/")).await.remove(0);
    fixture.store.put(&wrap.as_str().into(), "{".into()).await.unwrap();
    let text = fixture.open_on(fixture.store.clone()).await.unwrap_err().in_full();
    assert!(text.contains(&wrap), "{text}");
}

#[tokio::test]
async fn a_restore_whose_undo_is_damaged_can_be_begun_anew() {
    let (fixture, repository) = Fixture::new(90).await;
    let wanted = contents(&fixture.database);
    let snapshot = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    for n in 0..20 {
        fixture.database.set(&format!("users/u{:05}", n * 4), -n);
    }
    let fuse = crate::faults::Fuse::new(40);
    let dying = crate::faults::DyingStore::new(fixture.store.clone(), fuse, false);
    let dying = fixture.open_on(std::sync::Arc::new(dying)).await.unwrap();
    restore(&dying, &snapshot, fixture.target(), RestoreOptions::default()).run().await.unwrap_err();
    let job = unfinished_restores(&repository).await.unwrap().remove(0).job;
    let receipt = fixture.objects_below(&format!("receipts/{job}/undo/")).await.remove(0);
    fixture.damage(&receipt).await;

    let again = restore(&repository, &snapshot, fixture.target(), RestoreOptions::default()).run().await;
    let text = again.unwrap_err().in_full();
    assert!(text.contains("--fresh") && text.contains(&receipt), "{text}");
    let options = RestoreOptions { fresh: true, ..RestoreOptions::default() };
    let report = restore(&repository, &snapshot, fixture.target(), options).run().await.unwrap();
    assert!(!report.resumed && report.job != job);
    assert_eq!(contents(&fixture.database), wanted);

    // what the damaged one leaves does not stand in a prune's way for ever
    let text = prune(&repository, &PrunePolicy::default()).await.unwrap_err().in_full();
    assert!(text.contains("--keep-undo-days 0"), "{text}");
    let policy = PrunePolicy { keep_undo_days: 0, exclusive: true, ..PrunePolicy::default() };
    prune(&repository, &policy).await.unwrap();
    assert!(fixture.objects_below("receipts/").await.is_empty());
}

#[tokio::test]
async fn a_lost_firebackup_json_is_written_anew_from_a_wrap() {
    let (fixture, repository) = Fixture::new(30).await;
    let manifest = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
    let path = || object_store::path::Path::from("firebackup.json");
    fixture.store.put(&path(), "{".into()).await.unwrap();
    let text = fixture.open_on(fixture.store.clone()).await.unwrap_err().in_full();
    assert!(text.contains("docs/format.md") && text.contains("firebackup.json"), "{text}");

    let mut found = Vec::new();
    for wrap in fixture.objects_below("keys/").await {
        let json: serde_json::Value = serde_json::from_slice(&fixture.read(&wrap).await).unwrap();
        if json["kind"] == "local" {
            found.push(json);
        }
    }
    let [wrap] = &found[..] else { panic!("{found:?}") };
    let config = serde_json::json!({
        "format": 1, "repository": wrap["repository"], "key": wrap["key"], "created": wrap["created"],
    });
    fixture.store.put(&path(), config.to_string().into()).await.unwrap();
    assert_eq!(all_whole(&fixture.open().await).await, [manifest]);
}

#[tokio::test]
async fn a_damaged_mark_of_a_prune_marks_nothing_and_goes() {
    let (fixture, repository) = Fixture::new(30).await;
    for _ in 0..3 {
        backup(&repository, &fixture.database).build().run().await.unwrap();
    }
    let policy = PrunePolicy { keep_last: Some(1), ..PrunePolicy::default() };
    let first = prune(&repository, &policy).await.unwrap();
    let mark = fixture.objects_below("prunes/").await.remove(0);
    fixture.damage(&mark).await;
    fixture.clock.pass_hours(25);
    let again = prune(&repository, &policy).await.unwrap();
    assert_eq!((again.deleted, again.marked), (0, first.marked), "what it marked is marked anew");
    assert!(!fixture.objects().await.contains(&mark));
    fixture.clock.pass_hours(25);
    assert_eq!(prune(&repository, &policy).await.unwrap().deleted, first.marked);

    // where nothing needs to be waited for, no mark is needed any more
    backup(&repository, &fixture.database).build().run().await.unwrap();
    prune(&repository, &policy).await.unwrap();
    prune(&repository, &PrunePolicy { exclusive: true, ..policy }).await.unwrap();
    assert!(fixture.objects_below("prunes/").await.is_empty());
}

#[tokio::test]
async fn what_is_no_snapshots_name_stops_a_prune() {
    let (fixture, repository) = Fixture::new(30).await;
    let id = backup(&repository, &fixture.database).build().run().await.unwrap().manifest.id;
    let (from, to) = (format!("snapshots/{id}.manifest"), format!("snapshots/{}.manifest", id.as_str().to_lowercase()));
    fixture.store.rename(&from.as_str().into(), &to.as_str().into()).await.unwrap();
    let before = fixture.objects().await;
    let text = prune(&repository, &PrunePolicy { exclusive: true, ..PrunePolicy::default() }).await.unwrap_err();
    assert!(text.to_string().contains(&to), "{text}");
    assert_eq!(fixture.objects().await, before);
    assert_eq!(repository.strangers().await.unwrap(), std::slice::from_ref(&to));
    fixture.store.rename(&to.as_str().into(), &from.as_str().into()).await.unwrap();
    prune(&repository, &PrunePolicy { exclusive: true, ..PrunePolicy::default() }).await.unwrap();
    all_whole(&repository).await;
}

#[tokio::test]
async fn a_dropped_backup_whose_job_was_not_cleared_away_does_not_come_back() {
    let (fixture, repository) = Fixture::new(40).await;
    let mut dropped = 0;
    for operations in 30..80 {
        let dying = crate::faults::DyingStore::new(fixture.store.clone(), crate::faults::Fuse::new(operations), false);
        let Ok(dying) = fixture.open_on(std::sync::Arc::new(dying)).await else { continue };
        let _ = backup(&dying, &fixture.database).resume(Resume::Never).build().run().await;
        for id in repository.snapshot_ids().await.unwrap() {
            let policy = PrunePolicy { drop: vec![id], ..PrunePolicy::default() };
            dropped += prune(&repository, &policy).await.unwrap().dropped.len();
        }
    }
    assert!(dropped > 3, "only {dropped} were committed and then dropped");
    let outcome = backup(&repository, &fixture.database).resume(Resume::Never).build().run().await.unwrap();
    assert_eq!(repository.snapshot_ids().await.unwrap(), [outcome.manifest.id]);
}
