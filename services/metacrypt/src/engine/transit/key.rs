//! A key with its versions, as it is stored.

use std::{ops::Range, time::SystemTime};

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::algorithm::Algorithm;
use crate::{
    barrier::KeyError,
    engine::{EngineError, Secret, seconds},
};

/// Uses that are written down at once, before they are made: a process that ends leaves those of its last lot unused.
pub(super) const LOT: u64 = 1 << 16;
/// Seconds that a version may be of a time to come: clocks are set.
const AHEAD_S: u64 = 24 * 60 * 60;

/// A key, as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    /// When it was created.
    pub(super) made_s: u64,
    /// Oldest first; never empty, and at most [`Algorithm::max_versions`].
    pub(super) versions: Vec<Version>,
    /// Versions below it neither decrypt nor verify. Never above the newest.
    pub(super) min_decryption: u32,
    pub(super) exportable: bool,
    pub(super) deletable: bool,
    /// 0: never.
    pub(super) rotate_after_s: u64,
}

/// One version, as it is stored.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) number: u32,
    pub(super) made_s: u64,
    /// SubjectPublicKeyInfo in DER, as base64; empty of what has no public half.
    public: String,
    secret: Secret,
    /// How often it may have been used.
    uses: u64,
}

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Version")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// Why a key is rotated by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Age,
    Uses,
}

impl Due {
    /// As the log says it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Uses => "uses",
        }
    }
}

/// What a rotation makes, and what it drops to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) version: u32,
    pub(super) dropped: Option<u32>,
}

impl Version {
    fn new(algorithm: Algorithm, number: u32, now: SystemTime) -> Result<Self, KeyError> {
        let secret = algorithm.generate()?;
        let public = algorithm.ready(&secret)?.public_key()?;
        Ok(Self {
            number,
            made_s: seconds(now),
            public: public.map(|der| BASE64.encode(&der)).unwrap_or_default(),
            secret: Secret::of(&secret),
            uses: 0,
        })
    }

    /// The key itself.
    pub(super) fn secret(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        self.secret.bytes().ok_or_else(broken)
    }

    /// SubjectPublicKeyInfo in DER, as base64; empty of what has no public half.
    pub(super) fn public(&self) -> &str {
        &self.public
    }
}

/// Of what cannot be: what is stored was written here.
fn broken() -> KeyError {
    KeyError::Opened("a transit key".to_owned())
}

impl Key {
    pub(super) fn new(algorithm: Algorithm, now: SystemTime) -> Result<Self, KeyError> {
        Ok(Self {
            algorithm,
            made_s: seconds(now),
            versions: vec![Version::new(algorithm, 1, now)?],
            min_decryption: 1,
            exportable: false,
            deletable: false,
            rotate_after_s: 0,
        })
    }

    /// The version that encrypts and signs.
    pub(super) fn newest(&self) -> Result<&Version, EngineError> {
        Ok(self.versions.last().ok_or_else(broken)?)
    }

    /// The number of the oldest version that there is.
    pub(super) fn oldest(&self) -> u32 {
        self.versions.first().map_or(1, |version| version.number)
    }

    /// Whether another version can be made: there is room for one, or one that is not used any more makes room.
    pub(super) fn can_rotate(&self) -> bool {
        let room = self.versions.len() < self.algorithm.max_versions();
        (room || self.oldest() < self.min_decryption)
            && self.versions.last().is_some_and(|v| v.number < u32::MAX)
    }

    /// What a rotation would make.
    ///
    /// # Errors
    /// If there is no room for another version, and each of those that there are is used.
    pub(super) fn next(&self) -> Result<Next, EngineError> {
        if !self.can_rotate() {
            return Err(self.full("the key cannot be rotated"));
        }
        let full = self.versions.len() >= self.algorithm.max_versions();
        Ok(Next {
            version: self.newest()?.number + 1,
            dropped: full.then(|| self.oldest()),
        })
    }

