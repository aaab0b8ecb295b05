//! What an id token says, and whether it is proven.

use std::fmt;

use firebackup_model::port::Identity;
use firebackup_model::{PortError, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use subtle::ConstantTimeEq;

use super::OidcSettings;
use super::failure::denied;

/// Signatures that nobody can make who can check them.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// Seconds by which two clocks may differ.
const LEEWAY: f64 = 60.0;
const SUBJECT_CHARS: usize = 255;
const NAME_CHARS: usize = 100;
/// No mail server takes a longer address.
const EMAIL_CHARS: usize = 254;
const GOOGLE: &str = "https://accounts.google.com";
/// Google's documents reserve the right to this one.
const GOOGLE_WITHOUT_SCHEME: &str = "accounts.google.com";

/// What a signature covers. Seconds since 1970 may have decimals.
#[derive(Deserialize)]
pub(super) struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: f64,
    iat: f64,
    nbf: Option<f64>,
    nonce: Option<String>,
    email: Option<String>,
    #[serde(default, deserialize_with = "is_true")]
    email_verified: bool,
    name: Option<String>,
}

/// A token is nobody's business.
impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claims(..)")
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// Some issuers write `"true"`.
fn is_true<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(value == Value::Bool(true) || value == "true")
}

/// How a token says that it is signed. Nothing of it is proven; the algorithm and the key's id alone are used.
pub(super) fn header(token: &str) -> Result<Header, PortError> {
    let header = decode_header(token).map_err(|_| denied("the id token is not signed as one"))?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(denied("the id token is signed in a way that anybody could"));
    }
    if header.crit.is_some() {
        return Err(denied("the id token wants something understood that is not"));
    }
    Ok(header)
}

/// What the token says, once its signature holds. The library's error would show a piece of the token: it is not kept.
pub(super) fn claims(token: &str, algorithm: Algorithm, key: &DecodingKey) -> Result<Claims, PortError> {
    let data = decode::<Claims>(token, key, &signature_only(algorithm));
    data.map(|data| data.claims).map_err(|error| match error.kind() {
        jsonwebtoken::errors::ErrorKind::InvalidSignature => denied("the signature of the id token does not hold"),
        _ => denied("the id token lacks what one says"),
    })
}

/// The library would hold the times against a clock of its own.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

/// Who it is, if the token is from this issuer, for us, of now and of this sign-in.
pub(super) fn identity(
    claims: Claims,
    settings: &OidcSettings,
    nonce: &str,
    now: Timestamp,
) -> Result<Identity, PortError> {
    check_issuer(&claims, &settings.issuer)?;
    check_audience(&claims, &settings.client_id)?;
    check_times(&claims, now)?;
    check_nonce(&claims, nonce)?;
    if !(1..=SUBJECT_CHARS).contains(&claims.sub.chars().count()) {
        return Err(denied("the id token does not say whose it is"));
    }
    let email = claims.email.filter(|email| (1..=EMAIL_CHARS).contains(&email.chars().count()));
    Ok(Identity {
        issuer: settings.issuer.clone(),
        subject: claims.sub,
        email_verified: claims.email_verified && email.is_some(),
        email,
        name: claims.name.map(|name| name.chars().take(NAME_CHARS).collect()).filter(|name: &String| !name.is_empty()),
    })
}

/// Whose it is, if the token is from this issuer, for this audience, of now, and the issuer vouches for the address. Google's
/// tokens of service accounts name the account where those of people name who asked.
pub(super) fn account(claims: Claims, issuer: &str, audience: &str, now: Timestamp) -> Result<String, PortError> {
    check_issuer(&claims, issuer)?;
    if claims.aud.all() != [audience] {
        return Err(denied("the id token is for somebody else"));
    }
    check_times(&claims, now)?;
    match claims.email.filter(|email| claims.email_verified && (1..=EMAIL_CHARS).contains(&email.chars().count())) {
        Some(email) => Ok(email),
        None => Err(denied("the issuer does not vouch for the address in the id token")),
    }
}

fn check_issuer(claims: &Claims, issuer: &str) -> Result<(), PortError> {
    let is_googles = issuer == GOOGLE && claims.iss == GOOGLE_WITHOUT_SCHEME;
    if claims.iss == issuer || is_googles { Ok(()) } else { Err(denied("the id token is another issuer's")) }
}

