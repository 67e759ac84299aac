//! Whatever a CA signs: certificates, CRLs and OCSP responses, each by one function that reads what it is about to sign once more, as what it should be.
//!
//! The key's signature is private to this folder: nothing else can have a CA sign anything.

mod certificate;
mod check;
mod crl;
mod ocsp;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    rand,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _,
    },
};
use x509_cert::{
    der::{
        self, Decode as _, Encode as _, Sequence,
        asn1::{AnyRef, BitStringRef},
    },
    spki::AlgorithmIdentifierOwned,
};
use zeroize::Zeroizing;

pub(super) use self::{
    certificate::{BACKDATED, CaName, Issued, Request, Subject, issue},
    crl::{Crl, crl},
    ocsp::{Answer, ocsp},
};
use super::{
    oid,
    public_key::{KeyAlgorithm, PublicKey},
};
use crate::barrier::KeyError;

/// Why something is not signed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// What was asked for cannot be; the field, and why.
    #[error("{0}: {1}")]
    Request(&'static str, String),
    /// It can, but not as things are.
    #[error("{0}")]
    Precondition(String),
    /// It is not what it should be: whoever wrote it made a mistake.
    #[error("what was to be signed is not what it should be: {0}")]
    Flaw(String),
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl Refusal {
    fn flaw(why: impl std::fmt::Display) -> Self {
        Self::Flaw(why.to_string())
    }
}

impl From<der::Error> for Refusal {
    fn from(error: der::Error) -> Self {
        Self::flaw(error)
    }
}

/// Of a key that does not do what keys do.
fn broken<E>(_: E) -> KeyError {
    KeyError::Opened("a private key".to_owned())
}

fn ecdsa(algorithm: KeyAlgorithm) -> Option<&'static EcdsaSigningAlgorithm> {
    match algorithm {
        KeyAlgorithm::EcdsaP256 => Some(&ECDSA_P256_SHA256_ASN1_SIGNING),
        KeyAlgorithm::EcdsaP384 => Some(&ECDSA_P384_SHA384_ASN1_SIGNING),
        KeyAlgorithm::Ed25519 | KeyAlgorithm::Rsa => None,
    }
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
}

impl Pair {
    fn generate(algorithm: KeyAlgorithm) -> Result<Self, KeyError> {
        match (algorithm, ecdsa(algorithm)) {
            (_, Some(signing)) => {
                let pair = EcdsaKeyPair::generate(signing).map_err(|_| KeyError::Random)?;
                Ok(Self::Ecdsa(pair))
            }
            (KeyAlgorithm::Ed25519, _) => {
                let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::Random)?;
                Ok(Self::Ed25519(pair))
            }
            _ => Err(broken(())),
        }
    }

    fn from_pkcs8(algorithm: KeyAlgorithm, pkcs8: &[u8]) -> Result<Self, KeyError> {
        match (algorithm, ecdsa(algorithm)) {
            (_, Some(signing)) => {
                let pair = EcdsaKeyPair::from_pkcs8(signing, pkcs8).map_err(broken)?;
                Ok(Self::Ecdsa(pair))
            }
            (KeyAlgorithm::Ed25519, _) => {
                let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(broken)?;
                Ok(Self::Ed25519(pair))
            }
            _ => Err(broken(())),
        }
    }

    /// PKCS #8, version 1, which everything reads.
    fn pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let document = match self {
            Self::Ed25519(pair) => pair.to_pkcs8v1(),
            Self::Ecdsa(pair) => pair.to_pkcs8v1(),
        };
        Ok(Zeroizing::new(document.map_err(broken)?.as_ref().to_vec()))
    }

    fn public(&self) -> Result<PublicKey, KeyError> {
        let der: Result<PublicKeyX509Der<'_>, _> = match self {
            Self::Ed25519(pair) => pair.public_key().as_der(),
            Self::Ecdsa(pair) => pair.public_key().as_der(),
        };
        PublicKey::from_der(der.map_err(broken)?.as_ref()).map_err(broken)
    }
}

/// A new key for somebody else: PKCS #8 in DER, and its public half.
///
/// # Errors
/// [`KeyError`]; of RSA none are made.
pub(super) fn new_key(
    algorithm: KeyAlgorithm,
) -> Result<(Zeroizing<Vec<u8>>, PublicKey), KeyError> {
    let pair = Pair::generate(algorithm)?;
    Ok((pair.pkcs8()?, pair.public()?))
}

/// A CA's key.
pub(super) struct SigningKey {
    pair: Pair,
    public: PublicKey,
}

impl SigningKey {
    /// A new one, and its PKCS #8 in DER.
    pub(super) fn generate(
        algorithm: KeyAlgorithm,
    ) -> Result<(Zeroizing<Vec<u8>>, Self), KeyError> {
        let pair = Pair::generate(algorithm)?;
        let (pkcs8, public) = (pair.pkcs8()?, pair.public()?);
        Ok((pkcs8, Self { pair, public }))
    }

    /// From PKCS #8 in DER.
    pub(super) fn from_pkcs8(algorithm: KeyAlgorithm, pkcs8: &[u8]) -> Result<Self, KeyError> {
        let pair = Pair::from_pkcs8(algorithm, pkcs8)?;
        let public = pair.public()?;
        Ok(Self { pair, public })
    }

    pub(super) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// What its signatures are of.
    fn algorithm(&self) -> AlgorithmIdentifierOwned {
        AlgorithmIdentifierOwned {
            oid: match self.public.algorithm() {
                KeyAlgorithm::EcdsaP256 => oid::ECDSA_SHA256,
                KeyAlgorithm::EcdsaP384 => oid::ECDSA_SHA384,
                KeyAlgorithm::Ed25519 | KeyAlgorithm::Rsa => oid::ED25519,
            },
            parameters: None,
        }
    }

    /// What was checked, with a signature: the form of certificates (RFC 5280 §4.1), CRLs (§5.1) and responses (RFC 6960 §4.2.1).
    fn sign(&self, checked: &[u8]) -> Result<Vec<u8>, Refusal> {
        let signature = match &self.pair {
            Pair::Ed25519(pair) => pair.sign(checked),
            Pair::Ecdsa(pair) => {
                let random = rand::SystemRandom::new();
                pair.sign(&random, checked).map_err(|_| KeyError::Random)?
            }
        };
        let signed = Signed {
            checked: AnyRef::from_der(checked)?,
            algorithm: self.algorithm(),
            signature: BitStringRef::from_bytes(signature.as_ref())?,
        };
        Ok(signed.to_der()?)
    }
}

#[derive(Sequence)]
struct Signed<'a> {
    checked: AnyRef<'a>,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitStringRef<'a>,
}
