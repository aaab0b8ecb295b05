//! Asking a Google account whether we may into its projects.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use firebackup_control::{Code, ControlError, Kind, SIGN_IN_SECONDS};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::authentication::Authenticated;
use crate::browser::{BrowserCookie, Returning};
use crate::envelope::{Answer, Envelope};
use crate::failure::Failure;
use crate::parameter::Asked;
use crate::state::HttpState;

/// Holds the secret of a browser that asks for a consent.
const COOKIE: BrowserCookie = BrowserCookie { name: "firebackup-consent", path: "/api/v1/projects/oauth" };

/// Where a consent is asked for.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ConsentPage {
    /// Where to send the browser that has asked, within ten minutes.
    #[schema(example = "https://accounts.google.com/o/oauth2/v2/auth?…")]
    url: String,
}

/// What came of it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ConsentGrant {
    /// For the credentials of a project, once and for ten minutes, for whoever has asked.
    #[schema(read_only, example = "fbg_…")]
    grant: String,
}

pub(crate) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(begin_consent)).routes(routes!(finish_consent))
}

/// Says where a Google account is asked to let FireBackup in
///
/// Role: admin. In place of a key: whoever owns the project consents at Google, and the browser comes back with a grant that
/// connects one project (`credentials: {"type": "oauth", "grant": …}`). The browser gets a cookie that it must bring back.
/// Where the installation's OAuth client is Google's.
#[utoipa::path(
    get,
    path = "/projects/oauth",
    tag = "projects",
    responses((status = 200, description = "Where to send the browser.", body = Envelope<ConsentPage>))
)]
async fn begin_consent(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
) -> Result<Response, Failure> {
    let begun = state.control.begin_consent(&caller).await?;
    let cookie = COOKIE.holding(&state, &begun.browser_secret, SIGN_IN_SECONDS);
    Ok(([(header::SET_COOKIE, cookie)], Answer::of(ConsentPage { url: begun.url })).into_response())
}

/// Takes a browser back from Google
///
/// Sends it on to the application with `?grant=`, where the installation has one, else shows the grant.
#[utoipa::path(
    get,
    path = "/projects/oauth/callback",
    tag = "projects",
    security(()),
    params(Returning),
    responses(
        (status = 200, description = "The grant.", body = Envelope<ConsentGrant>),
        (status = 302, description = "The application.")
    )
)]
async fn finish_consent(
    State(state): State<HttpState>,
    headers: HeaderMap,
    Asked(back): Asked<Returning>,
) -> Result<Response, Failure> {
    let Some((returned, code)) = back.taken() else {
        let message = "Google did not let us in: begin again";
        return Err(ControlError::new(Kind::Unauthorized, Code::ConsentFailed, message).into());
    };
    let grant = state.control.finish_consent(&returned, &code, COOKIE.secret(&headers)).await?.to_string();
    let mut response = match state.sign_in.with_grant(&grant).map_err(ControlError::internal)? {
        Some(url) => (StatusCode::FOUND, [(header::LOCATION, url)]).into_response(),
        None => Answer::of(ConsentGrant { grant }).into_response(),
    };
    // the cookie has served
    if let Ok(cookie) = HeaderValue::from_str(&COOKIE.holding(&state, "", 0)) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}
