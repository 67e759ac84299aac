//! ACME (RFC 8555) of a CA: orders by accounts that are bound to accounts of MCIAS, which the policy judges as those.
//!
//! A signed request is read ([`jws`]), its account found and its nonce used up before anything is done by it. Whatever an order comes to is said by its state
//! machine ([`order`]); certificates are issued by the engine's one function, after the policy allowed `pki:issue` on the profile.

mod account;
mod address;
mod answer;
mod dns;
mod here;
mod job;
mod jwk;
mod jws;
mod limit;
mod look;
mod nonce;
mod order;
mod orders;
mod problem;
mod renewal;
mod request;
mod revoke;
pub(super) mod store;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use aws_lc_rs::digest;
use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{Method, Request},
    response::Response,
    routing::{get, post},
};
use data_encoding::BASE64URL_NOPAD;
use ipnet::IpNet;
use mcdsl::server::{Source, network};

pub(super) use self::job::{resume, run};
use self::{
    answer::{Answer, directory, finish},
    here::Here,
    limit::Limit,
    nonce::Nonces,
    problem::{Problem, Type},
    request::{Asked, Sent},
};
use super::ready::Ready;
use crate::{api::Api, barrier::Mount, engine::EngineError};

/// What ACME keeps in memory of a mount.
pub(super) struct Memory {
    nonces: OnceLock<Nonces>,
    /// Who asks without an account, or as none of his.
    strangers: Limit<IpNet>,
    /// New accounts of a network.
    newcomers: Limit<IpNet>,
    /// New orders of an account of MCIAS.
    orders: Limit<String>,
    /// Names of an account of MCIAS that were not shown to be its own.
    failures: Limit<(String, String)>,
    /// Other contacts and keys of an account.
    changes: Limit<String>,
    /// Requests in an account's name by another key, where strangers have asked too often.
    forged: Limit<String>,
    line: Arc<look::Line>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            nonces: OnceLock::new(),
            strangers: Limit::new(3000, Duration::from_millis(3)),
            newcomers: Limit::new(100, Duration::from_secs(5)),
            orders: Limit::new(3000, Duration::from_millis(2)),
            failures: Limit::new(10, Duration::from_secs(60)),
            changes: Limit::new(100, Duration::from_secs(60)),
            forged: Limit::new(100, Duration::from_secs(1)),
            line: Arc::default(),
        }
    }
}

impl Memory {
    fn of(mount: &Mount) -> Result<&Self, EngineError> {
        Ok(&Ready::of(mount)?.acme)
    }

    fn nonces(&self, mount: &Mount) -> &Nonces {
        self.nonces
            .get_or_init(|| Nonces::new(mount.derived("acme nonces").bytes()))
    }
}

/// What a client shows for a challenge (RFC 8555 §8.1).
fn key_authorization(token: &str, thumbprint: &str) -> String {
    format!("{token}.{thumbprint}")
}

/// Its SHA-256, as DNS and TLS have it.
fn authorization_hash(authorization: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, authorization.as_bytes()).as_ref());
    out
}

/// The paths of the protocol, behind the mount. All that is posted is signed.
pub(super) fn routes(api: &Api) -> Router {
    Router::new()
        .route("/{mount}/acme/directory", get(directory))
        .route("/{mount}/acme/new-nonce", get(new_nonce).head(new_nonce))
        .route("/{mount}/acme/renewal-info/{id}", get(renewal::info))
        .route("/{mount}/acme/{*rest}", post(serve))
        .with_state(api.clone())
}

/// RFC 8555 §7.2.
async fn new_nonce(
    State(api): State<Api>,
    Path(mount): Path<String>,
    request: Request<Body>,
) -> Response {
    let here = Here::of(&api, &mount).await;
    let answer = here.as_ref().map_err(Clone::clone).and_then(|here| {
        here.stranger(source(&request)?)?;
        let status = match *request.method() {
            Method::HEAD => 200,
            _ => 204,
        };
        Ok(Answer::empty(status))
    });
    finish(here.ok().as_ref(), answer)
}

/// Where a request comes from.
fn source(request: &Request<Body>) -> Result<std::net::IpAddr, Problem> {
    let source = request.extensions().get::<Source>();
    let unknown = || Problem::new(Type::ServerInternal, "the request came past the server");
    source.map(|source| source.0).ok_or_else(unknown)
}

/// A signed request.
async fn serve(
    State(api): State<Api>,
    Path((mount, rest)): Path<(String, String)>,
    request: Request<Body>,
) -> Response {
    // All of it has come before the seal is held open: who sends slowly keeps nobody from closing it.
    let sent = Sent::read(request).await;
    let here = match Here::of(&api, &mount).await {
        Ok(here) => Arc::new(here),
        Err(problem) => return finish(None, Err(problem)),
    };
    let answer = posted(&here, &rest, sent).await;
    finish(Some(&here), answer)
}

async fn posted(
    here: &Arc<Here>,
    rest: &str,
    sent: Result<Sent, Problem>,
) -> Result<Answer, Problem> {
    let parts: Vec<_> = rest.split('/').collect();
    let asked = Asked::read(here, rest, sent?).await?;
    match parts[..] {
        ["new-account"] => account::new(asked).await,
        ["acct", id] => account::update(asked, id).await,
        ["acct", id, "orders"] => account::orders(asked, id).await,
        ["key-change"] => account::rekey(asked).await,
        ["new-order"] => orders::new(asked).await,
        ["order", id] => orders::get(asked, id).await,
        ["order", id, "finalize"] => orders::finalize(asked, id).await,
        ["authz", id, at] => orders::authorization(asked, id, at).await,
        ["chall", id, at, method] => orders::challenge(asked, id, at, method).await,
        ["cert", serial] => orders::certificate(asked, serial).await,
        ["revoke-cert"] => revoke::revoke(asked).await,
        _ => Err(Problem::not_found("address; ask the directory")),
    }
}

/// What clients say in base64url.
fn decoded(field: &str, text: &str) -> Result<Vec<u8>, Problem> {
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes());
    bytes.map_err(|_| Problem::malformed(format!("{field}: no base64url without padding")))
}

/// Of what one network has.
fn of_source(source: std::net::IpAddr) -> IpNet {
    network(source)
}
