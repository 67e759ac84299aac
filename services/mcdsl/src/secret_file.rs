//! A secret in a file that somebody replaces while the service runs: who rotates it restarts nothing.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::{
    certificate::Fingerprint,
    cli::{Exit, Failure},
    files,
};

/// The file, and what it said when it was last looked at. What is refused later (others may read it, it is empty) leaves in force what was.
pub(crate) struct SecretFile<T> {
    path: PathBuf,
    read: fn(&Path) -> Result<T, Failure>,
    state: Mutex<State<T>>,
}

struct State<T> {
    secret: T,
    seen: Fingerprint,
    /// What was seen is not in force. Its mode may be mended, which changes nothing that is seen.
    refused: bool,
}

impl<T: Clone> SecretFile<T> {
    /// Reads it.
    ///
    /// # Errors
    /// As `read`.
    pub(crate) fn open(
        path: &Path,
        read: fn(&Path) -> Result<T, Failure>,
    ) -> Result<Self, Failure> {
        // Before it is read: what changes meanwhile is read again.
        let seen = Fingerprint::of(path);
        Ok(Self {
            path: path.to_owned(),
            read,
            state: Mutex::new(State {
                secret: regular(path, read)?,
                seen,
                refused: false,
            }),
        })
    }

    /// What it says now. It looks at the file, which is small and local; for what goes over a network in any case.
    pub(crate) fn now(&self) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = Fingerprint::of(&self.path);
        let changed = seen != state.seen;
        if changed || state.refused {
            let file = self.path.display();
            let read = regular(&self.path, self.read);
            (state.seen, state.refused) = (seen, read.is_err());
            match read {
                Ok(secret) => {
                    state.secret = secret;
                    tracing::info!(%file, "a secret was read again");
                }
                Err(error) if changed => {
                    let error = error.to_string();
                    tracing::error!(%file, error, "a secret is refused; the one before stays");
                }
                Err(_) => {}
            }
        }
        state.secret.clone()
    }
}

/// A service is not to wait for whoever writes to a FIFO.
fn regular<T>(path: &Path, read: fn(&Path) -> Result<T, Failure>) -> Result<T, Failure> {
    let unread = |e| {
        Failure::new(
            Exit::Failure,
            format!("cannot read {}: {e}", path.display()),
        )
    };
    match files::open_regular(path) {
        // `read` says so in its own way.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        opened => drop(opened.map_err(unread)?),
    }
    read(path)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use nix::{sys::stat::Mode, unistd::mkfifo};
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::cli::{PrivateFile, token_file};

    #[test]
    fn what_is_new_is_taken_and_what_is_refused_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let put = |text: &str, mode| {
            PrivateFile::create(&path)
                .unwrap()
                .write(text.as_bytes())
                .unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        assert!(SecretFile::open(&path, token_file).is_err(), "missing");
        put("first", 0o644);
        assert!(
            SecretFile::open(&path, token_file).is_err(),
            "others may read it"
        );
        put("first\n", 0o600);
        let file = SecretFile::open(&path, token_file).unwrap();
        let says = |description: &str, wanted: &str| {
            assert_eq!(file.now().expose_secret(), wanted, "{description}");
        };
        says("as it is", "first");
        put("second", 0o600);
        says("a new one", "second");
        put("", 0o600);
        says("an empty one", "second");
        put("third", 0o644);
        says("one that others may read", "second");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        says("its mode is mended", "third");
        fs::remove_file(&path).unwrap();
        says("it is gone", "third");
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        says("a FIFO", "third");
        fs::remove_file(&path).unwrap();
        put("fourth", 0o640);
        says("one that the group may read", "fourth");
    }
}
