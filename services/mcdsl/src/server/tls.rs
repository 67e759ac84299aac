//! The server's certificate: TLS 1.3, reloaded when a file changes, the one before kept if what is new is refused.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use axum_server::tls_rustls::RustlsConfig;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ResolvesServerCert, ServerConfig as Config},
    sign::CertifiedKey,
    version::TLS13,
};

use crate::certificate::{self, CertificateError, Fingerprint, Identity};

/// How often the files are looked at.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);

/// After a failure the files are read again, changed or not.
const RETRY: Duration = Duration::from_secs(60);

/// Bits of the mode of a private key's file that are refused, as of a token's: its group may read it.
const OTHERS: u32 = 0o007;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// See [`CertificateError`].
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Everybody may read the private key.
    #[error(
        "others have access to the private key {path} (mode {mode:04o}); `chmod o= {path}`, and if somebody may have read it, have another \
         one certified"
    )]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The library refuses.
    #[error("TLS cannot be set up")]
    Library(#[from] rustls::Error),
}

/// The files, and what is in force of them.
pub(super) struct Tls {
    files: Files,
    config: RustlsConfig,
    state: Mutex<State>,
}

/// Where the certificate is.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    /// What the chain must lead to.
    pub(super) ca: Option<PathBuf>,
}

impl Files {
    fn fingerprints(&self) -> Vec<Fingerprint> {
        let ca = self.ca.as_deref();
        let files = [Some(self.certificate.as_path()), Some(&self.key), ca];
        files.into_iter().flatten().map(Fingerprint::of).collect()
    }
}

/// The last load, for `status`.
#[derive(Clone, Debug)]
pub struct State {
    /// When the certificate in force ends.
    pub not_after: SystemTime,
    /// When the files were last read.
    pub tried: SystemTime,
    /// Why what was read then is not in force.
    pub error: Option<String>,
    seen: Vec<Fingerprint>,
}

impl Tls {
    /// Loads them; the certificate is also given.
    pub(super) fn load(files: Files) -> Result<(Self, Identity), TlsError> {
        let seen = files.fingerprints();
        let (config, identity) = build(&files)?;
        let state = State {
            not_after: identity.not_after,
            tried: SystemTime::now(),
            error: None,
            seen,
        };
        let tls = Self {
            files,
            config: RustlsConfig::from_config(config),
            state: Mutex::new(state),
        };
        Ok((tls, identity))
    }

    pub(super) fn config(&self) -> RustlsConfig {
        self.config.clone()
    }

    pub(super) fn state(&self) -> State {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Loads again if a file has changed, or if `always`.
    pub(super) fn reload(&self, always: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = self.files.fingerprints();
        // What failed may have failed for a while only: a clock, a limit of files.
        let again = state.error.is_some() && state.tried.elapsed().is_ok_and(|t| t >= RETRY);
        if seen == state.seen && !always && !again {
            return;
        }
        (state.seen, state.tried) = (seen, SystemTime::now());
        state.error = match build(&self.files) {
            Ok((config, identity)) => {
                self.config.reload_from_config(config);
                state.not_after = identity.not_after;
                tracing::info!(certificate = %self.files.certificate.display(), "the certificate was loaded");
                None
            }
            Err(error) => {
                let error = crate::cli::chain(&error);
                tracing::error!(error, "the certificate is refused; the one before stays");
                Some(error)
            }
        };
    }
}

fn build(files: &Files) -> Result<(Arc<ServerConfig>, Identity), TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let Files {
        certificate,
        key,
        ca,
    } = files;
    let now = SystemTime::now();
    let identity = certificate::load(certificate, key, None, ca.as_deref(), &provider, now)?;
    check_mode(key)?;
    let mut config = Config::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Only(Arc::clone(&identity.key))));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((Arc::new(config), identity))
}

fn check_mode(key: &Path) -> Result<(), TlsError> {
    match std::fs::metadata(key).map(|found| found.mode() & 0o777) {
        Ok(mode) if mode & OTHERS != 0 => Err(TlsError::Mode {
            path: key.to_owned(),
            mode,
        }),
        // It was read a moment ago.
        _ => Ok(()),
    }
}

/// One certificate, whatever name is asked.
#[derive(Debug)]
struct Only(Arc<CertifiedKey>);

impl ResolvesServerCert for Only {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
