//! Signing in and out.

use std::fmt;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use firebackup_control::{
    ACCESS_SECONDS, ApiKey, Code, ControlError, Kind, Me, OrganizationId, Right, SIGN_IN_SECONDS, Tokens, User,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Handled;
use crate::authentication::{Bearer, From, SignedIn};
use crate::body::JsonBody;
use crate::browser::{BrowserCookie, Returning};
use crate::envelope::{Answer, Envelope};
use crate::failure::Failure;
use crate::needs::Body;
use crate::parameter::Asked;
use crate::state::HttpState;

/// Holds the secret of a browser that signs in.
const COOKIE: BrowserCookie = BrowserCookie { name: "firebackup-sign-in", path: "/api/v1/auth" };

/// The end of a sign-in.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SignInCode {
    /// For `POST /auth/token`, once and for two minutes.
    #[schema(read_only, example = "fbc_…")]
    code: String,
}

/// How a session begins.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TokenRequest {
    /// The code at the end of a sign-in.
    #[schema(write_only, example = "fbc_…")]
    code: String,
    /// Always `authorization_code`.
    grant_type: GrantType,
}

impl Body for TokenRequest {
    const NEEDS: Option<Right> = None;
}

/// How a session begins.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum GrantType {
    /// With a code.
    AuthorizationCode,
}

/// How a session goes on.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RefreshRequest {
    /// The refresh token, which is good once.
    #[schema(write_only, example = "fbr_…")]
    refresh_token: String,
}

impl Body for RefreshRequest {
    const NEEDS: Option<Right> = None;
}

/// What a session is held by.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TokenPair {
    /// To send as `Authorization: Bearer …`.
    #[schema(read_only, example = "fba_…")]
    access_token: String,
    /// For the next pair, once.
    #[schema(read_only, example = "fbr_…")]
    refresh_token: String,
    /// Seconds for which the access token is good.
    expires_in: i64,
    /// Always `Bearer`.
    token_type: &'static str,
}

impl fmt::Debug for TokenPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenPair(..)")
    }
}

impl std::convert::From<Tokens> for TokenPair {
    fn from(tokens: Tokens) -> Self {
        Self {
            access_token: tokens.access.to_string(),
            refresh_token: tokens.refresh.to_string(),
            expires_in: ACCESS_SECONDS,
            token_type: "Bearer",
        }
    }
}

/// Who calls: a user, or the holder of an API key.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct WhoCalls {
    /// The person who is signed in.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User>,
    /// The API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<ApiKey>,
    /// The organization of the API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<OrganizationId>,
}

/// That somebody has signed out.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SignedOut {
    /// Always true.
    signed_out: bool,
}

pub(crate) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default()
        .routes(routes!(begin_sign_in))
        .routes(routes!(finish_sign_in))
        .routes(routes!(begin_session))
        .routes(routes!(refresh_session))
        .routes(routes!(me))
        .routes(routes!(sign_out))
}

/// Sends a browser to the issuer to sign in
///
/// Google, or whichever OpenID Connect issuer the installation is set up with. For a browser: it gets a cookie that it must
/// bring back.
#[utoipa::path(
    get,
    path = "/auth/google",
    tag = "auth",
    security(()),
    responses((status = 302, description = "Where to sign in."))
)]
async fn begin_sign_in(State(state): State<HttpState>) -> Result<Response, Failure> {
    let begun = state.control.begin_sign_in().await?;
    let cookie = COOKIE.holding(&state, &begun.browser_secret, SIGN_IN_SECONDS);
    let headers = [(header::LOCATION, begun.url), (header::SET_COOKIE, cookie)];
    Ok((StatusCode::FOUND, headers).into_response())
}

/// Takes a browser back from the issuer
///
/// Sends it on to the application with `?code=`, where the installation has one, else shows the code: for `POST /auth/token`.
#[utoipa::path(
    get,
    path = "/auth/google/callback",
    tag = "auth",
    security(()),
    params(Returning),
    responses(
        (status = 200, description = "The code.", body = Envelope<SignInCode>),
        (status = 302, description = "The application.")
    )
)]
async fn finish_sign_in(
    State(state): State<HttpState>,
    From(origin): From,
    headers: HeaderMap,
    Asked(back): Asked<Returning>,
) -> Result<Response, Failure> {
    let Some((returned, code)) = back.taken() else {
        let message = "the issuer did not sign you in: begin again";
        return Err(ControlError::new(Kind::Unauthorized, Code::SignInFailed, message).into());
    };
    let secret = COOKIE.secret(&headers);
    let code = state.control.finish_sign_in(&returned, &code, secret, &origin).await?.to_string();
    let mut response = match state.sign_in.with_code(&code).map_err(ControlError::internal)? {
        Some(url) => (StatusCode::FOUND, [(header::LOCATION, url)]).into_response(),
        None => Answer::of(SignInCode { code }).into_response(),
    };
    // the cookie has served
    if let Ok(cookie) = HeaderValue::from_str(&COOKIE.holding(&state, "", 0)) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Begins a session
///
/// With the code at the end of a sign-in, or the one that a server on one machine prints when it starts.
#[utoipa::path(
    post,
    path = "/auth/token",
    tag = "auth",
    security(()),
    request_body = TokenRequest,
    responses((status = 200, description = "An access and a refresh token.", body = Envelope<TokenPair>))
)]
async fn begin_session(
    State(state): State<HttpState>,
    From(origin): From,
    JsonBody(request): JsonBody<TokenRequest>,
) -> Handled<TokenPair> {
    let GrantType::AuthorizationCode = request.grant_type;
    Ok(Answer::of(state.control.begin_session(&request.code, &origin).await?.into()))
}

/// Goes on with a session
///
/// Each refresh token is good once. One that comes a second time was copied: the session ends, with all its tokens.
#[utoipa::path(
    post,
    path = "/auth/refresh",
    tag = "auth",
    security(()),
    request_body = RefreshRequest,
    responses((status = 200, description = "The next access and refresh token.", body = Envelope<TokenPair>))
)]
async fn refresh_session(
    State(state): State<HttpState>,
    From(origin): From,
    JsonBody(request): JsonBody<RefreshRequest>,
) -> Handled<TokenPair> {
    Ok(Answer::of(state.control.refresh_session(&request.refresh_token, &origin).await?.into()))
}

/// Says who calls
#[utoipa::path(
    get,
    path = "/auth/me",
    tag = "auth",
    responses((status = 200, description = "The user, or the API key.", body = Envelope<WhoCalls>))
)]
async fn me(State(state): State<HttpState>, From(origin): From, Bearer(token): Bearer) -> Handled<WhoCalls> {
    let who = match state.control.me(&token, origin).await? {
        Me::User(user) => WhoCalls { user: Some(user), api_key: None, organization_id: None },
        Me::ApiKey(key, organization) => {
            WhoCalls { user: None, api_key: Some(key), organization_id: Some(organization) }
        }
    };
    Ok(Answer::of(who))
}

/// Signs out
///
/// The session ends, with all its tokens. For people, not for API keys.
#[utoipa::path(
    post,
    path = "/auth/logout",
    tag = "auth",
    responses((status = 200, description = "The session has ended.", body = Envelope<SignedOut>))
)]
async fn sign_out(State(state): State<HttpState>, SignedIn(person): SignedIn) -> Handled<SignedOut> {
    state.control.sign_out(&person).await?;
    Ok(Answer::of(SignedOut { signed_out: true }))
}
