//! Secrets at rest: signing keys and TOTP secrets are in the database, encrypted with a key that is not.
//!
//! The key is a file beside the database (mode 0600), so that neither a snapshot nor a copy of the database is worth anything alone.
//! AES-256-GCM with a random nonce; what a value is and whose goes into the associated data, so that none can be put in another's place.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
};
use mcdsl::files::sync_entry;
use zeroize::Zeroizing;

/// Bytes of the key.
const KEY: usize = 32;
/// Bytes that tell the key of a value of [`Passing`]: never twice the same.
const SALT: usize = 32;

/// The key.
pub struct Key(LessSafeKey);

/// Why there is none, or nothing can be sealed or opened with it.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The file cannot be made or read.
    #[error(
        "the master key {path} cannot be {what}; without it nobody can log in: restore it from where it is kept apart from snapshots"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// "made" or "read".
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others may read it, or it is too short or too long.
    #[error("the master key {path} is not {KEY} bytes that only its owner may read (mode 0600)")]
    Form {
        /// The file.
        path: PathBuf,
    },
    /// The system gives no random bytes.
    #[error("an internal error: no random bytes")]
    Random,
    /// Not sealed with this key, or for something else, or changed.
    #[error("{0} in the database was not sealed with this master key, or was changed")]
    Opened(String),
}

