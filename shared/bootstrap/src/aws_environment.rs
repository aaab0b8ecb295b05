//! What a function of the stack is told by its environment, read once.

use std::collections::BTreeMap;
use std::time::Duration;

use firebackup_model::{ErrorKind, PortError};

/// The environment of a function. What one was not given is told when it is asked for.
#[derive(Debug, Clone, Default)]
pub struct AwsEnvironment(BTreeMap<String, String>);

impl AwsEnvironment {
    /// Reads the environment of this process.
    #[must_use]
    pub fn from_system() -> Self {
        Self(std::env::vars().collect())
    }

    /// One that says this, for tests.
    #[must_use]
    pub fn of(variables: &[(&str, &str)]) -> Self {
        Self(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// A variable, unless it is missing or empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A variable that must be there.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) when it is not.
    pub fn need(&self, name: &str) -> Result<&str, PortError> {
        self.get(name).ok_or_else(|| invalid(format!("{name} is not set")))
    }

    /// A number, or its default.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) when it is no number.
    pub fn number(&self, name: &str, default: u64) -> Result<u64, PortError> {
        let parsed = self.get(name).map(str::parse).transpose();
        parsed.map(|number| number.unwrap_or(default)).map_err(|_| invalid(format!("{name} is not a number")))
    }

    /// Seconds, or a default.
    ///
    /// # Errors
    /// As [`Self::number`].
    pub fn seconds(&self, name: &str, default: Duration) -> Result<Duration, PortError> {
        self.number(name, default.as_secs()).map(Duration::from_secs)
    }

    /// What the clients of object stores may want to know: credentials, region, endpoint.
    #[must_use]
    pub fn ambient(&self) -> Vec<(String, String)> {
        const PREFIXES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];
        let is_wanted = |name: &String| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        self.0.iter().filter(|(name, _)| is_wanted(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

fn invalid(message: String) -> PortError {
    PortError::new(ErrorKind::InvalidArgument, "read the environment", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let environment =
            AwsEnvironment::of(&[("FIREBACKUP_TABLE", "t"), ("EMPTY", ""), ("N", "x"), ("AWS_REGION", "r")]);
        assert_eq!(environment.need("FIREBACKUP_TABLE").unwrap(), "t");
        assert!(environment.need("EMPTY").unwrap_err().to_string().contains("EMPTY is not set"));
        assert!(environment.number("N", 1).is_err());
        assert_eq!(environment.number("M", 7).unwrap(), 7);
        assert_eq!(environment.ambient(), [("AWS_REGION".to_owned(), "r".to_owned())]);
    }
}
