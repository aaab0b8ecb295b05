//! Where requests come from, as whoever takes connections knows it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::connect_info::IntoMakeServiceWithConnectInfo;
use axum::extract::{ConnectInfo, Request};
use axum::http::HeaderMap;
use axum::middleware::{Next, from_fn};
use axum::response::Response;

use crate::realtime::LiveConnections;
use crate::router::live_router;
use crate::state::HttpState;

/// The address of a client; an extension of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// The whole API for a server that takes connections itself, or from a proxy in front of it.
pub fn service(
    state: HttpState,
    connections: Arc<dyn LiveConnections>,
    is_behind_proxy: bool,
) -> IntoMakeServiceWithConnectInfo<Router, SocketAddr> {
    let router =
        live_router(state, connections).layer(from_fn(move |request, next| add_client(is_behind_proxy, request, next)));
    router.into_make_service_with_connect_info()
}

/// Says where a request came from: the other end of the connection, or whom the proxy in front of us saw there.
async fn add_client(is_behind_proxy: bool, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let address = if is_behind_proxy { last_forwarded(request.headers()).or(peer) } else { peer };
    if let Some(address) = address {
        request.extensions_mut().insert(ClientAddress(address));
    }
    next.run(request).await
}

/// Whom the last proxy saw: it adds to the end, and what stands before may be the client's own invention.
fn last_forwarded(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    last.rsplit(',').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_what_the_last_proxy_says_counts() {
        for (values, expect) in [
            (&["203.0.113.9, 192.0.2.1"][..], Some("192.0.2.1")),
            (&["203.0.113.9", "192.0.2.1"], Some("192.0.2.1")),
            (&["2001:db8::1"], Some("2001:db8::1")),
            (&["192.0.2.1, nonsense"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-forwarded-for", HeaderValue::from_static(value));
            }
            assert_eq!(last_forwarded(&headers), expect.map(|text| text.parse().unwrap()), "{values:?}");
        }
    }
}
