//! Who may call what: one place, before every method, by what its definition says.

use std::{
    collections::HashMap,
    future::Future,
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use axum::{
    extract::{Request, State},
    http::{Extensions, HeaderMap, request::Parts},
    middleware::Next,
    response::Response,
};
use mc_proto::{AccountType, Level, Method, codec::is_broken};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tonic::{Code, Status};

use super::{
    bearer::bearer, disk::Scarce, places, public_streams::PublicStreams, record::Audit, streams,
};
use crate::{
    auth::{AuthError, Authenticator, ELSEWHERE, Identity},
    db,
};

/// Services that are not ours and answer anybody: they tell no more than the OpenAPI document.
const OPEN: [&str; 2] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
];

/// Of these what stays for as long as its client likes.
const OPEN_STREAMS: [&str; 2] = ["/grpc.health.v1.Health/Watch", REFLECTION];
/// Its client streams, and is not ours.
pub(super) const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// Where a connection comes from; the client itself, if a trusted proxy told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source(pub IpAddr);

/// Who calls, as a method's implementation finds it in the request's extensions.
#[derive(Clone, Debug)]
pub struct Caller {
    /// `None`: the method is public and no token came.
    pub identity: Option<Identity>,
    /// Where from.
    pub source: IpAddr,
    /// gRPC's path of what is called.
    pub method: &'static str,
    /// On what it is, for the row that the server writes if the call is refused.
    pub about: About,
    recorded: Arc<AtomicBool>,
    empty: Arc<AtomicBool>,
}

/// On what a call is, and what refused it, for the audit log: what is said first counts, and is bounded. Clones are of one call.
#[derive(Clone, Debug, Default)]
pub struct About(Arc<Said>);

#[derive(Debug, Default)]
struct Said {
    on: OnceLock<String>,
    by: OnceLock<String>,
    attempt: OnceLock<Attempt>,
}

/// A secret that was tried and is wrong, for its row in the audit log: what else fails does not hide it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Whoever tries has to wait longer each time, and so each of them has its row.
    Slowed,
    /// Nobody waits, for nobody can guess it: of these 60 a minute have a row, whoever tries.
    Free,
}

fn say(to: &OnceLock<String>, text: &str) {
    if !text.is_empty() {
        // It was said already.
        let _ = to.set(text.chars().take(About::MAX).collect());
    }
}

impl About {
    /// Most characters of it.
    pub const MAX: usize = 256;

    /// It is on this; nothing says nothing.
    pub fn say(&self, resource: &str) {
        say(&self.0.on, resource);
    }

    /// This refuses it (a rule of the policy): for the log alone, since what is answered does not say it.
    pub fn refused_by(&self, what: &str) {
        say(&self.0.by, what);
    }

    /// This allows it, where that is not told by the row of a change.
    pub fn allowed_by(&self, what: &str) {
        say(&self.0.by, what);
    }

    /// On what, if that was said.
    #[must_use]
    pub fn said(&self) -> Option<&str> {
        self.0.on.get().map(String::as_str)
    }

    /// What refused or allowed it, if that was said.
    pub(super) fn by(&self) -> Option<&str> {
        self.0.by.get().map(String::as_str)
    }
}

impl Caller {
    /// Who asks by another way than a method, as a protocol of its own knows him; `what` is in the place of the method. Whoever makes one
    /// has [`super::Recorder::outcome`] write how it ended.
    #[must_use]
    pub fn elsewhere(identity: Option<Identity>, source: IpAddr, what: &'static str) -> Self {
        Self {
            identity,
            source,
            method: what,
            about: About::default(),
            recorded: Arc::default(),
            empty: Arc::default(),
        }
    }

    /// Whether [`Self::recorded`] was called.
    pub(super) fn is_recorded(&self) -> bool {
        self.recorded.load(Relaxed)
    }

