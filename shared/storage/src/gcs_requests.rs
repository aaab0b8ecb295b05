//! What requests to Google Cloud Storage carry that the client does not write: the key of Google's key service under which
//! an object is kept, on the request that puts it, begins its upload in parts or copies it. Parts carry none: they are kept
//! as their upload was begun. Requests bear a token and no signature, so a header can be added.

use async_trait::async_trait;
use http::HeaderValue;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService};
use object_store::{ClientOptions, Result};

use crate::public_connector::Connector;

const KEY_NAME: &str = "x-goog-encryption-kms-key-name";

/// Makes the clients of one store.
#[derive(Debug, Clone)]
pub(crate) struct GcsRequests {
    key_name: Option<HeaderValue>,
    connector: Connector,
}

impl GcsRequests {
    pub(crate) const fn new(key_name: Option<HeaderValue>, connector: Connector) -> Self {
        Self { key_name, connector }
    }
}

impl HttpConnector for GcsRequests {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        let inner = self.connector.connect(options)?;
        let Some(key_name) = self.key_name.clone() else { return Ok(inner) };
        Ok(HttpClient::new(Keyed { inner, key_name }))
    }
}

/// A client that names the key.
#[derive(Debug)]
struct Keyed {
    inner: HttpClient,
    key_name: HeaderValue,
}

#[async_trait]
impl HttpService for Keyed {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if begins_an_object(&request) {
            request.headers_mut().insert(KEY_NAME, self.key_name.clone());
        }
        self.inner.execute(request).await
    }
}

/// `PUT` without `partNumber`, or `POST ?uploads`. Tokens are fetched by `POST` without it.
fn begins_an_object(request: &HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or_default();
    let has = |name: &str| query.split('&').any(|one| one.split('=').next() == Some(name));
    match request.method().as_str() {
        "PUT" => !has("partNumber"),
        "POST" => has("uploads"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_an_object_names_the_key_and_nothing_else_does() {
        for (method, target, expect) in [
            ("PUT", "https://storage.googleapis.com/b/a", true),
            ("POST", "https://storage.googleapis.com/b/a?uploads", true),
            ("POST", "https://storage.googleapis.com/b/a?uploads=", true),
            ("PUT", "https://storage.googleapis.com/b/a?partNumber=1&uploadId=u", false),
            ("POST", "https://storage.googleapis.com/b/a?uploadId=u", false),
            ("POST", "https://oauth2.googleapis.com/token", false),
            ("GET", "https://storage.googleapis.com/b/a", false),
            ("DELETE", "https://storage.googleapis.com/b/a", false),
        ] {
            let request = http::Request::builder().method(method).uri(target).body(String::new().into()).unwrap();
            assert_eq!(begins_an_object(&request), expect, "{method} {target}");
        }
    }
}
