//! Starting: from a configuration to a service that answers.

use std::{
    net::SocketAddr,
    num::NonZero,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::available_parallelism,
};

use axum::{Router, http::header, routing::get};
use mcdsl::{
    clock::Clock,
    config::SettingError,
    db::{self, DbError, Store},
    lock::{Lock, LockError},
    server::{self, App, Recorder},
    shutdown::Shutdown,
    web::{Limits, Sessions},
};
use serde_json::{Value, json};

use crate::{
    api,
    config::{Checked, Config},
    core::{InForce, Mcias, Own, Parts},
    error::Error,
    init,
    left::{Left, is_empty},
    metrics::Metrics,
    oidc, pages,
    password::Passwords,
    schema,
    seal::SealError,
};

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is nothing yet.
    #[error("{0} is not initialised; run `mcias init`")]
    NotInitialised(PathBuf),
    /// There was something.
    #[error(transparent)]
    Lost(#[from] Left),
    /// The configuration.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// Another process has the database.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The server.
    #[error(transparent)]
    Server(#[from] server::StartError),
    /// Anything else.
    #[error(transparent)]
    Failed(Error),
}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        match error {
            Error::Seal(e @ SealError::Opened(_)) => {
                let text = format!("{e}; name the key that this database was made with");
                SettingError::new("database.master_key", text).into()
            }
            other => Self::Failed(other),
        }
    }
}

/// A service that runs.
pub struct Handle {
    server: Arc<server::Handle>,
    /// The database is closed before another process may have it.
    held: Mutex<Option<(Arc<Mcias>, Lock)>>,
}

impl Handle {
    /// Where HTTPS is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Where gRPC is.
    #[must_use]
    pub fn grpc(&self) -> SocketAddr {
        self.server.grpc
    }

    /// Where metrics are.
    #[must_use]
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.server.metrics
    }

    /// Forgets what is over now, as the service does by itself every ten minutes.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn forget(&self) -> Result<(), Error> {
        let held = self.held().as_ref().map(|(mcias, _)| Arc::clone(mcias));
        let mcias = held.ok_or_else(|| Error::unavailable("the service has stopped"))?;
        mcias.forget().await
    }

    /// Closes the database and lets another process have it. For after the service's stop, of a handle that lives on.
    pub fn let_go(&self) {
        let held = self.held().take();
        if let Some((mcias, _)) = &held
            && let Err(error) = mcias.store.settle()
        {
            let error = mcdsl::cli::chain(&error);
            tracing::warn!(
                error,
                "what was written last is beside the database, in its -wal file"
            );
        }
        drop(held);
    }

    fn held(&self) -> MutexGuard<'_, Option<(Arc<Mcias>, Lock)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What [`mcdsl::service::serve`] runs.
    #[must_use]
    pub fn server(&self) -> Arc<server::Handle> {
        Arc::clone(&self.server)
    }
}

/// What of the database is in the way of a start: it is there, made with this configuration, and its keys and rules can be used, which the
/// start asks too. Nothing is changed.
pub(crate) fn of_database(config: &Config) -> Vec<StartError> {
    let looked = || {
        let path = &config.database.path;
        if is_empty(path) {
            return Err(absent(config));
        }
        let db = db::open_as_it_is(path)?;
        db::check(&db, path, schema::MIGRATIONS)?;
        let issuer = init::issuer(&db).map_err(Error::from)?;
        let mut wrong = Vec::from_iter(is_made_by(config, issuer.as_deref()).err());
        // What was not made has neither.
        if issuer.is_some() {
            let seal = config.seal().map_err(StartError::from);
            let loaded = seal.and_then(|seal| Ok(InForce::load(&db, &seal)?));
            wrong.extend(loaded.err());
        }
        Ok(wrong)
    };
    looked().unwrap_or_else(|error| vec![error])
}

/// A database that was never made, or was lost.
fn absent(config: &Config) -> StartError {
    match Left::of(config) {
        Some(left) => StartError::Lost(left),
        None => StartError::NotInitialised(config.database.path.clone()),
    }
}