    /// Of this request.
    ///
    /// # Errors
    /// Only outside of a server of this crate.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        let caller = request.extensions().get::<Self>().cloned();
        caller.ok_or_else(|| Status::internal("the request came past the access checks"))
    }

    /// Its identity, where the method asks for one.
    ///
    /// # Errors
    /// If there is none.
    pub fn identity(&self) -> Result<&Identity, Status> {
        self.identity
            .as_ref()
            .ok_or_else(|| Status::unauthenticated("a token is needed"))
    }

    /// The method has written the audit log itself, in the transaction of the change.
    pub fn recorded(&self) {
        self.recorded.store(true, Relaxed);
    }

    /// What is asked changes nothing and is answered with nothing, as a list is that has nothing for who reads it: its row counts as a failure's does.
    pub fn gave_nothing(&self) {
        self.empty.store(true, Relaxed);
    }

    /// A secret was shown that is wrong.
    pub fn tried(&self, attempt: Attempt) {
        // It was said already.
        let _ = self.about.0.attempt.set(attempt);
    }

    /// What [`Self::tried`] was told.
    pub(super) fn attempt(&self) -> Option<Attempt> {
        self.about.0.attempt.get().copied()
    }

    /// Whether [`Self::gave_nothing`] was called.
    pub(super) fn is_empty(&self) -> bool {
        self.empty.load(Relaxed)
    }
}

/// What is asked before every call.
pub(super) struct Access {
    pub(super) methods: HashMap<&'static str, &'static Method>,
    pub(super) authenticator: Arc<dyn Authenticator>,
    pub(super) audit: Option<Arc<dyn Audit>>,
    pub(super) sealed: watch::Receiver<bool>,
    /// Calls that go on without their clients.
    pub(super) tasks: TaskTracker,
    pub(super) public_streams: Arc<PublicStreams>,
    pub(super) scarce: Arc<Scarce>,
}

impl Access {
    /// One call: asks whether it may be, and has `run` do it, with the [`Caller`] among its extensions. Who may not is answered by
    /// `refuse`. What is to be in the audit log is, once, when this returns.
    pub(super) async fn guard<F>(
        self: &Arc<Self>,
        method: &'static Method,
        mut parts: Parts,
        refuse: fn(Status) -> Response,
        run: impl FnOnce(Parts) -> F + Send + 'static,
    ) -> Response
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let (caller, allowed) = match self.check(method, &parts).await {
            Ok(checked) => checked,
            Err(status) => return refuse(status),
        };
        parts.extensions.insert(caller.clone());
        let calling = async move {
            match allowed {
                Ok(()) => run(parts).await,
                Err(status) => refuse(status),
            }
        };
        if !method.access.audited {
            return calling.await;
        }
        // To its end, whether the client still waits or not: what is done is recorded.
        let (writer, who) = (Arc::clone(self), caller.clone());
        let done = async move {
            let response = calling.await;
            writer.record(&who, response, refuse).await
        };
        match db::to_the_end(&self.tasks, done).await {
            Ok(response) => response,
            // It panicked, which is in the log.
            Err(_) => {
                let status = Status::internal("an internal error; see the service's log");
                self.record(&caller, refuse(status), refuse).await
            }
        }
    }

    /// The caller, and whether it may call that.
    async fn check(
        &self,
        method: &'static Method,
        request: &Parts,
    ) -> Result<(Caller, Result<(), Status>), Status> {
        let source = source(&request.extensions)?;
        let mut caller = Caller::elsewhere(None, source, method.path);
        let allowed = match self.identify(method, &request.headers).await {
            Ok(identity) => {
                if let Some(identity) = &identity {
                    places::known(&request.extensions, &identity.account);
                }
                caller.identity = identity;
                self.allow(method, caller.identity.as_ref()).await
            }
            Err(refused) => Err(refused),
        };
        Ok((caller, allowed))
    }

    /// Whether somebody may call that now.
    async fn allow(&self, method: &Method, who: Option<&Identity>) -> Result<(), Status> {
        if let Err(refused) = allow(method, who) {
            // Who has a role that his login has not yet is told what to do.
            let lacking = match who.filter(|_| refused.code() == Code::PermissionDenied) {
                Some(who) => self.authenticator.lacks(who).await,
                None => None,
            };
            let told = lacking.map(|what| format!("{what}; {}", refused.message()));
            return Err(told.map_or(refused, Status::permission_denied));
        }
        if method.access.needs_unsealed && *self.sealed.borrow() {
            return Err(Status::unavailable(
                "the service is sealed; unseal it first",
            ));
        }
        match method.access.audited {
            true => self.scarce.admit(who),
            false => Ok(()),
        }
    }

    /// Writes down how a call ended, unless that was done.
    async fn record(
        &self,
        caller: &Caller,
        response: Response,
        refuse: fn(Status) -> Response,
    ) -> Response {
        let (false, Some(audit)) = (caller.is_recorded(), &self.audit) else {
            return response;
        };
        // REST says it in the extensions. gRPC has a failure in the head, since nothing went before it; of what succeeded the trailers
        // say so.
        let told = response.extensions().get::<Status>().cloned();
        let status = told.or_else(|| Status::from_header_map(response.headers()));
        let (code, message) = status
            .as_ref()
            .map_or((Code::Ok, ""), |s| (s.code(), s.message()));
        match audit.record(caller, code, message).await {
            Ok(()) => response,
            Err(status) => refuse(status),
        }
    }

    /// A stream that needs no token.
    async fn public_stream(&self, request: Request, next: Next) -> Response {
        match source(request.extensions()) {
            Ok(source) => self.public_streams.answer(source, request, next).await,
            Err(status) => status.into_http(),
        }
    }

    async fn identify(
        &self,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Option<Identity>, Status> {
        let token = bearer(headers).map_err(|wrong| Status::unauthenticated(wrong.to_string()))?;
        match (token, method.access.level) {
            // A bad one is told even where none is needed: its owner thinks that it counts.
            (Some(token), _) => {
                let known = if method.access.other_audiences {
                    self.authenticator.authenticate_for_any(token)
                } else {
                    self.authenticator.authenticate(token)
                };
                known.await.map(Some).map_err(refusal)
            }
            (None, Level::Public) => Ok(None),
            (None, _) => Err(Status::unauthenticated(
                "a token is needed: Authorization: Bearer …",
            )),
        }
    }
}

