//! What the audit log has in the place of secrets: who has one can tell in which requests it was, and who has the log cannot guess at it.

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use mc_proto::Secrets;
use mcdsl::audit::{Detail, MAX_LIST};

use super::key::Key;

/// Bytes of an HMAC that are kept: enough to tell any two apart.
const KEPT: usize = 16;

/// Makes them.
pub struct Prints(hmac::Key);

impl Prints {
    pub(super) fn new(key: &Key) -> Self {
        let key = key.derived("audit");
        Self(hmac::Key::new(HMAC_SHA256, key.bytes()))
    }

    /// That of a secret.
    #[must_use]
    pub fn of(&self, secret: &[u8]) -> String {
        let tag = hmac::sign(&self.0, secret);
        format!("hmac-sha256:{}", mcdsl::human::hex(&tag.as_ref()[..KEPT]))
    }

    /// Adds those of what a request's definition says is secret, each behind its field's name; of many the first ones.
    #[must_use]
    pub fn noted(&self, detail: Detail, request: &dyn Secrets) -> Detail {
        let mut noted = Vec::new();
        request.each_secret(&mut |field, secret| {
            if !secret.is_empty() && noted.len() < MAX_LIST {
                noted.push(format!("{field} {}", self.of(secret)));
            }
        });
        match noted.is_empty() {
            true => detail,
            false => detail.list("hmac", noted.iter().map(String::as_str)),
        }
    }
}

#[cfg(test)]
mod tests {
    use mc_proto::metacrypt::v1::{EncryptRequest, Plaintext};

    use super::*;

    #[test]
    fn a_secret_has_one_by_each_key_and_requests_have_those_of_theirs() {
        let key = Key::random().unwrap();
        let prints = Prints::new(&key);
        let one = prints.of(b"one");
        assert!(
            one.starts_with("hmac-sha256:") && one.len() == 12 + 2 * KEPT,
            "{one}"
        );
        assert_eq!(one, Prints::new(&key).of(b"one"));
        assert_ne!(one, prints.of(b"two"));
        assert_ne!(one, Prints::new(&Key::random().unwrap()).of(b"one"));
        let plaintext = |text: &str| Plaintext {
            plaintext: text.into(),
            ..Plaintext::default()
        };
        let mut request = EncryptRequest {
            plaintexts: vec![plaintext("one"), plaintext("two"), plaintext("")],
            ..EncryptRequest::default()
        };
        let wanted = ["one", "two"].map(|text| format!("plaintext {}", prints.of(text.as_bytes())));
        let wanted = Detail::new().list("hmac", wanted.iter().map(String::as_str));
        assert_eq!(prints.noted(Detail::new(), &request), wanted);
        request.plaintexts.clear();
        assert_eq!(prints.noted(Detail::new(), &request), Detail::new());
    }
}
