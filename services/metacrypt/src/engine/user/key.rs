//! The keys of an account: in each version a pair for each curve.

use std::time::SystemTime;

use aws_lc_rs::{
    agreement::{Algorithm, ECDH_P256, PrivateKey, UnparsedPublicKey, X25519, agree},
    encoding::{AsBigEndian as _, Curve25519SeedBin, EcPrivateKeyBin},
    hkdf::{HKDF_SHA256, KeyType, Salt},
};
use data_encoding::BASE64;
use mcdsl::policy::Name;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    barrier::KeyError,
    engine::{EngineError, Secret, seconds},
};

/// Bytes of a key that two agree on.
pub(super) const KEY: usize = 32;
/// Most versions of an account's keys.
pub(super) const MAX_VERSIONS: usize = 256;

/// On which curve two agree on a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Curve {
    /// RFC 7748.
    X25519,
    /// NIST SP 800-56A.
    P256,
}

impl Curve {
    pub(super) const ALL: [Self; 2] = [Self::X25519, Self::P256];

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::X25519 => &X25519,
            Self::P256 => &ECDH_P256,
        }
    }
}

/// A pair, as it is stored.
#[derive(Serialize, Deserialize)]
struct Pair {
    curve: Curve,
    secret: Secret,
    /// Base64; of P-256 the uncompressed point.
    public: String,
}

/// One version, as it is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) number: u32,
    pub(super) made_s: u64,
    pairs: Vec<Pair>,
}

/// An account's keys, as they are stored.
#[derive(Serialize, Deserialize)]
pub(super) struct Keys {
    /// The account's id, which never is another's.
    pub(super) account: Name,
    /// Its name when the newest version was made.
    pub(super) name: Name,
    /// Oldest first; never empty.
    pub(super) versions: Vec<Version>,
    /// That of the next version: none is used twice.
    next: u32,
}

fn broken<E>(_: E) -> KeyError {
    KeyError::Opened("an account's key".to_owned())
}

impl Pair {
    fn new(curve: Curve) -> Result<Self, KeyError> {
        let key = PrivateKey::generate(curve.algorithm()).map_err(|_| KeyError::Random)?;
        let public = key.compute_public_key().map_err(broken)?;
        let secret = match curve {
            Curve::X25519 => {
                let bytes: Curve25519SeedBin<'_> = key.as_be_bytes().map_err(broken)?;
                Secret::of(bytes.as_ref())
            }
            Curve::P256 => {
                let bytes: EcPrivateKeyBin<'_> = key.as_be_bytes().map_err(broken)?;
                Secret::of(bytes.as_ref())
            }
        };
        Ok(Self {
            curve,
            secret,
            public: BASE64.encode(public.as_ref()),
        })
    }
}

/// Bytes of HKDF's output.
struct Bytes;

impl KeyType for Bytes {
    fn len(&self) -> usize {
        KEY
    }
}

/// A key of what two agreed on (HKDF-SHA256, RFC 5869).
fn derived(agreed: &[u8], salt: &[u8], info: &[&[u8]]) -> Result<Zeroizing<[u8; KEY]>, KeyError> {
    let mut derived = Zeroizing::new([0; KEY]);
    let agreed = Salt::new(HKDF_SHA256, salt).extract(agreed);
    let filled = agreed
        .expand(info, Bytes)
        .and_then(|okm| okm.fill(&mut derived[..]));
    filled.map_err(broken)?;
    Ok(derived)
}

impl Version {
    fn new(number: u32, now: SystemTime) -> Result<Self, KeyError> {
        let pairs = Curve::ALL.into_iter().map(Pair::new);
        Ok(Self {
            number,
            made_s: seconds(now),
            pairs: pairs.collect::<Result<_, _>>()?,
        })
    }

    fn pair(&self, curve: Curve) -> Result<&Pair, KeyError> {
        let found = self.pairs.iter().find(|pair| pair.curve == curve);
        found.ok_or_else(|| broken(()))
    }

    /// The public half.
    pub(super) fn public(&self, curve: Curve) -> Result<Vec<u8>, KeyError> {
        let public = &self.pair(curve)?.public;
        BASE64.decode(public.as_bytes()).map_err(broken)
    }

    /// The key that this one and `other` have together for what `salt` and `info` say (RFC 5869).
    pub(super) fn shared(
        &self,
        curve: Curve,
        other: &[u8],
        salt: &[u8],
        info: &[&[u8]],
    ) -> Result<Zeroizing<[u8; KEY]>, KeyError> {
        let secret = self.pair(curve)?.secret.bytes();
        let secret = secret.ok_or_else(|| broken(()))?;
        let key = PrivateKey::from_private_key(curve.algorithm(), &secret).map_err(broken)?;
        let other = UnparsedPublicKey::new(curve.algorithm(), other);
        agree(&key, other, broken(()), |agreed| {
            derived(agreed, salt, info)
        })
    }
}

impl Keys {
    /// New ones.
    pub(super) fn new(account: Name, name: Name, now: SystemTime) -> Result<Self, EngineError> {
        Ok(Self {
            account,
            name,
            versions: vec![Version::new(1, now)?],
            next: 2,
        })
    }

    /// Makes another version, by which others write from now on.
    pub(super) fn rotate(&mut self, now: SystemTime) -> Result<(), EngineError> {
        if self.versions.len() >= MAX_VERSIONS {
            return Err(EngineError::Precondition(format!(
                "there are {MAX_VERSIONS} versions, which is the most; drop those before one that is still needed (min_version)"
            )));
        }
        self.versions.push(Version::new(self.next, now)?);
        self.next += 1;
        Ok(())
    }

    /// Drops the versions before this one: what was written to them is lost.
    pub(super) fn forget_before(&mut self, number: u32) -> Result<(), EngineError> {
        let newest = self.newest()?.number;
        if !(1..=newest).contains(&number) {
            return Err(EngineError::field("min_version", format!("1 to {newest}")));
        }
        self.versions.retain(|version| version.number >= number);
        Ok(())
    }

    /// The one by which others write.
    pub(super) fn newest(&self) -> Result<&Version, EngineError> {
        Ok(self.versions.last().ok_or_else(|| broken(()))?)
    }

    /// The one of this number.
    pub(super) fn version(&self, number: u32) -> Option<&Version> {
        self.versions
            .iter()
            .find(|version| version.number == number)
    }
}

#[cfg(test)]
mod vectors;
