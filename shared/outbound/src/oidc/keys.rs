//! The keys that an issuer signs with.
//!
//! They change: an issuer publishes the next one and some day signs with it. A key that is not known is looked for
//! anew, at most once a minute.

use firebackup_model::{PortError, Timestamp};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Header};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use url::Url;

use super::discovery::{is_fresh, published};
use super::failure::denied;
use crate::client::OutboundClient;

/// Seconds between two searches for keys that are not known.
const SEARCH_INTERVAL: f64 = 60.0;

/// The keys as they were last read.
#[derive(Default)]
pub(super) struct KeyCache {
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    keys: Vec<Jwk>,
    read: Option<Timestamp>,
    searched: Option<Timestamp>,
}

/// A key that cannot be read is one that we do not know: an issuer may have keys of kinds to come.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

impl KeyCache {
    /// The key that a token with this header is signed with. One search at a time: who waits finds what it found.
    pub async fn key(
        &self,
        header: &Header,
        url: &Url,
        client: &OutboundClient,
        now: Timestamp,
    ) -> Result<DecodingKey, PortError> {
        let mut held = self.held.lock().await;
        if !held.read.is_some_and(|read| is_fresh(read, now)) {
            held.read(url, client, now).await?;
        } else if find(&held.keys, header).is_none() && held.may_search(now) {
            held.searched = Some(now);
            held.read(url, client, now).await?;
        }
        let key = find(&held.keys, header).ok_or_else(|| denied("the id token is not signed with the issuer's key"))?;
        DecodingKey::from_jwk(key).map_err(|_| denied("the issuer's key is none"))
    }
}

impl Held {
    fn may_search(&self, now: Timestamp) -> bool {
        !self.searched.is_some_and(|searched| (0.0..SEARCH_INTERVAL).contains(&now.seconds_since(searched)))
    }

    async fn read(&mut self, url: &Url, client: &OutboundClient, now: Timestamp) -> Result<(), PortError> {
        let set: KeySet = published(url.clone(), client).await?;
        self.keys = set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect();
        self.read = Some(now);
        Ok(())
    }
}

/// A token that does not name its key has the only one that fits.
fn find<'a>(keys: &'a [Jwk], header: &Header) -> Option<&'a Jwk> {
    let mut fitting = keys.iter().filter(|key| fits(key, header.alg));
    match &header.kid {
        Some(kid) => fitting.find(|key| key.common.key_id.as_ref() == Some(kid)),
        None => fitting.next().filter(|_| fitting.next().is_none()),
    }
}

/// Whether the key is for verifying just this algorithm: whoever signs does not choose how a key is used.
fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let common = &key.common;
    common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature)
        && common.key_operations.as_ref().is_none_or(|operations| operations.contains(&KeyOperations::Verify))
        && common.key_algorithm.is_none_or(|named| named == KeyAlgorithm::from(algorithm))
        && is_of_kind(&key.algorithm, algorithm)
}

fn is_of_kind(key: &AlgorithmParameters, algorithm: Algorithm) -> bool {
    match key {
        AlgorithmParameters::RSA(_) => algorithm.family() == AlgorithmFamily::Rsa,
        AlgorithmParameters::EllipticCurve(key) => matches!(
            (&key.curve, algorithm),
            (EllipticCurve::P256, Algorithm::ES256) | (EllipticCurve::P384, Algorithm::ES384)
        ),
        AlgorithmParameters::OctetKeyPair(key) => key.curve == EllipticCurve::Ed25519 && algorithm == Algorithm::EdDSA,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keys(values: &[Value]) -> Vec<Jwk> {
        values.iter().map(|value| serde_json::from_value(value.clone()).unwrap()).collect()
    }

    fn header(algorithm: Algorithm, kid: Option<&str>) -> Header {
        Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) }
    }

    #[test]
    fn a_key_is_used_for_what_it_says_and_no_more() {
        let rsa = json!({"kty": "RSA", "kid": "k", "n": "AQAB", "e": "AQAB"});
        let check = |changes: Value, algorithm: Algorithm, expect: bool| {
            let mut key = rsa.clone();
            key.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            let found = find(&keys(&[key]), &header(algorithm, Some("k"))).is_some();
            assert_eq!(found, expect, "{changes} {algorithm:?}");
        };
        check(json!({}), Algorithm::RS256, true);
        check(json!({}), Algorithm::PS512, true);
        check(json!({"use": "sig", "alg": "RS256", "key_ops": ["verify"]}), Algorithm::RS256, true);
        check(json!({"alg": "RS256"}), Algorithm::PS256, false);
        check(json!({"alg": "RSA-OAEP"}), Algorithm::RS256, false);
        check(json!({"use": "enc"}), Algorithm::RS256, false);
        check(json!({"key_ops": ["encrypt"]}), Algorithm::RS256, false);
        check(json!({"kid": "other"}), Algorithm::RS256, false);
        for algorithm in [Algorithm::HS256, Algorithm::ES256, Algorithm::EdDSA] {
            check(json!({}), algorithm, false);
        }
        let curve = |curve: &str| json!({"kty": "EC", "kid": "k", "crv": curve, "x": "AA", "y": "AA"});
        let fits = |key: Value, algorithm| find(&keys(&[key]), &header(algorithm, Some("k"))).is_some();
        assert!(fits(curve("P-256"), Algorithm::ES256) && fits(curve("P-384"), Algorithm::ES384));
        assert!(!fits(curve("P-384"), Algorithm::ES256) && !fits(curve("P-256"), Algorithm::RS256));
        let symmetric = json!({"kty": "oct", "kid": "k", "k": "c2VjcmV0"});
        assert!(!fits(symmetric, Algorithm::HS256));
        assert!(!fits(json!({"kty": "later", "kid": "k"}), Algorithm::RS256));
    }

    #[test]
    fn a_token_that_names_no_key_has_the_only_one_that_fits() {
        let rsa = |kid: &str| json!({"kty": "RSA", "kid": kid, "n": "AQAB", "e": "AQAB"});
        let ec = json!({"kty": "EC", "kid": "c", "crv": "P-256", "x": "AA", "y": "AA"});
        let unnamed = header(Algorithm::RS256, None);
        assert!(find(&keys(&[ec.clone(), rsa("a")]), &unnamed).is_some());
        assert!(find(&keys(&[rsa("a"), rsa("b")]), &unnamed).is_none());
        assert!(find(&keys(&[ec]), &unnamed).is_none());
    }
}
