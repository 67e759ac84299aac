//! A service to test with.

use std::{
    fs::{self, Permissions},
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::SystemTime,
};

use mc_proto::{
    AccountType,
    mcias::v1::{
        AccountType as MessageType, CreateAccountRequest, LoginRequest, LoginResponse,
        accounts_client::AccountsClient, administration_client::AdministrationClient,
        auth_client::AuthClient, profile_client::ProfileClient,
    },
};
use mc_testkit::{ca::Ca, clock::FakeClock};
use mcdsl::{
    auth::token::{Claims, Signer, seconds},
    clock::Clock,
    shutdown::Shutdown,
};
use mcias::{Handle, config::Config, seal};
use rusqlite::config::DbConfig;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig},
};

pub(crate) const ISSUER: &str = "https://auth.example.org";
/// A password that is none of the weak ones.
pub(crate) const PASSWORD: &str = "korrekt horse battery staple";

/// The service, running.
pub(crate) struct Running {
    pub(crate) handle: Handle,
    pub(crate) ca: Ca,
    pub(crate) root: tempfile::TempDir,
    /// The first administrator's.
    pub(crate) password: String,
    clock: Clock,
    config: Config,
    shutdown: Shutdown,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.token().cancel();
    }
}

/// Adds a token.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    pub(crate) fn of(token: &str) -> Self {
        Self(Some(format!("Bearer {token}").parse().unwrap()))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        Ok(request)
    }
}

type Client = InterceptedService<Channel, Bearer>;

/// All services with one token.
pub(crate) struct Clients {
    pub(crate) auth: AuthClient<Client>,
    pub(crate) accounts: AccountsClient<Client>,
    pub(crate) profile: ProfileClient<Client>,
    pub(crate) admin: AdministrationClient<Client>,
}

/// The configuration and the certificate of a service in `root`.
pub(crate) fn files(root: &Path, ca: &Ca) {
    fs::set_permissions(root, Permissions::from_mode(0o700)).unwrap();
    let (certificate, key) = ca
        .issue(&["localhost"])
        .unwrap()
        .write(root, "server")
        .unwrap();
    let text = format!(
        "[server]\nlisten = '127.0.0.1:0'\ngrpc_listen = '127.0.0.1:0'\ntls_cert = '{}'\ntls_key = '{}'\n\
         [token]\nissuer = '{ISSUER}'\n[guessing]\nnever_ban = []\n",
        certificate.display(),
        key.display()
    );
    fs::write(root.join("mcias.toml"), text).unwrap();
    fs::write(root.join("ca.pem"), ca.pem()).unwrap();
}

impl Running {
    pub(crate) async fn start() -> Self {
        Self::start_as(|_| {}).await
    }

    pub(crate) async fn start_as(configure: impl FnOnce(&mut Config)) -> Self {
        Self::start_by(Clock::default(), configure).await
    }

    /// By a clock that the test moves.
    pub(crate) async fn start_at(clock: &FakeClock) -> Self {
        Self::start_by(Clock::of(clock.source()), |_| {}).await
    }

    async fn start_by(clock: Clock, configure: impl FnOnce(&mut Config)) -> Self {
        let root = tempfile::tempdir().unwrap();
        let ca = Ca::new().unwrap();
        files(root.path(), &ca);
        let mut config = Config::load(root.path(), None, std::iter::empty()).unwrap();
        configure(&mut config);
        let made = mcias::init(&config, &"admin".parse().unwrap()).unwrap();
        let shutdown = Shutdown::new();
        let handle = mcias::start_by(clock.clone(), config.clone(), &shutdown);
        let handle = handle.await.unwrap();
        Self {
            clock,
            config,
            handle,
            ca,
            root,
            password: made.password,
            shutdown,
        }
    }

