//! Who guesses passwords at MCIAS, through this node, is dropped by this node's kernel, until an administrator lifts that; nobody else is.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use mc_proto::mcias::v1::{
    AccountType, CreateAccountRequest, IssueTokenRequest, LiftBanRequest, LoginRequest,
    accounts_client::AccountsClient, administration_client::AdministrationClient,
    auth_client::AuthClient,
};
use mc_testkit::{ca::Ca, wait_for};
use mcdsl::{cli::PrivateFile, shutdown::Shutdown};
use mcias::config::Config;
use tokio::runtime::Runtime;
use tonic::{
    Code, Request,
    transport::{Certificate, Channel, ClientTlsConfig},
};

use crate::world::{BACKEND, NODE, World};

const NAME: &str = "auth.example.org";
/// The backend's other address: by it the node asks for itself, while what it relays says whom it speaks for.
const BACKEND6: &str = "fd09:2::2";
/// Another address of the client's machine.
const NEIGHBOUR: &str = "10.9.1.3";

/// Files of an MCIAS that listens in the backend's namespace and believes the node's word on who asks.
fn configure(root: &Path, ca: &Ca) -> Result<Config> {
    let (certificate, key) = ca.issue(&[NAME, BACKEND6])?.write(root, "server")?;
    let text = format!(
        "[server]\nlisten = '[::]:8443'\ngrpc_listen = '[::]:9443'\ntls_cert = {certificate:?}\ntls_key = {key:?}\n\
         trusted_proxies = ['10.9.2.1/32']\n[token]\nissuer = 'https://{NAME}'\n"
    );
    fs::write(root.join("mcias.toml"), text)?;
    Ok(Config::load(root, None, std::iter::empty())?)
}

async fn channel(address: &str, ca: &str) -> Result<Channel> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ca))
        .domain_name(NAME);
    let endpoint = Channel::from_shared(format!("https://{address}"))?
        .connect_timeout(Duration::from_secs(2))
        .timeout(Duration::from_secs(5));
    Ok(endpoint.tls_config(tls)?.connect_lazy())
}

fn login(account: &str, password: &str) -> LoginRequest {
    LoginRequest {
        account: account.to_owned(),
        password: password.to_owned(),
        ..LoginRequest::default()
    }
}

/// A token of the administrator.
async fn admin_token(ca: &str, password: &str) -> Result<String> {
    let channel = channel(&format!("{BACKEND}:9443"), ca).await?;
    let mut client = AuthClient::new(channel);
    let answer = client.login(login("admin", password)).await?;
    Ok(answer.into_inner().token)
}

fn with<T>(token: &str, message: T) -> Result<Request<T>> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}").parse()?;
    request.metadata_mut().insert("authorization", value);
    Ok(request)
}

/// A token of a system account for the node.
async fn node_token(ca: &str, admin: &str) -> Result<String> {
    let mut accounts = AccountsClient::new(channel(&format!("{BACKEND}:9443"), ca).await?);
    let create = CreateAccountRequest {
        name: "node".to_owned(),
        account_type: AccountType::System.into(),
        ..CreateAccountRequest::default()
    };
    accounts.create_account(with(admin, create)?).await?;
    let issue = IssueTokenRequest {
        name: "node".to_owned(),
        ..IssueTokenRequest::default()
    };
    let issued = accounts.issue_token(with(admin, issue)?).await?;
    Ok(issued.into_inner().token)
}

/// The administrator lets the client in again.
fn lift(world: &World, ca: &str, admin: &str) -> Result<()> {
    let (ca, admin) = (ca.to_owned(), admin.to_owned());
    within(&world.backend_runtime, async move {
        let channel = channel(&format!("{BACKEND}:9443"), &ca).await?;
        let lift = LiftBanRequest {
            source: "10.9.1.2".to_owned(),
        };
        AdministrationClient::new(channel)
            .lift_ban(with(&admin, lift)?)
            .await?;
        Ok(())
    })
}

/// The client guesses at names that there are not, until the kernel drops it.
fn guess(world: &World, ca: &str, names: &'static str) -> Result<()> {
    let ca = ca.to_owned();
    let guesses = within(&world.client_runtime, async move {
        let channel = channel(&format!("{NODE}:443"), &ca).await?;
        let mut auth = AuthClient::new(channel);
        let mut refused = 0;
        for n in 0..110 {
            match auth.login(login(&format!("{names}-{n}"), "a guess")).await {
                Err(status)
                    if matches!(
                        status.code(),
                        Code::Unauthenticated | Code::ResourceExhausted
                    ) =>
                {
                    refused += 1
                }
                // The kernel drops it.
                Err(_) => break,
                Ok(_) => anyhow::bail!("a guess was right"),
            }
        }
        anyhow::Ok(refused)
    })?;
    ensure!(guesses >= 100, "{guesses} were answered");
    wait_for("the drop", || (world.probe().ok()? == "drop").then_some(()))
        .with_context(|| world.log())
}