    /// Makes another version, which is used from now on. Where there is no room for it, the oldest one goes, if it neither decrypts nor verifies.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub(super) fn rotate(&mut self, now: SystemTime) -> Result<(), EngineError> {
        let next = self.next()?;
        let version = Version::new(self.algorithm, next.version, now)?;
        if next.dropped.is_some() {
            self.versions.remove(0);
        }
        self.versions.push(version);
        Ok(())
    }

    fn full(&self, what: &str) -> EngineError {
        EngineError::Precondition(format!(
            "{what}: it has {} versions, which is the most, and each still decrypts or verifies; rewrap what the oldest ones encrypted, \
             raise min_decryption_version (UpdateKey), and rotate again",
            self.versions.len()
        ))
    }

    /// Removes the versions below a number; which.
    ///
    /// # Errors
    /// If some of these still decrypt or verify.
    pub(super) fn trim(&mut self, below: u32) -> Result<Vec<u32>, EngineError> {
        if below == 0 || below > self.min_decryption {
            let why = format!(
                "1 to {}, which is min_decryption_version; raise that first (UpdateKey)",
                self.min_decryption
            );
            return Err(EngineError::field("below", why));
        }
        let removed = self
            .versions
            .extract_if(.., |version| version.number < below);
        Ok(removed.map(|version| version.number).collect())
    }

    /// Makes another version the oldest that decrypts and verifies.
    ///
    /// # Errors
    /// If there is no such version.
    pub(super) fn set_min_decryption(&mut self, min: u32) -> Result<(), EngineError> {
        let (oldest, newest) = (self.oldest(), self.newest()?.number);
        if !(oldest..=newest).contains(&min) {
            let why = format!("{oldest} to {newest}, the oldest and the newest that there are");
            return Err(EngineError::field("min_decryption_version", why));
        }
        self.min_decryption = min;
        Ok(())
    }

    /// When its newest version is not to be replaced by age, in seconds since 1970; `None`: it never is. One of a time that is more than a day ahead was made by a clock that was
    /// wrong, and would stay for that much longer.
    pub(super) fn fresh_s(&self) -> Option<Range<u64>> {
        let made_s = self.versions.last().map_or(0, |version| version.made_s);
        let fresh = made_s.saturating_sub(AHEAD_S)..made_s.saturating_add(self.rotate_after_s);
        (self.rotate_after_s > 0 && self.can_rotate()).then_some(fresh)
    }

    /// Whether it has to be rotated before its newest version is used so often, and why. By age it is only if it can be: a key that is too old is better than none.
    pub(super) fn due(&self, uses: u64, now: SystemTime) -> Result<Option<Due>, EngineError> {
        let fresh = self.fresh_s();
        if fresh.is_some_and(|fresh| !fresh.contains(&seconds(now))) {
            return Ok(Some(Due::Age));
        }
        let left = match self.algorithm.max_uses() {
            Some(max) => max.saturating_sub(self.newest()?.uses),
            None => u64::MAX,
        };
        Ok((left < uses).then_some(Due::Uses))
    }

    /// Writes down that its newest version will be used `uses` times more, which is at least 1; how often it may now be used.
    ///
    /// # Errors
    /// If it may not be used so often any more: it is to be rotated first.
    pub(super) fn reserve(&mut self, uses: u64) -> Result<u64, EngineError> {
        let Some(max) = self.algorithm.max_uses() else {
            return Ok(u64::MAX);
        };
        let left = max.saturating_sub(self.newest()?.uses);
        if left < uses {
            return Err(self.full("the newest version was used as often as it may be"));
        }
        let lot = LOT.max(uses).min(left);
        self.versions.last_mut().ok_or_else(broken)?.uses += lot;
        Ok(lot)
    }

    /// As if its newest version had been used so often.
    #[cfg(test)]
    pub(super) fn used(&mut self, uses: u64) {
        self.versions.last_mut().unwrap().uses = uses;
    }

    /// How often its newest version may have been used.
    #[cfg(test)]
    pub(super) fn uses(&self) -> u64 {
        self.versions.last().unwrap().uses
    }
}
