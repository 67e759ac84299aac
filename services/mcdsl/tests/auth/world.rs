//! An MCIAS of the test's, and a service that asks it.

use std::{
    collections::HashMap,
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use mc_proto::{
    AccountType,
    mcias::v1::{
        self as api,
        auth_server::{Auth, AuthServer},
        revocation::What,
        revocation_event::Event,
    },
};
use mc_testkit::{ca::Ca, wait_for_async};
use mcdsl::{
    audit,
    auth::{
        AuthError, Authenticator, Identity,
        client::{Client, Config},
        token::{Claims, Keys, Signer, seconds},
    },
    cli::PrivateFile,
    clock::Clock,
    db::{Migration, Store},
    server::{self, App, Recorder},
    shutdown::Shutdown,
};
use tokio::sync::broadcast;
use tokio_stream::{StreamExt as _, wrappers::BroadcastStream};
use tonic::{Request, Response, Status, service::Routes};
pub(crate) const ISSUER: &str = "https://mcias.example";

/// What MCIAS knows.
pub(crate) struct Mcias {
    pub(crate) keys: Mutex<HashMap<String, Vec<u8>>>,
    pub(crate) revoked: Mutex<Vec<String>>,
    /// Accounts, by id.
    pub(crate) disabled: Mutex<Vec<String>>,
    pub(crate) events: broadcast::Sender<api::RevocationEvent>,
    /// No stream is given.
    pub(crate) mute: Mutex<bool>,
    pub(crate) checks: AtomicUsize,
    /// Streams that were begun.
    pub(crate) streams: AtomicUsize,
    /// The service's own token.
    pub(crate) own: Mutex<String>,
}

pub(crate) fn token_revoked(id: &str) -> api::RevocationEvent {
    let now = SystemTime::now();
    api::RevocationEvent {
        event: Some(Event::Revoked(api::Revocation {
            what: Some(What::Token(id.to_owned())),
            issued_until: Some(now.into()),
            forget: Some((now + Duration::from_secs(3600)).into()),
        })),
    }
}

impl Mcias {
    pub(crate) fn key(&self, kid: &str) -> Signer {
        let pair = Ed25519KeyPair::generate().unwrap();
        self.keys
            .lock()
            .unwrap()
            .insert(kid.to_owned(), pair.public_key().as_ref().to_vec());
        Signer::new(kid.to_owned(), pair.to_pkcs8v1().unwrap().as_ref())
    }

    pub(crate) fn revoke(&self, id: &str) {
        self.revoked.lock().unwrap().push(id.to_owned());
        // Nobody may listen.
        let _ = self.events.send(token_revoked(id));
    }
}

/// The service that has it.
pub(crate) struct Service(Arc<Mcias>);

type Events<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Auth for Service {
    type WatchRevocationsStream = Events<api::RevocationEvent>;
    type WatchBansStream = Events<api::BanEvent>;

    async fn get_keys(
        &self,
        _: Request<api::GetKeysRequest>,
    ) -> Result<Response<api::GetKeysResponse>, Status> {
        let keys = self.0.keys.lock().unwrap();
        let keys = keys.iter().map(|(kid, key)| api::PublicKey {
            kid: kid.clone(),
            key: key.clone(),
        });
        Ok(Response::new(api::GetKeysResponse {
            keys: keys.collect(),
            issuer: ISSUER.to_owned(),
        }))
    }

    async fn check_token(
        &self,
        request: Request<api::CheckTokenRequest>,
    ) -> Result<Response<api::CheckTokenResponse>, Status> {
        self.0.checks.fetch_add(1, Relaxed);
        let token = request.into_inner().token;
        let keys = self.0.keys.lock().unwrap();
        let keys = Keys::new(keys.iter().map(|(kid, key)| (kid.as_str(), key.as_slice())));
        let claims = keys
            .verify(&token, ISSUER, Some("notes"), SystemTime::now())
            .unwrap();
        let valid = !self.0.revoked.lock().unwrap().contains(&claims.jti);
        Ok(Response::new(api::CheckTokenResponse { valid }))
    }

    async fn check_account(
        &self,
        request: Request<api::CheckAccountRequest>,
    ) -> Result<Response<api::CheckAccountResponse>, Status> {
        self.0.checks.fetch_add(1, Relaxed);
        let disabled = self.0.disabled.lock().unwrap();
        let asked = request.into_inner();
        Ok(Response::new(api::CheckAccountResponse {
            active: !disabled.contains(&asked.account_id),
            account_id: asked.account_id,
        }))
    }

    async fn watch_revocations(
        &self,
        _: Request<api::WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        if *self.0.mute.lock().unwrap() {
            return Err(Status::unavailable("not now"));
        }
        self.0.streams.fetch_add(1, Relaxed);
        let live = BroadcastStream::new(self.0.events.subscribe());
        let mut before: Vec<_> = self
            .0
            .revoked
            .lock()
            .unwrap()
            .iter()
            .map(|id| Ok(token_revoked(id)))
            .collect();
        before.push(Ok(api::RevocationEvent {
            event: Some(Event::Synced(true)),
        }));
        let live = live.map(|event| event.map_err(|_| Status::data_loss("too slow")));
        Ok(Response::new(Box::pin(
            tokio_stream::iter(before).chain(live),
        )))
    }

    async fn login(
        &self,
        _: Request<api::LoginRequest>,
    ) -> Result<Response<api::LoginResponse>, Status> {
        Err(Status::unimplemented("not of this test"))
    }
    async fn begin_passkey_login(
        &self,
        _: Request<api::BeginPasskeyLoginRequest>,
    ) -> Result<Response<api::BeginPasskeyLoginResponse>, Status> {
        Err(Status::unimplemented("not of this test"))
    }
    async fn finish_passkey_login(
        &self,
        _: Request<api::FinishPasskeyLoginRequest>,
    ) -> Result<Response<api::LoginResponse>, Status> {
        Err(Status::unimplemented("not of this test"))
    }
    async fn renew(
        &self,
        _: Request<api::RenewRequest>,
    ) -> Result<Response<api::LoginResponse>, Status> {
        Err(Status::unimplemented("not of this test"))
    }
    async fn logout(
        &self,
        _: Request<api::LogoutRequest>,
    ) -> Result<Response<api::LogoutResponse>, Status> {
        Err(Status::unimplemented("not of this test"))
    }
    async fn who_am_i(
        &self,
        _: Request<api::WhoAmIRequest>,
    ) -> Result<Response<api::WhoAmIResponse>, Status> {
        Err(Status::unimplemented("not of this test"))
    }
    async fn watch_bans(
        &self,
        _: Request<api::WatchBansRequest>,
    ) -> Result<Response<Self::WatchBansStream>, Status> {
        Err(Status::unimplemented("not of this test"))
    }
}

/// Its own tokens: there is one, of a system account.
pub(crate) struct Own(Arc<Mcias>);

impl Authenticator for Own {
    fn authenticate<'a>(
        &'a self,
        token: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Identity, AuthError>> + Send + 'a>> {
        let mut claims = claims("any", "any");
        claims.account_type = AccountType::System;
        let known = *self.0.own.lock().unwrap() == token;
        let refused = AuthError::Invalid("another token");
        Box::pin(async move { known.then(|| claims.into()).ok_or(refused) })
    }
}

