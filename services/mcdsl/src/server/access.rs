//! Who may call what: one place, before every method, by what its definition says.

use std::{
    collections::HashMap,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::SystemTime,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header, request::Parts},
    middleware::Next,
    response::Response,
};
use mc_proto::{AccountType, Level, Method};
use rusqlite::Transaction;
use tokio_util::task::TaskTracker;
use tonic::{Code, Status};

use crate::{
    audit::{self, AuditError, Detail, Entry},
    auth::{AuthError, Authenticator, Identity},
    db::{Store, StoreError},
};

/// A token is not longer; what is, is refused unread.
const MAX_TOKEN: usize = 8 * 1024;
/// Services that are not ours and answer anybody: they tell no more than the OpenAPI document.
const OPEN: [&str; 3] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
];

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
    recorded: Arc<AtomicBool>,
}

impl Caller {
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
}

/// The audit log, as far as the server writes it.
pub trait Audit: Send + Sync {
    /// Writes how a call ended that the method has not recorded itself.
    ///
    /// # Errors
    /// Then the call fails, whatever it did.
    fn record<'a>(
        &'a self,
        caller: &'a Caller,
        outcome: Code,
        message: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<(), Status>> + Send + 'a>>;
}

/// The log of [`crate::audit`] in a service's database.
pub struct Recorder(pub Arc<Store>);

impl Audit for Recorder {
    fn record<'a>(
        &'a self,
        caller: &'a Caller,
        outcome: Code,
        message: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<(), Status>> + Send + 'a>> {
        let (caller, detail) = (caller.clone(), Detail::new().text("message", message));
        Box::pin(async move {
            let write = move |tx: &Transaction<'_>| {
                let entry = Entry {
                    actor: caller.identity.as_ref().into(),
                    source: Some(caller.source),
                    action: caller.method,
                    resource: "",
                    outcome,
                    detail,
                };
                audit::append(tx, &entry, SystemTime::now()).map_err(RecordError::from)
            };
            let written = self.0.write(write).await;
            written.map(drop).map_err(|error| {
                tracing::error!(
                    error = crate::cli::chain(&error),
                    "a call is not in the audit log"
                );
                Status::internal(
                    "the call cannot be written to the audit log; see the service's log",
                )
            })
        })
    }
}

/// Why a call is not in the audit log.
#[derive(Debug, thiserror::Error)]
enum RecordError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// What is asked before every call.
pub(super) struct Access {
    pub(super) methods: HashMap<&'static str, &'static Method>,
    pub(super) authenticator: Arc<dyn Authenticator>,
    pub(super) audit: Option<Arc<dyn Audit>>,
    pub(super) sealed: Box<dyn Fn() -> bool + Send + Sync>,
    /// Calls that go on without their clients.
    pub(super) tasks: TaskTracker,
}

impl Access {
    /// The caller, if it may call that.
    async fn check(
        &self,
        request: &Parts,
    ) -> Result<(&'static Method, Caller, Result<(), Status>), Status> {
        let method = *self
            .methods
            .get(request.uri.path())
            .ok_or_else(|| Status::unimplemented("there is no such method"))?;
        let source = request.extensions.get::<Source>();
        let source = source
            .ok_or_else(|| Status::internal("nobody knows where the request came from"))?
            .0;
        let mut caller = Caller {
            identity: None,
            source,
            method: method.path,
            recorded: Arc::default(),
        };
        let allowed = self.identify(method, &request.headers).await;
        let allowed = allowed.and_then(|identity| {
            caller.identity = identity;
            allow(method, caller.identity.as_ref())?;
            if method.access.needs_unsealed && (self.sealed)() {
                return Err(Status::unavailable(
                    "the service is sealed; unseal it first",
                ));
            }
            Ok(())
        });
        Ok((method, caller, allowed))
    }

    /// Writes down how a call ended, unless that was done.
    async fn record(&self, caller: &Caller, response: Response) -> Response {
        let (false, Some(audit)) = (caller.recorded.load(Relaxed), &self.audit) else {
            return response;
        };
        // A failure is in the head, since nothing went before it; of what succeeded the trailers say so.
        let status = Status::from_header_map(response.headers());
        let (code, message) = status
            .as_ref()
            .map_or((Code::Ok, ""), |s| (s.code(), s.message()));
        match audit.record(caller, code, message).await {
            Ok(()) => response,
            Err(status) => status.into_http(),
        }
    }

    async fn identify(
        &self,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Option<Identity>, Status> {
        let token = bearer(headers)?;
        match (token, method.access.level) {
            // A bad one is told even where none is needed: its owner thinks that it counts.
            (Some(token), _) => self
                .authenticator
                .authenticate(token)
                .await
                .map(Some)
                .map_err(refusal),
            (None, Level::Public) => Ok(None),
            (None, _) => Err(Status::unauthenticated(
                "a token is needed: Authorization: Bearer …",
            )),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Status> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = all.next() else {
        return Ok(None);
    };
    let wrong = || Status::unauthenticated("the Authorization field is not one Bearer token");
    if all.next().is_some() || value.len() > MAX_TOKEN {
        return Err(wrong());
    }
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|v| v.split_once(' '))
        .ok_or_else(wrong)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(wrong());
    }
    Ok(Some(token))
}

fn refusal(error: AuthError) -> Status {
    match error {
        AuthError::Unavailable(_) => Status::unavailable(error.to_string()),
        // Which claim is wrong is nobody's business but the log's.
        AuthError::Invalid(reason) => {
            tracing::debug!(reason, "a token was refused");
            Status::unauthenticated("the token is not valid")
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
    if OPEN
        .iter()
        .any(|service| request.uri().path().starts_with(service))
    {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let (method, caller, allowed) = match access.check(&parts).await {
        Ok(checked) => checked,
        Err(status) => return status.into_http(),
    };
    if allowed.is_ok() {
        parts.extensions.insert(caller.clone());
    }
    let calling = async move {
        match allowed {
            Err(status) => status.into_http(),
            Ok(()) => next.run(Request::from_parts(parts, body)).await,
        }
    };
    if !method.access.audited {
        return calling.await;
    }
    // To its end, whether the client still waits or not: what is done is recorded.
    let (writer, who) = (Arc::clone(&access), caller.clone());
    let done = access.tasks.spawn(async move {
        let response = calling.await;
        writer.record(&who, response).await
    });
    match done.await {
        Ok(response) => response,
        // It panicked, which is in the log.
        Err(_) => {
            let status = Status::internal("an internal error; see the service's log");
            access.record(&caller, status.into_http()).await
        }
    }
}
