//! What clients will check of a certificate: its time, its chain, its name.

use std::{
    net::IpAddr,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::{prelude::GeneralName, time::ASN1Time, x509::X509Version};

use super::{CertificateError, anchors, parsed};
use crate::{hostname::HostPattern, human};

/// Every one, the last as well, which a verifier would take as given. Says when the first ends.
pub(super) fn validity(
    path: &Path,
    chain: &[CertificateDer<'_>],
    now: SystemTime,
) -> Result<SystemTime, CertificateError> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let mut end = i64::MAX;
    for (number, der) in (1..).zip(chain) {
        let certificate = parsed(path, number, der)?;
        if certificate.version() != X509Version::V3 {
            return Err(CertificateError::Version {
                path: path.to_owned(),
                number,
                subject: certificate.subject().to_string(),
                version: certificate.version().0 + 1,
            });
        }
        let (from, until) = (
            certificate.validity().not_before,
            certificate.validity().not_after,
        );
        let state = if now < from.timestamp() {
            format!("is not valid before {}", at(from))
        } else if now > until.timestamp() {
            format!("has expired at {}", at(until))
        } else {
            end = end.min(until.timestamp());
            continue;
        };
        return Err(CertificateError::Validity {
            path: path.to_owned(),
            number,
            subject: certificate.subject().to_string(),
            state,
        });
    }
    Ok(UNIX_EPOCH + Duration::from_secs(u64::try_from(end).unwrap_or(0)))
}

/// As all other times are written.
fn at(time: ASN1Time) -> String {
    human::utc(time.timestamp().saturating_mul(1000))
}

/// A client that trusts what the last certificate leads to must be able to verify the first. A leaf alone is complete
/// only if it issued itself.
pub(super) fn chain(
    path: &Path,
    chain: &[CertificateDer<'_>],
    now: SystemTime,
) -> Result<(), CertificateError> {
    let (last, rest) = chain.split_last().expect("counted");
    let top = parsed(path, chain.len(), last)?;
    let incomplete = || CertificateError::Incomplete {
        path: path.to_owned(),
        issuer: top.issuer().to_string(),
    };
    let Some((leaf, between)) = rest.split_first() else {
        let own = top.issuer() == top.subject();
        return if own { Ok(()) } else { Err(incomplete()) };
    };
    if !top.is_ca() {
        return Err(order(path, chain)?.unwrap_or_else(incomplete));
    }
    let broken = |reason: webpki::Error| CertificateError::Chain {
        path: path.to_owned(),
        reason: told(&reason),
    };
    let anchor = anchor_from_trusted_cert(last).map_err(broken)?;
    match leads(leaf, between, &[anchor], now) {
        Ok(()) => Ok(()),
        Err(reason) => Err(order(path, chain)?.unwrap_or_else(|| broken(reason))),
    }
}

/// Of a chain that does not hold: which certificate is not where it should be, if that is all.
fn order(
    path: &Path,
    chain: &[CertificateDer<'_>],
) -> Result<Option<CertificateError>, CertificateError> {
    let all = (1..)
        .zip(chain)
        .map(|(number, der)| parsed(path, number, der));
    let all: Vec<_> = all.collect::<Result<_, _>>()?;
    let reason = if all[0].is_ca() {
        let leaf = all.iter().position(|c| !c.is_ca());
        leaf.map(|at| {
            let number = at + 1;
            format!(
                "certificate 1 ({}) is a CA's, and the server's own is certificate {number}",
                all[0].subject()
            )
        })
    } else {
        let pairs = all.iter().zip(all.iter().skip(1)).zip(2..);
        let mut strange = pairs.filter(|((one, next), _)| one.issuer() != next.subject());
        strange.next().map(|((one, next), number)| {
            format!(
                "certificate {number} ({}) did not issue the one before it, which {} did",
                next.subject(),
                one.issuer()
            )
        })
    };
    Ok(reason.map(|reason| CertificateError::Order {
        path: path.to_owned(),
        reason,
    }))
}

/// What the verifier says, for people.
fn told(error: &webpki::Error) -> String {
    use webpki::Error;
    let text = match error {
        Error::UnknownIssuer => "no certificate of it issued the first",
        Error::InvalidSignatureForPublicKey => {
            "one is signed by another key than that of the certificate with its issuer's name"
        }
        Error::CaUsedAsEndEntity => "the first certificate is a CA's, not a server's",
        Error::EndEntityUsedAsCa => "one that is no CA's issued another",
        Error::EmptyEkuExtension | Error::RequiredEkuNotFoundContext(_) => {
            "the certificate is not for servers (extendedKeyUsage has no serverAuth)"
        }
        Error::PathLenConstraintViolated => {
            "a CA's certificate allows no further CA below it (pathlen)"
        }
        Error::NameConstraintViolation => {
            "a CA's certificate does not allow the name (nameConstraints)"
        }
        Error::CertExpired { .. } => "a certificate has expired",
        Error::CertNotValidYet { .. } => "a certificate is not valid yet",
        other => return format!("{other:?}"),
    };
    text.to_owned()
}

/// Whether a client that trusts `anchors` alone takes a certificate, with those that are sent along.
fn leads(
    leaf: &CertificateDer<'_>,
    between: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    now: SystemTime,
) -> Result<(), webpki::Error> {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    EndEntityCert::try_from(leaf)?
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            anchors,
            between,
            UnixTime::since_unix_epoch(since),
            KeyUsage::server_auth(),
            None,
            None,
        )
        .map(drop)
}

/// Whether the chain leads to a certificate in `ca`. That one need not be in it: clients have it.
pub(super) fn issuer(
    path: &Path,
    chain: &[CertificateDer<'_>],
    ca: &Path,
    now: SystemTime,
) -> Result<(), CertificateError> {
    let roots = anchors(ca)?;
    let last = parsed(path, chain.len(), &chain[chain.len() - 1])?;
    leads(&chain[0], &chain[1..], &roots.roots, now).map_err(|reason| CertificateError::Issuer {
        path: path.to_owned(),
        ca: ca.to_owned(),
        reason: format!(
            "{}; its last certificate is one that {} issued",
            told(&reason),
            last.issuer()
        ),
    })
}

/// Whether the certificate is for a name.
pub(super) fn name(
    path: &Path,
    leaf: &CertificateDer<'_>,
    pattern: &HostPattern,
) -> Result<(), CertificateError> {
    let pattern = pattern.as_str();
    // A wildcard route needs a certificate for any name below its parent.
    let name = pattern.replacen('*', "any", 1);
    let names = || -> Result<String, CertificateError> {
        let certificate = parsed(path, 1, leaf)?;
        let names = (certificate.subject_alternative_name().ok().flatten())
            .map(|san| {
                let names = san.value.general_names.iter().map(|name| match name {
                    GeneralName::DNSName(name) => (*name).to_owned(),
                    other => other.to_string(),
                });
                names.collect::<Vec<_>>().join(", ")
            })
            .filter(|names| !names.is_empty());
        Ok(names.unwrap_or_else(|| "no name at all (subjectAltName is missing)".to_owned()))
    };
    let valid = ServerName::try_from(name).is_ok_and(|name| {
        EndEntityCert::try_from(leaf)
            .is_ok_and(|leaf| leaf.verify_is_valid_for_subject_name(&name).is_ok())
    });
    if valid {
        return Ok(());
    }
    Err(CertificateError::Name {
        path: path.to_owned(),
        name: pattern.to_owned(),
        names: names()?,
    })
}

/// The first name of a server in it, or an address; of a wildcard one that it covers.
pub(super) fn first_name(
    path: &Path,
    leaf: &CertificateDer<'_>,
) -> Result<String, CertificateError> {
    let certificate = parsed(path, 1, leaf)?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let mut names = names.iter().flat_map(|san| &san.value.general_names);
    let name = names.find_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.replacen('*', "any", 1)),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => Some(IpAddr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string()),
            _ => Some(IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
        },
        _ => None,
    });
    name.ok_or_else(|| CertificateError::Nameless(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use mc_testkit::ca::Ca;
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    /// As `openssl x509 -req` makes them; for a hundred years.
    const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBIzCBywIUEm6Mp397lo90ndMa5MnXBLLJdB0wCgYIKoZIzj0EAwIwFDESMBAG
A1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMjE2NTUyM1oYDzIxMjYxMDI5MTY1NTIz
WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AAR+7k5Wfv7c4BQ4Q9oODkRvBzO5LzCoQbit0fj0xQx00QIYCXhB28lIQ55ZGEgY
7reQEFtf9OA2UZu6lw7FXgaiMAoGCCqGSM49BAMCA0cAMEQCIHLwLfLytwFIk7kH
WHl+jH78M+04CV3yIs86b5aS6e9nAiAeF1cuYW6kiHTfjfjrEjLJ6k59bMhCx2Sm
OgiNBsoB4Q==
-----END CERTIFICATE-----";

    fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
        let found = CertificateDer::pem_slice_iter(pem.as_bytes());
        found.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn a_certificate_of_version_1_is_told_with_what_to_do() {
        let path = Path::new("server.crt");
        let error = validity(path, &certificates(VERSION_1), SystemTime::now());
        let said = error.unwrap_err().to_string();
        for part in [
            "server.crt: certificate 1",
            "CN=localhost",
            "version 1",
            "-extfile",
        ] {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn a_root_that_clients_have_need_not_be_sent() {
        let directory = tempfile::tempdir().unwrap();
        let (root, other) = (Ca::new().unwrap(), Ca::new().unwrap());
        let file = |name: &str, ca: &Ca| {
            let path = directory.path().join(name);
            std::fs::write(&path, ca.pem()).unwrap();
            path
        };
        let (own, foreign) = (file("root.pem", &root), file("other.pem", &other));
        let whole = certificates(&root.issue(&["localhost"]).unwrap().chain_pem);
        let path = Path::new("server.crt");
        for (description, sent, ca, wanted) in [
            ("with the root", 2, Some(&own), None),
            ("without it", 1, Some(&own), None),
            ("another CA", 2, Some(&foreign), Some("test CA issued")),
            (
                "another, without",
                1,
                Some(&foreign),
                Some("test CA issued"),
            ),
            ("no CA, with the root", 2, None, None),
            ("no CA, without it", 1, None, Some("is incomplete")),
        ] {
            let (sent, now) = (&whole[..sent], SystemTime::now());
            let led = match ca {
                Some(ca) => issuer(path, sent, ca, now),
                None => chain(path, sent, now),
            };
            let said = led.err().map(|error| error.to_string());
            let right = match (&said, wanted) {
                (Some(said), Some(wanted)) => said.contains(wanted),
                (said, wanted) => said.is_none() && wanted.is_none(),
            };
            assert!(right, "{description}: {said:?}");
        }
    }
}
