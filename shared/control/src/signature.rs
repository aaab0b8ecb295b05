//! The signature of webhooks, as the Standard Webhooks specification has it: the base64 of the HMAC-SHA-256 of id, time and
//! body.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use firebackup_model::Timestamp;
use firebackup_model::port::Random;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::{ControlError, Result};

/// What a secret begins with.
const SECRET: &str = "whsec_";
/// Bytes of a secret; the specification wants 24 to 64.
const SECRET_BYTES: usize = 32;

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
    let encoded = secret.strip_prefix(SECRET).unwrap_or(secret);
    // neither cause may repeat the secret
    let broken = || ControlError::internal("the secret of a webhook is broken");
    let key = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| broken())?);
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| broken())?;
    for part in [id, ".", time, ".", body] {
        mac.update(part.as_bytes());
    }
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
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
}
