//! Who can open a repository, and who is believed.

use std::sync::Arc;

use firebackup_codec::secret::SecretKey;
use firebackup_codec::wrap::RecoveryKeyPair;
use firebackup_engine::{EngineError, Holder, ProvenOrigin, Repository, Secrets, Trust, verify};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::fixture::{Fixture, all_whole, backup, master};
use crate::race::turns;

#[tokio::test]
async fn every_holder_opens_old_and_new_backups_and_a_stranger_none() {
    let (fixture, repository) = Fixture::new(30).await;
    backup(&repository, &fixture.database).build().run().await.unwrap();
    let pair = RecoveryKeyPair::generate(&*fixture.world.random);
    repository.add_holder(&Holder::Master(SecretKey::from_bytes([8; 32]))).await.unwrap();
    repository.add_holder(&Holder::Passphrase("correct horse".to_owned())).await.unwrap();
    repository.add_holder(&Holder::Recovery(pair.public.clone())).await.unwrap();
    backup(&repository, &fixture.database).build().run().await.unwrap();
    let passphrase = |text: &str| Secrets { passphrase: Some(text.to_owned()), ..Secrets::default() };
    let recovery = Secrets { recovery: Some(pair.private.clone()), ..Secrets::default() };
    for secrets in [master(7), master(8), passphrase("correct horse"), recovery] {
        let opened = Repository::open(fixture.store.clone(), secrets, fixture.world.clone()).await.unwrap();
        assert_eq!(all_whole(&opened).await.len(), 2);
    }
    let other = RecoveryKeyPair::generate(&*fixture.world.random);
    for secrets in [
        master(9),
        passphrase("wrong"),
        Secrets { recovery: Some(other.private), ..Secrets::default() },
        Secrets::default(),
    ] {
        assert!(Repository::open(fixture.store.clone(), secrets, fixture.world.clone()).await.is_err());
    }
}

#[tokio::test]
async fn the_last_wrap_is_never_removed() {
    let (fixture, repository) = Fixture::new(10).await;
    let first = repository.holders().await.unwrap()[0].ids().wrap;
    assert!(matches!(repository.remove_holder(first).await, Err(EngineError::Refused(_))));
    let second = repository.add_holder(&Holder::Master(SecretKey::from_bytes([8; 32]))).await.unwrap();
    repository.remove_holder(first).await.unwrap();
    assert!(matches!(repository.remove_holder(second).await, Err(EngineError::Refused(_))));
    assert!(Repository::open(fixture.store.clone(), master(7), fixture.world.clone()).await.is_err());
    Repository::open(fixture.store.clone(), master(8), fixture.world.clone()).await.unwrap();
}

#[tokio::test]
async fn a_machine_with_only_the_public_key_writes_and_reads_nothing() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (fixture, _) = Fixture::new(30).await;
    let pair = RecoveryKeyPair::generate(&*fixture.world.random);
    let public = Secrets { recovery_public: Some(pair.public.clone()), ..Secrets::default() };
    let writer = Repository::init(store.clone(), public, fixture.world.clone()).await.unwrap();
    assert!(!writer.can_read());
    let manifest = backup(&writer, &fixture.database).build().run().await.unwrap().manifest;
    let again = Repository::open(
        store.clone(),
        Secrets { recovery_public: Some(pair.public.clone()), ..Secrets::default() },
        fixture.world.clone(),
    )
    .await
    .unwrap();
    assert!(again.manifest(&manifest.id).await.is_err());
    let reader =
        Repository::open(store, Secrets { recovery: Some(pair.private), ..Secrets::default() }, fixture.world.clone())
            .await
            .unwrap();
    let (_, origin) = reader.manifest(&manifest.id).await.unwrap();
    assert_eq!(origin, ProvenOrigin::NotProven, "a wrap to a public key proves nothing");
    verify(&reader, &manifest.id, &Arc::default()).await.unwrap();
}

