//! What `cargo xtask bench crypto` measures: a line of JSON for each figure, ours beside that of `openssl speed` in the same run.
//!
//! Metacrypt is the real one, over TLS on loopback, with MCIAS beside it; the seal alone is a cheap one. All that the services do is done on the first core,
//! where `openssl speed` runs in its turn, and requests are made on the last one, by threads that keep their connections and look at nothing but the length of an
//! answer. Rounds of ours and of the peer's take turns, and medians are compared.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use data_encoding::BASE64;
use mc_proto::{
    mcias::v1::{
        AccountType, CreateAccountRequest, IssueTokenRequest, LoginRequest, PutServiceRequest,
        Service, accounts_client::AccountsClient, administration_client::AdministrationClient,
        auth_client::AuthClient,
    },
    metacrypt::v1::{
        CreateKeyRequest, CreateMountRequest, KeyAlgorithm, UnsealRequest,
        sealing_client::SealingClient, system_client::SystemClient, transit_client::TransitClient,
    },
};
use mc_testkit::{
    ca::{Ca, KeyExchange},
    port::free,
};
use mcdsl::{clock::Clock, db::Store, shutdown::Shutdown};
use metacrypt::barrier::{Cost, Seal, Wanted};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use serde_json::json;
use tokio::runtime::Builder;
use tonic::{
    Request,
    transport::{Certificate, Channel, ClientTlsConfig},
};
use zeroize::Zeroizing;

/// That of the program.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

/// Rounds of each.
const ROUNDS: usize = 5;
/// Of a round.
const ROUND: Duration = Duration::from_secs(2);
/// Connections that are kept.
const CONNECTIONS: usize = 4;
/// Entries of a batch: with 1 KiB each about as much as a request may be.
const BATCH: usize = 512;
/// Bytes of a plaintext.
const PLAINTEXT: usize = 1024;
const PASSWORD: &str = "walnut anchor tepid flamingo lease";
/// What a request is on.
const KEYS: &str = "/v1/transit/bench/keys";

/// The services, running.
struct World {
    https: SocketAddr,
    token: String,
    tls: Arc<ClientConfig>,
}

fn main() -> Result<()> {
    let last = thread::available_parallelism()?.get() - 1;
    let root = tempfile::tempdir()?;
    let shutdown = Shutdown::new();
    let services = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .on_thread_start(|| {
            if let Err(error) = pin(0) {
                eprintln!("a thread is on any core: {error}");
            }
        })
        .build()?;
    let starting = services.spawn({
        let (root, shutdown) = (root.path().to_owned(), shutdown.clone());
        async move { start(&root, &shutdown).await }
    });
    let world = services.block_on(starting)??;
    let message = BASE64.encode(&[7; PLAINTEXT]);
    let plaintext = json!({ "plaintext": message });
    for (name, path, of, batch, peer) in [
        (
            "crypto.encrypt",
            "aes/encrypt",
            ("plaintexts", plaintext.clone()),
            BATCH,
            Peer::Aes,
        ),
        (
            "crypto.encrypt.single",
            "aes/encrypt",
            ("plaintexts", plaintext),
            1,
            Peer::Aes,
        ),
        (
            "crypto.sign",
            "ed25519/sign",
            ("messages", json!("AAAA")),
            BATCH,
            Peer::Ed25519,
        ),
        (
            "crypto.sign.single",
            "ed25519/sign",
            ("messages", json!("AAAA")),
            1,
            Peer::Ed25519,
        ),
    ] {
        let body = json!({ of.0: vec![of.1; batch] }).to_string();
        let request = world.request(&format!("{KEYS}/{path}"), &body);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(world.round(&request, last)? * batch as f64);
            theirs.push(peer.round()?);
        }
        row(name, median(ours), peer.name(), median(theirs));
    }
    services.block_on(shutdown.finish(Duration::from_secs(10)));
    Ok(())
}

