//! Connections: the certificate, the version of TLS, and whose they are.

use mc_testkit::{
    ca::{Ca, KeyExchange},
    wait_for_async,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::notes::Running;

#[tokio::test]
async fn tls_is_1_3_and_nothing_else() {
    let running = Running::start(|_| {}).await;
    let (status, _) = running.curl(&["--tlsv1.3"], "/v1/ping").await;
    assert_eq!(status, 200);
    let (status, _) = running.curl(&["--tls-max", "1.2"], "/v1/ping").await;
    assert_eq!(status, 0, "TLS 1.2 is refused");
}

#[tokio::test]
async fn a_new_certificate_is_taken_and_a_bad_one_is_not() {
    let running = Running::start(|_| {}).await;
    let directory = running.directory.path();
    let kept = running.channel().await;
    let before = running.handle.tls();
    std::fs::write(directory.join("server.key"), "nonsense").unwrap();
    let refused = wait_for_async("the refusal", async || running.handle.tls().error)
        .await
        .unwrap();
    assert!(refused.contains("server.key"), "{refused}");
    assert_eq!(
        running.curl(&[], "/v1/ping").await.0,
        200,
        "the one before stays"
    );
    running
        .ca
        .issue_until(&["localhost"], 7200)
        .unwrap()
        .write(directory, "server")
        .unwrap();
    let renewed = async || {
        let state = running.handle.tls();
        (state.error.is_none() && state.not_after != before.not_after).then_some(())
    };
    wait_for_async("the new certificate", renewed)
        .await
        .unwrap();
    assert_eq!(running.curl(&[], "/v1/ping").await.0, 200);
    let ping = &mc_proto::METHODS
        .iter()
        .find(|m| m.path.ends_with("/Ping"))
        .unwrap();
    let code = mc_testkit::grpc::code(&kept, ping, None).await;
    assert_eq!(code, tonic::Code::Ok, "connections go on");
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused() {
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(other.path(), Ca::new().unwrap().pem()).unwrap();
    let path = other.path().to_owned();
    let failed = tokio::spawn(Running::start(move |config| config.tls_ca = Some(path))).await;
    assert!(failed.is_err(), "it starts");
}

#[tokio::test]
async fn a_trusted_proxy_tells_the_client_and_nobody_else_does() {
    let header = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n";
    let answers = async |running: &Running, header: &[u8]| {
        let mut stream = tokio::net::TcpStream::connect(running.handle.address)
            .await
            .unwrap();
        stream.write_all(header).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(
            running.ca.client_config(KeyExchange::Classic).unwrap(),
        );
        let name = "localhost".try_into().unwrap();
        let mut tls = connector.connect(name, stream).await.ok()?;
        let request = b"GET /v1/ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        tls.write_all(request).await.ok()?;
        let mut text = String::new();
        // The end without close_notify is an error, and the answer is there.
        let _ = tls.read_to_string(&mut text).await;
        text.starts_with("HTTP/1.1 200").then_some(())
    };
    let trusting =
        Running::start(|config| config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()])
            .await;
    assert!(
        answers(&trusting, header).await.is_some(),
        "a header of a trusted proxy"
    );
    assert!(
        answers(&trusting, b"").await.is_none(),
        "no header of a trusted proxy"
    );
    let direct = Running::start(|_| {}).await;
    assert!(answers(&direct, b"").await.is_some(), "none of anybody");
    assert!(
        answers(&direct, header).await.is_none(),
        "a header of anybody"
    );
}

/// On the proxy's machine, past the proxy.
#[tokio::test]
async fn a_tool_that_is_taken_for_a_proxy_is_told_so() {
    let trusting =
        Running::start(|config| config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()])
            .await;
    let ca = trusting.directory.path().join("tool-ca.pem");
    std::fs::write(&ca, trusting.ca.pem()).unwrap();
    let server = format!("https://127.0.0.1:{}", trusting.handle.grpc.port());
    let server = server.parse().unwrap();
    let failure = mcdsl::cli::connect(&server, &ca).await.unwrap_err();
    assert!(failure.message.contains("for a proxy"), "{failure}");
    let hint = failure.hint.unwrap();
    assert!(hint.contains("through the proxy"), "{hint}");
}

#[tokio::test]
async fn plain_http_is_told_that_this_is_https() {
    let running = Running::start(|_| {}).await;
    let long = format!("POST / HTTP/1.1\r\nHost: x\r\n\r\n{}", "a".repeat(1000));
    for (description, sent, answered) in [
        ("a request", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", true),
        ("with a body", &*long, true),
        (
            "HTTP/2 without TLS",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            true,
        ),
        (
            "a TLS record that is none",
            "\x16\x03\x01\x00\x01\x00",
            false,
        ),
        ("a name in small letters", "get / HTTP/1.1\r\n\r\n", false),
        ("zeros", "\0\0\0\0\0\0", false),
    ] {
        for address in [running.handle.address, running.handle.grpc] {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            // Nothing more comes: the server need not wait for it.
            stream.shutdown().await.unwrap();
            let mut said = Vec::new();
            // What is closed with bytes unread is reset.
            let _ = stream.read_to_end(&mut said).await;
            let said = String::from_utf8_lossy(&said).into_owned();
            let told = said.starts_with("HTTP/1.1 400 ") && said.contains("https://");
            assert_eq!(told, answered, "{description}: {said:?}");
            if let Some((head, body)) = said.split_once("\r\n\r\n") {
                let length = format!("Content-Length: {}", body.len());
                assert!(
                    !answered || head.contains(&length),
                    "{description}: {said:?}"
                );
            }
        }
    }
    assert_eq!(running.curl(&[], "/v1/ping").await.0, 200, "TLS goes on");
}

#[tokio::test]
async fn a_key_that_all_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let running = Running::start(|_| {}).await;
    let key = running.config.tls_key.clone();
    for (mode, fine) in [(0o600, true), (0o640, true), (0o644, false), (0o602, false)] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let problem = running.config.check().err();
        assert_eq!(problem.is_none(), fine, "{mode:o}: {problem:?}");
        if let Some(problem) = problem {
            assert_eq!(problem.key, "server.tls_key");
            assert!(problem.problem.contains("chmod o="), "{problem}");
        }
    }
}

