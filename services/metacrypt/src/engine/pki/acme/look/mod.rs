//! Looking at challenges: outside of transactions, without holding the seal open, so many at once.

mod http;
mod line;
mod resolve;
mod tls;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use data_encoding::BASE64URL_NOPAD;
use ipnet::IpNet;
use tokio::{net::TcpStream, time::timeout};

pub(super) use self::line::Line;
use self::{
    line::{Joined, Turn},
    resolve::Resolver,
};
use super::{
    super::{
        KIND,
        name::{AltName, Names},
        store::profile,
    },
    Memory,
    address::allowed,
    authorization_hash, dns, key_authorization,
    order::{Method, Order, Task},
    problem::{Problem, Type},
    store::{AcmeAccount, Look, Settings, Standing},
};
use crate::{
    api::Api,
    barrier::Items,
    engine::{EngineError, seconds},
    entered::Entered,
};

/// For one attempt.
const LONGEST: Duration = Duration::from_secs(15);
/// For a connection to an address: all that are tried fit into an attempt.
const CONNECT: Duration = Duration::from_secs(3);
/// Until it is come back to what could not be looked at.
const AGAIN: Duration = Duration::from_secs(5);
/// Before another attempt: who says that he is ready may be so a moment later.
const ATTEMPTS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;

/// What is looked at, and how.
struct Seen {
    task: Task,
    owner: String,
    /// What is to be shown.
    authorization: String,
    around: Around,
}

/// What may be asked.
struct Around {
    /// Those of the order.
    names: Names,
    networks: Vec<IpNet>,
    resolver: Resolver,
}

/// Why a name was not shown.
pub(super) enum Miss {
    /// It may be a moment later.
    Now(Problem),
    /// It will not be.
    Ever(Problem),
}

impl From<Problem> for Miss {
    fn from(problem: Problem) -> Self {
        Self::Now(problem)
    }
}

/// Begins to look. What cannot be looked at now is come back to.
pub(super) fn begin(api: &Api, mount: &str, owner: &str, look: Look) -> Result<(), EngineError> {
    let at = api.0.own(&KIND, mount, "pki.acme")?;
    let line = Arc::clone(&Memory::of(at.mount())?.line);
    if line.join(owner, look) == Joined::Full {
        later(api, mount, &line);
    }
    drive(api, mount, &line);
    Ok(())
}

/// Looks at what waits, as far as there are places.
fn drive(api: &Api, mount: &str, line: &Arc<Line>) {
    while let Some((turn, place)) = line.next() {
        let (api, mount, line) = (api.clone(), mount.to_owned(), Arc::clone(line));
        tokio::spawn(async move {
            let done = one(&api, &mount, &turn).await;
            drop(place);
            drive(&api, &mount, &line);
            match done {
                Ok(None) => line.end(&turn),
                Ok(Some(wait)) => {
                    tokio::time::sleep(wait).await;
                    line.again(turn);
                    drive(&api, &mount, &line);
                }
                Err(error) => {
                    tracing::warn!(mount, order = turn.look.order, %error, "a challenge was not looked at; it is done later");
                    line.end(&turn);
                    later(&api, &mount, &line);
                }
            }
        });
    }
}

/// Comes back in a while to what is not under way. If the seal was closed meanwhile, it is done when it is opened.
pub(super) fn later(api: &Api, mount: &str, line: &Arc<Line>) {
    if !line.puts_off() {
        return;
    }
    let (api, mount, line) = (api.clone(), mount.to_owned(), Arc::clone(line));
    tokio::spawn(async move {
        tokio::time::sleep(AGAIN).await;
        line.put_off.store(false, Relaxed);
        match resume(&api, &mount).await {
            Ok(()) | Err(EngineError::Seal(_)) => {}
            Err(_) => later(&api, &mount, &line),
        }
    });
}

