//! What the service knows and does, behind its API: the database, the keys, who is told what.

mod change;
mod effects;
#[cfg(test)]
pub(crate) mod testing;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use mcdsl::{
    audit::{self, Actor, Entry},
    auth::{ADMIN, AuthError, Identity},
    clock::Clock,
    db::Store,
    server::Failures,
    shutdown::Shutdown,
};
use rusqlite::Transaction;
use tonic::Code;
use webauthn_rs::prelude::Webauthn;

pub(crate) use self::{change::Change, effects::InForce};
use crate::{
    SERVICE, bans, breached,
    by::By,
    error::Error,
    gate::Flights,
    house::Rounds,
    login_limit::LoginLimit,
    passkey,
    password::Passwords,
    revocation, seal,
    sources::{Sources, network},
};

/// How long a token of a login is valid.
pub(crate) const LIFETIME: Duration = Duration::from_secs(3600);

/// The service.
pub(crate) struct Mcias {
    pub(crate) clock: Clock,
    pub(crate) rounds: tokio::sync::Mutex<Rounds>,
    pub(crate) store: Arc<Store>,
    pub(crate) seal: seal::Key,
    /// Of what is between two requests of a login or a registration.
    pub(crate) passing: seal::Passing,
    pub(crate) issuer: String,
    pub(crate) passwords: Passwords,
    pub(crate) breached: Option<Arc<breached::List>>,
    pub(crate) sources: Arc<Mutex<Sources>>,
    pub(crate) never_ban: Vec<IpNet>,
    pub(crate) webauthn: Webauthn,
    pub(crate) flights: Arc<Flights>,
    pub(crate) revocations: revocation::Watched,
    pub(crate) bans: bans::Watched,
    pub(crate) shutdown: Shutdown,
    pub(crate) started: SystemTime,
    pub(crate) server: OnceLock<Arc<mcdsl::server::Handle>>,
    /// What fails, by whichever way.
    pub(crate) failures: Arc<Failures>,
    pub(crate) login_limit: LoginLimit,
    in_force: RwLock<InForce>,
}

/// What [`Mcias::new`] is made of.
pub(crate) struct Parts {
    pub(crate) clock: Clock,
    pub(crate) store: Arc<Store>,
    pub(crate) seal: seal::Key,
    pub(crate) issuer: String,
    pub(crate) passwords: Passwords,
    pub(crate) breached: Option<Arc<breached::List>>,
    pub(crate) never_ban: Vec<IpNet>,
    pub(crate) failures: Arc<Failures>,
    pub(crate) shutdown: Shutdown,
}

impl Mcias {
    /// From the database.
    ///
    /// # Errors
    /// If it cannot be read, or no key can be opened.
    pub(crate) async fn new(parts: Parts) -> Result<Arc<Self>, Error> {
        let Parts {
            clock,
            store,
            seal,
            issuer,
            passwords,
            breached,
            never_ban,
            failures,
            shutdown,
        } = parts;
        let (now, steady) = (clock.now(), clock.steady());
        let read = move |db: &rusqlite::Connection| {
            let in_force = InForce::load(db, &seal)?;
            let revocations = revocation::load(db)?;
            Ok::<_, Error>((seal, in_force, revocations, bans::load(db)?))
        };
        let (seal, read, revocations, banned) = store.read(read).await?;
        let mut sources = Sources::default();
        let mut in_force = bans::State::default();
        for ban in banned {
            sources.remember(ban);
            bans::enter(&mut in_force, &bans::Told::Ban(ban));
        }
        Ok(Arc::new(Self {
            clock,
            rounds: tokio::sync::Mutex::new(Rounds::from(steady)),
            webauthn: passkey::relying_party(&issuer)?,
            failures,
            login_limit: LoginLimit::default(),
            store,
            seal,
            passing: seal::Passing::new()?,
            issuer,
            passwords,
            breached,
            never_ban,
            shutdown,
            sources: Arc::new(Mutex::new(sources)),
            flights: Arc::default(),
            revocations: revocation::Watched::new(revocations),
            bans: bans::Watched::new(in_force),
            started: now,
            server: OnceLock::new(),
            in_force: RwLock::new(read),
        }))
    }

