//! The services, running.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use mc_proto::{
    mcias::v1::{
        AccountType, CreateAccountRequest, IssueTokenRequest, LoginRequest, PutServiceRequest,
        Service, accounts_client::AccountsClient, administration_client::AdministrationClient,
        auth_client::AuthClient,
    },
    metacrypt::v1::{
        CreateMountRequest, UnsealRequest, sealing_client::SealingClient,
        system_client::SystemClient,
    },
};
use mc_testkit::{
    ca::{Ca, KeyExchange},
    port::free,
};
use mcdsl::{clock::Clock, db::Store, shutdown::Shutdown};
use metacrypt::{
    Config,
    barrier::{Cost, Seal, Wanted},
};
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use tokio::runtime::{Builder, Runtime};
use tonic::{
    Request,
    transport::{Certificate, Channel, ClientTlsConfig},
};
use zeroize::Zeroizing;

use crate::pin;

/// Of a round.
pub(crate) const ROUND: Duration = Duration::from_secs(2);
const PASSWORD: &str = "walnut anchor tepid flamingo lease";
/// That a seal costs where it is not what is measured.
const CHEAP: Cost = Cost {
    memory_kib: 64,
    passes: 1,
    lanes: 1,
};

/// MCIAS and Metacrypt, unsealed, with a mount `bench`.
pub(crate) struct World {
    pub(crate) https: SocketAddr,
    pub(crate) channel: Channel,
    /// An administrator's.
    pub(crate) token: String,
    /// The file of the CA that their certificates are of.
    pub(crate) ca: std::path::PathBuf,
    tls: Arc<ClientConfig>,
    services: Runtime,
    shutdown: Shutdown,
    _root: tempfile::TempDir,
}

/// A kind of request: as it is sent, and to what it is.
pub(crate) struct Asked<'a> {
    pub(crate) path: &'a str,
    pub(crate) media: &'a str,
    pub(crate) body: &'a [u8],
}

impl World {
    /// On the first core alone, or on all.
    pub(crate) fn start(engine: &str, one_core: bool) -> Result<Self> {
        let root = tempfile::tempdir()?;
        let shutdown = Shutdown::new();
        let cores = thread::available_parallelism()?.get();
        let services = Builder::new_multi_thread()
            .worker_threads(if one_core { 1 } else { cores })
            .enable_all()
            .on_thread_start(move || {
                if let Err(error) = if one_core { pin(0) } else { Ok(()) } {
                    eprintln!("a thread is on any core: {error}");
                }
            })
            .build()?;
        let starting = services.spawn({
            let (root, shutdown) = (root.path().to_owned(), shutdown.clone());
            let engine = engine.to_owned();
            async move { open(&root, &shutdown, engine).await }
        });
        let (https, channel, token, tls) = services.block_on(starting)??;
        Ok(Self {
            https,
            channel,
            token,
            ca: root.path().join("ca.pem"),
            tls,
            services,
            shutdown,
            _root: root,
        })
    }

    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.services.block_on(work)
    }

    pub(crate) fn stop(self) {
        let stopping = self.shutdown.finish(Duration::from_secs(10));
        self.services.block_on(stopping);
    }

    /// By the administrator.
    pub(crate) fn by<T>(&self, message: T) -> Result<Request<T>> {
        with(&self.token, message)
    }

    pub(crate) fn request(&self, asked: &Asked<'_>) -> Vec<u8> {
        let Asked { path, media, body } = asked;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: {media}\r\nAccept: {media}\r\nContent-Length: {}\r\n\r\n",
            self.token,
            body.len()
        );
        [head.as_bytes(), body].concat()
    }

    /// Requests a second, over so many connections that are kept; by threads on one core, or on any.
    pub(crate) fn round(
        &self,
        request: &[u8],
        connections: usize,
        core: Option<usize>,
    ) -> Result<f64> {
        let begun = Instant::now();
        let done = thread::scope(|scope| {
            let asking: Vec<_> = (0..connections)
                .map(|_| {
                    scope.spawn(|| {
                        core.map_or(Ok(()), pin)?;
                        self.ask(request, begun)
                    })
                })
                .collect();
            asking
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")))
                .sum::<Result<u64>>()
        })?;
        Ok(done as f64 / begun.elapsed().as_secs_f64())
    }

    /// Over one connection, until the round is over.
    fn ask(&self, request: &[u8], begun: Instant) -> Result<u64> {
        let socket = TcpStream::connect(self.https)?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let tls = ClientConnection::new(Arc::clone(&self.tls), name)?;
        let mut stream = BufReader::with_capacity(1 << 16, StreamOwned::new(tls, socket));
        let (mut line, mut body, mut done) = (String::new(), Vec::new(), 0);
        while begun.elapsed() < ROUND {
            stream.get_mut().write_all(request)?;
            let (mut length, mut status) = (0, String::new());
            loop {
                line.clear();
                stream.read_line(&mut line)?;
                let field = line.trim_end().to_ascii_lowercase();
                if field.is_empty() {
                    break;
                }
                if status.is_empty() {
                    status = field;
                } else if let Some(value) = field.strip_prefix("content-length:") {
                    length = value.trim().parse()?;
                }
            }
            body.resize(length, 0);
            stream.read_exact(&mut body)?;
            let said = || String::from_utf8_lossy(&body[..length.min(500)]).into_owned();
            ensure!(status.starts_with("http/1.1 200"), "{status}: {}", said());
            done += 1;
        }
        Ok(done)
    }
}

pub(crate) fn with<T>(token: &str, message: T) -> Result<Request<T>> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}").parse()?;
    request.metadata_mut().insert("authorization", value);
    Ok(request)
}

