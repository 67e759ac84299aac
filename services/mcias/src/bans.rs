//! Networks that are kept away: told to whoever can, until their time or until an administrator lets them in again.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use ipnet::IpNet;
use mc_proto::mcias::v1::{
    Ban as Message, BanEvent, BanLifted, ListBansRequest, ListBansResponse, ban_event::Event,
};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::{
    by::By,
    core::{Change, Mcias},
    error::Error,
    hub::{Hub, Messages},
    sources::{Ban, Sources, network},
    time::{at, unix},
};

/// Bans in force, and who is told of them.
pub(crate) type Watched = Hub<State, Told>;
/// What is in force: until when, by network.
pub(crate) type State = HashMap<IpNet, Ban>;

/// What watchers are told.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// A network is kept away.
    Ban(Ban),
    /// It is not any more.
    Lifted(IpNet),
}

/// A ban that this service keeps to already and that is not committed: unless it will be, it is taken back, and the next failure leads to it
/// again. Or nobody else would hear of it before it is over.
pub(crate) struct Pending {
    ban: Ban,
    sources: Option<Arc<Mutex<Sources>>>,
}

impl Pending {
    /// Of these sources.
    pub(crate) fn new(ban: Ban, sources: &Arc<Mutex<Sources>>) -> Self {
        Self {
            ban,
            sources: Some(Arc::clone(sources)),
        }
    }

    /// Which.
    pub(crate) fn ban(&self) -> Ban {
        self.ban
    }

    /// It stays.
    pub(crate) fn committed(mut self) {
        self.sources = None;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(sources) = &self.sources {
            let mut sources = sources.lock().unwrap_or_else(PoisonError::into_inner);
            sources.take_back(self.ban);
        }
    }
}

/// Enters a change.
pub(crate) fn enter(state: &mut State, told: &Told) {
    match told {
        Told::Ban(ban) => state.insert(ban.network, *ban),
        Told::Lifted(network) => state.remove(network),
    };
}

/// Forgets those that are over.
pub(crate) fn forget(state: &mut State, now: SystemTime) {
    state.retain(|_, ban| ban.until > now);
}

/// Writes one down.
pub(crate) fn store(tx: &Transaction<'_>, ban: &Ban) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT OR REPLACE INTO ban VALUES (?1, ?2, ?3, ?4)",
        params![
            ban.network.to_string(),
            unix(ban.until),
            ban.bans,
            reason(ban.bans)
        ],
    )
    .map(drop)
}

const SELECT: &str = "SELECT network, until_s, bans FROM ban";

/// `None`: the network is none; it is nobody's.
fn ban(row: &Row<'_>) -> rusqlite::Result<Option<Ban>> {
    let network = row.get_ref(0)?.as_str()?.parse().ok();
    let (until, bans) = (at(row.get(1)?), row.get(2)?);
    Ok(network.map(|network| Ban {
        network,
        until,
        bans,
    }))
}

/// Those that are remembered, over or not: the next one is longer.
pub(crate) fn load(db: &Connection) -> rusqlite::Result<Vec<Ban>> {
    let mut all = db.prepare(SELECT)?;
    let bans = all.query_map([], ban)?;
    bans.filter_map(Result::transpose).collect()
}

/// That of a network, over or not.
fn find(db: &Connection, network: IpNet) -> rusqlite::Result<Option<Ban>> {
    let sql = format!("{SELECT} WHERE network = ?1");
    let mut found = db.prepare_cached(&sql)?;
    let found = found.query_row([network.to_string()], ban).optional()?;
    Ok(found.flatten())
}

/// A page of those in force.
pub(crate) fn list(
    db: &Connection,
    asked: &ListBansRequest,
    limit: usize,
    now: SystemTime,
) -> rusqlite::Result<ListBansResponse> {
    let sql = format!("{SELECT} WHERE until_s > ?1 AND network > ?2 ORDER BY network LIMIT ?3 + 1");
    let mut page = db.prepare_cached(&sql)?;
    let limit_sql = i64::try_from(limit).unwrap_or(i64::MAX - 1);
    let page = page.query_map(params![unix(now), asked.after, limit_sql], ban)?;
    let page: Result<Vec<_>, _> = page.filter_map(Result::transpose).collect();
    let mut bans: Vec<Message> = page?.iter().map(message).collect();
    let more = bans.len() > limit;
    bans.truncate(limit);
    let next = bans.last().filter(|_| more).map(|ban| ban.source.clone());
    Ok(ListBansResponse {
        bans,
        next: next.unwrap_or_default(),
    })
}

/// The network that somebody means: as it is listed, or an address in it.
fn parse(source: &str) -> Result<IpNet, Error> {
    let address = source.parse::<IpAddr>().map(network).ok();
    let network = address.or_else(|| source.parse::<IpNet>().ok());
    network.ok_or_else(|| {
        Error::invalid("source: it is no address or network, like 192.0.2.1 or 2001:db8::/64")
    })
}

impl Change<'_> {
    /// Lets a network in again; it begins anew.
    fn lift(&mut self, network: IpNet) -> Result<(), Error> {
        let ban = find(self.tx, network)?.filter(|ban| ban.until > self.now);
        let ban = ban.ok_or_else(|| Error::not_found("ban of", &network.to_string()))?;
        let sql = "DELETE FROM ban WHERE network = ?1";
        self.tx.execute(sql, [network.to_string()])?;
        self.note(|detail| detail.number("bans", i64::from(ban.bans)));
        self.lifted(network);
        Ok(())
    }
}

impl Mcias {
    /// Lets the network in again that somebody means.
    ///
    /// # Errors
    /// If it is none, or not banned.
    pub(crate) async fn lift_ban(self: &Arc<Self>, by: &By, source: &str) -> Result<IpNet, Error> {
        let network = parse(source)?;
        let write = move |change: &mut Change<'_>| {
            change.resource = network.to_string();
            change.lift(network)
        };
        self.write(by, write).await?;
        Ok(network)
    }

    /// Puts in force what is committed, and tells of it.
    pub(crate) fn tell_of_bans(&self, told: Vec<Told>) {
        if told.is_empty() {
            return;
        }
        {
            let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
            for told in &told {
                if let Told::Lifted(network) = told {
                    sources.forgive(*network);
                }
            }
        }
        self.bans.publish(told, enter);
    }
}

fn reason(bans: u32) -> String {
    format!("failed logins (ban {bans} of this network)")
}

fn message(ban: &Ban) -> Message {
    Message {
        source: ban.network.to_string(),
        until: Some(ban.until.into()),
        reason: reason(ban.bans),
        bans: ban.bans,
    }
}

/// How they are told.
pub(crate) fn messages() -> Messages<Told, BanEvent> {
    Messages {
        of: |told| BanEvent {
            event: Some(match told {
                Told::Ban(ban) => Event::Ban(message(&ban)),
                Told::Lifted(network) => Event::Lifted(BanLifted {
                    source: network.to_string(),
                }),
            }),
        },
        synced: || BanEvent {
            event: Some(Event::Synced(true)),
        },
        heartbeat: || BanEvent {
            event: Some(Event::Heartbeat(true)),
        },
    }
}
