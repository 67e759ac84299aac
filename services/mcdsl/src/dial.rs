//! Connections to other servers: TLS 1.3 alone, to whom the CAs in a file vouch for. Tools, services that ask MCIAS and pages that log in by
//! it all go this way.
//!
//! Rejected: tonic's own TLS, which offers TLS 1.2 as well, and buries which of name, CA and address is wrong.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use rustls::{
    AlertDescription, ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName,
    version::TLS13,
};
use serde::{Deserialize, Serialize};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Endpoint, Uri};

/// For the connection, and for the TLS handshake: each.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Of `https://` without a port (RFC 9110 §4.2.2).
const HTTPS: u16 = 443;
/// Of a [`ServerUrl`].
const IS_ONE: &str = "it was read from such a text";

/// What is spoken in TLS, as it is negotiated (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// gRPC, which is HTTP/2 (RFC 9113 §3.2).
    Grpc,
    /// HTTP/1.1.
    #[cfg(feature = "web")]
    Http1,
}

impl Protocol {
    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Grpc => b"h2",
            #[cfg(feature = "web")]
            Self::Http1 => b"http/1.1",
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// Nothing comes.
    #[error("it does not answer")]
    Silent,
    /// No TCP.
    #[error("{0}")]
    Connect(io::Error),
    /// No TLS.
    #[error("no TLS with it: {0}")]
    Handshake(io::Error),
    /// No TLS without a PROXY header (`server/unproxied.rs`).
    #[error("it takes this machine for a proxy, and there was no PROXY header")]
    Unproxied,
    /// TLS, and not what is to be spoken in it.
    #[error("it does not speak {0:?}")]
    Protocol(Protocol),
}

fn refused(error: io::Error) -> DialError {
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(rustls::Error::AlertReceived(AlertDescription::AccessDenied)) => DialError::Unproxied,
        _ => DialError::Handshake(error),
    }
}

/// Connects to one server.
pub(crate) struct Dialer {
    name: ServerName<'static>,
    port: u16,
    protocol: Protocol,
    tls: TlsConnector,
    /// Where it is, if its name does not say that.
    here: Option<Here>,
}

/// A server on this machine, by its own configuration.
#[derive(Clone, Debug)]
pub(crate) struct Here {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// From these a header is demanded that says for whom they connect.
    pub(crate) proxies: Vec<IpNet>,
}

impl Here {
    /// Where a connection to it goes.
    pub(crate) fn reached(&self) -> SocketAddr {
        reached(self.address)
    }
}

/// Where a connection to what listens at an address goes: to "any" on this machine.
pub(crate) fn reached(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

/// To a server that demands a header of this machine as of a proxy, it says that who connects speaks for itself.
///
/// # Errors
/// If it cannot be written.
pub(crate) async fn unproxied(tcp: &mut TcpStream, proxies: &[IpNet]) -> io::Result<()> {
    let from = tcp.local_addr()?.ip().to_canonical();
    if proxies.iter().any(|net| net.contains(&from)) {
        tcp.write_all(b"PROXY UNKNOWN\r\n").await?;
    }
    Ok(())
}

impl Dialer {
    /// Of the server that has the name, or the address, and a certificate that leads to one of `roots`.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub(crate) fn new(
        name: ServerName<'static>,
        port: u16,
        roots: RootCertStore,
        protocol: Protocol,
    ) -> Result<Self, rustls::Error> {
        let mut tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![protocol.alpn().to_vec()];
        Ok(Self {
            name,
            port,
            protocol,
            tls: TlsConnector::from(Arc::new(tls)),
            here: None,
        })
    }

    /// To a server on this machine, whatever its name says.
    pub(crate) fn here(self, here: Option<Here>) -> Self {
        Self { here, ..self }
    }

    /// A connection, made within 10 s.
    ///
    /// # Errors
    /// [`DialError`].
    pub(crate) async fn dial(&self) -> Result<TlsStream<TcpStream>, DialError> {
        let silent = |_| DialError::Silent;
        let connect = async {
            let Some(here) = &self.here else {
                let host = self.name.to_str();
                return TcpStream::connect((&*host, self.port)).await;
            };
            let mut tcp = TcpStream::connect(here.reached()).await?;
            unproxied(&mut tcp, &here.proxies).await?;
            Ok(tcp)
        };
        let tcp = timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(silent)?
            .map_err(DialError::Connect)?;
        // A call is one small message.
        tcp.set_nodelay(true).map_err(DialError::Connect)?;
        let tls = timeout(CONNECT_TIMEOUT, self.tls.connect(self.name.clone(), tcp))
            .await
            .map_err(silent)?
            .map_err(refused)?;
        if tls.get_ref().1.alpn_protocol() != Some(self.protocol.alpn()) {
            return Err(DialError::Protocol(self.protocol));
        }
        Ok(tls)
    }
}

/// Where a service's gRPC is: `https://host:port`, in one spelling; without a port it is 443.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerUrl {
    /// A name, or an address without brackets.
    host: String,
    port: u16,
}

/// A text that says no server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no server: {why}; write it like https://server.example.org, or https://server.example.org:9443"
)]
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
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let port = match authority.strip_prefix(uri.host().unwrap_or_default()) {
            Some("") => Some(HTTPS),
            _ => uri.port_u16().filter(|port| *port != 0),
        };
        let port = port.ok_or_else(|| no("its port is none"))?;
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
    /// Of a name or an address, and a port.
    ///
    /// # Errors
    /// If they are none.
    pub(crate) fn of(host: &str, port: u16) -> Result<Self, ServerUrlError> {
        match host.contains(':') {
            true => format!("https://[{host}]:{port}").parse(),
            false => format!("https://{host}:{port}").parse(),
        }
    }

    /// gRPC at this server, by connections of [`Self::dialer`].
    pub(crate) fn endpoint(&self) -> Endpoint {
        // To tonic it is plain: TLS is the connector's.
        let plain = format!("http://{}", self.authority()).parse::<Uri>();
        let origin = self.to_string().parse::<Uri>();
        let (plain, origin) = plain.and_then(|plain| Ok((plain, origin?))).expect(IS_ONE);
        Endpoint::from(plain).origin(origin)
    }

    /// Connects to this server for gRPC.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub(crate) fn dialer(&self, roots: RootCertStore) -> Result<Dialer, rustls::Error> {
        let name = ServerName::try_from(self.host.clone()).expect(IS_ONE);
        Dialer::new(name, self.port, roots, Protocol::Grpc)
    }

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
            (
                "no port",
                "https://MCIAS.example",
                Some("https://mcias.example:443"),
            ),
            (
                "none of an IPv6 address",
                "https://[2001:db8::1]/",
                Some("https://[2001:db8::1]:443"),
            ),
            ("an empty port", "https://mcias.example:", None),
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
}
