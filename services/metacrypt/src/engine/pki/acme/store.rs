//! What ACME stores, and where.
//!
//! `acme/orders/<id>` has all of an order. `acme/open/<account>/<hash of profile, names and what is replaced>` finds those that something can still come of,
//! `acme/ends/<end>/<id>` those that are to be forgotten, `acme/looking/<id>.<name>.<method>` what is to be looked at. `acme/issued/<serial>` says whose a
//! certificate is, `acme/tallies/<hash of an account of MCIAS>` how much it has of all of that. The secret of the key at
//! `acme/keys/<id>` is apart, at `acme/secrets/<id>`.

mod orders;
mod tally;

pub(in super::super) use self::orders::forget_issued;
pub(super) use self::{
    orders::{IssuedTo, Look, forget},
    tally::{Tally, Week},
};

use std::{collections::BTreeSet, net::SocketAddr, time::UNIX_EPOCH};

use aws_lc_rs::{digest, rand};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use mcdsl::auth::Identity;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    jwk::Jwk,
    nonce::Nonce,
    order::Order,
    problem::{Problem, Type},
};
use crate::{
    account::Account,
    barrier::{Items, KeyError},
    engine::{EngineError, Secret, time},
};

/// Entries that are read at once.
pub(super) const PAGE: usize = 500;
/// Seconds for which a new order lasts, and one of which nothing comes any more.
pub(super) const ORDER_S: u64 = 24 * 60 * 60;
const DONE_S: u64 = 60 * 60;
/// Seconds for which an account that ended is kept, so that its owner is told why.
const ENDED_S: u64 = 30 * 24 * 60 * 60;

const SETTINGS: &str = "acme/settings";
pub(in super::super) const KEYS: &str = "acme/keys/";
const NONCES: &str = "acme/nonces/";

/// What a text is found by.
fn short_hash(text: &str) -> String {
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    HEXLOWER.encode(&hash.as_ref()[..16])
}

/// So many random bytes.
fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| KeyError::Random)?;
    Ok(bytes)
}

/// A name that nobody guesses: 128 bits.
pub(in super::super) fn new_id() -> Result<String, KeyError> {
    Ok(HEXLOWER.encode(&random::<16>()?))
}

/// Whether it could be one: what strangers say is part of paths.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == 32
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// 256 bits, as challenges have them.
pub(super) fn new_token() -> Result<String, KeyError> {
    Ok(BASE64URL_NOPAD.encode(&random::<32>()?))
}

/// What is said of ACME in a mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Settings {
    /// Where clients reach the service; `None`: there is no ACME.
    pub(in super::super) base: Option<String>,
    /// Empty: those of the host.
    pub(in super::super) resolvers: Vec<SocketAddr>,
}

impl Settings {
    pub(in super::super) fn get(items: &Items<'_>) -> Result<Self, EngineError> {
        Ok(items.get(SETTINGS)?.unwrap_or_default())
    }

    pub(in super::super) fn put(&self, items: &Items<'_>) -> Result<(), EngineError> {
        Ok(items.put(SETTINGS, self)?)
    }
}

/// Whose something is: an account of MCIAS, as it was at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Owner {
    account: Account,
    /// When the token was issued by which it was given: what MCIAS revokes until then ends it.
    given_s: u64,
    /// That token and its session.
    #[serde(default)]
    token: String,
    #[serde(default)]
    session: String,
}

impl Owner {
    pub(in super::super) fn new(identity: &Identity) -> Self {
        let since = identity.issued.duration_since(UNIX_EPOCH);
        Self {
            account: Account::from(identity),
            given_s: since.unwrap_or_default().as_secs(),
            token: identity.token.clone(),
            session: identity.session.clone(),
        }
    }

    pub(in super::super) fn identity(&self) -> Identity {
        Identity {
            issued: time(self.given_s),
            ..self.account.identity()
        }
    }

    /// As it was when the token was shown: what ends that ends the key that nobody used yet.
    pub(in super::super) fn shown(&self) -> Identity {
        Identity {
            token: self.token.clone(),
            session: self.session.clone(),
            ..self.identity()
        }
    }

    /// The id of the account of MCIAS.
    pub(in super::super) fn id(&self) -> String {
        self.account.identity().account
    }
}

/// A key by which one ACME account is made, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in super::super) struct Binding {
    pub(in super::super) owner: Owner,
    /// Empty: all that the policy allows.
    pub(in super::super) profiles: BTreeSet<String>,
    pub(in super::super) created_s: u64,
    pub(in super::super) ends_s: u64,
    /// The account that was made by it.
    pub(in super::super) used_by: Option<String>,
}

/// Where its secret is: apart, so that none is opened where keys are listed and judged.
fn secret_at(id: &str) -> String {
    format!("acme/secrets/{id}")
}

/// 256 bits that are shared with who gets the key.
pub(in super::super) fn new_secret() -> Result<Zeroizing<[u8; 32]>, KeyError> {
    Ok(Zeroizing::new(random()?))
}

impl Binding {
    pub(in super::super) fn find(items: &Items<'_>, id: &str) -> Result<Option<Self>, EngineError> {
        match is_id(id) {
            true => Ok(items.get(&format!("{KEYS}{id}"))?),
            false => Ok(None),
        }
    }

