//! What ACME stores, and where.
//!
//! `acme/orders/<id>` has all of an order. `acme/open/<account>/<hash of profile and names>` finds those that something can still come of, `acme/ends/<end>/<id>`
//! those that are to be forgotten, `acme/looking/<id>.<name>.<method>` what is to be looked at. `acme/issued/<serial>` says whose a certificate is.

use std::{collections::BTreeSet, net::SocketAddr, time::UNIX_EPOCH};

use aws_lc_rs::{digest, rand};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use mcdsl::auth::Identity;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    super::{
        name::Names,
        serial::Serial,
        store::{Record, time},
    },
    jwk::Jwk,
    nonce::Nonce,
    order::{Method, Order},
    problem::{Problem, Type},
};
use crate::{
    account::Account,
    barrier::{Items, KeyError},
    engine::EngineError,
};

/// Most keys of a mount, used or not.
pub(in super::super) const MAX_KEYS: usize = 10_000;
/// Entries that are read at once.
pub(super) const PAGE: usize = 500;
/// Orders of an account that something can still come of.
pub(super) const MAX_OPEN: usize = 2000;
/// Orders of all accounts.
pub(super) const MAX_ORDERS: usize = 1_000_000;
/// Seconds for which a new order lasts, and one of which nothing comes any more.
pub(super) const ORDER_S: u64 = 24 * 60 * 60;
pub(super) const DONE_S: u64 = 60 * 60;

const SETTINGS: &str = "acme/settings";
pub(in super::super) const KEYS: &str = "acme/keys/";
const ENDS: &str = "acme/ends/";
const NONCES: &str = "acme/nonces/";
const LOOKING: &str = "acme/looking/";
const ISSUED: &str = "acme/issued/";

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
}

impl Owner {
    pub(in super::super) fn new(identity: &Identity) -> Self {
        let since = identity.issued.duration_since(UNIX_EPOCH);
        Self {
            account: Account::from(identity),
            given_s: since.unwrap_or_default().as_secs(),
        }
    }

    pub(in super::super) fn identity(&self) -> Identity {
        Identity {
            issued: time(self.given_s),
            ..self.account.identity()
        }
    }
}

/// A key by which one ACME account is made.
#[derive(Clone, Serialize, Deserialize)]
pub(in super::super) struct Binding {
    pub(in super::super) owner: Owner,
    /// Empty: all that the policy allows.
    pub(in super::super) profiles: BTreeSet<String>,
    pub(in super::super) created_s: u64,
    pub(in super::super) ends_s: u64,
    /// Base64url.
    secret: String,
    /// The account that was made by it.
    pub(in super::super) used_by: Option<String>,
}

impl Drop for Binding {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl Binding {
    /// A new one.
    pub(in super::super) fn new(
        owner: Owner,
        profiles: BTreeSet<String>,
        created_s: u64,
        ends_s: u64,
    ) -> Result<Self, EngineError> {
        let secret = Zeroizing::new(random::<32>()?);
        Ok(Self {
            owner,
            profiles,
            created_s,
            ends_s,
            secret: BASE64URL_NOPAD.encode(&*secret),
            used_by: None,
        })
    }

    /// As clients take it.
    pub(in super::super) fn secret(&self) -> &str {
        &self.secret
    }

    pub(super) fn secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let bytes = BASE64URL_NOPAD.decode(self.secret.as_bytes());
        Zeroizing::new(bytes.unwrap_or_default())
    }

    pub(in super::super) fn find(items: &Items<'_>, id: &str) -> Result<Option<Self>, EngineError> {
        match is_id(id) {
            true => Ok(items.get(&format!("{KEYS}{id}"))?),
            false => Ok(None),
        }
    }

    pub(in super::super) fn put(&self, items: &Items<'_>, id: &str) -> Result<(), EngineError> {
        Ok(items.put(&format!("{KEYS}{id}"), self)?)
    }

