//! The parser of document paths, their order, and the ranges that rest on it. Paths stand on lines.
#![no_main]

use firebackup_model::path::compare;
use firebackup_model::{DocumentPath, PathRange};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n');
    let (one, two) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    assert_eq!(compare(one, two), compare(two, one).reverse());
    assert_eq!(compare(one, two).is_eq(), one == two);
    let mut paths: Vec<_> = text.split('\n').filter_map(|line| DocumentPath::new(line).ok()).collect();
    for path in &paths {
        assert_eq!(format!("{}/{}", path.collection(), path.id()), path.as_str());
        assert!(path.collection().ends_with(path.collection_group()));
        if let Ok(range) = PathRange::collection(path.collection()) {
            assert!(range.covers(path) && !range.is_empty());
        }
    }
    let parts = PathRange::everything().cut(&paths);
    paths.sort();
    assert!(paths.is_sorted());
    for path in &paths {
        assert_eq!(parts.iter().filter(|part| part.covers(path)).count(), 1);
    }
});
