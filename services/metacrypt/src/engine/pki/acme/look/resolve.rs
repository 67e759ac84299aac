//! Names and their addresses and texts, of a resolver: the mount's, or this host's.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use aws_lc_rs::rand;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::super::{
    dns::{DnsFault, Kind, MAX_MESSAGE, MAX_UDP, answer, question},
    problem::{Problem, Type},
};

/// For an answer.
const WAIT: Duration = Duration::from_secs(3);
/// Resolvers that are asked, one after the other.
const MAX_RESOLVERS: usize = 3;
const HOSTS: &str = "/etc/resolv.conf";

/// Whom to ask.
pub(super) struct Resolver(Vec<SocketAddr>);

impl Resolver {
    /// These; none: this host's.
    pub(super) fn new(said: Vec<SocketAddr>) -> Self {
        Self(said)
    }

    async fn all(&self) -> Vec<SocketAddr> {
        if !self.0.is_empty() {
            return self.0.clone();
        }
        let text = tokio::fs::read_to_string(HOSTS).await.unwrap_or_default();
        let lines = text.lines().filter_map(|line| {
            let address = line.trim().strip_prefix("nameserver")?;
            let address: IpAddr = address.trim().parse().ok()?;
            Some(SocketAddr::new(address, 53))
        });
        lines.take(MAX_RESOLVERS).collect()
    }

    /// The data of the records of a name.
    pub(super) async fn ask(&self, name: &str, kind: Kind) -> Result<Vec<Vec<u8>>, Problem> {
        let mut last =
            "there is no resolver; say one (`metacrypt pki acme set --resolver`)".to_owned();
        for at in self.all().await.into_iter().take(MAX_RESOLVERS) {
            match timeout(WAIT, one(at, name, kind)).await {
                Ok(Ok(found)) => return Ok(found),
                // Whoever else is asked has the same.
                Ok(Err(Fault::Answer(DnsFault::NoName))) => {
                    last = DnsFault::NoName.to_string();
                    break;
                }
                Ok(Err(fault)) => last = format!("{fault} ({at} was asked)"),
                Err(_) => last = format!("the resolver {at} does not answer"),
            }
        }
        Err(Problem::new(Type::Dns, format!("{name}: {last}")))
    }

    /// The addresses of a name, of IPv6 and IPv4 in turn: those of one that are dead leave some of the other.
    pub(super) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, Problem> {
        let (six, four) = tokio::join!(self.ask(name, Kind::Aaaa), self.ask(name, Kind::A));
        if let (Err(_), Err(problem)) = (&six, &four) {
            return Err(problem.clone());
        }
        let six = six.unwrap_or_default().into_iter().filter_map(|data| {
            let bytes: [u8; 16] = data.try_into().ok()?;
            Some(IpAddr::from(Ipv6Addr::from(bytes)).to_canonical())
        });
        let four = four.unwrap_or_default().into_iter().filter_map(|data| {
            let bytes: [u8; 4] = data.try_into().ok()?;
            Some(IpAddr::from(Ipv4Addr::from(bytes)))
        });
        Ok(in_turn(six.collect(), four.collect()))
    }
}

fn in_turn(six: Vec<IpAddr>, four: Vec<IpAddr>) -> Vec<IpAddr> {
    let most = six.len().max(four.len());
    let at = |n: usize| [six.get(n), four.get(n)];
    (0..most).flat_map(at).flatten().copied().collect()
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the resolver: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Answer(#[from] DnsFault),
}

/// Over UDP from a port of its own, and over TCP if that is too short.
async fn one(at: SocketAddr, name: &str, kind: Kind) -> Result<Vec<Vec<u8>>, Fault> {
    let mut id = [0; 2];
    rand::fill(&mut id).map_err(|_| std::io::Error::other("no random bytes"))?;
    let id = u16::from_be_bytes(id);
    let asked = question(id, name, kind)?;
    let any: SocketAddr = match at {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(at).await?;
    socket.send(&asked).await?;
    let mut buffer = [0; MAX_UDP];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match answer(id, name, kind, &buffer[..length]) {
            // Not to us: somebody guesses.
            Err(DnsFault::Form) => {}
            Err(DnsFault::Truncated) => break,
            other => return Ok(other?),
        }
    }
    let mut stream = TcpStream::connect(at).await?;
    let length = u16::try_from(asked.len()).map_err(|_| DnsFault::Name)?;
    stream
        .write_all(&[&length.to_be_bytes()[..], &asked].concat())
        .await?;
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_MESSAGE {
        return Err(DnsFault::Form.into());
    }
    let mut buffer = vec![0; length];
    stream.read_exact(&mut buffer).await?;
    Ok(answer(id, name, kind, &buffer)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_kinds_are_tried() {
        let six: Vec<IpAddr> = (1..=4).map(|n| Ipv6Addr::from(n).into()).collect();
        let four: Vec<IpAddr> = vec![Ipv4Addr::from(1).into()];
        let all = in_turn(six.clone(), four.clone());
        assert_eq!(all, [six[0], four[0], six[1], six[2], six[3]]);
    }
}
