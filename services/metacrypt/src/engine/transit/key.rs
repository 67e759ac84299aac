//! A key with its versions, as it is stored and as it is used.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

use super::algorithm::{Algorithm, Ready};
use crate::{barrier::KeyError, engine::EngineError};

/// Most versions of a key.
pub(super) const MAX_VERSIONS: usize = 1024;
/// Uses that are written down at once, before they are made: a process that ends leaves those of its last lot unused.
const LOT: u64 = 1 << 16;

/// A key, as it is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    /// Oldest first; never empty.
    pub(super) versions: Vec<Version>,
    /// Versions below it neither decrypt nor verify.
    pub(super) min_decryption: u32,
    pub(super) exportable: bool,
    pub(super) deletable: bool,
    /// 0: never.
    pub(super) rotate_after_s: u64,
}

/// One version, as it is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) number: u32,
    pub(super) made_s: u64,
    /// Base64.
    secret: String,
    /// How often it may have been used.
    uses: u64,
}

impl Drop for Version {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl ZeroizeOnDrop for Version {}

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Version")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

impl Version {
    fn new(algorithm: Algorithm, number: u32, now: SystemTime) -> Result<Self, KeyError> {
        let secret = algorithm.generate()?;
        Ok(Self {
            number,
            made_s: seconds(now),
            secret: BASE64.encode(&secret),
            uses: 0,
        })
    }

    /// The key itself.
    pub(super) fn secret(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let secret = BASE64.decode(self.secret.as_bytes());
        let broken = |_| KeyError::Opened("a transit key".to_owned());
        Ok(Zeroizing::new(secret.map_err(broken)?))
    }
}

impl Key {
    pub(super) fn new(algorithm: Algorithm, now: SystemTime) -> Result<Self, KeyError> {
        Ok(Self {
            algorithm,
            versions: vec![Version::new(algorithm, 1, now)?],
            min_decryption: 1,
            exportable: false,
            deletable: false,
            rotate_after_s: 0,
        })
    }

    fn newest(&mut self) -> Result<&mut Version, EngineError> {
        let none = || KeyError::Opened("a transit key".to_owned());
        Ok(self.versions.last_mut().ok_or_else(none)?)
    }

    /// Makes another version, which is used from now on.
    pub(super) fn rotate(&mut self, now: SystemTime) -> Result<(), EngineError> {
        if self.versions.len() >= MAX_VERSIONS {
            return Err(EngineError::Precondition(format!(
                "the key has {MAX_VERSIONS} versions, which is the most; make another key"
            )));
        }
        let number = self.newest()?.number + 1;
        self.versions
            .push(Version::new(self.algorithm, number, now)?);
        Ok(())
    }

    /// Whether its newest version is to be replaced by age.
    fn is_old(&self, now: SystemTime) -> bool {
        let made_s = self.versions.last().map_or(0, |version| version.made_s);
        self.rotate_after_s > 0 && seconds(now) >= made_s.saturating_add(self.rotate_after_s)
    }

    /// Writes down that it will be used at least `uses` times more; rotates it, if it was used as often or as long as it may be. How often it may now be used.
    pub(super) fn reserve(&mut self, uses: u64, now: SystemTime) -> Result<u64, EngineError> {
        if self.is_old(now) {
            self.rotate(now)?;
        }
        let Some(max) = self.algorithm.max_uses() else {
            return Ok(u64::MAX);
        };
        let lot = LOT.max(uses);
        if self.newest()?.uses + lot > max {
            self.rotate(now)?;
        }
        self.newest()?.uses += lot;
        Ok(lot)
    }
}

/// A key that is ready to be used.
pub(super) struct Ring {
    versions: BTreeMap<u32, Ready>,
    newest: u32,
    pub(super) algorithm: Algorithm,
    min_decryption: u32,
    made_s: u64,
    rotate_after_s: u64,
    /// Uses of the newest version that are written down and not made.
    left: AtomicU64,
}

impl Ring {
    /// Of a key that may be used so often.
    pub(super) fn new(key: &Key, left: u64) -> Result<Self, KeyError> {
        let usable = key
            .versions
            .iter()
            .filter(|v| v.number >= key.min_decryption);
        let versions = usable.map(|v| Ok((v.number, key.algorithm.ready(&v.secret()?)?)));
        let newest = key.versions.last();
        Ok(Self {
            versions: versions.collect::<Result<_, KeyError>>()?,
            newest: newest.map_or(0, |v| v.number),
            algorithm: key.algorithm,
            min_decryption: key.min_decryption,
            made_s: newest.map_or(0, |v| v.made_s),
            rotate_after_s: key.rotate_after_s,
            left: AtomicU64::new(if key.algorithm.max_uses().is_some() {
                left
            } else {
                u64::MAX
            }),
        })
    }

