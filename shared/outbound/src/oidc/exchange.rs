//! A code against tokens, and a token back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use firebackup_model::PortError;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};
use zeroize::Zeroizing;

use super::OidcSettings;
use super::discovery::{ClientLogin, Endpoints};
use super::failure::{denied, unavailable, unavailable_by};
use crate::client::{Answer, OutboundClient};
use crate::request::OutboundRequest;

/// The refusals of RFC 6749 (5.2) that may be shown; a server can write anything into its own.
const REFUSALS: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];

/// What a code was good for.
#[derive(Deserialize)]
pub(super) struct Tokens {
    pub id_token: String,
    /// Where access was asked for that outlasts the browser.
    #[serde(default)]
    pub refresh_token: Option<String>,
    /// What was granted of what was asked for; all of it where the issuer says nothing (RFC 6749, 5.1).
    #[serde(default)]
    pub scope: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// The tokens that the issuer gives for `code`.
pub(super) async fn tokens(
    settings: &OidcSettings,
    endpoints: &Endpoints,
    client: &OutboundClient,
    code: &str,
    verifier: &str,
) -> Result<Tokens, PortError> {
    let request = request(settings, endpoints, code, verifier)?;
    let answer = client.send(request).await.map_err(|source| unavailable_by("the issuer cannot be asked", source))?;
    read(&answer)
}

fn request(
    settings: &OidcSettings,
    endpoints: &Endpoints,
    code: &str,
    verifier: &str,
) -> Result<OutboundRequest, PortError> {
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", &settings.redirect_uri),
        ("code_verifier", verifier),
    ];
    form(settings, endpoints, &endpoints.token, &fields)
}

/// Gives a refresh token back. The answer says nothing that matters: one that is unknown is given back (RFC 7009, 2.2).
pub(super) async fn revoke(
    settings: &OidcSettings,
    endpoints: &Endpoints,
    client: &OutboundClient,
    token: &str,
) -> Result<(), PortError> {
    let Some(revocation) = &endpoints.revocation else { return Ok(()) };
    let request = form(settings, endpoints, revocation, &[("token", token), ("token_type_hint", "refresh_token")])?;
    let answer = client.send(request).await.map_err(|source| unavailable_by("the issuer cannot be asked", source))?;
    // Google says 400 of a token that it has forgotten
    match answer.status.is_success() || answer.status == StatusCode::BAD_REQUEST {
        true => Ok(()),
        false => Err(unavailable(format!("the issuer answers {} to a token that is given back", answer.status))),
    }
}

