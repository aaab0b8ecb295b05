//! Columns of text, without lines around them: good in a terminal, and for `grep` behind a pipe.

use comfy_table::{CellAlignment, Table, presets};

/// Rows below a header; columns named in `right` are aligned to the right, as numbers are.
pub(crate) fn table(header: &[&str], right: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
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

/// Lines moved to the right, below a title.
pub(crate) fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let text = table(&["ID", "SIZE"], &["SIZE"], [vec!["a".into(), "5".into()], vec!["bcd".into(), "12345".into()]]);
        assert_eq!(text, "ID    SIZE\na        5\nbcd  12345");
        assert_eq!(pairs([("a", "1".to_owned()), ("long", "2".to_owned())]), "a     1\nlong  2");
    }
}
