//! Public keys of certificates, requests and CAs.

use std::fmt;

use aws_lc_rs::{
    digest,
    signature::{
        self, ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P256_SHA512_ASN1,
        ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA512_ASN1,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
        UnparsedPublicKey, VerificationAlgorithm,
    },
};
use serde::{Deserialize, Serialize};
use x509_cert::{
    der::{
        self, Decode as _, Sequence,
        asn1::{ObjectIdentifier, UintRef},
    },
    spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned},
};

use super::oid;

/// Bytes of an RSA modulus: 2048 to 8192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// Kinds of keys. Those that are not RSA are made here too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KeyAlgorithm {
    /// RFC 8410.
    Ed25519,
    /// RFC 5480.
    EcdsaP256,
    /// RFC 5480.
    EcdsaP384,
    /// RFC 8017, of 2048 bits or more; of requests alone.
    Rsa,
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ed25519 => "ED25519",
            Self::EcdsaP256 => "ECDSA_P256",
            Self::EcdsaP384 => "ECDSA_P384",
            Self::Rsa => "RSA",
        })
    }
}

/// Why a key is none that can be certified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyFault {
    #[error("it is no SubjectPublicKeyInfo (RFC 5280 §4.1.2.7): {0}")]
    Form(der::Error),
    #[error(
        "a key of the algorithm {0} is not certified; Ed25519, ECDSA P-256 and P-384, and RSA keys are"
    )]
    Algorithm(String),
    #[error("its parameters or its encoding are not those of its algorithm")]
    Encoding,
    #[error("an RSA key of {0} bits; 2048 to 8192 are taken")]
    RsaSize(usize),
    #[error("an RSA key with this public exponent is not taken; 65537 is usual")]
    RsaExponent,
}

/// A public key that was looked at: of a known algorithm, of a good size, and on its curve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey {
    algorithm: KeyAlgorithm,
    spki: SubjectPublicKeyInfoOwned,
}

#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

impl PublicKey {
    /// From SubjectPublicKeyInfo in DER.
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, KeyFault> {
        let spki = SubjectPublicKeyInfoOwned::from_der(der).map_err(KeyFault::Form)?;
        Self::new(spki)
    }

    pub(crate) fn new(spki: SubjectPublicKeyInfoOwned) -> Result<Self, KeyFault> {
        let oid = spki.algorithm.oid;
        let parameters = spki.algorithm.parameters.as_ref();
        let curve = parameters.and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
        let bytes = spki.subject_public_key.as_bytes();
        let bytes = bytes.ok_or(KeyFault::Encoding)?;
        let algorithm = match (oid, curve) {
            (oid::ED25519, _) if parameters.is_none() => KeyAlgorithm::Ed25519,
            (oid::EC_PUBLIC_KEY, Some(oid::P256)) => KeyAlgorithm::EcdsaP256,
            (oid::EC_PUBLIC_KEY, Some(oid::P384)) => KeyAlgorithm::EcdsaP384,
            (oid::RSA, _) if parameters.is_some_and(|any| any.is_null()) => KeyAlgorithm::Rsa,
            (oid::ED25519 | oid::RSA, _) => return Err(KeyFault::Encoding),
            (oid::EC_PUBLIC_KEY, Some(curve)) => {
                return Err(KeyFault::Algorithm(format!("EC on the curve {curve}")));
            }
            (other, _) => return Err(KeyFault::Algorithm(other.to_string())),
        };
        let (verifying, length): (&'static dyn VerificationAlgorithm, _) = match algorithm {
            KeyAlgorithm::Ed25519 => (&signature::ED25519, 32),
            // Points are uncompressed: others are not understood everywhere.
            KeyAlgorithm::EcdsaP256 => (&ECDSA_P256_SHA256_ASN1, 65),
            KeyAlgorithm::EcdsaP384 => (&ECDSA_P384_SHA384_ASN1, 97),
            KeyAlgorithm::Rsa => {
                check_rsa(bytes)?;
                (&RSA_PKCS1_2048_8192_SHA256, bytes.len())
            }
        };
        if bytes.len() != length || UnparsedPublicKey::new(verifying, bytes).parse().is_err() {
            return Err(KeyFault::Encoding);
        }
        Ok(Self { algorithm, spki })
    }

    pub(crate) fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    pub(crate) fn spki(&self) -> &SubjectPublicKeyInfoOwned {
        &self.spki
    }

    /// What its owner is known by (RFC 7093 §2, method 1): 160 bits of its SHA-256.
    pub(crate) fn identifier(&self) -> [u8; 20] {
        let hash = digest::digest(&digest::SHA256, self.spki.subject_public_key.raw_bytes());
        let mut identifier = [0; 20];
        identifier.copy_from_slice(&hash.as_ref()[..20]);
        identifier
    }

    /// Whether its owner signed `message`.
    pub(crate) fn verifies(
        &self,
        by: &AlgorithmIdentifierOwned,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let no_parameters = by.parameters.is_none();
        let algorithm: &'static dyn VerificationAlgorithm = match (self.algorithm, by.oid) {
            (KeyAlgorithm::Ed25519, oid::ED25519) if no_parameters => &signature::ED25519,
            (KeyAlgorithm::EcdsaP256, oid::ECDSA_SHA256) if no_parameters => {
                &ECDSA_P256_SHA256_ASN1
            }
            (KeyAlgorithm::EcdsaP256, oid::ECDSA_SHA384) if no_parameters => {
                &ECDSA_P256_SHA384_ASN1
            }
            (KeyAlgorithm::EcdsaP256, oid::ECDSA_SHA512) if no_parameters => {
                &ECDSA_P256_SHA512_ASN1
            }
            (KeyAlgorithm::EcdsaP384, oid::ECDSA_SHA256) if no_parameters => {
                &ECDSA_P384_SHA256_ASN1
            }
            (KeyAlgorithm::EcdsaP384, oid::ECDSA_SHA384) if no_parameters => {
                &ECDSA_P384_SHA384_ASN1
            }
            (KeyAlgorithm::EcdsaP384, oid::ECDSA_SHA512) if no_parameters => {
                &ECDSA_P384_SHA512_ASN1
            }
            (KeyAlgorithm::Rsa, oid::RSA_SHA256) => &RSA_PKCS1_2048_8192_SHA256,
            (KeyAlgorithm::Rsa, oid::RSA_SHA384) => &RSA_PKCS1_2048_8192_SHA384,
            (KeyAlgorithm::Rsa, oid::RSA_SHA512) => &RSA_PKCS1_2048_8192_SHA512,
            _ => return false,
        };
        let key = self.spki.subject_public_key.raw_bytes();
        let key = UnparsedPublicKey::new(algorithm, key);
        key.verify(message, signature).is_ok()
    }
}

fn check_rsa(key: &[u8]) -> Result<(), KeyFault> {
    let key = RsaPublicKey::from_der(key).map_err(|_| KeyFault::Encoding)?;
    let modulus = key.modulus.as_bytes();
    let leading = modulus.first().map_or(8, |byte| byte.leading_zeros());
    let bits = (modulus.len() * 8).saturating_sub(leading as usize);
    if !RSA_BYTES.contains(&modulus.len()) || bits < 2048 {
        return Err(KeyFault::RsaSize(bits));
    }
    // As FIPS 186-5 §5.1 has it, and no more than what libraries take.
    let exponent = key.exponent.as_bytes();
    let odd = exponent.last().is_some_and(|byte| byte % 2 == 1);
    let (least, most) = (3, 4);
    if !odd || !(least..=most).contains(&exponent.len()) {
        return Err(KeyFault::RsaExponent);
    }
    Ok(())
}
