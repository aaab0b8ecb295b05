//! Refused attempts are noted in the audit log: of those who are known in their organization's, of all others in the
//! installation's.

use std::sync::{Arc, OnceLock};

use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use firebackup_control::{Caller, Refused};
use zeroize::Zeroizing;

use crate::authentication::{bearer, origin_of};
use crate::failure::RefusedWith;
use crate::state::HttpState;

/// Who was found to call, for whoever looks at the answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownCaller(Arc<OnceLock<Caller>>);

impl KnownCaller {
    pub(crate) fn remember(&self, caller: Caller) {
        // a request has one caller
        drop(self.0.set(caller));
    }

    pub(crate) fn caller(&self) -> Option<&Caller> {
        self.0.get()
    }
}

/// Notes requests that are refused because of who calls.
pub(crate) async fn note_refusals(State(state): State<HttpState>, mut request: Request, next: Next) -> Response {
    let known = KnownCaller::default();
    request.extensions_mut().insert(known.clone());
    let origin = origin_of(request.extensions());
    let holds = bearer(request.headers()).ok().map(|token| Zeroizing::new(token.to_owned()));
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    if !matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        return response;
    }
    if let Some(RefusedWith(code)) = response.extensions().get().copied() {
        let route = route.as_ref().map_or("none", MatchedPath::as_str);
        let refused = Refused { method: method.as_str(), route, code };
        match known.0.get() {
            Some(caller) => state.control.note_refused(caller, &refused).await,
            None => {
                // whoever is not authorized has proven nothing
                let holds = holds.filter(|_| response.status() == StatusCode::FORBIDDEN);
                state.control.note_holder(holds.as_ref().map(|token| token.as_str()), &origin, &refused).await;
            }
        }
    }
    response
}
