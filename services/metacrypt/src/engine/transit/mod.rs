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

use mc_proto::metacrypt::v1::transit_server::TransitServer;
use mcdsl::server::Caller;

use super::{EngineError, Kind};
use crate::{api::Api, barrier::Items, entered::Entered};

/// The engine.
pub(crate) const KIND: Kind = Kind {
    name: "transit",
    description: "encrypts, signs and authenticates what others have, with keys that stay here",
    actions: &[
        "transit:create",
        "transit:read",
        "transit:update",
        "transit:rotate",
        "transit:trim",
        "transit:delete",
        "transit:export",
        "transit:encrypt",
        "transit:decrypt",
        "transit:rewrap",
        "transit:datakey",
        "transit:datakey-wrapped",
        "transit:sign",
        "transit:verify",
        "transit:random",
    ],
    routes: |routes, api| routes.add_service(TransitServer::new(api.clone())),
};

/// Where keys are stored.
const PLACE: &str = "keys/";

fn path(name: &str) -> String {
    format!("{PLACE}{name}")
}

/// The key of this name, as it is stored.
fn stored(items: &Items<'_>, name: &str) -> Result<key::Key, EngineError> {
    let found = items.get(&path(name))?;
    found.ok_or_else(|| EngineError::NotFound("key", name.to_owned()))
}

/// Lets a caller in to a key.
async fn enter(
    api: &Api,
    caller: &Caller,
    action: &str,
    mount: &str,
    name: &str,
) -> Result<Arc<Entered>, EngineError> {
    let on = ["keys", name];
    api.0.enter(caller, &KIND, action, mount, &on).await
}
