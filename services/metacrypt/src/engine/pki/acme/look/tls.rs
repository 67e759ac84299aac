//! tls-alpn-01 (RFC 8737): a certificate that says what is wanted, by a protocol of its own on port 443.

use std::{net::IpAddr, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use x509_cert::{
    Certificate,
    der::{
        Decode as _, Encode as _,
        asn1::{ObjectIdentifier, OctetString},
        oid::AssociatedOid as _,
    },
    ext::{Extension, pkix::SubjectAltName},
};

use super::{
    super::{
        super::name::AltName,
        problem::{Problem, Type},
    },
    Around, Miss,
};

const PROTOCOL: &[u8] = b"acme-tls/1";
/// id-pe-acmeIdentifier (RFC 8737 §6.1).
const ACME_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.31");

/// Takes any certificate of whoever has its key: what it says is looked at afterwards, or (behind a redirection) counts for nothing.
#[derive(Debug)]
struct Any(CryptoProvider);

fn bad(_: x509_cert::der::Error) -> Error {
    Error::InvalidCertificate(CertificateError::BadEncoding)
}

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate = Certificate::from_der(cert).map_err(bad)?;
        let info = certificate.tbs_certificate().subject_public_key_info();
        let algorithm = info.algorithm.to_der().map_err(bad)?;
        let key = info.subject_public_key.as_bytes();
        let key = key.ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let mapping = self.0.signature_verification_algorithms.mapping;
        let ours = mapping.iter().filter(|(scheme, _)| *scheme == dss.scheme);
        let good = ours.flat_map(|(_, all)| *all).any(|one| {
            // The identifier is told without its tag and length, which are two bytes of those.
            algorithm.get(2..) == Some(&*one.public_key_alg_id())
                && one.verify_signature(key, message, dss.signature()).is_ok()
        });
        match good {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(Error::InvalidCertificate(CertificateError::BadSignature)),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // As for TLS 1.2, of the certificate the key alone: webpki takes none with a critical extension that it does not know, as acmeIdentifier is.
        let certificate = Certificate::from_der(cert).map_err(bad)?;
        let key = certificate.tbs_certificate().subject_public_key_info();
        let key = SubjectPublicKeyInfoDer::from(key.to_der().map_err(bad)?);
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn failed(why: impl std::fmt::Display) -> Problem {
    Problem::new(Type::Tls, why.to_string())
}

async fn connect(
    stream: TcpStream,
    name: ServerName<'static>,
    protocol: &[u8],
) -> Result<TlsStream<TcpStream>, Problem> {
    let provider = aws_lc_rs::default_provider();
    let verifier = Arc::new(Any(provider.clone()));
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.map_err(failed)
}

/// To whoever answers: for files behind a redirection.
pub(super) async fn any(
    stream: TcpStream,
    host: &AltName,
) -> Result<TlsStream<TcpStream>, Problem> {
    let name = match host {
        AltName::Ip(address) => ServerName::from(*address),
        other => ServerName::try_from(other.to_string()).map_err(failed)?,
    };
    connect(stream, name, b"http/1.1").await
}

/// What an address is asked for by (RFC 8738 §6).
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let mut text = String::new();
            for byte in v6.octets().into_iter().rev() {
                text += &format!("{:x}.{:x}.", byte & 0xf, byte >> 4);
            }
            text + "ip6.arpa"
        }
    }
}

/// Whether the certificate of the name says what is wanted.
pub(super) async fn shows(around: &Around, name: &AltName, hash: &[u8; 32]) -> Result<(), Miss> {
    let stream = around.connect(name, 443).await?;
    let asked = match name {
        AltName::Ip(address) => reverse(*address),
        other => other.to_string(),
    };
    let asked = ServerName::try_from(asked).map_err(failed)?;
    let stream = connect(stream, asked, PROTOCOL).await?;
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(PROTOCOL) {
        return Err(failed("the server does not speak acme-tls/1 (ALPN)").into());
    }
    let certificate = session.peer_certificates().and_then(|all| all.first());
    let certificate = certificate.ok_or_else(|| failed("there is no certificate"))?;
    let said = says(certificate, name, hash);
    Ok(said.map_err(|why| Problem::new(Type::IncorrectResponse, why))?)
}

fn one(all: &[Extension], oid: ObjectIdentifier) -> Option<&Extension> {
    let mut found = all.iter().filter(|extension| extension.extn_id == oid);
    found.next().filter(|_| found.next().is_none())
}

/// Its name alone, and the hash in a critical extension (RFC 8737 §3).
fn says(der: &[u8], name: &AltName, hash: &[u8; 32]) -> Result<(), String> {
    let certificate = Certificate::from_der(der).map_err(|e| format!("the certificate: {e}"))?;
    let all = certificate.tbs_certificate().extensions();
    let all = all.map(Vec::as_slice).unwrap_or_default();
    let names = one(all, SubjectAltName::OID)
        .and_then(|san| SubjectAltName::from_der(san.extn_value.as_bytes()).ok());
    let names = names.map(|names| names.0).unwrap_or_default();
    if !matches!(&*names, [one] if AltName::asked(one).as_ref() == Ok(name)) {
        return Err(format!("the certificate is not for {name} alone"));
    }
    let shown = one(all, ACME_IDENTIFIER).filter(|extension| extension.critical);
    let shown = shown.and_then(|shown| OctetString::from_der(shown.extn_value.as_bytes()).ok());
    match shown.is_some_and(|shown| shown.as_bytes() == hash) {
        true => Ok(()),
        false => Err("the certificate's acmeIdentifier is not the wanted one".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CustomExtension, KeyPair};

    use super::*;

    #[test]
    fn a_certificate_shows_one_name_and_the_hash() {
        let (hash, other) = ([1; 32], [2; 32]);
        let name: AltName = "a.example".parse().unwrap();
        let make = |names: &[&str], extensions: Vec<CustomExtension>| {
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            let mut params = CertificateParams::new(names).unwrap();
            params.custom_extensions = extensions;
            let key = KeyPair::generate().unwrap();
            params.self_signed(&key).unwrap().der().to_vec()
        };
        let acme = |hash| CustomExtension::new_acme_identifier(hash);
        let mut soft = acme(&hash);
        soft.set_criticality(false);
        for (description, names, extensions, wanted) in [
            (
                "as it should be",
                &["a.example"][..],
                vec![acme(&hash)],
                true,
            ),
            ("in capitals", &["A.example"], vec![acme(&hash)], true),
            ("another hash", &["a.example"], vec![acme(&other)], false),
            ("no hash", &["a.example"], vec![], false),
            ("not critical", &["a.example"], vec![soft], false),
            (
                "twice",
                &["a.example"],
                vec![acme(&hash), acme(&hash)],
                false,
            ),
            ("another name", &["b.example"], vec![acme(&hash)], false),
            (
                "two names",
                &["a.example", "b.example"],
                vec![acme(&hash)],
                false,
            ),
            ("no name", &[], vec![acme(&hash)], false),
        ] {
            let got = says(&make(names, extensions), &name, &hash);
            assert_eq!(got.is_ok(), wanted, "{description}: {got:?}");
        }
        assert!(says(b"none", &name, &hash).is_err());
    }

    #[test]
    fn addresses_are_asked_for_backwards() {
        assert_eq!(reverse([192, 0, 2, 1].into()), "1.2.0.192.in-addr.arpa");
        let six = reverse("2001:db8::1".parse().unwrap());
        assert_eq!(
            six,
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
        );
    }
}
