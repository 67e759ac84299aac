//! Keys as clients say and read them.

use mc_proto::metacrypt::v1::{KeyAlgorithm, TransitKey, TransitKeyEntry, TransitKeyVersion};
use serde::Deserialize;

use super::{algorithm::Algorithm, key::Key};
use crate::engine::{EngineError, time};

/// Longest age of a version: ten years.
const MAX_AGE_S: u64 = 10 * 365 * 24 * 60 * 60;

/// The algorithm that was sent.
pub(super) fn algorithm(sent: i32) -> Result<Algorithm, EngineError> {
    Ok(match KeyAlgorithm::try_from(sent) {
        Ok(KeyAlgorithm::Aes256Gcm) => Algorithm::Aes256Gcm,
        Ok(KeyAlgorithm::Xchacha20Poly1305) => Algorithm::Xchacha20Poly1305,
        Ok(KeyAlgorithm::Aes256Siv) => Algorithm::Aes256Siv,
        Ok(KeyAlgorithm::X25519Mlkem768) => Algorithm::X25519Mlkem768,
        Ok(KeyAlgorithm::Ed25519) => Algorithm::Ed25519,
        Ok(KeyAlgorithm::EcdsaP256) => Algorithm::EcdsaP256,
        Ok(KeyAlgorithm::EcdsaP384) => Algorithm::EcdsaP384,
        Ok(KeyAlgorithm::HmacSha256) => Algorithm::HmacSha256,
        Ok(KeyAlgorithm::Unspecified) | Err(_) => {
            return Err(EngineError::field(
                "algorithm",
                "say which; AES_256_GCM encrypts, ED25519 signs",
            ));
        }
    })
}

/// As clients read it.
pub(super) fn name_of(algorithm: Algorithm) -> KeyAlgorithm {
    match algorithm {
        Algorithm::Aes256Gcm => KeyAlgorithm::Aes256Gcm,
        Algorithm::Xchacha20Poly1305 => KeyAlgorithm::Xchacha20Poly1305,
        Algorithm::Aes256Siv => KeyAlgorithm::Aes256Siv,
        Algorithm::X25519Mlkem768 => KeyAlgorithm::X25519Mlkem768,
        Algorithm::Ed25519 => KeyAlgorithm::Ed25519,
        Algorithm::EcdsaP256 => KeyAlgorithm::EcdsaP256,
        Algorithm::EcdsaP384 => KeyAlgorithm::EcdsaP384,
        Algorithm::HmacSha256 => KeyAlgorithm::HmacSha256,
    }
}

/// PEM (RFC 7468) of what is base64 already; nothing of nothing.
fn pem(base64: &str) -> String {
    if base64.is_empty() {
        return String::new();
    }
    let mut pem = "-----BEGIN PUBLIC KEY-----\n".to_owned();
    for line in base64.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|b| char::from(*b)));
        pem.push('\n');
    }
    pem + "-----END PUBLIC KEY-----\n"
}

/// A key, as clients read it.
pub(super) fn key(name: &str, key: &Key) -> TransitKey {
    let version = |version: &super::key::Version| TransitKeyVersion {
        version: version.number,
        created: Some(time(version.made_s).into()),
        public_key: pem(version.public()),
    };
    TransitKey {
        name: name.to_owned(),
        algorithm: name_of(key.algorithm).into(),
        versions: key.versions.iter().map(version).collect(),
        min_decryption_version: key.min_decryption,
        exportable: key.exportable,
        deletable: key.deletable,
        rotate_after_s: key.rotate_after_s,
        created: Some(time(key.made_s).into()),
        cannot_rotate: !key.can_rotate(),
        removed_versions: Vec::new(),
    }
}

/// Of a stored key what a list tells: nothing else of it is read.
#[derive(Deserialize)]
pub(super) struct Head {
    algorithm: Algorithm,
    made_s: u64,
    versions: Vec<Numbered>,
}

#[derive(Deserialize)]
struct Numbered {
    number: u32,
}

impl Head {
    /// As clients read it.
    pub(super) fn entry(&self, name: &str) -> TransitKeyEntry {
        TransitKeyEntry {
            name: name.to_owned(),
            algorithm: name_of(self.algorithm).into(),
            newest_version: self.versions.last().map_or(0, |version| version.number),
            created: Some(time(self.made_s).into()),
        }
    }
}

/// After how many seconds a key rotates itself.
pub(super) fn age(seconds: u64) -> Result<u64, EngineError> {
    if seconds > MAX_AGE_S || (1..60).contains(&seconds) {
        let why = format!("0 (never), or 60 to {MAX_AGE_S} seconds");
        return Err(EngineError::field("rotate_after_s", why));
    }
    Ok(seconds)
}
