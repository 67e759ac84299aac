//! A service to test with, and tokens of all kinds.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use mc_proto::{
    AccountType,
    example::v1::{
        DeleteNoteRequest, DeleteNoteResponse, GetNoteRequest, ListNotesRequest, ListNotesResponse,
        Note, PingRequest, PingResponse, WatchNotesRequest,
        notes_server::{Notes, NotesServer},
    },
};
use mc_testkit::ca::Ca;
use mcdsl::{
    auth::{
        AuthError, Authenticator, Identity, Revocation, Revocations, Revoked,
        token::{Claims, Keys, Signer, seconds},
    },
    server::{App, Audit, Caller, Config, Handle},
    shutdown::Shutdown,
};
use tokio::sync::{Notify, watch};
use tokio_stream::StreamExt as _;
use tonic::{
    Code, Request, Response, Status,
    service::Routes,
    transport::{Certificate, Channel, ClientTlsConfig},
};

pub(crate) const ISSUER: &str = "https://mcias.example";
pub(crate) const SERVICE: &str = "notes";
pub(crate) const PACKAGE: &str = "metacircular.example.v1";

/// What was written to the audit log: method, account, outcome.
type Log = Arc<Mutex<Vec<(String, Option<String>, Code)>>>;

/// The service, running.
pub(crate) struct Running {
    pub(crate) handle: Handle,
    pub(crate) config: Config,
    pub(crate) ca: Ca,
    pub(crate) tokens: Tokens,
    pub(crate) sealed: watch::Sender<bool>,
    pub(crate) log: Log,
    /// Lets go of a call that is slow.
    pub(crate) go_on: Arc<Notify>,
    pub(crate) directory: tempfile::TempDir,
    shutdown: Shutdown,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.token().cancel();
    }
}

impl Running {
    pub(crate) async fn start(configure: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ca = Ca::new().unwrap();
        let (certificate, key) = ca
            .issue(&["localhost"])
            .unwrap()
            .write(directory.path(), "server")
            .unwrap();
        let mut config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            grpc_listen: "127.0.0.1:0".parse().unwrap(),
            tls_cert: certificate,
            tls_key: key,
            tls_ca: None,
            metrics_listen: None,
            trusted_proxies: Vec::new(),
        };
        configure(&mut config);
        let tokens = Tokens::new();
        let (sealed, log) = (watch::Sender::new(false), Log::default());
        let board = Board::default();
        let go_on = Arc::clone(&board.go_on);
        let app = App {
            package: PACKAGE,
            grpc: Routes::new(NotesServer::new(board)),
            web: axum::Router::new(),
            plain: axum::Router::new(),
            authenticator: tokens.authenticator(),
            audit: Some(Arc::new(Writer(Arc::clone(&log)))),
            sealed: sealed.subscribe(),
            metrics: Box::new(|| "# EOF\n".to_owned()),
        };
        let shutdown = Shutdown::new();
        let handle = mcdsl::server::start(&config, app, &shutdown).await.unwrap();
        Self {
            handle,
            config,
            ca,
            tokens,
            sealed,
            log,
            go_on,
            directory,
            shutdown,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.handle.address.port())
    }

    /// What curl gets: the status and the body.
    pub(crate) async fn curl(&self, more: &[&str], path: &str) -> (u16, String) {
        let ca = self.directory.path().join("ca.pem");
        std::fs::write(&ca, self.ca.pem()).unwrap();
        let mut command = tokio::process::Command::new("curl");
        command
            .args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
            .arg(ca);
        command
            .args(["--write-out", "\n%{http_code}"])
            .args(more)
            .arg(self.url(path));
        let output = command.output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        if !output.status.success() {
            eprintln!("curl {more:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    /// A connection for gRPC.
    pub(crate) async fn channel(&self) -> Channel {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.ca.pem()))
            .domain_name("localhost");
        let endpoint = Channel::from_shared(format!("https://{}", self.handle.grpc)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await.unwrap()
    }
}

struct Writer(Log);

impl Audit for Writer {
    fn record<'a>(
        &'a self,
        caller: &'a Caller,
        outcome: Code,
        _message: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<(), Status>> + Send + 'a>> {
        let account = caller
            .identity
            .as_ref()
            .map(|identity| identity.name.clone());
        let entry = (caller.method.to_owned(), account, outcome);
        self.0.lock().unwrap().push(entry);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Tokens of an issuer of its own.
pub(crate) struct Tokens {
    signer: Signer,
    check: Arc<Check>,
}

struct Check {
    keys: Keys,
    revoked: Revocations,
}

impl Authenticator for Check {
    fn authenticate<'a>(
        &'a self,
        token: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Identity, AuthError>> + Send + 'a>> {
        Box::pin(async move {
            let claims = self
                .keys
                .verify(token, ISSUER, Some(SERVICE), SystemTime::now())?;
            let identity = Identity::from(claims);
            if self.revoked.has(&identity) {
                return Err(AuthError::Invalid("revoked"));
            }
            Ok(identity)
        })
    }
}

impl Tokens {
    fn new() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let pkcs8 = pair.to_pkcs8v1().unwrap();
        let mut revoked = Revocations::default();
        let revocation = Revocation {
            what: Revoked::Token("revoked".to_owned()),
            issued_until: SystemTime::now(),
            forget: SystemTime::now() + Duration::from_secs(3600),
        };
        revoked.add(revocation, SystemTime::now()).unwrap();
        let keys = Keys::new([("k1", pair.public_key().as_ref())]);
        Self {
            signer: Signer::new("k1".to_owned(), pkcs8.as_ref()),
            check: Arc::new(Check { keys, revoked }),
        }
    }

    fn authenticator(&self) -> Arc<dyn Authenticator> {
        Arc::clone(&self.check) as _
    }

    /// What would be of the account.
    pub(crate) fn claims(name: &str, account_type: AccountType) -> Claims {
        let now = seconds(SystemTime::now());
        Claims {
            iss: ISSUER.to_owned(),
            sub: format!("id-of-{name}"),
            aud: vec![SERVICE.to_owned()],
            iat: now,
            nbf: now,
            exp: now + 3600,
            jti: format!("token-of-{name}"),
            sid: format!("login-of-{name}"),
            name: name.to_owned(),
            account_type,
            roles: vec![name.to_owned()],
            tags: Vec::new(),
            amr: vec!["pwd".to_owned()],
        }
    }

    /// A token of one with that role; its name is the role's.
    pub(crate) fn of(&self, role: &str) -> String {
        let kind = if role == "system" {
            AccountType::System
        } else {
            AccountType::Human
        };
        self.signed(&Self::claims(role, kind))
    }

    pub(crate) fn signed(&self, claims: &Claims) -> String {
        self.signer.sign(claims).unwrap()
    }

    /// An ID token of the same issuer, or the like.
    pub(crate) fn signed_as(&self, typ: &str, claims: &Claims) -> String {
        self.signer.sign_as(typ, claims).unwrap()
    }
}

