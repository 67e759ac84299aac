//! Hellos that curl and OpenSSL send over a loopback socket.

use std::{
    io::{ErrorKind, Read},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use mc_proxy::client_hello::Reader;

use crate::hello::{read_bytewise, seen, seen_by_rustls, seen_by_tls_parser};
use crate::wire::message_of;

/// Long enough for a busy machine; reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends its client, whatever happens.
struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a client at a port of its own and gives what it sends until the reader is done.
fn capture(program: &str, arguments: &[&str]) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let arguments = arguments.iter().map(|a| a.replace("PORT", &port));
    let mut client = Client(
        Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{program} is needed (apt-get install curl openssl): {e}")),
    );
    let mut stream = accept(&listener, &mut client, program);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    let mut reader = Reader::default();
    while reader
        .advance(&bytes)
        .unwrap_or_else(|e| panic!("{program}: {e}: {bytes:02x?}"))
        .is_none()
    {
        let mut buffer = [0; 256];
        let n = stream.read(&mut buffer).unwrap();
        assert_ne!(n, 0, "{program} closed after {bytes:02x?}");
        bytes.extend_from_slice(&buffer[..n]);
    }
    bytes
}

fn accept(listener: &TcpListener, client: &mut Client, program: &str) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                return stream;
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(2)),
            Err(e) => panic!("accept: {e}"),
        }
        if let Some(status) = client.0.try_wait().unwrap() {
            panic!("{program} ended without connecting: {status}");
        }
        assert!(Instant::now() < deadline, "{program} did not connect");
    }
}

#[test]
fn names_and_protocols_of_real_clients() {
    const S_CLIENT: [&str; 3] = ["s_client", "-connect", "127.0.0.1:PORT"];
    let openssl = |more: &[&'static str]| [&S_CLIENT[..], more].concat();
    let post_quantum = Command::new("openssl")
        .args(["list", "-kem-algorithms"])
        .output()
        .expect("openssl is needed");
    let post_quantum = String::from_utf8_lossy(&post_quantum.stdout).contains("X25519MLKEM768");
    let curl = |more: &[&'static str]| {
        let common = [
            "-sk",
            "--noproxy",
            "*",
            "--resolve",
            "curl.example:PORT:127.0.0.1",
        ];
        [&common[..], more].concat()
    };
    let mut rows = vec![
        (
            "curl",
            "curl, HTTP/2",
            curl(&["--http2", "https://curl.example:PORT/"]),
            Some("curl.example"),
            "h2 http/1.1",
        ),
        (
            "curl",
            "curl, HTTP/1.1",
            curl(&["--http1.1", "https://curl.example:PORT/"]),
            Some("curl.example"),
            "http/1.1",
        ),
        (
            "curl",
            "curl, no ALPN",
            curl(&["--no-alpn", "https://CURL.Example:PORT/"]),
            Some("curl.example"),
            "",
        ),
        (
            "curl",
            "curl to an address",
            curl(&["--no-alpn", "https://127.0.0.1:PORT/"]),
            None,
            "",
        ),
        (
            "curl",
            "curl, TLS 1.2",
            curl(&[
                "--no-alpn",
                "--tls-max",
                "1.2",
                "https://curl.example:PORT/",
            ]),
            Some("curl.example"),
            "",
        ),
        (
            "openssl",
            "s_client",
            openssl(&["-servername", "Openssl.Example", "-alpn", "h2,x"]),
            Some("openssl.example"),
            "h2 x",
        ),
        (
            "openssl",
            "without a name",
            openssl(&["-noservername"]),
            None,
            "",
        ),
        (
            "openssl",
            "TLS 1.2",
            openssl(&["-tls1_2", "-servername", "a_b.example"]),
            Some("a_b.example"),
            "",
        ),
        (
            "openssl",
            "classical groups",
            openssl(&["-groups", "X25519:P-256", "-servername", "c.example"]),
            Some("c.example"),
            "",
        ),
        (
            "openssl",
            "small records",
            openssl(&[
                "-split_send_frag",
                "512",
                "-max_send_frag",
                "512",
                "-servername",
                "f.example",
            ]),
            Some("f.example"),
            "",
        ),
    ];
    if post_quantum {
        rows.push((
            "openssl",
            "post-quantum",
            openssl(&["-groups", "X25519MLKEM768", "-servername", "pq.example"]),
            Some("pq.example"),
            "",
        ));
    } else {
        println!(
            "this OpenSSL has no X25519MLKEM768: post-quantum hellos come from rustls only (hello.rs)"
        );
    }
    for (program, description, arguments, name, protocols) in rows {
        let bytes = capture(program, &arguments);
        let got = read_bytewise(&bytes).unwrap().expect(description);
        let protocols: Vec<Vec<u8>> = protocols
            .split_whitespace()
            .map(|p| p.as_bytes().to_vec())
            .collect();
        let wanted = (name.map(str::to_owned), protocols);
        assert_eq!(seen(&got), wanted, "{description}");
        assert_eq!(
            seen_by_tls_parser(&message_of(&bytes)),
            wanted,
            "{description}: tls-parser"
        );
        assert_eq!(
            seen_by_rustls(&bytes).unwrap().expect(description),
            wanted,
            "{description}: rustls"
        );
    }
}
