//! Who is at an address: this server, or another program.

use std::net::SocketAddr;

use mc_testkit::ca::Ca;
use mcdsl::server::Found;
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use crate::notes::Running;

/// A program that says so much to whoever comes.
async fn says(text: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(text).await;
        }
    });
    address
}

#[tokio::test]
async fn a_program_that_answers_is_not_taken_for_this_one() {
    let running = Running::start(|_| {}).await;
    let behind = Running::start(|config| {
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let (other, nobody) = (Running::start(|_| {}).await, {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    });
    for (description, of, address, wanted) in [
        ("HTTPS", &running, running.handle.address, None),
        ("gRPC", &running, running.handle.grpc, None),
        ("behind proxies", &behind, behind.handle.address, None),
        ("nobody", &running, nobody, Some("Nobody")),
        (
            "any port",
            &running,
            "127.0.0.1:0".parse().unwrap(),
            Some("Nobody"),
        ),
        (
            "the same program with another certificate",
            &running,
            other.handle.address,
            Some("another certificate than"),
        ),
        (
            "a program without TLS",
            &running,
            says(b"220 mail.example ESMTP\r\n").await,
            Some("does not speak TLS 1.3"),
        ),
        (
            "one that says nothing and closes",
            &running,
            says(b"").await,
            Some("does not speak TLS 1.3"),
        ),
    ] {
        let found = of.config.examine().who_is_at(address, "/v1/ping").await;
        match wanted {
            None => assert!(matches!(found, Found::Own(_)), "{description}: {found:?}"),
            Some(wanted) => {
                let found = format!("{found:?}");
                assert!(found.contains(wanted), "{description}: {found}");
            }
        }
    }
    // Its files were made another's meanwhile.
    let certificate = Ca::new().unwrap().issue(&["localhost"]).unwrap();
    certificate.write(other.directory.path(), "next").unwrap();
    let mut config = other.config.clone();
    config.tls_cert = other.directory.path().join("next.crt");
    let examined = config.examine();
    assert_eq!(examined.problems.len(), 1, "not its key");
    let found = examined.who_is_at(other.handle.address, "/v1/ping").await;
    assert_eq!(found, Found::Somebody, "there is nothing to tell it by");
}