/// A token for several has been asked for by one of them, which is to be us.
fn check_audience(claims: &Claims, client_id: &str) -> Result<(), PortError> {
    let audience = claims.aud.all();
    let asked_by_us = match &claims.azp {
        Some(party) => party == client_id,
        None => audience.len() == 1,
    };
    if asked_by_us && audience.iter().any(|one| one == client_id) {
        Ok(())
    } else {
        Err(denied("the id token is for somebody else"))
    }
}

fn check_times(claims: &Claims, now: Timestamp) -> Result<(), PortError> {
    let now = now.seconds as f64;
    if claims.exp + LEEWAY <= now {
        return Err(denied("the id token has expired"));
    }
    if claims.iat.max(claims.nbf.unwrap_or(claims.iat)) > now + LEEWAY {
        return Err(denied("the id token is not valid yet"));
    }
    Ok(())
}

fn check_nonce(claims: &Claims, nonce: &str) -> Result<(), PortError> {
    let told = claims.nonce.as_deref().unwrap_or_default();
    let is_ours = !nonce.is_empty() && bool::from(told.as_bytes().ct_eq(nonce.as_bytes()));
    if is_ours { Ok(()) } else { Err(denied("the id token is of another sign-in")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zeroize::Zeroizing;

    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn settings(issuer: &str) -> OidcSettings {
        OidcSettings {
            issuer: issuer.to_owned(),
            client_id: "us".to_owned(),
            client_secret: Zeroizing::default(),
            redirect_uri: String::new(),
        }
    }

    #[test]
    fn an_account_is_proven_for_one_audience() {
        let account_of = |changes: Value| {
            let mut claims = json!({
                "iss": "https://issuer", "sub": "42", "aud": "https://here", "azp": "42", "exp": NOW + 300, "iat": NOW,
                "email": "a@example.com", "email_verified": true,
            });
            for (name, value) in changes.as_object().unwrap() {
                claims[name] = value.clone();
            }
            let claims = serde_json::from_value(claims).unwrap();
            account(claims, "https://issuer", "https://here", Timestamp::new(NOW, 0)).ok()
        };
        assert_eq!(account_of(json!({})).as_deref(), Some("a@example.com"));
        assert!(account_of(json!({ "aud": ["https://here"] })).is_some());
        for changes in [
            json!({ "iss": "https://another" }),
            json!({ "aud": "https://elsewhere" }),
            json!({ "aud": ["https://here", "https://elsewhere"] }),
            json!({ "aud": [] }),
            json!({ "exp": NOW - 61 }),
            json!({ "iat": NOW + 61 }),
            json!({ "email": null }),
            json!({ "email": "" }),
            json!({ "email_verified": false }),
            json!({ "email_verified": null }),
        ] {
            assert_eq!(account_of(changes.clone()), None, "{changes}");
        }
    }

    /// What a token of `https://issuer` says with these changes, where null takes a claim out.
    fn identify(changes: Value) -> Result<Identity, String> {
        identify_at("https://issuer", changes)
    }

    fn identify_at(issuer: &str, changes: Value) -> Result<Identity, String> {
        let mut claims = json!({
            "iss": issuer, "sub": "42", "aud": "us", "exp": NOW + 300, "iat": NOW, "nonce": "n",
            "email": "a@example.com", "email_verified": true, "name": "A",
        });
        let object = claims.as_object_mut().unwrap();
        object.extend(changes.as_object().unwrap().clone());
        object.retain(|_, value| !value.is_null());
        let claims = serde_json::from_value(claims).map_err(|error| error.to_string())?;
        identity(claims, &settings(issuer), "n", Timestamp::new(NOW, 0)).map_err(|error| error.message().to_owned())
    }

    #[track_caller]
    fn refused(changes: Value, expect: &str) {
        let error = identify(changes.clone()).unwrap_err();
        assert!(error.contains(expect), "{changes}: {error}");
    }

    #[test]
    fn a_token_that_proves_everything_says_who_it_is() {
        let expect = Identity {
            issuer: "https://issuer".to_owned(),
            subject: "42".to_owned(),
            email: Some("a@example.com".to_owned()),
            email_verified: true,
            name: Some("A".to_owned()),
        };
        assert_eq!(identify(json!({})).unwrap(), expect);
        let several = json!({"aud": ["them", "us"], "azp": "us"});
        assert_eq!(identify(several).unwrap(), expect);
    }

    #[test]
    fn a_token_of_another_issuer_audience_or_sign_in_proves_nothing() {
        for issuer in ["https://issuer/", "https://ISSUER", "http://issuer", ""] {
            refused(json!({"iss": issuer}), "another issuer's");
        }
        for audience in [json!("them"), json!([]), json!(["them"]), json!(["them", "us"]), json!("US"), json!("u")] {
            refused(json!({"aud": audience}), "for somebody else");
        }
        refused(json!({"azp": "them"}), "for somebody else");
        refused(json!({"aud": ["us", "them"], "azp": "them"}), "for somebody else");
        refused(json!({"aud": "them", "azp": "us"}), "for somebody else");
        for nonce in [json!("m"), json!(""), json!("nn"), Value::Null] {
            refused(json!({"nonce": nonce}), "another sign-in");
        }
        for subject in [String::new(), "x".repeat(256)] {
            refused(json!({"sub": subject}), "whose it is");
        }
        for claim in ["iss", "sub", "aud", "exp", "iat"] {
            refused(json!({claim: null}), "missing field");
            refused(json!({claim: {}}), "");
        }
    }

    #[test]
    fn a_token_has_its_time_and_clocks_a_minute() {
        identify(json!({"exp": NOW - 59})).unwrap();
        refused(json!({"exp": NOW - 60}), "expired");
        refused(json!({"exp": -1e300}), "expired");
        identify(json!({"iat": NOW + 60, "nbf": NOW + 60})).unwrap();
        identify(json!({"iat": NOW as f64 - 0.5})).unwrap();
        refused(json!({"iat": NOW + 61}), "not valid yet");
        refused(json!({"nbf": NOW + 61}), "not valid yet");
        refused(json!({"nbf": 1e300}), "not valid yet");
    }

    #[test]
    fn google_may_leave_its_scheme_out_and_nobody_else() {
        let google = identify_at(GOOGLE, json!({"iss": "accounts.google.com"})).unwrap();
        assert_eq!(google.issuer, GOOGLE);
        refused(json!({"iss": "issuer"}), "another issuer's");
        refused(json!({"iss": "accounts.google.com"}), "another issuer's");
        assert!(identify_at(GOOGLE, json!({"iss": "http://accounts.google.com"})).is_err());
    }

    #[test]
    fn an_address_is_vouched_for_only_where_the_issuer_says_so() {
        let verified = |changes: Value| identify(changes).unwrap().email_verified;
        assert!(verified(json!({"email_verified": "true"})));
        for value in [json!(false), json!("false"), json!("TRUE"), json!(1), json!({}), Value::Null] {
            assert!(!verified(json!({"email_verified": value})), "{value}");
        }
        let without = identify(json!({"email": null})).unwrap();
        assert_eq!((without.email, without.email_verified), (None, false));
        let too_long = identify(json!({"email": "x".repeat(255)})).unwrap();
        assert_eq!((too_long.email, too_long.email_verified), (None, false));
    }

    #[test]
    fn a_name_is_a_hundred_characters_at_most() {
        let name = |name: Value| identify(json!({"name": name})).unwrap().name;
        assert_eq!(name(json!("é".repeat(101))), Some("é".repeat(100)));
        assert_eq!(name(json!("")), None);
        assert_eq!(name(Value::Null), None);
    }

    #[test]
    fn only_signatures_that_nobody_else_can_make_are_looked_at() {
        let check = |text: Value| {
            use base64::Engine;
            let part = |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
            header(&format!("{}.{}.c2ln", part(&text), part(&json!({})))).is_ok()
        };
        for algorithm in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"] {
            assert!(check(json!({"alg": algorithm})), "{algorithm}");
        }
        for algorithm in ["none", "None", "", "HS256", "HS384", "HS512", "rs256", "ES256K"] {
            assert!(!check(json!({"alg": algorithm})), "{algorithm}");
        }
        assert!(!check(json!({"alg": "RS256", "crit": ["exp"]})));
        assert!(!check(json!({})));
        assert!(header("").is_err() && header("a.b").is_err() && header("a.b.c.d").is_err());
    }
}
