//! What the product relies on in what wraps its keys, as one suite that every adapter passes.

use firebackup_model::ErrorKind;
use firebackup_model::PortError;
use firebackup_model::port::{EncryptionContext, KeyBytes, KeyService, WrappedKey};

/// Runs the suite. `other` names a master key that is not the service's own, and that it may use.
///
/// # Panics
/// When the service does not do what the product relies on.
pub async fn conforms(service: &dyn KeyService, other: &str) {
    run(service, other, true).await;
}

/// Runs the suite without what only a cipher that authenticates can refuse, for an adapter whose server is a stand-in:
/// ministack's KMS opens what is damaged, opens it with another master key to something else, and
/// looks for the right one itself where it is told one that is not there.
///
/// # Panics
/// As [`conforms`], and when another master key opens a wrapped key.
pub async fn conforms_but_for_the_cipher(service: &dyn KeyService, other: &str) {
    run(service, other, false).await;
    other_masters_do_not_open(service, other).await;
}

async fn run(service: &dyn KeyService, other: &str, authenticates: bool) {
    for master in [None, Some(other)] {
        generated_keys_open(service, master).await;
        wrapped_keys_open(service, master).await;
        other_contexts_are_refused(service, master).await;
        if authenticates {
            damage_is_refused(service, master).await;
        }
    }
    generated_keys_differ(service).await;
    if authenticates {
        other_masters_are_refused(service, other).await;
    }
    unknown_masters_are_refused(service, other).await;
    rewrapped_keys_open(service, other).await;
    rewrapping_asks_for_the_context(service, other).await;
    if authenticates {
        unknown_masters_open_nothing(service, other).await;
        rewrapping_refuses_damage(service, other).await;
    }
}

fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn usual() -> EncryptionContext {
    context(&[("organization", "org_1"), ("project", "prj_1"), ("use", "repository key ü")])
}

/// A key with every kind of byte.
fn key() -> KeyBytes {
    KeyBytes::new(std::array::from_fn(|index| (index * 37) as u8))
}

async fn generate(
    service: &dyn KeyService,
    master: Option<&str>,
    context: &EncryptionContext,
) -> (KeyBytes, WrappedKey) {
    service.generate(master, context).await.unwrap_or_else(|error| panic!("generate: {error:?}"))
}

async fn wrap(service: &dyn KeyService, master: Option<&str>, context: &EncryptionContext) -> WrappedKey {
    service.wrap(master, &key(), context).await.unwrap_or_else(|error| panic!("wrap: {error:?}"))
}

async fn unwrap(service: &dyn KeyService, wrapped: &WrappedKey, context: &EncryptionContext) -> KeyBytes {
    service.unwrap(wrapped, context).await.unwrap_or_else(|error| panic!("unwrap: {error:?}"))
}

#[track_caller]
fn refused<T>(result: Result<T, PortError>, what: &str) {
    match result {
        Ok(_) => panic!("{what} was taken"),
        Err(error) => {
            assert!(matches!(error.kind, ErrorKind::PermissionDenied | ErrorKind::InvalidArgument), "{what}: {error:?}")
        }
    }
}

async fn generated_keys_open(service: &dyn KeyService, master: Option<&str>) {
    for context in [usual(), context(&[("use", "x")]), context(&[])] {
        let (key, wrapped) = generate(service, master, &context).await;
        assert!(unwrap(service, &wrapped, &context).await == key, "a generated key opens in {context:?}");
        assert!(wrapped.bytes.windows(32).all(|bytes| bytes != key.expose()), "a wrapped key is not in the clear");
        assert!(master.is_none_or(|master| master == wrapped.master), "it says which master key wraps it");
        assert!(!wrapped.master.is_empty());
    }
}

async fn wrapped_keys_open(service: &dyn KeyService, master: Option<&str>) {
    let keys = [KeyBytes::new([0; 32]), KeyBytes::new([0xff; 32]), key()];
    for key in &keys {
        let wrapped = service.wrap(master, key, &usual()).await.unwrap_or_else(|error| panic!("wrap: {error:?}"));
        assert!(unwrap(service, &wrapped, &usual()).await == *key, "a wrapped key opens");
        assert!(unwrap(service, &wrapped, &usual()).await == *key, "and opens again");
        assert!(wrapped.bytes.windows(32).all(|bytes| bytes != key.expose()), "a wrapped key is not in the clear");
    }
}

async fn generated_keys_differ(service: &dyn KeyService) {
    let mut keys: Vec<KeyBytes> = Vec::new();
    for _ in 0..8 {
        let (key, _) = generate(service, None, &usual()).await;
        assert!(*key.expose() != [0; 32] && !keys.contains(&key), "each generated key is new");
        keys.push(key);
    }
}

