//! The environment variables of the process, read once.

use std::ffi::OsString;
use std::fmt;

/// The environment variables of a process. `Debug` shows none of them.
#[derive(Clone, Default)]
pub(crate) struct Environment(Vec<(String, String)>);

impl Environment {
    /// Those of this process; names and values that are no text are left out.
    pub(crate) fn from_system() -> Self {
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// Made up.
    #[cfg(test)]
    pub(crate) fn of(variables: &[(&str, &str)]) -> Self {
        Self(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// Every variable whose name `takes` takes.
    pub(crate) fn select(&self, takes: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        self.0.iter().filter(|(name, _)| takes(name)).cloned().collect()
    }

    /// The value of a variable; an empty one is none.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(other, value)| other == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_is_none_and_values_are_not_shown() {
        let environment = Environment::of(&[("A", ""), ("B", "secret")]);
        assert_eq!((environment.get("A"), environment.get("B"), environment.get("C")), (None, Some("secret"), None));
        assert!(!format!("{environment:?}").contains("secret"));
    }
}
