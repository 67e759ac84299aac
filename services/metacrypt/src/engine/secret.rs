//! Secrets in what is stored, which is JSON.

use std::fmt;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

/// Bytes that nobody else is to have, stored in Base64, and overwritten when they are dropped.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    /// That of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(BASE64.encode(bytes))
    }

    /// Its bytes; `None`: it was not stored by [`Secret::of`].
    pub(crate) fn bytes(&self) -> Option<Zeroizing<Vec<u8>>> {
        BASE64.decode(self.0.as_bytes()).ok().map(Zeroizing::new)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_it_was_stored_and_shown_to_nobody() {
        let stored = serde_json::to_string(&Secret::of(b"hush")).unwrap();
        assert_eq!(stored, r#""aHVzaA==""#);
        let read: Secret = serde_json::from_str(&stored).unwrap();
        assert_eq!(**read.bytes().unwrap(), *b"hush");
        assert_eq!(format!("{read:?}"), "Secret(…)");
        let other: Secret = serde_json::from_str(r#""*""#).unwrap();
        assert!(other.bytes().is_none());
    }
}