/// What the server says to bytes.
async fn said_to(running: &Running, bytes: &[u8]) -> Vec<u8> {
    let stream = tokio::net::TcpStream::connect(running.handle.address)
        .await
        .unwrap();
    let config = running.ca.client_config(KeyExchange::Classic).unwrap();
    let connector = tokio_rustls::TlsConnector::from(config);
    let name = "localhost".try_into().unwrap();
    let mut tls = connector.connect(name, stream).await.unwrap();
    tls.write_all(bytes).await.unwrap();
    let mut said = vec![0; 4096];
    let mut length = 0;
    // All of the first answer's head: of HTTP/2 the frame after the settings.
    while !said[..length].windows(4).any(|w| w == b"\r\n\r\n") && status(&said[..length]).is_none()
    {
        match tls.read(&mut said[length..]).await.unwrap_or(0) {
            0 => break,
            more => length += more,
        }
    }
    said.truncate(length);
    said
}

/// The first status in frames of HTTP/2, of those that have one byte (RFC 7541, appendix A).
fn status(mut frames: &[u8]) -> Option<u16> {
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = frames {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let frame = rest.get(..length)?;
        if *kind == 1 {
            return match frame.first()? {
                0x88 => Some(200),
                0x8c => Some(400),
                _ => None,
            };
        }
        frames = &rest[length..];
    }
    None
}

#[tokio::test]
async fn a_request_says_once_whom_it_is_for() {
    let running = Running::start(|_| {}).await;
    for (description, hosts, wanted) in [
        ("one", "Host: localhost\r\n", 200),
        ("none", "", 400),
        ("two", "Host: localhost\r\nHost: other\r\n", 400),
        (
            "twice the same",
            "Host: localhost\r\nhost: localhost\r\n",
            400,
        ),
    ] {
        for path in ["/v1/ping", "/healthz", "/openapi.json"] {
            let request = format!("GET {path} HTTP/1.1\r\n{hosts}\r\n");
            let said = said_to(&running, request.as_bytes()).await;
            let text = String::from_utf8_lossy(&said);
            let start = format!("HTTP/1.1 {wanted} ");
            assert!(text.starts_with(&start), "{description}, {path}: {text}");
        }
    }
    // gRPC's clients read a status, not JSON.
    let request = "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n";
    let said = said_to(&running, request.as_bytes()).await;
    let text = String::from_utf8_lossy(&said);
    for part in [
        "HTTP/1.1 200 ",
        "content-type: application/grpc\r\n",
        "grpc-status: 3\r\n",
        "grpc-message: the%20request%20has%20no%20Host%20field\r\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let field = |name: u8, value: &str| {
        // Literal, its name in the static table, not indexed (RFC 7541 §6.2.2).
        let mut field = if name < 15 {
            vec![name]
        } else {
            vec![15, name - 15]
        };
        field.push(u8::try_from(value.len()).unwrap());
        field.extend_from_slice(value.as_bytes());
        field
    };
    let (authority, host) = (|value| field(1, value), |value| field(38, value));
    for (description, said, wanted) in [
        (":authority", authority("localhost"), 200),
        ("Host alone", host("localhost"), 200),
        (
            "both",
            [authority("localhost"), host("localhost")].concat(),
            200,
        ),
        (
            "different ones",
            [authority("localhost"), host("other")].concat(),
            400,
        ),
        ("neither", Vec::new(), 400),
    ] {
        // GET, https.
        let block = [vec![0x82, 0x87], field(4, "/healthz"), said].concat();
        let length = u8::try_from(block.len()).unwrap();
        let bytes = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
            &[0, 0, 0, 4, 0, 0, 0, 0, 0],
            &[0, 0, length, 1, 5, 0, 0, 0, 1],
            &block,
        ]
        .concat();
        let answer = said_to(&running, &bytes).await;
        assert_eq!(status(&answer), Some(wanted), "{description}: {answer:?}");
    }
}

#[tokio::test]
async fn a_head_has_so_many_fields() {
    let running = Running::start(|_| {}).await;
    for (description, version, count, status) in [
        ("HTTP/1.1", "--http1.1", 90, 200),
        ("HTTP/1.1, too many", "--http1.1", 101, 431),
        ("HTTP/2", "--http2", 90, 200),
        ("HTTP/2, too many", "--http2", 101, 431),
    ] {
        let fields: Vec<String> = (0..count).map(|n| format!("x{n}: v")).collect();
        let mut more = vec![version];
        more.extend(fields.iter().flat_map(|field| ["-H", field]));
        let (got, answer) = running.curl(&more, "/v1/ping").await;
        assert_eq!(got, status, "{description}: {answer}");
    }
}
