//! Where a list goes on. What comes last in an answer may be a name that its reader may not read, so that a position is sealed, for him and for that list.

use std::sync::OnceLock;

use aws_lc_rs::rand;
use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead as _, KeyInit as _, Payload},
};
use data_encoding::BASE64URL_NOPAD;
use mcdsl::server::Caller;
use zeroize::Zeroizing;

use super::EngineError;
use crate::{barrier::KeyError, entered::identity};

/// To multiples of so many bytes a position is filled up: how long a name is, is told no more closely.
const FILL: usize = 64;
/// Bytes of XChaCha20-Poly1305's nonces, which may be random for as many positions as there will be.
const NONCE: usize = 24;
/// Longest that is looked at; a path has 1 KiB at most.
const MAX: usize = 2048;

/// As long as the process lives.
static KEY: OnceLock<XChaCha20Poly1305> = OnceLock::new();

fn key() -> Result<&'static XChaCha20Poly1305, KeyError> {
    if let Some(key) = KEY.get() {
        return Ok(key);
    }
    let mut bytes = Zeroizing::new([0; 32]);
    rand::fill(&mut bytes[..]).map_err(|_| KeyError::Random)?;
    Ok(KEY.get_or_init(|| XChaCha20Poly1305::new((&*bytes).into())))
}

/// Positions in one list of one reader.
#[derive(Clone, Debug)]
pub(crate) struct Positions {
    /// Whose and of which list, as associated data.
    of: Vec<u8>,
}

impl Positions {
    /// Those of a caller in this list of a mount; with another `filter` it is another list.
    ///
    /// # Errors
    /// If nobody calls.
    pub(crate) fn of(
        caller: &Caller,
        mount: &str,
        list: &str,
        filter: &[&str],
    ) -> Result<Self, EngineError> {
        let who = identity(caller)?;
        let parts = [&*who.account, mount, list];
        let mut of = Vec::new();
        for part in parts.iter().chain(filter) {
            of.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            of.extend_from_slice(part.as_bytes());
        }
        Ok(Self { of })
    }

    /// The position behind this name, to be sent as `next`; of none it is empty.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub(crate) fn seal(&self, name: &str) -> Result<String, EngineError> {
        if name.is_empty() {
            return Ok(String::new());
        }
        let mut nonce = [0; NONCE];
        rand::fill(&mut nonce).map_err(|_| KeyError::Random)?;
        let mut msg = name.as_bytes().to_vec();
        msg.resize(name.len().next_multiple_of(FILL), 0);
        let (msg, aad) = (&*msg, &*self.of);
        let sealed = key()?.encrypt(&XNonce::from(nonce), Payload { msg, aad });
        let sealed = sealed.map_err(|_| KeyError::Random)?;
        Ok(BASE64URL_NOPAD.encode(&[&nonce[..], &sealed].concat()))
    }

    /// The name behind which a list goes on that somebody sent this `after` for; empty: from the beginning.
    ///
    /// # Errors
    /// It is not a position of his in this list.
    pub(crate) fn open(&self, after: &str) -> Result<String, EngineError> {
        if after.is_empty() {
            return Ok(String::new());
        }
        self.opened(after)?.ok_or_else(|| {
            let why = "not what `next` of an answer said to this account, for the same list, since the service started; leave it out to begin anew";
            EngineError::field("after", why)
        })
    }

    fn opened(&self, after: &str) -> Result<Option<String>, KeyError> {
        let bytes = Some(after).filter(|after| after.len() <= MAX);
        let bytes = bytes.and_then(|after| BASE64URL_NOPAD.decode(after.as_bytes()).ok());
        let Some((nonce, msg)) = bytes
            .as_deref()
            .and_then(<[u8]>::split_first_chunk::<NONCE>)
        else {
            return Ok(None);
        };
        let aad = &*self.of;
        let name = key()?.decrypt(&XNonce::from(*nonce), Payload { msg, aad });
        let name = name.ok().and_then(|name| String::from_utf8(name).ok());
        Ok(name.map(|name| name.trim_end_matches('\0').to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::caller;

    fn of(who: &str, mount: &str, list: &str, filter: &[&str]) -> Positions {
        let caller = caller(who, "user", "/metacircular.metacrypt.v1.Some/List");
        Positions::of(&caller, mount, list, filter).unwrap()
    }

    #[test]
    fn a_position_is_its_readers_in_its_list_and_tells_nobody_a_name() {
        let mine = of("ada", "vault", "keys", &["a", ""]);
        let longest = "n".repeat(1024);
        for name in ["a", &"n".repeat(FILL), &longest] {
            let position = mine.seal(name).unwrap();
            assert_eq!(mine.open(&position).unwrap(), *name);
            for (description, other) in [
                ("another reader", of("eve", "vault", "keys", &["a", ""])),
                ("another mount", of("ada", "other", "keys", &["a", ""])),
                ("another list", of("ada", "vault", "names", &["a", ""])),
                ("another filter", of("ada", "vault", "keys", &["b", ""])),
                (
                    "a filter's other field",
                    of("ada", "vault", "keys", &["", "a"]),
                ),
                ("no filter", of("ada", "vault", "keys", &[])),
            ] {
                let refused = other.open(&position).unwrap_err().to_string();
                assert!(refused.starts_with("after:"), "{description}: {refused}");
            }
        }
        let lengths: Vec<_> = ["a", "abcdef"]
            .map(|name| mine.seal(name).unwrap().len())
            .into();
        assert_eq!(lengths[0], lengths[1]);
    }

    #[test]
    fn a_list_begins_where_nothing_is_said_and_nowhere_else() {
        let mine = of("ada", "vault", "keys", &[]);
        assert_eq!(mine.open("").unwrap(), "");
        assert_eq!(mine.seal("").unwrap(), "");
        for wrong in ["a", "*", "AAAA", "name", &"A".repeat(MAX + 1)] {
            assert!(mine.open(wrong).is_err(), "{wrong}");
        }
    }
}
