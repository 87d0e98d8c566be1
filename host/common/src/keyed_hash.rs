//! HMAC-SHA-256 under a key of 32 random bytes. It replaces an id that must not be stored itself.

use std::fmt;
use std::io;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::digest::{InvalidDigest, Sha256Digest};

/// A secret key. Its debug output does not contain it; [`HashKey::to_hex`] and
/// [`HashKey::to_bytes`] are for its place.
#[derive(Clone, PartialEq, Eq)]
pub struct HashKey([u8; 32]);

impl HashKey {
    /// Creates a key from the operating system's random numbers.
    ///
    /// # Errors
    ///
    /// If the operating system has no random numbers.
    pub fn random() -> io::Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self(key))
    }

    /// Creates a key from its bytes.
    #[must_use]
    pub fn from_bytes(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// Returns the key as bytes, for its database.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0
    }

    /// Parses 64 hexadecimal digits.
    ///
    /// # Errors
    ///
    /// If the text has another length or other characters.
    pub fn from_hex(text: &str) -> Result<Self, InvalidDigest> {
        text.parse().map(|Sha256Digest(key)| Self(key))
    }

    /// Returns the key as 64 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        Sha256Digest(self.0).to_string()
    }

    /// Returns the hash of a text.
    pub fn hash(&self, text: &str) -> Sha256Digest {
        // HMAC pads a short key with zeros to a block. A whole block cannot have a wrong length.
        let mut block = [0; 64];
        block
            .iter_mut()
            .zip(self.0)
            .for_each(|(place, byte)| *place = byte);
        let mut hmac = Hmac::<Sha256>::new(&block.into());
        hmac.update(text.as_bytes());
        Sha256Digest(hmac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Second test case of RFC 4231. Padding its key with zeros does not change the HMAC.
    #[test]
    fn hash_known_key_matches_rfc_4231() {
        let key = HashKey::from_hex(&format!("{:0<64}", "4a656665")).unwrap();
        let hash = key.hash("what do ya want for nothing?").to_string();
        assert_eq!(
            hash,
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(HashKey::from_hex(&key.to_hex()).unwrap(), key);
        assert_eq!(format!("{key:?}"), "HashKey");
    }

    #[test]
    fn random_keys_differ() {
        assert_ne!(HashKey::random().unwrap(), HashKey::random().unwrap());
    }
}
