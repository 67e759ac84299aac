//! What of `[server]` only shows when its files are read and its addresses looked at: for the start, and for who asks before it.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use super::{
    Config,
    probe::{self, Found},
    tls::{Files, Tls, TlsError},
};
use crate::{
    certificate::{CertificateError, Identity},
    cli::chain,
    config::SettingError,
    telemetry::TelemetryError,
};

/// What was found of `[server]`: all that is wrong with it, and what could be made of it all the same.
pub struct Examined {
    config: Config,
    /// `None`: a problem says why.
    certificate: Option<(Tls, Identity)>,
    /// The settings that cannot be used, why, and what would be right.
    pub problems: Vec<SettingError>,
}

/// A `[server]` that can be used, its certificate read and verified: what [`super::start_checked`] starts.
pub struct Checked {
    pub(super) config: Config,
    pub(super) tls: Tls,
}

impl Examined {
    /// To be started.
    ///
    /// # Errors
    /// The first problem.
    pub fn checked(self) -> Result<Checked, SettingError> {
        let problem = self.problems.into_iter().next();
        match (problem, self.certificate) {
            (Some(problem), _) => Err(problem),
            (None, Some((tls, _))) => Ok(Checked {
                config: self.config,
                tls,
            }),
            (None, None) => unreachable!("without a certificate there is a problem"),
        }
    }

    /// The certificate, if it can be used.
    #[must_use]
    pub fn certificate(&self) -> Option<&Identity> {
        self.certificate.as_ref().map(|(_, identity)| identity)
    }

    /// Who is at one of the addresses; see [`probe::ask`].
    pub async fn who_is_at(&self, address: SocketAddr, path: &str) -> Found {
        let shown = self.certificate().map(|identity| &identity.key.cert[0]);
        probe::ask(&self.config, shown, address, path).await
    }
}

impl Config {
    /// Whether it can be used: its files, and that its addresses are this machine's and differ. Not whether somebody listens there already.
    ///
    /// # Errors
    /// The first setting that cannot be used, why, and what would be right.
    pub fn check(&self) -> Result<Checked, SettingError> {
        self.examine().checked()
    }

    /// The same, all that is wrong.
    #[must_use]
    pub fn examine(&self) -> Examined {
        let mut problems = Vec::new();
        let certificate = self.tls().map_err(|problem| problems.push(problem)).ok();
        let mut all = vec![
            ("server.listen", self.listen),
            ("server.grpc_listen", self.grpc_listen),
        ];
        if let Some(address) = self.metrics_listen {
            let key = "server.metrics_listen";
            if !address.ip().to_canonical().is_loopback() {
                let why = TelemetryError::NotLoopback(address).to_string();
                problems.push(SettingError::new(key, why));
            }
            all.push((key, address));
        }
        for (number, &(key, address)) in all.iter().enumerate() {
            if let Err(why) = is_here(address) {
                problems.push(SettingError::new(key, why));
            }
            let mut before = all.iter().take(number);
            if let Some((other, taken)) = before.find(|(_, taken)| meet(*taken, address)) {
                let why = format!("{address} is {other}'s ({taken}); write another port");
                problems.push(SettingError::new(key, why));
            }
        }
        Examined {
            config: self.clone(),
            certificate,
            problems,
        }
    }

    /// The certificate, read and verified.
    fn tls(&self) -> Result<(Tls, Identity), SettingError> {
        let files = Files {
            certificate: self.tls_cert.clone(),
            key: self.tls_key.clone(),
            ca: self.tls_ca.clone(),
        };
        Tls::load(files).map_err(|error| {
            let (key, advice) = self.wrong(&error);
            let said = chain(&error);
            let problem = match advice {
                "" => said,
                advice => format!("{said}; {advice}"),
            };
            SettingError::new(key, problem)
        })
    }

