//! The canonical form of any document is its own canonical form and holds the same.
#![no_main]

use firebackup_codec::canonical::{Names, canonical, same_content};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(form) = canonical(data) else { return };
    assert_eq!(canonical(&form).as_deref(), Ok(&form[..]));
    assert_eq!(same_content(data, &form, Names::Ignore), Ok(true));
    assert_eq!(same_content(data, data, Names::Compare), Ok(true));
});