/// Looks at all that was begun and is not under way.
pub(super) async fn resume(api: &Api, mount: &str) -> Result<(), EngineError> {
    let mut after = String::new();
    loop {
        let at = api.0.own(&KIND, mount, "pki.acme")?;
        let line = Arc::clone(&Memory::of(at.mount())?.line);
        let from = after.clone();
        let read = move |items: &Items<'_>, _: &Entered| -> Result<_, EngineError> {
            let page = Look::waiting(items, &from)?;
            let last = page.last().map(|(path, _)| path.clone());
            let mut found = Vec::new();
            for look in page.into_iter().filter_map(|(_, look)| look) {
                if !line.knows(&look) {
                    let order = Order::find(items, &look.order)?;
                    found.push((order.map(|order| order.owner).unwrap_or_default(), look));
                }
            }
            Ok((found, last))
        };
        let (found, last) = at.read(read).await?;
        drop(at);
        for (owner, look) in found {
            begin(api, mount, &owner, look)?;
        }
        match last {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}

/// Looks once. How long to wait before it is looked at again, if it is.
async fn one(api: &Api, mount: &str, turn: &Turn) -> Result<Option<Duration>, EngineError> {
    let of = turn.look.clone();
    let read = move |items: &Items<'_>, _: &Entered| seen(items, &of);
    let seen = api.0.own(&KIND, mount, "pki.acme")?.read(read).await?;
    let found = match &seen {
        Some(seen) => {
            let found = timeout(LONGEST, once(seen)).await;
            Some(found.unwrap_or_else(|_| {
                let why = format!("it took longer than {} seconds", LONGEST.as_secs());
                Err(Problem::new(Type::Connection, why).into())
            }))
        }
        None => None,
    };
    if let (Some(Err(Miss::Now(_))), Some(wait)) = (&found, ATTEMPTS.get(turn.tries)) {
        return Ok(Some(*wait));
    }
    let at = api.0.own(&KIND, mount, "pki.acme")?;
    let found = match (found, &seen) {
        (Some(Err(Miss::Now(problem) | Miss::Ever(problem))), Some(seen)) => {
            let key = (seen.owner.clone(), seen.task.name.to_string());
            // Counted; who has no more is told with his next order.
            let steady = api.0.seal.clock().steady();
            let _ = Memory::of(at.mount())?.failures.ask(key, steady);
            tracing::info!(mount, order = turn.look.order, name = %seen.task.name, why = ?problem.detail, "a name was not shown");
            Some(Err(told(&seen.task, problem)))
        }
        (Some(Ok(())), _) => Some(Ok(())),
        _ => None,
    };
    let of = turn.look.clone();
    let end = move |items: &Items<'_>, at: &Entered| -> Result<(), EngineError> {
        let now_s = seconds(at.now());
        // Who has nothing to show any more shows nothing.
        if let (Some(found), Some(mut order)) = (found, Order::find(items, &of.order)?) {
            order.end(of.at, of.method, found, now_s);
            order.put(items, &of.order, now_s)?;
        }
        of.done(items)
    };
    at.keep(end).await?;
    Ok(None)
}

/// What a client is told: what a resolver has, but not what answers at which address, for he may be one who cannot ask there himself.
fn told(task: &Task, problem: Problem) -> Problem {
    if problem.kind == Type::Dns {
        return problem;
    }
    let why = match task.method {
        Method::Http01 => "the wanted file was not found there (HTTP, port 80)",
        Method::TlsAlpn01 => "the wanted certificate was not found there (acme-tls/1, port 443)",
        Method::Dns01 => return problem,
    };
    let why = format!("{}: {why}; the service's log says more", task.name);
    Problem::new(Type::IncorrectResponse, why)
}

/// What there is to see; `None`: nothing any more.
fn seen(items: &Items<'_>, look: &Look) -> Result<Option<Seen>, EngineError> {
    let Some(order) = Order::find(items, &look.order)? else {
        return Ok(None);
    };
    let account = AcmeAccount::find(items, &order.account)?;
    let account = account.filter(|account| account.standing == Standing::Valid);
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
        owner: order.owner,
        around: Around {
            names: order.names,
            networks: acme.networks.into_iter().collect(),
            resolver: Resolver::new(Settings::get(items)?.resolvers),
        },
    }))
}

async fn once(seen: &Seen) -> Result<(), Miss> {
    let hash = authorization_hash(&seen.authorization);
    match seen.task.method {
        Method::Http01 => {
            let path = format!("/.well-known/acme-challenge/{}", seen.task.token);
            http::shows(&seen.around, &seen.task.name, &path, &seen.authorization).await
        }
        Method::TlsAlpn01 => tls::shows(&seen.around, &seen.task.name, &hash).await,
        Method::Dns01 => Ok(seen.around.has_text(&seen.task.name, &hash).await?),
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

    /// Networks beside the public ones in which a name may be: whoever controls a name that nobody asked for leads us nowhere.
    fn networks(&self, name: &AltName) -> &[IpNet] {
        match self.names.iter().any(|one| one == name) {
            true => &self.networks,
            false => &[],
        }
    }

    /// A connection to who has a name: to an address that was looked up once, and may be connected to.
    async fn connect(&self, name: &AltName, port: u16) -> Result<TcpStream, Miss> {
        let all: Vec<IpAddr> = match name {
            AltName::Ip(address) => vec![*address],
            AltName::Dns(name) => self.resolver.addresses(name.host()).await?,
            AltName::Uri(_) => Vec::new(),
        };
        let networks = self.networks(name);
        let ours = all.iter().filter(|a| allowed(**a, networks));
        let ours: Vec<_> = ours.take(MAX_ADDRESSES).collect();
        if ours.is_empty() {
            if all.is_empty() {
                let why = format!("{name} has no address");
                return Err(Problem::new(Type::Connection, why).into());
            }
            let why = format!(
                "{name} has no address that may be connected to; the profile allows networks beside the public ones (acme.networks) for names of the order"
            );
            return Err(Miss::Ever(Problem::new(Type::Connection, why)));
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
        Err(Problem::new(Type::Connection, last).into())
    }
}

#[cfg(test)]
mod tests;