fn source(request: &Extensions) -> Result<IpAddr, Status> {
    let source = request.get::<Source>().map(|source| source.0);
    source.ok_or_else(|| Status::internal("nobody knows where the request came from"))
}

pub(super) fn refusal(error: AuthError) -> Status {
    match error {
        AuthError::Unavailable(_) => Status::unavailable(error.to_string()),
        // Which claim is wrong is nobody's business but the log's.
        AuthError::Invalid(reason) => {
            tracing::debug!(reason, "a token was refused");
            // Who has one that is right otherwise learns nothing by it.
            let told = match reason {
                ELSEWHERE => "the token is for another service, not for this one",
                _ => "the token is not valid",
            };
            Status::unauthenticated(told)
        }
    }
}

fn allow(method: &Method, identity: Option<&Identity>) -> Result<(), Status> {
    let access = &method.access;
    let Some(identity) = identity else {
        return match access.level {
            Level::Public => Ok(()),
            _ => Err(Status::unauthenticated("a token is needed")),
        };
    };
    if access.level == Level::Admin && !identity.is_admin() {
        return Err(Status::permission_denied("the role `admin` is needed"));
    }
    if !access.callers.is_empty() && !access.callers.contains(&identity.account_type) {
        let text = match identity.account_type {
            AccountType::Human => "only system accounts may call this",
            AccountType::System => "only people may call this",
        };
        return Err(Status::permission_denied(text));
    }
    Ok(())
}

/// Around all methods.
pub(super) async fn enforce(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    if OPEN_STREAMS.contains(&path) {
        return access.public_stream(request, next).await;
    }
    if OPEN.iter().any(|service| path.starts_with(service)) {
        return next.run(request).await;
    }
    // REST has asked already. Nobody but the server itself writes a request's extensions.
    if (request.extensions().get::<Caller>()).is_some_and(|caller| caller.method == path) {
        return next.run(request).await;
    }
    let Some(method) = access.methods.get(path).copied() else {
        return Status::unimplemented("there is no such method").into_http();
    };
    let (parts, body) = request.into_parts();
    let authenticator = Arc::clone(&access.authenticator);
    let streaming = Arc::clone(&access);
    let run = async move |parts: Parts| {
        // The method may change neither.
        let token = bearer(&parts.headers).ok().flatten().map(str::to_owned);
        let request = Request::from_parts(parts, body);
        understood(match token {
            _ if !method.server_streams => next.run(request).await,
            Some(token) => streams::while_valid(next.run(request).await, token, authenticator),
            None => streaming.public_stream(request, next).await,
        })
    };
    access.guard(method, parts, Status::into_http, run).await
}

/// A message that cannot be read is its sender's fault, which tonic takes for the server's.
fn understood(response: Response) -> Response {
    match response.extensions().get::<Status>() {
        Some(status) if is_broken(status) => {
            let text = format!("the message is none of this method: {}", status.message());
            Status::invalid_argument(text).into_http()
        }
        _ => response,
    }
}

#[cfg(test)]
pub(super) mod tests;
