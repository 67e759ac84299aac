//! Who guesses passwords at MCIAS, through this node, is dropped by this node's kernel; nobody else is.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use mc_proto::mcias::v1::{
    AccountKind, CreateAccountRequest, IssueTokenRequest, LoginRequest,
    accounts_client::AccountsClient, auth_client::AuthClient,
};
use mc_testkit::{ca::Ca, wait_for};
use mcdsl::shutdown::Shutdown;
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

/// A token of a system account for the node.
async fn node_token(ca: &str, password: &str) -> Result<String> {
    let channel = channel(&format!("{BACKEND}:9443"), ca).await?;
    let mut auth = AuthClient::new(channel.clone());
    let admin = auth.login(login("admin", password)).await?.into_inner();
    let admin = format!("Bearer {}", admin.token).parse()?;
    let mut accounts = AccountsClient::with_interceptor(channel, move |mut request: Request<()>| {
        request
            .metadata_mut()
            .insert("authorization", Clone::clone(&admin));
        Ok(request)
    });
    let create = CreateAccountRequest {
        name: "node".to_owned(),
        kind: AccountKind::System.into(),
        ..CreateAccountRequest::default()
    };
    accounts.create_account(create).await?;
    let issue = IssueTokenRequest {
        name: "node".to_owned(),
        ..IssueTokenRequest::default()
    };
    Ok(accounts.issue_token(issue).await?.into_inner().token)
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
fn a_hundred_bad_logins_end_in_a_drop_there_and_nowhere_else() -> Result<()> {
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
    let token = within(&world.backend_runtime, async move {
        mcias::start(config, &stop).await?;
        node_token(&pem, &made.password).await
    })?;
    fs::write(world.dir.path().join("node.token"), token)?;
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

    let pem = ca.pem();
    let guesses = within(&world.client_runtime, async move {
        let channel = channel(&format!("{NODE}:443"), &pem).await?;
        let mut auth = AuthClient::new(channel);
        let mut refused = 0;
        for n in 0..110 {
            match auth.login(login(&format!("name-{n}"), "a guess")).await {
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
        .with_context(|| world.log())?;
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
    world.verified()?;
    shutdown.token().cancel();
    Ok(())
}
