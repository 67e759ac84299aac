//! What opens the seal: a password, a recovery key, or shares of one.
//!
//! Each slot keeps the master key, sealed by a key that only whoever knows its secret can make (as LUKS does). A password is slowly hashed; what was made by the
//! machine has 256 bits and need not be.

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{
    digest::{SHA256, digest},
    rand,
};
use blahaj::{Share, Sharks};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    key::{KEY, Key, KeyError},
    written::{self, Slip},
};

/// Bytes of a password's salt.
const SALT: usize = 16;
/// Bytes that tell shares of one key from those of another.
const SET: usize = 4;
/// Most shares.
pub const MAX_SHARES: u8 = 16;
/// First byte of a recovery key that is written down, and of a share.
const RECOVERY: u8 = 1;
const SHARE: u8 = 2;
/// The kinds of secrets, as people and the database call them.
pub(crate) const BY_PASSWORD: &str = "password";
const BY_RECOVERY: &str = "recovery key";
const BY_SHARES: &str = "shares";

/// What hashing a password costs (RFC 9106).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// KiB of memory.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Cost {
    /// That of new slots: 512 MiB, three passes, four lanes; about a second.
    pub const DEFAULT: Self = Self {
        memory_kib: 512 << 10,
        passes: 3,
        lanes: 4,
    };
    /// The most that is believed of a database.
    const MOST: Self = Self {
        memory_kib: 4 << 20,
        passes: 64,
        lanes: 64,
    };

    fn argon2(self) -> Result<Argon2<'static>, SlotError> {
        let most = Self::MOST;
        let within = self.memory_kib <= most.memory_kib
            && self.passes <= most.passes
            && self.lanes <= most.lanes;
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(KEY));
        match params {
            Ok(params) if within => Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params)),
            _ => Err(SlotError::Cost(self)),
        }
    }
}

/// Why a slot is not made or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// It is not what opens the slot.
    #[error("that is not the one that opens the seal")]
    Wrong,
    /// It is no secret of this kind.
    #[error(transparent)]
    Slip(#[from] Slip),
    /// A recovery key where a share is asked for, or the reverse.
    #[error("it is {0}")]
    Kind(&'static str),
    /// Shares of different keys.
    #[error("the shares are not of one key")]
    Mixed,
    /// One share twice.
    #[error("share {0} is there twice")]
    Twice(u8),
    /// Fewer than it takes.
    #[error("it takes {needed} shares, and there are {given}")]
    Few {
        /// That it takes.
        needed: u8,
        /// That there are.
        given: usize,
    },
    /// There is no such slot.
    #[error("the seal has no {0}")]
    Missing(&'static str),
    /// As many shares as cannot be made.
    #[error("shares: 2 to {MAX_SHARES}, of which 2 or more are needed; not {needed} of {of}")]
    Threshold {
        /// That it should take.
        needed: u32,
        /// That there should be.
        of: u32,
    },
    /// Parameters that no machine has memory for, or that are none.
    #[error("a password's hash costs {0:?}, which cannot be")]
    Cost(Cost),
    /// No memory for a password's hash.
    #[error("a password cannot be hashed: {0}")]
    Hash(String),
    /// No random bytes.
    #[error(transparent)]
    Key(KeyError),
}

/// What opens a slot, beside the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// A password.
    Password {
        /// What hashing it costs.
        cost: Cost,
        /// Makes the hash this slot's.
        salt: [u8; SALT],
    },
    /// A key that was written down.
    Recovery,
    /// Shares of a key (Shamir, GF(256)).
    Shares {
        /// That it takes.
        needed: u8,
        /// That there are.
        of: u8,
        /// Which key they are of.
        set: [u8; SET],
    },
}

impl Kind {
    /// In the database, one of each.
    #[must_use]
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Password { .. } => BY_PASSWORD,
            Self::Recovery => BY_RECOVERY,
            Self::Shares { .. } => BY_SHARES,
        }
    }
}

/// A secret that may open the seal. Its `Debug` says which kind it is.
pub enum Secret {
    /// The password.
    Password(Zeroizing<String>),
    /// The recovery key as it was written down.
    Recovery(Zeroizing<String>),
    /// Shares as they were written down.
    Shares(Vec<Zeroizing<String>>),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind())
    }
}

