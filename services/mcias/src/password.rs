//! Passwords: hashed with Argon2id (RFC 9106), a bounded number at a time.
//!
//! A hash takes 64 MiB and all of a core for about a tenth of a second, so that whoever could start as many as he likes would have
//! the machine. As many run as there are cores; a few more may wait, others are told to come back.

use std::sync::Arc;

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version,
    password_hash::phc::PasswordHash,
};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Semaphore, TryAcquireError};

use crate::{core::Mcias, error::Error, random};

/// KiB of a hash.
const MEMORY: u32 = 64 * 1024;
/// Passes over it.
const PASSES: u32 = 3;
/// Lanes.
const LANES: u32 = 4;
/// Bytes of a hash.
const LENGTH: usize = 32;
/// Those that may wait for a core, for each core: about a second.
const WAITING: usize = 8;
/// Of those, for logins from where an account is used from: strangers from many networks leave them free.
const KEPT: usize = 4;
/// Characters of a password.
pub const MAX_LENGTH: usize = 128;
/// Least score of zxcvbn, of 4: guessable neither online nor, slowly hashed, offline.
const MIN_SCORE: u8 = 3;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// All that may wait do.
    #[error("too many logins at this moment; try again in a few seconds")]
    Busy,
    /// The library refuses.
    #[error("an internal error in hashing")]
    Internal,
}

/// Hashes and checks.
#[derive(Clone, Debug)]
pub struct Passwords {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// Places of `waiting` that a stranger may have.
    strangers: Arc<Semaphore>,
    /// Those that were made: each has cost a hash, whomever it was about.
    pub(crate) checks: Counter,
    /// Of no password: names that do not exist are checked against it.
    nobody: Arc<str>,
}

/// Where an attempt comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A network that the account is used from.
    Known,
    /// Any other.
    Stranger,
}

/// What became of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// It is the one.
    pub right: bool,
    /// It was, and the hash's parameters are not those of today: this one is to be stored.
    pub rehashed: Option<String>,
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY, PASSES, LANES, Some(LENGTH)).expect("within Argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

impl Passwords {
    /// For so many cores.
    ///
    /// # Errors
    /// If nothing can be hashed.
    pub fn new(cores: usize) -> Result<Self, PasswordError> {
        let nobody = hash(&uuid::Uuid::new_v4().to_string())?;
        Ok(Self {
            running: Arc::new(Semaphore::new(cores)),
            waiting: Arc::new(Semaphore::new(cores * (1 + WAITING))),
            strangers: Arc::new(Semaphore::new(cores * (1 + WAITING - KEPT))),
            checks: Counter::default(),
            nobody: nobody.into(),
        })
    }

    /// The hash, in PHC form, with its parameters.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub async fn hash(&self, password: String) -> Result<String, PasswordError> {
        self.run(Origin::Known, move || hash(&password)).await
    }

    /// Whether `password`, which came `from` there, is the one that was hashed; `None`: of an account that does not exist or has none, which takes as long.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub async fn check(
        &self,
        password: String,
        stored: Option<String>,
        from: Origin,
    ) -> Result<Checked, PasswordError> {
        let exists = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.nobody.to_string());
        let checks = self.checks.clone();
        self.run(from, move || {
            checks.inc();
            let parsed = PasswordHash::new(&stored).map_err(|_| PasswordError::Internal)?;
            // With the parameters that the hash has.
            let right = Argon2::default()
                .verify_password(password.as_bytes(), &parsed)
                .is_ok()
                && exists;
            let outdated = Params::try_from(&parsed).ok() != Some(argon2().params().clone());
            let rehashed = (right && outdated).then(|| hash(&password)).transpose()?;
            Ok(Checked { right, rehashed })
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        from: Origin,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let place = |of: &Arc<Semaphore>| {
            let place = Arc::clone(of).try_acquire_owned();
            place.map_err(|e| match e {
                TryAcquireError::NoPermits => PasswordError::Busy,
                TryAcquireError::Closed => PasswordError::Internal,
            })
        };
        let stranger = match from {
            Origin::Known => None,
            Origin::Stranger => Some(place(&self.strangers)?),
        };
        let waiting = place(&self.waiting)?;
        let running = Arc::clone(&self.running).acquire_owned().await;
        let running = running.map_err(|_| PasswordError::Internal)?;
        // Held to the end of the work, whether anybody still waits for it or not: so the memory is bounded.
        let done = tokio::task::spawn_blocking(move || {
            let _held = (stranger, waiting, running);
            work()
        });
        done.await.map_err(|_| PasswordError::Internal)?
    }
}

