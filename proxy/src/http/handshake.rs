//! Why a TLS handshake failed, for counters and for people: rustls says what, and this says whose affair it is.

use std::io;

use rustls::{AlertDescription as Alert, CertificateError, Error, PeerIncompatible};

use super::Failure;
use crate::health::state::Why;

/// Characters of a reason: a certificate may have any number of names.
const MAX_WHY: usize = 240;

/// With a client.
pub(super) fn with_client(error: &io::Error) -> Failure {
    let (reason, why): (_, Why) = match of_tls(error) {
        Some(Error::NoCertificatesPresented) => {
            ("tls_client_certificate", "it sent no certificate".into())
        }
        Some(Error::InvalidCertificate(why)) => {
            ("tls_client_certificate", certificate(why, "client_ca"))
        }
        Some(Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        )) => ("tls_version", "it does not speak TLS 1.3".into()),
        Some(Error::NoApplicationProtocol) => (
            "tls_alpn",
            "it asks for neither HTTP/2 nor HTTP/1.1 (ALPN)".into(),
        ),
        Some(Error::AlertReceived(
            alert @ (Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateUnknown
            | Alert::CertificateExpired),
        )) => (
            "tls_certificate_refused",
            format!("it refuses the route's certificate ({alert:?})").into(),
        ),
        _ => ("tls_handshake", said(error)),
    };
    Failure::denied(reason, bounded(why))
}

/// With a backend.
pub(super) fn with_backend(error: &io::Error) -> Why {
    bounded(match of_tls(error) {
        Some(Error::InvalidCertificate(why)) => certificate(why, "backend_ca"),
        Some(Error::NoApplicationProtocol | Error::AlertReceived(Alert::NoApplicationProtocol)) => {
            NO_HTTP2.into()
        }
        Some(
            Error::AlertReceived(Alert::ProtocolVersion)
            | Error::PeerIncompatible(
                PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::ServerDoesNotSupportTls12Or13,
            ),
        ) => "it does not speak TLS 1.3".into(),
        Some(Error::InvalidMessage(_)) => "it does not speak TLS".into(),
        _ => said(error),
    })
}

/// Of a backend that TLS is fine with.
pub(super) const NO_HTTP2: &str = "it does not offer HTTP/2 (ALPN h2)";

/// What is wrong with a peer's.
fn certificate(why: &CertificateError, trusted: &str) -> Why {
    match why {
        CertificateError::UnknownIssuer => {
            format!("its certificate is of no CA in {trusted}: unknown issuer").into()
        }
        CertificateError::BadSignature => format!(
            "its certificate is of no CA in {trusted}, but of one with the same name: bad signature"
        )
        .into(),
        why => why.to_string().into(),
    }
}

fn of_tls(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn said(error: &io::Error) -> Why {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            "it closed the connection within the handshake".into()
        }
        _ => error.to_string().into(),
    }
}

fn bounded(why: Why) -> Why {
    match why.char_indices().nth(MAX_WHY) {
        None => why,
        Some((end, _)) => format!("{}…", &why[..end]).into(),
    }
}
