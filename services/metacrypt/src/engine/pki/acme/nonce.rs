//! Nonces (RFC 8555 §6.5): whoever has the mount's key knows those that it gave out; only which were used is stored.

use aws_lc_rs::{constant_time, hmac, rand};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};

/// Seconds for which one is good.
pub(crate) const LIFE_S: u64 = 15 * 60;
const RANDOM: usize = 12;
const TAG: usize = 16;
const BYTES: usize = 8 + RANDOM + TAG;

/// Makes them and knows them again.
pub(crate) struct Nonces(hmac::Key);

/// One that is good if it was not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nonce {
    ends_s: u64,
    random: [u8; RANDOM],
}

impl Nonces {
    /// By this secret.
    pub(crate) fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    fn tag(&self, of: &[u8]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        tag.copy_from_slice(&hmac::sign(&self.0, of).as_ref()[..TAG]);
        tag
    }

    /// Another one; `None` if the system gives no random bytes.
    pub(crate) fn make(&self, now_s: u64) -> Option<String> {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&(now_s + LIFE_S).to_be_bytes());
        rand::fill(&mut bytes[8..8 + RANDOM]).ok()?;
        let tag = self.tag(&bytes[..8 + RANDOM]);
        bytes[8 + RANDOM..].copy_from_slice(&tag);
        Some(BASE64URL_NOPAD.encode(&bytes))
    }

    /// One that came back; `None`: it is none of these, or too old.
    pub(crate) fn read(&self, text: &str, now_s: u64) -> Option<Nonce> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        let (head, tag) = bytes.split_at_checked(8 + RANDOM)?;
        constant_time::verify_slices_are_equal(&self.tag(head), tag).ok()?;
        let (ends_s, random) = head.split_first_chunk::<8>()?;
        let ends_s = u64::from_be_bytes(*ends_s);
        (ends_s > now_s).then_some(Nonce {
            ends_s,
            random: random.try_into().ok()?,
        })
    }
}

impl Nonce {
    /// Where it is noted that it was used: in the order of their ends.
    pub(crate) fn path(&self) -> String {
        format!("{:012}/{}", self.ends_s, HEXLOWER.encode(&self.random))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_known_by_who_made_it_for_a_while() {
        let (ours, theirs) = (Nonces::new(b"one"), Nonces::new(b"two"));
        let text = ours.make(1000).unwrap();
        let nonce = ours.read(&text, 1000).unwrap();
        assert!(nonce.path().starts_with("000000001900/"), "{nonce:?}");
        assert_eq!(ours.read(&text, 1000 + LIFE_S - 1), Some(nonce));
        assert_eq!(ours.read(&text, 1000 + LIFE_S), None, "old");
        assert_eq!(theirs.read(&text, 1000), None, "another mount's");
        assert_ne!(ours.make(1000), Some(text.clone()));
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(ours.read(&BASE64URL_NOPAD.encode(&changed), 1000), None);
            assert_eq!(ours.read(&BASE64URL_NOPAD.encode(&bytes[..at]), 1000), None);
        }
    }
}
