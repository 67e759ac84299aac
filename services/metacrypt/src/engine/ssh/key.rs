//! Public keys that are to be signed, or are revoked.

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P521_SHA512_ASN1, ParsedPublicKey,
        VerificationAlgorithm,
    },
};
use data_encoding::{BASE64, BASE64_NOPAD};
use serde::{Deserialize, Serialize};
use ssh_key::{
    EcdsaCurve, PublicKey,
    public::{KeyData, RsaPublicKey},
};

use crate::engine::is_ed25519;

/// Longest line; an RSA key of [`MAX_RSA`] bits takes 1.4 KB.
const MAX_LINE: usize = 8192;
/// Least bits of an RSA key (NIST SP 800-57: 128 bits of strength).
const MIN_RSA: usize = 3072;
/// Most bits of an RSA key: each login verifies by it.
const MAX_RSA: usize = 8192;

/// How types of certificates end.
const CERTIFICATE: &str = "-cert-v01@openssh.com";

/// Types of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum KeyType {
    Ed25519,
    Ecdsa,
    Rsa,
    SkEd25519,
    SkEcdsa,
}

impl KeyType {
    /// All of them.
    pub(super) const ALL: [Self; 5] = [
        Self::Ed25519,
        Self::Ecdsa,
        Self::Rsa,
        Self::SkEd25519,
        Self::SkEcdsa,
    ];

    /// Whether the key is in a security key.
    pub(super) fn is_in_hardware(self) -> bool {
        matches!(self, Self::SkEd25519 | Self::SkEcdsa)
    }
}

impl std::fmt::Display for KeyType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ed25519 => "Ed25519",
            Self::Ecdsa => "ECDSA",
            Self::Rsa => "RSA",
            Self::SkEd25519 => "Ed25519 in a security key",
            Self::SkEcdsa => "ECDSA in a security key",
        })
    }
}

/// Why a text is no public key that would be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAKey {
    #[error("longer than {MAX_LINE} bytes")]
    TooLong,
    #[error("one line, as in a .pub file: type, Base64, and a comment if you like")]
    Form,
    #[error("a certificate; send the key itself (the .pub file without -cert)")]
    Certificate,
    #[error("keys of the type {0:?} are not signed; take ed25519 (ssh-keygen -t ed25519)")]
    Type(String),
    #[error(
        "not a point on its curve, one of small order, or not in its usual form; make another key"
    )]
    Point,
    #[error("an RSA key of {0} bits; {MIN_RSA} to {MAX_RSA} are taken")]
    Bits(usize),
    #[error("an RSA key with an exponent that is even, less than 65537, or longer than 32 bits")]
    Exponent,
}

/// A public key that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SubjectKey {
    data: KeyData,
    /// As SSH writes it.
    written: Vec<u8>,
    key_type: KeyType,
}

impl SubjectKey {
    /// Of a line of a `.pub` file, of which the comment counts for nothing.
    pub(super) fn parse(text: &str) -> Result<Self, NotAKey> {
        let text = text.trim();
        if text.len() > MAX_LINE {
            return Err(NotAKey::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(NotAKey::Form);
        }
        let name = text.split(' ').next().unwrap_or_default();
        if name.ends_with(CERTIFICATE) {
            return Err(NotAKey::Certificate);
        }
        let key = PublicKey::from_openssh(text).map_err(|_| NotAKey::Form)?;
        let data = KeyData::from(key);
        let key_type = key_type(&data)?;
        let written = PublicKey::from(data.clone()).to_bytes();
        Ok(Self {
            data,
            written: written.map_err(|_| NotAKey::Form)?,
            key_type,
        })
    }

    pub(super) fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// As the library reads it.
    pub(super) fn data(&self) -> &KeyData {
        &self.data
    }

    /// As SSH writes it.
    pub(super) fn written(&self) -> &[u8] {
        &self.written
    }

    /// What comes behind its type, as a certificate has it.
    pub(super) fn fields(&self) -> &[u8] {
        let name = self.data.algorithm();
        self.written
            .get(4 + name.as_str().len()..)
            .unwrap_or_default()
    }

    /// As a line without a comment.
    pub(super) fn line(&self) -> String {
        line(self.data.algorithm().as_str(), &self.written)
    }

    pub(super) fn fingerprint(&self) -> String {
        fingerprint(&self.written)
    }
}

/// As ssh-keygen shows it.
pub(super) fn fingerprint(written: &[u8]) -> String {
    let hash = digest(&SHA256, written);
    format!("SHA256:{}", BASE64_NOPAD.encode(hash.as_ref()))
}

/// As a line of authorized_keys, without a comment.
pub(super) fn line(name: &str, written: &[u8]) -> String {
    format!("{name} {}", BASE64.encode(written))
}

fn key_type(data: &KeyData) -> Result<KeyType, NotAKey> {
    match data {
        KeyData::Ed25519(key) => ed25519(&key.0).map(|()| KeyType::Ed25519),
        KeyData::SkEd25519(key) => ed25519(&key.public_key().0).map(|()| KeyType::SkEd25519),
        KeyData::Ecdsa(key) => on_curve(key.curve(), key.as_sec1_bytes()).map(|()| KeyType::Ecdsa),
        KeyData::SkEcdsaSha2NistP256(key) => {
            let point = key.ec_point().as_bytes();
            on_curve(EcdsaCurve::NistP256, point).map(|()| KeyType::SkEcdsa)
        }
        KeyData::Rsa(key) => rsa(key).map(|()| KeyType::Rsa),
        KeyData::Certificate(_) => Err(NotAKey::Certificate),
        other => Err(NotAKey::Type(other.algorithm().as_str().to_owned())),
    }
}

fn ed25519(point: &[u8]) -> Result<(), NotAKey> {
    is_ed25519(point).then_some(()).ok_or(NotAKey::Point)
}

/// A point of which OpenSSH makes a key: one that is not compressed.
fn on_curve(curve: EcdsaCurve, point: &[u8]) -> Result<(), NotAKey> {
    let algorithm: &'static dyn VerificationAlgorithm = match curve {
        EcdsaCurve::NistP256 => &ECDSA_P256_SHA256_ASN1,
        EcdsaCurve::NistP384 => &ECDSA_P384_SHA384_ASN1,
        EcdsaCurve::NistP521 => &ECDSA_P521_SHA512_ASN1,
    };
    let uncompressed = point.first() == Some(&4);
    let is_one = uncompressed && ParsedPublicKey::new(algorithm, point).is_ok();
    is_one.then_some(()).ok_or(NotAKey::Point)
}

fn rsa(key: &RsaPublicKey) -> Result<(), NotAKey> {
    let n = key.n().as_positive_bytes().unwrap_or_default();
    let zeros = n.first().map_or(0, |first| first.leading_zeros());
    let bits = (n.len() * 8).saturating_sub(usize::try_from(zeros).unwrap_or_default());
    if !(MIN_RSA..=MAX_RSA).contains(&bits) {
        return Err(NotAKey::Bits(bits));
    }
    let e = key.e().as_positive_bytes().unwrap_or_default();
    let exponent = (e.len() <= 4).then(|| e.iter().fold(0, |e, byte| e << 8 | u64::from(*byte)));
    match exponent {
        Some(e @ 65_537..) if e % 2 == 1 => Ok(()),
        _ => Err(NotAKey::Exponent),
    }
}

#[cfg(test)]
mod tests;
