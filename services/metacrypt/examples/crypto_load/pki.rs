//! Leaves that are issued, and whole orders of ACME, on all cores with who asks for them.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use data_encoding::BASE64URL_NOPAD;
use instant_acme::{
    Account, ChallengeType, ExternalAccountKey, Identifier, NewAccount, NewOrder, OrderStatus,
    RetryPolicy,
};
use mc_proto::metacrypt::v1::{
    AcmeRules, CertificateKey, CreateAcmeKeyRequest, CreateIssuerRequest, CreateRootRequest,
    CreateRuleRequest, PkiProfile, PutPkiProfileRequest, Rule, SetAcmeRequest,
    acme_client::AcmeClient, pki_client::PkiClient, system_client::SystemClient,
};

use crate::{
    Line, ROUNDS, median,
    world::{Asked, ROUND, World},
};

/// Who asks for leaves at once: each waits for the disk, and who waits with others shares it.
const CONNECTIONS: usize = 192;
/// Orders under way at once: of one network no more strangers may wait for the database than 128.
const ORDERS: u8 = 96;
/// Accounts that they are of.
const ACCOUNTS: usize = 8;
/// A second, of the requirement.
const LEAVES: f64 = 3000.0;
const WHOLE_ORDERS: f64 = 200.0;

/// With a root.
fn world() -> Result<World> {
    let world = World::start("pki", false)?;
    let mut pki = PkiClient::new(world.channel.clone());
    let mount = || "bench".to_owned();
    let root = CreateRootRequest {
        mount: mount(),
        name: "root".to_owned(),
        key_algorithm: CertificateKey::EcdsaP384.into(),
        common_name: "Root".to_owned(),
        ..CreateRootRequest::default()
    };
    world.block_on(pki.create_root(world.by(root)?))?;
    Ok(world)
}

/// An issuer of P-256, and a profile of its name: of one issuer an account has 50,000 certificates.
fn profile(world: &World, name: &str) -> Result<()> {
    let mut pki = PkiClient::new(world.channel.clone());
    let mount = || "bench".to_owned();
    let issuer = CreateIssuerRequest {
        mount: mount(),
        name: name.to_owned(),
        under: "root".to_owned(),
        key_algorithm: CertificateKey::EcdsaP256.into(),
        common_name: name.to_owned(),
        ..CreateIssuerRequest::default()
    };
    world.block_on(pki.create_issuer(world.by(issuer)?))?;
    let profile = PkiProfile {
        name: name.to_owned(),
        issuer: name.to_owned(),
        dns_suffixes: vec!["svc.example.org".to_owned()],
        ip_networks: vec!["127.0.0.0/8".to_owned()],
        server: true,
        key_algorithms: vec![CertificateKey::EcdsaP256.into()],
        ttl_s: 3600,
        max_ttl_s: 86400,
        acme: Some(AcmeRules {
            description: "for servers".to_owned(),
            networks: vec!["127.0.0.0/8".to_owned()],
        }),
        ..PkiProfile::default()
    };
    let put = PutPkiProfileRequest {
        mount: mount(),
        name: name.to_owned(),
        profile: Some(profile),
    };
    world.block_on(pki.put_profile(world.by(put)?))?;
    Ok(())
}

/// Leaves, with their keys, each in the database before it is answered.
pub(crate) fn issue() -> Result<()> {
    let world = world()?;
    let rounds = (0..ROUNDS).map(|round| {
        let name = format!("web-{round}");
        profile(&world, &name)?;
        let request = world.request(&Asked {
            path: &format!("/v1/pki/bench/issue/{name}"),
            media: "application/json",
            body: br#"{"names": ["a.svc.example.org"]}"#,
        });
        world.round(&request, CONNECTIONS, None)
    });
    let ours = median(rounds.collect::<Result<_>>()?);
    let line = Line {
        name: "crypto.issue".to_owned(),
        unit: "1/s",
        ours,
        peer: None,
        asked: Some(LEAVES),
    };
    line.print();
    world.stop();
    Ok(())
}

/// What is shown at `/.well-known/acme-challenge/`, by its name there.
type Shown = Arc<Mutex<HashMap<String, String>>>;

/// Answers at an address of this host until the end.
fn show(at: IpAddr, shown: &Shown) -> Result<()> {
    let listener = TcpListener::bind((at, 80))
        .with_context(|| format!("cannot listen on port 80 of {at}; HTTP-01 is looked at there"))?;
    let shown = Arc::clone(shown);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Who hangs up has what he wanted.
            let _ = answer(stream, &shown);
        }
    });
    Ok(())
}