fn wait_until_let_in(world: &World) -> Result<()> {
    wait_for("the end of the ban", || {
        (world.probe().ok()? == "pass").then_some(())
    })
    .with_context(|| world.log())
}

/// On a thread of the runtime, which is in its namespace; that of the test is not.
fn within<T: Send + 'static>(
    runtime: &Runtime,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    runtime.block_on(runtime.spawn(work))?
}

fn reaches(world: &World, from: &str) -> Result<bool> {
    let resolve = format!("{NAME}:443:{NODE}");
    let url = format!("https://{NAME}/healthz");
    let arguments = [
        "-sk",
        "-o",
        "/dev/null",
        "-m",
        "2",
        "--interface",
        from,
        "--resolve",
        &resolve,
        &url,
    ];
    Ok(world.client_command("curl", &arguments)?.status.success())
}

#[test]
fn a_hundred_bad_logins_end_in_a_drop_there_and_nowhere_else_until_it_is_lifted() -> Result<()> {
    let mut world = World::new("")?;
    world
        .client
        .ip(&["address", "add", &format!("{NEIGHBOUR}/24"), "dev", "eth0"])?;
    let root = world.dir.path().join("mcias");
    fs::create_dir(&root)?;
    let ca = Ca::new()?;
    fs::write(world.dir.path().join("ca.pem"), ca.pem())?;
    let config = configure(&root, &ca)?;
    let made = mcias::init(&config, &"admin".parse()?)?;
    let shutdown = Shutdown::new();
    let (stop, pem) = (shutdown.clone(), ca.pem());
    let (token, admin) = within(&world.backend_runtime, async move {
        mcias::start(config, &stop).await?;
        let admin = admin_token(&pem, &made.password).await?;
        Ok((node_token(&pem, &admin).await?, admin))
    })?;
    PrivateFile::create(&world.dir.path().join("node.token"))?.write(token.as_bytes())?;
    let file = world.dir.path().join("mc-proxy.toml");
    let subscribed = format!(
        "{}[mcias]\nserver_url = 'https://[{BACKEND6}]:9443'\nca_cert = 'ca.pem'\ntoken_file = 'node.token'\n",
        fs::read_to_string(&file)?
    );
    fs::write(&file, subscribed)?;
    world.start()?;
    world.ctl(&["listener", "add", "0.0.0.0:443"])?;
    world.run(&format!(
        "route add {NAME} --port 443 --backend {BACKEND}:9443 --send-proxy"
    ))?;
    ensure!(
        reaches(&world, "10.9.1.2")? && reaches(&world, NEIGHBOUR)?,
        "before"
    );

    guess(&world, &ca.pem(), "name")?;
    ensure!(
        reaches(&world, NEIGHBOUR)?,
        "its neighbour is not the guesser"
    );
    let rules = world.ctl(&["firewall", "list"])?;
    ensure!(
        rules.contains("10.9.1.2") && rules.contains("MCIAS: failed logins"),
        "{rules}"
    );
    ensure!(!rules.contains(NEIGHBOUR), "{rules}");
    let status = world.ctl(&["status"])?;
    ensure!(
        status.contains("]:9443: bans come since") && status.contains("1 ban taken"),
        "{status}"
    );
    world.verified()?;

    lift(&world, &ca.pem(), &admin)?;
    wait_until_let_in(&world)?;
    ensure!(reaches(&world, "10.9.1.2")?, "lifted");
    world.verified()?;

    // What is lifted while nobody hears it is lifted when it is heard again; what the operator banned stays.
    guess(&world, &ca.pem(), "other")?;
    world.run("firewall ban 10.9.1.99 --ttl 1h")?;
    world.take_daemon().kill9()?;
    ensure!(world.probe()? == "drop", "the firewall outlives the daemon");
    lift(&world, &ca.pem(), &admin)?;
    world.start()?;
    wait_until_let_in(&world)?;
    let rules = world.ctl(&["firewall", "list"])?;
    ensure!(
        rules.contains("10.9.1.99") && !rules.contains("MCIAS"),
        "{rules}"
    );
    world.verified()?;
    shutdown.token().cancel();
    Ok(())
}