    /// Takes so many uses of the newest version; `false`: more have to be written down first, or it is old.
    pub(super) fn take(&self, uses: u64, now: SystemTime) -> bool {
        let until_s = self.made_s.saturating_add(self.rotate_after_s);
        if self.rotate_after_s > 0 && seconds(now) >= until_s {
            return false;
        }
        if self.algorithm.max_uses().is_none() {
            return true;
        }
        let taken = |left: u64| left.checked_sub(uses);
        self.left.fetch_update(Relaxed, Relaxed, taken).is_ok()
    }

    /// The version that encrypts and signs, and its number.
    pub(super) fn newest(&self) -> Result<(u32, &Ready), EngineError> {
        let ready = self.versions.get(&self.newest);
        let none = || KeyError::Opened("a transit key".to_owned());
        Ok((self.newest, ready.ok_or_else(none)?))
    }

    /// The version that is to decrypt or verify.
    pub(super) fn version(&self, number: u32) -> Result<&Ready, String> {
        self.versions.get(&number).ok_or_else(|| {
            if number < self.min_decryption {
                format!("version {number} of the key is not used any more: min_decryption_version is {}", self.min_decryption)
            } else {
                format!("the key has no version {number}")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000)
    }

    #[test]
    fn a_version_is_replaced_before_its_nonces_may_repeat() {
        let mut key = Key::new(Algorithm::Aes256Gcm, now()).unwrap();
        assert_eq!(key.reserve(1, now()).unwrap(), LOT);
        assert_eq!(
            key.reserve(LOT + 1, now()).unwrap(),
            LOT + 1,
            "as many as are asked for"
        );
        key.newest().unwrap().uses = (1 << 32) - LOT;
        key.reserve(1, now()).unwrap();
        assert_eq!(key.versions.len(), 1, "the last lot");
        key.reserve(1, now()).unwrap();
        assert_eq!((key.versions.len(), key.newest().unwrap().uses), (2, LOT));
        let mut other = Key::new(Algorithm::Xchacha20Poly1305, now()).unwrap();
        assert_eq!(other.reserve(1, now()).unwrap(), u64::MAX, "no bound");
    }

    #[test]
    fn a_version_is_replaced_when_it_is_old() {
        let mut key = Key::new(Algorithm::Ed25519, now()).unwrap();
        key.rotate_after_s = 60;
        let ring = Ring::new(&key, 0).unwrap();
        let later = now() + Duration::from_secs(60);
        assert!(ring.take(1, later - Duration::from_secs(1)) && !ring.take(1, later));
        key.reserve(1, later).unwrap();
        assert_eq!(key.versions.len(), 2);
        key.reserve(1, later).unwrap();
        assert_eq!(key.versions.len(), 2, "once");
    }

    #[test]
    fn what_is_written_down_is_all_that_is_used() {
        let mut key = Key::new(Algorithm::Aes256Gcm, now()).unwrap();
        let left = key.reserve(1, now()).unwrap();
        let ring = Ring::new(&key, left).unwrap();
        assert!(ring.take(LOT - 1, now()) && ring.take(1, now()));
        assert!(!ring.take(1, now()));
    }

    #[test]
    fn a_key_has_so_many_versions() {
        let mut key = Key::new(Algorithm::HmacSha256, now()).unwrap();
        for _ in 1..MAX_VERSIONS {
            key.rotate(now()).unwrap();
        }
        let refused = key.rotate(now()).unwrap_err();
        assert!(
            refused.to_string().contains("make another key"),
            "{refused}"
        );
    }
}