/// A form that says who we are.
fn form(
    settings: &OidcSettings,
    endpoints: &Endpoints,
    to: &Url,
    fields: &[(&str, &str)],
) -> Result<OutboundRequest, PortError> {
    let mut form = Serializer::new(String::new());
    form.extend_pairs(fields);
    if endpoints.login == ClientLogin::Post {
        form.append_pair("client_id", &settings.client_id).append_pair("client_secret", &settings.client_secret);
    }
    let request = OutboundRequest::post(to.clone(), form.finish())
        .header(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
        .header(ACCEPT, HeaderValue::from_static("application/json"));
    match endpoints.login {
        ClientLogin::Basic => Ok(request.header(AUTHORIZATION, basic(settings)?)),
        ClientLogin::Post => Ok(request),
    }
}

/// Both parts are encoded as in a form first, as RFC 6749 (2.3.1) wants it.
fn basic(settings: &OidcSettings) -> Result<HeaderValue, PortError> {
    let encoded = |text: &str| Zeroizing::new(byte_serialize(text.as_bytes()).collect::<String>());
    let (id, secret) = (encoded(&settings.client_id), encoded(&settings.client_secret));
    let pair = Zeroizing::new(format!("{}:{}", *id, *secret));
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut header = HeaderValue::from_str(&text).map_err(|_| unavailable("the client secret cannot be sent"))?;
    header.set_sensitive(true);
    Ok(header)
}

/// Why an answer cannot be read is not kept: the parser would say it with a piece of the answer.
fn read(answer: &Answer) -> Result<Tokens, PortError> {
    let status = answer.status;
    if answer.is_cut {
        return Err(unavailable("the issuer's answer to the code is too long"));
    }
    if status == StatusCode::OK {
        let tokens: Result<Tokens, _> = serde_json::from_slice(&answer.body);
        return tokens.map_err(|_| unavailable("the issuer gives no id token"));
    }
    match serde_json::from_slice(&answer.body) {
        Ok(refusal) if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => Err(refused(&refusal)),
        _ => Err(unavailable(format!("the issuer answers {status} to the code"))),
    }
}

fn refused(refusal: &Refusal) -> PortError {
    let error = REFUSALS.iter().find(|known| **known == refusal.error).unwrap_or(&"a reason of its own");
    denied(format!("the issuer does not take the code ({error})"))
}

#[cfg(test)]
mod tests {
    use firebackup_model::ErrorKind;
    use serde_json::json;

    use super::*;

    fn settings() -> OidcSettings {
        OidcSettings {
            issuer: "https://issuer.example".to_owned(),
            client_id: "a client".to_owned(),
            client_secret: Zeroizing::new("s:e+c/r=ét".to_owned()),
            redirect_uri: "https://here.example/back".to_owned(),
        }
    }

    fn endpoints(login: ClientLogin) -> Endpoints {
        let url = Url::parse("https://issuer.example/").unwrap();
        Endpoints { authorization: url.clone(), token: url.clone(), keys: url, revocation: None, login }
    }

    #[test]
    fn the_secret_stands_in_the_header_or_in_the_form_and_never_in_both() {
        let basic = request(&settings(), &endpoints(ClientLogin::Basic), "c", "v").unwrap();
        let header = &basic.headers[AUTHORIZATION];
        assert!(header.is_sensitive());
        let pair = STANDARD.decode(header.to_str().unwrap().strip_prefix("Basic ").unwrap()).unwrap();
        assert_eq!(String::from_utf8(pair).unwrap(), "a+client:s%3Ae%2Bc%2Fr%3D%C3%A9t");
        let form = String::from_utf8(basic.body.clone()).unwrap();
        assert_eq!(
            form,
            "grant_type=authorization_code&code=c&redirect_uri=https%3A%2F%2Fhere.example%2Fback&code_verifier=v"
        );
        let post = request(&settings(), &endpoints(ClientLogin::Post), "c", "v").unwrap();
        assert!(!post.headers.contains_key(AUTHORIZATION));
        let ending = "&client_id=a+client&client_secret=s%3Ae%2Bc%2Fr%3D%C3%A9t";
        assert_eq!(String::from_utf8(post.body).unwrap(), format!("{form}{ending}"));
    }

    #[test]
    fn a_refusal_is_of_the_code_and_all_else_of_the_issuer() {
        let check = |status: u16, body: &str, expect: ErrorKind| {
            let status = StatusCode::from_u16(status).unwrap();
            let answer = Answer { status, body: body.as_bytes().to_vec(), is_cut: false, retry_after: None };
            let error = read(&answer).err().unwrap();
            assert_eq!(error.kind, expect, "{status} {body}");
            assert!(!format!("{error} {error:?}").contains("planted"), "{error:?}");
        };
        let (denied, unavailable) = (ErrorKind::PermissionDenied, ErrorKind::Unavailable);
        check(400, &json!({"error": "invalid_grant", "error_description": "planted"}).to_string(), denied);
        check(401, &json!({"error": "planted"}).to_string(), denied);
        check(429, &json!({"error": "invalid_request"}).to_string(), unavailable);
        check(500, &json!({"error": "invalid_grant"}).to_string(), unavailable);
        check(302, "", unavailable);
        check(404, "<html>planted</html>", unavailable);
        check(200, "planted", unavailable);
        check(200, &json!({"id_token": ["planted"]}).to_string(), unavailable);
        check(200, &json!({"access_token": "planted"}).to_string(), unavailable);
        check(204, &json!({"id_token": "planted"}).to_string(), unavailable);
    }
}
