//! What `cargo xtask bench identity` measures: a line of JSON for each figure, ours beside a peer's of the same run.
//!
//! The service is the real one, over TLS on loopback, in this process; what a service does with a token is done as services do it, with
//! the revocations known by stream. Rounds of ours and of the peer's take turns, and medians are compared.

use std::{
    fs,
    hint::black_box,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::available_parallelism,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, Version};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mc_proto::mcias::v1::{
    AccountType, CheckTokenRequest, CreateAccountRequest, GetKeysRequest, IssueTokenRequest,
    LoginRequest, accounts_client::AccountsClient, auth_client::AuthClient,
};
use mc_testkit::ca::Ca;
use mcdsl::{
    auth::{
        Authenticator as _,
        client::{Client, Config as ClientConfig},
        token::Keys,
    },
    cli::PrivateFile,
    shutdown::Shutdown,
};
use mcias::config::Config;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request,
    transport::{Certificate, Channel, ClientTlsConfig},
};

/// Rounds of each.
const ROUNDS: usize = 7;
/// Of a round that counts.
const ROUND: Duration = Duration::from_secs(1);
/// Of a round of logins: each takes a tenth of a second.
const LOGINS: Duration = Duration::from_secs(4);
const PASSWORD: &str = "korrekt horse battery staple";

struct World {
    grpc: u16,
    ca: String,
    admin: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let root = tempfile::tempdir()?;
    let shutdown = Shutdown::new();
    let world = start(root.path(), &shutdown).await?;
    verification(&world, root.path()).await?;
    logins(&world).await?;
    introspections(&world).await?;
    storm(&world).await?;
    shutdown.finish(Duration::from_secs(10)).await;
    Ok(())
}

fn row(name: &str, unit: &str, ours: f64, peer: Option<(&str, f64)>) {
    let (peer_name, peer) = peer.unzip();
    println!(
        "{}",
        json!({ "name": name, "unit": unit, "ours": ours, "peer_name": peer_name, "peer": peer })
    );
}

async fn start(root: &Path, shutdown: &Shutdown) -> Result<World> {
    let ca = Ca::new()?;
    let (certificate, key) = ca.issue(&["localhost"])?.write(root, "server")?;
    fs::write(root.join("ca.pem"), ca.pem())?;
    let text = format!(
        "[server]\nlisten = '127.0.0.1:0'\ngrpc_listen = '127.0.0.1:0'\ntls_cert = {certificate:?}\ntls_key = {key:?}\n\
         [token]\nissuer = 'https://localhost'\n"
    );
    fs::write(root.join("mcias.toml"), text)?;
    let config = Config::load(root, None, std::iter::empty())?;
    let made = mcias::init(&config, &"admin".parse()?)?;
    let handle = mcias::start(config, shutdown).await?;
    let mut world = World {
        grpc: handle.grpc().port(),
        ca: ca.pem(),
        admin: String::new(),
    };
    let mut auth = AuthClient::new(world.channel(1).await?);
    world.admin = auth
        .login(login("admin", &made.password))
        .await?
        .into_inner()
        .token;
    Ok(world)
}

fn login(account: &str, password: &str) -> LoginRequest {
    LoginRequest {
        account: account.to_owned(),
        password: password.to_owned(),
        ..LoginRequest::default()
    }
}

fn with<T>(token: &str, message: T) -> Result<Request<T>> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}").parse()?;
    request.metadata_mut().insert("authorization", value);
    Ok(request)
}

