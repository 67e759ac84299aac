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
use mcdsl::{
    audit::{self, Actor, Detail, Entry},
    cidr, human,
};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use tonic::Code;

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

/// In the log: a network is kept away from now on.
const BEGIN: &str = "ban.begin";
/// In the log: how many of its logins were refused until it was over, which have no rows of their own.
const END: &str = "ban.end";

/// Writes down that one begins.
pub(crate) fn log_begin(tx: &Transaction<'_>, ban: &Ban, now: SystemTime) -> Result<(), Error> {
    let until = human::utc(unix(ban.until).saturating_mul(1000));
    let detail = Detail::new().text("until", &until);
    log(
        tx,
        BEGIN,
        ban.network,
        detail.number("bans", ban.bans.into()),
        now,
    )
}

/// Writes down how many logins were refused while it lasted.
pub(crate) fn log_end(
    tx: &Transaction<'_>,
    network: IpNet,
    refused: u64,
    now: SystemTime,
) -> Result<(), Error> {
    let refused = i64::try_from(refused).unwrap_or(i64::MAX);
    log(
        tx,
        END,
        network,
        Detail::new().number("refused", refused),
        now,
    )
}

fn log(
    tx: &Transaction<'_>,
    action: &str,
    network: IpNet,
    detail: Detail,
    now: SystemTime,
) -> Result<(), Error> {
    let entry = Entry {
        actor: Actor::Anonymous,
        source: None,
        action,
        resource: &network.to_string(),
        outcome: Code::Ok,
        detail,
    };
    Ok(audit::append(tx, &entry, now).map(drop)?)
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
    match source.parse::<IpAddr>() {
        Ok(address) => Ok(network(address)),
        Err(_) => cidr::parse(source).map_err(|why| Error::invalid(format!("source: {why}"))),
    }
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
        by.about(source);
        let network = parse(source)?;
        let refused = self.sources().refused(network);
        let write = move |change: &mut Change<'_>| {
            change.resource = network.to_string();
            let refused = i64::try_from(refused).unwrap_or(i64::MAX);
            change.note(|detail| detail.number("refused", refused));
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
            let mut sources = self.sources();
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mc_testkit::clock::FakeClock;
    use mcdsl::clock::Clock;

    use super::*;
    use crate::core::testing::mcias_by;

    /// However many attempts it refused.
    #[tokio::test]
    async fn a_ban_has_a_row_when_it_begins_and_one_when_it_is_over() {
        let clock = FakeClock::new();
        let (_directory, mcias) = mcias_by(Clock::of(clock.source())).await;
        let by = || By::path("/login", [192, 0, 2, 1].into(), None);
        let rows = async || {
            let read = |db: &Connection| {
                let sql = "SELECT action, resource, detail FROM audit WHERE action LIKE 'ban.%' ORDER BY seq";
                let mut rows = db.prepare(sql)?;
                let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
                let rows: Vec<(String, String, String)> =
                    rows.query_map([], row)?.collect::<Result<_, _>>()?;
                Ok::<_, Error>(rows)
            };
            mcias.store.read(read).await.unwrap()
        };
        for _ in 0..100 {
            let failed = mcias.source_failed(by().source, mcias.now());
            if let Some(ban) = failed {
                mcias.ban(&by(), ban).await.unwrap();
            }
        }
        for n in 0..200 {
            let refused = by();
            assert!(mcias.enter_source(&refused).await.is_err(), "{n}");
            assert!(refused.is_recorded(), "{n}: nobody writes it down");
        }
        mcias.forget().await.unwrap();
        assert_eq!(rows().await.len(), 1, "it goes on");
        clock.advance(Duration::from_secs(3600));
        for _ in 0..2 {
            mcias.forget().await.unwrap();
        }
        let rows = rows().await;
        let at = |n: usize| (rows[n].0.as_str(), rows[n].1.as_str());
        let network = "192.0.2.1/32";
        assert_eq!((at(0), at(1)), ((BEGIN, network), (END, network)));
        assert_eq!(rows[1].2, r#"{"refused":200}"#);
        assert_eq!(rows.len(), 2, "told once");
    }
}
