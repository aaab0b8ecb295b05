//! A browser in which somebody signs in: it follows redirects when it is told to, and keeps one cookie.

use firebackup_testkit::OAuthServer;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, header};
use serde_json::{Value, json};

/// What an issuer and a server know each other by.
pub const CLIENT: (&str, &str) = ("firebackup-test", "planted-client-secret");

/// A browser of one person.
pub struct Browser {
    client: Client,
    /// The API, up to and with `/api/v1`.
    address: String,
    cookie: Option<String>,
}

/// A browser that is on its way back from the issuer.
pub struct Returning {
    pub code: String,
    pub state: String,
}

impl Browser {
    pub fn new(address: &str) -> Self {
        let client = Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
        Self { client, address: address.to_owned(), cookie: None }
    }

    /// What was given to keep for the way back.
    pub fn secret(&self) -> &str {
        self.cookie.as_deref().and_then(|cookie| cookie.split_once('=')).map_or("", |(_, secret)| secret)
    }

    /// Goes to the issuer, where the person is signed in.
    pub async fn goes(&mut self, issuer: &OAuthServer) -> Returning {
        let answer = self.client.get(format!("{}/auth/google", self.address)).send().await.unwrap();
        assert_eq!(answer.status(), 302, "{}", answer.text().await.unwrap());
        self.keep_cookie(&answer, "/api/v1/auth");
        let to = answer.headers()[header::LOCATION].to_str().unwrap().to_owned();
        assert!(to.starts_with(issuer.issuer()), "{to}");
        let (code, state) = issuer.authorize(&to).await;
        Returning { code, state }
    }

    /// Goes to the issuer to let us into the person's projects, as whoever holds `token` asks.
    pub async fn goes_to_consent(&mut self, issuer: &OAuthServer, token: &str) -> Returning {
        let request = self.client.get(format!("{}/projects/oauth", self.address)).bearer_auth(token);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        self.keep_cookie(&answer, "/api/v1/projects/oauth");
        let body: Value = answer.json().await.unwrap();
        let (code, state) = issuer.authorize(body["data"]["url"].as_str().unwrap()).await;
        Returning { code, state }
    }

    /// Comes back with a consent: the status, and the body.
    pub async fn comes_back_consenting(&mut self, returning: &Returning) -> (u16, Value) {
        let (status, _, body) = self.comes_back_to("/projects/oauth/callback", returning).await;
        (status, body)
    }

    /// There and back, which must succeed: the grant.
    pub async fn grant(&mut self, issuer: &OAuthServer, token: &str) -> String {
        let returning = self.goes_to_consent(issuer, token).await;
        let (status, body) = self.comes_back_consenting(&returning).await;
        assert_eq!(status, 200, "{body:#}");
        body["data"]["grant"].as_str().unwrap().to_owned()
    }

    /// Comes back: the status, where it is sent on to, and the body.
    pub async fn comes_back(&mut self, returning: &Returning) -> (u16, Option<String>, Value) {
        self.comes_back_to("/auth/google/callback", returning).await
    }

    async fn comes_back_to(&mut self, path: &str, returning: &Returning) -> (u16, Option<String>, Value) {
        let query = [("code", &returning.code), ("state", &returning.state)];
        let url = format!("{}{path}", self.address);
        let url = reqwest::Url::parse_with_params(&url, &query).unwrap();
        let mut request = self.client.get(url);
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let to = answer.headers().get(header::LOCATION).map(|to| to.to_str().unwrap().to_owned());
        (status, to, answer.json().await.unwrap_or_default())
    }

    /// There and back: the status of the way back, and its body.
    pub async fn signs_in(&mut self, issuer: &OAuthServer) -> (u16, Value) {
        let returning = self.goes(issuer).await;
        let (status, _, body) = self.comes_back(&returning).await;
        (status, body)
    }

    /// There and back, which must succeed: the tokens.
    pub async fn tokens(&mut self, issuer: &OAuthServer) -> Value {
        let (status, body) = self.signs_in(issuer).await;
        assert_eq!(status, 200, "{body:#}");
        let code = json!({ "code": body["data"]["code"], "grant_type": "authorization_code" });
        let (status, mut tokens) = self.posts("/auth/token", &code).await;
        assert_eq!(status, 200, "{tokens:#}");
        tokens["data"].take()
    }

    /// What a page of the application asks without a token.
    pub async fn posts(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.client.post(format!("{}{path}", self.address)).json(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// What it asks with one.
    pub async fn asks(&self, path: &str, token: &Value) -> (u16, Value) {
        let request = self.client.get(format!("{}{path}", self.address)).bearer_auth(token.as_str().unwrap());
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    fn keep_cookie(&mut self, answer: &Response, path: &str) {
        let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
        for part in ["HttpOnly", "SameSite=Lax", &format!("Path={path};")] {
            assert!(cookie.contains(part), "{cookie}");
        }
        self.cookie = cookie.split(';').next().map(str::to_owned);
    }
}

/// What an issuer says of somebody.
pub fn person(subject: &str, email: &str) -> Value {
    json!({ "claims": { "sub": subject, "email": email, "email_verified": true, "name": subject } })
}