    /// The time.
    pub(crate) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// Makes a change and writes it down, in one transaction; what follows from it follows when it is committed, also if nobody waits for
    /// the answer any more, and nothing is read for it that could fail then.
    ///
    /// # Errors
    /// Those of `change`; then nothing is changed, and the server writes the failure down.
    pub(crate) async fn write<T, F>(
        self: &Arc<Self>,
        by: impl Into<By>,
        change: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Change<'_>) -> Result<T, Error> + Send + 'static,
    {
        let by = by.into();
        let (who, this) = (by.clone(), Arc::clone(self));
        let untold = Arc::new(self.failures.untold());
        let told = Arc::clone(&untold);
        let write = move |tx: &Transaction<'_>| {
            // What was revoked since it was asked changes nothing any more.
            if let Some(identity) = &who.identity
                && revocation::is_revoked(tx, identity)?
            {
                return Err(Error::unauthenticated("the token is not valid"));
            }
            let before = tx.total_changes();
            let mut made = Change::new(tx, this.now());
            let changed = change(&mut made);
            if changed.is_err() {
                who.about(&made.resource);
            }
            let value = changed?;
            let in_vain = made.anybodys && tx.total_changes() == before;
            Failures::tell(tx, &told, made.now)?;
            if in_vain && !this.failures.admit(who.identity.as_ref(), who.source) {
                return Ok((value, made.effects, None));
            }
            let actor = match (&made.actor, &who.identity) {
                (Some((id, name, account_type)), _) => Actor::Account {
                    id,
                    name,
                    account_type: *account_type,
                },
                (None, identity) => identity.as_ref().into(),
            };
            let entry = Entry {
                actor,
                source: Some(who.source),
                action: who.action,
                resource: &made.resource,
                outcome: made.outcome,
                detail: made.detail,
            };
            audit::append(tx, &entry, made.now)?;
            let read = match made.effects.read_again {
                true => Some(InForce::load(tx, &this.seal)?),
                false => None,
            };
            Ok::<_, Error>((value, made.effects, read))
        };
        let this = Arc::clone(self);
        let follow = move |(value, effects, read)| {
            by.recorded();
            this.follow(effects, read);
            value
        };
        let written = self.store.write_then(write, follow).await;
        if written.is_err() {
            self.failures.still_untold(&untold);
        }
        written
    }

    /// Writes down what was refused and changes nothing, as far as failures are: what has no row does not wait for the database either.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(crate) async fn refuse<F>(self: &Arc<Self>, by: &By, row: F) -> Result<(), Error>
    where
        F: FnOnce(&mut Change<'_>) -> Result<(), Error> + Send + 'static,
    {
        if self.failures.admit(by.identity.as_ref(), by.source) {
            return self.write(by, row).await;
        }
        by.recorded();
        Ok(())
    }

    /// Where failures come from.
    pub(crate) fn sources(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a failure of a source, and bans its network if it is one too many.
    pub(crate) fn source_failed(&self, source: IpAddr, now: SystemTime) -> Option<bans::Pending> {
        let of = network(source);
        // Neither it nor a neighbour in what would be banned.
        let never = |other: &IpNet| other.contains(&of) || of.contains(other);
        if self.never_ban.iter().any(never) {
            return None;
        }
        let ban = self.sources().failed(source, now);
        ban.map(|ban| bans::Pending::new(ban, &self.sources))
    }

    /// A ban that no login's transaction writes down.
    pub(crate) async fn ban(self: &Arc<Self>, by: &By, ban: bans::Pending) -> Result<(), Error> {
        let write = move |change: &mut Change<'_>| {
            change.resource = ban.ban().network.to_string();
            change.outcome = Code::ResourceExhausted;
            change.note(|detail| detail.flag("banned", true));
            change.ban(ban)
        };
        self.write(by, write).await
    }

    /// Whose token it is, for whichever service; revoked ones are nobody's.
    ///
    /// # Errors
    /// [`AuthError`].
    pub(crate) fn identify(
        &self,
        token: &str,
        audience: Option<&str>,
    ) -> Result<Identity, AuthError> {
        let claims = self
            .keys()
            .verify
            .verify(token, &self.issuer, audience, self.now())?;
        let identity = claims.into();
        let state = self.revocations.state();
        if state.incomplete {
            return Err(AuthError::Unavailable(
                "not all revocations can be kept".to_owned(),
            ));
        }
        if state.revocations.has(&identity) {
            return Err(AuthError::Invalid("revoked"));
        }
        Ok(identity)
    }
}

/// Whose tokens this service takes itself.
pub(crate) struct Own(pub(crate) Arc<Mcias>);

impl mcdsl::auth::Authenticator for Own {
    fn authenticate<'a>(
        &'a self,
        token: &'a str,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Identity, AuthError>> + Send + 'a>> {
        Box::pin(std::future::ready(self.0.identify(token, Some(SERVICE))))
    }

    fn authenticate_for_any<'a>(
        &'a self,
        token: &'a str,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Identity, AuthError>> + Send + 'a>> {
        Box::pin(std::future::ready(self.0.identify(token, None)))
    }

    fn lacks<'a>(
        &'a self,
        who: &'a Identity,
    ) -> std::pin::Pin<Box<dyn Future<Output = Option<&'static str>> + Send + 'a>> {
        Box::pin(async move {
            let (account, standing) = self.0.standing(who).await.ok()??;
            let admin = account.roles.iter().any(|role| role == ADMIN);
            standing.what_to_do().filter(|_| admin)
        })
    }
}
