//! What a whole service is made of, MCIAS apart, which the others need: its program, its configuration, its database, who calls by
//! MCIAS's word, people logged in by it. `services/skeleton` is the smallest one, to begin others with.
//!
//! A service that needs more (other subcommands, another start) takes the parts: [`serve`], [`snapshot`], [`start`].

mod condition;
mod config;
mod program;

use std::{error::Error, path::PathBuf, sync::Arc};

use axum::Router;
use rusqlite::Transaction;
use tonic::{Status, service::Routes};

pub use self::{
    condition::Condition,
    config::{Config, Database},
    program::{ServiceError, check, examine, main, serve, snapshot},
};
use crate::{
    audit::Detail,
    auth::client::Client,
    clock::Clock,
    db::{Migration, Store},
    policy::Authorized,
    server::{self, App, Caller, Local, Recorder},
    shutdown::Shutdown,
    web::{self, Limits, NavItem, Sessions, Site, Sso},
};

/// A service, as it is known before it runs.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// In paths, variables, cookies and at MCIAS, e.g. `metacrypt`.
    pub name: &'static str,
    /// In the header of its pages, e.g. `Metacrypt`.
    pub title: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Of its API, e.g. `metacircular.metacrypt.v1`.
    pub package: &'static str,
    /// Of its database; [`crate::audit::SCHEMA`] and [`crate::web::SESSIONS_SQL`] are among them.
    pub migrations: &'static [Migration],
}

/// What a service's own part is built on. Clones share it.
#[derive(Clone)]
pub struct Base {
    /// Which service it is.
    pub service: Service,
    /// Its directory: paths of its own configuration are relative to it.
    pub root: PathBuf,
    /// Its database.
    pub store: Arc<Store>,
    /// Its audit log.
    pub audit: Arc<Recorder>,
    /// MCIAS: whose a token is.
    pub mcias: Arc<Client>,
    /// How people log in to its pages.
    pub sso: Arc<Sso>,
    /// Its own API, as its pages call it; it answers once the service runs.
    pub api: Local,
    /// How it stops.
    pub shutdown: Shutdown,
}

impl Base {
    /// Its pages, for people who log in by MCIAS; their handlers call [`Self::api`].
    pub fn pages(&self, nav: Vec<NavItem>, routes: Router<Local>) -> Router {
        let site = Site {
            service: self.service.name,
            title: self.service.title,
            nav,
            account: Vec::new(),
            login: "/login",
            logout: "/logout",
            scripts: Vec::new(),
            sessions: Sessions::new(Arc::clone(&self.store), Limits::default()),
            sso: Some(Arc::clone(&self.sso)),
        };
        web::wrap(site, routes.with_state(self.api.clone()))
    }

    /// Makes a change that was allowed, and its record, in one transaction; see [`Recorder::change`].
    ///
    /// # Errors
    /// What the database says; then nothing was changed.
    pub async fn record<T: Send + 'static>(
        &self,
        caller: &Caller,
        allowed: &Authorized,
        detail: Detail,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Status> {
        let resource = allowed.resource().name.as_str();
        self.audit.change(caller, resource, detail, change).await
    }

    /// All of it, never sealed and with the metrics that every service has.
    #[must_use]
    pub fn app(&self, grpc: Routes, web: Router) -> App {
        let mcias = Arc::clone(&self.mcias);
        App {
            package: self.service.package,
            grpc,
            web,
            plain: Router::new(),
            authenticator: Arc::clone(&self.mcias) as _,
            audit: Some(Arc::clone(&self.audit) as _),
            sealed: server::never_sealed(),
            metrics: Box::new(move || metrics(mcias.is_live())),
        }
    }
}

fn metrics(live: bool) -> String {
    let live = u8::from(live);
    format!(
        "# HELP mcias_live Whether MCIAS's revocations are known as they happen.\n# TYPE mcias_live gauge\nmcias_live {live}\n# EOF\n"
    )
}

/// Starts a service; it stops with `shutdown`. `build` makes its own part of its own section of the configuration.
///
/// # Errors
/// [`ServiceError`].
pub async fn start<T, E: Into<Box<dyn Error + Send + Sync>>>(
    service: &Service,
    config: Config<T>,
    shutdown: &Shutdown,
    build: impl AsyncFnOnce(T, Base) -> Result<App, E>,
) -> Result<Arc<server::Handle>, ServiceError> {
    let store = Store::open(&config.database.path, service.migrations)?;
    let mcias = Client::new(&config.mcias, Clock::default())?;
    let base = Base {
        service: *service,
        root: config.root,
        audit: Arc::new(Recorder::new(Arc::clone(&store))),
        store: Arc::clone(&store),
        sso: Sso::new(&config.sso, &config.mcias, Arc::clone(&mcias), shutdown)?,
        mcias: Arc::clone(&mcias),
        api: Local::default(),
        shutdown: shutdown.clone(),
    };
    let api = base.api.clone();
    let app = build(config.service, base).await;
    let app = app.map_err(|error| ServiceError::Own(error.into()))?;
    let handle = Arc::new(server::start(&config.server, app, shutdown).await?);
    handle.answer(&api);
    handle.follow_disk(&store, shutdown);
    shutdown.spawn("mcias", mcias.watch(shutdown.token().clone()));
    Ok(handle)
}
