//! With hyper behind it, as it is used.

use std::convert::Infallible;

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    runtime::Builder,
    task::JoinHandle,
};

use super::*;

const LIMITS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(60));

/// `/sum` reads the body; `/upgrade` becomes an echo; `/no` refuses to.
async fn answer(
    gate: Arc<Gate>,
    mut request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let _busy = gate.busy();
    let upgrade = request
        .extensions()
        .get::<hyper::upgrade::OnUpgrade>()
        .is_some();
    let mut response = Response::new(Full::default());
    match request.uri().path() {
        "/upgrade" => {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, "upgrade".parse().unwrap());
            headers.insert(header::UPGRADE, "x".parse().unwrap());
            let upgraded = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgraded.await.unwrap());
                let mut buffer = [0; 64];
                while let Ok(n @ 1..) = io.read(&mut buffer).await {
                    io.write_all(&buffer[..n]).await.unwrap();
                }
            });
            // Long enough for what comes early to be read early.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        "/sum" => match request.into_body().collect().await {
            Ok(body) => *response.body_mut() = body.to_bytes().len().to_string().into(),
            Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
        },
        _ => {}
    }
    if upgrade {
        gate.decide(response.status() == StatusCode::SWITCHING_PROTOCOLS);
    }
    Ok(response)
}

fn serve((head, idle): (Duration, Duration)) -> (DuplexStream, JoinHandle<hyper::Result<()>>) {
    let (client, server) = duplex(1 << 16);
    let gate = Arc::new(Gate::default());
    let mut guarded = Guarded::new(server, Arc::clone(&gate));
    (guarded.head, guarded.idle) = (head, idle);
    let service = service_fn(move |request| answer(Arc::clone(&gate), request));
    let served = tokio::spawn(async move {
        http1::Builder::new()
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(guarded), service)
            .with_upgrades()
            .await
    });
    (client, served)
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(30), future).await })
        .unwrap()
}

/// Everything that is answered until the connection ends.
async fn exchange(pieces: impl Iterator<Item = &[u8]>) -> String {
    let (mut client, served) = serve(LIMITS);
    for piece in pieces {
        // It may be closed by now.
        if client.write_all(piece).await.is_err() {
            break;
        }
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    let _ = served.await.unwrap();
    answer
}

fn statuses(answer: &str) -> Vec<&str> {
    (answer.split("HTTP/1.1 ").skip(1))
        .map(|response| &response[..3])
        .collect()
}

#[test]
fn what_is_refused_is_answered_in_order_and_nothing_after_it() {
    const GOOD: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const LAST: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    const BAD: &str = "GET / HTTP/1.1\nHost: a\r\n\r\n";
    const SUM: &str = "POST /sum HTTP/1.1\r\nHost: a\r\n";
    for (description, stream, wanted) in [
        ("a bad head", format!("{BAD}{GOOD}"), vec!["400"]),
        (
            "after a good one",
            format!("{GOOD}{BAD}{GOOD}"),
            vec!["200", "400"],
        ),
        (
            "the last byte of a head",
            format!("{GOOD}GET / HTTP/1.1\r\nX: y\r\n\r\n{GOOD}"),
            vec!["200", "400"],
        ),
        (
            "a bad body",
            format!("{SUM}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0x1\r\nb\r\n0\r\n\r\n{GOOD}"),
            vec!["400"],
        ),
        (
            "a bad trailer",
            format!("{SUM}Transfer-Encoding: chunked\r\n\r\n0\r\nHost: b\r\n\r\n{GOOD}"),
            vec!["400"],
        ),
        (
            "after a body",
            format!("{SUM}Content-Length: 3\r\n\r\nabc{BAD}{GOOD}"),
            vec!["200", "400"],
        ),
        (
            "nothing bad",
            format!(
                "\r\n{GOOD}{SUM}Transfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nA: b\r\n\r\n{LAST}"
            ),
            vec!["200", "200", "200"],
        ),
        (
            "no upgrade",
            format!("GET /no HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n{GOOD}{LAST}"),
            vec!["200", "200", "200"],
        ),
        (
            "no upgrade, then bad",
            format!("GET /no HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n{GOOD}{BAD}"),
            vec!["200", "200", "400"],
        ),
        (
            "two asked, none given",
            format!(
                "GET /no HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\nGET /no HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n{LAST}"
            ),
            vec!["200", "200", "200"],
        ),
    ] {
        for size in [1, 7, 1 << 16] {
            let answer = block_on(exchange(stream.as_bytes().chunks(size)));
            assert_eq!(
                statuses(&answer),
                wanted,
                "{description}, {size} bytes at a time: {answer}"
            );
        }
    }
}

#[test]
fn a_tunnel_may_begin_early() {
    let bytes = b"\0\n\nno \x01 request\r\n";
    for size in [1, 7, 1 << 16] {
        block_on(async {
            let (mut client, _served) = serve(LIMITS);
            let head =
                b"GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
            let stream = [&head[..], bytes].concat();
            for piece in stream.chunks(size) {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            let mut answer = Vec::new();
            while !answer.ends_with(bytes) {
                assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0, "{size}");
            }
            assert!(answer.starts_with(b"HTTP/1.1 101 "), "{size}");
        });
    }
}

#[test]
fn a_slow_head_and_silence_end_the_connection() {
    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(3600);
    for (description, limits, sent, fails, answered) in [
        ("silence", (LONG, SHORT), "", false, &[][..]),
        (
            "silence after a request",
            (LONG, SHORT),
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            false,
            &["200"],
        ),
        ("a byte", (SHORT, LONG), "G", true, &["408"]),
        ("half a head", (SHORT, LONG), "GET / HT", true, &["408"]),
        (
            "half a field",
            (SHORT, LONG),
            "GET / HTTP/1.1\r\nHost: a\r\nX",
            true,
            &["408"],
        ),
        (
            "all but the end",
            (SHORT, LONG),
            "GET / HTTP/1.1\r\nHost: a\r\n\r",
            true,
            &["408"],
        ),
        (
            "half a second head",
            (SHORT, LONG),
            "GET / HTTP/1.1\r\nHost: a\r\n\r\nG",
            true,
            &["200", "408"],
        ),
        ("an empty line", (SHORT, LONG), "\r\n", false, &[]),
    ] {
        block_on(async {
            let (mut client, served) = serve(limits);
            client.write_all(sent.as_bytes()).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert_eq!(served.await.unwrap().is_err(), fails, "{description}");
            assert_eq!(statuses(&answer), answered, "{description}: {answer}");
            if answered.contains(&"408") {
                for line in ["408 Request Timeout\r\n", "\r\nconnection: close\r\n"] {
                    assert!(answer.contains(line), "{description}: {answer}");
                }
            }
        });
    }
}

#[test]
fn a_body_and_a_tunnel_may_take_longer() {
    const SHORT: Duration = Duration::from_millis(5);
    block_on(async {
        let (mut client, _served) = serve((SHORT, SHORT));
        let head = "POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        for byte in [b"a", b"b"] {
            tokio::time::sleep(10 * SHORT).await;
            client.write_all(byte).await.unwrap();
        }
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("\r\n\r\n2"), "{answer}");
        let (mut client, _served) = serve((SHORT, SHORT));
        let head = "GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0);
        }
        tokio::time::sleep(10 * SHORT).await;
        client.write_all(b"!").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'!');
    });
}
