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
        needed: u8,
        /// That there should be.
        of: u8,
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
            Self::Password { .. } => "password",
            Self::Recovery => "recovery key",
            Self::Shares { .. } => "shares",
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
            Self::Password(_) => "password",
            Self::Recovery(_) => "recovery key",
            Self::Shares(_) => "shares",
        }
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
        if needed < 2 || needed > of || of > MAX_SHARES {
            return Err(SlotError::Threshold { needed, of });
        }
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

    /// The master key, by the secret that opens it.
    pub(super) fn open(&self, secret: &Secret, generation: i64) -> Result<Key, SlotError> {
        let by = match (&self.kind, secret) {
            (Kind::Password { cost, salt }, Secret::Password(password)) => {
                hashed(password, *cost, salt)?
            }
            (Kind::Recovery, Secret::Recovery(text)) => match &**written::read(text)? {
                [RECOVERY, key @ ..] => Key::of(key).ok_or(SlotError::Slip(Slip))?,
                [SHARE, ..] => return Err(SlotError::Kind("a share, not a recovery key")),
                _ => return Err(SlotError::Slip(Slip)),
            },
            (Kind::Shares { needed, set, .. }, Secret::Shares(texts)) => {
                combined(*needed, *set, texts)?
            }
            _ => return Err(SlotError::Missing(secret.kind())),
        };
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

/// The share's number and its points.
fn share(text: &str, of: [u8; SET]) -> Result<Share, SlotError> {
    let bytes = written::read(text)?;
    match &**bytes {
        [SHARE, rest @ ..] if rest.len() == SET + 1 + KEY => {
            let (set, share) = rest.split_at(SET);
            if set != of {
                return Err(SlotError::Mixed);
            }
            let share = Share::try_from(share).map_err(|_| SlotError::Slip(Slip))?;
            // That of zero would be the secret itself.
            if share.x.0 == 0 {
                return Err(SlotError::Slip(Slip));
            }
            Ok(share)
        }
        [RECOVERY, ..] => Err(SlotError::Kind("a recovery key, not a share")),
        _ => Err(SlotError::Slip(Slip)),
    }
}

fn combined(needed: u8, set: [u8; SET], texts: &[Zeroizing<String>]) -> Result<Key, SlotError> {
    if texts.len() > usize::from(MAX_SHARES) {
        return Err(SlotError::Mixed);
    }
    let mut shares: Vec<Share> = Vec::with_capacity(texts.len());
    for text in texts {
        let share = share(text, set)?;
        if shares.iter().any(|other| other.x.0 == share.x.0) {
            return Err(SlotError::Twice(share.x.0));
        }
        shares.push(share);
    }
    let few = SlotError::Few {
        needed,
        given: shares.len(),
    };
    let secret = Sharks(needed).recover(&shares).map_err(|_| few)?;
    Key::of(&Zeroizing::new(secret)).ok_or(SlotError::Wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost {
        memory_kib: 64,
        passes: 1,
        lanes: 1,
    };

    fn text(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[test]
    fn each_kind_opens_by_its_secret_alone() {
        let master = Key::random().unwrap();
        let password = Slot::password("right", CHEAP, 1, &master).unwrap();
        let (recovery, key) = Slot::recovery(1, &master).unwrap();
        let (shared, shares) = Slot::shares(2, 3, 1, &master).unwrap();
        let (_, strange) = Slot::shares(2, 3, 1, &master).unwrap();
        let (_, strange_key) = Slot::recovery(1, &master).unwrap();
        let some =
            |which: &[usize]| Secret::Shares(which.iter().map(|at| shares[*at].clone()).collect());
        let few = SlotError::Few {
            needed: 2,
            given: 1,
        };
        let mixed = Secret::Shares(vec![shares[0].clone(), strange[1].clone()]);
        let with_key = Secret::Shares(vec![shares[0].clone(), key.clone()]);
        let right = || Secret::Password(text("right"));
        for (description, slot, secret, opens) in [
            ("the password", &password, right(), Ok(())),
            (
                "another",
                &password,
                Secret::Password(text("wrong")),
                Err(SlotError::Wrong),
            ),
            (
                "none",
                &password,
                Secret::Password(text("")),
                Err(SlotError::Wrong),
            ),
            (
                "the recovery key",
                &recovery,
                Secret::Recovery(key.clone()),
                Ok(()),
            ),
            (
                "another's",
                &recovery,
                Secret::Recovery(strange_key),
                Err(SlotError::Wrong),
            ),
            (
                "a slip",
                &recovery,
                Secret::Recovery(text("abc")),
                Err(SlotError::Slip(Slip)),
            ),
            (
                "a share for it",
                &recovery,
                Secret::Recovery(shares[0].clone()),
                Err(SlotError::Kind("a share, not a recovery key")),
            ),
            ("shares 1 and 2", &shared, some(&[0, 1]), Ok(())),
            ("shares 3 and 1", &shared, some(&[2, 0]), Ok(())),
            ("all", &shared, some(&[0, 1, 2]), Ok(())),
            ("one", &shared, some(&[1]), Err(few)),
            (
                "none of them",
                &shared,
                some(&[]),
                Err(SlotError::Few {
                    needed: 2,
                    given: 0,
                }),
            ),
            (
                "one twice",
                &shared,
                some(&[1, 1]),
                Err(SlotError::Twice(2)),
            ),
            ("of two keys", &shared, mixed, Err(SlotError::Mixed)),
            (
                "a recovery key among them",
                &shared,
                with_key,
                Err(SlotError::Kind("a recovery key, not a share")),
            ),
            (
                "a password for shares",
                &shared,
                right(),
                Err(SlotError::Missing("password")),
            ),
        ] {
            let opened = slot.open(&secret, 1);
            if let Ok(opened) = &opened {
                assert_eq!(opened.bytes(), master.bytes(), "{description}");
            }
            assert_eq!(opened.map(drop), opens, "{description}");
        }
        assert_eq!(
            password.open(&right(), 2).map(drop),
            Err(SlotError::Wrong),
            "of another generation"
        );
    }

    #[test]
    fn what_cannot_be_made_is_refused() {
        let master = Key::random().unwrap();
        for (needed, of) in [(0, 0), (1, 1), (1, 3), (3, 2), (2, 17)] {
            let made = Slot::shares(needed, of, 1, &master);
            assert_eq!(made.map(drop), Err(SlotError::Threshold { needed, of }));
        }
        let most = Cost {
            memory_kib: u32::MAX,
            ..CHEAP
        };
        let none = Cost { passes: 0, ..CHEAP };
        for cost in [most, none] {
            let made = Slot::password("a", cost, 1, &master);
            assert_eq!(made.map(drop), Err(SlotError::Cost(cost)));
        }
    }
}
