//! What a destination needs besides its URL.

use std::fmt;

use firebackup_model::address::is_public;
use firebackup_model::{ErrorKind, PortError};
use url::{Host, Url};

use crate::public_connector::LEADS_INSIDE;

/// Endpoint and options of a destination. `Debug` shows the names of options, never their values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DestinationSettings {
    /// The base URL of an S3-compatible service (Spaces, MinIO, Wasabi, B2, R2), or of an emulator. `https`, or `http` on
    /// the loopback interface; other `http` needs the option `AWS_ALLOW_HTTP=true` (`GOOGLE_…`, `AZURE_…`).
    pub endpoint: Option<String>,
    /// Names and values such as `AWS_ACCESS_KEY_ID`, `GOOGLE_SERVICE_ACCOUNT_KEY`, `AZURE_STORAGE_ACCOUNT_NAME`, in any
    /// case; later ones win. Those of other vendors and those the client does not know are left alone, so that a whole
    /// environment can be handed in. `AWS_CHECKSUM_ALGORITHM=none` is for services that refuse SHA-256 checksums,
    /// `AWS_CONDITIONAL_COMPLETE=none` for those that refuse to complete an upload only if there is no such object.
    /// `GOOGLE_KMS_KEY_NAME` is the key of Google's key service under which objects are kept.
    pub options: Vec<(String, String)>,
    /// Whether the endpoint was chosen by somebody who must not reach this machine and its networks by it.
    pub public_only: bool,
}

impl fmt::Debug for DestinationSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = self.endpoint.as_deref().map(|text| match Url::parse(text) {
            Ok(url) => url.origin().ascii_serialization(),
            Err(_) => "not a url".to_owned(),
        });
        let names: Vec<&str> = self.options.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("DestinationSettings").field("endpoint", &endpoint).field("options", &names).finish()
    }
}

/// A checked base URL, without a slash at its end.
pub(crate) struct Endpoint {
    pub(crate) url: String,
    pub(crate) is_http: bool,
}

impl DestinationSettings {
    /// Options of one vendor, names in lower case.
    pub(crate) fn options_of<'a>(&'a self, vendor: &'a str) -> impl Iterator<Item = (String, &'a str)> {
        let named = self.options.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()));
        named.filter(move |(name, _)| name.starts_with(vendor))
    }

    /// The last value of an option, by its name in lower case.
    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The endpoint to use: the setting, else the first of the options of these names.
    ///
    /// # Errors
    /// When it is no base URL, holds credentials, or is plain `http` that was not asked for.
    pub(crate) fn endpoint(&self, vendor: &str, names: &[&str]) -> Result<Option<Endpoint>, PortError> {
        let from_options = || names.iter().find_map(|name| self.option(name));
        let Some(text) = self.endpoint.as_deref().or_else(from_options) else { return Ok(None) };
        let url = Url::parse(text).map_err(|source| refused("it is not a url").with_source(source))?;
        check(&url, self.allows_http(vendor))?;
        if self.is_guarded() {
            check_public(&url)?;
        }
        let is_http = url.scheme() == "http";
        Ok(Some(Endpoint { url: url.as_str().trim_end_matches('/').to_owned(), is_http }))
    }

    /// Whether connections go outside only. Where AWS itself is reached, and whoever runs the server says so by its options,
    /// may be inside.
    pub(crate) fn is_guarded(&self) -> bool {
        self.public_only && self.endpoint.is_some()
    }

    /// Whether plain `http` to any host was asked for in so many words.
    pub(crate) fn allows_http(&self, vendor: &str) -> bool {
        self.is_on(&format!("{vendor}allow_http"))
    }

    /// Whether an option is switched on, by its name in lower case.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        let value = self.option(name);
        value.is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "true" | "1" | "yes" | "on"))
    }
}

/// Whether a text can be a part of a host's name, and nothing else: what a client puts into an address of its vendor's must not
/// lead elsewhere.
pub(crate) fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

fn check(url: &Url, allows_http: bool) -> Result<(), PortError> {
    let Some(host) = url.host() else { return Err(refused("it names no host")) };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("credentials belong in the options, not in the url"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refused("a query or a fragment has no place in it"));
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if allows_http || is_loopback(&host) => Ok(()),
        "http" => Err(refused("http is open to everyone on the way; use https, or set the option ALLOW_HTTP")),
        _ => Err(refused("expected https://host or http://localhost")),
    }
}