    /// The one of this id, with its secret; none, if that cannot be read.
    #[expect(clippy::type_complexity, reason = "each part is said by its type")]
    pub(super) fn with_secret(
        items: &Items<'_>,
        id: &str,
    ) -> Result<Option<(Self, Zeroizing<Vec<u8>>)>, EngineError> {
        let Some(found) = Self::find(items, id)? else {
            return Ok(None);
        };
        let secret: Option<Secret> = items.get(&secret_at(id))?;
        Ok(secret.and_then(|secret| Some((found, secret.bytes()?))))
    }

    /// A new one, with its secret.
    ///
    /// # Errors
    /// If its owner has as many as he may, or the mount has.
    pub(in super::super) fn create(
        &self,
        items: &Items<'_>,
        id: &str,
        secret: &[u8],
    ) -> Result<(), EngineError> {
        Tally::add_key(items, &self.owner.id())?;
        items.put(&secret_at(id), &Secret::of(secret))?;
        self.put(items, id)
    }

    pub(super) fn put(&self, items: &Items<'_>, id: &str) -> Result<(), EngineError> {
        Ok(items.put(&format!("{KEYS}{id}"), self)?)
    }

    /// Deletes one, with its account, and ends what was to come of that one's orders.
    pub(in super::super) fn delete(
        &self,
        items: &Items<'_>,
        id: &str,
        now_s: u64,
    ) -> Result<(), EngineError> {
        self.forget(items, id)?;
        if let Some(account) = &self.used_by
            && let Some(found) = AcmeAccount::find(items, account)?
        {
            Order::cancel_all(items, account, now_s)?;
            found.delete(items, account)?;
        }
        Ok(())
    }

    /// Deletes one whose account, if there is one, has another.
    pub(super) fn forget(&self, items: &Items<'_>, id: &str) -> Result<(), EngineError> {
        items.delete(&secret_at(id))?;
        if items.delete(&format!("{KEYS}{id}"))? {
            Tally::drop_key(items, &self.owner.id())?;
        }
        Ok(())
    }
}

/// Whether an account may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in super::super) enum Standing {
    Valid,
    /// By its owner.
    Deactivated,
    /// MCIAS revoked what it was given by.
    Revoked,
}

/// An ACME account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in super::super) struct AcmeAccount {
    pub(super) key: Jwk,
    pub(super) owner: Owner,
    /// The key that it was made by.
    pub(super) binding: String,
    pub(super) profiles: BTreeSet<String>,
    pub(super) contact: Vec<String>,
    pub(in super::super) standing: Standing,
    /// When it ended.
    #[serde(default)]
    pub(super) ended_s: u64,
}

fn account_at(id: &str) -> String {
    format!("acme/accounts/{id}")
}

/// Where the account of a public key is noted.
fn of_key(key: &Jwk) -> String {
    format!("acme/thumbprints/{}", key.thumbprint())
}

impl AcmeAccount {
    pub(in super::super) fn find(items: &Items<'_>, id: &str) -> Result<Option<Self>, EngineError> {
        match is_id(id) {
            true => Ok(items.get(&account_at(id))?),
            false => Ok(None),
        }
    }

    /// The one of this key, with its id.
    pub(super) fn of(items: &Items<'_>, key: &Jwk) -> Result<Option<(String, Self)>, EngineError> {
        let Some(id) = items.get::<String>(&of_key(key))? else {
            return Ok(None);
        };
        Ok(Self::find(items, &id)?.map(|found| (id, found)))
    }

    pub(super) fn put(&self, items: &Items<'_>, id: &str) -> Result<(), EngineError> {
        items.put(&of_key(&self.key), &id)?;
        Ok(items.put(&account_at(id), self)?)
    }

    /// Whether it ended so long ago that nobody asks for it.
    pub(super) fn is_over(&self, now_s: u64) -> bool {
        self.standing != Standing::Valid && self.ended_s + ENDED_S <= now_s
    }

    /// Another key in the place of its own.
    pub(super) fn rekey(
        mut self,
        items: &Items<'_>,
        id: &str,
        key: Jwk,
    ) -> Result<(), EngineError> {
        items.delete(&of_key(&self.key))?;
        self.key = key;
        self.put(items, id)
    }

    fn delete(&self, items: &Items<'_>, id: &str) -> Result<(), EngineError> {
        items.delete(&of_key(&self.key))?;
        items.delete(&account_at(id))?;
        Ok(())
    }
}

/// Notes that a nonce was used, and forgets some of what had ended by `sure_s`, so that what comes goes again.
pub(super) fn use_nonce(
    items: &Items<'_>,
    nonce: &Nonce,
    sure_s: u64,
) -> Result<Result<(), Problem>, EngineError> {
    let place = format!("{NONCES}{}", nonce.path());
    if items.get::<()>(&place)?.is_some() {
        let why = "the nonce was used already; take the one of this answer";
        return Ok(Err(Problem::new(Type::BadNonce, why)));
    }
    items.put(&place, &())?;
    forget(items, sure_s, 2)?;
    Ok(Ok(()))
}
