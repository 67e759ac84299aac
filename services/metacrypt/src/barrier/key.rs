//! A key that seals what is stored.
//!
//! AES-256-GCM, with what a value is and where as associated data, so that none can be put in another's place. Each value has a key and a nonce of its own,
//! derived from the key by HKDF-SHA256 (RFC 5869) under 256 random bits: with random nonces under one key, AES-GCM is good for 2^32 values (NIST SP 800-38D
//! §8.3), which a busy issuer writes in a fortnight. Rejected: a counter for nonces (a restored snapshot would use them again); XAES-256-GCM, which
//! does the same by AES-CMAC (aws-lc-rs has no raw AES to derive with).

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
    rand,
};
use zeroize::Zeroizing;

/// Bytes of a key.
pub(crate) const KEY: usize = 32;
/// Bytes that tell the keys of values apart.
const SALT: usize = 32;
/// How a value is sealed; its first byte.
const FORM: u8 = 1;

/// Why something was not sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The system gives no random bytes.
    #[error("an internal error: no random bytes")]
    Random,
    /// Not sealed with this key, or as something else, or changed.
    #[error("{0} was not sealed with this key, or was changed")]
    Opened(String),
}

/// 256 secret bits, in one place: what is moved is where they are, or each move would leave a copy on a stack.
#[derive(Clone)]
pub(crate) struct Key(Box<Zeroizing<[u8; KEY]>>);

/// Bytes of HKDF's output.
struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

impl Key {
    fn empty() -> Self {
        Self(Box::new(Zeroizing::new([0; KEY])))
    }

    /// One that `fill` makes where it then is.
    ///
    /// # Errors
    /// Those of `fill`.
    pub(crate) fn filled<E>(fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut key = Self::empty();
        fill(&mut key.0[..])?;
        Ok(key)
    }

    /// A new one.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub(crate) fn random() -> Result<Self, KeyError> {
        Self::filled(|key| rand::fill(key).map_err(|_| KeyError::Random))
    }

    /// That of these bytes; `None` if they are not [`KEY`].
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let mut key = Self::empty();
        (bytes.len() == KEY).then(|| key.0.copy_from_slice(bytes))?;
        Some(key)
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8; KEY] {
        &self.0
    }

    /// Another key, for `purpose`; who has that does not have this one.
    pub(crate) fn derived(&self, purpose: &str) -> Self {
        let mut key = Self::empty();
        self.expand(&[], &["metacrypt key", purpose], &mut key.0[..]);
        key
    }

    fn expand(&self, salt: &[u8], info: &[&str], out: &mut [u8]) {
        let info: Vec<&[u8]> = info.iter().flat_map(|i| [i.as_bytes(), &[0]]).collect();
        let secret = Salt::new(HKDF_SHA256, salt).extract(&self.0[..]);
        let filled = secret
            .expand(&info, Bytes(out.len()))
            .and_then(|okm| okm.fill(out));
        // It refuses more than 255 blocks alone.
        filled.expect("a key's length");
    }

    fn of_value(&self, salt: &[u8; SALT]) -> (LessSafeKey, Nonce) {
        let mut both = Box::new(Zeroizing::new([0; KEY + NONCE_LEN]));
        self.expand(salt, &["metacrypt value 1"], &mut both[..]);
        let (key, nonce) = both.split_at(KEY);
        let key = UnboundKey::new(&AES_256_GCM, key).expect("the key's length");
        let nonce = Nonce::try_assume_unique_for_key(nonce).expect("the nonce's length");
        (LessSafeKey::new(key), nonce)
    }

    /// Seals `secret` as `what`, e.g. `item/<mount>/<path>`.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub(crate) fn seal(&self, what: &str, secret: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut salt = [0; SALT];
        rand::fill(&mut salt).map_err(|_| KeyError::Random)?;
        let (key, nonce) = self.of_value(&salt);
        let mut sealed = Vec::with_capacity(1 + SALT + secret.len() + MAX_TAG_LEN);
        sealed.push(FORM);
        sealed.extend_from_slice(&salt);
        // Encrypted where it then is.
        sealed.extend_from_slice(secret);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(what), &mut sealed[1 + SALT..]);
        sealed.extend_from_slice(tag.map_err(|_| KeyError::Random)?.as_ref());
        Ok(sealed)
    }

    /// Opens what was sealed as `what`.
    ///
    /// # Errors
    /// [`KeyError::Opened`].
    pub(crate) fn open(&self, what: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let wrong = || KeyError::Opened(what.to_owned());
        let (&form, rest) = sealed.split_first().ok_or_else(wrong)?;
        let (salt, body) = rest.split_first_chunk().ok_or_else(wrong)?;
        if form != FORM {
            return Err(wrong());
        }
        let (key, nonce) = self.of_value(salt);
        let mut body = Zeroizing::new(body.to_vec());
        let secret = key.open_in_place(nonce, Aad::from(what), &mut body);
        let length = secret.map_err(|_| wrong())?.len();
        body.truncate(length);
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_as_itself_alone() {
        let (key, other) = (Key::random().unwrap(), Key::random().unwrap());
        for secret in [&b""[..], b"secret"] {
            let sealed = key.seal("item/a", secret).unwrap();
            assert_eq!(**key.open("item/a", &sealed).unwrap(), *secret);
            assert_ne!(sealed, key.seal("item/a", secret).unwrap(), "twice alike");
            assert!(key.open("item/b", &sealed).is_err(), "in another's place");
            assert!(other.open("item/a", &sealed).is_err(), "by another key");
            for at in 0..sealed.len() {
                for bit in 0..8 {
                    let mut changed = sealed.clone();
                    changed[at] ^= 1 << bit;
                    assert!(key.open("item/a", &changed).is_err(), "{at}, {bit} flipped");
                }
                assert!(key.open("item/a", &sealed[..at]).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn a_key_for_a_purpose_is_another() {
        let key = Key::random().unwrap();
        let (audit, index) = (key.derived("audit"), key.derived("index"));
        assert_ne!(audit.bytes(), index.bytes());
        assert_ne!(audit.bytes(), key.bytes());
        assert_eq!(audit.bytes(), key.derived("audit").bytes());
        assert!(Key::of(&key.bytes()[1..]).is_none());
    }
}
