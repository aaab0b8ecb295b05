//! Repositories whose key is under a master key that is asked for, not held.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use firebackup_codec::secret::SecretKey;
use firebackup_codec::wrap::{RecoveryKeyPair, Wrap, WrapIds, WrapKind, kms_context};
use firebackup_engine::{EngineError, Holder, ProvenOrigin, Repository, Secrets, ServiceKey, Trust};
use firebackup_model::id::WrapId;
use firebackup_model::port::{Clock, EncryptionContext, KeyBytes, KeyService, WrappedKey};
use firebackup_model::{ErrorKind, PortError};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::faults::{DyingStore, Fuse};
use crate::fixture::{Fixture, all_whole, backup, master};

const OURS: &str = "arn:aws:kms:eu-west-1:111122223333:key/ours";
const NEXT: &str = "arn:aws:kms:eu-west-1:111122223333:key/next";
const FOREIGN: &str = "arn:aws:kms:eu-west-1:444455556666:key/foreign";

/// Wraps by remembering: the wrapped bytes are a number.
#[derive(Default)]
struct FakeService {
    wrapped: Mutex<Vec<(String, EncryptionContext, KeyBytes)>>,
    /// The master keys that were asked to unwrap, in order.
    asked: Mutex<Vec<String>>,
    /// What a master key fails with.
    trouble: Mutex<BTreeMap<String, ErrorKind>>,
}

impl FakeService {
    fn fail(&self, master: &str, kind: ErrorKind) {
        self.trouble.lock().unwrap().insert(master.to_owned(), kind);
    }

    fn check(&self, master: &str) -> Result<(), PortError> {
        match self.trouble.lock().unwrap().get(master) {
            Some(kind) => Err(PortError::new(*kind, "ask for a key", "told to fail")),
            None => Ok(()),
        }
    }

    fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

#[async_trait]
impl KeyService for FakeService {
    async fn generate(&self, _: Option<&str>, _: &EncryptionContext) -> Result<(KeyBytes, WrappedKey), PortError> {
        Err(PortError::new(ErrorKind::Unimplemented, "make a key", "repositories make their own"))
    }

    async fn wrap(
        &self,
        master: Option<&str>,
        key: &KeyBytes,
        context: &EncryptionContext,
    ) -> Result<WrappedKey, PortError> {
        let master = master.unwrap_or(OURS).to_owned();
        self.check(&master)?;
        let mut wrapped = self.wrapped.lock().unwrap();
        wrapped.push((master.clone(), context.clone(), key.clone()));
        Ok(WrappedKey { master, bytes: (wrapped.len() as u64).to_le_bytes().to_vec() })
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &EncryptionContext) -> Result<KeyBytes, PortError> {
        self.asked.lock().unwrap().push(wrapped.master.clone());
        self.check(&wrapped.master)?;
        let number = wrapped.bytes.as_slice().try_into().map_or(0, u64::from_le_bytes);
        let keys = self.wrapped.lock().unwrap();
        let found = keys.get(usize::try_from(number).unwrap_or(0).wrapping_sub(1));
        let found = found.filter(|(master, bound, _)| *master == wrapped.master && bound == context);
        found
            .map(|(.., key)| key.clone())
            .ok_or_else(|| PortError::new(ErrorKind::PermissionDenied, "unwrap a key", "refused"))
    }