    /// Deletes one, with its account.
    pub(in super::super) fn delete(&self, items: &Items<'_>, id: &str) -> Result<(), EngineError> {
        items.delete(&format!("{KEYS}{id}"))?;
        if let Some(account) = &self.used_by
            && let Some(found) = AcmeAccount::find(items, account)?
        {
            found.delete(items, account)?;
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

/// Notes that a nonce was used, and forgets some of what ended, so that what comes goes again; how many orders were forgotten.
pub(super) fn use_nonce(
    items: &Items<'_>,
    nonce: &Nonce,
    now_s: u64,
) -> Result<Result<usize, Problem>, EngineError> {
    let place = format!("{NONCES}{}", nonce.path());
    if items.get::<()>(&place)?.is_some() {
        let why = "the nonce was used already; take the one of this answer";
        return Ok(Err(Problem::new(Type::BadNonce, why)));
    }
    items.put(&place, &())?;
    Ok(Ok(forget(items, now_s, 2)?.orders))
}

/// What tells an account's orders of the same apart from others.
fn open_at(account: &str, profile: &str, names: &Names) -> String {
    let mut all: Vec<_> = names.iter().map(ToString::to_string).collect();
    all.sort();
    let text = format!("{profile}\n{}", all.join("\n"));
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    format!(
        "{}{}",
        open_of(account),
        HEXLOWER.encode(&hash.as_ref()[..16])
    )
}

fn open_of(account: &str) -> String {
    format!("acme/open/{account}/")
}

fn end_at(end_s: u64, id: &str) -> String {
    format!("{ENDS}{end_s:012}/{id}")
}

fn order_at(id: &str) -> String {
    format!("acme/orders/{id}")
}

impl Order {
    pub(super) fn find(items: &Items<'_>, id: &str) -> Result<Option<Self>, EngineError> {
        match is_id(id) {
            true => Ok(items.get(&order_at(id))?),
            false => Ok(None),
        }
    }

    /// The open one of an account for just that, with its id.
    pub(super) fn same(
        items: &Items<'_>,
        account: &str,
        profile: &str,
        names: &Names,
        now_s: u64,
    ) -> Result<Option<(String, Self)>, EngineError> {
        let Some(id) = items.get::<String>(&open_at(account, profile, names))? else {
            return Ok(None);
        };
        let found = Self::find(items, &id)?;
        let found = found.filter(|order| order.is_open(now_s));
        Ok(found.map(|order| (id, order)))
    }

    /// The ids of the open ones of an account.
    pub(super) fn open_ids(
        items: &Items<'_>,
        account: &str,
        limit: usize,
    ) -> Result<Vec<String>, EngineError> {
        let found: Vec<(String, String)> = items.list(&open_of(account), "", limit)?;
        Ok(found.into_iter().map(|(_, id)| id).collect())
    }

    /// How many there are.
    pub(super) fn count_open(items: &Items<'_>, account: &str) -> Result<usize, EngineError> {
        Ok(items.names(&open_of(account), "", MAX_OPEN)?.len())
    }

    /// A new one.
    pub(super) fn create(&self, items: &Items<'_>, id: &str) -> Result<(), EngineError> {
        items.put(&order_at(id), self)?;
        items.put(&end_at(self.ends_s, id), &())?;
        let open = open_at(&self.account, &self.profile, &self.names);
        Ok(items.put(&open, &id)?)
    }

    /// One that was changed. If nothing comes of it any more, or a certificate did, it lasts a while longer, for who asks for it again.
    pub(super) fn put(
        &mut self,
        items: &Items<'_>,
        id: &str,
        now_s: u64,
    ) -> Result<(), EngineError> {
        if !self.is_open(now_s) {
            self.close(items, id)?;
            items.delete(&end_at(self.ends_s, id))?;
            self.ends_s = self.ends_s.min(now_s + DONE_S);
            items.put(&end_at(self.ends_s, id), &())?;
        }
        Ok(items.put(&order_at(id), self)?)
    }

    fn close(&self, items: &Items<'_>, id: &str) -> Result<(), EngineError> {
        let open = open_at(&self.account, &self.profile, &self.names);
        if items.get::<String>(&open)?.as_deref() == Some(id) {
            items.delete(&open)?;
        }
        Ok(())
    }

    /// How many there are, of all accounts.
    pub(super) fn count(items: &Items<'_>) -> Result<usize, EngineError> {
        let (mut count, mut after) = (0, String::new());
        loop {
            let page = items.names("acme/orders/", &after, PAGE)?;
            count += page.len();
            match page.last() {
                Some(last) if page.len() == PAGE => after.clone_from(last),
                _ => return Ok(count),
            }
        }
    }
}

/// What is to be looked at: an order's id, which of its names, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) order: String,
    pub(super) at: usize,
    pub(super) method: Method,
}

impl Look {
    fn path(&self) -> String {
        let Self { order, at, method } = self;
        format!("{LOOKING}{order}.{at}.{}", method.name())
    }

    pub(super) fn note(&self, items: &Items<'_>) -> Result<(), EngineError> {
        Ok(items.put(&self.path(), &())?)
    }

    pub(super) fn done(&self, items: &Items<'_>) -> Result<(), EngineError> {
        items.delete(&self.path())?;
        Ok(())
    }

    /// Those that wait, behind the path `after`.
    pub(super) fn waiting(
        items: &Items<'_>,
        after: &str,
    ) -> Result<Vec<(String, Option<Self>)>, EngineError> {
        let paths = items.names(LOOKING, after, PAGE)?;
        let read = |path: &String| {
            let mut parts = path.strip_prefix(LOOKING)?.splitn(3, '.');
            Some(Self {
                order: parts.next()?.to_owned(),
                at: parts.next()?.parse().ok()?,
                method: Method::from_name(parts.next()?)?,
            })
        };
        Ok(paths
            .into_iter()
            .map(|path| (path.clone(), read(&path)))
            .collect())
    }
}

/// Whose a certificate is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct IssuedTo {
    /// The ACME account.
    pub(super) account: String,
    /// An order said that it replaces it.
    pub(super) replaced: bool,
}

impl IssuedTo {
    pub(super) fn find(items: &Items<'_>, serial: &Serial) -> Result<Option<Self>, EngineError> {
        Ok(items.get(&format!("{ISSUED}{serial}"))?)
    }

