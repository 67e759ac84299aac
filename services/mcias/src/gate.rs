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

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::{
    account::{self, Account},
    by::By,
    core::{Change, Mcias},
    device::is_known,
    error::Error,
    guesses::Guesses,
    login::NOBODY,
    name::AccountName,
    password::Origin,
    random::{self, hex},
    sources::network,
    time::{at, unix},
};

/// Attempts of one network at once: a part of those that may wait for a core.
const PER_NETWORK: usize = 6;

/// Failed logins of an account, one after the other, that are called too many.
const MANY: u32 = 4;

/// Places of an account that are told, the latest: it is used from fewer.
const MOST_PLACES: usize = 100;

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
    /// Whether the account is used from there.
    pub(crate) origin: Origin,
    key: String,
    guesses: Guesses,
    source: IpAddr,
    _flight: Flight,
}

struct Flight {
    all: Arc<Flights>,
    /// What is guessed at, once that is known.
    key: Option<String>,
    network: String,
}

impl Flights {
    /// A place of a network's: before anything is read, so that who has none costs nothing.
    fn begin(self: &Arc<Self>, network: &str) -> Result<Flight, Error> {
        let wait = Duration::from_secs(1);
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_network = under_way.networks.get(network).copied().unwrap_or(0);
        if of_network >= PER_NETWORK {
            let text = "too many logins from there are under way; try again in a second";
            return Err(Error::too_many(text, wait));
        }
        *under_way.networks.entry(network.to_owned()).or_default() += 1;
        Ok(Flight {
            all: Arc::clone(self),
            key: None,
            network: network.to_owned(),
        })
    }
}

impl Flight {
    /// The one attempt at it.
    fn at(&mut self, key: &str) -> Result<(), Error> {
        let mut under_way = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !under_way.keys.insert(key.to_owned()) {
            let text = "another login of that account is under way; try again in a second";
            return Err(Error::too_many(text, Duration::from_secs(1)));
        }
        self.key = Some(key.to_owned());
        Ok(())
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut under_way = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = &self.key {
            under_way.keys.remove(key);
        }
        if let Some(count) = under_way.networks.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                under_way.networks.remove(&self.network);
            }
        }
    }
}

impl Mcias {
    /// Lets an attempt of a source in, or says when the next one is.
    ///
    /// # Errors
    /// If it comes too early.
    pub(crate) async fn enter_source(self: &Arc<Self>, by: &By) -> Result<IpAddr, Error> {
        let (source, now) = (by.source.to_canonical(), self.now());
        let open_from = self.sources().open_from(source, now);
        match open_from.duration_since(now) {
            Ok(wait) if !wait.is_zero() => {
                // Of a ban there are two rows, whatever comes in between: that it began, and how many came.
                if by.identity.is_none() && self.sources().refuse(source, now) {
                    by.recorded();
                }
                // It goes on although it was told not to.
                if let Some(ban) = self.source_failed(source, now) {
                    self.ban(by, ban).await?;
                }
                Err(Error::too_many("too many failed logins from there", wait))
            }
            _ => Ok(source),
        }
    }