async fn other_contexts_are_refused(service: &dyn KeyService, master: Option<&str>) {
    let wrapped = wrap(service, master, &usual()).await;
    let mut fewer = usual();
    fewer.remove("project");
    let mut more = usual();
    more.insert("more".to_owned(), "x".to_owned());
    for other in [
        context(&[]),
        fewer,
        more,
        context(&[("organization", "org_2"), ("project", "prj_1"), ("use", "repository key ü")]),
        context(&[("organization", "prj_1"), ("project", "org_1"), ("use", "repository key ü")]),
        context(&[("organization", "org_1"), ("project", "prj_1"), ("use", "repository key u\u{308}")]),
        context(&[("Organization", "org_1"), ("project", "prj_1"), ("use", "repository key ü")]),
        context(&[("organization", "org_1project"), ("project", "prj_1"), ("use", "repository key ü")]),
    ] {
        refused(service.unwrap(&wrapped, &other).await, &format!("the context {other:?}"));
    }
    let bare = wrap(service, master, &context(&[])).await;
    refused(service.unwrap(&bare, &usual()).await, "a context where there was none");
    // names and values must not run into each other
    let joined = wrap(service, master, &context(&[("a", "bc")])).await;
    refused(service.unwrap(&joined, &context(&[("ab", "c")])).await, "the same letters, cut elsewhere");
}

async fn damage_is_refused(service: &dyn KeyService, master: Option<&str>) {
    let wrapped = wrap(service, master, &usual()).await;
    for at in (0..wrapped.bytes.len()).step_by(5).chain([wrapped.bytes.len() - 1]) {
        for bit in [0, 7] {
            let mut damaged = wrapped.clone();
            damaged.bytes[at] ^= 1 << bit;
            let what = format!("bit {bit} of byte {at} of {} flipped", wrapped.bytes.len());
            refused(service.unwrap(&damaged, &usual()).await, &what);
        }
    }
    for length in [0, 1, wrapped.bytes.len() / 2, wrapped.bytes.len() - 1] {
        let cut = WrappedKey { bytes: wrapped.bytes[..length].to_vec(), ..wrapped.clone() };
        refused(service.unwrap(&cut, &usual()).await, &format!("a wrapped key cut to {length} bytes"));
    }
    let mut longer = wrapped.clone();
    longer.bytes.push(0);
    refused(service.unwrap(&longer, &usual()).await, "a wrapped key with a byte more");
}

async fn other_masters_are_refused(service: &dyn KeyService, other: &str) {
    let own = wrap(service, None, &usual()).await;
    assert_ne!(own.master, other, "the service's own master key is another");
    let foreign = wrap(service, Some(other), &usual()).await;
    let swapped = WrappedKey { master: foreign.master.clone(), bytes: own.bytes.clone() };
    refused(service.unwrap(&swapped, &usual()).await, "another master key");
    let swapped = WrappedKey { master: own.master, bytes: foreign.bytes };
    refused(service.unwrap(&swapped, &usual()).await, "the own master key for what another wraps");
}

async fn other_masters_do_not_open(service: &dyn KeyService, other: &str) {
    let own = wrap(service, None, &usual()).await;
    let swapped = WrappedKey { master: other.to_owned(), bytes: own.bytes };
    let opened = service.unwrap(&swapped, &usual()).await;
    assert!(opened.is_err() || opened.is_ok_and(|opened| opened != key()), "another master key opens it");
}

async fn unknown_masters_are_refused(service: &dyn KeyService, other: &str) {
    let unknown = format!("{other}0");
    assert!(
        service.generate(Some(&unknown), &usual()).await.is_err(),
        "a master key that is not there generates nothing"
    );
    assert!(service.wrap(Some(&unknown), &key(), &usual()).await.is_err(), "and wraps nothing");
    let wrapped = wrap(service, None, &usual()).await;
    assert!(service.rewrap(&wrapped, Some(&unknown), &usual()).await.is_err(), "and rewraps nothing");
}

async fn unknown_masters_open_nothing(service: &dyn KeyService, other: &str) {
    let lost = WrappedKey { master: format!("{other}0"), ..wrap(service, None, &usual()).await };
    assert!(service.unwrap(&lost, &usual()).await.is_err(), "a master key that is not there opens nothing");
}

async fn rewrapped_keys_open(service: &dyn KeyService, other: &str) {
    let first = wrap(service, None, &usual()).await;
    for (from, master) in [(&first, Some(other)), (&first, None)] {
        let again = service.rewrap(from, master, &usual()).await.unwrap_or_else(|error| panic!("rewrap: {error:?}"));
        assert!(unwrap(service, &again, &usual()).await == key(), "a rewrapped key is the same key");
        assert_eq!(again.master, master.unwrap_or(&first.master));
        assert_ne!(again.bytes, from.bytes, "it is wrapped anew");
        refused(service.unwrap(&again, &context(&[])).await, "a rewrapped key in another context");
    }
    let moved = service.rewrap(&first, Some(other), &usual()).await.expect("rewrap under another master key");
    let back = service.rewrap(&moved, Some(&first.master), &usual()).await.expect("rewrap under the first again");
    assert!(unwrap(service, &back, &usual()).await == key(), "there and back it is the same key");
    assert!(unwrap(service, &first, &usual()).await == key(), "what was rewrapped still opens");
}

