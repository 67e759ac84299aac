//! Between the guestbook and MCIAS stands one who changes what the token endpoint gives, with MCIAS's own key: what of it is believed.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::SystemTime,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{Response, StatusCode},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use mc_testkit::port::free;
use mcdsl::{
    auth::{
        AuthError, Authenticator, Identity,
        token::{Signer, seconds},
    },
    server::{self, App},
    shutdown::Shutdown,
};
use serde_json::{Value, json};
use tonic::service::Routes;

use crate::{
    web::{Browser, Http},
    world::{COOKIE, World, logged_out},
};

type Change = Box<dyn Fn(&Signer, Value) -> Option<Value> + Send>;

/// Who stands between.
struct Between {
    mcias: Http,
    signer: Signer,
    /// What becomes of tokens; `None`: a failure of the server.
    change: Mutex<Change>,
    /// No request for tokens reaches it.
    down: AtomicBool,
    /// How often there were new tokens for a refresh token.
    refreshed: AtomicUsize,
}

struct Nobody;

impl Authenticator for Nobody {
    fn authenticate<'a>(
        &'a self,
        _: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Identity, AuthError>> + Send + 'a>> {
        Box::pin(async { Err(AuthError::Invalid("nobody is known here")) })
    }
}

async fn pass_on(State(between): State<Arc<Between>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap().to_vec();
    let refreshes = body.starts_with(b"grant_type=refresh_token");
    let token = head.uri.path() == "/oauth/token";
    if token && between.down.load(Relaxed) {
        let response = Response::builder().status(StatusCode::BAD_GATEWAY);
        return response.body(Body::empty()).unwrap();
    }
    let answer = between.mcias.send(Request::from_parts(head, body)).await;
    let (head, body) = answer.into_parts();
    if !token || head.status != StatusCode::OK {
        return Response::from_parts(head, Body::from(Bytes::from(body)));
    }
    between.refreshed.fetch_add(usize::from(refreshes), Relaxed);
    let tokens = serde_json::from_slice(&body).unwrap();
    let changed = between.change.lock().unwrap()(&between.signer, tokens);
    let (status, body) = match changed {
        Some(body) if body["error"].is_string() => (StatusCode::BAD_REQUEST, body),
        Some(body) => (StatusCode::OK, body),
        None => (StatusCode::INTERNAL_SERVER_ERROR, json!({})),
    };
    let response = Response::builder().status(status);
    response.body(Body::from(body.to_string())).unwrap()
}

/// A world with somebody between.
async fn world() -> (World, Arc<Between>, Shutdown) {
    let (front, mcias) = (free(), free());
    let world = World::start_behind(front, mcias).await;
    let between = Arc::new(Between {
        mcias: Http::new(&world.mcias),
        signer: world.mcias.signer(),
        change: Mutex::new(Box::new(|_, tokens| Some(tokens))),
        down: AtomicBool::new(false),
        refreshed: AtomicUsize::new(0),
    });
    let shutdown = Shutdown::new();
    serve(front, &world, Arc::clone(&between), &shutdown).await;
    (world, between, shutdown)
}

async fn serve(front: SocketAddr, world: &World, between: Arc<Between>, shutdown: &Shutdown) {
    let at = world.root.path();
    let config = server::Config {
        listen: front,
        grpc_listen: "127.0.0.1:0".parse().unwrap(),
        tls_cert: at.join("server.crt"),
        tls_key: at.join("server.key"),
        tls_ca: None,
        metrics_listen: None,
        trusted_proxies: Vec::new(),
    };
    let app = App {
        package: "metacircular.none.v1",
        grpc: Routes::default(),
        web: Router::new().fallback(pass_on).with_state(between),
        plain: Router::new(),
        authenticator: Arc::new(Nobody),
        audit: None,
        sealed: server::never_sealed(),
        metrics: Box::new(String::new),
    };
    server::start(&config, app, shutdown).await.unwrap();
}

impl Between {
    fn will(&self, change: impl Fn(&Signer, Value) -> Option<Value> + Send + 'static) {
        *self.change.lock().unwrap() = Box::new(change);
    }
}

/// What a JWT says.
fn claims(token: &Value) -> Value {
    let part = token.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64.decode(part).unwrap()).unwrap()
}

/// The token again, with another claim.
fn changed(signer: &Signer, token: &Value, typ: &str, name: &str, value: Value) -> Value {
    let mut claims = claims(token);
    claims[name] = value;
    signer.sign_as(typ, &claims).unwrap().into()
}

fn with_id(name: &'static str, value: Value) -> Change {
    Box::new(move |signer, mut tokens| {
        tokens["id_token"] = changed(signer, &tokens["id_token"], "JWT", name, value.clone());
        Some(tokens)
    })
}

