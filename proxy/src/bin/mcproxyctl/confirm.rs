//! Rules that lock out who makes them: they are asked for twice.

use std::{fs, net::IpAddr};

use ipnet::IpNet;
use mc_proto::mcproxy::v1 as pb;
use mcdsl::cli::Failure;

use crate::Result;

/// Processes between this one and the login's, at most.
const MAX_ANCESTORS: usize = 64;

#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Confirmed {
    /// Confirms rules that deny everybody, this machine itself, or the address that this SSH session comes from
    #[arg(long)]
    yes: bool,
}

impl Confirmed {
    /// Refuses what was not confirmed; `caller` is where the session comes from.
    pub(crate) fn check(self, rules: &[pb::Rule], caller: Option<IpAddr>) -> Result {
        let why = rules
            .iter()
            .find_map(|rule| Some((rule, locks_out(rule, caller)?)));
        let Some((rule, why)) = why.filter(|_| !self.yes) else {
            return Ok(());
        };
        let hint = match caller {
            Some(caller) => format!(
                "if it is meant, say --yes; `mcproxyctl firewall allow {caller}` keeps you in"
            ),
            None => {
                "if it is meant, say --yes; what `mcproxyctl firewall allow` names stays let in"
                    .to_owned()
            }
        };
        Err(Failure::usage(format_args!("{} {why}", rule.cidr)).hint(hint))
    }
}

/// Why a rule had better be confirmed.
fn locks_out(rule: &pb::Rule, caller: Option<IpAddr>) -> Option<String> {
    let denies = matches!(rule.kind(), pb::RuleKind::Block | pb::RuleKind::Ban);
    if !denies || rule.action() == pb::Action::Observe {
        return None;
    }
    // The daemon judges what is none.
    let net: IpNet = rule.cidr.parse().ok()?;
    let loopback = ["127.0.0.0/8", "::1/128"].map(|l| l.parse::<IpNet>().expect("a network"));
    if net.prefix_len() == 0 {
        let family = if net.addr().is_ipv4() { "IPv4" } else { "IPv6" };
        Some(format!(
            "is every {family} address: nobody could connect to this node any more, SSH included"
        ))
    } else if loopback.iter().any(|l| l.contains(&net) || net.contains(l)) {
        Some("holds loopback addresses, by which this machine speaks with itself; from elsewhere nobody comes by them".to_owned())
    } else {
        let caller = caller.filter(|caller| net.contains(caller))?;
        Some(format!(
            "holds {caller}, where this session comes from: you could not connect again"
        ))
    }
}

/// Where the SSH session comes from in which this runs. sudo takes the variable out: then it is an ancestor's.
pub(crate) fn caller() -> Option<IpAddr> {
    let mut pid = std::process::id();
    for _ in 0..MAX_ANCESTORS {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if let Some(address) = of_ssh(&environment) {
            return Some(address);
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let parent = status.lines().find_map(|l| l.strip_prefix("PPid:"))?;
        pid = parent.trim().parse().ok().filter(|parent| *parent > 1)?;
    }
    None
}

/// Of an environment as `/proc` has it.
fn of_ssh(environment: &[u8]) -> Option<IpAddr> {
    let mut variables = environment.split(|b| *b == 0);
    let connection = variables.find_map(|v| v.strip_prefix(b"SSH_CONNECTION="))?;
    let client = std::str::from_utf8(connection).ok()?.split(' ').next()?;
    // A link-local one has its interface behind it.
    let client = client.split('%').next()?;
    client
        .parse()
        .ok()
        .map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_known_by_its_variable() {
        let address = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        for (environment, wanted) in [
            (
                "A=b\0SSH_CONNECTION=192.0.2.7 5000 10.0.0.1 22\0C=d\0",
                address("192.0.2.7"),
            ),
            (
                "SSH_CONNECTION=2001:db8::7 5000 2001:db8::1 22",
                address("2001:db8::7"),
            ),
            (
                "SSH_CONNECTION=fe80::7%eth0 5000 fe80::1%eth0 22",
                address("fe80::7"),
            ),
            (
                "SSH_CONNECTION=::ffff:192.0.2.7 5000 ::1 22",
                address("192.0.2.7"),
            ),
            ("XSSH_CONNECTION=192.0.2.7 1 1 1\0", None),
            ("SSH_CONNECTION=\0", None),
            ("", None),
        ] {
            assert_eq!(of_ssh(environment.as_bytes()), wanted, "{environment:?}");
        }
    }
}
