use super::*;
use crate::auth::{AuthError, Authenticator, Identity};
use std::{pin::Pin, time::Duration};

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
    // The clock is the test's. A second is for what is still sent, lest the answer is not read.
    assert_eq!(begin.elapsed().as_secs(), 121);
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
            sealed: crate::server::never_sealed(),
            metrics: Box::new(String::new),
        };
        let error = router(app, &Shutdown::new(), Bodies::new()).map(drop).err();
        assert_eq!(error.is_none(), starts, "{package}");
        let said = error.map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(said.contains(package), !starts, "{package}: {said}");
    }
}
