//! Commands that are printed, for a user to copy.

/// Quotes words so that a shell reads them back.
pub(crate) fn shell_line<W: AsRef<str>>(words: impl IntoIterator<Item = W>) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_./:=@%+,".contains(character);
    let quoted = |word: &str| {
        if !word.is_empty() && word.chars().all(plain) {
            word.to_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    words.into_iter().map(|word| quoted(word.as_ref())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_commands_survive_a_shell() {
        assert_eq!(shell_line(["a", "(default)", "it's", ""]), r"a '(default)' 'it'\''s' ''");
    }
}