/// The hash of a password, on this thread.
pub(crate) fn hash(password: &str) -> Result<String, PasswordError> {
    let hash = argon2().hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string())
        .map_err(|_| PasswordError::Internal)
}

/// A password that is given to somebody, who reads and types it: 100 bits.
pub(crate) fn new_password() -> Result<String, Error> {
    random::readable::<20>()
}

impl Mcias {
    /// Refuses a password that is easy to guess; off the async threads, since it computes and reads.
    pub(crate) async fn check_strength(&self, password: &str, name: &str) -> Result<(), Error> {
        let (password, name) = (password.to_owned(), name.to_owned());
        let breached = self.breached.clone();
        let checked = tokio::task::spawn_blocking(move || {
            check_strength(
                &password,
                &[&name, "mcias", "metacircular"],
                breached.as_deref(),
            )
        });
        match checked.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(weak @ Weak::Unjudged)) => Err(Error::unavailable(weak.to_string())),
            Ok(Err(weak)) => Err(Error::invalid(weak.to_string())),
            Err(_) => Err(Error::Internal("a password cannot be judged")),
        }
    }
}

/// Why a password is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weak {
    /// Nobody types so much.
    #[error("the password is longer than {MAX_LENGTH} characters")]
    TooLong,
    /// zxcvbn says why.
    #[error("the password is too easy to guess: {0}")]
    Guessable(String),
    /// It is in the list.
    #[error("the password is in a list of passwords that were stolen elsewhere; take another")]
    Breached,
    /// The list cannot be read: no password is taken that it may hold.
    #[error(
        "the list of stolen passwords cannot be read; an operator has to look at the service's log"
    )]
    Unjudged,
}

