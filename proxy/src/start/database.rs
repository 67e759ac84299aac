//! What the database holds at the start, and whether it is to be believed.
//!
//! One that is new although a former daemon's rules are in force was lost, truncated, or another one is meant: to fill the kernel maps
//! from it would take every rule out. Maps are written once it is seeded, so that a first start that failed leaves nothing of the
//! operator's in them.

use super::StartError;
use crate::{
    config::Config,
    control::own_backends,
    firewall::Firewall,
    kernel::Kernel,
    routes::RouteTable,
    seed,
    store::{State, Store},
};

/// Refuses a new database unless nothing of the operator's is pinned.
pub(super) fn check_new(
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

/// What is stored, after the seed if it is new, and what of it is to be told.
pub(super) fn load(store: &mut Store, config: &Config) -> Result<(State, Vec<String>), StartError> {
    let seeded = store.seed(&seed::state(&config.seed))?;
    let state = store.load()?;
    let mut told = Vec::new();
    if seeded {
        tracing::info!(database = %config.database.display(), "new database, seeded from the config");
    } else {
        told = seed::differences(&config.seed, &state);
    }
    told.extend(own_backends(&state.routes, &state.listeners));
    for warning in &told {
        tracing::warn!("{warning}");
    }
    Ok((state, told))
}