fn row(name: &str, ours: f64, peer_name: &str, peer: f64) {
    let unit = "1/s";
    println!(
        "{}",
        json!({ "name": name, "unit": unit, "ours": ours, "peer_name": peer_name, "peer": peer })
    );
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// This thread, and what it starts, runs on this core alone.
fn pin(core: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// What `openssl speed` does.
#[derive(Clone, Copy)]
enum Peer {
    Aes,
    Ed25519,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Self::Aes => "openssl speed, AES-256-GCM of 1 KiB, one core",
            Self::Ed25519 => "openssl speed, Ed25519 sign, one core",
        }
    }

    /// How often a second, on the core of the services.
    fn round(self) -> Result<f64> {
        let (args, fields) = match self {
            Self::Aes => (&["-bytes", "1024", "-evp", "aes-256-gcm"][..], "+F:"),
            Self::Ed25519 => (&["ed25519"][..], "+F6:"),
        };
        let run = thread::spawn(move || {
            pin(0)?;
            let mut command = Command::new("openssl");
            command.args(["speed", "-mr", "-seconds", "1"]).args(args);
            command.stderr(Stdio::null());
            anyhow::Ok(command.output().context("cannot run openssl")?)
        });
        let Ok(output) = run.join() else {
            bail!("the thread of openssl panicked");
        };
        let text = String::from_utf8(output?.stdout)?;
        let line = text.lines().find(|line| line.starts_with(fields));
        let line = line.with_context(|| format!("openssl said {text:?}"))?;
        let figure = |at: usize| line.split(':').nth(at).context("a figure");
        Ok(match self {
            // Bytes a second.
            Self::Aes => figure(3)?.parse::<f64>()? / PLAINTEXT as f64,
            Self::Ed25519 => figure(4)?.parse()?,
        })
    }
}

impl World {
    fn request(&self, path: &str, body: &str) -> Vec<u8> {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        )
        .into_bytes()
    }

    /// Requests a second.
    fn round(&self, request: &[u8], core: usize) -> Result<f64> {
        let begun = Instant::now();
        let done = thread::scope(|scope| {
            let asking: Vec<_> = (0..CONNECTIONS)
                .map(|_| {
                    scope.spawn(|| {
                        pin(core)?;
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

fn with<T>(token: &str, message: T) -> Result<Request<T>> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}").parse()?;
    request.metadata_mut().insert("authorization", value);
    Ok(request)
}

async fn channel(ca: &str, at: SocketAddr) -> Result<Channel> {
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

async fn start(root: &Path, shutdown: &Shutdown) -> Result<World> {
    let ca = Ca::new()?;
    let (pages, mcias, own, token) = identity(&root.join("mcias"), &ca, shutdown).await?;
    let (https, grpc) = (free(), free());
    ca.issue(&["localhost"])?.write(root, "server")?;
    fs::write(root.join("ca.pem"), ca.pem())?;
    for (name, secret) in [("token", own.as_str()), ("secret", "unused")] {
        fs::write(root.join(name), secret)?;
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o600))?;
    }
    let text = format!(
        "[server]\nlisten = '{https}'\ngrpc_listen = '{grpc}'\ntls_cert = 'server.crt'\ntls_key = 'server.key'\n\
         tls_ca = 'ca.pem'\n[mcias]\nserver_url = 'https://localhost:{}'\nca_cert = 'ca.pem'\n\
         service_name = 'metacrypt'\ntoken_file = 'token'\n[sso]\nissuer = 'https://localhost:{}'\n\
         public_url = 'https://{https}'\nclient_secret_file = 'secret'\n",
        mcias.port(),
        pages.port(),
    );
    fs::write(root.join("metacrypt.toml"), text)?;
    let config = metacrypt::Config::load("metacrypt", root, None, std::iter::empty())?;
    let store = Store::open(&config.database.path, metacrypt::SERVICE.migrations)?;
    let wanted = Wanted {
        cost: Cost {
            memory_kib: 64,
            passes: 1,
            lanes: 1,
        },
        recovery: false,
        shares: None,
    };
    let password = Zeroizing::new(PASSWORD.to_owned());
    Seal::new(store, Clock::default())
        .init(password, wanted)
        .await?;
    metacrypt::start(config, shutdown).await?;
    let channel = channel(&ca.pem(), grpc).await?;
    let unseal = UnsealRequest {
        password: PASSWORD.to_owned(),
        ..UnsealRequest::default()
    };
    SealingClient::new(channel.clone()).unseal(unseal).await?;
    let mount = CreateMountRequest {
        name: "bench".to_owned(),
        engine: "transit".to_owned(),
    };
    let mut system = SystemClient::new(channel.clone());
    system.create_mount(with(&token, mount)?).await?;
    let mut transit = TransitClient::new(channel);
    for (name, algorithm) in [
        ("aes", KeyAlgorithm::Aes256Gcm),
        ("ed25519", KeyAlgorithm::Ed25519),
    ] {
        let create = CreateKeyRequest {
            mount: "bench".to_owned(),
            name: name.to_owned(),
            algorithm: algorithm.into(),
            ..CreateKeyRequest::default()
        };
        transit.create_key(with(&token, create)?).await?;
    }
    Ok(World {
        https,
        token,
        tls: ca.client_config(KeyExchange::Classic)?,
    })
}