    /// Which setting it is, and what would be right.
    fn wrong(&self, error: &TlsError) -> (&'static str, &'static str) {
        let cert = (
            "server.tls_cert",
            "name a file with the certificate, then its chain, PEM",
        );
        let key = (
            "server.tls_key",
            "name the file of that certificate's private key, PEM",
        );
        let ca = (
            "server.tls_ca",
            "name the file of the CA that issued the certificate, PEM, with what is between the two in tls_cert, or leave it out",
        );
        match error {
            // It says itself what to do.
            TlsError::Mode { .. } => ("server.tls_key", ""),
            TlsError::Certificate(CertificateError::Version { .. }) => ("server.tls_cert", ""),
            TlsError::Certificate(CertificateError::Incomplete { .. }) => (
                "server.tls_cert",
                "or name the file of that CA, which clients know, in server.tls_ca",
            ),
            TlsError::Certificate(
                CertificateError::Key { .. }
                | CertificateError::KeyFile { .. }
                | CertificateError::Mismatch { .. },
            ) => key,
            TlsError::Certificate(CertificateError::Issuer { .. }) => ca,
            TlsError::Certificate(
                CertificateError::Read { path, .. }
                | CertificateError::None(path)
                | CertificateError::Many { path, .. }
                | CertificateError::Parse { path, .. }
                | CertificateError::Anchors { path, .. },
            ) if *path != self.tls_cert => ca,
            _ => cert,
        }
    }
}

/// Whether nobody can listen at both: one port, and one address or all of them. `[::]` is IPv4's too.
fn meet(one: SocketAddr, other: SocketAddr) -> bool {
    let all_of = |all: IpAddr, ip: IpAddr| all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4());
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port() && one.port() != 0 && (a == b || all_of(a, b) || all_of(b, a))
}

/// Whether an address can be this machine's: at any port, since somebody may listen at its own.
fn is_here(address: SocketAddr) -> Result<(), String> {
    match TcpListener::bind((address.ip(), 0)) {
        Err(e) if e.kind() == std::io::ErrorKind::AddrNotAvailable => Err(format!(
            "{} is no address of this machine; write one, or 0.0.0.0 or [::] for all, and a port",
            address.ip()
        )),
        _ => Ok(()),
    }
}

/// The first port that everybody may listen at, unless the kernel says another.
const FIRST: u16 = 1024;
/// For a connection to this machine.
const TIMEOUT: Duration = Duration::from_secs(1);

/// That a service's user may not listen at an address without more: a port below 1024, where nobody listens yet. `key` is the setting's.
#[must_use]
pub fn needs_capability(key: &str, address: SocketAddr) -> Option<String> {
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first = first.ok().and_then(|text| text.trim().parse().ok());
    let text = of_port(key, address.port(), first.unwrap_or(FIRST))?;
    let to = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let somebody = TcpStream::connect_timeout(&(to, address.port()).into(), TIMEOUT).is_ok();
    (!somebody).then_some(text)
}

fn of_port(key: &str, port: u16, first: u16) -> Option<String> {
    (port != 0 && port < first).then(|| {
        format!(
            "{key}: at port {port}, as at all below {first}, only who has CAP_NET_BIND_SERVICE may listen: `systemctl edit` of the unit, with AmbientCapabilities=CAP_NET_BIND_SERVICE and CapabilityBoundingSet=CAP_NET_BIND_SERVICE below [Service]"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_not_everybody_may_have_are_told() {
        for (description, port, first, told) in [
            ("HTTPS", 443, 1024, true),
            ("the last one", 1023, 1024, true),
            ("the first that is free", 1024, 1024, false),
            ("where the kernel frees some", 443, 443, false),
            ("any port", 0, 1024, false),
        ] {
            let said = of_port("server.listen", port, first);
            assert_eq!(said.is_some(), told, "{description}: {said:?}");
        }
    }

    #[test]
    fn nobody_listens_twice_at_one_place() {
        for (description, one, other, wanted) in [
            ("one", "127.0.0.1:1", "127.0.0.1:1", true),
            ("two ports", "127.0.0.1:1", "127.0.0.1:2", false),
            ("two addresses", "127.0.0.1:1", "127.0.0.2:1", false),
            ("all and one of them", "0.0.0.0:1", "127.0.0.1:1", true),
            ("all of both kinds", "0.0.0.0:1", "[::]:1", true),
            ("all of IPv6, which is all", "[::]:1", "127.0.0.1:1", true),
            ("all of IPv4 and one of IPv6", "0.0.0.0:1", "[::1]:1", false),
            ("IPv4 in IPv6", "[::ffff:127.0.0.1]:1", "127.0.0.1:1", true),
            ("any port", "127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(meet(one, other), wanted, "{description}");
            assert_eq!(meet(other, one), wanted, "{description}, turned around");
        }
    }
}