/// Whether a password may be set; `known` is what an attacker would try first: names and the like. No rule says of what it is
/// composed (NIST SP 800-63B §3.1.1.2).
///
/// # Errors
/// [`Weak`].
pub fn check_strength(
    password: &str,
    known: &[&str],
    breached: Option<&crate::breached::List>,
) -> Result<(), Weak> {
    if password.chars().count() > MAX_LENGTH {
        return Err(Weak::TooLong);
    }
    let entropy = zxcvbn::zxcvbn(password, known);
    if u8::from(entropy.score()) < MIN_SCORE {
        let why = entropy.feedback().and_then(|feedback| {
            let warning = feedback.warning().map(|warning| warning.to_string());
            warning.or_else(|| feedback.suggestions().first().map(ToString::to_string))
        });
        let why = why.unwrap_or_else(|| "make it longer".to_owned());
        // It goes on from a colon.
        return Err(Weak::Guessable(why.trim_end_matches('.').to_owned()));
    }
    match breached.map(|list| list.has(password)).transpose() {
        Ok(Some(true)) => Err(Weak::Breached),
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::error!(error = mcdsl::cli::chain(&error), "no password can be set");
            Err(Weak::Unjudged)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_right_one_alone_is_right() {
        let passwords = Passwords::new(2).unwrap();
        let stored = passwords.hash("korrekt horse".to_owned()).await.unwrap();
        assert!(
            stored.starts_with("$argon2id$v=19$m=65536,t=3,p=4$"),
            "{stored}"
        );
        for (description, password, stored, right) in [
            ("the one", "korrekt horse", Some(stored.clone()), true),
            ("another", "korrekt hors", Some(stored.clone()), false),
            ("none", "", Some(stored.clone()), false),
            ("of nobody", "korrekt horse", None, false),
        ] {
            let checked = passwords
                .check(password.to_owned(), stored, Origin::Known)
                .await;
            let wanted = Checked {
                right,
                rehashed: None,
            };
            assert_eq!(checked, Ok(wanted), "{description}");
        }
    }

    #[tokio::test]
    async fn a_hash_of_other_parameters_is_replaced() {
        let old = Argon2::new(
            Algorithm::Argon2id,
            Version::V0x13,
            Params::new(8 * 1024, 1, 1, None).unwrap(),
        );
        let stored = old.hash_password(b"korrekt horse").unwrap().to_string();
        let passwords = Passwords::new(1).unwrap();
        let checked = passwords
            .check(
                "korrekt horse".to_owned(),
                Some(stored.clone()),
                Origin::Known,
            )
            .await
            .unwrap();
        let rehashed = checked.rehashed.expect("other parameters");
        let again = passwords
            .check("korrekt horse".to_owned(), Some(rehashed), Origin::Known)
            .await
            .unwrap();
        assert!(checked.right && again.right && again.rehashed.is_none());
        let wrong = passwords
            .check("wrong".to_owned(), Some(stored), Origin::Known)
            .await;
        assert_eq!(
            wrong.unwrap().rehashed,
            None,
            "of a wrong one nothing is stored"
        );
    }

    #[tokio::test]
    async fn a_storm_is_told_to_come_back() {
        let passwords = Passwords::new(1).unwrap();
        let attempt = |_| {
            let passwords = passwords.clone();
            tokio::spawn(async move { passwords.check("x".to_owned(), None, Origin::Known).await })
        };
        let attempts: Vec<_> = (0..10 * (1 + WAITING)).map(attempt).collect();
        let (mut busy, mut answered) = (0, 0);
        for attempt in attempts {
            match attempt.await.unwrap() {
                Ok(checked) => answered += usize::from(!checked.right),
                Err(error) => busy += usize::from(error == PasswordError::Busy),
            }
        }
        assert_eq!((answered, busy), (1 + WAITING, 9 * (1 + WAITING)));
        assert!(
            passwords
                .check("x".to_owned(), None, Origin::Known)
                .await
                .is_ok(),
            "it is over"
        );
    }

    /// Each network may have a few attempts under way; a handful of them would have all places.
    #[tokio::test]
    async fn strangers_keep_nobody_out_who_comes_from_where_he_does() {
        let passwords = Passwords::new(1).unwrap();
        let attempt = |from| {
            let passwords = passwords.clone();
            tokio::spawn(async move { passwords.check("x".to_owned(), None, from).await })
        };
        let strangers: Vec<_> = (0..100).map(|_| attempt(Origin::Stranger)).collect();
        let known: Vec<_> = (0..KEPT).map(|_| attempt(Origin::Known)).collect();
        let answered = async |attempts: Vec<tokio::task::JoinHandle<_>>| {
            let mut answered = 0;
            for attempt in attempts {
                let attempt: Result<Checked, PasswordError> = attempt.await.unwrap();
                answered += usize::from(attempt.is_ok());
            }
            answered
        };
        assert_eq!(answered(known).await, KEPT);
        assert_eq!(answered(strangers).await, 1 + WAITING - KEPT);
    }

    #[test]
    fn weak_ones_are_not_taken() {
        let long = "a b c d e f g h ".repeat(8) + "i";
        for (description, password, fine) in [
            ("empty", "", false),
            ("common", "Password1!", false),
            ("the account's name", "ada.lovelace", false),
            ("a keyboard's row", "qwertyuiop", false),
            ("a date", "01.01.1990", false),
            ("too long", long.as_str(), false),
            ("words", "korrekt horse battery staple", true),
            ("random", "vT9#qLm2xW", true),
            ("no ASCII", "пароль-длинный-ёлка-47", true),
        ] {
            let checked = check_strength(password, &["ada.lovelace", "mcias"], None);
            assert_eq!(checked.is_ok(), fine, "{description}: {checked:?}");
        }
    }
}
