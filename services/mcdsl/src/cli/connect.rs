//! The connection of a tool to its service, and what is to be done if there is none.

use std::{path::Path, sync::Arc, time::Duration};

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
    dial::{DialError, ServerUrl},
};

/// For an answer. A login may wait for its turn behind others.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects to a server whose certificate leads to a CA in the file `ca` (PEM). Calls time out after 30 s.
///
/// # Errors
/// [`Exit::Usage`] if there is no CA in the file; [`Exit::Unavailable`] with what to do if there is nobody, or somebody else.
pub async fn connect(server: &ServerUrl, ca: &Path) -> Result<Channel, Failure> {
    let anchors = anchors(ca)?;
    let failed = |e: &dyn std::error::Error| unavailable(server, chain(e));
    let dialer = server.dialer(anchors).map_err(|e| failed(&e))?;
    let told = Arc::new((dialer, server.clone(), ca.display().to_string()));
    let connector = tower::service_fn(move |_: Uri| {
        let told = Arc::clone(&told);
        async move {
            let (dialer, server, ca) = &*told;
            let stream = dialer.dial().await;
            stream.map(TokioIo::new).map_err(|e| missed(server, ca, &e))
        }
    });
    let endpoint = server.endpoint().timeout(REQUEST_TIMEOUT);
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|e| said(&e).unwrap_or_else(|| failed(&e)))
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

/// Why there is no connection, and what may be done.
fn missed(server: &ServerUrl, ca: &str, error: &DialError) -> Failure {
    let no_grpc = (
        "it does not speak gRPC".to_owned(),
        "is this the port of the service's gRPC?",
    );
    let (why, hint) = match error {
        DialError::Silent => return unavailable(server, error.to_string()),
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
                "is this the name that its certificate is for, and is the clock right?",
            ),
            Some(rustls::Error::AlertReceived(
                AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure,
            )) => (
                "it does not speak TLS 1.3".to_owned(),
                "is this the service's own address?",
            ),
            Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => no_grpc,
            _ => (
                error.to_string(),
                "is this the port of the service's gRPC? If the service trusts this machine as a proxy, connect through the proxy",
            ),
        },
    };
    unavailable(server, why).hint(hint)
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
