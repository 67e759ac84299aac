//! Starting: from a configuration to a service that answers.

use std::{error::Error, sync::Arc};

use axum::Router;
use mcdsl::{
    audit,
    clock::Clock,
    server::{self, App},
    service::{self, Base, Service, ServiceError},
    shutdown::Shutdown,
    web,
};
use serde::Deserialize;

use crate::{
    api::{self, Api},
    barrier::{SCHEMA, Seal},
    core::Metacrypt,
    http, jobs,
};

/// The service.
pub const SERVICE: Service = Service {
    name: "metacrypt",
    title: "Metacrypt",
    version: env!("CARGO_PKG_VERSION"),
    package: "metacircular.metacrypt.v1",
    migrations: &[
        audit::migration(1),
        web::migration(2),
        mcdsl::db::Migration::new(3, "seal", SCHEMA),
    ],
};

/// `[service]`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default)]
pub struct Own {
    /// Keeps memory from being swapped out; without it, swap has to be encrypted or off.
    pub lock_memory: bool,
}

impl Default for Own {
    fn default() -> Self {
        Self { lock_memory: true }
    }
}

/// The configuration.
pub type Config = service::Config<Own>;

/// Starts it, sealed; it stops with `shutdown`.
///
/// # Errors
/// [`ServiceError`].
pub async fn start(
    config: Config,
    shutdown: &Shutdown,
) -> Result<Arc<server::Handle>, ServiceError> {
    start_by(Clock::default(), config, shutdown).await
}

/// The same, by another clock: what is behind the seal goes by it.
///
/// # Errors
/// [`ServiceError`].
pub async fn start_by(
    clock: Clock,
    config: Config,
    shutdown: &Shutdown,
) -> Result<Arc<server::Handle>, ServiceError> {
    let build = async move |_: Own, base: Base| {
        let seal = Seal::new(Arc::clone(&base.store), clock.clone());
        if seal.status().await?.is_none() {
            tracing::warn!("there is no seal yet, and nothing can be done: run `metacrypt init`");
        }
        build(clock, base)
    };
    service::start(&SERVICE, config, shutdown, build).await
}

fn build(clock: Clock, base: Base) -> Result<App, Box<dyn Error + Send + Sync>> {
    let seal = Seal::new(Arc::clone(&base.store), clock);
    let metacrypt = Arc::new(Metacrypt::new(seal, Arc::clone(&base.audit)));
    // Nobody else sets it.
    let _ = metacrypt.mcias.set(Arc::clone(&base.mcias));
    let api = Api(Arc::clone(&metacrypt));
    let pages = base.pages(Vec::new(), Router::new());
    let mut app = base.app(api::routes(&api), pages);
    app.plain = http::router(&api);
    jobs::start(&metacrypt, &base.shutdown);
    app.sealed = Box::new(move || metacrypt.is_sealed());
    Ok(app)
}