impl World {
    /// From an address of its own: what one network may do at once is bounded.
    async fn channel(&self, number: u8) -> Result<Channel> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.ca))
            .domain_name("localhost");
        let endpoint = Channel::from_shared(format!("https://127.0.0.1:{}", self.grpc))?
            .local_address(Some([127, 0, 3, number].into()));
        Ok(endpoint.tls_config(tls)?.connect().await?)
    }

    /// A system account's token for this service.
    async fn system(&self, name: &str) -> Result<String> {
        let mut accounts = AccountsClient::new(self.channel(1).await?);
        let create = CreateAccountRequest {
            name: name.to_owned(),
            account_type: AccountType::System.into(),
            ..CreateAccountRequest::default()
        };
        accounts.create_account(with(&self.admin, create)?).await?;
        let issue = IssueTokenRequest {
            name: name.to_owned(),
            ..IssueTokenRequest::default()
        };
        let issued = accounts.issue_token(with(&self.admin, issue)?).await?;
        Ok(issued.into_inner().token)
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// What a service does with a token the first time that it comes, beside the bare verification of its signature; and with the same one again.
async fn verification(world: &World, root: &Path) -> Result<()> {
    let token = world.system("robot").await?;
    PrivateFile::create(&root.join("token"))?.write(token.as_bytes())?;
    let config = ClientConfig {
        server_url: format!("https://localhost:{}", world.grpc),
        ca_cert: root.join("ca.pem"),
        service_name: "mcias".to_owned(),
        token_file: root.join("token"),
    };
    let client = Client::new(&config, mcdsl::clock::Clock::default())?;
    let cancel = CancellationToken::new();
    let watching = tokio::spawn(Arc::clone(&client).watch(cancel.clone()));
    while !client.is_live() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut auth = AuthClient::new(world.channel(1).await?);
    let published = auth.get_keys(GetKeysRequest {}).await?.into_inner();
    let (keys, issuer) = (published.keys, published.issuer);
    let key = UnparsedPublicKey::new(&ED25519, keys.first().context("a key")?.key.clone());
    let keys = Keys::new(keys.iter().map(|key| (key.kid.as_str(), &*key.key)));
    let (signed, signature) = token.rsplit_once('.').context("a JWT")?;
    let signature = URL_SAFE_NO_PAD.decode(signature)?;
    let (mut first, mut again, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (begun, mut done) = (Instant::now(), 0_u64);
        while begun.elapsed() < ROUND {
            for _ in 0..100 {
                let now = SystemTime::now();
                black_box(keys.verify(black_box(&token), &issuer, Some("mcias"), now)?);
            }
            done += 100;
        }
        first.push(done as f64 / begun.elapsed().as_secs_f64());
        let (begun, mut done) = (Instant::now(), 0_u64);
        while begun.elapsed() < ROUND {
            for _ in 0..100 {
                black_box(client.authenticate(black_box(&token)).await?);
            }
            done += 100;
        }
        again.push(done as f64 / begun.elapsed().as_secs_f64());
        let (begun, mut done) = (Instant::now(), 0_u64);
        while begun.elapsed() < ROUND {
            for _ in 0..100 {
                let verified = key.verify(black_box(signed.as_bytes()), black_box(&signature));
                ensure!(verified.is_ok(), "the signature is not valid");
            }
            done += 100;
        }
        bare.push(done as f64 / begun.elapsed().as_secs_f64());
    }
    cancel.cancel();
    watching.await?;
    let peer = Some(("Ed25519 of aws-lc-rs alone", median(bare)));
    row("identity.verify", "1/s", median(first), peer);
    row("identity.verify.again", "1/s", median(again), None);
    Ok(())
}

/// Logins with as many at once as may wait, beside Argon2 on all cores.
async fn logins(world: &World) -> Result<()> {
    let cores = available_parallelism()?.get();
    let clients = 4 * cores;
    let mut accounts = AccountsClient::new(world.channel(1).await?);
    for n in 0..clients {
        let create = CreateAccountRequest {
            name: format!("person-{n}"),
            account_type: AccountType::Human.into(),
            roles: vec!["user".to_owned()],
            password: PASSWORD.to_owned(),
            ..CreateAccountRequest::default()
        };
        accounts.create_account(with(&world.admin, create)?).await?;
    }
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        ours.push(round_of_logins(world, clients).await?);
        bare.push(round_of_hashes(cores).await?);
    }
    let peer = Some(("cores / Argon2id's time", median(bare)));
    row("identity.login", "1/s", median(ours), peer);
    Ok(())
}