    /// The same, started anew.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.begin().await;
    }

    /// For commands that want the database for themselves.
    pub(crate) async fn stop(&self) {
        self.shutdown
            .finish(std::time::Duration::from_secs(20))
            .await;
        self.handle.let_go();
    }

    /// Stops, and goes on in another directory with a copy of the database that this process has never had open: SQLite, which a command
    /// replaces a database under, is not to be in the same process.
    pub(crate) async fn move_away(&mut self) {
        self.stop().await;
        let root = tempfile::tempdir().unwrap();
        files(root.path(), &self.ca);
        let of = |name: &str| (self.root.path().join(name), root.path().join(name));
        let (old, new) = of("master.key");
        fs::copy(old, new).unwrap();
        let (old, new) = of("mcias.db");
        let db = mcdsl::db::open_as_it_is(&old).unwrap();
        mcdsl::db::snapshot(&db, &new).unwrap();
        self.config = Config::load(root.path(), None, std::iter::empty()).unwrap();
        self.root = root;
    }

    /// After [`Self::stop`].
    pub(crate) async fn begin(&mut self) {
        self.shutdown = Shutdown::new();
        let config = self.config.clone();
        let started = mcias::start_by(self.clock.clone(), config, &self.shutdown);
        self.handle = started.await.unwrap();
    }

    pub(crate) fn database(&self) -> rusqlite::Connection {
        let db = rusqlite::Connection::open(self.root.path().join("mcias.db")).unwrap();
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)
            .unwrap();
        db
    }

    /// A connection from one of this machine's addresses.
    pub(crate) async fn channel_from(&self, source: &str) -> Channel {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.ca.pem()))
            .domain_name("localhost");
        let endpoint = Channel::from_shared(format!("https://{}", self.handle.grpc())).unwrap();
        let source: IpAddr = source.parse().unwrap();
        let endpoint = endpoint
            .tls_config(tls)
            .unwrap()
            .local_address(Some(source));
        endpoint.connect().await.unwrap()
    }

    pub(crate) async fn clients_from(&self, source: &str, token: Option<&str>) -> Clients {
        let channel = self.channel_from(source).await;
        let bearer = token.map_or(Bearer(None), Bearer::of);
        Clients {
            auth: AuthClient::with_interceptor(channel.clone(), bearer.clone()),
            accounts: AccountsClient::with_interceptor(channel.clone(), bearer.clone()),
            profile: ProfileClient::with_interceptor(channel.clone(), bearer.clone()),
            admin: AdministrationClient::with_interceptor(channel, bearer),
        }
    }

    pub(crate) async fn clients(&self, token: Option<&str>) -> Clients {
        self.clients_from("127.0.0.1", token).await
    }

    /// The first administrator's.
    pub(crate) async fn admin(&self) -> Clients {
        let token = self.log_in("admin", &self.password).await.unwrap().token;
        self.clients(Some(&token)).await
    }

    pub(crate) async fn log_in(
        &self,
        account: &str,
        password: &str,
    ) -> Result<LoginResponse, Status> {
        let mut clients = self.clients(None).await;
        clients.log_in(account, password, "").await
    }

    /// What curl gets: the status and the body.
    pub(crate) async fn curl(&self, more: &[&str], path: &str) -> (u16, String) {
        let mut command = tokio::process::Command::new("curl");
        command
            .args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
            .arg(self.root.path().join("ca.pem"))
            .args(["--write-out", "\n%{http_code}"])
            .args(more)
            .arg(format!(
                "https://localhost:{}{path}",
                self.handle.address().port()
            ));
        let output = command.output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    /// Signs with the service's own key, as nobody else can.
    pub(crate) fn signer(&self) -> Signer {
        let key = seal::Key::read(&self.root.path().join("master.key")).unwrap();
        let sql = "SELECT kid, private FROM signing_key WHERE retired_s IS NULL";
        let found = self.database().query_row(sql, [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))
        });
        let (kid, private) = found.unwrap();
        let private = key.open(&format!("signing-key/{kid}"), &private).unwrap();
        Signer::new(kid, &private)
    }
}

impl Clients {
    pub(crate) async fn log_in(
        &mut self,
        account: &str,
        password: &str,
        code: &str,
    ) -> Result<LoginResponse, Status> {
        let request = LoginRequest {
            account: account.to_owned(),
            password: password.to_owned(),
            code: code.to_owned(),
            ..LoginRequest::default()
        };
        Ok(self.auth.login(request).await?.into_inner())
    }

    /// A person's account with [`PASSWORD`].
    pub(crate) async fn person(&mut self, name: &str, role: &str) {
        let request = CreateAccountRequest {
            name: name.to_owned(),
            account_type: MessageType::Human.into(),
            roles: vec![role.to_owned()],
            password: PASSWORD.to_owned(),
            ..CreateAccountRequest::default()
        };
        self.accounts.create_account(request).await.unwrap();
    }

    pub(crate) async fn system(&mut self, name: &str) {
        let request = CreateAccountRequest {
            name: name.to_owned(),
            account_type: MessageType::System.into(),
            ..CreateAccountRequest::default()
        };
        self.accounts.create_account(request).await.unwrap();
    }
}

/// What would be of an account that there is not; each time another token of another login.
pub(crate) fn claims(name: &str, account_type: AccountType) -> Claims {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let now = seconds(SystemTime::now());
    let number = NUMBER.fetch_add(1, Relaxed);
    Claims {
        iss: ISSUER.to_owned(),
        sub: format!("id-of-{name}"),
        aud: vec!["mcias".to_owned()],
        iat: now,
        nbf: now,
        exp: now + 3600,
        jti: format!("token-{number}-of-{name}"),
        sid: format!("login-{number}-of-{name}"),
        name: name.to_owned(),
        account_type,
        roles: vec![name.to_owned()],
        tags: Vec::new(),
        amr: vec!["pwd".to_owned()],
    }
}
