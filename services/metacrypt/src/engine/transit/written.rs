//! How what a key made is written: which version made it, and what.

use std::{fmt::Write as _, str::FromStr};

use base64_simd::STANDARD;

/// What it begins with.
const PREFIX: &str = "metacrypt:v";

/// A ciphertext or a signature, and the version of the key that made it: `metacrypt:v<version>:<base64>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) version: u32,
    pub(super) bytes: Vec<u8>,
}

/// Why a text is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not of the form metacrypt:v<version>:<base64>")]
pub(super) struct NotWritten;

impl Written {
    /// As it is written.
    pub(super) fn text(&self) -> String {
        const LONGEST: usize = PREFIX.len() + "4294967295:".len();
        let length = LONGEST + STANDARD.encoded_length(self.bytes.len());
        let mut text = String::with_capacity(length);
        // Writing to a String cannot fail.
        let _ = write!(text, "{PREFIX}{}:", self.version);
        STANDARD.encode_append(&self.bytes, &mut text);
        text
    }
}

impl FromStr for Written {
    type Err = NotWritten;

    /// One spelling alone.
    fn from_str(text: &str) -> Result<Self, NotWritten> {
        let rest = text.strip_prefix(PREFIX).ok_or(NotWritten)?;
        let (version, bytes) = rest.split_once(':').ok_or(NotWritten)?;
        let digits = version.bytes().all(|b| b.is_ascii_digit()) && !version.starts_with('0');
        let version = version.parse().ok().filter(|_| digits).ok_or(NotWritten)?;
        let bytes = STANDARD.decode_to_vec(bytes).map_err(|_| NotWritten)?;
        Ok(Self { version, bytes })
    }
}
