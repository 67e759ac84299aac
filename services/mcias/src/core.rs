//! What the service knows and does, behind its API: the database, the keys, who is told what.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use mc_proto::AccountType;
use mcdsl::{
    audit::{self, Actor, Detail, Entry},
    auth::{AuthError, Identity, Revocation, Revoked},
    clock::Clock,
    db::Store,
    server::Strangers,
    shutdown::Shutdown,
};
use rusqlite::Transaction;
use tonic::Code;
use webauthn_rs::prelude::Webauthn;

use crate::{
    SERVICE, bans, breached,
    by::By,
    error::Error,
    gate::Flights,
    house::Rounds,
    keys::{self, KeyRing},
    logins::Logins,
    passkey,
    password::Passwords,
    policy::LoginPolicy,
    revocation, seal,
    sources::{Ban, Sources, network},
};

/// How long a token of a login is valid.
pub(crate) const LIFETIME: Duration = Duration::from_secs(3600);

/// The service.
pub(crate) struct Mcias {
    pub(crate) clock: Clock,
    pub(crate) rounds: tokio::sync::Mutex<Rounds>,
    pub(crate) store: Arc<Store>,
    pub(crate) seal: seal::Key,
    pub(crate) issuer: String,
    pub(crate) passwords: Passwords,
    pub(crate) breached: Option<Arc<breached::List>>,
    pub(crate) sources: Mutex<Sources>,
    pub(crate) never_ban: Vec<IpNet>,
    pub(crate) webauthn: Webauthn,
    pub(crate) flights: Arc<Flights>,
    pub(crate) revocations: revocation::Watched,
    pub(crate) bans: bans::Watched,
    pub(crate) shutdown: Shutdown,
    pub(crate) started: SystemTime,
    pub(crate) server: OnceLock<Arc<mcdsl::server::Handle>>,
    /// What fails of nobody who is known, by whichever way.
    pub(crate) strangers: Arc<Strangers>,
    pub(crate) logins: Logins,
    keys: RwLock<Arc<KeyRing>>,
    policy: RwLock<Arc<LoginPolicy>>,
    /// One at a time reads keys, policy and bans anew, so that what was committed last is in force last.
    pub(crate) reading: tokio::sync::Mutex<()>,
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
    pub(crate) strangers: Arc<Strangers>,
    pub(crate) shutdown: Shutdown,
}

/// A change as it is made: all of it is committed together, with its row of the audit log, or nothing.
pub(crate) struct Change<'t> {
    pub(crate) tx: &'t Transaction<'t>,
    pub(crate) now: SystemTime,
    /// On what, for the log.
    pub(crate) resource: String,
    /// How it ended, for the log.
    pub(crate) outcome: Code,
    pub(crate) detail: Detail,
    /// Who it turned out to be, for the log.
    pub(crate) actor: Option<(String, String, AccountType)>,
    /// Anybody can ask for it: if it changes nothing, its row is one of [`Strangers`].
    pub(crate) anybodys: bool,
    effects: Effects,
}

/// What follows a change once it is committed.
#[derive(Default)]
struct Effects {
    revoked: Vec<Revocation>,
    /// Networks that were banned, or let in again.
    bans: Vec<IpNet>,
    read_again: bool,
}

impl<'t> Change<'t> {
    /// One at a time. A command that has the database to itself makes one as well, and writes the log's row itself: the service reads
    /// at its start what follows.
    pub(crate) fn new(tx: &'t Transaction<'t>, now: SystemTime) -> Self {
        Self {
            tx,
            now,
            resource: String::new(),
            outcome: Code::Ok,
            detail: Detail::new(),
            actor: None,
            anybodys: false,
            effects: Effects::default(),
        }
    }
}

