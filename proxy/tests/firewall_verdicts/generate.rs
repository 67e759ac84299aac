//! Random policies and packets that meet them.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use mc_proxy::{
    firewall::check_prefix,
    geoip::countries,
    spec::{Action, CountryCode, FIRST_RULE_ID, RateLimit, RateLimits, Rule, RuleKind},
};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{Index, select},
};

use crate::{
    model::{Kind, Policy},
    packet::{self, ACK, RST, SYN},
};

const PACKETS: usize = 64;
/// So few that each sends enough to reach a limit.
const SOURCES: usize = 8;
const PORTS: [u16; 4] = [22, 443, 8443, 65_535];

/// Around the sources that [`address`] makes.
pub(crate) const NETWORKS: [(&str, &str); 8] = [
    ("10.0.0.0/8", "DE"),
    ("10.1.0.0/16", "FR"),
    ("10.1.2.0/24", "GB"),
    ("10.1.2.64/26", "IT"),
    ("10.2.3.200/32", "ES"),
    ("2001:db8::/32", "NL"),
    ("2001:db8:1::/48", "FR"),
    ("2001:db8:1:2::/64", "SE"),
];

/// One packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) source: IpAddr,
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    tags: usize,
    pppoe: bool,
}

/// A policy, rules that were in force before and are not, and packets.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) policy: Policy,
    pub(crate) removed: Vec<Rule>,
    pub(crate) packets: Vec<Sent>,
}

fn v4() -> impl Strategy<Value = Ipv4Addr> + Clone {
    (
        0u8..4,
        select(&[0u8, 2, 3, 100, 255][..]),
        select(&[0u8, 1, 63, 64, 127, 200, 255][..]),
    )
        .prop_map(|(b, c, d)| Ipv4Addr::new(10, b, c, d))
}

fn v6() -> impl Strategy<Value = Ipv6Addr> + Clone {
    let low = select(&[0u16, 1, 0x8000, 0xffff][..]);
    (
        select(&[0xdb8u16, 0xdb9][..]),
        1u16..3,
        1u16..3,
        low.clone(),
        low,
    )
        .prop_map(|(b, c, d, e, h)| Ipv6Addr::new(0x2001, b, c, d, e, 0, 0, h))
}

/// Few, so that rules and packets meet.
fn address() -> impl Strategy<Value = IpAddr> {
    let nat64 = |v4: Ipv4Addr| Ipv6Addr::from_bits(0x64_ff9b << 96 | u128::from(v4.to_bits()));
    prop_oneof![
        5 => v4().prop_map(IpAddr::V4),
        5 => v6().prop_map(IpAddr::V6),
        1 => v4().prop_map(|v4| v4.to_ipv6_mapped().into()),
        1 => v4().prop_map(move |v4| nat64(v4).into()),
    ]
}

fn cidr() -> impl Strategy<Value = IpNet> {
    const FOUR: [u8; 12] = [6, 8, 9, 15, 16, 17, 23, 24, 25, 31, 32, 32];
    const SIX: [u8; 12] = [0, 31, 32, 33, 48, 63, 64, 64, 64, 65, 80, 128];
    (
        v4(),
        select(&FOUR[..]),
        v6(),
        select(&SIX[..]),
        any::<bool>(),
    )
        .prop_map(|(four, four_length, six, six_length, v4)| {
            let (address, length) = if v4 {
                (IpAddr::V4(four), four_length)
            } else {
                (IpAddr::V6(six), six_length)
            };
            IpNet::new(address, length).unwrap().trunc()
        })
}

fn action() -> impl Strategy<Value = Action> + Clone {
    select(&[Action::Drop, Action::Reset, Action::Observe][..])
}

/// Without an id.
fn rule() -> impl Strategy<Value = Rule> {
    use RuleKind::{Allow, Ban, Block};
    // A wide allow hides all else.
    let kind = prop_oneof![1 => Just(Allow), 12 => Just(Block), 5 => Just(Ban)];
    // Seconds: for good, over, and to come; the clock must not matter.
    let end = select(&[None, Some(-60), Some(600)][..]);
    (kind, cidr(), action(), end).prop_map(|(kind, mut cidr, action, end)| {
        let now = SystemTime::now();
        let mut expires = None;
        if kind == Ban {
            let host = if cidr.addr().is_ipv4() { 32 } else { 64 };
            cidr = IpNet::new(cidr.addr(), host).unwrap().trunc();
            expires = end.map(|seconds: i64| {
                let by = Duration::from_secs(seconds.unsigned_abs());
                if seconds < 0 { now - by } else { now + by }
            });
        }
        check_prefix(kind, cidr).expect("none is of embedded addresses");
        let comment = String::new();
        Rule {
            id: 0,
            kind,
            cidr,
            action,
            expires,
            comment,
            created: now,
        }
    })
}

