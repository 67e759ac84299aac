//! What is served: gRPC, REST beside it, and the service's own pages, each with what guards it.

use std::{collections::HashSet, sync::Arc};

use axum::{
    Router,
    body::{Bytes, HttpBody as _},
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};
use mc_proto::Level;
use prost_reflect::DescriptorPool;
use tower::{ServiceExt as _, util::MapResponseLayer};
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    App, StartError,
    access::{self, Access, REFLECTION},
    bodies::{Bodies, Hold},
    body::{self, Kind},
    head,
    health::Health,
    host, idle, linger, places, reflection, rest,
};
use crate::{db, shutdown::Shutdown};

/// Bytes of a request, whoever asks, in gRPC as in REST.
const MAX_BODY: usize = 1 << 20;
/// Bytes of a request for a method that anybody may call: what comes is held until it is whole, and all may send at once.
pub(super) const MAX_PUBLIC_BODY: usize = 64 << 10;
/// Bytes of a message for reflection: the name of something.
const MAX_ASKED: usize = 4 << 10;

/// What of an answer is to be kept (nothing: it is somebody's), and taken for what (what it says it is).
const EVERY: [(HeaderName, &str); 2] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];
/// As pages have it: a name that answered over TLS is not asked otherwise.
const HSTS: (HeaderName, &str) = (header::STRICT_TRANSPORT_SECURITY, "max-age=63072000");

/// What is made of an [`App`].
pub(super) struct Built {
    pub(super) router: Router,
    /// The methods alone, with what guards them.
    pub(super) grpc: Router,
    pub(super) metrics: Box<dyn Fn() -> String + Send + Sync>,
    pub(super) health: Health,
    pub(super) access: Arc<Access>,
}

pub(super) fn router(
    app: App,
    shutdown: &Shutdown,
    bodies: Arc<Bodies>,
) -> Result<Built, StartError> {
    let (reporter, service) = tonic_health::server::health_reporter();
    let (health, is_ready) = Health::new(app.package, reporter);
    let definition = |e: &dyn std::fmt::Display| StartError::Definition(e.to_string());
    let reflection = reflection::of(app.package).map_err(|e| definition(&e))?;
    let methods = mc_proto::METHODS
        .iter()
        .filter(|m| m.package == app.package);
    if app.audit.is_none() && methods.clone().any(|m| m.access.audited) {
        return Err(StartError::Audit(app.package));
    }
    let scarce = app.audit.as_ref().map(|audit| audit.scarce());
    let access = Arc::new(Access {
        methods: methods.map(|m| (m.path, m)).collect(),
        authenticator: app.authenticator,
        audit: app.audit,
        sealed: app.sealed,
        tasks: shutdown.tracker().clone(),
        public_streams: Arc::default(),
        scarce: scarce.unwrap_or_default(),
    });
    let enforce = middleware::from_fn_with_state(Arc::clone(&access), access::enforce);
    let grpc = app
        .grpc
        .add_service(service)
        .add_service(reflection)
        .prepare()
        .into_axum_router()
        .layer(enforce);
    let asked = Arc::clone(&access);
    let ready = async move || match (*asked.sealed.borrow(), *is_ready.borrow()) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "not ready: sealed\n"),
        (false, true) => (StatusCode::OK, "ok\n"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    };
    let web = app.web.route("/healthz", get(ready));
    let others = Others {
        web,
        plain: app.plain,
    };
    let router = build(
        app.package,
        grpc.clone(),
        others,
        MAX_BODY,
        bodies,
        Some(&access),
    )?
    .layer(middleware::from_fn(body::timed))
    .layer(CatchPanicLayer::custom(|_| {
        // What it says is in the log, by the hook.
        let mut response = rest::Error::internal().into_response();
        set(&mut response, true);
        response
    }))
    .layer(middleware::from_fn(check_head))
    .layer(middleware::from_fn(linger::around))
    .layer(middleware::from_fn(idle::count));
    Ok(Built {
        router,
        grpc,
        metrics: app.metrics,
        health,
        access,
    })
}

/// Around all requests: refuses those that do not say in one way whom they are for, or have too many fields, in the way of the client that
/// asks.
async fn check_head(request: Request, next: Next) -> Response {
    let grpc = is_grpc(&request);
    let (parts, body) = request.into_parts();
    let flaw = if head::too_many(&parts) {
        let text = format!(
            "the request has more than {} fields in its head",
            head::MAX_FIELDS
        );
        let http = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        rest::Error::from_status(http, text)
    } else if let Some(flaw) = host::flaw(&parts) {
        rest::Error::invalid(flaw)
    } else {
        return next.run(Request::from_parts(parts, body)).await;
    };
    refuse(flaw, grpc)
}

/// An answer in the way of the client that asks, from before anything else has the request.
fn refuse(error: rest::Error, grpc: bool) -> Response {
    let mut response = if grpc {
        error.into_status().into_http()
    } else {
        error.into_response()
    };
    set(&mut response, !grpc);
    response
}

/// What browsers and caches are told.
fn set(response: &mut Response, rest: bool) {
    let all = EVERY.into_iter().chain(rest.then_some(HSTS));
    for (name, value) in all {
        let value = HeaderValue::from_static(value);
        response.headers_mut().entry(name).or_insert(value);
    }
}