impl Change<'_> {
    /// Revokes, from the commit on.
    pub(crate) fn revoke(
        &mut self,
        what: Revoked,
        issued_until: SystemTime,
        forget: SystemTime,
    ) -> Result<(), Error> {
        let revocation = Revocation {
            what,
            issued_until,
            forget,
        };
        revocation::store(self.tx, &revocation)?;
        self.effects.revoked.push(revocation);
        Ok(())
    }

    /// Revokes all tokens of an account that were issued until now, and ends its logins.
    pub(crate) fn revoke_account(&mut self, id: &str) -> Result<(), Error> {
        self.revoke_until_now(Revoked::Account(id.to_owned()), Some(id))
    }

    /// Revokes all tokens of all accounts that were issued until now, and ends all logins.
    pub(crate) fn revoke_everything(&mut self) -> Result<(), Error> {
        self.revoke_until_now(Revoked::Everything, None)
    }

    fn revoke_until_now(&mut self, what: Revoked, account: Option<&str>) -> Result<(), Error> {
        // Tokens may be issued a little ahead of the clock: the last one counts.
        let sql = "SELECT max(issued), max(expires) FROM (
            SELECT used_s AS issued, expires_s AS expires FROM session WHERE ?1 IS NULL OR account = ?1
            UNION ALL SELECT issued_s, expires_s FROM token WHERE NOT revoked AND (?1 IS NULL OR account = ?1))";
        let (issued, expires): (Option<i64>, Option<i64>) =
            self.tx
                .query_row(sql, [account], |row| Ok((row.get(0)?, row.get(1)?)))?;
        for sql in [
            "DELETE FROM session WHERE ?1 IS NULL OR account = ?1",
            "UPDATE token SET revoked = 1 WHERE ?1 IS NULL OR account = ?1",
        ] {
            self.tx.execute(sql, [account])?;
        }
        let now = self.now;
        let later = |time: Option<i64>| time.map_or(now, crate::time::at).max(now);
        self.revoke(what, later(issued), later(expires) + 2 * LIFETIME)
    }

    /// Keeps a network away.
    pub(crate) fn ban(&mut self, ban: Ban) -> Result<(), Error> {
        bans::store(self.tx, &ban)?;
        self.banned(ban.network);
        Ok(())
    }

    /// Whether a network is banned has changed.
    pub(crate) fn banned(&mut self, network: IpNet) {
        self.effects.bans.push(network);
    }

    /// Keys or rules have changed.
    pub(crate) fn read_again(&mut self) {
        self.effects.read_again = true;
    }

    /// Adds to the log's detail.
    pub(crate) fn note(&mut self, add: impl FnOnce(Detail) -> Detail) {
        self.detail = add(std::mem::take(&mut self.detail));
    }
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
            strangers,
            shutdown,
        } = parts;
        let (now, steady) = (clock.now(), clock.steady());
        let read = move |db: &rusqlite::Connection| {
            let ring = keys::load(db, &seal)?;
            let policy = LoginPolicy::load(db)?;
            let revocations = revocation::load(db)?;
            Ok::<_, Error>((seal, ring, policy, revocations, bans::load(db)?))
        };
        let (seal, ring, policy, revocations, banned) = store.read(read).await?;
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
            strangers,
            logins: Logins::default(),
            store,
            seal,
            issuer,
            passwords,
            breached,
            never_ban,
            shutdown,
            sources: Mutex::new(sources),
            flights: Arc::default(),
            revocations: revocation::Watched::new(revocations),
            bans: bans::Watched::new(in_force),
            started: now,
            server: OnceLock::new(),
            keys: RwLock::new(Arc::new(ring)),
            policy: RwLock::new(Arc::new(policy)),
            reading: tokio::sync::Mutex::default(),
        }))
    }

    /// The time.
    pub(crate) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// The keys in force.
    pub(crate) fn keys(&self) -> Arc<KeyRing> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The login policy in force.
    pub(crate) fn policy(&self) -> Arc<LoginPolicy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a change and writes it down, in one transaction; what follows from it follows when it is committed.
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
        let who = by.clone();
        let (clock, strangers) = (self.clock.clone(), Arc::clone(&self.strangers));
        let untold = strangers.untold();
        let write = move |tx: &Transaction<'_>| {
            // What was revoked since it was asked changes nothing any more.
            if let Some(identity) = &who.identity
                && revocation::is_revoked(tx, identity)?
            {
                return Err(Error::unauthenticated("the token is not valid"));
            }
            let before = tx.total_changes();
            let mut made = Change::new(tx, clock.now());
            let value = change(&mut made)?;
            let in_vain = made.anybodys && tx.total_changes() == before;
            Strangers::tell(tx, untold, made.now)?;
            if in_vain && !strangers.admit() {
                return Ok((value, made.effects));
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
            Ok::<_, Error>((value, made.effects))
        };
        let written = self.store.write(write).await;
        if written.is_err() {
            self.strangers.still_untold(untold);
        }
        let (value, effects) = written?;
        by.recorded();
        self.follow(effects).await?;
        Ok(value)
    }

    async fn follow(self: &Arc<Self>, effects: Effects) -> Result<(), Error> {
        let Effects {
            revoked,
            bans,
            read_again,
        } = effects;
        // First: whoever hears that everything is revoked asks for the keys.
        if read_again {
            self.read_again().await?;
        }
        let now = self.now();
        self.revocations
            .publish(revoked, |state, revocation| state.enter(revocation, now));
        self.bans_changed(bans).await
    }

    pub(crate) async fn read_again(self: &Arc<Self>) -> Result<(), Error> {
        let _one = self.reading.lock().await;
        let this = Arc::clone(self);
        let read = move |db: &rusqlite::Connection| {
            Ok::<_, Error>((keys::load(db, &this.seal)?, LoginPolicy::load(db)?))
        };
        let (ring, policy) = self.store.read(read).await?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
        Ok(())
    }

    /// Counts a failure of a source, and bans its network if it is one too many.
    pub(crate) fn source_failed(&self, source: IpAddr, now: SystemTime) -> Option<Ban> {
        let of = network(source);
        // Neither it nor a neighbour in what would be banned.
        let never = |other: &IpNet| other.contains(&of) || of.contains(other);
        if self.never_ban.iter().any(never) {
            return None;
        }
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.failed(source, now)
    }

    /// A ban that no login's transaction writes down.
    pub(crate) async fn ban(self: &Arc<Self>, by: &By, ban: Ban) -> Result<(), Error> {
        let write = move |change: &mut Change<'_>| {
            change.resource = ban.network.to_string();
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
}