impl Key {
    /// Makes a new key in a file that must not exist.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn create(path: &Path) -> Result<Self, SealError> {
        let failed = |source| SealError::File {
            path: path.to_owned(),
            what: "made",
            source,
        };
        let mut key = Zeroizing::new([0; KEY]);
        aws_lc_rs::rand::fill(&mut *key).map_err(|_| SealError::Random)?;
        // Whole or not at all: one that is killed in between is made anew.
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)
            .map_err(failed)?;
        let made = file
            .write_all(&*key)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::hard_link(&new, path));
        // Also if the key is not made: what is left beside one that is there would be taken for it.
        let removed = fs::remove_file(&new);
        made.and(removed).map_err(failed)?;
        sync_entry(path).map_err(failed)?;
        Self::new(&*key, path)
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn read(path: &Path) -> Result<Self, SealError> {
        let failed = |source| SealError::File {
            path: path.to_owned(),
            what: "read",
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let private = file.metadata().map_err(failed)?.mode() & 0o077 == 0;
        // Of its length at once: a buffer that grows leaves copies behind.
        let mut key = Zeroizing::new(Vec::with_capacity(KEY + 1));
        file.take(KEY as u64 + 1)
            .read_to_end(&mut key)
            .map_err(failed)?;
        if !private {
            return Err(SealError::Form {
                path: path.to_owned(),
            });
        }
        Self::new(&key, path)
    }

    fn new(key: &[u8], path: &Path) -> Result<Self, SealError> {
        let key = UnboundKey::new(&AES_256_GCM, key);
        let key = key.map_err(|_| SealError::Form {
            path: path.to_owned(),
        })?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Encrypts `secret`; `what` names it, e.g. `totp/<account>`.
    ///
    /// # Errors
    /// [`SealError::Random`].
    pub fn seal(&self, what: &str, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| SealError::Random)?;
        let mut sealed = nonce.to_vec();
        // With room for the tag, or the plain text would be left where it was.
        let mut body = Zeroizing::new(Vec::with_capacity(secret.len() + MAX_TAG_LEN));
        body.extend_from_slice(secret);
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_append_tag(nonce, Aad::from(what), &mut *body)
            .map_err(|_| SealError::Random)?;
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    /// Decrypts it.
    ///
    /// # Errors
    /// [`SealError::Opened`].
    pub fn open(&self, what: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let wrong = || SealError::Opened(what.to_owned());
        let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
        let mut body = Zeroizing::new(body.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let secret = self
            .0
            .open_in_place(nonce, Aad::from(what), &mut body)
            .map_err(|_| wrong())?;
        let length = secret.len();
        body.truncate(length);
        Ok(body)
    }
}

/// A secret of the process, for what others carry from one request to the next: whoever asks may have it seal as much as he likes, which the
/// key of what is at rest is not for. Each value has a key of its own, derived from it, so that no number of them is too many for AES-GCM.
pub(crate) struct Passing(Zeroizing<[u8; KEY]>);

impl Passing {
    /// A new one.
    ///
    /// # Errors
    /// [`SealError::Random`].
    pub(crate) fn new() -> Result<Self, SealError> {
        let mut secret = Zeroizing::new([0; KEY]);
        aws_lc_rs::rand::fill(&mut *secret).map_err(|_| SealError::Random)?;
        Ok(Self(secret))
    }

    fn key(&self, salt: &[u8; SALT]) -> Result<Key, SealError> {
        let secret = Salt::new(HKDF_SHA256, salt).extract(&*self.0);
        let purpose: [&[u8]; 1] = [b"metacircular passing 1"];
        let key = secret.expand(&purpose, &AES_256_GCM);
        let key = key.map_err(|_| SealError::Random)?;
        Ok(Key(LessSafeKey::new(UnboundKey::from(key))))
    }

    /// As [`Key::seal`].
    ///
    /// # Errors
    /// [`SealError::Random`].
    pub(crate) fn seal(&self, what: &str, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut salt = [0; SALT];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| SealError::Random)?;
        let mut sealed = salt.to_vec();
        sealed.extend(self.key(&salt)?.seal(what, secret)?);
        Ok(sealed)
    }

    /// As [`Key::open`].
    ///
    /// # Errors
    /// [`SealError::Opened`].
    pub(crate) fn open(&self, what: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let wrong = || SealError::Opened(what.to_owned());
        let (salt, sealed) = sealed.split_first_chunk().ok_or_else(wrong)?;
        self.key(salt)?.open(what, sealed)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn what_is_sealed_opens_as_itself_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        let key = Key::create(&path).unwrap();
        let sealed = key.seal("totp/ada", b"secret").unwrap();
        assert!(!sealed.windows(6).any(|w| w == b"secret"));
        assert_ne!(
            sealed,
            key.seal("totp/ada", b"secret").unwrap(),
            "the same twice"
        );
        let again = Key::read(&path).unwrap();
        assert_eq!(**again.open("totp/ada", &sealed).unwrap(), *b"secret");
        assert!(
            again.open("totp/eve", &sealed).is_err(),
            "in another's place"
        );
        let other = Key::create(&directory.path().join("other.key")).unwrap();
        assert!(other.open("totp/ada", &sealed).is_err(), "with another key");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(
                again.open("totp/ada", &changed).is_err(),
                "byte {at} changed"
            );
            assert!(
                again.open("totp/ada", &sealed[..at]).is_err(),
                "cut at {at}"
            );
        }
    }

    #[test]
    fn what_is_carried_opens_as_itself_alone() {
        let (passing, other) = (Passing::new().unwrap(), Passing::new().unwrap());
        let sealed = passing.seal("step", b"secret").unwrap();
        assert!(!sealed.windows(6).any(|w| w == b"secret"));
        assert_eq!(**passing.open("step", &sealed).unwrap(), *b"secret");
        assert!(passing.open("steps", &sealed).is_err(), "as something else");
        assert!(other.open("step", &sealed).is_err(), "in another process");
        let again = passing.seal("step", b"secret").unwrap();
        assert_ne!(again[..SALT], sealed[..SALT], "a key of its own");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(passing.open("step", &changed).is_err(), "byte {at} changed");
            assert!(passing.open("step", &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        assert!(
            matches!(Key::read(&path), Err(SealError::File { .. })),
            "there is none"
        );
        Key::create(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(
            matches!(Key::create(&path), Err(SealError::File { .. })),
            "never overwritten"
        );
        let files = fs::read_dir(directory.path()).unwrap();
        assert_eq!(files.count(), 1, "and nothing is left beside it");
        for (description, content, mode) in [
            ("short", vec![0; 31], 0o600),
            ("long", vec![0; 33], 0o600),
            ("empty", vec![], 0o600),
            ("for the group", vec![0; 32], 0o640),
            ("for all", vec![0; 32], 0o604),
        ] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(
                matches!(Key::read(&path), Err(SealError::Form { .. })),
                "{description}"
            );
        }
    }
}
