//! JSON both ways: what is written can be read and is written the same again; what is read can be written.
#![no_main]

use firebackup_codec::typed_json::{read_json, write_json};
use libfuzzer_sys::fuzz_target;

fn json_of(document: &[u8]) -> Option<String> {
    let mut json = Vec::new();
    write_json(document, &mut json).ok()?;
    Some(String::from_utf8(json).expect("JSON is UTF-8"))
}

fuzz_target!(|data: &[u8]| {
    if let Some(json) = json_of(data) {
        let document = read_json(&json).expect("what was written can be read");
        assert_eq!(json_of(&document), Some(json));
    }
    if let Some(document) = std::str::from_utf8(data).ok().and_then(|json| read_json(json).ok()) {
        let json = json_of(&document).expect("what was read can be written");
        assert_eq!(read_json(&json).expect("what was written can be read"), document);
    }
});
