//! Browsers that are sent to an issuer and come back.

use axum::http::{HeaderMap, header};
use serde::Deserialize;

use crate::state::HttpState;

/// A cookie that holds the secret of a browser.
pub(crate) struct BrowserCookie {
    pub(crate) name: &'static str,
    /// Where it is sent.
    pub(crate) path: &'static str,
}

/// What an issuer sends a browser back with.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Returning {
    /// What it was sent away with.
    state: Option<String>,
    /// The issuer's code.
    code: Option<String>,
    /// Why the issuer gives none.
    error: Option<String>,
}

impl Returning {
    /// State and code, if the issuer gives any.
    pub(crate) fn taken(self) -> Option<(String, String)> {
        match (self.state, self.code, self.error) {
            (Some(state), Some(code), None) => Some((state, code)),
            _ => None,
        }
    }
}

impl BrowserCookie {
    /// A cookie that no script reads and no other site sends, but that comes with the issuer's redirect.
    pub(crate) fn holding(&self, state: &HttpState, secret: &str, seconds: i64) -> String {
        let secure = if state.sign_in.is_secure { "; Secure" } else { "" };
        let Self { name, path } = self;
        format!("{name}={secret}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
    }

    /// The secret in the browser's cookie.
    pub(crate) fn secret<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == self.name).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_secret_is_found_among_other_cookies() {
        let cookie = BrowserCookie { name: "firebackup-sign-in", path: "/" };
        for (cookies, expect) in [
            ("a=b; firebackup-sign-in=x; c=d", Some("x")),
            ("firebackup-sign-in=x", Some("x")),
            ("firebackup-sign-in=org_1.a+/=", Some("org_1.a+/=")),
            ("xfirebackup-sign-in=x", None),
            ("a=b", None),
        ] {
            let headers = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_static(cookies))]);
            assert_eq!(cookie.secret(&headers), expect, "{cookies}");
        }
    }
}
