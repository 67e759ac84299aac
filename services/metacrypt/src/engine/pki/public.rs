//! What everybody may have, over plain HTTP and without a token: certificates of CAs, CRLs (RFC 5280) and OCSP (RFC 6960, RFC 5019).

use std::{net::IpAddr, sync::Arc};

use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use data_encoding::BASE64;
use mcdsl::server::Source;
use x509_cert::der::Encode as _;

use super::{
    COST_US, ISSUERS, KIND, crls, is_item_name,
    issuer::{Issuer, IssuerId},
    ocsp::{self, Asked, MAX_REQUEST},
    pem, ready,
    serial::Serial,
    signed::{Answer, ocsp as sign},
    store::{Record, Settings},
};
use crate::{api::Api, barrier::Items, engine::EngineError, entered::Public, http::missing};

/// Several certificates, and one (RFC 8555 §9.1, RFC 2585 §4).
const PEM: &str = "application/pem-certificate-chain";
const DER: &str = "application/pkix-cert";
/// RFC 2585 §4, RFC 6960 appendix A.
const CRL: &str = "application/pkix-crl";
const OCSP: &str = "application/ocsp-response";

/// Seconds that caches may keep a CRL: what is revoked is told to all that much later at most.
const CRL_KEPT_S: u64 = 300;
/// And an answer of OCSP.
const OCSP_KEPT_S: u64 = 60;

pub(super) fn routes(api: &Api) -> Router {
    // What is to be trusted, by nobody's word but this.
    let trusted = Router::new()
        .route("/{mount}/ca", get(default_root))
        .route("/{mount}/ca/chain", get(default_chain))
        .with_state(api.clone());
    trusted.merge(signed(api))
}

/// What others vouch for: whoever has it verifies it by what he trusts already.
pub(super) fn signed(api: &Api) -> Router {
    Router::new()
        .route("/{mount}/crl", get(default_crl))
        .route("/{mount}/issuer/{name}", get(certificate))
        .route("/{mount}/issuer/{name}/der", get(certificate_der))
        .route("/{mount}/issuer/{name}/chain", get(chain))
        .route("/{mount}/issuer/{name}/crl", get(crl))
        .route("/{mount}/issuer/{name}/ocsp", post(ocsp_by_post))
        .route("/{mount}/issuer/{name}/ocsp/{*request}", get(ocsp_by_get))
        .with_state(api.clone())
}

/// Why there is nothing.
struct Failed(EngineError);

impl<E: Into<EngineError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        missing(self.0)
    }
}

type Answered = Result<Response, Failed>;

fn typed(kind: &'static str, body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, kind)], body.into()).into_response()
}

/// As [`typed`]; anybody may keep it for so many seconds.
fn kept(kind: &'static str, for_s: u64, body: impl Into<Body>) -> Response {
    let cached = format!("public, max-age={for_s}, must-revalidate");
    ([(header::CACHE_CONTROL, cached)], typed(kind, body)).into_response()
}

fn none(name: &str) -> EngineError {
    EngineError::NotFound("CA", name.to_owned())
}

/// An issuer for everybody, with the seal held open; `None`: the default.
async fn issuer(
    api: &Api,
    mount: &str,
    name: Option<&str>,
) -> Result<(Arc<Public>, Arc<Issuer>), EngineError> {
    let on: Vec<_> = [ISSUERS].into_iter().chain(name).collect();
    let public = Arc::new(api.0.public(&KIND, mount, &on)?);
    let (name, held) = (name.map(ToOwned::to_owned), Arc::clone(&public));
    let find = move |items: &Items<'_>| {
        let name = match name {
            Some(name) => name,
            None => default(items, Public::mount(&held).name())?,
        };
        ready::issuer(Public::mount(&held), items, &name)
    };
    let issuer = public.read(find).await?;
    Ok((public, issuer))
}

fn default(items: &Items<'_>, mount: &str) -> Result<String, EngineError> {
    let none = || {
        EngineError::NotFound(
            "default CA (SetDefault says which one is it) of the mount",
            mount.to_owned(),
        )
    };
    Settings::get(items)?.default.ok_or_else(none)
}

/// What clients are to trust.
async fn default_root(State(api): State<Api>, Path(mount): Path<String>) -> Answered {
    let (_held, issuer) = issuer(&api, &mount, None).await?;
    Ok(typed(PEM, pem::chain(issuer.chain().last())?))
}

async fn default_chain(State(api): State<Api>, Path(mount): Path<String>) -> Answered {
    let (_held, issuer) = issuer(&api, &mount, None).await?;
    Ok(typed(PEM, pem::chain(issuer.chain())?))
}

