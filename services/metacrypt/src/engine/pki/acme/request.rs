//! Requests: whose they are is known, and their nonce is used up, before anything is done by them.

use std::{net::IpAddr, sync::Arc};

use axum::{
    body::{Body, Bytes},
    http::{Request, header},
};
use mcdsl::server::Caller;
use serde::de::DeserializeOwned;
use tonic::Status;

use super::{
    here::{Here, limited},
    jwk::Jwk,
    jws::{By, Jws, MAX_BODY, object},
    of_source,
    problem::{Problem, Type},
    source,
    store::{AcmeAccount, Standing, use_nonce},
};

/// Who asks.
pub(super) enum Who {
    /// An account.
    Account(Box<AcmeAccount>, String),
    /// Whoever has this key.
    Key(Box<Jwk>),
}

/// A request whose signature is good and whose nonce is used up.
pub(super) struct Asked {
    pub(super) here: Arc<Here>,
    pub(super) source: IpAddr,
    pub(super) who: Who,
    pub(super) url: String,
    payload: Vec<u8>,
}

/// What came over the network.
pub(super) struct Sent {
    source: IpAddr,
    /// Or why there is none.
    body: Result<Bytes, Problem>,
}

impl Sent {
    /// # Errors
    /// Nobody sent it.
    pub(super) async fn read(request: Request<Body>) -> Result<Self, Problem> {
        let source = source(&request)?;
        let body = Self::body(request).await;
        Ok(Self { source, body })
    }

    async fn body(request: Request<Body>) -> Result<Bytes, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        if kind.is_none_or(|kind| kind.as_bytes() != b"application/jose+json") {
            let why = "Content-Type: application/jose+json is needed";
            return Err(Problem::malformed(why).with_status(415));
        }
        let body = axum::body::to_bytes(request.into_body(), MAX_BODY).await;
        body.map_err(|_| {
            let why = format!("the body did not come, or is longer than {MAX_BODY} bytes");
            Problem::malformed(why).with_status(413)
        })
    }
}

impl Asked {
    /// Reads one for what is at `rest`.
    pub(super) async fn read(here: &Arc<Here>, rest: &str, sent: Sent) -> Result<Self, Problem> {
        let source = sent.source;
        let asked = Self::verified(here, rest, sent).await;
        asked.map_err(|problem| {
            // Whoever sends what is no request of an account has no account. Clients of one that have an old nonce are to try again at once.
            match here.stranger(source) {
                Err(limited) if problem.kind != Type::BadNonce => limited,
                _ => problem,
            }
        })
    }

