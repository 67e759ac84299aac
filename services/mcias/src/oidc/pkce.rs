//! Proof Key for Code Exchange (RFC 7636), by S256 alone.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};

/// Characters of a challenge.
const CHALLENGE: usize = 43;
/// Characters of a verifier (§4.1).
const VERIFIER: std::ops::RangeInclusive<usize> = 43..=128;

/// Whether it may be the challenge of a verifier.
pub(super) fn is_challenge(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    text.len() == CHALLENGE && text.bytes().all(plain)
}

/// Whether a verifier is the one of the challenge.
pub(super) fn verifies(verifier: &str, of: &str) -> bool {
    VERIFIER.contains(&verifier.len()) && challenge(verifier) == of
}

/// S256 (§4.2).
fn challenge(verifier: &str) -> String {
    BASE64.encode(digest(&SHA256, verifier.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7636, appendix B.
    #[test]
    fn the_challenge_is_the_rfcs() {
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }
}