async fn certificate(
    State(api): State<Api>,
    Path((mount, name)): Path<(String, String)>,
) -> Answered {
    let (_held, issuer) = issuer(&api, &mount, Some(&name)).await?;
    Ok(typed(PEM, pem::chain(issuer.chain().first())?))
}

async fn certificate_der(
    State(api): State<Api>,
    Path((mount, name)): Path<(String, String)>,
) -> Answered {
    let (_held, issuer) = issuer(&api, &mount, Some(&name)).await?;
    let der = issuer.chain().first().cloned();
    Ok(typed(DER, der.unwrap_or_default()))
}

async fn chain(State(api): State<Api>, Path((mount, name)): Path<(String, String)>) -> Answered {
    let (_held, issuer) = issuer(&api, &mount, Some(&name)).await?;
    Ok(typed(PEM, pem::chain(issuer.chain())?))
}

async fn default_crl(State(api): State<Api>, Path(mount): Path<String>) -> Answered {
    list(&api, &mount, None).await
}

async fn crl(State(api): State<Api>, Path((mount, name)): Path<(String, String)>) -> Answered {
    list(&api, &mount, Some(&name)).await
}

async fn list(api: &Api, mount: &str, name: Option<&str>) -> Answered {
    if let Some(name) = name
        && !is_item_name(name)
    {
        return Err(none(name).into());
    }
    // What strangers make up costs no transaction.
    let (_held, issuer) = issuer(api, mount, name).await?;
    // One that is old is made anew, which the service does itself.
    let at = api.0.own(&KIND, mount, "pki.crl")?;
    let served = crls::current(&at, &issuer).await?;
    Ok(kept(CRL, CRL_KEPT_S, served.der.clone()))
}

async fn ocsp_by_post(
    State(api): State<Api>,
    Path((mount, name)): Path<(String, String)>,
    Extension(Source(source)): Extension<Source>,
    body: Body,
) -> Answered {
    let request = axum::body::to_bytes(body, MAX_REQUEST).await;
    let request = request.ok().map(Vec::from);
    status(&api, &mount, &name, source, request, false).await
}

async fn ocsp_by_get(
    State(api): State<Api>,
    Path((mount, name, request)): Path<(String, String, String)>,
    Extension(Source(source)): Extension<Source>,
) -> Answered {
    let request = BASE64.decode(request.as_bytes());
    status(&api, &mount, &name, source, request.ok(), true).await
}

/// The answer to a request; `None`: it is none. One that was asked for by its address (RFC 5019) and has no nonce is the same for all.
async fn status(
    api: &Api,
    mount: &str,
    name: &str,
    source: IpAddr,
    request: Option<Vec<u8>>,
    by_address: bool,
) -> Answered {
    let (held, issuer) = issuer(api, mount, Some(name)).await?;
    let refused = |status| Ok(typed(OCSP, ocsp::refusal(status)?));
    let asked = request.ok_or(ocsp::Status::MalformedRequest);
    let asked = match asked.and_then(|der| Asked::from_der(&der)) {
        Ok(asked) => asked,
        Err(status) => return refused(status),
    };
    let subject = issuer.subject().to_der()?;
    let key = issuer.key().public().spki();
    let key = key.subject_public_key.raw_bytes();
    if !asked.about.iter().all(|id| id.is_of(&subject, key)) {
        // RFC 5019 §2.2.3: of others nothing is known here.
        return refused(ocsp::Status::Unauthorized);
    }
    let (about, by) = (asked.about.clone(), issuer.id().clone());
    let read = move |items: &Items<'_>| {
        let answers = about.iter().map(|id| known(items, &by, id));
        answers.collect::<Result<Vec<_>, _>>()
    };
    let answers = held.read(read).await?;
    let now = api.0.seal.clock().now();
    let same = by_address && asked.nonce.is_none();
    let signed = move || Ok(sign(&issuer, &asked, &answers, now)?);
    let answer = held.beside(source, COST_US, signed).await?;
    Ok(match same {
        true => kept(OCSP, OCSP_KEPT_S, answer),
        false => typed(OCSP, answer),
    })
}

/// What is known of one that was asked about.
fn known(items: &Items<'_>, by: &IssuerId, id: &ocsp::CertId) -> Result<Answer, EngineError> {
    let Some(serial) = Serial::of(id.serial.as_bytes()) else {
        return Ok(Answer::Unknown);
    };
    let record = Record::find(items, &serial)?;
    let record = record.filter(|record| record.by == *by);
    Ok(match record {
        None => Answer::Unknown,
        Some(record) => match record.revoked {
            Some(revocation) => Answer::Revoked(revocation),
            None => Answer::Good,
        },
    })
}
