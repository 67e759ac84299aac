//! The connection of a tool to its service: gRPC over TLS 1.3, to what one CA vouches for.
//!
//! Rejected: tonic's own TLS, which offers TLS 1.2 as well, and buries which of name, CA and address is wrong.

use std::{fmt, path::Path, str::FromStr, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, crypto::aws_lc_rs, pki_types::ServerName,
    version::TLS13,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
    transport::{Channel, Endpoint, Uri},
};

use super::{Exit, Failure, chain};
use crate::certificate;

/// For the connection, and for the TLS handshake: each.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For an answer. A login may wait for its turn behind others.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// gRPC is HTTP/2 (RFC 9113 §3.2).
const ALPN: &[u8] = b"h2";

/// Where a service's gRPC is: `https://host:port`, in one spelling.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerUrl {
    /// A name, or an address without brackets.
    host: String,
    port: u16,
}

/// A text that says no server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no server: {why}; write it like https://mcias.example:9443")]
pub struct ServerUrlError {
    text: String,
    why: &'static str,
}

impl FromStr for ServerUrl {
    type Err = ServerUrlError;

    fn from_str(text: &str) -> Result<Self, ServerUrlError> {
        let no = |why| ServerUrlError {
            text: text.to_owned(),
            why,
        };
        let uri: Uri = text.parse().map_err(|_| no("it is no URL"))?;
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") => return Err(no("tokens would go over http unencrypted")),
            _ => return Err(no("it does not begin with https://")),
        }
        if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
            return Err(no("it names a user"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(no("it has a path"));
        }
        let port = uri.port_u16().filter(|port| *port != 0);
        let port = port.ok_or_else(|| no("it has no port"))?;
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if ServerName::try_from(host).is_err() {
            return Err(no("it has no host"));
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl ServerUrl {
    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

impl TryFrom<String> for ServerUrl {
    type Error = ServerUrlError;

    fn try_from(text: String) -> Result<Self, ServerUrlError> {
        text.parse()
    }
}

impl From<ServerUrl> for String {
    fn from(url: ServerUrl) -> Self {
        url.to_string()
    }
}

/// Connects to a server whose certificate leads to a CA in the file `ca` (PEM). Calls time out after 30 s.
///
/// # Errors
/// [`Exit::Usage`] if there is no CA in the file; [`Exit::Unavailable`] with what to do if there is nobody, or somebody else.
pub async fn connect(server: &ServerUrl, ca: &Path) -> Result<Channel, Failure> {
    let anchors = certificate::anchors(ca)
        .map_err(|e| Failure::usage(chain(&e)).hint("name the CA's file (PEM)"))?;
    let failed = |e: &dyn std::error::Error| unavailable(server, chain(e));
    let mut tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| failed(&e))?
        .with_root_certificates(anchors)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let dialer = Arc::new(Dialer {
        server: server.clone(),
        ca: ca.display().to_string(),
        tls: TlsConnector::from(Arc::new(tls)),
    });
    let origin = server.to_string().parse().map_err(|e| failed(&e))?;
    // To tonic it is plain: TLS is the connector's.
    let endpoint = Endpoint::from_shared(format!("http://{}", server.authority()))
        .map_err(|e| failed(&e))?
        .origin(origin)
        .timeout(REQUEST_TIMEOUT);
    let connector = tower::service_fn(move |_: Uri| {
        let dialer = Arc::clone(&dialer);
        async move { dialer.dial().await.map(TokioIo::new) }
    });
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|e| said(&e).unwrap_or_else(|| failed(&e)))
}

/// The failure that the connector gave.
fn said(error: &tonic::transport::Error) -> Option<Failure> {
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return Some(failure.clone());
        }
        next = cause.source();
    }
    None
}

struct Dialer {
    server: ServerUrl,
    ca: String,
    tls: TlsConnector,
}