/// Notes in memory.
#[derive(Default)]
struct Board {
    notes: Mutex<Vec<Note>>,
    /// Lets go of a note that is slow.
    go_on: Arc<Notify>,
}

#[tonic::async_trait]
impl Notes for Board {
    type WatchNotesStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<Note, Status>> + Send>>;

    async fn ping(&self, _: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        Ok(Response::new(PingResponse {
            version: "1".to_owned(),
        }))
    }

    async fn put_note(&self, request: Request<Note>) -> Result<Response<Note>, Status> {
        let caller = Caller::of(&request)?;
        assert!(caller.identity()?.account_type == AccountType::Human);
        let mut note = request.into_inner();
        if note.name == "panic" {
            panic!("as it was told");
        }
        if note.name == "slow" {
            self.go_on.notified().await;
        }
        note.changed = Some(SystemTime::UNIX_EPOCH.into());
        note.revision = u64::MAX;
        self.notes.lock().unwrap().push(note.clone());
        Ok(Response::new(note))
    }

    async fn get_note(&self, request: Request<GetNoteRequest>) -> Result<Response<Note>, Status> {
        let name = request.into_inner().name;
        let notes = self.notes.lock().unwrap();
        let note = notes.iter().rev().find(|note| note.name == name).cloned();
        note.map(Response::new)
            .ok_or_else(|| Status::not_found(format!("there is no note {name:?}")))
    }

    async fn list_notes(
        &self,
        request: Request<ListNotesRequest>,
    ) -> Result<Response<ListNotesResponse>, Status> {
        let asked = request.into_inner();
        let fits = |note: &&Note| {
            asked.tags.iter().all(|tag| note.tags.contains(tag))
                && (!asked.important || note.importance == 2)
        };
        let notes = self.notes.lock().unwrap();
        let notes = notes.iter().filter(fits).cloned().collect();
        Ok(Response::new(ListNotesResponse { notes }))
    }

    async fn delete_note(
        &self,
        request: Request<DeleteNoteRequest>,
    ) -> Result<Response<DeleteNoteResponse>, Status> {
        Caller::of(&request)?.recorded();
        Ok(Response::new(DeleteNoteResponse {}))
    }

    async fn watch_notes(
        &self,
        _: Request<WatchNotesRequest>,
    ) -> Result<Response<Self::WatchNotesStream>, Status> {
        // Something is always to come.
        let first = tokio_stream::iter([Ok(Note::default())]);
        Ok(Response::new(Box::pin(
            first.chain(tokio_stream::pending()),
        )))
    }
}
