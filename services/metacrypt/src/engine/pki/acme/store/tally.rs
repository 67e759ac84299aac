//! How much an account of MCIAS has, by whichever ACME accounts: counted in the transactions that make it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{super::order::Order, short_hash};
use crate::{barrier::Items, engine::EngineError};

/// Stored orders of which no certificate came, and names in them.
const MAX_ORDERS: usize = 2000;
const MAX_NAMES: usize = 20_000;
/// ACME keys, used or not.
const MAX_KEYS: usize = 1000;
/// And of all.
const MAX_ALL_KEYS: u64 = 10_000;
/// Certificates that have not ended.
const MAX_CERTIFICATES: usize = 20_000;
/// Stored orders of all.
const MAX_ALL: u64 = 1_000_000;
/// Certificates for the same names in a week, beside what their life asks for.
const MAX_SAME: u64 = 50;

const PLACE: &str = "acme/tallies/";
const ALL: &str = "acme/tallies/all";
const ALL_KEYS: &str = "acme/tallies/keys";
const DAY_S: u64 = 24 * 60 * 60;
const WEEK_S: u64 = 7 * DAY_S;

/// What one has.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in super::super) struct Tally {
    orders: usize,
    names: usize,
    keys: usize,
    /// By the day on which they end.
    certificates: BTreeMap<u64, usize>,
}

fn full(what: &str) -> EngineError {
    EngineError::Precondition(format!("the account of MCIAS has {what}"))
}

impl Tally {
    fn change(
        items: &Items<'_>,
        owner: &str,
        change: impl FnOnce(&mut Self) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let place = format!("{PLACE}{}", short_hash(owner));
        let mut tally: Self = items.get(&place)?.unwrap_or_default();
        change(&mut tally)?;
        Ok(items.put(&place, &tally)?)
    }

    /// # Errors
    /// There are as many as there may be.
    pub(super) fn add_key(items: &Items<'_>, owner: &str) -> Result<(), EngineError> {
        let all = items.get::<u64>(ALL_KEYS)?.unwrap_or_default();
        if all >= MAX_ALL_KEYS {
            return Err(EngineError::Precondition(format!(
                "the mount has {MAX_ALL_KEYS} ACME keys, which is the most; delete some"
            )));
        }
        items.put(ALL_KEYS, &(all + 1))?;
        Self::change(items, owner, |tally| {
            tally.keys += 1;
            match tally.keys > MAX_KEYS {
                true => Err(full(&format!(
                    "{MAX_KEYS} ACME keys, which is the most; delete some"
                ))),
                false => Ok(()),
            }
        })
    }

    pub(super) fn drop_key(items: &Items<'_>, owner: &str) -> Result<(), EngineError> {
        let all = items.get::<u64>(ALL_KEYS)?.unwrap_or_default();
        items.put(ALL_KEYS, &all.saturating_sub(1))?;
        Self::change(items, owner, |tally| {
            tally.keys = tally.keys.saturating_sub(1);
            Ok(())
        })
    }

    /// # Errors
    /// There are as many as there may be.
    pub(super) fn add_order(items: &Items<'_>, order: &Order) -> Result<(), EngineError> {
        let all = items.get::<u64>(ALL)?.unwrap_or_default();
        if all >= MAX_ALL {
            return Err(EngineError::Precondition(format!(
                "the mount has {MAX_ALL} orders, which is the most; wait until some have ended"
            )));
        }
        Self::change(items, &order.owner, |tally| {
            tally.orders += 1;
            tally.names += order.authorizations.len();
            if tally.orders > MAX_ORDERS || tally.names > MAX_NAMES {
                return Err(full(&format!(
                    "{MAX_ORDERS} orders without a certificate, or {MAX_NAMES} names in them, which is the most; finish them, or wait until they have ended"
                )));
            }
            Ok(())
        })?;
        Ok(items.put(ALL, &(all + 1))?)
    }

    /// One is forgotten.
    pub(super) fn drop_order(items: &Items<'_>, order: &Order) -> Result<(), EngineError> {
        let all = items.get::<u64>(ALL)?.unwrap_or_default();
        items.put(ALL, &all.saturating_sub(1))?;
        if order.serial().is_some() {
            return Ok(());
        }
        Self::change(items, &order.owner, |tally| {
            tally.gone(order);
            Ok(())
        })
    }

    fn gone(&mut self, order: &Order) {
        self.orders = self.orders.saturating_sub(1);
        self.names = self.names.saturating_sub(order.authorizations.len());
    }

    /// A certificate came of one; what had ended by `sure_s` is counted no more.
    pub(in super::super) fn issued(
        items: &Items<'_>,
        order: &Order,
        not_after_s: u64,
        (now_s, sure_s): (u64, u64),
    ) -> Result<(), EngineError> {
        Self::change(items, &order.owner, |tally| {
            tally.gone(order);
            tally.certificates = tally.certificates.split_off(&(sure_s / DAY_S));
            *tally.certificates.entry(not_after_s / DAY_S).or_default() += 1;
            Ok(())
        })?;
        Week::of(order, now_s).add(items)
    }

