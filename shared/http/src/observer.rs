//! Who is told of every answer, to count it.

use std::time::Duration;

use axum::http::Method;

/// An answer, in words of which there are few: no id, no path and nobody's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered<'a> {
    /// The method; `other` where it is none that a route knows.
    pub method: &'static str,
    /// The route, with names in place of ids; `none` where there is no such route.
    pub route: &'a str,
    /// The status.
    pub status: u16,
    /// How long the answer took.
    pub took: Duration,
}

impl Answered<'_> {
    /// The status, as `2xx`.
    #[must_use]
    pub const fn status_class(&self) -> &'static str {
        match self.status {
            0..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        }
    }
}

/// Is told of every answer. Nobody waits for it.
pub trait Observer: Send + Sync {
    /// Is told of one.
    fn answered(&self, answered: &Answered<'_>);
}

/// A client may invent methods: each would be another time series.
pub(crate) fn name_of(method: &Method) -> &'static str {
    const KNOWN: [Method; 7] =
        [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD, Method::OPTIONS];
    const NAMES: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    KNOWN.iter().zip(NAMES).find(|(known, _)| *known == method).map_or("other", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_invents_is_no_label() {
        assert_eq!(name_of(&Method::PATCH), "PATCH");
        assert_eq!(name_of(&Method::from_bytes(b"INVENTED-1").unwrap()), "other");
        let class = |status| Answered { method: "GET", route: "none", status, took: Duration::ZERO }.status_class();
        assert_eq!([101, 200, 308, 404, 503, 999].map(class), ["1xx", "2xx", "3xx", "4xx", "5xx", "5xx"]);
    }
}
