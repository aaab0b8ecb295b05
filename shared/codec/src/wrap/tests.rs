use std::sync::atomic::{AtomicU8, Ordering};

use proptest::prelude::*;

use super::*;

/// Another byte each time, the same each run.
struct Counting(AtomicU8);

impl Random for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn random(start: u8) -> Counting {
    Counting(AtomicU8::new(start))
}

const CHEAP: PassphraseParams = PassphraseParams { memory_kib: 64, iterations: 1, lanes: 1 };
const PARENT: KeyId = KeyId([9; 16]);

fn ids() -> WrapIds {
    WrapIds {
        repository: RepositoryId([1; 16]),
        key: KeyId([2; 16]),
        wrap: WrapId([3; 16]),
        created: Timestamp::new(1_700_000_000, 0),
    }
}

fn secret(byte: u8) -> SecretKey {
    SecretKey::from_bytes([byte; 32])
}

fn pair() -> RecoveryKeyPair {
    RecoveryKeyPair::generate(&random(7))
}

/// One wrap of each kind, and how it is opened.
type Opener = Box<dyn Fn(&Wrap) -> Result<SecretKey, KeyError>>;

fn wraps(secret_key: &SecretKey, start: u8) -> Vec<(Wrap, Opener)> {
    let random = random(start);
    let (master, parent, pair) = (secret(5), secret(6), pair());
    let wraps = [
        Wrap::wrap_local(&master, &ids(), secret_key, &random),
        Wrap::wrap_passphrase("open sesame", &CHEAP, &ids(), secret_key, &random),
        Wrap::wrap_recovery(&pair.public, &ids(), secret_key, &random),
        Wrap::wrap_key(&parent, PARENT, &ids(), secret_key, &random),
    ];
    let openers: [Opener; 4] = [
        Box::new(move |wrap| wrap.open_local(&master)),
        Box::new(|wrap| wrap.open_passphrase("open sesame")),
        Box::new(move |wrap| wrap.open_recovery(&pair.private)),
        Box::new(move |wrap| wrap.open_key(&parent, PARENT)),
    ];
    wraps.into_iter().map(Result::unwrap).zip(openers).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn every_kind_opens_what_it_wrapped_also_by_way_of_its_file(bytes: [u8; 32], start: u8) {
        for (wrap, open) in wraps(&SecretKey::from_bytes(bytes), start) {
            let file = serde_json::to_vec_pretty(&wrap).unwrap();
            let read: Wrap = serde_json::from_slice(&file).unwrap();
            prop_assert_eq!(&read, &wrap);
            prop_assert_eq!(read.ids(), ids());
            let opened = open(&read).unwrap();
            prop_assert_eq!(opened.expose(), &bytes);
        }
    }
}

#[test]
fn the_wrong_secret_is_told_from_damage() {
    let wraps: Vec<_> = wraps(&secret(4), 0).into_iter().map(|(wrap, _)| wrap).collect();
    let [local, passphrase, recovery, key] = wraps.try_into().unwrap();
    assert!(matches!(local.open_local(&secret(8)), Err(KeyError::OtherMasterKey { .. })));
    assert_eq!(passphrase.open_passphrase("open sesam").unwrap_err(), KeyError::WrongPassphrase);
    let other = RecoveryKeyPair::generate(&random(99));
    assert!(matches!(recovery.open_recovery(&other.private), Err(KeyError::OtherRecoveryKey { .. })));
    assert!(matches!(key.open_key(&secret(6), KeyId([8; 16])), Err(KeyError::OtherKey { .. })));
    assert_eq!(key.open_key(&secret(7), PARENT).unwrap_err(), KeyError::Damaged);
    let kind = local.open_passphrase("x").unwrap_err();
    assert_eq!(kind, KeyError::OtherKind { expected: WrapKind::Passphrase, found: WrapKind::Local });
    assert!(kind.is_no_secret());
}

#[test]
fn no_flipped_bit_of_a_wrapped_key_passes_and_no_id_can_be_changed() {
    for (wrap, open) in wraps(&secret(4), 0) {
        let refused = |wrap: &Wrap| matches!(open(wrap), Err(KeyError::Damaged | KeyError::WrongPassphrase));
        for bit in 0..wrap.wrapped.0.len() * 8 {
            let mut flipped = wrap.clone();
            flipped.wrapped.0[bit / 8] ^= 1 << (bit % 8);
            assert!(refused(&flipped), "{} bit {bit}", wrap.kind());
        }
        for length in 0..wrap.wrapped.0.len() {
            let mut cut = wrap.clone();
            cut.wrapped.0.truncate(length);
            assert!(refused(&cut), "{} cut to {length}", wrap.kind());
        }
        assert!(refused(&Wrap { repository: RepositoryId([7; 16]), ..wrap.clone() }));
        assert!(refused(&Wrap { key: KeyId([7; 16]), ..wrap.clone() }));
        assert!(refused(&Wrap { wrap: WrapId([7; 16]), ..wrap.clone() }));
        assert_eq!(open(&Wrap { format: 2, ..wrap.clone() }).unwrap_err(), KeyError::Unsupported(2));
    }
}

