//! Who calls. What the caller may do is decided by the verbs.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, header};
use firebackup_control::{Caller, Code, ControlError, Kind, OrganizationId, Origin, Person};
use tracing::Span;

use crate::client::ClientAddress;
use crate::failure::Failure;
use crate::refusal::KnownCaller;
use crate::request::RequestId;
use crate::state::HttpState;

/// Names the organization that a request is about.
pub(crate) const ORGANIZATION_HEADER: &str = "x-organization-id";

/// The proof of who calls. Stands first among a handler's arguments, so that a stranger learns nothing of the rest.
#[derive(Debug)]
pub(crate) struct Authenticated(pub(crate) Caller);

impl FromRequestParts<HttpState> for Authenticated {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Self, Failure> {
        let token = bearer(&parts.headers)?;
        let organization = organization(&parts.headers)?;
        let caller = state.control.authenticate(token, organization.as_ref()).await?.from(origin(parts));
        record_caller(&caller);
        if let Some(known) = parts.extensions.get::<KnownCaller>() {
            known.remember(caller.clone());
        }
        Ok(Self(caller))
    }
}

/// Says in the request's span who calls.
pub(crate) fn record_caller(caller: &Caller) {
    let span = Span::current();
    span.record("organization", tracing::field::display(caller.organization()));
    span.record("actor", tracing::field::display(caller.actor()));
}

/// The proof of who is signed in, where no organization is spoken of.
#[derive(Debug)]
pub(crate) struct SignedIn(pub(crate) Person);

impl FromRequestParts<HttpState> for SignedIn {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &HttpState) -> Result<Self, Failure> {
        let person = state.control.signed_in(bearer(&parts.headers)?, origin(parts)).await?;
        Span::current().record("actor", tracing::field::display(person.user()));
        Ok(Self(person))
    }
}

/// Whatever was sent to prove who calls. Not looked at yet.
pub(crate) struct Bearer(pub(crate) String);

impl FromRequestParts<HttpState> for Bearer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &HttpState) -> Result<Self, Failure> {
        Ok(Self(bearer(&parts.headers)?.to_owned()))
    }
}

/// Where a request came from.
pub(crate) struct From(pub(crate) Origin);

impl FromRequestParts<HttpState> for From {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &HttpState) -> Result<Self, Failure> {
        Ok(Self(origin(parts)))
    }
}

pub(crate) fn origin(parts: &Parts) -> Origin {
    origin_of(&parts.extensions)
}

pub(crate) fn origin_of(extensions: &Extensions) -> Origin {
    Origin {
        address: extensions.get::<ClientAddress>().map(|client| client.0),
        request: extensions.get::<RequestId>().map(|id| id.0.clone()),
    }
}

pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, Failure> {
    let missing = || {
        let message = "send an api key or an access token: `Authorization: Bearer …`";
        ControlError::new(Kind::Unauthorized, Code::Unauthorized, message)
    };
    let value = one(headers, header::AUTHORIZATION.as_str())?.ok_or_else(missing)?;
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => Ok(token.trim()),
        _ => Err(missing().into()),
    }
}

fn organization(headers: &HeaderMap) -> Result<Option<OrganizationId>, Failure> {
    let Some(text) = one(headers, ORGANIZATION_HEADER)? else { return Ok(None) };
    let id = text.parse().map_err(|error| Failure::unreadable(format!("{ORGANIZATION_HEADER}: {error}")))?;
    Ok(Some(id))
}

/// A header that may come once. Of two nobody knows which a proxy has looked at.
pub(crate) fn one<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Failure> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let text = value.to_str().map_err(|_| Failure::unreadable(format!("{name}: not readable text")))?;
            Ok(Some(text))
        }
        (Some(_), Some(_)) => Err(Failure::unreadable(format!("{name}: sent more than once"))),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_token_is_read_from_one_bearer_header() {
        for (value, expect) in [
            ("Bearer fb_x", Some("fb_x")),
            ("bearer  fb_x ", Some("fb_x")),
            ("Basic fb_x", None),
            ("Bearer", None),
            ("Bearer ", None),
            ("fb_x", None),
        ] {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))]);
            assert_eq!(bearer(&headers).ok(), expect, "{value}");
        }
        assert_eq!(bearer(&HeaderMap::new()).unwrap_err().code(), Code::Unauthorized);
        let mut twice = HeaderMap::new();
        twice.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        twice.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        assert_eq!(bearer(&twice).unwrap_err().code(), Code::InvalidRequest);
    }
}
