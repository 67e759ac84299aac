//! A database that is new although a former daemon's rules are in force: it was lost, truncated, or another one is meant. To fill the
//! kernel maps from it would take every rule out.
//!
//! Maps are written once the database is seeded, so that a first start that failed leaves nothing of the operator's in them.

use super::StartError;
use crate::{config::Config, firewall::Firewall, kernel::Kernel, routes::RouteTable, store::Store};

/// Refuses a new database unless nothing of the operator's is pinned.
pub(super) fn check(
    store: &Store,
    config: &Config,
    kernel: &Kernel,
    firewall: &Firewall,
    routes: &RouteTable,
) -> Result<(), StartError> {
    if store.seeded()? {
        return Ok(());
    }
    let mut held = firewall.left_in_force()?;
    match routes.fill()?.used {
        0 => {}
        routes => held.push(format!("{routes} routes")),
    }
    if kernel.has_links_of_other_layouts()? {
        // Their maps are for the version that made them to read.
        held.push("what another version of mc-proxy was told".to_owned());
    }
    if held.is_empty() {
        return Ok(());
    }
    Err(StartError::NewDatabase {
        database: config.database.clone(),
        pins: config.pin_path.clone(),
        held: held.join(", "),
    })
}
