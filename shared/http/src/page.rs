//! A page that lists the operations of the API and sends requests, for whoever tries it in a browser.
//!
//! It is three files of our own, and the browser is told to load, send to and be framed by nothing else: a key is typed
//! into it. The key stays in the page and is forgotten with it.

use axum::Router;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::state::HttpState;

/// Where it is.
pub(crate) const PATH: &str = "/docs";

const FILES: [(&str, &str, &str); 3] = [
    (PATH, "text/html; charset=utf-8", include_str!("page/page.html")),
    ("/docs/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/docs/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
];

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";
const HEADERS: [(HeaderName, &str); 2] =
    [(header::CONTENT_SECURITY_POLICY, POLICY), (header::REFERRER_POLICY, "no-referrer")];

/// The page's routes.
pub(crate) fn routes() -> Router<HttpState> {
    let add = |routes: Router<HttpState>, (path, kind, text)| routes.route(path, get(move || file(kind, text)));
    FILES.into_iter().fold(Router::new(), add)
}

async fn file(kind: &'static str, text: &'static str) -> Response {
    (HEADERS, [(header::CONTENT_TYPE, kind)], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_no_other_host_and_holds_nothing_that_the_policy_stops() {
        for (path, _, text) in FILES {
            for stopped in
                ["//", "url(", "@import", "style=", "<style", "onclick", "eval(", "innerHTML", "localStorage"]
            {
                // a comment is no address
                let lines = text.lines().filter(|line| !line.trim_start().starts_with("// "));
                assert!(lines.clone().all(|line| !line.contains(stopped)), "{path}: {stopped}");
            }
        }
        let html = FILES[0].2;
        let named = |attribute: &'static str| html.split(attribute).skip(1).filter_map(|rest| rest.split('"').next());
        let loaded: Vec<&str> = named("src=\"").chain(named("href=\"")).collect();
        assert_eq!(loaded, ["/docs/page.js", "/docs/page.css", "/openapi.json"]);
    }

    #[tokio::test]
    async fn every_file_comes_with_the_policy() {
        for (path, kind, text) in FILES {
            let response = file(kind, text).await;
            assert_eq!(response.headers()[header::CONTENT_TYPE], kind, "{path}");
            let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        }
    }
}
