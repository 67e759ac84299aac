//! What a service must remember while somebody logs in elsewhere (OIDC's state, nonce and verifier): in a cookie, since nobody is known
//! yet and a table would be anybody's to fill. It is encrypted under a key of the process; a restart in between means another try.

use std::time::{Duration, SystemTime};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::secret::random;
use crate::clock::SKEW;

/// For somebody to log in elsewhere, with a second factor.
pub(super) const LIFETIME: Duration = Duration::from_secs(600);
/// Bytes of the cookie; browsers take 4096 with its name.
const MAX: usize = 3000;
const NONCE: usize = 12;

pub(super) struct Key(RandomizedNonceKey);

#[derive(Serialize, Deserialize)]
struct Sealed<T> {
    until: SystemTime,
    state: T,
}

impl Key {
    pub(super) fn random() -> Self {
        let key: [u8; 32] = random();
        Self(RandomizedNonceKey::new(&AES_256_GCM, &key).expect("a key of its length"))
    }

    /// A cookie's value, for the cookie `name` alone. `None`: too long.
    pub(super) fn seal(
        &self,
        name: &str,
        state: &impl Serialize,
        now: SystemTime,
    ) -> Option<String> {
        let until = now + LIFETIME;
        let mut text = serde_json::to_vec(&Sealed { until, state }).ok()?;
        let aad = Aad::from(name.as_bytes());
        let nonce = self.0.seal_in_place_append_tag(aad, &mut text).ok()?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut text);
        let value = BASE64.encode(sealed);
        (value.len() <= MAX).then_some(value)
    }

    pub(super) fn open<T: DeserializeOwned>(
        &self,
        name: &str,
        value: &str,
        now: SystemTime,
    ) -> Option<T> {
        if value.len() > MAX {
            return None;
        }
        let mut sealed = BASE64.decode(value).ok()?;
        let (nonce, text) = sealed.split_at_mut_checked(NONCE)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let aad = Aad::from(name.as_bytes());
        let text = self.0.open_in_place(nonce, aad, text).ok()?;
        let opened: Sealed<T> = serde_json::from_slice(text).ok()?;
        // What lasts for longer was sealed while the clock was ahead.
        (now < opened.until && opened.until <= now + LIFETIME + SKEW).then_some(opened.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_its_cookies_for_a_while() {
        let key = Key::random();
        let now = SystemTime::now();
        let value = key.seal("a", &("state", 7), now).unwrap();
        let open = |key: &Key, name, value: &str, at| {
            let opened: Option<(String, u8)> = key.open(name, value, at);
            opened.map(|(_, n)| n)
        };
        assert_eq!(open(&key, "a", &value, now), Some(7));
        assert_eq!(open(&key, "a", &value, now + LIFETIME), None, "late");
        let right = now - SKEW;
        assert_eq!(open(&key, "a", &value, right), Some(7), "put right");
        let before = right - Duration::from_secs(1);
        assert_eq!(open(&key, "a", &value, before), None, "of the future");
        assert_eq!(open(&key, "b", &value, now), None, "another cookie's");
        assert_eq!(
            open(&Key::random(), "a", &value, now),
            None,
            "another process's"
        );
        for at in 0..value.len() {
            let mut changed = value.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(open(&key, "a", &changed, now), None, "changed at {at}");
        }
        for wrong in ["", "A", &"A".repeat(20), &"A".repeat(MAX + 1)] {
            assert_eq!(open(&key, "a", wrong, now), None, "{}", wrong.len());
        }
        assert!(key.seal("a", &"x".repeat(MAX), now).is_none());
    }
}
