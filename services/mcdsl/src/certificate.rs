//! A certificate and its key from files, checked as clients will check them, before they are used; and when the files have changed.

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    InconsistentKeys, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject as _},
    },
    sign::CertifiedKey,
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::hostname::HostPattern;

/// Certificates of one file: a chain has two or three.
const MAX_CHAIN: usize = 16;

/// Why a certificate is not used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read, or is not PEM.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        #[source]
        /// Why.
        source: io::Error,
    },
    /// No certificate in it, or too many.
    #[error("{0} holds no certificate, or more than {MAX_CHAIN}")]
    Count(PathBuf),
    /// Not X.509.
    #[error("{path}: certificate {number} cannot be parsed: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// From 1.
        number: usize,
        /// Why.
        reason: String,
    },
    /// The key's kind is not supported.
    #[error("{path}: the private key cannot be used: {reason}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: rustls::Error,
    },
    /// Another certificate's key.
    #[error("{key} is not the private key of the certificate in {certificate}")]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Not within its validity.
    #[error("{path}: certificate {number} ({subject}) {state}")]
    Validity {
        /// The file.
        path: PathBuf,
        /// From 1.
        number: usize,
        /// Whose.
        subject: String,
        /// What is wrong.
        state: String,
    },
    /// The issuers are not there.
    #[error(
        "{path}: the chain is incomplete: it has no certificate of {issuer}; append the certificate of its issuer, and so on, up to one \
         that clients know (which may be there too)"
    )]
    Incomplete {
        /// The file.
        path: PathBuf,
        /// Who issued the last.
        issuer: String,
    },
    /// They are there and do not fit.
    #[error("{path}: the chain does not hold: {reason}")]
    Chain {
        /// The file.
        path: PathBuf,
        /// As the verifier says.
        reason: webpki::Error,
    },
    /// Of another CA.
    #[error("{path}: the chain does not lead to the configured CA {ca}: {reason}")]
    Issuer {
        /// The file.
        path: PathBuf,
        /// The CA's file.
        ca: PathBuf,
        /// As the verifier says.
        reason: webpki::Error,
    },
    /// For other names.
    #[error("{path}: the certificate is not for {name}; it is for {names}")]
    Name {
        /// The file.
        path: PathBuf,
        /// The route's.
        name: String,
        /// The certificate's.
        names: String,
    },
    /// CA certificates that cannot be trusted.
    #[error("{path}: {reason}")]
    Anchors {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: rustls::Error,
    },
}

/// Tells a file from what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(Option<(u64, u64, SystemTime)>);

impl Fingerprint {
    /// As it is now, if it is.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let state = || -> io::Result<_> {
            let metadata = std::fs::metadata(path)?;
            Ok((metadata.ino(), metadata.len(), metadata.modified()?))
        };
        Self(state().ok())
    }
}

/// A certificate that may be served.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Chain and key.
    pub key: Arc<CertifiedKey>,
    /// When the first of the chain ends.
    pub not_after: SystemTime,
}

/// Reads and checks a certificate, for a name if one is given.
///
/// # Errors
/// [`CertificateError`] names the file and what to do.
pub fn load(
    certificate: &Path,
    key: &Path,
    name: Option<&HostPattern>,
    provider: &CryptoProvider,
    now: SystemTime,
) -> Result<Identity, CertificateError> {
    let chain = certificates(certificate)?;
    let not_after = check_validity(certificate, &chain, now)?;
    check_chain(certificate, &chain, now)?;
    if let Some(name) = name {
        check_name(certificate, &chain[0], name)?;
    }
    let der = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable(key, e))?;
    let unusable = |reason| CertificateError::Key {
        path: key.to_owned(),
        reason,
    };
    let signing = (provider.key_provider.load_private_key(der)).map_err(unusable)?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) => {}
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            return Err(CertificateError::Mismatch {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            });
        }
        Err(error) => return Err(unusable(error)),
    }
    Ok(Identity {
        key: Arc::new(certified),
        not_after,
    })
}

/// CA certificates to trust.
///
/// # Errors
/// [`CertificateError`] if there is none, or one cannot be trusted.
pub fn anchors(path: &Path) -> Result<RootCertStore, CertificateError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store
            .add(certificate)
            .map_err(|reason| CertificateError::Anchors {
                path: path.to_owned(),
                reason,
            })?;
    }
    Ok(store)
}

fn unreadable(path: &Path, error: pem::Error) -> CertificateError {
    let source = match error {
        pem::Error::Io(source) => source,
        pem::Error::NoItemsFound => io::Error::other("no private key in PEM form is in it"),
        other => io::Error::other(other.to_string()),
    };
    CertificateError::Read {
        path: path.to_owned(),
        source,
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|e| unreadable(path, e))?
        .take(MAX_CHAIN + 1)
        .collect::<Result<_, _>>()
        .map_err(|e| unreadable(path, e))?;
    if found.is_empty() || found.len() > MAX_CHAIN {
        return Err(CertificateError::Count(path.to_owned()));
    }
    Ok(found)
}

fn parsed<'a>(
    path: &Path,
    number: usize,
    der: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, CertificateError> {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate)
        .map_err(|e| CertificateError::Parse {
            path: path.to_owned(),
            number,
            reason: e.to_string(),
        })
}

/// Every one, the last as well, which a verifier would take as given. Says when the first ends.
fn check_validity(
    path: &Path,
    chain: &[CertificateDer<'_>],
    now: SystemTime,
) -> Result<SystemTime, CertificateError> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let mut end = i64::MAX;
    for (number, der) in (1..).zip(chain) {
        let certificate = parsed(path, number, der)?;
        let (from, until) = (
            certificate.validity().not_before,
            certificate.validity().not_after,
        );
        let state = if now < from.timestamp() {
            format!("is not valid before {from}")
        } else if now > until.timestamp() {
            format!("has expired at {until}")
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

/// A client that trusts what the last certificate leads to must be able to verify the first. A leaf alone is complete
/// only if it issued itself.
fn check_chain(
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
        return Err(incomplete());
    }
    let broken = |reason| CertificateError::Chain {
        path: path.to_owned(),
        reason,
    };
    let anchor = anchor_from_trusted_cert(last).map_err(broken)?;
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    EndEntityCert::try_from(leaf)
        .and_then(|leaf| {
            leaf.verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &[anchor],
                between,
                UnixTime::since_unix_epoch(since),
                KeyUsage::server_auth(),
                None,
                None,
            )
            .map(drop)
        })
        .map_err(broken)
}

/// Whether the chain leads to a certificate in `ca`.
///
/// # Errors
/// [`CertificateError::Issuer`], or that `ca` cannot be read.
pub fn check_issuer(
    path: &Path,
    chain: &[CertificateDer<'_>],
    ca: &Path,
    now: SystemTime,
) -> Result<(), CertificateError> {
    let roots = anchors(ca)?;
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let foreign = |reason| CertificateError::Issuer {
        path: path.to_owned(),
        ca: ca.to_owned(),
        reason,
    };
    EndEntityCert::try_from(&chain[0])
        .and_then(|leaf| {
            leaf.verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &roots.roots,
                &chain[1..],
                UnixTime::since_unix_epoch(since),
                KeyUsage::server_auth(),
                None,
                None,
            )
            .map(drop)
        })
        .map_err(foreign)
}

fn check_name(
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
