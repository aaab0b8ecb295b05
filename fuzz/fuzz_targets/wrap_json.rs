//! The reader of key wraps.
#![no_main]

use std::sync::LazyLock;

use firebackup_codec::SecretKey;
use firebackup_codec::wrap::{RecoveryKeyPair, Wrap};
use firebackup_fuzz::ROOT_ID;
use firebackup_model::port::Random;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Bytes that count up from 0, as the fixtures' recovery key was made.
struct Counting;

impl Random for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.iter_mut().zip(0..).for_each(|(byte, count)| *byte = count);
    }
}

static RECOVERY: LazyLock<RecoveryKeyPair> = LazyLock::new(|| RecoveryKeyPair::generate(&Counting));

/// Whether its passphrase is cheap to try: the bounds on memory and time are tested elsewhere, and would only make the
/// fuzzer slow.
fn is_cheap(wrap: &Value) -> bool {
    let at_most = |name: &str, most| wrap["params"][name].as_u64().is_none_or(|value| value <= most);
    at_most("memory_kib", 256) && at_most("iterations", 2)
}

fuzz_target!(|data: &[u8]| {
    let Ok(wrap) = serde_json::from_slice::<Wrap>(data) else { return };
    let json = serde_json::to_value(&wrap).expect("a wrap that was read can be written");
    let again: Wrap = serde_json::from_value(json.clone()).expect("a wrap that was written can be read");
    assert_eq!(again, wrap);
    let _ = (wrap.kind(), wrap.ids(), wrap.holder());
    // each refuses a wrap of another kind by itself
    let _ = wrap.open_local(&SecretKey::from_bytes([0x99; 32]));
    let _ = wrap.open_recovery(&RECOVERY.private);
    let _ = wrap.open_key(&SecretKey::from_bytes([0x88; 32]), ROOT_ID);
    if is_cheap(&json) {
        let _ = wrap.open_passphrase("correct horse battery staple");
    }
});
