//! The seal's rows: slots, mounts, attempts, and networks that it was opened from.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use mcdsl::db::StoreError;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{
    Mount, SealError,
    attempts::{Attempts, Origin},
    key::{Key, KeyError},
    slot::{Kind, Slot},
};

/// Networks that are remembered for having opened the seal.
const MAX_NETWORKS: i64 = 16;
/// Values of a removed mount that are deleted at once: others write in between.
const AT_ONCE: i64 = 256;

pub(super) fn generation(db: &Connection) -> Result<i64, SealError> {
    let found = db.query_row("SELECT generation FROM seal", [], |row| row.get(0));
    found.optional()?.ok_or(SealError::NotInitialised)
}

/// That no other process has made another master key.
pub(super) fn is_still(tx: &Transaction<'_>, expected: i64) -> Result<(), SealError> {
    (generation(tx)? == expected)
        .then_some(())
        .ok_or(SealError::Changed)
}

pub(super) fn slots(db: &Connection) -> Result<Vec<Slot>, SealError> {
    let mut statement = db.prepare("SELECT kind, parameters, master_key FROM key_slot")?;
    let rows = statement.query_map([], |row| <(String, String, Vec<u8>)>::try_from(row))?;
    rows.map(|row| {
        let (name, parameters, sealed) = row?;
        let kind: Kind =
            serde_json::from_str(&parameters).map_err(|_| SealError::Form(name.clone()))?;
        // One of each: what is a row's name is what it says.
        (kind.name() == name)
            .then_some(Slot { kind, sealed })
            .ok_or(SealError::Form(name))
    })
    .collect()
}

/// That a statement wrote its one row: a table that somebody else has changed may let it write none.
pub(super) fn one(written: usize) -> Result<(), SealError> {
    match written {
        1 => Ok(()),
        other => Err(rusqlite::Error::StatementChangedRows(other).into()),
    }
}

pub(super) fn put(tx: &Transaction<'_>, slot: &Slot) -> Result<(), SealError> {
    let parameters =
        serde_json::to_string(&slot.kind).map_err(|_| SealError::Form(slot.kind.name().into()))?;
    one(tx.execute(
        "INSERT OR REPLACE INTO key_slot VALUES (?1, ?2, ?3)",
        params![slot.kind.name(), parameters, slot.sealed],
    )?)
}

/// As what a mount's data key is sealed: whoever exchanges names, kinds or keys in the file is found out.
fn place(id: &str, engine: &str, name: &str) -> String {
    format!("mount/{engine}/{id}/{name}")
}

pub(super) fn mounts(
    db: &Connection,
    master: &Key,
) -> Result<BTreeMap<String, Arc<Mount>>, SealError> {
    let sql = "SELECT number, id, name, engine, made_s, data_key FROM mount WHERE name IS NOT NULL";
    let mut statement = db.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        <(i64, String, String, String, i64, Vec<u8>)>::try_from(row)
    })?;
    rows.map(|row| {
        let (number, id, name, engine, made_s, sealed) = row?;
        let what = place(&id, &engine, &name);
        let key = Key::of(&master.open(&what, &sealed)?).ok_or(KeyError::Opened(what))?;
        let mount = Mount {
            number,
            id,
            name: name.clone(),
            engine,
            made_s,
            key,
            memory: OnceLock::new(),
        };
        Ok((name, Arc::new(mount)))
    })
    .collect()
}

/// Seals all data keys by another master key.
pub(super) fn seal_anew(tx: &Transaction<'_>, old: &Key, new: &Key) -> Result<(), SealError> {
    for mount in mounts(tx, old)?.values() {
        let what = place(&mount.id, &mount.engine, &mount.name);
        let sealed = new.seal(&what, mount.key.bytes())?;
        one(tx.execute(
            "UPDATE mount SET data_key = ?2 WHERE number = ?1",
            params![mount.number, sealed],
        )?)?;
    }
    Ok(())
}

