//! Ids and secrets that nobody can guess.

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};

pub(crate) use mcdsl::human::hex;

pub(crate) use crate::readable::normalised;
use crate::{error::Error, readable};

/// Random bytes.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| Error::Internal("no random bytes"))?;
    Ok(bytes)
}

/// An id: 128 bits.
pub(crate) fn id() -> Result<String, Error> {
    let id = uuid::Builder::from_random_bytes(bytes()?).into_uuid();
    Ok(id.simple().to_string())
}

/// A secret that people read and type: 5 bits a character.
pub(crate) fn readable<const N: usize>() -> Result<String, Error> {
    Ok(readable::written(&bytes::<N>()?))
}

/// A secret that programs keep: 256 bits, in 43 characters of Base64.
pub(crate) fn secret() -> Result<String, Error> {
    Ok(BASE64.encode(bytes::<32>()?))
}

/// SHA-256, for secrets of so many bits that it takes nothing slower.
pub(crate) fn hash(parts: &[&str]) -> [u8; 32] {
    let mut text = Vec::new();
    for part in parts {
        text.extend_from_slice(&(part.len() as u64).to_be_bytes());
        text.extend_from_slice(part.as_bytes());
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, &text).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_what_was_made() {
        let made = readable::<20>().unwrap();
        assert_eq!(made.len(), 23, "{made}");
        assert_ne!(made, readable::<20>().unwrap());
        let plain = made.replace('-', "");
        for (description, typed) in [
            ("as it is", made.clone()),
            ("without groups", plain.clone()),
            ("in capitals", made.to_uppercase()),
            ("with spaces", made.replace('-', " ")),
            ("O for 0", made.replace('0', "O")),
            ("l for 1", made.replace('1', "l")),
        ] {
            assert_eq!(normalised(&typed), plain, "{description}");
        }
    }

    #[test]
    fn parts_are_not_joined() {
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
    }
}