/// That a host which is an address is one outside; what a name leads to is looked at by whoever connects.
fn check_public(url: &Url) -> Result<(), PortError> {
    let is_outside = match url.host() {
        Some(Host::Ipv4(address)) => is_public(address.into()),
        Some(Host::Ipv6(address)) => is_public(address.into()),
        _ => true,
    };
    match is_outside && url.scheme() == "https" {
        true => Ok(()),
        false => Err(refused(LEADS_INSIDE)),
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

fn refused(why: &str) -> PortError {
    PortError::new(ErrorKind::InvalidArgument, "use the endpoint of the destination", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(endpoint: &str, options: &[(&str, &str)]) -> DestinationSettings {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        DestinationSettings { endpoint: Some(endpoint.to_owned()), options, public_only: false }
    }

    #[test]
    fn http_is_for_loopback_or_when_asked_for() {
        for good in
            ["https://nyc3.digitaloceanspaces.com/", "http://127.0.0.1:9000", "http://[::1]:9", "http://localhost"]
        {
            let endpoint = settings(good, &[]).endpoint("aws_", &[]).unwrap().unwrap();
            assert_eq!(
                (endpoint.url.as_str(), endpoint.is_http),
                (good.trim_end_matches('/'), good.starts_with("http:"))
            );
        }
        for bad in
            ["http://10.0.0.1:9000", "http://localhost.evil.example", "ftp://localhost", "localhost:9000", "", "x"]
        {
            assert!(settings(bad, &[]).endpoint("aws_", &[]).is_err(), "{bad}");
        }
        let asked = settings("http://10.0.0.1:9000", &[("AWS_ALLOW_HTTP", "true")]);
        assert!(asked.endpoint("aws_", &[]).is_ok());
        assert!(asked.endpoint("google_", &[]).is_err());
    }

    #[test]
    fn an_endpoint_of_somebody_else_is_outside() {
        let guarded = |endpoint: &str| DestinationSettings { public_only: true, ..settings(endpoint, &[]) };
        for good in ["https://nyc3.digitaloceanspaces.com", "https://1.1.1.1:9000"] {
            assert!(guarded(good).endpoint("aws_", &[]).is_ok(), "{good}");
        }
        for bad in [
            "http://localhost:9000",
            "http://127.0.0.1:9000",
            "https://127.0.0.1:9000",
            "https://0x7f.1",
            "https://2130706433",
            "https://10.0.0.1",
            "https://169.254.169.254",
            "https://[::1]",
            "https://[::ffff:10.0.0.1]",
            "https://[fd00::1]",
        ] {
            assert!(guarded(bad).endpoint("aws_", &[]).is_err(), "{bad}");
        }
        // where the operator's own options lead is the operator's matter
        let options = vec![("AWS_ENDPOINT_URL".to_owned(), "http://127.0.0.1:9000".to_owned())];
        let ambient = DestinationSettings { endpoint: None, options, public_only: true };
        assert!(ambient.endpoint("aws_", &["aws_endpoint_url"]).is_ok());
    }

    #[test]
    fn the_setting_wins_over_options() {
        let options = [("AWS_ENDPOINT_URL", "https://a.example"), ("AWS_ENDPOINT_URL_S3", "https://b.example")];
        let names = ["aws_endpoint_url_s3", "aws_endpoint_url"];
        let mut both = settings("https://c.example", &options);
        assert_eq!(both.endpoint("aws_", &names).unwrap().unwrap().url, "https://c.example");
        both.endpoint = None;
        assert_eq!(both.endpoint("aws_", &names).unwrap().unwrap().url, "https://b.example");
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = "hunter2-hunter2";
        let settings =
            settings(&format!("https://key:{secret}@s3.example/?token={secret}"), &[("AWS_SECRET_ACCESS_KEY", secret)]);
        let error = settings.endpoint("aws_", &[]).err().unwrap();
        for text in [format!("{settings:?}"), format!("{error}"), format!("{error:?}")] {
            assert!(!text.contains(secret), "{text}");
        }
        assert!(format!("{settings:?}").contains("AWS_SECRET_ACCESS_KEY"));
    }
}
