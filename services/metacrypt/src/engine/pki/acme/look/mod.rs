//! Looking at challenges: outside of transactions, without holding the seal open, so many at once.

mod http;
mod resolve;
mod tls;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use data_encoding::BASE64URL_NOPAD;
use ipnet::IpNet;
use tokio::{net::TcpStream, sync::Semaphore, time::timeout};

use self::resolve::Resolver;
use super::{
    super::{
        KIND,
        name::AltName,
        store::{profile, seconds},
    },
    Memory,
    address::allowed,
    authorization_hash, dns, key_authorization,
    order::{Method, Order, Task},
    problem::{Problem, Type},
    store::{AcmeAccount, Look, Settings},
};
use crate::{api::Api, barrier::Items, engine::EngineError, entered::Entered};

/// That wait at most; the rest does when the job comes by.
const MAX_WAITING: usize = 10_000;
/// For one attempt.
const LONGEST: Duration = Duration::from_secs(15);
/// For a connection to an address.
const CONNECT: Duration = Duration::from_secs(5);
/// Before each attempt: who says that he is ready may be so a moment later.
const ATTEMPTS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(4),
];
/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;

/// What is looked at, and how.
struct Seen {
    task: Task,
    account: String,
    /// What is to be shown.
    authorization: String,
    around: Around,
}

/// What may be asked.
struct Around {
    networks: Vec<IpNet>,
    resolver: Resolver,
}

/// Begins to look; `false`: too many wait, and it is done later.
pub(super) fn begin(api: Api, mount: &str, look: Look) -> Result<bool, EngineError> {
    let at = api.0.own(&KIND, mount, "pki.acme")?;
    let memory = Memory::of(at.mount())?;
    let (looks, count) = (Arc::clone(&memory.looks), Arc::clone(&memory.looking));
    if count.fetch_add(1, Relaxed) >= MAX_WAITING {
        count.fetch_sub(1, Relaxed);
        return Ok(false);
    }
    let mount = mount.to_owned();
    tokio::spawn(async move {
        if let Err(error) = run(&api, &mount, &look, &looks).await {
            // Sealed meanwhile, or the database: the job comes back to it.
            tracing::warn!(mount, order = look.order, %error, "a challenge was not looked at; it is done later");
        }
        count.fetch_sub(1, Relaxed);
    });
    Ok(true)
}

async fn run(api: &Api, mount: &str, look: &Look, looks: &Semaphore) -> Result<(), EngineError> {
    let Ok(_place) = looks.acquire().await else {
        return Ok(());
    };
    let of = look.clone();
    let read = move |items: &Items<'_>, _: &Entered| seen(items, &of);
    let seen = api.0.own(&KIND, mount, "pki.acme")?.read(read).await?;
    let found = match &seen {
        Some(seen) => attempts(seen).await,
        None => Ok(()),
    };
    let at = api.0.own(&KIND, mount, "pki.acme")?;
    if let (Some(seen), Err(_)) = (&seen, &found) {
        let key = (seen.account.clone(), seen.task.name.to_string());
        // Counted; who has no more is told with his next order.
        let _ = Memory::of(at.mount())?.failures.ask(key, at.now());
    }
    let of = look.clone();
    let end = move |items: &Items<'_>, at: &Entered| -> Result<(), EngineError> {
        let now_s = seconds(at.now());
        if let Some(mut order) = Order::find(items, &of.order)? {
            order.end(of.at, of.method, found, now_s);
            order.put(items, &of.order, now_s)?;
        }
        of.done(items)
    };
    at.keep(end, |(), _| ()).await
}

/// What there is to see; `None`: nothing any more.
fn seen(items: &Items<'_>, look: &Look) -> Result<Option<Seen>, EngineError> {
    let Some(order) = Order::find(items, &look.order)? else {
        return Ok(None);
    };
    let account = AcmeAccount::find(items, &order.account)?;
    let (Some(task), Some(account)) = (order.task(look.at, look.method), account) else {
        return Ok(None);
    };
    let acme = match profile(items, &order.profile) {
        Ok(profile) => profile.acme.unwrap_or_default(),
        Err(EngineError::NotFound(..)) => Default::default(),
        Err(other) => return Err(other),
    };
    Ok(Some(Seen {
        authorization: key_authorization(&task.token, &account.key.thumbprint()),
        task,
        account: order.account,
        around: Around {
            networks: acme.networks.into_iter().collect(),
            resolver: Resolver::new(Settings::get(items)?.resolvers),
        },
    }))
}

async fn attempts(seen: &Seen) -> Result<(), Problem> {
    let mut last = Err(Problem::new(Type::ServerInternal, "it was not looked at"));
    for wait in ATTEMPTS {
        tokio::time::sleep(wait).await;
        let looked = timeout(LONGEST, once(seen)).await;
        last = looked.unwrap_or_else(|_| {
            let why = format!("it took longer than {} seconds", LONGEST.as_secs());
            Err(Problem::new(Type::Connection, why))
        });
        if last.is_ok() {
            break;
        }
    }
    last
}

async fn once(seen: &Seen) -> Result<(), Problem> {
    let hash = authorization_hash(&seen.authorization);
    match seen.task.method {
        Method::Http01 => {
            let path = format!("/.well-known/acme-challenge/{}", seen.task.token);
            http::shows(&seen.around, &seen.task.name, &path, &seen.authorization).await
        }
        Method::TlsAlpn01 => tls::shows(&seen.around, &seen.task.name, &hash).await,
        Method::Dns01 => seen.around.has_text(&seen.task.name, &hash).await,
    }
}

impl Around {
    /// dns-01 (RFC 8555 §8.4).
    async fn has_text(&self, name: &AltName, hash: &[u8; 32]) -> Result<(), Problem> {
        let AltName::Dns(name) = name else {
            return Err(Problem::malformed("it has no place in the DNS"));
        };
        let at = format!("_acme-challenge.{}", name.host());
        let wanted = BASE64URL_NOPAD.encode(hash);
        let found = self.resolver.ask(&at, dns::Kind::Txt).await?;
        let is = |data: &Vec<u8>| dns::text(data).is_ok_and(|text| text == wanted.as_bytes());
        match found.iter().any(is) {
            true => Ok(()),
            false => {
                let why = format!(
                    "{at} has {} TXT records, and none is the wanted one",
                    found.len()
                );
                Err(Problem::new(Type::IncorrectResponse, why))
            }
        }
    }

    /// A connection to who has a name: to an address that was looked up once, and may be connected to.
    async fn connect(&self, name: &AltName, port: u16) -> Result<TcpStream, Problem> {
        let all: Vec<IpAddr> = match name {
            AltName::Ip(address) => vec![*address],
            AltName::Dns(name) => self.resolver.addresses(name.host()).await?,
            AltName::Uri(_) => Vec::new(),
        };
        let ours = all.iter().filter(|a| allowed(**a, &self.networks));
        let ours: Vec<_> = ours.take(MAX_ADDRESSES).collect();
        if ours.is_empty() {
            let why = match all.is_empty() {
                true => format!("{name} has no address"),
                false => format!(
                    "{name} has no address that may be connected to; the profile allows networks beside the public ones (acme.networks)"
                ),
            };
            return Err(Problem::new(Type::Connection, why));
        }
        let mut last = String::new();
        for address in ours {
            let to = SocketAddr::new(*address, port);
            match timeout(CONNECT, TcpStream::connect(to)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = format!("{to}: {error}"),
                Err(_) => last = format!("{to}: no answer within {} seconds", CONNECT.as_secs()),
            }
        }
        Err(Problem::new(Type::Connection, last))
    }
}
