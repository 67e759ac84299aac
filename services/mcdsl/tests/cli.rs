//! A tool's connection with real servers: who is taken, and what is said of those that are not.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use mc_testkit::ca::{Ca, Leaf};
use mcdsl::cli::{Exit, Failure, Place, ServerUrl, connect};
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// A gRPC server on loopback.
async fn serve(leaf: &Leaf, version: &'static SupportedProtocolVersion, alpn: &[u8]) -> SocketAddr {
    let chain = CertificateDer::pem_slice_iter(leaf.chain_pem.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap();
    let mut tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, connections) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(tls) = acceptor.accept(tcp).await
                && sender.send(Ok::<_, std::io::Error>(tls)).await.is_err()
            {
                break;
            }
        }
    });
    let (_, health) = tonic_health::server::health_reporter();
    let server = tonic::transport::Server::builder()
        .add_service(health)
        .serve_with_incoming(ReceiverStream::new(connections));
    tokio::spawn(server);
    address
}

fn url(host: &str, address: SocketAddr) -> ServerUrl {
    format!("https://{host}:{}", address.port())
        .parse()
        .unwrap()
}

fn ca_file(ca: &Ca) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    std::fs::write(&path, ca.pem()).unwrap();
    (directory, path)
}

#[tokio::test]
async fn calls_go_to_whom_the_ca_vouches_for() {
    let ca = Ca::new().unwrap();
    let (_directory, file) = ca_file(&ca);
    let leaf = ca.issue(&["localhost", "127.0.0.1"]).unwrap();
    let address = serve(&leaf, &TLS13, b"h2").await;
    for host in ["localhost", "127.0.0.1"] {
        let channel = connect(&url(host, address), &file).await.unwrap();
        let mut health = HealthClient::new(channel);
        let answer = health.check(HealthCheckRequest::default()).await.unwrap();
        assert_eq!(answer.into_inner().status, 1, "{host}");
    }
}

#[tokio::test]
async fn a_service_of_this_machine_is_where_its_configuration_says() {
    let ca = Ca::new().unwrap();
    let (directory, file) = ca_file(&ca);
    let certificate = directory.path().join("leaf.pem");
    for (description, names, any) in [
        ("its address", &["crypt.example.org"][..], false),
        ("all addresses", &["crypt.example.org"], true),
        ("a wildcard", &["*.example.org"], false),
        ("an address alone", &["192.0.2.1"], false),
    ] {
        let leaf = ca.issue(names).unwrap();
        std::fs::write(&certificate, &leaf.chain_pem).unwrap();
        let mut address = serve(&leaf, &TLS13, b"h2").await;
        if any {
            address.set_ip(std::net::Ipv4Addr::UNSPECIFIED.into());
        }
        let config = mcdsl::server::Config {
            listen: address,
            grpc_listen: address,
            tls_cert: certificate.clone(),
            tls_key: PathBuf::new(),
            tls_ca: None,
            metrics_listen: None,
            trusted_proxies: Vec::new(),
        };
        let place = Place::here(&config, file.clone()).unwrap();
        let channel = place.connect().await;
        let mut health = HealthClient::new(channel.expect(description));
        let answer = health.check(HealthCheckRequest::default()).await;
        assert_eq!(answer.unwrap().into_inner().status, 1, "{description}");
    }
}

#[tokio::test]
async fn others_are_refused_and_named() {
    let (ca, other) = (Ca::new().unwrap(), Ca::new().unwrap());
    let (_directory, file) = ca_file(&ca);
    let (_other_directory, other_file) = ca_file(&other);
    let leaf = ca.issue(&["localhost"]).unwrap();
    let expired = ca.issue_until(&["localhost"], -60).unwrap();
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for (description, host, address, ca, want) in [
        (
            "another CA",
            "localhost",
            serve(&leaf, &TLS13, b"h2").await,
            &other_file,
            "does not lead to the CA in",
        ),
        (
            "another name",
            "127.0.0.1",
            serve(&leaf, &TLS13, b"h2").await,
            &file,
            "not valid for name",
        ),
        (
            "a certificate that has expired",
            "localhost",
            serve(&expired, &TLS13, b"h2").await,
            &file,
            "expired",
        ),
        (
            "TLS 1.2 alone",
            "localhost",
            serve(&leaf, &TLS12, b"h2").await,
            &file,
            "does not speak TLS 1.3",
        ),
        (
            "HTTP/1.1 alone",
            "localhost",
            serve(&leaf, &TLS13, b"http/1.1").await,
            &file,
            "does not speak gRPC",
        ),
        ("nobody", "127.0.0.1", nobody, &file, "refused"),
        (
            "one that says nothing",
            "127.0.0.1",
            deaf.local_addr().unwrap(),
            &file,
            "does not answer",
        ),
    ] {
        let failure: Failure = connect(&url(host, address), ca).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable, "{description}: {failure}");
        assert!(failure.message.contains(want), "{description}: {failure}");
        let hinted = failure.hint.is_some() || description == "one that says nothing";
        assert!(hinted, "{description}: {failure:?}");
    }
}

#[tokio::test]
async fn a_ca_that_is_none_is_the_callers() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    let server = "https://localhost:1".parse().unwrap();
    for contents in [None, Some("nonsense")] {
        if let Some(contents) = contents {
            std::fs::write(&file, contents).unwrap();
        }
        let failure = connect(&server, &file).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Usage, "{contents:?}: {failure}");
        assert!(failure.message.contains("ca.pem"), "{failure}");
    }
}
