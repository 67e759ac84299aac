//! Networks that are kept away: told to whoever can.

use std::{collections::HashMap, time::SystemTime};

use ipnet::IpNet;
use mc_proto::mcias::v1::{Ban as Message, BanEvent, ban_event::Event};
use rusqlite::{Connection, Transaction, params};

use crate::{
    hub::{Hub, Messages},
    sources::Ban,
    time::{at, unix},
};

/// Bans in force, and who is told of them.
pub(crate) type Watched = Hub<State, Ban>;
/// What is in force: until when, by network.
pub(crate) type State = HashMap<IpNet, Ban>;

/// Enters one.
pub(crate) fn enter(state: &mut State, ban: &Ban) {
    state.insert(ban.network, *ban);
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
            reason(ban)
        ],
    )
    .map(drop)
}

/// Those that are remembered, over or not: the next one is longer.
pub(crate) fn load(db: &Connection) -> rusqlite::Result<Vec<Ban>> {
    let mut all = db.prepare("SELECT network, until_s, bans FROM ban")?;
    let bans = all.query_map([], |row| {
        let network = row.get_ref(0)?.as_str()?.parse().ok();
        let (until, bans) = (at(row.get(1)?), row.get(2)?);
        Ok(network.map(|network| Ban {
            network,
            until,
            bans,
        }))
    })?;
    bans.filter_map(Result::transpose).collect()
}

fn reason(ban: &Ban) -> String {
    format!("failed logins (ban {} of this network)", ban.bans)
}

/// How they are told.
pub(crate) fn messages() -> Messages<Ban, BanEvent> {
    Messages {
        of: |ban| BanEvent {
            event: Some(Event::Ban(Message {
                source: ban.network.to_string(),
                until: Some(ban.until.into()),
                reason: reason(&ban),
            })),
        },
        synced: None,
        heartbeat: || BanEvent {
            event: Some(Event::Heartbeat(true)),
        },
    }
}
