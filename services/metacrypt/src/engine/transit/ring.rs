//! A key that is ready to be used.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};

use zeroize::Zeroizing;

use super::{
    algorithm::{Algorithm, Ready},
    key::Key,
};
use crate::{
    barrier::KeyError,
    engine::{EngineError, seconds},
};

/// A key's versions that may be used.
pub(super) struct Ring {
    versions: BTreeMap<u32, Version>,
    newest: u32,
    pub(super) algorithm: Algorithm,
    min_decryption: u32,
    /// As [`Key::fresh_s`].
    fresh_s: Option<Range<u64>>,
    /// Uses of the newest version that are written down and not made.
    left: AtomicU64,
}

/// One of them, made ready when it is first used: a key may have many.
struct Version {
    secret: Zeroizing<Vec<u8>>,
    ready: OnceLock<Ready>,
}

impl Version {
    fn ready(&self, algorithm: Algorithm) -> Result<&Ready, KeyError> {
        if let Some(ready) = self.ready.get() {
            return Ok(ready);
        }
        let made = algorithm.ready(&self.secret)?;
        Ok(self.ready.get_or_init(|| made))
    }
}

impl Ring {
    /// Of a key that may be used so often.
    pub(super) fn new(key: &Key, left: u64) -> Result<Self, KeyError> {
        let usable = key
            .versions
            .iter()
            .filter(|v| v.number >= key.min_decryption);
        let versions = usable.map(|v| {
            let version = Version {
                secret: v.secret()?,
                ready: OnceLock::new(),
            };
            Ok((v.number, version))
        });
        Ok(Self {
            versions: versions.collect::<Result<_, KeyError>>()?,
            newest: key.versions.last().map_or(0, |v| v.number),
            algorithm: key.algorithm,
            min_decryption: key.min_decryption,
            fresh_s: key.fresh_s(),
            left: AtomicU64::new(match key.algorithm.max_uses() {
                Some(_) => left,
                None => u64::MAX,
            }),
        })
    }

    /// Takes so many uses of the newest version; `false`: more have to be written down first, or it is old.
    pub(super) fn take(&self, uses: u64, now: SystemTime) -> bool {
        let now_s = seconds(now);
        if (self.fresh_s.as_ref()).is_some_and(|fresh| !fresh.contains(&now_s)) {
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
        let none = || KeyError::Opened("a transit key".to_owned());
        let version = self.versions.get(&self.newest).ok_or_else(none)?;
        Ok((self.newest, version.ready(self.algorithm)?))
    }

    /// The version that is to decrypt or verify; why there is none.
    pub(super) fn version(&self, number: u32) -> Result<Result<&Ready, String>, KeyError> {
        if let Some(version) = self.versions.get(&number) {
            return version.ready(self.algorithm).map(Ok);
        }
        let why = match number < self.min_decryption {
            true => format!(
                "version {number} of the key is not used any more: min_decryption_version is {}",
                self.min_decryption
            ),
            false => format!("the key has no version {number}"),
        };
        Ok(Err(why))
    }
}
