//! Secrets of the seal as people write them down and type them: recovery keys and shares.
//!
//! Crockford's Base32 in groups, with four bytes of SHA-256 at the end: a slip of the pen is told as such, and does not count as an attempt.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::{Encoding, Specification};
use zeroize::{Zeroize as _, Zeroizing};

/// Characters of a group.
const GROUP: usize = 5;
/// Bytes that tell a slip.
const CHECK: usize = 4;
/// Longest text that is looked at.
const MAX_TEXT: usize = 256;

static CROCKFORD: LazyLock<Encoding> = LazyLock::new(|| {
    let mut form = Specification::new();
    form.symbols.push_str("0123456789abcdefghjkmnpqrstvwxyz");
    form.translate.from.push_str("ABCDEFGHJKMNPQRSTVWXYZoOiIlL");
    form.translate.to.push_str("abcdefghjkmnpqrstvwxyz001111");
    form.ignore.push_str(" -\t\r\n");
    form.encoding().expect("an alphabet of 32 characters")
});

/// What was typed is no such secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not as it was written down: look for a character too many, too few or mistaken")]
pub struct Slip;

fn check(bytes: &[u8]) -> [u8; CHECK] {
    let mut check = [0; CHECK];
    check.copy_from_slice(&digest(&SHA256, bytes).as_ref()[..CHECK]);
    check
}

/// `bytes` for people.
pub(super) fn written(bytes: &[u8]) -> Zeroizing<String> {
    let mut all = Zeroizing::new(Vec::with_capacity(bytes.len() + CHECK));
    all.extend_from_slice(bytes);
    all.extend_from_slice(&check(bytes));
    let mut plain = CROCKFORD.encode(&all);
    let mut text = Zeroizing::new(String::with_capacity(plain.len() * 2));
    for (at, character) in plain.chars().enumerate() {
        if at > 0 && at % GROUP == 0 {
            text.push('-');
        }
        text.push(character);
    }
    plain.zeroize();
    text
}

/// The bytes of what people typed.
///
/// # Errors
/// [`Slip`].
pub(super) fn read(text: &str) -> Result<Zeroizing<Vec<u8>>, Slip> {
    if text.len() > MAX_TEXT {
        return Err(Slip);
    }
    let mut bytes = Zeroizing::new(CROCKFORD.decode(text.as_bytes()).map_err(|_| Slip)?);
    let length = bytes.len().checked_sub(CHECK).ok_or(Slip)?;
    if bytes[length..] != check(&bytes[..length]) {
        return Err(Slip);
    }
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_what_was_written() {
        let secret: Vec<u8> = (0..33).collect();
        let text = written(&secret);
        assert_eq!(**read(&text).unwrap(), *secret);
        for (description, typed) in [
            ("large letters", text.to_uppercase()),
            ("without groups", text.replace('-', "")),
            ("in lines", text.replace('-', " \n")),
            (
                "letters for digits",
                text.replace('0', "O").replace('1', "l"),
            ),
        ] {
            let read = read(&typed);
            assert_eq!(read.as_deref(), Ok(&secret), "{description}");
        }
        for (description, typed) in [
            ("nothing", String::new()),
            ("cut", text[..text.len() - 1].to_owned()),
            ("more", format!("{}7", *text)),
            ("another last character", {
                let (rest, last) = text.split_at(text.len() - 1);
                let symbols = "0123456789abcdefghjkmnpqrstvwxyz";
                let at = symbols.find(last).unwrap();
                format!("{rest}{}", &symbols[at + 1..at + 2])
            }),
            ("another character", text.replacen('2', "3", 1)),
            ("two exchanged", text.replacen("g4", "4g", 1)),
            ("no character of it", format!("{}u", *text)),
            ("far too long", text.repeat(10)),
        ] {
            if typed != **text {
                assert_eq!(read(&typed), Err(Slip), "{description}");
            }
        }
    }
}
