//! Random values that cookies carry, what is stored of them, and the tokens of forms that are bound to them.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    constant_time, digest, hmac, rand,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};

use super::SessionId;

/// 256 bits: nobody guesses one.
const BYTES: usize = 32;
/// Of a [`Secret`] in Base64.
const TEXT: usize = 43;
/// Of a token: a pad and the key under it, in Base64.
const TOKEN_TEXT: usize = 86;
/// Of AES-GCM.
const NONCE: usize = 12;

/// What a cookie carries. Its `Debug` says nothing.
#[derive(Clone)]
pub(super) struct Secret([u8; BYTES]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    pub(super) fn random() -> Self {
        Self(random())
    }

    /// Of a cookie's value, which has one spelling.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() != TEXT {
            return None;
        }
        BASE64.decode(text).ok()?.try_into().ok().map(Self)
    }

    pub(super) fn text(&self) -> String {
        BASE64.encode(self.0)
    }

    /// What is stored: it finds the session, and makes no cookie.
    pub(super) fn hash(&self) -> [u8; BYTES] {
        let hash = digest::digest(&digest::SHA256, &self.0);
        hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// A token for a form. Each is another one under a random pad, so that what compression tells of a response (BREACH) adds up to
    /// nothing; and none tells the cookie.
    pub(super) fn token(&self) -> String {
        let pad: [u8; BYTES] = random();
        let mut bytes = pad.to_vec();
        bytes.extend(self.token_key().iter().zip(pad).map(|(k, p)| k ^ p));
        BASE64.encode(bytes)
    }

    /// Whether `token` is one of [`Self::token`]. The comparison takes the same time wherever they differ.
    pub(super) fn is_token(&self, token: &str) -> bool {
        if token.len() != TOKEN_TEXT {
            return false;
        }
        let Ok(bytes) = BASE64.decode(token) else {
            return false;
        };
        let (pad, masked) = bytes.split_at(BYTES);
        let key: Vec<u8> = masked.iter().zip(pad).map(|(m, p)| m ^ p).collect();
        constant_time::verify_slices_are_equal(&key, &self.token_key()).is_ok()
    }

    /// Encrypts what only requests with this cookie are to know: the database does not have it.
    pub(super) fn seal(&self, text: &[u8]) -> String {
        let mut text = text.to_vec();
        let nonce = self
            .sealing_key()
            .seal_in_place_append_tag(Aad::empty(), &mut text);
        let mut sealed = nonce.expect("far below AES-GCM's bounds").as_ref().to_vec();
        sealed.append(&mut text);
        BASE64.encode(sealed)
    }

    /// What was sealed by [`Self::seal`] of the same secret.
    pub(super) fn open(&self, sealed: &str) -> Option<Vec<u8>> {
        let mut sealed = BASE64.decode(sealed).ok()?;
        let (nonce, text) = sealed.split_at_mut_checked(NONCE)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let text = self
            .sealing_key()
            .open_in_place(nonce, Aad::empty(), text)
            .ok()?;
        Some(text.to_vec())
    }

    fn sealing_key(&self) -> RandomizedNonceKey {
        let key = self.derive(b"sealed with the session");
        RandomizedNonceKey::new(&AES_256_GCM, &key).expect("a key of its length")
    }

    /// The session's.
    pub(super) fn id(&self) -> SessionId {
        SessionId(self.hash())
    }

    fn token_key(&self) -> [u8; BYTES] {
        self.derive(b"form token")
    }

    fn derive(&self, what: &[u8]) -> [u8; BYTES] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let tag = hmac::sign(&key, what);
        tag.as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
    }
}

/// Random bytes.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system has random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_are_their_secrets_and_never_twice_the_same() {
        let (one, other) = (Secret::random(), Secret::random());
        let (token, again) = (one.token(), one.token());
        assert_ne!(token, again);
        assert!(one.is_token(&token) && one.is_token(&again));
        assert!(!other.is_token(&token), "of another cookie");
        assert!(!token.contains(&one.text()));
    }

    #[test]
    fn what_is_sealed_is_its_cookies() {
        let (one, other) = (Secret::random(), Secret::random());
        let sealed = one.seal(b"tokens");
        assert_ne!(sealed, one.seal(b"tokens"), "never twice the same");
        assert_eq!(one.open(&sealed).as_deref(), Some(&b"tokens"[..]));
        assert!(other.open(&sealed).is_none(), "of another cookie");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(one.open(&changed).is_none(), "changed at {at}");
        }
        for wrong in ["", "A", &"A".repeat(20), "!"] {
            assert!(one.open(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn secrets_are_read_back() {
        let secret = Secret::random();
        let read = Secret::parse(&secret.text()).unwrap();
        assert_eq!(read.hash(), secret.hash());
        assert!(Secret::parse("").is_none());
        assert!(Secret::parse(&"=".repeat(43)).is_none());
        assert!(Secret::parse(&format!("{} ", secret.text())).is_none());
    }

    proptest! {
        #[test]
        fn a_changed_token_is_none(at in 0usize..TOKEN_TEXT, byte in any::<u8>()) {
            let secret = Secret([7; BYTES]);
            let mut token = secret.token().into_bytes();
            prop_assume!(token[at] != byte);
            token[at] = byte;
            if let Ok(token) = String::from_utf8(token) {
                prop_assert!(!secret.is_token(&token));
            }
        }

        #[test]
        fn anything_else_is_none(token in ".{0,120}") {
            prop_assert!(!Secret([7; BYTES]).is_token(&token));
        }
    }
}