pub(crate) fn claims(name: &str, id: &str) -> Claims {
    let now = seconds(SystemTime::now());
    Claims {
        iss: ISSUER.to_owned(),
        sub: name.to_owned(),
        aud: vec!["notes".to_owned()],
        iat: now,
        nbf: now,
        exp: now + 3600,
        jti: id.to_owned(),
        sid: id.to_owned(),
        name: name.to_owned(),
        account_type: AccountType::Human,
        roles: Vec::new(),
        tags: Vec::new(),
        amr: Vec::new(),
    }
}

pub(crate) struct World {
    pub(crate) mcias: Arc<Mcias>,
    pub(crate) client: Arc<Client>,
    pub(crate) server: Shutdown,
    pub(crate) watcher: Shutdown,
    pub(crate) directory: tempfile::TempDir,
}

/// Writes a token as `mciasctl token issue --to` does.
pub(crate) fn write_token(directory: &Path, token: &str) -> PathBuf {
    let path = directory.join("token");
    let file = PrivateFile::create(&path).unwrap();
    file.write(format!("{token}\n").as_bytes()).unwrap();
    path
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::by(Clock::default()).await
    }

    /// The service goes by this clock.
    pub(crate) async fn by(clock: Clock) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ca = Ca::new().unwrap();
        let (tls_cert, tls_key) = ca
            .issue(&["localhost"])
            .unwrap()
            .write(directory.path(), "mcias")
            .unwrap();
        let mcias = Arc::new(Mcias {
            keys: Mutex::default(),
            revoked: Mutex::default(),
            disabled: Mutex::default(),
            events: broadcast::channel(16).0,
            mute: Mutex::default(),
            checks: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            own: Mutex::new("own".to_owned()),
        });
        let config = server::Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            grpc_listen: "127.0.0.1:0".parse().unwrap(),
            tls_cert,
            tls_key,
            tls_ca: None,
            metrics_listen: None,
            trusted_proxies: Vec::new(),
        };
        let migration = Migration {
            version: 1,
            name: "audit",
            sql: audit::SCHEMA,
        };
        let store = Store::open(&directory.path().join("audit.db"), &[migration]).unwrap();
        let app = App {
            package: "metacircular.mcias.v1",
            grpc: Routes::new(AuthServer::new(Service(Arc::clone(&mcias)))),
            web: axum::Router::new(),
            plain: axum::Router::new(),
            authenticator: Arc::new(Own(Arc::clone(&mcias))),
            audit: Some(Arc::new(Recorder::new(store))),
            sealed: server::never_sealed(),
            metrics: Box::new(String::new),
        };
        let (server, watcher) = (Shutdown::new(), Shutdown::new());
        let handle = server::start(&config, app, &server).await.unwrap();
        std::fs::write(directory.path().join("ca.pem"), ca.pem()).unwrap();
        let config = Config {
            server_url: format!("https://localhost:{}", handle.grpc.port()),
            ca_cert: directory.path().join("ca.pem"),
            service_name: "notes".to_owned(),
            token_file: write_token(directory.path(), "own"),
        };
        let client = Client::new(&config, clock).unwrap();
        let watching = Arc::clone(&client).watch(watcher.token().clone());
        watcher.spawn("revocations", watching);
        Self {
            mcias,
            client,
            server,
            watcher,
            directory,
        }
    }

    pub(crate) async fn live(&self, wanted: bool) {
        let is = async || (self.client.is_live() == wanted).then_some(());
        wait_for_async("the stream", is).await.unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.watcher.token().cancel();
        self.server.token().cancel();
    }
}
