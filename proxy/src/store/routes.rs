//! Listeners and routes.

use std::{collections::HashMap, net::SocketAddr};

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction};

use super::{
    Actor, Done, MAX_LISTENERS, MAX_ROUTES, Store, StoreError, Undo,
    describe::{self, route_name as name},
    rows::{self, corrupt, parse},
};
use crate::spec::{Listener, Route, RouteId};

impl Store {
    /// Adds a route; with `replace`, one of the same key is updated and keeps its id.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`], [`StoreError::Full`].
    pub fn add_route(
        &mut self,
        by: &Actor,
        route: &Route,
        replace: bool,
    ) -> Result<Done<Route>, StoreError> {
        let before = match replace {
            true => route_by_key(&self.db, &route.key)?,
            false => None,
        };
        let detail = describe::route_in_place_of(route, before.as_ref());
        self.mutate(by, "route add", detail, |tx| {
            let before = route_by_key(tx, &route.key)?;
            let value = add_route(tx, route, replace)?;
            Ok(Done {
                value,
                undo: Undo::Route(route.key.clone(), before),
            })
        })
    }

    /// Removes a route.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn remove_route(&mut self, by: &Actor, key: &RouteId) -> Result<Done<Route>, StoreError> {
        self.mutate(by, "route remove", name(key), |tx| {
            let value = existing_route(tx, key)?;
            restore_route(tx, key, None)?;
            Ok(Done {
                undo: Undo::Route(key.clone(), Some(value.clone())),
                value,
            })
        })
    }

    /// Enables or disables a route.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn set_route_enabled(
        &mut self,
        by: &Actor,
        key: &RouteId,
        enabled: bool,
    ) -> Result<Done<Route>, StoreError> {
        let action = if enabled {
            "route enable"
        } else {
            "route disable"
        };
        self.mutate(by, action, name(key), |tx| {
            let before = existing_route(tx, key)?;
            let value = Route {
                enabled,
                ..before.clone()
            };
            put_route(tx, &value)?;
            Ok(Done {
                value,
                undo: Undo::Route(key.clone(), Some(before)),
            })
        })
    }

    /// Adds a listener.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`], [`StoreError::Full`].
    pub fn add_listener(
        &mut self,
        by: &Actor,
        listener: &Listener,
    ) -> Result<Done<Listener>, StoreError> {
        self.mutate(by, "listener add", describe::listener(listener), |tx| {
            Ok(Done {
                value: add_listener(tx, listener)?,
                undo: Undo::Listener(listener.address, None),
            })
        })
    }

    /// Removes a listener.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn remove_listener(
        &mut self,
        by: &Actor,
        address: SocketAddr,
    ) -> Result<Done<Listener>, StoreError> {
        self.mutate(by, "listener remove", address.to_string(), |tx| {
            let value = listeners(tx)?
                .into_iter()
                .find(|l| l.address == address)
                .ok_or_else(|| StoreError::NotFound(format!("listener {address}")))?;
            restore_listener(tx, address, None)?;
            Ok(Done {
                undo: Undo::Listener(address, Some(value.clone())),
                value,
            })
        })
    }
}

fn room(
    tx: &Transaction<'_>,
    sql: &str,
    what: &'static str,
    bound: usize,
) -> Result<(), StoreError> {
    let count: i64 = tx.prepare_cached(sql)?.query_row([], |r| r.get(0))?;
    match usize::try_from(count) {
        Ok(count) if count < bound => Ok(()),
        _ => Err(StoreError::Full(what, bound)),
    }
}

pub(super) fn listeners(tx: &Transaction<'_>) -> Result<Vec<Listener>, StoreError> {
    let mut proxies = lists(
        tx,
        "SELECT listener, cidr FROM listener_proxies ORDER BY listener, position",
    )?;
    let mut query =
        tx.prepare_cached("SELECT id, address, guarded, redirect FROM listeners ORDER BY id")?;
    let mut found = query.query([])?;
    let mut out = Vec::new();
    while let Some(r) = found.next()? {
        let id: i64 = r.get(0)?;
        let cidrs = proxies.remove(&id).unwrap_or_default();
        out.push(Listener {
            id: id.unsigned_abs(),
            address: parse("a listener's address", &r.get::<_, String>(1)?)?,
            guarded: r.get(2)?,
            redirect: r.get(3)?,
            trusted_proxies: cidrs
                .iter()
                .map(|c| parse("a trusted proxy", c))
                .collect::<Result<_, _>>()?,
        });
    }
    Ok(out)
}

