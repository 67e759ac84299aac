//! TLS 1.3 of an L7 route, both sides: what clients see, and how backends are verified.
//!
//! All of it is built anew when a file changes and swapped whole, so that a connection sees one state or the other. Only what a
//! client resumes by stays, unless a CA of clients is gone: a ticket holds the certificate that was verified, and nobody looks at
//! that again.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};

use arc_swap::ArcSwapOption;
use mcdsl::certificate::{self, CertificateError, Fingerprint, Identity};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::ServerName,
    server::{
        ProducesTickets, ResolvesServerCert, WebPkiClientVerifier, danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
    version::TLS13,
};
use tokio_util::sync::CancellationToken;

use crate::{
    hostname::HostPattern,
    spec::{L7, Protocol},
};

/// Why a route's TLS is not in force.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// See [`CertificateError`].
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The library refuses.
    #[error("TLS cannot be set up")]
    Library(#[from] rustls::Error),
    /// No CA to verify clients or backends with.
    #[error("{path} cannot verify certificates: {reason}")]
    Verifier {
        /// The CA's file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// What is in force.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Of what holds for backends: connections to them that were made under another are not used.
    pub(super) number: u64,
    /// For clients.
    pub server: Arc<ServerConfig>,
    identity: Identity,
    clients: Clients,
    /// For backends that speak TLS, and the name to ask for.
    pub backend: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// What the backends' certificates must lead to.
    trusted: Option<Arc<RootCertStore>>,
    /// When it was loaded, as a whole.
    pub loaded: SystemTime,
}

impl Loaded {
    /// When the certificate, or one of its chain, ends.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.identity.not_after
    }

    /// Cancelled once clients that were let in may not be any more.
    pub(super) fn withdrawn(&self) -> &CancellationToken {
        &self.clients.withdrawn
    }
}

/// Which clients are let in, and what holds of those that were.
#[derive(Clone, Debug)]
struct Clients {
    /// What their certificates must lead to; `None`: they need none.
    anchors: Option<Arc<RootCertStore>>,
    tickets: Option<Arc<dyn ProducesTickets>>,
    withdrawn: CancellationToken,
}

impl Clients {
    fn new(anchors: Option<Arc<RootCertStore>>, before: Option<&Self>) -> Self {
        if let Some(before) = before.filter(|b| b.are_let_in_by(anchors.as_deref())) {
            return Self {
                anchors,
                ..before.clone()
            };
        }
        let tickets = aws_lc_rs::Ticketer::new()
            .inspect_err(|error| tracing::error!(%error, "no session tickets"))
            .ok();
        Self {
            anchors,
            tickets,
            withdrawn: CancellationToken::new(),
        }
    }

    /// Whether these anchors let all in that were let in.
    fn are_let_in_by(&self, anchors: Option<&RootCertStore>) -> bool {
        match (&self.anchors, anchors) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(before), Some(now)) => before.roots.iter().all(|a| now.roots.contains(a)),
        }
    }
}

/// The TLS of one route.
#[derive(Debug)]
pub struct Tls {
    provider: Arc<CryptoProvider>,
    current: ArcSwapOption<Loaded>,
    last: Mutex<Last>,
    // Held to the end of a load, or what is in force would not be what `last` tells. Who asks for that waits for no file.
    loading: Mutex<()>,
}

/// The last load.
#[derive(Debug, Default)]
struct Last {
    files: Vec<Fingerprint>,
    tried: Option<SystemTime>,
    error: Option<String>,
}

/// One certificate, whatever name is asked: the route was found by that name.
#[derive(Debug)]
struct Only(Arc<CertifiedKey>);

impl ResolvesServerCert for Only {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// Nothing in force yet: see [`Tls::load`].
impl Default for Tls {
    fn default() -> Self {
        Self {
            provider: Arc::new(aws_lc_rs::default_provider()),
            current: ArcSwapOption::empty(),
            last: Mutex::default(),
            loading: Mutex::default(),
        }
    }
}

impl Tls {
    /// What is in force.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Loaded>> {
        self.current.load_full()
    }

    /// [`Loaded::number`] of what is in force.
    pub(super) fn number(&self) -> Option<u64> {
        self.current.load().as_ref().map(|loaded| loaded.number)
    }