pub(crate) async fn channel(ca: &str, at: SocketAddr) -> Result<Channel> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ca))
        .domain_name("localhost");
    let endpoint = Channel::from_shared(format!("https://{at}"))?;
    Ok(endpoint.tls_config(tls)?.connect().await?)
}

/// MCIAS in a directory; its addresses (pages, gRPC), and a token of Metacrypt and of an administrator for it.
async fn identity(
    root: &Path,
    ca: &Ca,
    shutdown: &Shutdown,
) -> Result<(SocketAddr, SocketAddr, String, String)> {
    fs::create_dir(root)?;
    fs::set_permissions(root, fs::Permissions::from_mode(0o700))?;
    let (certificate, key) = ca.issue(&["localhost"])?.write(root, "server")?;
    let text = format!(
        "[server]\nlisten = '127.0.0.1:0'\ngrpc_listen = '127.0.0.1:0'\ntls_cert = {certificate:?}\ntls_key = {key:?}\n\
         [token]\nissuer = 'https://localhost'\n"
    );
    fs::write(root.join("mcias.toml"), text)?;
    let config = mcias::config::Config::load(root, None, std::iter::empty())?;
    let made = mcias::init(&config, &"admin".parse()?)?;
    let handle = mcias::start(config, shutdown).await?;
    let channel = channel(&ca.pem(), handle.grpc()).await?;
    let mut auth = AuthClient::new(channel.clone());
    let login = |service: &str| LoginRequest {
        account: "admin".to_owned(),
        password: made.password.clone(),
        service: service.to_owned(),
        ..LoginRequest::default()
    };
    let admin = auth.login(login("")).await?.into_inner().token;
    let mut accounts = AccountsClient::new(channel.clone());
    let create = CreateAccountRequest {
        name: "metacrypt".to_owned(),
        account_type: AccountType::System.into(),
        ..CreateAccountRequest::default()
    };
    accounts.create_account(with(&admin, create)?).await?;
    let put = PutServiceRequest {
        service: Some(Service {
            name: "metacrypt".to_owned(),
            ..Service::default()
        }),
        new_secret: false,
    };
    let mut administration = AdministrationClient::new(channel);
    administration.put_service(with(&admin, put)?).await?;
    let issue = IssueTokenRequest {
        name: "metacrypt".to_owned(),
        services: vec!["mcias".to_owned()],
        ..IssueTokenRequest::default()
    };
    let issued = accounts.issue_token(with(&admin, issue)?).await?;
    let user = auth.login(login("metacrypt")).await?.into_inner().token;
    let own = issued.into_inner().token;
    Ok((handle.address(), handle.grpc(), own.to_string(), user))
}

/// What a new Metacrypt at `root` is configured with.
pub(crate) fn configured(
    root: &Path,
    ca: &Ca,
    https: SocketAddr,
    mcias: u16,
    pages: u16,
    own: &str,
) -> Result<Config> {
    let grpc = free();
    ca.issue(&["localhost"])?.write(root, "server")?;
    fs::write(root.join("ca.pem"), ca.pem())?;
    for (name, secret) in [("token", own), ("secret", "unused")] {
        fs::write(root.join(name), secret)?;
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o600))?;
    }
    let text = format!(
        "[server]\nlisten = '{https}'\ngrpc_listen = '{grpc}'\ntls_cert = 'server.crt'\ntls_key = 'server.key'\n\
         tls_ca = 'ca.pem'\n[mcias]\nserver_url = 'https://localhost:{mcias}'\nca_cert = 'ca.pem'\n\
         service_name = 'metacrypt'\ntoken_file = 'token'\n[sso]\nissuer = 'https://localhost:{pages}'\n\
         public_url = 'https://{https}'\nclient_secret_file = 'secret'\n",
    );
    fs::write(root.join("metacrypt.toml"), text)?;
    Ok(Config::load("metacrypt", root, None, std::iter::empty())?)
}

/// Makes the seal of a new one.
pub(crate) async fn sealed(config: &Config, cost: Cost) -> Result<()> {
    let store = Store::open(&config.database.path, metacrypt::SERVICE.migrations)?;
    let wanted = Wanted {
        cost,
        recovery: false,
        shares: None,
    };
    let password = Zeroizing::new(PASSWORD.to_owned());
    Seal::new(store, Clock::default())
        .init(password, wanted)
        .await?;
    Ok(())
}

/// Opens the seal.
pub(crate) async fn unseal(channel: Channel) -> Result<()> {
    let request = UnsealRequest {
        password: PASSWORD.to_owned(),
        ..UnsealRequest::default()
    };
    SealingClient::new(channel).unseal(request).await?;
    Ok(())
}

async fn open(
    root: &Path,
    shutdown: &Shutdown,
    engine: String,
) -> Result<(SocketAddr, Channel, String, Arc<ClientConfig>)> {
    let ca = Ca::new()?;
    let (pages, mcias, own, token) = identity(&root.join("mcias"), &ca, shutdown).await?;
    let config = configured(root, &ca, free(), mcias.port(), pages.port(), &own)?;
    sealed(&config, CHEAP).await?;
    let handle = metacrypt::start(config, shutdown).await?;
    let channel = channel(&ca.pem(), handle.grpc).await?;
    unseal(channel.clone()).await?;
    let mount = CreateMountRequest {
        name: "bench".to_owned(),
        engine,
    };
    let mut system = SystemClient::new(channel.clone());
    system.create_mount(with(&token, mount)?).await?;
    let tls = ca.client_config(KeyExchange::Classic)?;
    Ok((handle.address, channel, token, tls))
}
