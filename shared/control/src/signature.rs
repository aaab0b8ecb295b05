//! The signature of webhooks, as the Standard Webhooks specification has it: the base64 of the HMAC-SHA-256 of id, time and
//! body.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use firebackup_model::Timestamp;
use firebackup_model::port::Random;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::{ControlError, Result};
use crate::secrets::SealedSecret;

/// What a secret begins with.
const SECRET: &str = "whsec_";
/// Bytes of a secret; the specification wants 24 to 64.
const SECRET_BYTES: usize = 32;

/// For how many seconds a secret is good that was exchanged.
const FORMER_SECONDS: i64 = 24 * 3600;
/// How many secrets before are good beside the newest: a header has bounds.
const MAX_FORMER: usize = 3;
/// By how many seconds what is signed may be older or younger than it is here.
const TOLERANCE_SECONDS: u64 = 5 * 60;
/// The most signatures that are looked at: as many as we make ourselves, and some.
const MAX_SIGNATURES: usize = 16;

/// A secret that was exchanged, and is good beside the new one for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FormerSecret {
    pub(crate) sealed: SealedSecret,
    pub(crate) until: Timestamp,
}

impl FormerSecret {
    /// Puts a secret before those that were exchanged earlier; says until when it is good.
    pub(crate) fn add(former: &mut Vec<Self>, sealed: SealedSecret, now: Timestamp) -> Timestamp {
        let until = now.plus_seconds(FORMER_SECONDS);
        former.insert(0, Self { sealed, until });
        former.retain(|former| now < former.until);
        former.truncate(MAX_FORMER);
        until
    }

    /// Those that are good.
    pub(crate) fn good(former: &[Self], now: Timestamp) -> impl Iterator<Item = &SealedSecret> {
        former.iter().filter(move |former| now < former.until).map(|former| &former.sealed)
    }
}

/// The headers that prove from whom a body comes, as somebody sent them.
#[derive(Clone, PartialEq, Eq)]
pub struct Signed {
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`.
    pub timestamp: String,
    /// `webhook-signature`.
    pub signature: String,
}

/// What somebody sent to prove who they are is nobody's business.
impl std::fmt::Debug for Signed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signed(..)")
    }
}

impl Signed {
    /// Whether it was signed just now.
    pub(crate) fn is_of(&self, now: Timestamp) -> bool {
        let at = self.timestamp.parse::<i64>().ok();
        at.is_some_and(|at| at.abs_diff(now.seconds) <= TOLERANCE_SECONDS)
    }

    /// Whether one of the signatures is by one of the secrets.
    pub(crate) fn is_by(&self, secrets: &[Zeroizing<String>], body: &[u8]) -> Result<bool> {
        let signatures = self.signature.split(' ').take(MAX_SIGNATURES).filter_map(|text| text.strip_prefix("v1,"));
        let signatures: Vec<_> = signatures.filter_map(|text| STANDARD.decode(text).ok()).collect();
        for secret in secrets {
            let mac = mac(secret, &self.id, &self.timestamp, body)?;
            // in a time that does not tell how much of it is right
            if signatures.iter().any(|signature| mac.clone().verify_slice(signature).is_ok()) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A new secret.
pub(crate) fn new_secret(random: &dyn Random) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
    random.fill(&mut *bytes);
    let encoded = Zeroizing::new(STANDARD.encode(*bytes));
    Zeroizing::new(format!("{SECRET}{}", encoded.as_str()))
}

/// The headers that prove from whom a body comes, and when: a signature by each secret, of which a receiver needs to know
/// one.
pub(crate) fn headers(
    secrets: &[Zeroizing<String>],
    id: &str,
    at: Timestamp,
    body: &str,
) -> Result<[(&'static str, String); 3]> {
    let time = at.seconds.to_string();
    let signatures: Vec<_> = secrets.iter().map(|secret| signature(secret, id, &time, body)).collect::<Result<_>>()?;
    let signature = signatures.join(" ");
    Ok([("webhook-id", id.to_owned()), ("webhook-timestamp", time), ("webhook-signature", signature)])
}

fn signature(secret: &str, id: &str, time: &str, body: &str) -> Result<String> {
    let mac = mac(secret, id, time, body.as_bytes())?;
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

fn mac(secret: &str, id: &str, time: &str, body: &[u8]) -> Result<Hmac<Sha256>> {
    let encoded = secret.strip_prefix(SECRET).unwrap_or(secret);
    // neither cause may repeat the secret
    let broken = || ControlError::internal("a secret to sign with is broken");
    let key = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| broken())?);
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| broken())?;
    for part in [id.as_bytes(), b".", time.as_bytes(), b".", body] {
        mac.update(part);
    }
    Ok(mac)
}

#[cfg(test)]
mod tests {
    use firebackup_testkit::memory_ports::CountedRandom;

    use super::*;

    #[test]
    fn it_is_that_of_the_specification() {
        // the example of the reference libraries
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let (id, time) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330");
        let signature = signature(secret, id, time, r#"{"test": 2432232314}"#).unwrap();
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn secrets_are_of_the_wanted_length() {
        let secret = new_secret(&CountedRandom::default());
        let bytes = STANDARD.decode(secret.strip_prefix(SECRET).unwrap()).unwrap();
        assert!((24..=64).contains(&bytes.len()));
    }

    #[test]
    fn what_is_signed_holds_for_its_body_its_time_and_its_secrets() {
        let random = CountedRandom::default();
        let secrets = [new_secret(&random), new_secret(&random)];
        let now = Timestamp::new(1_700_000_000, 0);
        let [(_, id), (_, timestamp), (_, signature)] = headers(&secrets[1..], "evt", now, "body").unwrap();
        let signed = Signed { id, timestamp, signature };
        assert!(signed.is_by(&secrets, b"body").unwrap());
        let others = |change: fn(&mut Signed)| {
            let mut other = signed.clone();
            change(&mut other);
            other.is_by(&secrets, b"body").unwrap()
        };
        assert!(others(|signed| signed.signature = format!("v1,AAAA v2,x nonsense {}", signed.signature)));
        assert!(!others(|signed| signed.id = "evu".to_owned()));
        assert!(!others(|signed| signed.timestamp = "1700000001".to_owned()));
        assert!(!others(|signed| signed.signature = String::new()));
        assert!(!others(|signed| signed.signature = "v1,".to_owned()));
        assert!(!others(|signed| signed.signature = format!("{}{}", "v1,A ".repeat(16), signed.signature)));
        assert!(!signed.is_by(&secrets, b"bodz").unwrap());
        assert!(!signed.is_by(&secrets[..1], b"body").unwrap());
        assert!(!signed.is_by(&[], b"body").unwrap());
        for (seconds, expect) in [(0, true), (300, true), (-300, true), (301, false), (-301, false)] {
            assert_eq!(signed.is_of(now.plus_seconds(seconds)), expect, "{seconds}");
        }
        let never = Signed { timestamp: "nonsense".to_owned(), ..signed };
        assert!(!never.is_of(now) && format!("{never:?}") == "Signed(..)");
    }
}
