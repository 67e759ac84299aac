//! What the firewall is to decide, the slow way: a linear scan of the rules for every packet, sharing nothing with
//! `mc_edge_common::decide`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use mc_edge_common::firewall::{Reason, Verdict, rule};
use mc_proxy::spec::{Action, RateLimits, Rule, RuleKind};

/// A packet that can be parsed, as its sender means it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// With these flags.
    Tcp(u8),
    Udp,
    Icmp,
    /// Neighbour solicitation from the link; IPv6 only.
    Neighbour,
    /// A later fragment of a TCP segment; IPv4 only.
    Fragment,
}

/// What is in force.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) rules: Vec<Rule>,
    /// Country index -> action; those that are not here pass.
    pub(crate) countries: BTreeMap<u8, Action>,
    pub(crate) guarded: Vec<u16>,
    /// So low that no token comes back during a test.
    pub(crate) rates: RateLimits,
}

/// Counted packets, by what `Firewall` calls them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) verdicts: BTreeMap<(&'static str, &'static str), u64>,
    pub(crate) rules: BTreeMap<u32, u64>,
    /// Passed, denied.
    pub(crate) countries: BTreeMap<u8, (u64, u64)>,
}

/// The model: a policy, and what it has seen.
pub(crate) struct Model<'a> {
    pub(crate) policy: &'a Policy,
    /// Network -> country index; /64 and shorter.
    pub(crate) geo: &'a [(IpNet, u8)],
    pub(crate) counts: Counts,
    /// Events that conformed, by (limit on connections, source).
    spent: BTreeMap<(bool, IpAddr), u32>,
}

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// IPv4-mapped and NAT64 addresses are the IPv4 address inside.
pub(crate) fn canonical(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else {
        return address;
    };
    let nat64: Ipv6Addr = "64:ff9b::".parse().unwrap();
    if six.octets()[..12] == nat64.octets()[..12] {
        let [.., a, b, c, d] = six.octets();
        return Ipv4Addr::new(a, b, c, d).into();
    }
    address.to_canonical()
}

impl<'a> Model<'a> {
    pub(crate) fn new(policy: &'a Policy, geo: &'a [(IpNet, u8)]) -> Self {
        Self {
            policy,
            geo,
            counts: Counts::default(),
            spent: BTreeMap::new(),
        }
    }

    /// What happens to a packet.
    pub(crate) fn judge(&mut self, source: IpAddr, kind: Kind, port: u16) -> (Verdict, Reason) {
        let (verdict, reason, id) = self.decide(canonical(source), kind, port);
        let verdict = match (verdict, kind) {
            // Nothing answers an RST, and nothing but TCP can be reset.
            (Verdict::Reset, Kind::Tcp(flags)) if flags & RST == 0 => Verdict::Reset,
            (Verdict::Reset, _) => Verdict::Drop,
            _ => verdict,
        };
        self.count(verdict, reason, id);
        (verdict, reason)
    }

    fn count(&mut self, verdict: Verdict, reason: Reason, id: u32) {
        let slot = (verdict.name(), reason.name());
        *self.counts.verdicts.entry(slot).or_default() += 1;
        if id != rule::NONE {
            *self.counts.rules.entry(id).or_default() += 1;
        }
        if reason == Reason::Ban {
            *self.counts.rules.entry(rule::BAN).or_default() += 1;
        }
    }

    /// The most specific rule of a kind that holds the source.
    fn find(&self, kind: RuleKind, source: IpAddr) -> Option<&'a Rule> {
        let rules = self.policy.rules.iter();
        rules
            .filter(|rule| rule.kind == kind && rule.cidr.contains(&source))
            .max_by_key(|rule| rule.cidr.prefix_len())
    }

    fn decide(&mut self, source: IpAddr, kind: Kind, port: u16) -> (Verdict, Reason, u32) {
        let established = matches!(kind, Kind::Tcp(flags) if flags & (SYN | ACK) != SYN);
        let new = !established && kind != Kind::Neighbour;
        if new && let Some(rule) = self.find(RuleKind::Block, source) {
            let denied = self.deny(source, rule.action, rule.id, Reason::Block);
            if let Some(decision) = denied {
                return decision;
            }
        }
        let ban = self.find(RuleKind::Ban, source);
        let now = std::time::SystemTime::now();
        if let Some(rule) = ban.filter(|rule| rule.expires.is_none_or(|end| end > now)) {
            let denied = self.deny(source, rule.action, rule.id, Reason::Ban);
            if let Some(decision) = denied {
                return decision;
            }
        }
        if established {
            return (Verdict::Pass, Reason::Established, rule::NONE);
        }
        if kind == Kind::Neighbour {
            return (Verdict::Pass, Reason::NeighbourDiscovery, rule::NONE);
        }
        let has_port = matches!(kind, Kind::Tcp(_) | Kind::Udp);
        if !has_port || !self.policy.guarded.contains(&port) {
            return (Verdict::Pass, Reason::Unguarded, rule::NONE);
        }
        self.country(source)
            .or_else(|| self.rates(source, matches!(kind, Kind::Tcp(_))))
            .unwrap_or((Verdict::Pass, Reason::NoMatch, rule::NONE))
    }

    /// A rule denies, unless the source is allowed; observing it only counts.
    fn deny(
        &mut self,
        source: IpAddr,
        action: Action,
        id: u32,
        reason: Reason,
    ) -> Option<(Verdict, Reason, u32)> {
        if let Some(allow) = self.find(RuleKind::Allow, source) {
            return Some((Verdict::Pass, Reason::Allow, allow.id));
        }
        match action {
            Action::Drop => Some((Verdict::Drop, reason, id)),
            Action::Reset => Some((Verdict::Reset, reason, id)),
            Action::Observe => {
                self.count(Verdict::Observe, reason, id);
                None
            }
        }
    }

    fn country(&mut self, source: IpAddr) -> Option<(Verdict, Reason, u32)> {
        // Of an IPv6 address its /64.
        let at = match source {
            IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() >> 64 << 64).into(),
            four => four,
        };
        let networks = self.geo.iter().filter(|(network, _)| network.contains(&at));
        let country = networks
            .max_by_key(|(network, _)| network.prefix_len())
            .map_or(0, |(_, country)| *country);
        let Some(action) = self.policy.countries.get(&country) else {
            self.counts.countries.entry(country).or_default().0 += 1;
            return None;
        };
        let decision = self.deny(source, *action, rule::COUNTRY, Reason::Country);
        let counter = self.counts.countries.entry(country).or_default();
        match decision {
            Some((Verdict::Pass, ..)) => counter.0 += 1,
            _ => counter.1 += 1,
        }
        decision
    }

    fn rates(&mut self, source: IpAddr, connection: bool) -> Option<(Verdict, Reason, u32)> {
        let limits = self.policy.rates;
        let connections = limits.connections.filter(|_| connection);
        for (limit, is_connections, id, reason) in [
            (
                connections,
                true,
                rule::RATE_CONNECTIONS,
                Reason::RateConnections,
            ),
            (
                limits.packets,
                false,
                rule::RATE_PACKETS,
                Reason::RatePackets,
            ),
        ] {
            let Some(limit) = limit else { continue };
            let key = match source {
                IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() >> 64 << 64).into(),
                four => four,
            };
            let spent = self.spent.entry((is_connections, key)).or_default();
            if *spent < limit.burst {
                *spent += 1;
                continue;
            }
            let denied = self.deny(source, limit.action, id, reason);
            if denied.is_some() {
                return denied;
            }
        }
        None
    }
}