fn answer(stream: TcpStream, shown: &Shown) -> std::io::Result<()> {
    let mut from = BufReader::new(stream);
    let mut line = String::new();
    from.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    let shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
    let text = shown.get(name).cloned().unwrap_or_default();
    let mut to = from.into_inner();
    write!(
        to,
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
        text.len()
    )
}

/// An order from its beginning to its certificate.
async fn order(account: &Account, name: IpAddr, shown: &Shown) -> Result<()> {
    let names = [Identifier::Ip(name)];
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    let mut all = order.authorizations();
    while let Some(one) = all.next().await {
        let mut one = one?;
        let challenge = one.challenge(ChallengeType::Http01);
        let mut challenge = challenge.context("no HTTP-01")?;
        let text = challenge.key_authorization().as_str().to_owned();
        // Not held while the order waits.
        {
            let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
            shown.insert(challenge.token.clone(), text);
        }
        challenge.set_ready().await?;
    }
    let retries = RetryPolicy::new()
        .initial_delay(Duration::from_millis(20))
        .backoff(1.5);
    let status = order.poll_ready(&retries).await?;
    ensure!(status == OrderStatus::Ready, "the order is {status:?}");
    order.finalize().await?;
    let chain = order.poll_certificate(&retries).await?;
    ensure!(chain.contains("BEGIN CERTIFICATE"), "no certificate");
    Ok(())
}

async fn accounts(world: &World) -> Result<Vec<Account>> {
    let rule = Rule {
        name: "acme".to_owned(),
        accounts: vec!["admin".to_owned()],
        actions: vec!["pki:issue".to_owned()],
        resources: vec!["bench/profiles/web".to_owned()],
        ..Rule::default()
    };
    let rule = CreateRuleRequest {
        rule: Some(rule),
        replace: false,
    };
    let mut system = SystemClient::new(world.channel.clone());
    system.create_rule(world.by(rule)?).await?;
    let mut acme = AcmeClient::new(world.channel.clone());
    let set = SetAcmeRequest {
        mount: "bench".to_owned(),
        base: format!("https://localhost:{}", world.https.port()),
        ..SetAcmeRequest::default()
    };
    acme.set_acme(world.by(set)?).await?;
    let mut accounts = Vec::new();
    for _ in 0..ACCOUNTS {
        let create = CreateAcmeKeyRequest {
            mount: "bench".to_owned(),
            ..CreateAcmeKeyRequest::default()
        };
        let made = acme.create_acme_key(world.by(create)?).await?.into_inner();
        let secret = BASE64URL_NOPAD.decode(made.hmac_key.as_bytes())?;
        let key = ExternalAccountKey::new(made.key.context("no key")?.id, &secret);
        let new = NewAccount {
            contact: &["mailto:ada@example.org"],
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let builder = Account::builder_with_root(&world.ca)?;
        accounts.push(builder.create(&new, made.directory, Some(&key)).await?.0);
    }
    Ok(accounts)
}

/// Whole orders.
pub(crate) fn acme() -> Result<()> {
    let world = world()?;
    profile(&world, "web")?;
    let shown = Shown::default();
    let names: Vec<IpAddr> = (1..=ORDERS)
        .map(|last| Ipv4Addr::new(127, 83, 1, last).into())
        .collect();
    for name in &names {
        show(*name, &shown)?;
    }
    let accounts = world.block_on(accounts(&world))?;
    let round = async || {
        let begun = Instant::now();
        let asking = names.iter().enumerate().map(|(index, name)| {
            let (account, name) = (accounts[index % ACCOUNTS].clone(), *name);
            let shown = Arc::clone(&shown);
            tokio::spawn(async move {
                let mut done = 0_u32;
                while begun.elapsed() < ROUND {
                    order(&account, name, &shown).await?;
                    done += 1;
                }
                anyhow::Ok(done)
            })
        });
        let mut done = 0;
        for asking in asking.collect::<Vec<_>>() {
            done += asking.await??;
        }
        anyhow::Ok(f64::from(done) / begun.elapsed().as_secs_f64())
    };
    let mut ours = Vec::new();
    for _ in 0..ROUNDS {
        ours.push(world.block_on(round())?);
    }
    let line = Line {
        name: "crypto.acme".to_owned(),
        unit: "1/s",
        ours: median(ours),
        peer: None,
        asked: Some(WHOLE_ORDERS),
    };
    line.print();
    world.stop();
    Ok(())
}
