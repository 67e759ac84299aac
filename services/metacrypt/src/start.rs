//! Starting: from a configuration to a service that answers.

use std::{error::Error, net::SocketAddr, sync::Arc};

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
    http, jobs, memory, pages, password,
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
        mcdsl::db::Migration::new(4, "audit log by name", audit::BY_NAME),
    ],
};

/// `[service]`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default)]
pub struct Own {
    /// Keeps memory from being swapped out; without it, swap has to be encrypted or off.
    pub lock_memory: bool,
    /// Where CRLs, OCSP and the certificates of CAs are to be had without TLS too (RFC 5280 §8); nowhere unless it is said.
    pub public_listen: Option<SocketAddr>,
}

impl Default for Own {
    fn default() -> Self {
        Self {
            lock_memory: true,
            public_listen: None,
        }
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
    memory::used_again();
    let proxies = config.server.trusted_proxies.clone();
    let names = password::names_of(&config);
    let build = async move |own: Own, base: Base| {
        let seal = Seal::new(Arc::clone(&base.store), clock.clone());
        if seal.status().await?.is_none() {
            tracing::warn!("there is no seal yet, and nothing can be done: run `metacrypt init`");
        }
        let shutdown = base.shutdown.clone();
        let (app, api) = build(clock, own, base);
        // Nobody else sets them.
        let _ = api.0.names.set(names);
        if let Some(address) = own.public_listen {
            let address = server::public(address, &proxies, http::public(&api), &shutdown).await?;
            tracing::info!(http = %address, "what is public is there without TLS");
        }
        Ok::<_, Box<dyn Error + Send + Sync>>(app)
    };
    service::start(&SERVICE, config, shutdown, build).await
}

fn build(clock: Clock, own: Own, base: Base) -> (App, Api) {
    let seal = Seal::new(Arc::clone(&base.store), clock);
    let metacrypt = Arc::new(Metacrypt::new(seal, Arc::clone(&base.audit)));
    // Nobody else sets them.
    let _ = metacrypt.mcias.set(Arc::clone(&base.mcias));
    let _ = metacrypt.without_tls.set(own.public_listen.is_some());
    let api = Api(Arc::clone(&metacrypt));
    let pages = pages::router(&base, &metacrypt);
    let mut app = base.app(api::routes(&api), pages);
    app.plain = http::router(&api);
    jobs::start(&metacrypt, &base.shutdown);
    app.sealed = metacrypt.sealed();
    (app, api)
}