async fn round_of_logins(world: &World, clients: usize) -> Result<f64> {
    let done = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    let begun = Instant::now();
    for n in 0..clients {
        let mut auth = AuthClient::new(world.channel(10 + u8::try_from(n)?).await?);
        let done = Arc::clone(&done);
        tasks.push(tokio::spawn(async move {
            while begun.elapsed() < LOGINS {
                auth.login(login(&format!("person-{n}"), PASSWORD)).await?;
                done.fetch_add(1, Relaxed);
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(done.load(Relaxed) as f64 / begun.elapsed().as_secs_f64())
}

async fn round_of_hashes(cores: usize) -> Result<f64> {
    let begun = Instant::now();
    let hash = move || {
        let params = Params::new(64 * 1024, 3, 4, Some(32)).map_err(anyhow::Error::msg)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut done = 0_u64;
        while begun.elapsed() < LOGINS {
            let hashed = argon2.hash_password(black_box(PASSWORD.as_bytes()));
            black_box(hashed.map_err(anyhow::Error::msg)?);
            done += 1;
        }
        anyhow::Ok(done)
    };
    let threads: Vec<_> = (0..cores)
        .map(|_| tokio::task::spawn_blocking(hash))
        .collect();
    let mut done = 0;
    for thread in threads {
        done += thread.await??;
    }
    Ok(done as f64 / begun.elapsed().as_secs_f64())
}

/// Questions whether a token is valid, over gRPC with TLS.
async fn introspections(world: &World) -> Result<()> {
    let token = world.system("asker").await?;
    let done = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for n in 0..32 {
        let mut auth = AuthClient::new(world.channel(1 + n % 4).await?);
        let (token, done) = (token.clone(), Arc::clone(&done));
        tasks.push(tokio::spawn(async move {
            while begun.elapsed() < ROUND * 3 {
                let check = CheckTokenRequest {
                    token: token.clone(),
                };
                let answer = auth.check_token(with(&token, check)?).await?;
                ensure!(answer.into_inner().valid, "the token is valid");
                done.fetch_add(1, Relaxed);
            }
            Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let rate = done.load(Relaxed) as f64 / begun.elapsed().as_secs_f64();
    row("identity.introspect", "1/s", rate, None);
    Ok(())
}

/// Ten times as many logins as cores can do: what is refused is refused quickly, and what is done meanwhile is as much as before.
async fn storm(world: &World) -> Result<()> {
    let (done, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for n in 0..200_u8 {
        let mut auth = AuthClient::new(world.channel(20 + n).await?);
        let (done, refused) = (Arc::clone(&done), Arc::clone(&refused));
        tasks.push(tokio::spawn(async move {
            let mut times = Vec::new();
            for attempt in 0.. {
                if begun.elapsed() >= LOGINS * 2 {
                    break;
                }
                let asked = Instant::now();
                // Another name each time: what refuses is that there are too many, not that one failed.
                let name = format!("nobody-{n}-{attempt}");
                match auth.login(login(&name, PASSWORD)).await {
                    Err(status) if status.code() == Code::ResourceExhausted => {
                        refused.fetch_add(1, Relaxed);
                        times.push(asked.elapsed().as_secs_f64() * 1e3);
                    }
                    Err(status) if status.code() == Code::Unauthenticated => {
                        done.fetch_add(1, Relaxed);
                    }
                    other => return Err(anyhow::anyhow!("{other:?}")),
                }
                // As clients do that were told to come back.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Ok(times)
        }));
    }
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    let seconds = begun.elapsed().as_secs_f64();
    row(
        "identity.storm.done",
        "1/s",
        done.load(Relaxed) as f64 / seconds,
        None,
    );
    row(
        "identity.storm.refused",
        "1/s",
        refused.load(Relaxed) as f64 / seconds,
        None,
    );
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or(0.0);
    row("identity.storm.refusal.p50", "ms", at(50), None);
    row("identity.storm.refusal.p99", "ms", at(99), None);
    row("identity.memory.peak", "MiB", peak()?, None);
    Ok(())
}

/// The most memory that this process, service and clients, ever had.
fn peak() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line
        .and_then(|line| line.split_whitespace().nth(1))
        .context("VmHWM")?;
    Ok(kib.parse::<f64>()? / 1024.0)
}