/// Copies every object of one store over another's.
async fn plant(from: &dyn ObjectStore, to: &dyn ObjectStore, folders: &[&str]) {
    for folder in folders {
        let metas: Vec<_> = from.list(Some(&(*folder).into())).try_collect().await.unwrap();
        for meta in metas {
            let bytes = from.get(&meta.location).await.unwrap().bytes().await.unwrap();
            to.put(&meta.location, bytes.into()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_snapshot_forged_under_the_attackers_own_key_is_refused() {
    let (fixture, repository) = Fixture::new(10).await;
    let pair = RecoveryKeyPair::generate(&*fixture.world.random);
    repository.add_holder(&Holder::Recovery(pair.public.clone())).await.unwrap();
    let genuine = backup(&repository, &fixture.database).build().run().await.unwrap().manifest;
    // the attacker knows the repository id and the recovery public key, and writes to the bucket
    let config = fixture.read("firebackup.json").await;
    let forge: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    forge.put(&"firebackup.json".into(), config.into()).await.unwrap();
    let attacker = Secrets { recovery_public: Some(pair.public.clone()), ..Secrets::default() };
    let attacker = Repository::open(forge.clone(), attacker, fixture.world.clone()).await.unwrap();
    fixture.database.set("users/forged", 666);
    let forged = backup(&attacker, &fixture.database).build().run().await.unwrap().manifest;
    plant(&*forge, &*fixture.store, &["keys", "runs", "snapshots"]).await;
    // whoever holds a secret of his own cannot even open it
    assert!(repository.manifest(&forged.id).await.is_err());
    // the recovery key opens it: a pinned writer refuses it, without one it is said that nothing is proven
    let recovery = Secrets { recovery: Some(pair.private), ..Secrets::default() };
    let pinned = Secrets { pinned: repository.writer_key().into_iter().collect(), ..recovery.clone() };
    let reader = Repository::open(fixture.store.clone(), pinned, fixture.world.clone()).await.unwrap();
    assert!(matches!(reader.manifest(&forged.id).await, Err(EngineError::Refused(_))));
    assert!(matches!(reader.manifest(&genuine.id).await.unwrap().1, ProvenOrigin::Proven(_)));
    let trusting = Repository::open(fixture.store.clone(), recovery, fixture.world.clone()).await.unwrap();
    assert_eq!(trusting.trust(), &Trust::Anybody);
    assert_eq!(trusting.manifest(&forged.id).await.unwrap().1, ProvenOrigin::NotProven);
}

#[tokio::test]
async fn without_encryption_only_when_nobody_gave_a_key() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (fixture, _) = Fixture::new(10).await;
    let open = Repository::init(store.clone(), Secrets::default(), fixture.world.clone()).await.unwrap();
    let manifest = backup(&open, &fixture.database).build().run().await.unwrap().manifest;
    verify(&open, &manifest.id, &Arc::default()).await.unwrap();
    let error = Repository::open(store.clone(), master(7), fixture.world.clone()).await.unwrap_err();
    assert!(error.to_string().contains("--allow-unencrypted"), "{error}");
    let allowed = Secrets { allow_unencrypted: true, ..master(7) };
    let opened = Repository::open(store, allowed, fixture.world.clone()).await.unwrap();
    verify(&opened, &manifest.id, &Arc::default()).await.unwrap();
}

#[tokio::test]
async fn clear_objects_planted_in_an_encrypted_repository_are_refused() {
    let (fixture, repository) = Fixture::new(10).await;
    backup(&repository, &fixture.database).build().run().await.unwrap();
    // a whole snapshot in the clear, made with the repository's own id
    let clear: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut config = repository.config().clone();
    config.key = None;
    clear.put(&"firebackup.json".into(), serde_json::to_vec(&config).unwrap().into()).await.unwrap();
    let open = Repository::open(clear.clone(), Secrets::default(), fixture.world.clone()).await.unwrap();
    let planted = backup(&open, &fixture.database).build().run().await.unwrap().manifest;
    plant(&*clear, &*fixture.store, &["runs", "snapshots"]).await;
    let error = repository.manifest(&planted.id).await.unwrap_err();
    assert!(error.to_string().contains("not encrypted"), "{error}");
}

#[tokio::test]
async fn planted_plain_text_is_in_no_object() {
    let (fixture, repository) = Fixture::new(0).await;
    fixture.database.set("secretcollection/alice@example.com", 1);
    fixture.database.set("secretcollection/bob@example.com/nested/x", 2);
    let snapshot = backup(&repository, &fixture.database)
        .compression("none".parse().unwrap())
        .build()
        .run()
        .await
        .unwrap()
        .manifest
        .id;
    fixture.database.set("secretcollection/alice@example.com", 3);
    crate::fixture::restore(&repository, &snapshot, fixture.target(), firebackup_engine::RestoreOptions::default())
        .run()
        .await
        .unwrap();
    let needles: [&[u8]; 4] = [b"secretcollection", b"alice@example", b"nested", b"(default)"];
    for path in fixture.objects().await {
        let bytes = fixture.read(&path).await;
        for needle in needles {
            assert!(!bytes.windows(needle.len()).any(|window| window == needle), "`{path}` holds plain text");
        }
    }
}

#[tokio::test]
async fn two_removals_at_once_never_take_the_last_wrap() {
    let (mut put_back, mut was_last) = (0, 0);
    for head_start in 0..20 {
        let (fixture, repository) = Fixture::new(0).await;
        let first = repository.holders().await.unwrap()[0].ids().wrap;
        let second = repository.add_holder(&Holder::Master(SecretKey::from_bytes([8; 32]))).await.unwrap();
        let (one, two) = (fixture.open().await, fixture.open().await);
        let behind = async {
            turns(head_start).await;
            two.remove_holder(second).await
        };
        let (a, b) = tokio::join!(one.remove_holder(first), behind);
        assert!(!repository.holders().await.unwrap().is_empty(), "{head_start}");
        for refusal in [a, b].into_iter().filter_map(Result::err) {
            let EngineError::Refused(reason) = refusal else { panic!("{refusal:?}") };
            put_back += usize::from(reason.contains("was put back"));
            was_last += usize::from(reason.contains("this is the last wrap"));
        }
    }
    assert!(put_back > 0 && was_last > 0, "{put_back} were put back, {was_last} found to be the last");
}

#[tokio::test]
async fn a_resumed_job_must_be_of_the_database_that_is_read() {
    use firebackup_engine::Resume;
    use firebackup_engine::memory::MemoryDatabase;
    let (fixture, repository) = Fixture::new(20).await;
    let stopped = backup(&repository, &fixture.database).max_reads(Some(3)).build().run().await.unwrap_err();
    let EngineError::ReadBudget { job, .. } = stopped else { panic!("{stopped:?}") };
    let empty = MemoryDatabase::new(firebackup_model::DatabaseName::new("empty", "(default)"));
    let error = backup(&repository, &empty).resume(Resume::Job(job)).build().run().await.unwrap_err();
    assert!(matches!(error, EngineError::Refused(_)), "{error:?}");
    assert!(repository.snapshot_ids().await.unwrap().is_empty());
}