/// Rows of (owner, text), grouped by owner in order.
fn lists(tx: &Transaction<'_>, sql: &str) -> Result<HashMap<i64, Vec<String>>, StoreError> {
    let mut query = tx.prepare_cached(sql)?;
    let mut found = query.query([])?;
    let mut out: HashMap<i64, Vec<String>> = HashMap::new();
    while let Some(r) = found.next()? {
        out.entry(r.get(0)?).or_default().push(r.get(1)?);
    }
    Ok(out)
}

pub(super) fn add_listener(
    tx: &Transaction<'_>,
    listener: &Listener,
) -> Result<Listener, StoreError> {
    let address = listener.address;
    let exists: bool = tx
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM listeners WHERE address = ?1)")?
        .query_row([address.to_string()], |r| r.get(0))?;
    if exists {
        return Err(StoreError::AlreadyExists(format!("listener {address}")));
    }
    room(
        tx,
        "SELECT count(*) FROM listeners",
        "listener",
        MAX_LISTENERS,
    )?;
    let id = put_listener(tx, None, listener)?;
    Ok(Listener {
        id: id.unsigned_abs(),
        ..listener.clone()
    })
}

fn put_listener(tx: &Transaction<'_>, id: Option<i64>, l: &Listener) -> Result<i64, StoreError> {
    tx.prepare_cached(
        "INSERT INTO listeners (id, address, guarded, redirect) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute((id, l.address.to_string(), l.guarded, l.redirect))?;
    let id = tx.last_insert_rowid();
    let mut insert = tx.prepare_cached(
        "INSERT INTO listener_proxies (listener, position, cidr) VALUES (?1, ?2, ?3)",
    )?;
    for (cidr, position) in l.trusted_proxies.iter().zip(0_i64..) {
        insert.execute((id, position, cidr.to_string()))?;
    }
    Ok(id)
}

pub(super) fn restore_listener(
    tx: &Transaction<'_>,
    address: SocketAddr,
    before: Option<&Listener>,
) -> Result<(), StoreError> {
    tx.execute(
        "DELETE FROM listeners WHERE address = ?1",
        [address.to_string()],
    )?;
    if let Some(listener) = before {
        put_listener(tx, Some(row_id(listener.id)?), listener)?;
    }
    Ok(())
}

fn row_id(id: u64) -> Result<i64, StoreError> {
    i64::try_from(id).map_err(|_| corrupt("a row id", &id.to_string()))
}

const ROUTE_COLUMNS: &str =
    "SELECT id, port, hostname, engine, enabled, send_proxy, connect_timeout_ms,
    idle_timeout_ms, max_age_ms, max_connections, l7 FROM routes";

fn route(r: &Row<'_>, backends: &[String]) -> Result<Route, StoreError> {
    let timeout = |column| -> rusqlite::Result<_> {
        Ok(r.get::<_, Option<i64>>(column)?.map(rows::duration))
    };
    let engine: Option<String> = r.get(3)?;
    let l7: Option<String> = r.get(10)?;
    Ok(Route {
        id: r.get::<_, i64>(0)?.unsigned_abs(),
        key: RouteId {
            port: r.get(1)?,
            hostname: parse("a route's hostname", &r.get::<_, String>(2)?)?,
        },
        backends: backends
            .iter()
            .map(|b| parse("a backend's address", b))
            .collect::<Result<_, _>>()?,
        engine: engine.as_deref().map(rows::engine).transpose()?,
        enabled: r.get(4)?,
        send_proxy: r.get(5)?,
        connect_timeout: timeout(6)?,
        idle_timeout: timeout(7)?,
        max_age: timeout(8)?,
        max_connections: r.get(9)?,
        l7: l7
            .map(|l7| serde_json::from_str(&l7).map_err(|_| corrupt("a route's L7 settings", &l7)))
            .transpose()?,
    })
}

pub(super) fn routes(tx: &Transaction<'_>) -> Result<Vec<Route>, StoreError> {
    let mut backends = lists(
        tx,
        "SELECT route, address FROM route_backends ORDER BY route, position",
    )?;
    let mut query = tx.prepare_cached(&format!("{ROUTE_COLUMNS} ORDER BY id"))?;
    let mut found = query.query([])?;
    let mut out = Vec::new();
    while let Some(r) = found.next()? {
        let mine = backends.remove(&r.get(0)?).unwrap_or_default();
        out.push(route(r, &mine)?);
    }
    Ok(out)
}

fn route_by_key(tx: &Connection, key: &RouteId) -> Result<Option<Route>, StoreError> {
    let mut backends = tx.prepare_cached(
        "SELECT address FROM route_backends JOIN routes ON routes.id = route
         WHERE port = ?1 AND hostname = ?2 ORDER BY position",
    )?;
    let params = (key.port, key.hostname.as_str());
    let backends: Vec<String> = backends
        .query_map(params, |r| r.get(0))?
        .collect::<Result<_, _>>()?;
    tx.prepare_cached(&format!(
        "{ROUTE_COLUMNS} WHERE port = ?1 AND hostname = ?2"
    ))?
    .query_row(params, |r| Ok(route(r, &backends)))
    .optional()?
    .transpose()
}

fn existing_route(tx: &Transaction<'_>, key: &RouteId) -> Result<Route, StoreError> {
    route_by_key(tx, key)?.ok_or_else(|| StoreError::NotFound(format!("route {}", name(key))))
}

pub(super) fn add_route(
    tx: &Transaction<'_>,
    route: &Route,
    replace: bool,
) -> Result<Route, StoreError> {
    let id: Option<i64> = tx
        .prepare_cached("SELECT id FROM routes WHERE port = ?1 AND hostname = ?2")?
        .query_row((route.key.port, route.key.hostname.as_str()), |r| r.get(0))
        .optional()?;
    let id = match id {
        Some(_) if !replace => {
            let what = format!("route {}", name(&route.key));
            return Err(StoreError::AlreadyExists(what));
        }
        Some(id) => id.unsigned_abs(),
        None => {
            room(tx, "SELECT count(*) FROM routes", "route", MAX_ROUTES)?;
            0
        }
    };
    put_route(
        tx,
        &Route {
            id,
            ..route.clone()
        },
    )
}

/// Writes a route; id 0 takes a new one.
fn put_route(tx: &Transaction<'_>, route: &Route) -> Result<Route, StoreError> {
    let wanted = match route.id {
        0 => None,
        id => Some(row_id(id)?),
    };
    let millis = |d: Option<std::time::Duration>| d.map(rows::millis);
    let l7 = route.l7.as_ref().map(rows::json).transpose()?;
    let id: i64 = tx
        .prepare_cached(
            "INSERT INTO routes (id, port, hostname, engine, enabled, send_proxy, connect_timeout_ms,
                 idle_timeout_ms, max_age_ms, max_connections, l7)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
             ON CONFLICT (id) DO UPDATE SET engine = excluded.engine, enabled = excluded.enabled,
                 send_proxy = excluded.send_proxy, connect_timeout_ms = excluded.connect_timeout_ms,
                 idle_timeout_ms = excluded.idle_timeout_ms, max_age_ms = excluded.max_age_ms,
                 max_connections = excluded.max_connections, l7 = excluded.l7
             RETURNING id",
        )?
        .query_row(
            (
                wanted,
                route.key.port,
                route.key.hostname.as_str(),
                route.engine.map(rows::engine_text),
                route.enabled,
                route.send_proxy,
                millis(route.connect_timeout),
                millis(route.idle_timeout),
                millis(route.max_age),
                route.max_connections,
                l7,
            ),
            |r| r.get(0),
        )?;
    tx.prepare_cached("DELETE FROM route_backends WHERE route = ?1")?
        .execute([id])?;
    let mut insert = tx.prepare_cached(
        "INSERT INTO route_backends (route, position, address) VALUES (?1, ?2, ?3)",
    )?;
    for (address, position) in route.backends.iter().zip(0_i64..) {
        insert.execute((id, position, address.to_string()))?;
    }
    Ok(Route {
        id: id.unsigned_abs(),
        ..route.clone()
    })
}

pub(super) fn restore_route(
    tx: &Transaction<'_>,
    key: &RouteId,
    before: Option<&Route>,
) -> Result<(), StoreError> {
    tx.execute(
        "DELETE FROM routes WHERE port = ?1 AND hostname = ?2",
        (key.port, key.hostname.as_str()),
    )?;
    before.map_or(Ok(()), |route| put_route(tx, route).map(drop))
}