    async fn verified(here: &Arc<Here>, rest: &str, sent: Sent) -> Result<Self, Problem> {
        let source = sent.source;
        let strangers = &here.memory()?.strangers;
        // Only who has an account is asked further where strangers have asked too often.
        let over = strangers.look(&of_source(source), here.steady());
        let over = over.err().map(limited);
        let body = match (sent.body, &over) {
            (Ok(body), _) => body,
            (Err(problem), None) => return Err(problem),
            (Err(_), Some(limited)) => return Err(limited.clone()),
        };
        let jws = Jws::from_bytes(&body)?;
        if jws.url != format!("{}/{rest}", here.base) {
            let why = format!(
                "url: it is not the address that it was sent to, {}/{rest}",
                here.base
            );
            return Err(Problem::new(Type::Unauthorized, why));
        }
        let bad = || {
            Problem::new(
                Type::BadNonce,
                "nonce: there is none that is good; take the one of this answer",
            )
        };
        let nonces = here.nonces()?;
        let nonce = jws.nonce.as_deref();
        let nonce = nonce.and_then(|nonce| nonces.read(nonce, here.now_s()));
        let nonce = nonce.ok_or_else(bad)?;
        let by_key = matches!(rest, "new-account" | "revoke-cert");
        let who = match &jws.by {
            By::Key(key) if by_key => {
                // Each is counted, for anybody has a key.
                here.stranger(source)?;
                jws.verify(key)?;
                Who::Key(key.clone())
            }
            By::Key(_) => {
                return Err(Problem::malformed(
                    "kid: the account's address is needed here, not jwk",
                ));
            }
            By::Kid(_) if rest == "new-account" => {
                return Err(Problem::malformed(
                    "jwk: the new account's key is needed here, not kid",
                ));
            }
            By::Kid(kid) => {
                let found = here.account(kid).await;
                let (id, account) = found.map_err(|problem| over.clone().unwrap_or(problem))?;
                let forged = &here.memory()?.forged;
                if over.is_some() {
                    forged.look(&id, here.steady()).map_err(limited)?;
                }
                if let Err(fault) = jws.verify(&account.key) {
                    if over.is_some() {
                        forged.ask(id, here.steady()).map_err(limited)?;
                    }
                    return Err(fault.into());
                }
                Who::Account(Box::new(account), id)
            }
        };
        let sure_s = here.sure_s();
        let used = here.keep(move |items| use_nonce(items, &nonce, sure_s));
        used.await??;
        if let Who::Account(account, id) = &who {
            // What an account was given may be revoked by it when MCIAS ended it.
            let revokes = rest == "revoke-cert" && account.standing != Standing::Deactivated;
            if !revokes {
                here.stands(account, id).await?;
            }
        }
        let asked = Self {
            here: Arc::clone(here),
            source,
            who,
            url: jws.url,
            payload: jws.payload,
        };
        if let (Who::Account(account, _), false) = (&asked.who, asked.is_get()) {
            here.writes(&account.owner.identity())?;
        }
        Ok(asked)
    }

    /// That nothing is asked but to see (RFC 8555 §6.3).
    pub(super) fn is_get(&self) -> bool {
        self.payload.is_empty()
    }

    /// That it is no more than that.
    pub(super) fn get(&self) -> Result<(), Problem> {
        match self.is_get() {
            true => Ok(()),
            false => Err(Problem::malformed(
                "payload: it has to be empty (POST-as-GET)",
            )),
        }
    }

    /// What it says.
    pub(super) fn says<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let read = object(&self.payload);
        read.map_err(|e| Problem::malformed(format!("payload: {e}")))
    }

    /// The account that asks.
    pub(super) fn account(&self) -> Result<(&str, &AcmeAccount), Problem> {
        match &self.who {
            Who::Account(account, id) => Ok((id, account)),
            Who::Key(_) => Err(Problem::malformed("kid: an account is needed here")),
        }
    }

    /// Who does something, for the policy and the log.
    pub(super) fn caller(&self, what: &'static str) -> Caller {
        let identity = match &self.who {
            Who::Account(account, _) => Some(account.owner.identity()),
            Who::Key(_) => None,
        };
        Caller::elsewhere(identity, self.source, what)
    }

    /// Writes down how something ended that somebody did.
    pub(super) async fn told<T>(
        &self,
        caller: &Caller,
        done: Result<T, Problem>,
    ) -> Result<T, Problem> {
        let (mut kept, outcome) = match done {
            Ok(done) => (Ok(done), Ok(())),
            Err(problem) => {
                let status = match problem.status {
                    401 | 403 => Status::permission_denied(&*problem.detail),
                    429 => Status::resource_exhausted(&*problem.detail),
                    500.. => Status::internal(&*problem.detail),
                    _ => Status::invalid_argument(&*problem.detail),
                };
                (Err(problem), Err(status))
            }
        };
        let told = self.here.api.0.audit.outcome(caller, outcome.clone()).await;
        if let Err(other) = told
            && outcome.as_ref().err().map(Status::message) != Some(other.message())
        {
            // What cannot be written down is not done.
            kept =
                Err(Problem::later(Type::ServerInternal, "not now; try again", 5).with_status(503));
        }
        kept
    }
}