/// Gives ids, and leaves out rules whose kind and prefix another has.
fn distinct(rules: Vec<(Rule, bool)>) -> (Vec<Rule>, Vec<Rule>) {
    let mut seen = BTreeSet::new();
    let (mut stay, mut go) = (Vec::new(), Vec::new());
    for ((mut rule, stays), id) in rules.into_iter().zip(FIRST_RULE_ID..) {
        rule.id = id;
        if seen.insert((rule.kind.name(), rule.cidr)) {
            if stays { &mut stay } else { &mut go }.push(rule);
        }
    }
    (stay, go)
}

fn limit() -> impl Strategy<Value = Option<RateLimit>> {
    let limit = (1u32..4, action()).prop_map(|(burst, action)| RateLimit {
        per_second: 0.001,
        burst,
        action,
    });
    option::weighted(0.4, limit)
}

/// A source's index, what it sends, and within what.
type Raw = (Index, Kind, u16, usize, bool);

fn sent() -> impl Strategy<Value = Raw> {
    let flags = select(&[SYN, SYN | ACK, ACK, RST, RST | ACK, SYN | RST, 0][..]);
    let kind = prop_oneof![
        6 => Just(Kind::Tcp(SYN)),
        3 => flags.prop_map(Kind::Tcp),
        2 => Just(Kind::Udp),
        1 => Just(Kind::Icmp),
        1 => Just(Kind::Neighbour),
        1 => Just(Kind::Fragment),
    ];
    let pppoe = prop::bool::weighted(0.2);
    (any::<Index>(), kind, select(&PORTS[..]), 0usize..3, pppoe)
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    let country = select(&["DE", "FR", "GB", "IT", "ES", "NL", "SE", "??"][..]);
    let countries = vec((country.prop_map(index), action()), 0..4);
    (
        vec((rule(), prop::bool::weighted(0.8)), 0..40),
        countries,
        vec(select(&PORTS[..]), 0..3),
        (limit(), limit()),
        (vec(address(), 1..=SOURCES), vec(sent(), 1..=PACKETS)),
    )
        .prop_map(
            |(rules, countries, guarded, (connections, packets), (sources, sent))| {
                let (rules, removed) = distinct(rules);
                let rates = RateLimits {
                    connections,
                    packets,
                };
                let countries = countries.into_iter().collect();
                let policy = Policy {
                    rules,
                    countries,
                    guarded,
                    rates,
                };
                Case {
                    policy,
                    removed,
                    packets: sent
                        .into_iter()
                        .map(|raw| Sent::new(&sources, raw))
                        .collect(),
                }
            },
        )
}

pub(crate) fn index(code: &str) -> u8 {
    countries::index(CountryCode(code.as_bytes().try_into().unwrap())).unwrap()
}

impl Sent {
    fn new(sources: &[IpAddr], (source, kind, port, tags, pppoe): Raw) -> Self {
        let source = *source.get(sources);
        let kind = match (kind, source) {
            (Kind::Neighbour, IpAddr::V4(_)) | (Kind::Fragment, IpAddr::V6(_)) => Kind::Icmp,
            _ => kind,
        };
        Self {
            source,
            kind,
            port,
            tags,
            pppoe,
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (protocol, payload) = match self.kind {
            Kind::Tcp(flags) => (6, packet::tcp(self.port, flags)),
            Kind::Udp => (17, packet::udp(self.port)),
            Kind::Icmp if self.source.is_ipv4() => (1, vec![8; 8]),
            Kind::Icmp => (58, vec![128; 8]),
            Kind::Neighbour => (58, vec![135; 24]),
            Kind::Fragment => (6, vec![0; 64]),
        };
        let source = self.source.to_string();
        let tags = &[0x88a8, 0x8100][2 - self.tags..];
        let within = |ether_type, protocol, packet: &[u8]| match self.pppoe {
            true => packet::pppoe(tags, protocol, packet),
            false => packet::frame(tags, ether_type, packet),
        };
        if self.source.is_ipv4() {
            let fragment = if self.kind == Kind::Fragment { 100 } else { 0 };
            return within(
                0x0800,
                0x0021,
                &packet::v4(&source, protocol, fragment, 0, &payload),
            );
        }
        let hop_limit = if self.kind == Kind::Neighbour {
            255
        } else {
            64
        };
        within(
            0x86dd,
            0x0057,
            &packet::v6(&source, protocol, hop_limit, &payload),
        )
    }
}