    pub(super) fn put(&self, items: &Items<'_>, serial: &Serial) -> Result<(), EngineError> {
        Ok(items.put(&format!("{ISSUED}{serial}"), self)?)
    }
}

/// What was forgotten.
pub(super) struct Forgotten {
    pub(super) orders: usize,
    /// There is more.
    pub(super) more: bool,
}

/// Forgets nonces that nobody takes any more and orders that ended, at most so many of each.
pub(super) fn forget(items: &Items<'_>, now_s: u64, most: usize) -> Result<Forgotten, EngineError> {
    let old = |place: &str| -> Result<Vec<String>, EngineError> {
        let before = format!("{place}{now_s:012}/");
        let all = items.names(place, "", most)?;
        Ok(all.into_iter().take_while(|path| *path < before).collect())
    };
    let nonces = old(NONCES)?;
    for path in &nonces {
        items.delete(path)?;
    }
    let orders = old(ENDS)?;
    for path in &orders {
        let id = path.rsplit('/').next().unwrap_or_default();
        if let Some(order) = Order::find(items, id)? {
            order.close(items, id)?;
            items.delete(&order_at(id))?;
        }
        items.delete(path)?;
    }
    Ok(Forgotten {
        orders: orders.len(),
        more: nonces.len() == most || orders.len() == most,
    })
}

/// Forgets whose those certificates were that are forgotten; the path to go on behind, if there is more.
pub(super) fn forget_issued(items: &Items<'_>, after: &str) -> Result<Option<String>, EngineError> {
    let paths = items.names(ISSUED, after, PAGE)?;
    for path in &paths {
        let serial = super::super::store::serial_of(path)?;
        if Record::find(items, &serial)?.is_none() {
            items.delete(path)?;
        }
    }
    Ok((paths.len() == PAGE)
        .then(|| paths.last().cloned())
        .flatten())
}
