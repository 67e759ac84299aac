//! Before a password is looked at: whether that may be tried now, by this source, for this account.
//!
//! One attempt at a time for each thing that is guessed at, so that many at once are no faster than one after the other. Where an account's
//! owner logs in from is counted apart from everywhere else: a stranger who guesses closes the account to strangers.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::{
    account::{self, Account},
    by::By,
    core::{Change, Mcias},
    error::Error,
    guesses::Guesses,
    name::AccountName,
    sources::network,
    time::{at, unix},
};

/// Attempts of one network at once: a part of those that may wait for a core.
const PER_NETWORK: usize = 6;
/// Devices of an account that are remembered.
const MAX_DEVICES: i64 = 64;

/// Attempts under way.
#[derive(Default)]
pub(crate) struct Flights(Mutex<UnderWay>);

#[derive(Default)]
struct UnderWay {
    keys: HashSet<String>,
    networks: HashMap<String, usize>,
}

/// An attempt that may be made.
pub(crate) struct Gate {
    /// The account, if there is one of that name.
    pub(crate) account: Option<Account>,
    pub(crate) network: String,
    key: String,
    guesses: Guesses,
    source: IpAddr,
    _flight: Flight,
}

struct Flight {
    all: Arc<Flights>,
    key: String,
    network: String,
}

impl Flights {
    fn begin(self: &Arc<Self>, key: &str, network: &str) -> Option<Flight> {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_network = under_way.networks.get(network).copied().unwrap_or(0);
        if of_network >= PER_NETWORK || !under_way.keys.insert(key.to_owned()) {
            return None;
        }
        *under_way.networks.entry(network.to_owned()).or_default() += 1;
        Some(Flight {
            all: Arc::clone(self),
            key: key.to_owned(),
            network: network.to_owned(),
        })
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut under_way = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.keys.remove(&self.key);
        if let Some(count) = under_way.networks.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                under_way.networks.remove(&self.network);
            }
        }
    }
}

impl Mcias {
    /// Lets an attempt at an account in, or says when the next one is.
    ///
    /// # Errors
    /// If it comes too early.
    pub(crate) async fn enter(self: &Arc<Self>, by: &By, name: &str) -> Result<Gate, Error> {
        let (source, now) = (by.source.to_canonical(), SystemTime::now());
        let open_from = {
            let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
            sources.open_from(source, now)
        };
        if let Ok(wait) = open_from.duration_since(now)
            && !wait.is_zero()
        {
            // It goes on although it was told not to.
            if let Some(ban) = self.source_failed(source, now) {
                self.ban(by, ban).await?;
            }
            return Err(Error::too_many("too many failed logins from there", wait));
        }
        // A text that is no name is nobody's; it takes as long.
        let name = name
            .parse::<AccountName>()
            .map_or(String::new(), |name| name.to_string());
        let flights = Arc::clone(&self.flights);
        let network = network(source).to_string();
        let read = move |db: &Connection| {
            let account = account::by_name(db, &name)?;
            let known = account
                .as_ref()
                .is_some_and(|account| is_known(db, &account.id, &network));
            let key = if known {
                format!("{name} {network}")
            } else {
                name
            };
            let Some(flight) = flights.begin(&key, &network) else {
                let wait = Duration::from_secs(1);
                return Err(Error::too_many("another login is under way", wait));
            };
            let guesses = find(db, &key)?;
            Ok(Gate {
                account,
                network,
                key,
                guesses,
                source,
                _flight: flight,
            })
        };
        let gate = self.store.read(read).await?;
        match gate.guesses.open_from(now).duration_since(now) {
            Ok(wait) if !wait.is_zero() => Err(Error::too_many(
                "too many failed logins of that account",
                wait,
            )),
            _ => Ok(gate),
        }
    }
}

impl Gate {
    /// Writes a failure down; it may be one too many.
    pub(crate) fn failed(&self, mcias: &Mcias, change: &mut Change<'_>) -> Result<(), Error> {
        store(change.tx, &self.key, self.guesses.failed(change.now))?;
        if let Some(ban) = mcias.source_failed(self.source, change.now) {
            change.note(|detail| detail.flag("banned", true));
            change.ban(ban)?;
        }
        Ok(())
    }

    /// Writes a success down.
    pub(crate) fn succeeded(&self, change: &Change<'_>) -> Result<(), Error> {
        if self.guesses.last.is_some() {
            store(change.tx, &self.key, self.guesses.succeeded())?;
        }
        Ok(())
    }

    /// Remembers that the account is used from here. Whether it is for the first time, and not for the first time at all.
    pub(crate) fn remember(
        &self,
        change: &Change<'_>,
        account: &str,
        device: &str,
    ) -> rusqlite::Result<bool> {
        let (tx, now) = (change.tx, unix(change.now));
        let (devices, this): (i64, i64) = tx.query_row(
            "SELECT count(*), count(*) FILTER (WHERE network = ?2 AND device = ?3) FROM known_device WHERE account = ?1",
            [account, &self.network, device],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        tx.execute(
            "INSERT OR REPLACE INTO known_device VALUES (?1, ?2, ?3, ?4)",
            params![account, self.network, device, now],
        )?;
        tx.execute(
            "DELETE FROM known_device WHERE account = ?1 AND (network, device) IN (SELECT network, device FROM known_device
                WHERE account = ?1 ORDER BY last_s DESC LIMIT -1 OFFSET ?2)",
            params![account, MAX_DEVICES],
        )?;
        Ok(devices > 0 && this == 0)
    }
}

fn is_known(db: &Connection, account: &str, network: &str) -> bool {
    let sql = "SELECT 1 FROM known_device WHERE account = ?1 AND network = ?2 LIMIT 1";
    let found = db
        .prepare_cached(sql)
        .and_then(|mut found| found.exists([account, network]));
    found.unwrap_or(false)
}

fn find(db: &Connection, key: &str) -> rusqlite::Result<Guesses> {
    let sql = "SELECT failures, today, last_s FROM guesses WHERE key = ?1";
    let found = db.prepare_cached(sql)?.query_row([key], |row| {
        Ok(Guesses {
            failures: row.get(0)?,
            today: row.get(1)?,
            last: Some(at(row.get(2)?)),
        })
    });
    Ok(found.optional()?.unwrap_or_default())
}

fn store(tx: &Transaction<'_>, key: &str, guesses: Guesses) -> rusqlite::Result<()> {
    let last = guesses.last.map_or(0, unix);
    tx.execute(
        "INSERT OR REPLACE INTO guesses VALUES (?1, ?2, ?3, ?4)",
        params![key, guesses.failures, guesses.today, last],
    )
    .map(drop)
}
