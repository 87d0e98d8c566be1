//! Signatures of webhooks, by the Standard Webhooks specification
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Minimum length of a secret in bytes, as the specification recommends.
const MIN_SECRET: usize = 24;

/// Prefix of a secret in Base64.
const PREFIX: &str = "whsec_";

/// Secret of a webhook. Its debug output does not contain it.
#[derive(Clone)]
pub(crate) struct SigningKey(Hmac<Sha256>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Parses a secret: `whsec_` and Base64, or plain text.
    ///
    /// # Errors
    ///
    /// One sentence with the remedy, without the secret.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let remedy = "make one with `echo whsec_$(openssl rand -base64 32)`";
        if text.is_empty() {
            return Err(format!("the secret is empty; {remedy}"));
        }
        if text.contains(['\n', '\r']) {
            return Err("the secret has more than one line; leave one".to_owned());
        }
        let key = match text.strip_prefix(PREFIX) {
            Some(encoded) => STANDARD.decode(encoded).map_err(|_| {
                format!("the secret begins with {PREFIX}, but is not Base64; {remedy}")
            })?,
            None => text.as_bytes().to_vec(),
        };
        if key.len() < MIN_SECRET {
            return Err(format!(
                "the secret is shorter than {MIN_SECRET} bytes, so that it could be guessed; \
                 {remedy}"
            ));
        }
        Hmac::new_from_slice(&key)
            .map(Self)
            .map_err(|error| format!("the secret cannot be used: {error}; {remedy}"))
    }

    /// Returns the value of `webhook-signature`.
    pub(crate) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's libraries.
    #[test]
    fn signature_is_that_of_specification() {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let body = br#"{"test": 2432232314}"#;
        assert_eq!(
            key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn weak_secret_is_refused() {
        for (secret, says) in [
            ("", "empty"),
            (" \n", "empty"),
            ("short", "24 bytes"),
            ("whsec_c2hvcnQ=", "24 bytes"),
            ("whsec_%%%%", "not Base64"),
            (
                "0123456789abcdef0123456789\n0123456789abcdef",
                "more than one line",
            ),
        ] {
            let error = SigningKey::parse(secret).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        let key = SigningKey::parse("0123456789abcdef0123456789").unwrap();
        assert!(!format!("{key:?}").contains("0123"));
    }
}
