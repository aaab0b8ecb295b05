//! Keys of Google service accounts, looked at before they are kept.

use serde::Deserialize;
use serde::de::IgnoredAny;
use url::Url;

/// What a key file says about itself; never its private half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceAccount {
    pub(crate) email: String,
}

#[derive(Deserialize)]
struct KeyFile {
    #[serde(rename = "type")]
    kind: String,
    client_email: String,
    #[serde(rename = "private_key")]
    _private_key: IgnoredAny,
    #[serde(default)]
    token_uri: Option<String>,
}

/// Where Google's own token endpoints are.
const GOOGLE: &str = ".googleapis.com";

impl ServiceAccount {
    /// Reads a key file. Other kinds of credentials are refused: some of them name files, addresses or commands that a
    /// client library would open on our side.
    ///
    /// # Errors
    /// Says what is wrong, and repeats nothing of the text.
    pub(crate) fn read(text: &str) -> Result<Self, &'static str> {
        let file: KeyFile =
            serde_json::from_str(text).map_err(|_| "expected the text of a service account's key file")?;
        if file.kind != "service_account" {
            return Err("expected a key file of type service_account");
        }
        if !file.client_email.contains('@') || file.client_email.len() > 320 {
            return Err("the key file has no client_email");
        }
        if file.token_uri.as_deref().is_some_and(|uri| !is_google(uri)) {
            return Err("the key file's token_uri is not Google's");
        }
        Ok(Self { email: file.client_email })
    }
}

fn is_google(uri: &str) -> bool {
    Url::parse(uri).is_ok_and(|url| {
        url.scheme() == "https" && url.port().is_none() && url.host_str().is_some_and(|host| host.ends_with(GOOGLE))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn file() -> Value {
        json!({
            "type": "service_account", "project_id": "p", "private_key": "planted", "client_email": "a@p.example",
            "token_uri": "https://oauth2.googleapis.com/token",
        })
    }

    fn with(name: &str, value: Value) -> String {
        let mut file = file();
        file[name] = value;
        file.to_string()
    }

    #[test]
    fn takes_keys_of_service_accounts_only() {
        assert_eq!(ServiceAccount::read(&file().to_string()), Ok(ServiceAccount { email: "a@p.example".to_owned() }));
        for bad in [
            "planted".to_owned(),
            "{}".to_owned(),
            with("type", json!("external_account")),
            with("type", json!("authorized_user")),
            with("client_email", json!("nobody")),
            with("token_uri", json!("http://oauth2.googleapis.com/token")),
            with("token_uri", json!("https://169.254.169.254/token")),
            with("token_uri", json!("https://evilgoogleapis.com/token")),
            with("token_uri", json!("https://oauth2.googleapis.com:8443/token")),
        ] {
            let refusal = ServiceAccount::read(&bad).unwrap_err();
            assert!(!refusal.contains("planted"), "{refusal}");
        }
    }
}