    /// Lets an attempt at an account in, or says when the next one is.
    ///
    /// # Errors
    /// If it comes too early.
    pub(crate) async fn enter(self: &Arc<Self>, by: &By, name: &str) -> Result<Gate, Error> {
        let now = self.now();
        let source = self.enter_source(by).await?;
        // What was typed for a name may be a password: of nobody's it is not kept as it is.
        let nobody = format!("?{}", hex(&random::hash(&["name", name])));
        // A text that is no name is nobody's; it takes as long, and is counted alike.
        let name = name.parse::<AccountName>().ok();
        let network = network(source).to_string();
        let mut flight = self.flights.begin(&network)?;
        let who = by.clone();
        let read = move |db: &Connection| {
            let account = match name {
                Some(name) => account::by_name(db, name.as_str())?,
                None => None,
            };
            // For the log, whatever comes of it; of nobody's it is said as well.
            who.about(account.as_ref().map_or(NOBODY, |account| &account.name));
            let (key, origin) = match &account {
                None => (nobody, Origin::Stranger),
                Some(account) if is_known(db, &account.id, &network)? => {
                    (format!("{} {network}", account.name), Origin::Known)
                }
                Some(account) => (account.name.clone(), Origin::Stranger),
            };
            flight.at(&key)?;
            let guesses = find(db, &key)?;
            Ok::<_, Error>(Gate {
                account,
                network,
                origin,
                key,
                guesses,
                source,
                _flight: flight,
            })
        };
        let gate = self.store.read(read).await?;
        match gate.guesses.open_from(now).duration_since(now) {
            Ok(wait) if !wait.is_zero() => {
                let text = match gate.guesses.failures {
                    ..MANY => "the last login of that account failed",
                    _ => "too many failed logins of that account",
                };
                Err(Error::too_many(text, wait))
            }
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

    /// Whether failures are to be forgotten by a success.
    pub(crate) fn had_failures(&self) -> bool {
        self.guesses.failures > 0
    }

    /// Writes a success down.
    pub(crate) fn succeeded(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        if self.had_failures() {
            store(tx, &self.key, self.guesses.succeeded())?;
        }
        Ok(())
    }
}

/// The failed logins of an account from one place.
pub(crate) struct Failures {
    /// A network that the account is used from; `None`: all others together.
    pub(crate) network: Option<String>,
    pub(crate) failures: u32,
    pub(crate) last: SystemTime,
    /// No password is looked at from there before; `None`: it is.
    pub(crate) closed_until: Option<SystemTime>,
}

/// What of `guesses` is an account's (`?1`): its own row, and those that have a network behind it.
const OF_ACCOUNT: &str = "(key = ?1 OR (key >= ?1 || ' ' AND key < ?1 || '!'))";

/// Forgets the failures of an account: an administrator lets its owner in again.
pub(crate) fn open(tx: &Transaction<'_>, name: &str) -> rusqlite::Result<()> {
    let sql = format!("DELETE FROM guesses WHERE {OF_ACCOUNT}");
    tx.execute(&sql, [name]).map(drop)
}

/// The failures of an account that are not forgotten, the last first.
pub(crate) fn failures(
    db: &Connection,
    name: &str,
    now: SystemTime,
) -> rusqlite::Result<Vec<Failures>> {
    let sql = format!(
        "SELECT failures, today, last_s, key FROM guesses WHERE {OF_ACCOUNT} ORDER BY last_s DESC LIMIT {MOST_PLACES}"
    );
    let mut found = db.prepare_cached(&sql)?;
    let row = |row: &Row<'_>| Ok((guesses(row)?, row.get::<_, String>(3)?));
    let mut all = Vec::new();
    for found in found.query_map([name], row)? {
        let (guesses, key) = found?;
        let Some(last) = guesses.last.filter(|_| guesses.are_known(now)) else {
            continue;
        };
        all.push(Failures {
            network: key.split_once(' ').map(|(_, network)| network.to_owned()),
            failures: guesses.failures,
            last,
            closed_until: Some(guesses.open_from(now)).filter(|open| *open > now),
        });
    }
    Ok(all)
}

fn guesses(row: &Row<'_>) -> rusqlite::Result<Guesses> {
    Ok(Guesses {
        failures: row.get(0)?,
        today: row.get(1)?,
        last: Some(at(row.get(2)?)),
    })
}

fn find(db: &Connection, key: &str) -> rusqlite::Result<Guesses> {
    let sql = "SELECT failures, today, last_s FROM guesses WHERE key = ?1";
    let found = db.prepare_cached(sql)?.query_row([key], guesses);
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

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::core::testing::{Busy, mcias};

    fn by(last: u8) -> By {
        By::path("/login", [192, 0, 2, last].into(), None)
    }

    #[tokio::test]
    async fn a_network_waits_for_itself_and_reads_nothing_then() {
        let (_directory, mcias) = mcias().await;
        let mut under_way = Vec::new();
        for n in 0..PER_NETWORK {
            let name = format!("nobody{n}");
            under_way.push(
                mcias
                    .enter(&by(1), &name)
                    .await
                    .unwrap_or_else(|e| panic!("{e}")),
            );
        }
        let code = |entered: Result<Gate, Error>| entered.err().map(|error| error.code());
        let same = mcias.enter(&by(2), "nobody0").await;
        assert_eq!(code(same), Some(Code::ResourceExhausted), "the same name");
        assert_eq!(code(mcias.enter(&by(2), "other").await), None);
        let busy = Busy::reading(&mcias.store).await;
        let one_more = mcias.enter(&by(1), "other").await;
        assert_eq!(code(one_more), Some(Code::ResourceExhausted));
        let elsewhere = mcias.enter(&by(2), "other").await;
        assert_eq!(code(elsewhere), Some(Code::Unavailable));
        busy.let_go().await;
        under_way.pop();
        assert_eq!(code(mcias.enter(&by(1), "other").await), None, "a place");
    }
}
