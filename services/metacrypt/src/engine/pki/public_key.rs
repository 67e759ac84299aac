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
use crate::engine::is_ed25519;

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
            Self::Ed25519 => "Ed25519",
            Self::EcdsaP256 => "ECDSA P-256",
            Self::EcdsaP384 => "ECDSA P-384",
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
    #[error(
        "it is no Ed25519 key that anybody has: no point of the curve, written otherwise than RFC 8032 has it, or one under which signatures of others are valid too"
    )]
    Point,
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
            // Points are uncompressed (0x04, SEC 1 §2.3.3): others are not understood everywhere.
            KeyAlgorithm::EcdsaP256 => (&ECDSA_P256_SHA256_ASN1, 65),
            KeyAlgorithm::EcdsaP384 => (&ECDSA_P384_SHA384_ASN1, 97),
            KeyAlgorithm::Rsa => {
                check_rsa(bytes)?;
                (&RSA_PKCS1_2048_8192_SHA256, bytes.len())
            }
        };
        let is_point = matches!(algorithm, KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384);
        if is_point && bytes.first() != Some(&4) {
            return Err(KeyFault::Encoding);
        }
        if bytes.len() != length || UnparsedPublicKey::new(verifying, bytes).parse().is_err() {
            return Err(KeyFault::Encoding);
        }
        if algorithm == KeyAlgorithm::Ed25519 && !is_ed25519(bytes) {
            return Err(KeyFault::Point);
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

#[cfg(test)]
#[path = "public_key/vectors.rs"]
mod vectors;

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    };
    use x509_cert::der::{
        Encode as _,
        asn1::{Any, BitString},
    };

    use super::*;

    fn key(
        oid: ObjectIdentifier,
        curve: Option<ObjectIdentifier>,
        bytes: &[u8],
    ) -> Result<PublicKey, KeyFault> {
        let curve = curve.map(|curve| Any::from_der(&curve.to_der().unwrap()).unwrap());
        PublicKey::new(SubjectPublicKeyInfoOwned {
            algorithm: AlgorithmIdentifierOwned {
                oid,
                parameters: curve,
            },
            subject_public_key: BitString::from_bytes(bytes).unwrap(),
        })
    }

    #[test]
    fn ed25519_keys_are_points_that_somebody_can_have() {
        let pair = Ed25519KeyPair::generate().unwrap();
        let good = pair.public_key().as_ref().to_vec();
        let of = |first: u8, middle: u8, last: u8| {
            let mut bytes = [middle; 32];
            (bytes[0], bytes[31]) = (first, last);
            bytes.to_vec()
        };
        // Of order 8: its y is a root of a polynomial that nobody remembers.
        let eighth = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a";
        let eighth = data_encoding::HEXLOWER.decode(eighth.as_bytes()).unwrap();
        for (description, bytes, wanted) in [
            ("a key", good.clone(), true),
            ("the identity", of(1, 0, 0), false),
            ("of order 2", of(0xec, 0xff, 0x7f), false),
            ("of order 4", of(0, 0, 0), false),
            ("of order 4, the other", of(0, 0, 0x80), false),
            ("of order 8", eighth, false),
            ("the identity, with y above p", of(0xee, 0xff, 0x7f), false),
            ("the identity, with the sign of no x", of(1, 0, 0x80), false),
            ("y above p", of(0xf0, 0xff, 0x7f), false),
            ("no point of the curve", of(2, 0, 0), false),
            ("short", good[..31].to_vec(), false),
        ] {
            let got = key(oid::ED25519, None, &bytes);
            assert_eq!(got.is_ok(), wanted, "{description}: {got:?}");
        }
    }

    #[test]
    fn keys_of_ecdsa_are_points_of_their_curve() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let good = pair.public_key().as_ref().to_vec();
        let changed = |at: usize, to: u8| {
            let mut bytes = good.clone();
            bytes[at] ^= to;
            bytes
        };
        let compressed = [&[2 + (good[64] & 1)], &good[1..33]].concat();
        for (description, bytes, curve, wanted) in [
            ("a key", good.clone(), oid::P256, true),
            ("of another curve", good.clone(), oid::P384, false),
            ("another y", changed(64, 1), oid::P256, false),
            ("another x", changed(1, 1), oid::P256, false),
            ("a hybrid", changed(0, 2 + (good[64] & 1)), oid::P256, false),
            (
                "a hybrid of the other y",
                changed(0, 3 - (good[64] & 1)),
                oid::P256,
                false,
            ),
            ("compressed", compressed, oid::P256, false),
            ("the point at infinity", vec![0], oid::P256, false),
            ("zeros", [&[4][..], &[0; 64]].concat(), oid::P256, false),
            (
                "x above p",
                [&[4][..], &[0xff; 64]].concat(),
                oid::P256,
                false,
            ),
        ] {
            let got = key(oid::EC_PUBLIC_KEY, Some(curve), &bytes);
            assert_eq!(got.is_ok(), wanted, "{description}: {got:?}");
        }
    }
}
