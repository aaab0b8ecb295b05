//! Columns of text, without lines around them: good in a terminal, and for `grep` behind a pipe.

use std::borrow::Cow;

use comfy_table::{CellAlignment, Table, presets};

/// Rows below a header; columns named in `right` are aligned to the right, as numbers are.
pub(crate) fn table(header: &[&str], right: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell).into_owned()));
    }
    for (index, name) in header.iter().enumerate() {
        if let Some(column) = table.column_mut(index) {
            column.set_padding((0, 2));
            if right.contains(name) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table.trim_fmt()
}

/// Names and values, one a line, values in one column.
pub(crate) fn pairs<'p>(pairs: impl IntoIterator<Item = (&'p str, String)>) -> String {
    let pairs: Vec<_> = pairs.into_iter().collect();
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let lines: Vec<String> = pairs.iter().map(|(name, value)| format!("{name:<width$}  {value}")).collect();
    lines.join("\n")
}

/// Text from a database without what a terminal would act on: control characters become their escapes.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unprintable) {
        return text.into();
    }
    let escaped = |character: char| {
        if is_unprintable(character) { character.escape_unicode().to_string() } else { character.to_string() }
    };
    text.chars().map(escaped).collect::<String>().into()
}

/// As [`printable`], where the text has lines of its own.
pub(crate) fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// Control characters, and marks that turn the direction of writing around.
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Lines moved to the right, below a title.
pub(crate) fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_a_database_cannot_steer_a_terminal() {
        assert_eq!(printable("users/ünï 💩"), "users/ünï 💩");
        assert_eq!(printable("a\u{1b}[2Jb\u{202e}\n"), "a\\u{1b}[2Jb\\u{202e}\\u{a}");
        assert_eq!(printable_lines("a\u{9b}\nb\r\n\tc\n"), "a\\u{9b}\nb\n\\u{9}c");
        assert_eq!(table(&["A"], &[], [vec!["x\u{7f}".to_owned()]]), "A\nx\\u{7f}");
    }

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let text =
            table(&["ID", "SIZE"], &["SIZE"], [vec!["a".into(), "5".into()], vec!["bcd".into(), "12345".into()]]);
        assert_eq!(text, "ID    SIZE\na        5\nbcd  12345");
        assert_eq!(pairs([("a", "1".to_owned()), ("long", "2".to_owned())]), "a     1\nlong  2");
    }
}