    /// That another certificate may come, of `life_s` seconds.
    ///
    /// # Errors
    /// There are as many as there may be.
    pub(in super::super) fn may_order(
        items: &Items<'_>,
        order: &Order,
        life_s: u64,
        now_s: u64,
    ) -> Result<(), EngineError> {
        let place = format!("{PLACE}{}", short_hash(&order.owner));
        let tally: Self = items.get(&place)?.unwrap_or_default();
        let live = tally.certificates.range(now_s / DAY_S..);
        if live.map(|(_, count)| count).sum::<usize>() >= MAX_CERTIFICATES {
            return Err(full(&format!(
                "{MAX_CERTIFICATES} certificates by ACME that have not ended, which is the most"
            )));
        }
        let most = MAX_SAME + 3 * (WEEK_S / life_s.max(1));
        if Week::of(order, now_s).count(items)? >= most {
            return Err(full(&format!(
                "{most} certificates for the same names this week, which is the most; use those"
            )));
        }
        Ok(())
    }
}

/// The certificates of an account of MCIAS for the same names in a week.
pub(in super::super) struct Week(String);

impl Week {
    /// `<week>/<hash of whose, and of the names>`.
    pub(super) const PLACE: &str = "acme/weeks/";

    pub(super) fn number(now_s: u64) -> u64 {
        now_s / WEEK_S
    }

    fn of(order: &Order, now_s: u64) -> Self {
        let mut all: Vec<_> = order.names.iter().map(ToString::to_string).collect();
        all.sort();
        let text = format!("{}\n{}", order.owner, all.join("\n"));
        let number = Self::number(now_s);
        Self(format!("{}{number:012}/{}", Self::PLACE, short_hash(&text)))
    }

    fn count(&self, items: &Items<'_>) -> Result<u64, EngineError> {
        Ok(items.get(&self.0)?.unwrap_or_default())
    }

    fn add(&self, items: &Items<'_>) -> Result<(), EngineError> {
        Ok(items.put(&self.0, &(self.count(items)? + 1))?)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{super::super::name::Names, forget, new_id},
        *,
    };
    use crate::{engine::transit, entered::Entered, testing::World};

    fn order(account: &str, owner: &str, names: usize) -> Order {
        let names: Vec<_> = (0..names)
            .map(|n| format!("n{n}.{account}.example"))
            .collect();
        let names = Names::parse(&names).unwrap();
        let token = || Ok::<_, ()>("token".to_owned());
        Order::new(account, owner, "web", names, None, 100, token).unwrap()
    }

    /// In a transaction of its own.
    async fn within(test: fn(&Items<'_>)) {
        let world = World::vault().await;
        let at = world.metacrypt.own(&transit::KIND, "vault", "test.tally");
        let test = move |items: &Items<'_>, _: &Entered| {
            test(items);
            Ok(())
        };
        at.unwrap().keep(test).await.unwrap();
    }

    #[tokio::test]
    async fn an_account_of_mcias_has_so_many_orders_by_whichever_acme_accounts() {
        within(|items| {
            let create = |account: &str, owner: &str| {
                let id = new_id().unwrap();
                order(account, owner, 100).create(items, &id)
            };
            for n in 0..MAX_NAMES / 100 {
                create(&format!("a{n}"), "weak").unwrap();
            }
            assert!(create("another", "weak").is_err());
            create("b", "ada").unwrap();
            while forget(items, 101, 500).unwrap() {}
            create("c", "weak").unwrap();
            assert_eq!(items.get::<u64>(ALL).unwrap(), Some(1));
        })
        .await;
    }

    #[tokio::test]
    async fn an_account_of_mcias_has_so_many_keys_and_certificates() {
        within(|items| {
            for _ in 0..MAX_KEYS {
                Tally::add_key(items, "weak").unwrap();
            }
            assert!(Tally::add_key(items, "weak").is_err());
            Tally::add_key(items, "ada").unwrap();
            items.put(ALL_KEYS, &MAX_ALL_KEYS).unwrap();
            let full = Tally::add_key(items, "eve").unwrap_err().to_string();
            assert!(full.contains("the mount has"), "{full}");
            Tally::drop_key(items, "ada").unwrap();
            Tally::add_key(items, "eve").unwrap();
            let (one, other) = (order("a", "weak", 2), order("b", "weak", 2));
            let (now_s, end_s) = (WEEK_S * 10, WEEK_S * 20);
            for _ in 0..MAX_SAME {
                Tally::may_order(items, &one, WEEK_S * 10, now_s).unwrap();
                Tally::issued(items, &one, end_s, (now_s, now_s)).unwrap();
            }
            assert!(Tally::may_order(items, &one, WEEK_S * 10, now_s).is_err());
            for (description, order, life_s, now_s) in [
                ("a short life", &one, 3600, now_s),
                ("other names", &other, WEEK_S * 10, now_s),
                ("another week", &one, WEEK_S * 10, now_s + WEEK_S),
            ] {
                let may = Tally::may_order(items, order, life_s, now_s);
                assert!(may.is_ok(), "{description}");
            }
            Tally::change(items, "weak", |tally| {
                tally.certificates.insert(end_s / DAY_S, MAX_CERTIFICATES);
                Ok(())
            })
            .unwrap();
            assert!(Tally::may_order(items, &other, 3600, now_s).is_err());
            let may = Tally::may_order(items, &other, 3600, end_s + DAY_S);
            assert!(may.is_ok(), "they have ended");
        })
        .await;
    }
}
