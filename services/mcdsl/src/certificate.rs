//! A certificate and its key from files, checked as clients will check them, before they are used; and when the files have changed.

mod verify;

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    InconsistentKeys, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{files, hostname::HostPattern, human};

/// Certificates of one file: a chain has two or three.
const MAX_CHAIN: usize = 16;
/// A certificate that ends within this time should have been renewed, and is told of: platforms renew at two thirds of its life, of weeks or
/// months.
pub const ENDS_SOON: Duration = Duration::from_secs(7 * 24 * 3600);
/// CA certificates of one file: a system's bundle has some 150.
const MAX_ANCHORS: usize = 1024;

/// Bytes of a file with a chain or a key: they have a few KiB.
const MAX_FILE: u64 = 1024 * 1024;
/// Bytes of a file with CA certificates: a system's bundle has some 250 KiB.
const MAX_ANCHORS_FILE: u64 = 4 * 1024 * 1024;

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
    /// The key's file cannot be read, or holds none that can be used.
    #[error("cannot read the private key {path}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No certificate in it.
    #[error(
        "{0} holds no certificate in PEM form (what begins with -----BEGIN CERTIFICATE-----); `openssl x509 -inform der` makes that of DER"
    )]
    None(PathBuf),
    /// A certificate that is for no server.
    #[error("the certificate in {0} has no name of a server (subjectAltName)")]
    Nameless(PathBuf),
    /// Too many.
    #[error(
        "{path} holds more than {most} certificates; a chain has two or three, a system's CAs are some 150"
    )]
    Many {
        /// The file.
        path: PathBuf,
        /// That may be in it.
        most: usize,
    },
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
    /// Of an X.509 version that no client takes.
    #[error(
        "{path}: certificate {number} ({subject}) is of X.509 version {version}, which clients refuse: issue it again as version 3, with its \
         names in subjectAltName (`openssl x509 -req` makes version 1 unless it gets extensions: -extfile or -copy_extensions copy)"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// From 1.
        number: usize,
        /// Whose.
        subject: String,
        /// As people count them.
        version: u32,
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
    /// They are there in another order.
    #[error(
        "{path}: the order is wrong: {reason}; the server's own goes first, then each time the one that issued it"
    )]
    Order {
        /// The file.
        path: PathBuf,
        /// Which is where it should not be.
        reason: String,
    },
    /// They are there and do not fit.
    #[error("{path}: the chain does not hold: {reason}")]
    Chain {
        /// The file.
        path: PathBuf,
        /// What the verifier says.
        reason: String,
    },
    /// Of another CA.
    #[error("{path}: the chain does not lead to the configured CA {ca}: {reason}")]
    Issuer {
        /// The file.
        path: PathBuf,
        /// The CA's file.
        ca: PathBuf,
        /// As the verifier says, and who issued the last of the chain.
        reason: String,
    },
    /// For other names.
    #[error("{path}: the certificate is not for {name}; it is for {names}")]
    Name {
        /// The file.
        path: PathBuf,
        /// What it is asked to be for.
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

impl Identity {
    /// Whether the certificate, of the file `path`, is for a name.
    ///
    /// # Errors
    /// [`CertificateError::Name`].
    pub fn is_for(&self, path: &Path, name: &HostPattern) -> Result<(), CertificateError> {
        verify::name(path, &self.key.cert[0], name)
    }
}

/// That a certificate ends soon.
#[must_use]
pub fn ends_soon(not_after: SystemTime, now: SystemTime) -> Option<String> {
    let left = not_after.duration_since(now).unwrap_or_default();
    (left <= ENDS_SOON).then(|| {
        let left = human::duration_short(left);
        format!(
            "the certificate ends in {left}; put a new one there, which is loaded without a restart"
        )
    })
}

/// Reads and checks a certificate, for a name if one is given. Its chain must lead to a certificate in `ca`, which clients have; where none is
/// given it must be complete by itself.
///
/// # Errors
/// [`CertificateError`] names the file and what to do.
pub fn load(
    certificate: &Path,
    key: &Path,
    name: Option<&HostPattern>,
    ca: Option<&Path>,
    provider: &CryptoProvider,
    now: SystemTime,
) -> Result<Identity, CertificateError> {
    let chain = certificates(certificate, MAX_CHAIN, MAX_FILE)?;
    let not_after = verify::validity(certificate, &chain, now)?;
    match ca {
        Some(ca) => verify::issuer(certificate, &chain, ca, now)?,
        None => verify::chain(certificate, &chain, now)?,
    }
    if let Some(name) = name {
        verify::name(certificate, &chain[0], name)?;
    }
    let text = files::read_regular(key, MAX_FILE).map_err(|e| key_file(key, e))?;
    let der = PrivateKeyDer::from_pem_slice(&text).map_err(|e| unreadable_key(key, &text, e))?;
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

/// A name, or an address, for which the certificate in a file is.
///
/// # Errors
/// [`CertificateError`] if it cannot be read, or has none.
pub fn name_in(path: &Path) -> Result<String, CertificateError> {
    let chain = certificates(path, MAX_CHAIN, MAX_FILE)?;
    verify::first_name(path, &chain[0])
}

/// CA certificates to trust.
///
/// # Errors
/// [`CertificateError`] if there is none, or one cannot be trusted.
pub fn anchors(path: &Path) -> Result<RootCertStore, CertificateError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path, MAX_ANCHORS, MAX_ANCHORS_FILE)? {
        store
            .add(certificate)
            .map_err(|reason| CertificateError::Anchors {
                path: path.to_owned(),
                reason,
            })?;
    }
    Ok(store)
}

/// Once: what is said of a file is said of the same bytes.
fn read(path: &Path, most: u64) -> Result<Vec<u8>, CertificateError> {
    files::read_regular(path, most).map_err(|source| CertificateError::Read {
        path: path.to_owned(),
        source,
    })
}

fn unreadable(path: &Path, error: pem::Error) -> CertificateError {
    CertificateError::Read {
        path: path.to_owned(),
        source: match error {
            pem::Error::Io(source) => source,
            other => io::Error::other(other.to_string()),
        },
    }
}

/// What it holds instead. Nobody is there to type a passphrase.
fn unreadable_key(path: &Path, text: &[u8], error: pem::Error) -> CertificateError {
    let has = |mark: &str| text.windows(mark.len()).any(|w| w == mark.as_bytes());
    let source = match error {
        pem::Error::Io(source) => source,
        _ if has("BEGIN ENCRYPTED PRIVATE KEY") || has("4,ENCRYPTED") => io::Error::other(
            "the private key is encrypted; write it without a passphrase: `openssl pkey -in … -out …`",
        ),
        pem::Error::NoItemsFound if has("BEGIN CERTIFICATE") => {
            io::Error::other("it holds a certificate, and no private key")
        }
        pem::Error::NoItemsFound => io::Error::other("no private key in PEM form is in it"),
        other => io::Error::other(other.to_string()),
    };
    key_file(path, source)
}

fn key_file(path: &Path, source: io::Error) -> CertificateError {
    CertificateError::KeyFile {
        path: path.to_owned(),
        source,
    }
}

fn certificates(
    path: &Path,
    most: usize,
    most_bytes: u64,
) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(&read(path, most_bytes)?)
        .take(most + 1)
        .collect::<Result<_, _>>()
        .map_err(|e| unreadable(path, e))?;
    match found.len() {
        0 => Err(CertificateError::None(path.to_owned())),
        count if count <= most => Ok(found),
        _ => Err(CertificateError::Many {
            path: path.to_owned(),
            most,
        }),
    }
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