async fn rewrapping_asks_for_the_context(service: &dyn KeyService, other: &str) {
    let wrapped = wrap(service, None, &usual()).await;
    let wrong = context(&[("organization", "org_2")]);
    refused(service.rewrap(&wrapped, Some(other), &wrong).await, "rewrapping in another context");
}

async fn rewrapping_refuses_damage(service: &dyn KeyService, other: &str) {
    let mut damaged = wrap(service, None, &usual()).await;
    let middle = damaged.bytes.len() / 2;
    damaged.bytes[middle] ^= 1;
    refused(service.rewrap(&damaged, Some(other), &usual()).await, "rewrapping what is damaged");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::panic::AssertUnwindSafe;
    use std::sync::Mutex;

    use async_trait::async_trait;
    use futures::FutureExt;
    use rand::random;

    use super::*;

    const OTHER: &str = "other";

    /// What a service that lies does not look at.
    #[derive(Clone, Copy, PartialEq)]
    enum Lie {
        None,
        Context,
        Master,
        Damage,
        Random,
    }

    /// Keeps the keys, and hands out their number.
    struct Vault {
        lie: Lie,
        keys: Mutex<BTreeMap<[u8; 16], (String, EncryptionContext, KeyBytes)>>,
    }

    fn denied() -> PortError {
        PortError::new(ErrorKind::PermissionDenied, "unwrap a key", "")
    }

    impl Vault {
        fn put(
            &self,
            master: Option<&str>,
            key: &KeyBytes,
            context: &EncryptionContext,
        ) -> Result<WrappedKey, PortError> {
            let master = master.unwrap_or("own").to_owned();
            if ![OTHER, "own"].contains(&master.as_str()) {
                return Err(denied());
            }
            let number: [u8; 16] = random();
            self.keys.lock().unwrap().insert(number, (master.clone(), context.clone(), key.clone()));
            Ok(WrappedKey { master, bytes: number.to_vec() })
        }
    }

    #[async_trait]
    impl KeyService for Vault {
        async fn generate(
            &self,
            master: Option<&str>,
            context: &EncryptionContext,
        ) -> Result<(KeyBytes, WrappedKey), PortError> {
            let key = KeyBytes::new(if self.lie == Lie::Random { [7; 32] } else { random() });
            Ok((key.clone(), self.put(master, &key, context)?))
        }

        async fn wrap(
            &self,
            master: Option<&str>,
            key: &KeyBytes,
            context: &EncryptionContext,
        ) -> Result<WrappedKey, PortError> {
            self.put(master, key, context)
        }

        async fn unwrap(&self, wrapped: &WrappedKey, context: &EncryptionContext) -> Result<KeyBytes, PortError> {
            let keys = self.keys.lock().unwrap();
            let same = |number: &[u8; 16]| match self.lie {
                Lie::Damage => wrapped.bytes.len() == 16 && number[1..] == wrapped.bytes[1..],
                _ => number[..] == wrapped.bytes[..],
            };
            let (_, (master, bound, key)) = keys.iter().find(|(number, _)| same(number)).ok_or_else(denied)?;
            let is_right = (self.lie == Lie::Master || *master == wrapped.master)
                && (self.lie == Lie::Context || bound == context);
            if is_right { Ok(key.clone()) } else { Err(denied()) }
        }

        async fn rewrap(
            &self,
            wrapped: &WrappedKey,
            master: Option<&str>,
            context: &EncryptionContext,
        ) -> Result<WrappedKey, PortError> {
            let key = self.unwrap(wrapped, context).await?;
            self.put(master, &key, context)
        }
    }

    async fn verdict(lie: Lie) -> String {
        let vault = Vault { lie, keys: Mutex::default() };
        match AssertUnwindSafe(conforms(&vault, OTHER)).catch_unwind().await {
            Ok(()) => "conforms".to_owned(),
            Err(panic) => panic
                .downcast_ref::<String>()
                .cloned()
                .unwrap_or_else(|| panic.downcast_ref::<&str>().map_or_else(String::new, |text| (*text).to_owned())),
        }
    }

    #[tokio::test]
    async fn a_vault_conforms_and_one_that_lies_does_not() {
        assert_eq!(verdict(Lie::None).await, "conforms");
        for (lie, says) in [
            (Lie::Context, "the context {} was taken"),
            (Lie::Master, "another master key was taken"),
            (Lie::Damage, "bit 0 of byte 0 of 16 flipped was taken"),
            (Lie::Random, "each generated key is new"),
        ] {
            let text = verdict(lie).await;
            assert!(text.contains(says), "{text}");
        }
    }
}