impl Secret {
    /// The name of the slot that it may open.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Password(_) => BY_PASSWORD,
            Self::Recovery(_) => BY_RECOVERY,
            Self::Shares(_) => BY_SHARES,
        }
    }

    /// What was typed, as far as that can be told without the slot.
    ///
    /// # Errors
    /// That it is no such secret.
    pub(super) fn read(self) -> Result<Typed, SlotError> {
        Ok(match self {
            Self::Password(password) => Typed::Password(password),
            Self::Recovery(text) => Typed::Recovery(match &**written::read(&text)? {
                [RECOVERY, key @ ..] => Key::of(key).ok_or(SlotError::Slip(Slip))?,
                [SHARE, ..] => return Err(SlotError::Kind("a share, not a recovery key")),
                _ => return Err(SlotError::Slip(Slip)),
            }),
            Self::Shares(texts) if texts.len() > usize::from(MAX_SHARES) => {
                return Err(SlotError::Mixed);
            }
            Self::Shares(texts) => {
                let shares = texts.iter().map(|text| share(text));
                Typed::Shares(shares.collect::<Result<_, _>>()?)
            }
        })
    }
}

/// A secret whose checksums are right.
pub(super) enum Typed {
    /// The password.
    Password(Zeroizing<String>),
    /// The recovery key.
    Recovery(Key),
    /// Shares, and which key each is of.
    Shares(Vec<([u8; SET], Share)>),
}

impl Typed {
    /// The name of the slot that it may open.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Password(_) => BY_PASSWORD,
            Self::Recovery(_) => BY_RECOVERY,
            Self::Shares(_) => BY_SHARES,
        }
    }
}

/// How many of how many shares, if so many can be made.
///
/// # Errors
/// [`SlotError::Threshold`].
pub fn threshold(needed: u32, of: u32) -> Result<(u8, u8), SlotError> {
    let numbers = (u8::try_from(needed), u8::try_from(of));
    match numbers {
        (Ok(needed), Ok(of)) if needed >= 2 && needed <= of && of <= MAX_SHARES => Ok((needed, of)),
        _ => Err(SlotError::Threshold { needed, of }),
    }
}

/// A slot.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) kind: Kind,
    /// The master key.
    pub(super) sealed: Vec<u8>,
}

impl Slot {
    fn new(kind: Kind, by: &Key, generation: i64, master: &Key) -> Result<Self, SlotError> {
        let what = place(&kind, generation);
        let sealed = by.seal(&what, master.bytes()).map_err(SlotError::Key)?;
        Ok(Self { kind, sealed })
    }

    /// One that `password` opens. Takes as long and as much memory as `cost` says.
    pub(super) fn password(
        password: &str,
        cost: Cost,
        generation: i64,
        master: &Key,
    ) -> Result<Self, SlotError> {
        let mut salt = [0; SALT];
        rand::fill(&mut salt).map_err(|_| SlotError::Key(KeyError::Random))?;
        let by = hashed(password, cost, &salt)?;
        Self::new(Kind::Password { cost, salt }, &by, generation, master)
    }

