//! Tokens whose signatures were looked at: who calls sends the same one each time, and a signature that was good under a key stays so.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use super::hash;
use crate::auth::{
    AuthError,
    token::{Claims, Keys},
};

/// Tokens that are kept, at most twice as many: those of the last time, and those of the time before.
const MAX: usize = 1024;

/// Keys, and tokens that they signed: other keys begin without any.
#[derive(Default)]
pub(super) struct Verified {
    keys: Keys,
    tokens: Mutex<Tokens>,
}

/// By SHA-256 of all of the token. What does not come again is forgotten as others come.
#[derive(Default)]
struct Tokens {
    last: HashMap<[u8; 32], Arc<Claims>>,
    before: HashMap<[u8; 32], Arc<Claims>>,
}

impl Tokens {
    fn find(&mut self, of: &[u8; 32]) -> Option<Arc<Claims>> {
        if let Some(claims) = self.last.get(of) {
            return Some(Arc::clone(claims));
        }
        let claims = self.before.remove(of)?;
        self.keep(*of, &claims);
        Some(claims)
    }

    fn keep(&mut self, of: [u8; 32], claims: &Arc<Claims>) {
        if self.last.len() >= MAX {
            self.before = mem::take(&mut self.last);
        }
        self.last.insert(of, Arc::clone(claims));
    }
}

impl Verified {
    /// By these keys, from now on.
    pub(super) fn new(keys: Keys) -> Self {
        let tokens = Mutex::default();
        Self { keys, tokens }
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The claims of a token that one of the keys signed, which are to be checked each time.
    ///
    /// # Errors
    /// [`AuthError::Invalid`].
    pub(super) fn signed(&self, token: &str) -> Result<Arc<Claims>, AuthError> {
        let of = hash(token)?;
        let tokens = || self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claims) = tokens().find(&of) {
            return Ok(claims);
        }
        // Those alone that are signed are kept: nobody fills it with others.
        let claims = Arc::new(self.keys.signed(token)?);
        tokens().keep(of, &claims);
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use mc_proto::AccountType;

    use super::*;

    #[test]
    fn what_does_not_come_again_is_forgotten() {
        let claims = Arc::new(Claims {
            iss: String::new(),
            sub: String::new(),
            aud: Vec::new(),
            iat: 0,
            nbf: 0,
            exp: 0,
            jti: String::new(),
            sid: String::new(),
            name: String::new(),
            account_type: AccountType::Human,
            roles: Vec::new(),
            tags: Vec::new(),
            amr: Vec::new(),
        });
        let key = |n: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_be_bytes());
            key
        };
        let mut tokens = Tokens::default();
        for n in 0..10 * MAX {
            tokens.keep(key(n), &claims);
            // One that comes all the time.
            assert!(tokens.find(&key(0)).is_some(), "{n}");
            assert!(tokens.last.len() + tokens.before.len() <= 2 * MAX + 1);
        }
        assert!(tokens.find(&key(1)).is_none());
        assert!(tokens.find(&key(10 * MAX - 1)).is_some());
    }
}
