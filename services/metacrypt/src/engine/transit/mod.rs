//! Transit: encryption and signatures for others, with keys that stay here.

mod algorithm;
mod api;
#[cfg(test)]
mod bounds;
mod hpke;
mod key;
mod keys;
mod list;
mod message;
mod ring;
mod rings;
#[cfg(test)]
mod tests;
mod uses;
#[cfg(test)]
mod vectors;
mod written;

use std::sync::Arc;

use axum::Router;
use mc_proto::metacrypt::v1::transit_server::TransitServer;
use mcdsl::server::Caller;

use super::{Act, EngineError, Kind};
use crate::{api::Api, barrier::Items, entered::Entered};

/// What may be done.
pub(crate) mod action {
    actions! {
        ALL:
        CREATE = "transit:create",
        READ = "transit:read",
        UPDATE = "transit:update",
        ROTATE = "transit:rotate",
        TRIM = "transit:trim",
        DELETE = "transit:delete",
        EXPORT = "transit:export",
        ENCRYPT = "transit:encrypt",
        DECRYPT = "transit:decrypt",
        REWRAP = "transit:rewrap",
        DATAKEY = "transit:datakey",
        DATAKEY_WRAPPED = "transit:datakey-wrapped",
        SIGN = "transit:sign",
        VERIFY = "transit:verify",
        RANDOM = "transit:random",
    }
}

/// The engine.
pub(crate) const KIND: Kind = Kind {
    name: "transit",
    description: "encrypts, signs and authenticates what others have, with keys that stay here",
    actions: action::ALL,
    routes: |routes, api| routes.add_service(TransitServer::new(api.clone())),
    http: |_| Router::new(),
    public: |_| axum::Router::new(),
    keeps: kept,
    job: None,
};

/// Keys that nobody said may be deleted.
fn kept(items: &Items<'_>) -> Result<Option<String>, EngineError> {
    let mut after = String::new();
    loop {
        let names = items.names(PLACE, &after, LOOKED)?;
        for path in &names {
            if !items
                .get::<key::Key>(path)?
                .is_some_and(|key| key.deletable)
            {
                let name = path.strip_prefix(PLACE).unwrap_or(path);
                return Ok(Some(format!("keys that are not deletable, like {name:?}")));
            }
        }
        match names.last() {
            Some(last) if names.len() == LOOKED => after = last.clone(),
            _ => return Ok(None),
        }
    }
}

/// Where keys are stored.
const PLACE: &str = "keys/";
/// Keys whose names are read at once.
const LOOKED: usize = 100;

fn path(name: &str) -> String {
    format!("{PLACE}{name}")
}

/// The key of this name, as it is stored.
fn stored(items: &Items<'_>, name: &str) -> Result<key::Key, EngineError> {
    let found = items.get(&path(name))?;
    found.ok_or_else(|| EngineError::NotFound("key", name.to_owned()))
}

/// Lets a caller in to a key.
fn enter(
    api: &Api,
    caller: &Caller,
    action: Act,
    mount: &str,
    name: &str,
) -> Result<Arc<Entered>, EngineError> {
    api.0.enter(caller, &KIND, action, mount, &["keys", name])
}