impl Dialer {
    async fn dial(&self) -> Result<TlsStream<TcpStream>, Failure> {
        let ServerUrl { host, port } = &self.server;
        let failed = |why: String| unavailable(&self.server, why);
        let silent = |_| failed("it does not answer".to_owned());
        let tcp = timeout(CONNECT_TIMEOUT, TcpStream::connect((host.as_str(), *port)))
            .await
            .map_err(silent)?
            .map_err(|e| failed(e.to_string()).hint("is it running, and is this its address?"))?;
        // A call is one small message.
        tcp.set_nodelay(true).map_err(|e| failed(e.to_string()))?;
        let name = ServerName::try_from(host.clone()).map_err(|e| failed(e.to_string()))?;
        let tls = timeout(CONNECT_TIMEOUT, self.tls.connect(name, tcp))
            .await
            .map_err(silent)?
            .map_err(|e| self.refused(&e))?;
        if tls.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(failed("it does not speak gRPC".to_owned())
                .hint("is this the port of the service's gRPC?"));
        }
        Ok(tls)
    }

    /// A handshake that failed.
    fn refused(&self, error: &std::io::Error) -> Failure {
        use rustls::Error as Tls;
        let cause = error.get_ref().and_then(|e| e.downcast_ref::<Tls>());
        let (why, hint) = match cause {
            Some(Tls::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => (
                format!("its certificate does not lead to the CA in {}", self.ca),
                "name the file of the CA that issued it",
            ),
            Some(Tls::InvalidCertificate(e)) => (
                format!("its certificate is refused: {e}"),
                "is this the name that its certificate is for, and is the clock right?",
            ),
            Some(Tls::AlertReceived(
                AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure,
            )) => (
                "it does not speak TLS 1.3".to_owned(),
                "is this the service's own address?",
            ),
            Some(Tls::AlertReceived(AlertDescription::NoApplicationProtocol)) => (
                "it does not speak gRPC".to_owned(),
                "is this the port of the service's gRPC?",
            ),
            _ => (
                format!("no TLS with it: {error}"),
                "is this the port of the service's gRPC?",
            ),
        };
        unavailable(&self.server, why).hint(hint)
    }
}

fn unavailable(server: &ServerUrl, why: String) -> Failure {
    Failure::new(
        Exit::Unavailable,
        format_args!("cannot connect to {server}: {why}"),
    )
}

/// Puts a token (RFC 6750 §2.1) into each call, if there is one.
#[derive(Clone, Debug, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    /// Of a token.
    ///
    /// # Errors
    /// [`Exit::Usage`] if it cannot be in a header.
    pub fn new(token: &SecretString) -> Result<Self, Failure> {
        let mut value: MetadataValue<Ascii> =
            format!("Bearer {}", token.expose_secret())
                .parse()
                .map_err(|_| Failure::usage("this is no token: it has characters that none has"))?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            let metadata = request.metadata_mut();
            metadata.insert("authorization", value.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_one_spelling() {
        for (description, text, want) in [
            (
                "as it is",
                "https://mcias.example:9443",
                Some("https://mcias.example:9443"),
            ),
            (
                "a slash and capitals",
                "HTTPS://MCIAS.Example:9443/",
                Some("https://mcias.example:9443"),
            ),
            (
                "an IPv4 address",
                "https://192.0.2.1:1",
                Some("https://192.0.2.1:1"),
            ),
            (
                "an IPv6 address",
                "https://[2001:db8::1]:9443",
                Some("https://[2001:db8::1]:9443"),
            ),
            ("unencrypted", "http://mcias.example:9443", None),
            ("another scheme", "unix:/run/x.sock", None),
            ("no scheme", "mcias.example:9443", None),
            ("no port", "https://mcias.example", None),
            ("port 0", "https://mcias.example:0", None),
            ("a port that is none", "https://mcias.example:99999", None),
            ("a path", "https://mcias.example:9443/v1", None),
            ("a query", "https://mcias.example:9443/?a", None),
            ("a user", "https://ada:pw@mcias.example:9443", None),
            ("no host", "https://:9443", None),
            ("an underscore of nothing", "https://a b:9443", None),
            ("empty", "", None),
        ] {
            let parsed = text.parse::<ServerUrl>();
            let shown = parsed.as_ref().ok().map(ToString::to_string);
            assert_eq!(shown.as_deref(), want, "{description}: {parsed:?}");
            if let Ok(url) = parsed {
                assert_eq!(url.to_string().parse(), Ok(url), "{description}: again");
            }
        }
    }

    #[test]
    fn a_bearer_shows_nothing() {
        let bearer = Bearer::new(&"abc.def.ghi".into()).unwrap();
        assert!(!format!("{bearer:?}").contains("abc"), "{bearer:?}");
        assert!(Bearer::new(&"a\nb".into()).is_err());
    }
}
