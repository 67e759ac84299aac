//! The connection of a tool to its service, and what is to be done if there is none.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rustls::{AlertDescription, CertificateError, RootCertStore};
use secrecy::{ExposeSecret as _, SecretString};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
    transport::{Channel, Uri},
};

use super::{Exit, Failure, chain};
use crate::{
    certificate,
    dial::{DialError, Here, ServerUrl},
    server,
};

/// For an answer. A login may wait for its turn behind others.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Where a service is, and who vouches for it.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its name and port, for errors too.
    pub url: ServerUrl,
    /// The CAs of its certificate, PEM.
    pub ca: PathBuf,
    here: Option<Here>,
}

impl Place {
    /// Where its name leads.
    #[must_use]
    pub fn new(url: ServerUrl, ca: PathBuf) -> Self {
        let here = None;
        Self { url, ca, here }
    }

    /// The service of a configuration, on this machine: where its gRPC listens, by a name that its certificate has.
    ///
    /// # Errors
    /// [`Exit::Usage`] if there is no certificate with a name.
    pub fn here(config: &server::Config, ca: PathBuf) -> Result<Self, Failure> {
        let name = certificate::name_in(&config.tls_cert).map_err(|e| {
            Failure::usage(format_args!("[server] tls_cert: {}", chain(&e)))
                .hint("or say by --server and --ca where it is")
        })?;
        let address = config.grpc_listen;
        let url = ServerUrl::of(&name, address.port()).map_err(Failure::usage)?;
        let proxies = config.trusted_proxies.clone();
        let here = Some(Here { address, proxies });
        Ok(Self { url, ca, here })
    }

    /// Connects. Calls time out after 30 s.
    ///
    /// # Errors
    /// As [`connect`].
    pub async fn connect(&self) -> Result<Channel, Failure> {
        let anchors = anchors(&self.ca)?;
        let failed = |e: &dyn std::error::Error| self.unavailable(chain(e));
        let dialer = self.url.dialer(anchors).map_err(|e| failed(&e))?;
        let told = Arc::new((dialer.here(self.here.clone()), self.clone()));
        let connector = tower::service_fn(move |_: Uri| {
            let told = Arc::clone(&told);
            async move {
                let (dialer, place) = &*told;
                let stream = dialer.dial().await;
                stream.map(TokioIo::new).map_err(|e| place.missed(&e))
            }
        });
        let endpoint = self.url.endpoint().timeout(REQUEST_TIMEOUT);
        endpoint
            .connect_with_connector(connector)
            .await
            .map_err(|e| said(&e).unwrap_or_else(|| failed(&e)))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)?;
        match &self.here {
            Some(here) => write!(f, " (at {})", here.reached()),
            None => Ok(()),
        }
    }
}

/// Connects to a server whose certificate leads to a CA in the file `ca` (PEM). Calls time out after 30 s.
///
/// # Errors
/// [`Exit::Usage`] if there is no CA in the file; [`Exit::Unavailable`] with what to do if there is nobody, or somebody else.
pub async fn connect(server: &ServerUrl, ca: &Path) -> Result<Channel, Failure> {
    Place::new(server.clone(), ca.to_owned()).connect().await
}

/// Whether there is a CA in the file `ca` (PEM), for whom connects later.
///
/// # Errors
/// [`Exit::Usage`].
pub fn check_ca(ca: &Path) -> Result<(), Failure> {
    anchors(ca).map(drop)
}

fn anchors(ca: &Path) -> Result<RootCertStore, Failure> {
    certificate::anchors(ca)
        .map_err(|e| Failure::usage(chain(&e)).hint("name the CA's file (PEM): --ca"))
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

impl Place {
    /// Why there is no connection, and what may be done.
    fn missed(&self, error: &DialError) -> Failure {
        let ca = self.ca.display();
        let no_grpc = (
            "it does not speak gRPC".to_owned(),
            "is this the port of the service's gRPC?",
        );
        let (why, hint) = match error {
            DialError::Silent => return self.unavailable(error.to_string()),
            DialError::Connect(e) => (e.to_string(), "is it running, and is this its address?"),
            DialError::Protocol(_) => no_grpc,
            DialError::Unproxied => (
                error.to_string(),
                "connect through the proxy, or from an address that is not among server.trusted_proxies there",
            ),
            DialError::Handshake(e) => match e.get_ref().and_then(|e| e.downcast_ref()) {
                Some(rustls::Error::InvalidCertificate(
                    CertificateError::UnknownIssuer | CertificateError::BadSignature,
                )) => (
                    format!("its certificate does not lead to the CA in {ca}"),
                    "name the file of the CA that issued it",
                ),
                Some(rustls::Error::InvalidCertificate(e)) => (
                    format!("its certificate is refused: {e}"),
                    "say a name that its certificate is for (--server), and look whether the clock is right",
                ),
                Some(rustls::Error::AlertReceived(
                    AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure,
                )) => (
                    "it does not speak TLS 1.3".to_owned(),
                    "is this the service's own address?",
                ),
                Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
                    no_grpc
                }
                _ => (
                    error.to_string(),
                    "is this the port of the service's gRPC? If the service trusts this machine as a proxy, connect through the proxy",
                ),
            },
        };
        self.unavailable(why).hint(hint)
    }

    fn unavailable(&self, why: String) -> Failure {
        Failure::new(
            Exit::Unavailable,
            format_args!("cannot connect to {self}: {why}"),
        )
    }
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
        bearer(token).map(Some).map(Self)
    }
}

/// What `authorization` says for a token.
pub(crate) fn bearer(token: &SecretString) -> Result<MetadataValue<Ascii>, Failure> {
    let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.expose_secret())
        .parse()
        .map_err(|_| Failure::usage("this is no token: it has characters that none has"))?;
    value.set_sensitive(true);
    Ok(value)
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
    fn a_bearer_shows_nothing() {
        let bearer = Bearer::new(&"abc.def.ghi".into()).unwrap();
        assert!(!format!("{bearer:?}").contains("abc"), "{bearer:?}");
        assert!(Bearer::new(&"a\nb".into()).is_err());
    }
}