pub(super) fn new_mount(
    tx: &Transaction<'_>,
    master: &Key,
    name: &str,
    engine: &str,
    now_s: i64,
) -> Result<Mount, SealError> {
    let (id, key) = (hex_id()?, Key::random()?);
    let sealed = master.seal(&place(&id, engine, name), key.bytes())?;
    let made = tx.execute(
        "INSERT INTO mount (id, name, engine, made_s, data_key) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (name) DO NOTHING",
        params![id, name, engine, now_s, sealed],
    )?;
    if made == 0 {
        return Err(SealError::MountExists(name.to_owned()));
    }
    Ok(Mount {
        number: tx.last_insert_rowid(),
        id,
        name: name.to_owned(),
        engine: engine.to_owned(),
        made_s: now_s,
        key,
        memory: OnceLock::new(),
    })
}

/// Whether it was not removed.
pub(super) fn is_there(db: &Connection, mount: &Mount) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM mount WHERE number = ?1 AND id = ?2 AND name = ?3)";
    let mut statement = db.prepare_cached(sql)?;
    let found = params![mount.number, mount.id, mount.name];
    Ok(statement.query_row(found, |row| row.get(0))?)
}

/// Removes a mount with its data key; what it has is for [`sweep`].
pub(super) fn drop_mount(tx: &Transaction<'_>, mount: &Mount) -> Result<(), SealError> {
    let sql = "UPDATE mount SET name = NULL, data_key = x'' WHERE number = ?1";
    tx.execute(sql, [mount.number])?;
    Ok(())
}

/// Deletes some of what removed mounts had; whether there may be more.
pub(super) fn sweep(tx: &Transaction<'_>) -> Result<bool, SealError> {
    let sql = "SELECT number FROM mount WHERE name IS NULL LIMIT 1";
    let removed: Option<i64> = tx.query_row(sql, [], |row| row.get(0)).optional()?;
    let Some(mount) = removed else {
        return Ok(false);
    };
    let sql =
        "DELETE FROM item WHERE number IN (SELECT number FROM item WHERE mount = ?1 LIMIT ?2)";
    if tx.execute(sql, [mount, AT_ONCE])? == 0 {
        tx.execute("DELETE FROM mount WHERE number = ?1", [mount])?;
    }
    Ok(true)
}

fn hex_id() -> Result<String, KeyError> {
    let mut id = [0; 16];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| KeyError::Random)?;
    Ok(mcdsl::human::hex(&id))
}

pub(super) fn attempts(db: &Connection, origin: Origin) -> Result<Attempts, SealError> {
    let found = db.query_row(
        "SELECT failed, last_ms FROM attempt WHERE origin = ?1",
        [origin.name()],
        |row| {
            Ok(Attempts {
                failed: row.get(0)?,
                last_ms: row.get(1)?,
            })
        },
    );
    Ok(found.optional()?.unwrap_or_default())
}

pub(super) fn note(
    tx: &Transaction<'_>,
    origin: Origin,
    attempts: Attempts,
) -> Result<(), SealError> {
    tx.execute(
        "INSERT OR REPLACE INTO attempt VALUES (?1, ?2, ?3)",
        params![origin.name(), attempts.failed, attempts.last_ms],
    )?;
    Ok(())
}

/// Whether the seal was opened from this network.
pub(super) fn is_known(db: &Connection, network: &str) -> Result<bool, SealError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM known_network WHERE network = ?1)";
    Ok(db.query_row(sql, [network], |row| row.get(0))?)
}

pub(super) fn remember(tx: &Transaction<'_>, network: &str, now_s: i64) -> Result<(), SealError> {
    tx.execute(
        "INSERT OR REPLACE INTO known_network VALUES (?1, ?2)",
        params![network, now_s],
    )?;
    tx.execute(
        "DELETE FROM known_network WHERE network NOT IN (SELECT network FROM known_network ORDER BY opened_s DESC LIMIT ?1)",
        [MAX_NETWORKS],
    )?;
    Ok(())
}
