//! Orders, what of them is to be looked at, and whose certificates are.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    super::{
        super::{name::Names, serial::Serial},
        order::{Method, Order},
    },
    DONE_S, NONCES, PAGE, Tally, Week, is_id, short_hash,
};
use crate::{barrier::Items, engine::EngineError};

const ENDS: &str = "acme/ends/";
const LOOKING: &str = "acme/looking/";
const ISSUED: &str = "acme/issued/";

/// What tells an account's orders of the same apart from others.
fn open_at(order: &Order) -> String {
    let mut all: Vec<_> = order.names.iter().map(ToString::to_string).collect();
    all.sort();
    let replaces = order.replaces.as_ref().map_or("", |old| &old.id);
    let text = format!("{}\n{replaces}\n{}", order.profile, all.join("\n"));
    format!("{}{}", open_of(&order.account), short_hash(&text))
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
    pub(in super::super) fn find(items: &Items<'_>, id: &str) -> Result<Option<Self>, EngineError> {
        match is_id(id) {
            true => Ok(items.get(&order_at(id))?),
            false => Ok(None),
        }
    }

    /// The open one for just the same, with its id.
    pub(in super::super) fn same(
        &self,
        items: &Items<'_>,
        now_s: u64,
    ) -> Result<Option<(String, Self)>, EngineError> {
        let Some(id) = items.get::<String>(&open_at(self))? else {
            return Ok(None);
        };
        let found = Self::find(items, &id)?;
        let found = found.filter(|order| order.is_open(now_s));
        Ok(found.map(|order| (id, order)))
    }

    /// The ids of the open ones of an account.
    pub(in super::super) fn open_ids(
        items: &Items<'_>,
        account: &str,
        limit: usize,
    ) -> Result<Vec<String>, EngineError> {
        let found: Vec<(String, String)> = items.list(&open_of(account), "", limit)?;
        Ok(found.into_iter().map(|(_, id)| id).collect())
    }

    /// A new one.
    ///
    /// # Errors
    /// If its owner has as many as he may, or all have.
    pub(in super::super) fn create(&self, items: &Items<'_>, id: &str) -> Result<(), EngineError> {
        Tally::add_order(items, self)?;
        items.put(&order_at(id), self)?;
        items.put(&end_at(self.ends_s, id), &())?;
        Ok(items.put(&open_at(self), &id)?)
    }

    /// Ends all of an account of which something could still come.
    pub(in super::super) fn cancel_all(
        items: &Items<'_>,
        account: &str,
        now_s: u64,
    ) -> Result<(), EngineError> {
        while Self::cancel_some(items, account, now_s, PAGE)? > 0 {}
        Ok(())
    }

    /// The same, of `most` at most; how many there were.
    pub(in super::super) fn cancel_some(
        items: &Items<'_>,
        account: &str,
        now_s: u64,
        most: usize,
    ) -> Result<usize, EngineError> {
        let page: Vec<(String, String)> = items.list(&open_of(account), "", most)?;
        for (path, id) in &page {
            // With its order it may be gone already.
            items.delete(path)?;
            if let Some(mut order) = Self::find(items, id)? {
                order.cancel();
                order.put(items, id, now_s)?;
            }
        }
        Ok(page.len())
    }

    /// Whether the open ones of an account show that all these names are its own.
    pub(in super::super) fn all_shown(
        items: &Items<'_>,
        account: &str,
        names: &Names,
        now_s: u64,
    ) -> Result<bool, EngineError> {
        let mut missing: BTreeSet<_> = names.iter().cloned().collect();
        for id in Self::open_ids(items, account, PAGE)? {
            let order = Self::find(items, &id)?;
            for name in order.iter().flat_map(|order| order.shown(now_s)) {
                missing.remove(name);
            }
            if missing.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One that was changed. If nothing comes of it any more, or a certificate did, it lasts a while longer, for who asks for it again.
    pub(in super::super) fn put(
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
        let open = open_at(self);
        if items.get::<String>(&open)?.as_deref() == Some(id) {
            items.delete(&open)?;
        }
        Ok(())
    }
}

/// What is to be looked at: an order's id, which of its names, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct Look {
    pub(in super::super) order: String,
    pub(in super::super) at: usize,
    pub(in super::super) method: Method,
}

impl Look {
    fn path(&self) -> String {
        let Self { order, at, method } = self;
        format!("{LOOKING}{order}.{at}.{}", method.name())
    }

    pub(in super::super) fn note(&self, items: &Items<'_>) -> Result<(), EngineError> {
        Ok(items.put(&self.path(), &())?)
    }

    pub(in super::super) fn done(&self, items: &Items<'_>) -> Result<(), EngineError> {
        items.delete(&self.path())?;
        Ok(())
    }

    /// Those that wait, behind the path `after`.
    pub(in super::super) fn waiting(
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
pub(in super::super) struct IssuedTo {
    /// The ACME account.
    pub(in super::super) account: String,
    /// An order said that it replaces it.
    pub(in super::super) replaced: bool,
}

impl IssuedTo {
    pub(in super::super) fn find(
        items: &Items<'_>,
        serial: &Serial,
    ) -> Result<Option<Self>, EngineError> {
        Ok(items.get(&format!("{ISSUED}{serial}"))?)
    }

    pub(in super::super) fn put(
        &self,
        items: &Items<'_>,
        serial: &Serial,
    ) -> Result<(), EngineError> {
        Ok(items.put(&format!("{ISSUED}{serial}"), self)?)
    }
}

/// Forgets whose a certificate was.
pub(crate) fn forget_issued(items: &Items<'_>, serial: &Serial) -> Result<(), EngineError> {
    items.delete(&format!("{ISSUED}{serial}"))?;
    Ok(())
}

/// Forgets nonces that nobody takes any more, orders that ended and weeks that are over, at most so many of each, by the time that is sure: a clock that is ahead for a
/// while would have used nonces taken again. Whether there is more.
pub(in super::super) fn forget(
    items: &Items<'_>,
    sure_s: u64,
    most: usize,
) -> Result<bool, EngineError> {
    let old = |place: &str, before: u64| -> Result<Vec<String>, EngineError> {
        let before = format!("{place}{before:012}/");
        let all = items.names(place, "", most)?;
        Ok(all.into_iter().take_while(|path| *path < before).collect())
    };
    let nonces = old(NONCES, sure_s)?;
    let weeks = old(Week::PLACE, Week::number(sure_s))?;
    for path in nonces.iter().chain(&weeks) {
        items.delete(path)?;
    }
    let orders = old(ENDS, sure_s)?;
    for path in &orders {
        let id = path.rsplit('/').next().unwrap_or_default();
        if let Some(order) = Order::find(items, id)? {
            order.close(items, id)?;
            items.delete(&order_at(id))?;
            Tally::drop_order(items, &order)?;
        }
        items.delete(path)?;
    }
    Ok([nonces, weeks, orders].iter().any(|all| all.len() == most))
}