    /// One that a new recovery key opens, and that key.
    pub(super) fn recovery(
        generation: i64,
        master: &Key,
    ) -> Result<(Self, Zeroizing<String>), SlotError> {
        let by = Key::random().map_err(SlotError::Key)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + KEY));
        bytes.push(RECOVERY);
        bytes.extend_from_slice(by.bytes());
        let slot = Self::new(Kind::Recovery, &by, generation, master)?;
        Ok((slot, written::written(&bytes)))
    }

    /// One that `needed` of `of` new shares open, and those.
    pub(super) fn shares(
        needed: u8,
        of: u8,
        generation: i64,
        master: &Key,
    ) -> Result<(Self, Vec<Zeroizing<String>>), SlotError> {
        threshold(needed.into(), of.into())?;
        let by = Key::random().map_err(SlotError::Key)?;
        let mut set = [0; SET];
        set.copy_from_slice(&digest(&SHA256, &by.derived("shares").bytes()[..]).as_ref()[..SET]);
        let share = |share: Share| {
            let share = Zeroizing::new(Vec::from(&share));
            let mut bytes = Zeroizing::new(Vec::with_capacity(1 + SET + share.len()));
            bytes.push(SHARE);
            bytes.extend_from_slice(&set);
            bytes.extend_from_slice(&share);
            written::written(&bytes)
        };
        let dealt = Sharks(needed).dealer(by.bytes()).take(of.into());
        let shares = dealt.map(share).collect();
        let kind = Kind::Shares { needed, of, set };
        Ok((Self::new(kind, &by, generation, master)?, shares))
    }

    /// Whether `secret` is of this slot's kind and, of shares, as many of the slot's key as it takes. It costs nothing, and says nothing of what opens it.
    ///
    /// # Errors
    /// What it is instead.
    pub(super) fn check(&self, secret: &Typed) -> Result<(), SlotError> {
        match secret {
            Typed::Password(_) if self.kind.name() == BY_PASSWORD => Ok(()),
            secret => self.key(secret).map(drop),
        }
    }

    /// What the master key is sealed by.
    fn key(&self, secret: &Typed) -> Result<Key, SlotError> {
        match (&self.kind, secret) {
            (Kind::Password { cost, salt }, Typed::Password(password)) => {
                hashed(password, *cost, salt)
            }
            (Kind::Recovery, Typed::Recovery(key)) => Ok(key.clone()),
            (Kind::Shares { needed, set, .. }, Typed::Shares(shares)) => {
                combined(*needed, *set, shares)
            }
            _ => Err(SlotError::Missing(secret.kind())),
        }
    }

    /// The master key, by the secret that opens it. Of a password, takes as long and as much memory as its cost says.
    pub(super) fn open(&self, secret: &Typed, generation: i64) -> Result<Key, SlotError> {
        let by = self.key(secret)?;
        let opened = by.open(&place(&self.kind, generation), &self.sealed);
        let master = opened.map_err(|_| SlotError::Wrong)?;
        Key::of(&master).ok_or(SlotError::Wrong)
    }
}

fn place(kind: &Kind, generation: i64) -> String {
    format!("slot/{}/{generation}", kind.name())
}

fn hashed(password: &str, cost: Cost, salt: &[u8; SALT]) -> Result<Key, SlotError> {
    let argon2 = cost.argon2()?;
    Key::filled(|key| {
        let hashed = argon2.hash_password_into(password.as_bytes(), salt, key);
        hashed.map_err(|error| SlotError::Hash(error.to_string()))
    })
}

/// Which key a share is of; its number and its points.
fn share(text: &str) -> Result<([u8; SET], Share), SlotError> {
    let bytes = written::read(text)?;
    let rest = match &**bytes {
        [SHARE, rest @ ..] if rest.len() == SET + 1 + KEY => rest,
        [RECOVERY, ..] => return Err(SlotError::Kind("a recovery key, not a share")),
        _ => return Err(SlotError::Slip(Slip)),
    };
    let (set, share) = rest.split_first_chunk().ok_or(SlotError::Slip(Slip))?;
    let share = Share::try_from(share).map_err(|_| SlotError::Slip(Slip))?;
    // That of zero would be the secret itself.
    if share.x.0 == 0 {
        return Err(SlotError::Slip(Slip));
    }
    Ok((*set, share))
}

fn combined(needed: u8, of: [u8; SET], shares: &[([u8; SET], Share)]) -> Result<Key, SlotError> {
    for (at, (set, share)) in shares.iter().enumerate() {
        if *set != of {
            return Err(SlotError::Mixed);
        }
        if shares[..at].iter().any(|(_, other)| other.x.0 == share.x.0) {
            return Err(SlotError::Twice(share.x.0));
        }
    }
    let few = SlotError::Few {
        needed,
        given: shares.len(),
    };
    let points = shares.iter().map(|(_, share)| share);
    let secret = Sharks(needed).recover(points).map_err(|_| few)?;
    Key::of(&Zeroizing::new(secret)).ok_or(SlotError::Wrong)
}

#[cfg(test)]
mod tests;
