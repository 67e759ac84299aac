use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn serves_metrics_and_health_until_cancelled() {
    let listener = bind_metrics("127.0.0.1:0".parse().unwrap(), false)
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    let cancel = CancellationToken::new();
    let server = tokio::spawn(serve_metrics(
        listener,
        || io::Result::Ok("x_total 1\n# EOF\n".to_owned()),
        cancel.clone(),
    ));
    let metrics = get(address, "/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    assert!(metrics.contains(OPEN_METRICS), "{metrics}");
    assert!(metrics.ends_with("x_total 1\n# EOF\n"), "{metrics}");
    assert!(get(address, "/healthz").await.ends_with("ok\n"));
    assert!(get(address, "/other").await.starts_with("HTTP/1.1 404"));
    cancel.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_failed_scrape_is_no_empty_success() {
    type Render = fn() -> io::Result<String>;
    let rows: [(&str, Render, &str); 2] = [
        ("an error", || Err(io::Error::other("no map")), ": no map\n"),
        ("a panic", || panic!("on purpose"), "panicked"),
    ];
    for (what, render, reason) in rows {
        let listener = bind_metrics("127.0.0.1:0".parse().unwrap(), false)
            .await
            .unwrap();
        let address = listener.local_addr().unwrap();
        let cancel = CancellationToken::new();
        tokio::spawn(serve_metrics(listener, render, cancel.clone()));
        let answer = get(address, "/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 500"), "{what}: {answer}");
        assert!(answer.contains(reason), "{what}: {answer}");
        cancel.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_cut() {
    let listener = bind_metrics("127.0.0.1:0".parse().unwrap(), false)
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    let cancel = CancellationToken::new();
    let render = || io::Result::Ok(String::new());
    tokio::spawn(serve_metrics(listener, render, cancel.clone()));
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut byte = [0];
    assert_eq!(silent.read(&mut byte).await.unwrap_or(0), 0);
    cancel.cancel();
}

#[tokio::test]
async fn only_loopback_unless_told() {
    let rows = [
        ("127.0.0.1:0", true),
        ("[::1]:0", true),
        ("[::ffff:127.0.0.1]:0", true),
        ("0.0.0.0:0", false),
        ("[::]:0", false),
    ];
    for (address, fine) in rows {
        let result = bind_metrics(address.parse().unwrap(), false).await;
        assert_eq!(result.is_ok(), fine, "{address}");
    }
    assert!(
        bind_metrics("0.0.0.0:0".parse().unwrap(), true)
            .await
            .is_ok()
    );
}

#[test]
fn a_bad_filter_is_named() {
    let config = LogConfig {
        level: "info,=wat=".into(),
    };
    let e = init(&config, LogFormat::Text).unwrap_err();
    assert!(e.to_string().contains("=wat="), "{e}");
    for (level, fine) in [
        ("info", true),
        ("INFO,mc_proxy::relay=debug", true),
        ("warn,[request{a=1}]=trace", true),
        ("verbose", false),
        ("info,mc_proxy=loud", false),
    ] {
        let level = level.to_owned();
        let read = LogConfig { level }.filter();
        assert_eq!(read.is_ok(), fine, "{read:?}");
    }
}