    /// Why the last load failed; what was in force before still is.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        self.last().error.clone()
    }

    /// When the last load was.
    #[must_use]
    pub fn tried(&self) -> Option<SystemTime> {
        self.last().tried
    }

    /// Loads all files of the route. What is refused leaves in force what was in its place: a certificate for clients, the CA of
    /// clients, the CA of backends. A refused certificate keeps no CA that is withdrawn. If nothing was, nothing is.
    ///
    /// # Errors
    /// [`TlsError`] names the file and what is wrong with it.
    pub fn load(&self, l7: &L7, name: &HostPattern) -> Result<(), TlsError> {
        self.load_alone(&self.alone(), l7, name)
    }

    /// Whether a daemon that starts now could load all files of the route, which needs nothing that was in force before.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn probe(&self, l7: &L7, name: &HostPattern) -> Result<(), TlsError> {
        self.build(l7, name, None, &mut None).map(drop)
    }

    /// Loads again if a file has changed. `None` = nothing has.
    pub fn reload(&self, l7: &L7, name: &HostPattern) -> Option<Result<(), TlsError>> {
        let alone = self.alone();
        let changed = self.last().files != fingerprints(l7);
        changed.then(|| self.load_alone(&alone, l7, name))
    }

    fn load_alone(
        &self,
        _alone: &MutexGuard<'_, ()>,
        l7: &L7,
        name: &HostPattern,
    ) -> Result<(), TlsError> {
        // Before reading: a change from here on is seen at the next look.
        let (files, tried) = (fingerprints(l7), Some(SystemTime::now()));
        let before = self.current();
        let mut refused = None;
        let built = self.build(l7, name, before.as_deref(), &mut refused);
        let error = built.as_ref().err().or(refused.as_ref());
        *self.last() = Last {
            files,
            tried,
            error: error.map(|e| mcdsl::cli::chain(e)),
        };
        let loaded = Arc::new(built?);
        self.current.store(Some(Arc::clone(&loaded)));
        // Afterwards: who is let in by what was in force until now finds it cancelled.
        if let Some(before) = before
            && !(before.clients).are_let_in_by(loaded.clients.anchors.as_deref())
        {
            before.clients.withdrawn.cancel();
        }
        refused.map_or(Ok(()), Err)
    }

    fn alone(&self) -> MutexGuard<'_, ()> {
        self.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `refused`: the first of what is as it was before.
    fn build(
        &self,
        l7: &L7,
        name: &HostPattern,
        before: Option<&Loaded>,
        refused: &mut Option<TlsError>,
    ) -> Result<Loaded, TlsError> {
        let now = SystemTime::now();
        let identity = certificate::load(
            &l7.certificate,
            &l7.key,
            Some(name),
            None,
            &self.provider,
            now,
        );
        let identity = identity.map_err(TlsError::from);
        let identity = or_before(identity, before.map(|b| &b.identity), refused)?;
        let anchors = (l7.client_ca.as_ref()).map(|path| self.client_anchors(path));
        let known = before.map(|b| &b.clients.anchors);
        let anchors = or_before(anchors.transpose(), known, refused)?;
        let clients = Clients::new(anchors, before.map(|b| &b.clients));
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?;
        let builder = match (&l7.client_ca, &clients.anchors) {
            (None, _) => builder.with_no_client_auth(),
            (Some(path), anchors) => {
                // None: it is refused, and lets nobody in.
                let none = || Arc::new(RootCertStore::empty());
                let anchors = anchors.clone().unwrap_or_else(none);
                builder.with_client_cert_verifier(self.verifier(&anchors, path)?)
            }
        };
        let mut server = builder.with_cert_resolver(Arc::new(Only(Arc::clone(&identity.key))));
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if let Some(tickets) = &clients.tickets {
            server.ticketer = Arc::clone(tickets);
        }
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let trusted = (l7.backend_ca.as_ref()).map(|path| certificate::anchors(path));
        let trusted = trusted.transpose().map(|t| t.map(Arc::new));
        let trusted = trusted.map_err(TlsError::from);
        let trusted = or_before(trusted, before.map(|b| &b.trusted), refused)?;
        let roots = trusted.as_ref().map(|t| &t.roots);
        let (number, backend) = match before {
            // Another certificate of ours is nothing to backends.
            Some(before) if before.trusted.as_ref().map(|t| &t.roots) == roots => {
                (before.number, before.backend.clone())
            }
            _ => (
                NUMBER.fetch_add(1, Relaxed),
                self.backend(l7, name, trusted.as_ref())?,
            ),
        };
        Ok(Loaded {
            number,
            server: Arc::new(server),
            identity,
            clients,
            backend,
            trusted,
            loaded: match before {
                Some(before) if refused.is_some() => before.loaded,
                _ => now,
            },
        })
    }

    /// What clients' certificates must lead to, if they can be verified with it.
    fn client_anchors(&self, path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
        let anchors = Arc::new(certificate::anchors(path)?);
        self.verifier(&anchors, path)?;
        Ok(anchors)
    }

    fn verifier(
        &self,
        anchors: &Arc<RootCertStore>,
        path: &Path,
    ) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let (anchors, provider) = (Arc::clone(anchors), Arc::clone(&self.provider));
        let built = WebPkiClientVerifier::builder_with_provider(anchors, provider).build();
        built.map_err(|e| TlsError::Verifier {
            path: path.to_owned(),
            reason: e.to_string(),
        })
    }

    fn backend(
        &self,
        l7: &L7,
        name: &HostPattern,
        trusted: Option<&Arc<RootCertStore>>,
    ) -> Result<Option<(Arc<ClientConfig>, ServerName<'static>)>, TlsError> {
        let (Protocol::H2, Some(path), Some(trusted)) = (l7.protocol, &l7.backend_ca, trusted)
        else {
            return Ok(None);
        };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(Arc::clone(trusted))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let asked = match &l7.backend_name {
            Some(name) => name.as_str(),
            None => name.as_str(),
        };
        let server = ServerName::try_from(asked.to_owned()).map_err(|e| TlsError::Verifier {
            path: path.clone(),
            reason: format!("{asked} is not a server's name ({e}); give the backends' name"),
        })?;
        Ok(Some((Arc::new(config), server)))
    }
}

/// What is new, or else what was in force, and why.
fn or_before<T: Clone>(
    new: Result<T, TlsError>,
    before: Option<&T>,
    refused: &mut Option<TlsError>,
) -> Result<T, TlsError> {
    match (new, before) {
        (Err(error), Some(before)) => {
            refused.get_or_insert(error);
            Ok(before.clone())
        }
        (new, _) => new,
    }
}

fn fingerprints(l7: &L7) -> Vec<Fingerprint> {
    l7.files().map(|(_, path)| Fingerprint::of(path)).collect()
}
