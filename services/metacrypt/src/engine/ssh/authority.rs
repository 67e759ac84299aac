//! The authorities of a mount, for users and for hosts, and their keys.

use std::time::SystemTime;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use serde::{Deserialize, Serialize};

use super::{
    certificate::Checked,
    key::{fingerprint, line},
    seconds,
    wire::Wire,
};
use crate::{
    barrier::KeyError,
    engine::{EngineError, Secret},
};

/// Most keys of an authority.
const MAX_KEYS: usize = 8;

/// Whom a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// Somebody who logs in.
    User,
    /// A machine.
    Host,
}

impl Kind {
    /// As the authority is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Host => "host",
        }
    }

    /// The one of this name.
    pub(super) fn named(name: &str) -> Result<Self, EngineError> {
        [Self::User, Self::Host]
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| EngineError::field("ca", "`user` or `host`"))
    }
}

/// By which function a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Algorithm {
    /// RFC 8032.
    Ed25519,
    /// FIPS 186-5, with SHA-256.
    EcdsaP256,
}

impl Algorithm {
    /// As SSH writes it (RFC 8709 §4, RFC 5656 §3.1).
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256",
        }
    }

    /// A signature of `bytes` as SSH writes it (RFC 8709 §6, RFC 5656 §3.1.2).
    pub(super) fn signature(self, bytes: &[u8]) -> Vec<u8> {
        let written = match self {
            Self::Ed25519 => bytes.to_vec(),
            Self::EcdsaP256 => {
                let (r, s) = bytes.split_at(bytes.len() / 2);
                Wire::new().mpint(r).mpint(s).bytes()
            }
        };
        Wire::new().string(self.name()).string(written).bytes()
    }
}

/// An authority, as it is stored.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Authority {
    /// The number of the key that signs.
    pub(super) signing: u32,
    /// That of the next key: none is used twice.
    next: u32,
    /// Oldest first.
    pub(super) keys: Vec<Key>,
}

/// A key of an authority, as it is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) number: u32,
    pub(super) algorithm: Algorithm,
    pub(super) made_s: u64,
    /// PKCS #8.
    secret: Secret,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

fn broken<E>(_: E) -> KeyError {
    KeyError::Opened("an SSH authority's key".to_owned())
}

/// A key that is ready to be used.
pub(super) struct Ready {
    pub(super) algorithm: Algorithm,
    /// Its public half, as SSH writes it.
    public: Vec<u8>,
    pair: Pair,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    EcdsaP256(EcdsaKeyPair),
}

impl Key {
    fn new(number: u32, algorithm: Algorithm, now: SystemTime) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let pkcs8 = match algorithm {
            Algorithm::Ed25519 => Ed25519KeyPair::generate_pkcs8(&random),
            Algorithm::EcdsaP256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            }
        };
        let pkcs8 = pkcs8.map_err(|_| KeyError::Random)?;
        Ok(Self {
            number,
            algorithm,
            made_s: seconds(now),
            secret: Secret::of(pkcs8.as_ref()),
        })
    }

    /// To be used.
    pub(super) fn ready(&self) -> Result<Ready, KeyError> {
        let secret = self.secret.bytes().ok_or_else(|| broken(()))?;
        let written = Wire::new().string(self.algorithm.name());
        let (public, pair) = match self.algorithm {
            Algorithm::Ed25519 => {
                let pair = Ed25519KeyPair::from_pkcs8(&secret).map_err(broken)?;
                (written.string(pair.public_key()), Pair::Ed25519(pair))
            }
            Algorithm::EcdsaP256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &secret);
                let pair = pair.map_err(broken)?;
                let public = written.string("nistp256").string(pair.public_key());
                (public, Pair::EcdsaP256(pair))
            }
        };
        Ok(Ready {
            algorithm: self.algorithm,
            public: public.bytes(),
            pair,
        })
    }
}

impl Ready {
    /// Its public half, as SSH writes it.
    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// Its public half, as a line of authorized_keys.
    pub(super) fn line(&self) -> String {
        line(self.algorithm.name(), &self.public)
    }

    /// As ssh-keygen shows it.
    pub(super) fn fingerprint(&self) -> String {
        fingerprint(&self.public)
    }

    /// Signs what was checked, and nothing else.
    pub(super) fn sign(&self, checked: &Checked) -> Result<Vec<u8>, KeyError> {
        let bytes = match &self.pair {
            Pair::Ed25519(pair) => pair.sign(checked.to_be_signed()),
            Pair::EcdsaP256(pair) => pair
                .sign(&SystemRandom::new(), checked.to_be_signed())
                .map_err(|_| KeyError::Random)?,
        };
        Ok(self.algorithm.signature(bytes.as_ref()))
    }
}

impl Authority {
    /// Makes another key. The first one signs; another has to be said to.
    pub(super) fn add(&mut self, algorithm: Algorithm, now: SystemTime) -> Result<(), EngineError> {
        if self.keys.len() >= MAX_KEYS {
            return Err(EngineError::Precondition(format!(
                "the authority has {MAX_KEYS} keys, which is the most; delete one that does not sign"
            )));
        }
        self.next += 1;
        if self.keys.is_empty() {
            self.signing = self.next;
        }
        self.keys.push(Key::new(self.next, algorithm, now)?);
        Ok(())
    }

    /// From now on this key signs.
    pub(super) fn use_key(&mut self, number: u32) -> Result<(), EngineError> {
        self.find(number)?;
        self.signing = number;
        Ok(())
    }

    /// Removes a key that does not sign.
    pub(super) fn remove(&mut self, number: u32) -> Result<(), EngineError> {
        self.find(number)?;
        if number == self.signing {
            return Err(EngineError::Precondition(
                "the key signs; let another one sign (UseCaKey) first".to_owned(),
            ));
        }
        self.keys.retain(|key| key.number != number);
        Ok(())
    }

    fn find(&self, number: u32) -> Result<&Key, EngineError> {
        let found = self.keys.iter().find(|key| key.number == number);
        found.ok_or_else(|| EngineError::NotFound("key", number.to_string()))
    }

    /// The key that signs.
    pub(super) fn signing(&self) -> Result<Ready, EngineError> {
        Ok(self.find(self.signing)?.ready()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_key_signs_when_it_is_said_to() {
        let mut authority = Authority::default();
        assert!(authority.signing().is_err(), "none");
        for algorithm in [Algorithm::Ed25519, Algorithm::EcdsaP256] {
            authority.add(algorithm, SystemTime::UNIX_EPOCH).unwrap();
        }
        let first = authority.signing().unwrap();
        assert_eq!(first.algorithm, Algorithm::Ed25519, "the first");
        assert!(authority.remove(1).is_err(), "it signs");
        assert!(authority.use_key(3).is_err(), "there is none");
        authority.use_key(2).unwrap();
        assert_ne!(authority.signing().unwrap().line(), first.line());
        authority.remove(1).unwrap();
        assert!(authority.remove(1).is_err(), "it is gone");
        authority
            .add(Algorithm::Ed25519, SystemTime::UNIX_EPOCH)
            .unwrap();
        let numbers: Vec<_> = authority.keys.iter().map(|key| key.number).collect();
        assert_eq!(numbers, [2, 3], "no number twice");
    }

    #[test]
    fn an_authority_has_so_many_keys() {
        let mut authority = Authority::default();
        for _ in 0..MAX_KEYS {
            authority
                .add(Algorithm::Ed25519, SystemTime::UNIX_EPOCH)
                .unwrap();
        }
        let refused = authority.add(Algorithm::Ed25519, SystemTime::UNIX_EPOCH);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("delete one"), "{refused}");
    }
}
