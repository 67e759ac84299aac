use super::*;
use axum::{Router, middleware, routing::get};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// SETTINGS, empty.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// SETTINGS: no stream has a window (RFC 9113 §6.5.2, SETTINGS_INITIAL_WINDOW_SIZE).
const NO_WINDOW: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0];
/// HEADERS of stream 1, its end: GET / by the static table (RFC 7541), scheme https.
const GET: &[u8] = &[0, 0, 3, 1, 5, 0, 0, 0, 1, 0x82, 0x84, 0x87];
/// The same of /more, a literal (RFC 7541 §6.2.2).
const GET_MORE: &[u8] = b"\0\0\x09\x01\x05\0\0\0\x01\x82\x04\x05/more\x87";

async fn more() -> Body {
    let pieces = std::iter::repeat(Bytes::from_static(&[b'a'; 1024]));
    Body::from_stream(tokio_stream::iter(pieces.map(Ok::<_, io::Error>)))
}

/// Serves the client, at `/` a text and at `/more` one without an end.
fn serve(client: tokio::io::DuplexStream) -> tokio::task::JoinHandle<()> {
    let activity = Activity::new();
    let router = Router::new()
        .route("/", get(async || "ok"))
        .route("/large", get(async || vec![b'a'; 1 << 20]))
        .route("/more", get(more))
        .layer(middleware::from_fn(count))
        .layer(axum::Extension(Arc::clone(&activity)));
    tokio::spawn(async move {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(OPENING);
        builder.http2().timer(TokioTimer::new());
        let io = TokioIo::new(Timed::new(client, activity));
        let service = TowerToHyperService::new(router);
        let _ = builder.serve_connection_with_upgrades(io, service).await;
    })
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_nothing_ends() {
    for (description, sent, seconds) in [
        ("nothing", vec![], 10),
        ("the beginning of a preface", PREFACE[..4].to_vec(), 10),
        ("a byte of HTTP/1.1", b"G".to_vec(), 10),
        (
            "HTTP/2 without a request",
            [PREFACE, SETTINGS].concat(),
            300,
        ),
        (
            "HTTP/2 after a request",
            [PREFACE, SETTINGS, GET].concat(),
            300,
        ),
    ] {
        let (mut client, server) = tokio::io::duplex(4096);
        let serving = serve(server);
        let begin = Instant::now();
        client.write_all(&sent).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        // The clock is the test's.
        assert_eq!(begin.elapsed().as_secs(), seconds, "{description}");
        let answered = answer.windows(2).any(|bytes| bytes == b"ok");
        assert_eq!(answered, sent.ends_with(GET), "{description}");
        serving.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_takes_nothing_ends() {
    let http1 = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
    for (description, sent, seconds) in [
        (
            "HTTP/2 without a window",
            [PREFACE, NO_WINDOW, GET].concat(),
            120,
        ),
        (
            "and a response without an end",
            [PREFACE, NO_WINDOW, GET_MORE].concat(),
            120,
        ),
        (
            "HTTP/2 with a window, which is not opened again",
            [PREFACE, SETTINGS, GET_MORE].concat(),
            120,
        ),
        (
            "HTTP/1.1 and a response without an end",
            http1("/more"),
            120,
        ),
        (
            "and another request behind it, so that nothing is read",
            [http1("/more"), http1("/")].concat(),
            120,
        ),
        (
            "HTTP/1.1 and a response of one piece, behind it another request",
            [http1("/large"), http1("/")].concat(),
            300,
        ),
    ] {
        // Room for what HTTP/2 says of itself and one window, which is read by nobody.
        let (mut client, server) = tokio::io::duplex(80_000);
        let serving = serve(server);
        let begin = Instant::now();
        client.write_all(&sent).await.unwrap();
        let ended = tokio::time::timeout(4 * IDLE, serving).await;
        assert!(ended.is_ok(), "{description}: it goes on");
        // The clock is the test's; hyper may take one more piece when a connection is looked at, which is each minute.
        let took = begin.elapsed().as_secs();
        let within = seconds..=seconds + LOOK.as_secs();
        assert!(within.contains(&took), "{description}: after {took} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_a_request_stays() {
    let (mut client, server) = tokio::io::duplex(4096);
    let activity = Activity::new();
    let mut timed = Timed::new(server, Arc::clone(&activity));
    client.write_all(PREFACE).await.unwrap();
    let mut bytes = [0; PREFACE.len()];
    timed.read_exact(&mut bytes).await.unwrap();
    let begin = Instant::now();
    let busy = activity.begin();
    let reading = tokio::spawn(async move { timed.read(&mut [0; 1]).await });
    sleep(4 * IDLE).await;
    assert!(!reading.is_finished(), "it waits for us");
    for _ in 0..4 {
        busy.waits_for_client(true);
        sleep(UNTAKEN - LOOK / 2).await;
    }
    assert!(!reading.is_finished(), "it takes something now and then");
    drop(busy);
    let end = begin.elapsed() + IDLE;
    assert_eq!(reading.await.unwrap().unwrap(), 0, "ended");
    assert_eq!(begin.elapsed(), end);
}
