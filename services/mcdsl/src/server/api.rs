//! What is served: gRPC, REST beside it, and the service's own pages, each with what guards it.

use std::{collections::HashSet, sync::Arc, time::Duration};

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
use tower_http::{catch_panic::CatchPanicLayer, timeout::RequestBodyTimeoutLayer};

use super::{
    App, StartError,
    access::{self, Access, REFLECTION},
    bodies::{Bodies, Hold},
    body::{self, Kind},
    head,
    health::Health,
    host, idle, places, reflection, rest,
};
use crate::{db, shutdown::Shutdown};

/// Bytes of a request, whoever asks, in gRPC as in REST.
const MAX_BODY: usize = 1 << 20;
/// Bytes of a request for a method that anybody may call: what comes is held until it is whole, and all may send at once.
pub(super) const MAX_PUBLIC_BODY: usize = 64 << 10;
/// Bytes of a message for reflection: the name of something.
const MAX_ASKED: usize = 4 << 10;
/// For the next bytes of a body to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

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
    let access = Arc::new(Access {
        methods: methods.map(|m| (m.path, m)).collect(),
        authenticator: app.authenticator,
        audit: app.audit,
        sealed: app.sealed,
        tasks: shutdown.tracker().clone(),
        public_streams: Arc::default(),
    });
    let enforce = middleware::from_fn_with_state(Arc::clone(&access), access::enforce);
    let grpc = app
        .grpc
        .add_service(service)
        .add_service(reflection)
        .prepare()
        .into_axum_router()
        .layer(enforce);
    let ready = async move || match *is_ready.borrow() {
        true => (StatusCode::OK, "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
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
    .layer(RequestBodyTimeoutLayer::new(BODY_TIMEOUT))
    .layer(CatchPanicLayer::custom(|_| {
        // What it says is in the log, by the hook.
        let mut response = rest::Error::internal().into_response();
        set(&mut response, true);
        response
    }))
    .layer(middleware::from_fn(check_head))
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
    build(package, grpc, others, max_body, Bodies::new(), None)
}

/// What is beside the methods.
struct Others {
    web: Router,
    plain: Router,
}

/// Around what is plain HTTP below `/v1/`, which anybody may ask for.
async fn short(request: Request, next: Next) -> Response {
    let body = |all| body::bounded(all, Kind::Plain, MAX_PUBLIC_BODY, None);
    next.run(request.map(body)).await
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
        .merge(plain.layer(middleware::from_fn(short)));
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

fn is_grpc(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::auth::{AuthError, Authenticator, Identity};
    use std::pin::Pin;

    /// Knows no token.
    pub(in crate::server) struct Nobody;

    impl Authenticator for Nobody {
        fn authenticate<'a>(
            &'a self,
            _: &'a str,
        ) -> Pin<Box<dyn Future<Output = Result<Identity, AuthError>> + Send + 'a>> {
            Box::pin(async { Err(AuthError::Invalid("nobody is known here")) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_bodies_come_within_a_time() {
        use axum::routing::post;
        use tokio::{io::AsyncWriteExt as _, time::Instant};
        let taken = async |body: axum::body::Body| {
            let all = axum::body::to_bytes(body, usize::MAX).await;
            all.map_err(|error| {
                let code = body::status(&error).map(tonic::Status::code);
                assert_eq!(code, Some(tonic::Code::DeadlineExceeded));
                axum::http::StatusCode::REQUEST_TIMEOUT
            })
        };
        let others = Router::new().route("/form", post(taken));
        let router = api("metacircular.mcias.v1", Router::new(), others, MAX_BODY).unwrap();
        let (mut to, from) = tokio::io::duplex(1);
        // A byte from time to time, so that something always comes.
        tokio::spawn(async move {
            for _ in 0..30 {
                let _ = to.write_all(b"a").await;
                tokio::time::sleep(Duration::from_secs(29)).await;
            }
        });
        let body = axum::body::Body::from_stream(tokio_util::io::ReaderStream::new(from));
        let request = Request::post("/form").body(body).unwrap();
        let begin = Instant::now();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), 408);
        // The clock is the test's.
        assert_eq!(begin.elapsed().as_secs(), 120);
    }

    #[tokio::test]
    async fn strangers_who_send_and_never_end_keep_nobody_out() {
        use crate::server::{
            access::Source,
            places::{self, Places},
        };
        let taken = async |body: axum::body::Body| {
            let all = axum::body::to_bytes(body, usize::MAX).await;
            all.map_err(|error| {
                let code = body::status(&error).map(tonic::Status::code);
                assert_eq!(code, Some(tonic::Code::Unavailable));
                StatusCode::SERVICE_UNAVAILABLE
            })
        };
        let others = Router::new().route("/form", axum::routing::post(taken));
        let package = "metacircular.mcias.v1";
        // Of a network one body of 100 bytes, with what head and piece cost.
        let one = 1024 + 5 + 64 + 100 + 64;
        let bodies = Bodies::of(4 * one, 4 * one);
        let others = Others {
            web: others,
            plain: Router::new(),
        };
        let router = build(package, Router::new(), others, MAX_BODY, bodies, None).unwrap();
        let places = Places::new(100);
        let ask = |source: [u8; 4], known: bool, path: &str, body| {
            let place = Arc::new(places.take().ok().unwrap());
            let mut request = Request::post(path).body(body).unwrap();
            request.extensions_mut().insert(Source(source.into()));
            request.extensions_mut().insert(place);
            if known {
                places::known(request.extensions(), "ada");
            }
            router.clone().oneshot(request)
        };
        // A share of each of four networks, and no end.
        let mut held = Vec::new();
        for n in 0..4 {
            let (to, from) = tokio::sync::mpsc::channel(2);
            to.send(Ok::<_, std::io::Error>(vec![b'a'; 100]))
                .await
                .unwrap();
            let stream = tokio_stream::wrappers::ReceiverStream::new(from);
            let body = axum::body::Body::from_stream(stream);
            held.push((
                to.clone(),
                tokio::spawn(ask([192, 0, 2, n], false, "/form", body)),
            ));
            // It was taken once there is room for the next.
            to.reserve_many(2).await.map(drop).unwrap();
            tokio::task::yield_now().await;
        }
        for (description, source, known) in [
            ("who is known", [192, 0, 2, 9], true),
            ("who is known beside one of them", [192, 0, 2, 0], true),
            ("another stranger", [192, 0, 2, 9], false),
        ] {
            let body = axum::body::Body::from("abc");
            let answer = ask(source, known, "/form", body).await.unwrap();
            assert_eq!(answer.status(), 200, "{description}");
        }
        let mut statuses = Vec::new();
        for (to, task) in held {
            drop(to);
            statuses.push(task.await.unwrap().unwrap().status().as_u16());
        }
        statuses.sort_unstable();
        assert_eq!(
            statuses,
            [200, 200, 200, 503],
            "one gave way to the stranger"
        );
        let answer = ask(
            [192, 0, 2, 9],
            false,
            "/form",
            axum::body::Body::from("abc"),
        );
        assert_eq!(answer.await.unwrap().status(), 200, "once there is room");
    }

    #[tokio::test]
    async fn what_is_plain_is_beside_rest_and_short() {
        use axum::{body::Body, routing::post};
        let taken = async |body: Body| match axum::body::to_bytes(body, usize::MAX).await {
            Ok(bytes) => (StatusCode::OK, bytes.len().to_string()),
            Err(error) => {
                let told = body::status(&error).map(|status| status.message().to_owned());
                (StatusCode::PAYLOAD_TOO_LARGE, told.unwrap_or_default())
            }
        };
        let others = Others {
            web: Router::new(),
            plain: Router::new().route("/v1/own/crl", post(taken)),
        };
        let package = "metacircular.mcias.v1";
        let router = build(
            package,
            Router::new(),
            others,
            MAX_BODY,
            Bodies::new(),
            None,
        )
        .unwrap();
        for (description, verb, path, length, status) in [
            (
                "as long as may be",
                "POST",
                "/v1/own/crl",
                MAX_PUBLIC_BODY,
                200,
            ),
            ("longer", "POST", "/v1/own/crl", MAX_PUBLIC_BODY + 1, 413),
            ("another method", "GET", "/v1/own/crl", 0, 405),
            ("nothing", "POST", "/v1/own/other", 0, 404),
            ("a method's path", "DELETE", "/v1/accounts", 0, 405),
        ] {
            let request = Request::builder().method(verb).uri(path);
            let request = request.body(Body::from(vec![b'a'; length])).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), status, "{description}");
            assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
        }
    }

    #[tokio::test]
    async fn audited_methods_need_an_audit_log() {
        for (package, starts) in [
            ("metacircular.example.v1", false),
            ("metacircular.none.v1", true),
        ] {
            let app = App {
                package,
                grpc: tonic::service::Routes::default(),
                web: Router::new(),
                plain: Router::new(),
                authenticator: Arc::new(Nobody),
                audit: None,
                sealed: Box::new(|| false),
                metrics: Box::new(String::new),
            };
            let error = router(app, &Shutdown::new(), Bodies::new()).map(drop).err();
            assert_eq!(error.is_none(), starts, "{package}");
            let said = error.map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(said.contains(package), !starts, "{package}: {said}");
        }
    }
}