/// gRPC, and beside it what else speaks HTTP: REST for the same methods, their OpenAPI document at `/openapi.json`, and `others`. What guards
/// `grpc` guards REST too. `max_body`: bytes of a message of gRPC, or of any other request; but for streams of gRPC a body has two minutes.
///
/// # Errors
/// [`StartError::Definition`].
pub fn api(
    package: &str,
    grpc: Router,
    others: Router,
    max_body: usize,
) -> Result<Router, StartError> {
    let others = Others {
        web: others,
        plain: Router::new(),
    };
    let router = build(package, grpc, others, max_body, Bodies::new(), None)?;
    Ok(router.layer(middleware::from_fn(linger::around)))
}

/// What is beside the methods.
struct Others {
    web: Router,
    plain: Router,
}

/// Plain HTTP, which says as REST does what methods it is not for.
fn said(plain: Router) -> Router {
    plain.method_not_allowed_fallback(async || rest::Error::wrong_method())
}

/// Around what is plain HTTP below `/v1/`, which anybody may ask for.
async fn short(request: Request, next: Next) -> Response {
    let body = |all| body::bounded(all, Kind::Plain, MAX_PUBLIC_BODY, None);
    next.run(request.map(body)).await
}

/// What anybody may have over HTTP without TLS, with what guards it.
pub(super) fn without_tls(routes: Router) -> Router {
    let asked = async |request: Request, next: Next| {
        let asker = places::asker(request.extensions());
        db::asked_by(asker, next.run(request)).await
    };
    said(routes)
        .fallback(async |uri: Uri| rest::Error::not_found(uri.path()))
        .layer(middleware::from_fn(short))
        .layer(middleware::from_fn(asked))
        .layer(MapResponseLayer::new(|mut response: Response| {
            set(&mut response, false);
            response
        }))
        .layer(middleware::from_fn(body::timed))
        .layer(CatchPanicLayer::custom(|_| {
            // What it says is in the log, by the hook.
            rest::Error::internal().into_response()
        }))
        .layer(middleware::from_fn(check_head))
        .layer(middleware::from_fn(linger::around))
        .layer(middleware::from_fn(idle::count))
}

fn build(
    package: &str,
    grpc: Router,
    others: Others,
    max_body: usize,
    bodies: Arc<Bodies>,
    access: Option<&Arc<Access>>,
) -> Result<Router, StartError> {
    let definition = |e: &dyn std::fmt::Display| StartError::Definition(e.to_string());
    let pool = DescriptorPool::decode(mc_proto::DESCRIPTORS).map_err(|e| definition(&e))?;
    let documents: serde_json::Value =
        serde_json::from_str(mc_proto::OPENAPI).map_err(|e| definition(&e))?;
    let document = Bytes::from(documents[package].to_string());
    let mark = |router: Router, rest| {
        router.layer(MapResponseLayer::new(move |mut response: Response| {
            set(&mut response, rest);
            response
        }))
    };
    let grpc = mark(grpc, false);
    let Others { web: others, plain } = others;
    let rest = rest::router(package, &pool, &grpc, access)
        .route(
            "/openapi.json",
            get(move || async move { ([(header::CONTENT_TYPE, "application/json")], document) }),
        )
        .method_not_allowed_fallback(async || rest::Error::method_not_allowed(&["GET"]))
        .fallback(async |uri: Uri| rest::Error::not_found(uri.path()))
        .merge(said(plain).layer(middleware::from_fn(short)));
    let rest = mark(rest, true);
    let uploads: HashSet<&str> = mc_proto::METHODS
        .iter()
        .filter(|method| method.client_streams)
        .map(|method| method.path)
        .chain([REFLECTION])
        .collect();
    let public: HashSet<&str> = mc_proto::METHODS
        .iter()
        .filter(|method| method.access.level == Level::Public)
        .map(|method| method.path)
        .collect();
    // Each says in its own way what it has not: statuses of gRPC, JSON, pages.
    let steer = move |request: Request| {
        let path = request.uri().path();
        let (router, kind) = if is_grpc(&request) {
            let many = uploads.contains(path);
            let kind = if many { Kind::Messages } else { Kind::Message };
            (&grpc, kind)
        } else if path.starts_with("/v1/") || path == "/openapi.json" {
            (&rest, Kind::Plain)
        } else {
            (&others, Kind::Plain)
        };
        let max = match path {
            REFLECTION => max_body.min(MAX_ASKED),
            _ if public.contains(path) => max_body.min(MAX_PUBLIC_BODY),
            _ => max_body,
        };
        let grpc = kind != Kind::Plain;
        let (parts, all) = request.into_parts();
        // What was read of it is in memory until it is answered: the head is already.
        let hold = bodies.hold(&parts.extensions);
        let room = hold.as_ref().map(|hold| hold.more(head::cost(&parts)));
        if all.is_end_stream() {
            hold.iter().for_each(Hold::is_whole);
        }
        let held = hold.clone();
        let asker = places::asker(&parts.extensions);
        let all = body::bounded(all, kind, max, hold);
        let answering = router.clone().oneshot(Request::from_parts(parts, all));
        async move {
            if let Some(Err(status)) = room {
                return Ok(refuse(status.into(), grpc));
            }
            let answer = db::asked_by(asker, answering).await;
            drop(held);
            answer
        }
    };
    Ok(Router::new().fallback(steer))
}

pub(super) fn is_grpc(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

#[cfg(test)]
pub(super) mod tests;