/// The access token is over in so many seconds.
fn over_in(left: i64) -> impl Fn(&Signer, Value) -> Option<Value> + Send {
    move |signer, mut tokens| {
        let end = seconds(SystemTime::now()).saturating_add_signed(left);
        let access = &tokens["access_token"];
        tokens["access_token"] = changed(signer, access, "at+jwt", "exp", end.into());
        Some(tokens)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_something_else_let_nobody_in() {
    let (world, between, _shutdown) = world().await;
    let mut there = world.person("ada").await;
    let now = seconds(SystemTime::now());
    let rows: Vec<(&str, Change)> = vec![
        ("another client's", with_id("aud", "wiki".into())),
        ("another login's", with_id("nonce", "x".into())),
        ("without a nonce", with_id("nonce", Value::Null)),
        (
            "another issuer's",
            with_id("iss", "https://evil.example".into()),
        ),
        ("another person's", with_id("sub", "x".into())),
        ("of another login", with_id("sid", "x".into())),
        ("one that is over", with_id("exp", (now - 60).into())),
        (
            "unsigned",
            Box::new(|_, mut tokens| {
                let head = json!({ "alg": "none", "typ": "JWT", "kid": "k" }).to_string();
                let part = claims(&tokens["id_token"]).to_string();
                tokens["id_token"] =
                    format!("{}.{}.", BASE64.encode(head), BASE64.encode(part)).into();
                Some(tokens)
            }),
        ),
        (
            "an ID token as access token",
            Box::new(|_, mut tokens| {
                tokens["access_token"] = tokens["id_token"].clone();
                Some(tokens)
            }),
        ),
        (
            "an access token for another service",
            Box::new(|signer, mut tokens| {
                let access = &tokens["access_token"];
                tokens["access_token"] = changed(signer, access, "at+jwt", "aud", json!(["wiki"]));
                Some(tokens)
            }),
        ),
        (
            "a service's",
            Box::new(|signer, mut tokens| {
                let access = &tokens["access_token"];
                tokens["access_token"] =
                    changed(signer, access, "at+jwt", "account_type", "system".into());
                Some(tokens)
            }),
        ),
        ("none", Box::new(|_, _| Some(json!({})))),
        ("a failure", Box::new(|_, _| None)),
    ];
    for (description, change) in rows {
        *between.change.lock().unwrap() = change;
        let mut here = world.visitor();
        let back = world.log_in(&mut here, &mut there, "/").await;
        assert!(
            matches!(back.status, 502 | 503),
            "{description}: {}",
            back.status
        );
        assert!(!here.cookies.contains_key(COOKIE), "{description}");
    }
    between.will(|_, tokens| Some(tokens));
    let mut here = world.visitor();
    assert_eq!(world.log_in(&mut here, &mut there, "/").await.status, 200);
}

/// A browser whose session has a token that is to be refreshed.
async fn ageing(world: &World, between: &Between) -> Browser {
    between.will(over_in(60));
    let (mut here, mut there) = (world.visitor(), world.person("ada").await);
    world.log_in(&mut here, &mut there, "/").await;
    here
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_refreshed_once_whoever_asks() {
    let (world, between, _shutdown) = world().await;
    let here = ageing(&world, &between).await;
    between.will(|_, tokens| Some(tokens));
    let mut asked = Vec::new();
    for _ in 0..8 {
        let mut tab = here.clone();
        asked.push(tokio::spawn(async move { tab.get("/").await.status }));
    }
    for status in asked {
        assert_eq!(status.await.unwrap(), 200);
    }
    let mut here = here;
    assert_eq!(here.get("/").await.status, 200);
    assert_eq!(between.refreshed.load(Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_with_its_token_unless_it_is_refreshed() {
    let (world, between, _shutdown) = world().await;
    let mut here = ageing(&world, &between).await;
    // While the token is valid it is nobody's concern that there is no other.
    between.down.store(true, Relaxed);
    assert_eq!(here.get("/").await.status, 200);
    between.down.store(false, Relaxed);
    // One that MCIAS gave and that did not come is lost: the one before is void.
    between.will(|_, _| None);
    here.get("/").await;
    logged_out(&mut here).await;

    let mut here = ageing(&world, &between).await;
    between.will(over_in(-60));
    assert_eq!(
        here.get("/").await.status,
        502,
        "a token that is over already"
    );
    between.down.store(true, Relaxed);
    assert_eq!(here.get("/").await.status, 503, "and no other");
    between.down.store(false, Relaxed);
    between.will(|_, tokens| Some(tokens));
    assert_eq!(here.get("/").await.status, 200, "the next one is good");

    let mut here = ageing(&world, &between).await;
    between.will(|_, _| Some(json!({ "error": "invalid_grant" })));
    assert_eq!(here.get("/").await.location(), "/login?next=%2F");

    // Another person's token by a refresh is nobody's.
    let mut here = ageing(&world, &between).await;
    between.will(|signer, mut tokens| {
        for (name, typ) in [("access_token", "at+jwt"), ("id_token", "JWT")] {
            tokens[name] = changed(signer, &tokens[name], typ, "sub", "mallory".into());
        }
        Some(tokens)
    });
    assert_ne!(here.get("/").await.status, 200);
    assert_ne!(here.get("/").await.status, 200);
}