#[test]
fn params_out_of_bounds_are_refused_before_memory_is_taken() {
    let bounds =
        [(u32::MAX, 1, 1), (1024 * 1024 + 1, 1, 1), (63, 1, 1), (64, 0, 1), (64, 17, 1), (64, 1, 0), (64, 1, 9)];
    for (memory_kib, iterations, lanes) in bounds {
        let params = PassphraseParams { memory_kib, iterations, lanes };
        let refused = Wrap::wrap_passphrase("x", &params, &ids(), &secret(4), &random(0)).unwrap_err();
        assert!(matches!(refused, KeyError::OutOfBounds { .. }), "{params:?}");
        let mut wrap = Wrap::wrap_passphrase("x", &CHEAP, &ids(), &secret(4), &random(0)).unwrap();
        wrap.holder = Holder::Passphrase { salt: Blob(vec![0; 32]), memory_kib, iterations, lanes };
        assert!(matches!(wrap.open_passphrase("x").unwrap_err(), KeyError::OutOfBounds { .. }), "{params:?}");
    }
    let mut wrap = Wrap::wrap_passphrase("x", &CHEAP, &ids(), &secret(4), &random(0)).unwrap();
    wrap.holder = Holder::Passphrase { salt: Blob(vec![0; 7]), memory_kib: 64, iterations: 1, lanes: 1 };
    assert!(matches!(wrap.open_passphrase("x").unwrap_err(), KeyError::OutOfBounds { .. }));
}

#[test]
fn nothing_secret_is_in_a_file_or_in_debug() {
    let planted = SecretKey::from_bytes(*b"planted-planted-planted-planted!");
    let in_base64 = &planted.to_text()[..40];
    for (wrap, _) in wraps(&planted, 0) {
        let file = serde_json::to_string(&wrap).unwrap();
        assert!(!file.contains("planted") && !file.contains(in_base64) && !file.contains("sesame"), "{file}");
    }
    let pair = pair();
    let shown = format!("{:?} {:?} {}", pair, secret(5), fingerprint(&planted));
    assert!(!shown.contains(&**pair.private.to_text()) && !shown.contains("planted"), "{shown}");
    assert_ne!(fingerprint(&planted), hex::encode(&planted.expose()[..8]));
}

#[test]
fn recovery_keys_are_read_as_they_are_shown() {
    let pair = pair();
    assert_eq!(pair.public.to_string().parse::<RecoveryPublicKey>().unwrap(), pair.public);
    let private: RecoveryPrivateKey = pair.private.to_text().parse().unwrap();
    assert_eq!(private.public(), pair.public);
    for bad in ["", "AAAA", "not base64", &"A".repeat(48)] {
        assert!(bad.parse::<RecoveryPublicKey>().is_err(), "{bad}");
        assert!(bad.parse::<RecoveryPrivateKey>().is_err(), "{bad}");
    }
}

#[test]
fn a_wrap_file_looks_as_the_format_says() {
    let (wrap, _) = wraps(&secret(4), 0).swap_remove(3);
    let value: serde_json::Value = serde_json::to_value(&wrap).unwrap();
    assert_eq!(value["format"], 1);
    assert_eq!(value["kind"], "key");
    assert_eq!(value["params"]["key"], PARENT.to_string());
    assert_eq!(value["created"], "2023-11-14T22:13:20Z");
    assert!(value["wrapped"].is_string() && value["params"]["salt"].is_string());
}

#[test]
fn a_public_key_that_nothing_can_be_encrypted_to_is_refused() {
    let zero: RecoveryPublicKey = STANDARD.encode([0; 32]).parse().unwrap();
    let refused = Wrap::wrap_recovery(&zero, &ids(), &secret(4), &random(0)).unwrap_err();
    assert_eq!(refused, KeyError::UnusableRecoveryKey);
}

#[test]
fn a_kms_wrap_is_opened_with_what_it_names_and_by_nothing_here() {
    let arn = "arn:aws:kms:eu-central-1:1:key/x".to_owned();
    let mut context = kms_context(&ids());
    context.insert("organization".to_owned(), "org_1".to_owned());
    let wrap = Wrap::from_kms(&ids(), arn.clone(), context.clone(), vec![1, 2, 3]);
    let read: Wrap = serde_json::from_str(&serde_json::to_string(&wrap).unwrap()).unwrap();
    assert_eq!((read.kind(), read.holder()), (WrapKind::Kms, Some(arn.clone())));
    assert_eq!(read.kms().unwrap(), (arn.as_str(), &context, &[1, 2, 3][..]));
    assert!(read.open_local(&secret(5)).unwrap_err().is_no_secret());
    assert!(read.open_key(&secret(6), PARENT).unwrap_err().is_no_secret());
    assert!(wraps(&secret(4), 0).swap_remove(0).0.kms().unwrap_err().is_no_secret());
}

#[test]
fn a_kms_wrap_whose_context_is_that_of_another_wrap_is_damaged() {
    for name in ["repository", "key", "wrap"] {
        let mut context = kms_context(&ids());
        context.insert(name.to_owned(), "00000000000000000000000000000000".to_owned());
        let wrap = Wrap::from_kms(&ids(), "arn".to_owned(), context.clone(), vec![1]);
        assert_eq!(wrap.kms().unwrap_err(), KeyError::Damaged, "{name}");
        context.remove(name);
        assert!(Wrap::from_kms(&ids(), "arn".to_owned(), context, vec![1]).kms().is_err(), "{name}");
    }
}
