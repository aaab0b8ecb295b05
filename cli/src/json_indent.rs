//! Indents JSON without reading it: numbers and the order of members stay exactly as they were written.

use std::io::{self, Write};

const STEP: usize = 2;

/// JSON with a member or element a line, from JSON without blanks between its tokens.
pub(crate) fn indent(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    // writing into memory cannot fail
    let _ = write_indented(json, &mut out);
    out
}

fn write_indented(json: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (index, byte) in json.iter().copied().enumerate() {
        if in_string {
            out.push(byte);
            in_string = escaped || byte != b'"';
            escaped = byte == b'\\' && !escaped;
            continue;
        }
        let closes_at_once = matches!(json.get(index + 1), Some(b'}' | b']'));
        let opened_just_now = index > 0 && matches!(json[index - 1], b'{' | b'[');
        match byte {
            b'{' | b'[' => {
                out.push(byte);
                depth += 1;
                if !closes_at_once {
                    break_line(out, depth)?;
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if !opened_just_now {
                    break_line(out, depth)?;
                }
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                break_line(out, depth)?;
            }
            b':' => out.extend_from_slice(b": "),
            _ => {
                in_string = byte == b'"';
                out.push(byte);
            }
        }
    }
    Ok(())
}

fn break_line(out: &mut Vec<u8>, depth: usize) -> io::Result<()> {
    write!(out, "\n{:width$}", "", width = depth * STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_blanks_are_added() {
        let json = r#"{"a":{"x":[1,-0.0,1e300],"e":{},"n":[]},"q\"{,}\\":"a:b,[c]"}"#;
        let text = String::from_utf8(indent(json.as_bytes())).unwrap();
        let expected = "{\n  \"a\": {\n    \"x\": [\n      1,\n      -0.0,\n      1e300\n    ],\n    \"e\": {},\n    \"n\": []\n  },\n  \"q\\\"{,}\\\\\": \"a:b,[c]\"\n}";
        assert_eq!(text, expected);
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read, serde_json::from_str::<serde_json::Value>(json).unwrap());
    }
}
