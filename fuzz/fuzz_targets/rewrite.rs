//! Rewriting there and back keeps what a document holds.
#![no_main]

use firebackup_codec::canonical::{Names, same_content};
use firebackup_codec::rewrite::{ReferenceMap, rewrite};
use firebackup_model::DatabaseName;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(kept) = rewrite(data, None, &mut |_| None) else { return };
    assert_eq!(&*kept, data);

    let there = rewrite(data, None, &mut |name| Some(format!("{name}!"))).expect("it was read before");
    let back = rewrite(&there, None, &mut |name| name.strip_suffix('!').map(str::to_owned)).expect("it was written");
    if let Ok(same) = same_content(data, &back, Names::Compare) {
        assert!(same, "there and back changed what the document holds");
    }

    let map = ReferenceMap {
        from: DatabaseName::new("p", "(default)"),
        to: DatabaseName::new("q", "copy"),
        renames: vec![("users".to_owned(), "people".to_owned())],
    };
    // fails only where there is no name to replace
    let _ = rewrite(data, Some("projects/q/databases/copy/documents/a/b"), &mut |name| map.target(name));
});
