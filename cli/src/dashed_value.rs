//! Values that may begin with a dash, as the names of documents and collections may.

use std::ffi::OsStr;

use clap::builder::{StringValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

/// Reads the text of an argument that takes values with a dash (`allow_hyphen_values`). What is an option of the same
/// command stands there because a value was forgotten, and is refused.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DashedValue;

impl TypedValueParser for DashedValue {
    type Value = String;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<String, clap::Error> {
        let text = StringValueParser::new().parse_ref(command, argument, value)?;
        if !is_option(command, &text) {
            return Ok(text);
        }
        // as a value that is missing at the end of the line is told
        let mut missing = clap::Error::new(ErrorKind::InvalidValue).with_cmd(command);
        let argument = argument.map(ToString::to_string).unwrap_or_default();
        missing.insert(ContextKind::InvalidArg, ContextValue::String(argument));
        missing.insert(ContextKind::InvalidValue, ContextValue::String(String::new()));
        Err(missing)
    }
}

fn is_option(command: &Command, text: &str) -> bool {
    if let Some(long) = text.strip_prefix("--") {
        let name = long.split_once('=').map_or(long, |(name, _)| name);
        return long.is_empty() || command.get_arguments().any(|argument| has_long(argument, name));
    }
    let is_short = |letter| command.get_arguments().any(|argument| argument.get_short() == Some(letter));
    text.strip_prefix('-').is_some_and(|letters| !letters.is_empty() && letters.chars().all(is_short))
}

fn has_long(argument: &Arg, name: &str) -> bool {
    argument.get_long() == Some(name) || argument.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::args::Cli;

    fn parse(words: &[&str]) -> Result<Cli, String> {
        Cli::try_parse_from(["firebackup"].iter().chain(words)).map_err(|error| error.render().to_string())
    }

    #[test]
    fn names_may_begin_with_a_dash() {
        for option in ["--collection", "--include", "--exclude", "--path", "--document"] {
            for value in ["-dash", "-x/y", "--x", "--x=y/z", "-", "-json", "-yes/*"] {
                assert!(parse(&["restore", option, value]).is_ok(), "{option} {value}");
                assert!(parse(&["restore", &format!("{option}={value}"), "--yes"]).is_ok(), "{option}={value}");
            }
        }
        assert!(parse(&["get", "--at", "latest", "--", "-x/-y"]).is_ok());
    }

    #[test]
    fn an_option_of_the_command_is_no_value() {
        for option in ["--collection", "--exclude", "--path", "--document"] {
            for value in
                ["--json", "--repo", "--yes", "--include", "--repo=x", "--help", "--", "-y", "-qv", "-vv", "-h"]
            {
                let refusal = parse(&["restore", option, value]).unwrap_err();
                assert!(refusal.contains("a value is required for"), "{option} {value}: {refusal}");
                assert!(refusal.contains(option), "{option} {value}: {refusal}");
            }
        }
        // what another command has is a name like any other
        assert!(parse(&["backup", "--collection", "--dry-run"]).is_ok());
    }
}
