//! Who is at an address of the configuration: this service, or a program that has taken its place. That something takes connections there says
//! neither.
//!
//! It is this one if it proves in a handshake to have the key of the configured certificate; what it then answers is the caller's to judge, for
//! several services may share a certificate.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    version::TLS13,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::Config;
use crate::dial::{reached, unproxied};

/// For all of it.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes of an answer.
const MAX_ANSWER: u64 = 64 * 1024;

/// Who is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nobody takes connections.
    Nobody,
    /// Somebody, and there is no certificate to tell him by.
    Somebody,
    /// Somebody else, and how that shows.
    Another(String),
    /// Who has the certificate's key, and what he answered: a body.
    Own(String),
}

/// Asks for `path` at an address of this machine, as a client of HTTP/1.1, whoever shows `certificate`.
pub(super) async fn ask(
    config: &Config,
    certificate: Option<&CertificateDer<'static>>,
    address: SocketAddr,
    path: &str,
) -> Found {
    // "Any" is no port to be asked at.
    if address.port() == 0 {
        return Found::Nobody;
    }
    let asked = timeout(TIMEOUT, async {
        let mut tcp = match TcpStream::connect(reached(address)).await {
            Ok(tcp) => tcp,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Ok(Found::Nobody);
            }
            Err(error) => return Err(error.to_string()),
        };
        let Some(certificate) = certificate else {
            return Ok(Found::Somebody);
        };
        exchange(config, certificate, &mut tcp, path)
            .await
            .map(Found::Own)
    });
    match asked.await {
        Ok(Ok(found)) => found,
        Ok(Err(why)) => Found::Another(why),
        Err(_) => Found::Another("it does not answer".to_owned()),
    }
}

async fn exchange(
    config: &Config,
    certificate: &CertificateDer<'static>,
    tcp: &mut TcpStream,
    path: &str,
) -> Result<String, String> {
    let failed = |error: io::Error| error.to_string();
    let to = tcp.peer_addr().map_err(failed)?.ip();
    let header = unproxied(tcp, &config.trusted_proxies).await;
    header.map_err(failed)?;
    let no_tls = |error: &dyn std::fmt::Display| format!("it does not speak TLS 1.3: {error}");
    let client = client().map_err(|error| no_tls(&error))?;
    // Not looked at: the certificate itself is known.
    let name = ServerName::from(to);
    let tls = TlsConnector::from(client).connect(name, tcp).await;
    let mut tls = tls.map_err(|error| no_tls(&error))?;
    let shown = tls.get_ref().1.peer_certificates();
    if shown.and_then(<[_]>::first) != Some(certificate) {
        return Err(format!(
            "it shows another certificate than {}; or it is this service, and has refused that one: see its log",
            config.tls_cert.display()
        ));
    }
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    tls.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    // What came before an end without close_notify is there.
    let _ = tls.take(MAX_ANSWER).read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap_or_default();
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 ") => Ok(body.to_owned()),
        _ => Err("it does not answer in HTTP/1.1".to_owned()),
    }
}

fn client() -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Whoever(provider)))
        .with_no_client_auth();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(client))
}

/// Takes any certificate whose key is proved: which one it was is looked at afterwards. Nothing secret is ever said to him.
#[derive(Debug)]
struct Whoever(Arc<CryptoProvider>);

impl ServerCertVerifier for Whoever {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