    async fn rewrap(
        &self,
        wrapped: &WrappedKey,
        master: Option<&str>,
        context: &EncryptionContext,
    ) -> Result<WrappedKey, PortError> {
        let key = self.unwrap(wrapped, context).await?;
        self.wrap(master, &key, context).await
    }
}

fn of_acme() -> EncryptionContext {
    [("organization", "acme"), ("project", "shop"), ("use", "repository")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn key_of(service: &Arc<FakeService>, masters: &[&str]) -> ServiceKey {
    ServiceKey {
        service: service.clone(),
        masters: masters.iter().map(|master| (*master).to_owned()).collect(),
        context: of_acme(),
    }
}

fn secrets(service: &Arc<FakeService>, masters: &[&str]) -> Secrets {
    Secrets { service: Some(key_of(service, masters)), ..Secrets::default() }
}

/// A repository that was made with our master key, with one backup.
struct Made {
    fixture: Fixture,
    store: Arc<dyn ObjectStore>,
    service: Arc<FakeService>,
    repository: Repository,
}

impl Made {
    async fn new() -> Self {
        let (fixture, _) = Fixture::new(30).await;
        let (store, service): (Arc<dyn ObjectStore>, _) = (Arc::new(InMemory::new()), Arc::new(FakeService::default()));
        let secrets = secrets(&service, &[OURS]);
        let repository = Repository::init(store.clone(), secrets, fixture.world.clone()).await.unwrap();
        backup(&repository, &fixture.database).build().run().await.unwrap();
        service.take_asked();
        Self { fixture, store, service, repository }
    }

    async fn open(&self, secrets: Secrets) -> firebackup_engine::Result<Repository> {
        Repository::open(self.store.clone(), secrets, self.fixture.world.clone()).await
    }

    /// Puts a wrap of the repository key as somebody who can write to the store, but has no key of it. It is found first.
    async fn plant(&self, master: &str, change: impl FnOnce(&mut EncryptionContext)) -> WrapId {
        let holders = self.repository.holders().await.unwrap();
        let wrap = WrapId([u8::try_from(holders.len()).unwrap() - 1; 16]);
        let ids = WrapIds { wrap, created: self.fixture.clock.now(), ..holders[0].ids() };
        let mut context = of_acme();
        context.extend(kms_context(&ids));
        change(&mut context);
        let planted = Wrap::from_kms(&ids, master.to_owned(), context, vec![0xff; 8]);
        let path = format!("keys/{}/{wrap}.json", ids.key);
        self.store.put(&path.into(), serde_json::to_vec(&planted).unwrap().into()).await.unwrap();
        wrap
    }
}

#[tokio::test]
async fn a_repository_is_opened_by_the_service_that_made_it() {
    let made = Made::new().await;
    let opened = made.open(secrets(&made.service, &[OURS])).await.unwrap();
    assert_eq!(all_whole(&opened).await.len(), 1);
    assert_eq!(made.service.take_asked(), [OURS], "once: data keys are under the repository's own");
    let holders = opened.holders().await.unwrap();
    let [holder] = &holders[..] else { panic!("{holders:?}") };
    assert_eq!((holder.kind(), holder.holder().as_deref()), (WrapKind::Kms, Some(OURS)));
    let (arn, context, _) = holder.kms().unwrap();
    let ids = holder.ids();
    let expected = [
        ("key", ids.key.to_string()),
        ("organization", "acme".to_owned()),
        ("project", "shop".to_owned()),
        ("repository", opened.id().to_string()),
        ("use", "repository".to_owned()),
        ("wrap", ids.wrap.to_string()),
    ];
    assert_eq!((arn, context), (OURS, &expected.map(|(name, value)| (name.to_owned(), value)).into()));
}

#[tokio::test]
async fn a_master_key_that_is_not_believed_is_not_even_asked() {
    let made = Made::new().await;
    let foreign = made.open(secrets(&made.service, &[FOREIGN])).await.err().unwrap();
    assert!(foreign.to_string().contains("none of the keys given"), "{foreign}");
    for (name, value) in [("organization", "rival"), ("project", "other"), ("use", "secrets"), ("more", "x")] {
        let mut key = key_of(&made.service, &[OURS]);
        key.context.insert(name.to_owned(), value.to_owned());
        let refused = made.open(Secrets { service: Some(key), ..Secrets::default() }).await.err().unwrap();
        assert!(refused.to_string().contains("none of the keys given"), "{name}: {refused}");
    }
    assert!(made.service.take_asked().is_empty());
}

#[tokio::test]
async fn what_a_stranger_puts_beside_a_good_wrap_is_passed_over() {
    let made = Made::new().await;
    // under a key of his own, under ours with bytes that are none, bound to another organization, and to another wrap
    made.plant(FOREIGN, |_| {}).await;
    made.plant(OURS, |_| {}).await;
    made.plant(OURS, |context| drop(context.insert("organization".to_owned(), "rival".to_owned()))).await;
    made.plant(OURS, |context| drop(context.insert("wrap".to_owned(), WrapId([9; 16]).to_string()))).await;
    assert_eq!(made.repository.holders().await.unwrap().len(), 5);
    let opened = made.open(secrets(&made.service, &[OURS])).await;
    assert_eq!(made.service.take_asked(), [OURS, OURS], "one that was refused, and the good one");
    assert_eq!(all_whole(&opened.unwrap()).await.len(), 1);
}

#[tokio::test]
async fn a_refusal_is_passed_over_and_an_outage_is_not() {
    let made = Made::new().await;
    made.repository.add_holder(&Holder::Service(key_of(&made.service, &[NEXT]))).await.unwrap();
    for broken in [OURS, NEXT] {
        for kind in [ErrorKind::PermissionDenied, ErrorKind::NotFound, ErrorKind::InvalidArgument] {
            made.service.trouble.lock().unwrap().clear();
            made.service.fail(broken, kind);
            made.open(secrets(&made.service, &[OURS, NEXT])).await.unwrap();
        }
    }
    for kind in [ErrorKind::Unavailable, ErrorKind::ResourceExhausted] {
        for master in [OURS, NEXT] {
            made.service.fail(master, kind);
        }
        made.service.take_asked();
        let error = made.open(secrets(&made.service, &[OURS, NEXT])).await.err().unwrap();
        assert!(error.may_pass() && error.port_kind() == Some(kind), "{error:?}");
        assert_eq!(made.service.take_asked().len(), 1, "the others would be as far away");
    }
    for master in [OURS, NEXT] {
        made.service.fail(master, ErrorKind::PermissionDenied);
    }
    let error = made.open(secrets(&made.service, &[OURS, NEXT])).await.err().unwrap();
    assert!(!error.may_pass() && error.port_kind() == Some(ErrorKind::PermissionDenied), "{error:?}");
}

#[tokio::test]
async fn a_service_becomes_a_holder_and_takes_the_place_of_a_master_key() {
    let (fixture, repository) = Fixture::new(30).await;
    backup(&repository, &fixture.database).build().run().await.unwrap();
    let service = Arc::new(FakeService::default());
    let first = repository.holders().await.unwrap()[0].ids().wrap;
    let added = repository.add_holder(&Holder::Service(key_of(&service, &[OURS]))).await.unwrap();
    repository.remove_holder(first).await.unwrap();
    assert!(matches!(repository.remove_holder(added).await, Err(EngineError::Refused(_))), "it is the last");
    let open = |secrets| Repository::open(fixture.store.clone(), secrets, fixture.world.clone());
    assert!(open(master(7)).await.is_err());
    let opened = open(secrets(&service, &[OURS])).await.unwrap();
    backup(&opened, &fixture.database).build().run().await.unwrap();
    assert_eq!(all_whole(&opened).await.len(), 2);
    service.fail(NEXT, ErrorKind::PermissionDenied);
    let before = opened.holders().await.unwrap();
    assert!(opened.add_holder(&Holder::Service(key_of(&service, &[NEXT]))).await.is_err());
    assert_eq!(opened.holders().await.unwrap(), before, "a master key that refuses leaves nothing behind");
}

#[tokio::test]
async fn an_origin_is_proven_only_under_a_master_key_that_was_named() {
    let made = Made::new().await;
    let id = made.repository.snapshot_ids().await.unwrap().remove(0);
    let named = made.open(secrets(&made.service, &[OURS])).await.unwrap();
    assert!(matches!(named.trust(), Trust::Only(_)));
    assert!(matches!(named.manifest(&id).await.unwrap().1, ProvenOrigin::Proven(_)));
    let any = made.open(secrets(&made.service, &[])).await.unwrap();
    assert_eq!(any.trust(), &Trust::Anybody);
    assert_eq!(any.manifest(&id).await.unwrap().1, ProvenOrigin::NotProven);
    let pinned = Secrets { pinned: named.writer_key().into_iter().collect(), ..secrets(&made.service, &[]) };
    let pinned = made.open(pinned).await.unwrap();
    assert!(matches!(pinned.manifest(&id).await.unwrap().1, ProvenOrigin::Proven(_)));
    // beside a master key that is held nothing of the service has to be believed
    let holder = Holder::Master(SecretKey::from_bytes([8; 32]));
    made.repository.add_holder(&holder).await.unwrap();
    assert!(matches!(made.open(master(8)).await.unwrap().trust(), Trust::Only(_)));
}

/// What an organization holds that has another master key by now, and a recovery key.
fn changed(service: &Arc<FakeService>, pair: &RecoveryKeyPair) -> Secrets {
    Secrets { recovery_public: Some(pair.public.clone()), ..secrets(service, &[NEXT, OURS]) }
}

async fn kinds(made: &Made) -> Vec<(WrapKind, String)> {
    let holders = made.repository.holders().await.unwrap();
    holders.iter().map(|holder| (holder.kind(), holder.holder().unwrap())).collect()
}

#[tokio::test]
async fn holders_that_are_missing_are_added_once_and_none_is_taken_away() {
    let made = Made::new().await;
    let pair = RecoveryKeyPair::generate(&*made.fixture.world.random);
    let now = changed(&made.service, &pair);
    // one that only looks as if the new master key had it
    made.plant(NEXT, |_| {}).await;
    let opened = made.open(now.clone()).await.unwrap();
    assert_eq!(opened.add_missing_holders(&now).await.unwrap(), 2);
    for _ in 0..2 {
        assert_eq!(opened.add_missing_holders(&now).await.unwrap(), 0);
    }
    let kinds = kinds(&made).await;
    assert_eq!(kinds.len(), 4, "{kinds:?}");
    assert!(kinds.contains(&(WrapKind::Recovery, pair.public.to_string())));
    let recovery = Secrets { recovery: Some(pair.private), ..Secrets::default() };
    for secrets in [secrets(&made.service, &[NEXT]), secrets(&made.service, &[OURS]), recovery] {
        assert_eq!(all_whole(&made.open(secrets).await.unwrap()).await.len(), 1);
    }
}

#[tokio::test]
async fn holders_are_added_however_often_it_is_killed_and_by_two_at_once() {
    for lost_answers in [false, true] {
        for operations in 0.. {
            let made = Made::new().await;
            let pair = RecoveryKeyPair::generate(&*made.fixture.world.random);
            let now = changed(&made.service, &pair);
            let fuse = Fuse::new(operations);
            let store = Arc::new(DyingStore::new(made.store.clone(), fuse.clone(), lost_answers));
            let killed = async {
                let opened = Repository::open(store, now.clone(), made.fixture.world.clone()).await?;
                opened.add_missing_holders(&now).await
            };
            let outcome = killed.await;
            let opened = made.open(now.clone()).await.unwrap();
            let (one, two) = tokio::join!(opened.add_missing_holders(&now), opened.add_missing_holders(&now));
            assert!(one.is_ok() && two.is_ok(), "{operations}");
            assert_eq!(opened.add_missing_holders(&now).await.unwrap(), 0);
            made.open(secrets(&made.service, &[NEXT])).await.unwrap();
            let recovery = Secrets { recovery: Some(pair.private), ..Secrets::default() };
            made.open(recovery).await.unwrap();
            if !fuse.blew() {
                assert_eq!(outcome.unwrap(), 2);
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_master_key_out_of_reach_adds_nothing() {
    let made = Made::new().await;
    let pair = RecoveryKeyPair::generate(&*made.fixture.world.random);
    let now = Secrets { recovery_public: None, ..changed(&made.service, &pair) };
    made.plant(NEXT, |_| {}).await;
    made.service.fail(NEXT, ErrorKind::Unavailable);
    let opened = made.repository.clone();
    let error = opened.add_missing_holders(&now).await.unwrap_err();
    assert!(error.may_pass(), "{error:?}");
    made.service.fail(NEXT, ErrorKind::PermissionDenied);
    assert!(!opened.add_missing_holders(&now).await.unwrap_err().may_pass());
    assert_eq!(kinds(&made).await.len(), 2);
}