/// By the issuer that the database has; it is fixed for ever.
fn is_made_by(config: &Config, stored: Option<&str>) -> Result<(), StartError> {
    let configured = &config.token.issuer;
    match stored {
        None => Err(absent(config)),
        Some(stored) if stored == configured => Ok(()),
        Some(stored) => {
            let text = format!(
                "it is {configured:?}, but the database was made with {stored:?}; tokens and clients know that one: configure it"
            );
            Err(SettingError::new("token.issuer", text).into())
        }
    }
}

/// Starts it; it stops with `shutdown`.
///
/// # Errors
/// [`StartError`].
pub async fn start(config: Config, shutdown: &Shutdown) -> Result<Handle, StartError> {
    start_by(Clock::default(), config, shutdown).await
}

/// The same, by this clock.
///
/// # Errors
/// [`StartError`].
pub async fn start_by(
    clock: Clock,
    config: Config,
    shutdown: &Shutdown,
) -> Result<Handle, StartError> {
    start_checked(clock, config.check()?, shutdown).await
}

/// The same, of a configuration that was checked before.
///
/// # Errors
/// [`StartError`].
pub(crate) async fn start_checked(
    clock: Clock,
    checked: Checked,
    shutdown: &Shutdown,
) -> Result<Handle, StartError> {
    let Checked {
        config,
        server,
        breached,
    } = checked;
    let path = &config.database.path;
    if is_empty(path) {
        return Err(absent(&config));
    }
    let lock = Lock::of(path)?;
    let store = Store::open(path, schema::MIGRATIONS)?;
    let read = |db: &rusqlite::Connection| Ok::<_, Error>(init::issuer(db)?);
    is_made_by(&config, store.read(read).await?.as_deref())?;
    let seal = config.seal()?;
    let cores = available_parallelism().map_or(1, NonZero::get);
    let mut never_ban = config.guessing.never_ban;
    never_ban.extend(&config.server.trusted_proxies);
    let recorder = Recorder::by(clock.clone(), Arc::clone(&store));
    let mcias = Mcias::new(Parts {
        clock: clock.clone(),
        store: Arc::clone(&store),
        seal,
        issuer: config.token.issuer,
        passwords: Passwords::new(cores).map_err(Error::from)?,
        breached: breached.map(Arc::new),
        never_ban,
        failures: recorder.failures(),
        shutdown: shutdown.clone(),
    })
    .await?;
    let metrics = Metrics::new(&mcias);
    let sessions = Sessions::by(clock, Arc::clone(&store), Limits::default());
    let app = App {
        package: "metacircular.mcias.v1",
        grpc: api::routes(&mcias),
        web: web(&mcias, sessions),
        plain: Router::new(),
        authenticator: Arc::new(Own(Arc::clone(&mcias))),
        audit: Some(Arc::new(recorder)),
        sealed: server::never_sealed(),
        metrics: Box::new(move || metrics.render()),
    };
    let server = Arc::new(server::start_checked(server, app, shutdown).await?);
    server.follow_disk(&store, shutdown);
    // Set once: it is new.
    let _ = mcias.server.set(Arc::clone(&server));
    let (token, house) = (shutdown.token().clone(), Arc::clone(&mcias));
    shutdown.spawn("housekeeping", async move {
        token.run_until_cancelled(house.keep_house()).await;
    });
    Ok(Handle {
        server,
        held: Mutex::new(Some((mcias, lock))),
    })
}

fn web(mcias: &Arc<Mcias>, sessions: Sessions) -> Router {
    let others = pages::routes(mcias, sessions).merge(oidc::endpoints(mcias));
    let others = pages::to_the_end(mcias, others);
    let mcias = Arc::clone(mcias);
    let keys = async move || {
        let headers = [
            (header::CONTENT_TYPE, "application/jwk-set+json"),
            (header::CACHE_CONTROL, "max-age=300"),
        ];
        (headers, jwks(&mcias).to_string())
    };
    others.route("/.well-known/jwks.json", get(keys))
}

/// The public keys as JWKS (RFC 7517, RFC 8037).
fn jwks(mcias: &Mcias) -> Value {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let keys = mcias.keys();
    let jwk = |(kid, public): &(String, Vec<u8>)| {
        json!({
            "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
            "kid": kid, "x": URL_SAFE_NO_PAD.encode(public),
        })
    };
    json!({ "keys": keys.public.iter().map(jwk).collect::<Vec<_>>() })
}
