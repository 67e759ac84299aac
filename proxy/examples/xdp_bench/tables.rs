//! The firewall with full-size tables, and the cases that meet them.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use aya::{
    maps::{Map, MapData, PerCpuHashMap, PerCpuValues},
    programs::Xdp,
};
use ipnet::{IpNet, Ipv4Net};
use mc_edge_common::firewall::action;
use mc_proxy::{
    firewall::{Change, Firewall},
    geoip::GeoIp,
    kernel::Kernel,
    spec::{Action, CountryCode, FIRST_RULE_ID, RateLimit, RateLimits, Rule, RuleKind},
};
use serde::Serialize;

use crate::{
    DROP, PASS,
    packet::{self, ACK, PORT, SYN},
    xdp,
};

/// Networks of a full country database.
pub(crate) const NETWORKS_V4: usize = 464_000;
/// The same, IPv6.
pub(crate) const NETWORKS_V6: usize = 310_000;
/// CIDR blocks, and as many blocked hosts.
const RULES: u32 = 10_000;
/// Of them, those whose packets are sent.
const BLOCKED: u32 = 20;
/// Entries of xdp-filter's IPv4 map: its size.
const FILTER_ENTRIES: u32 = 10_000;

/// Whom no rule concerns. RFC 1918 and documentation addresses have no country, so these are public ones.
const CLEAN: Ipv4Addr = Ipv4Addr::new(81, 2, 69, 142);
const CLEAN6: Ipv6Addr = Ipv6Addr::new(0x2a02, 0x1234, 0, 0, 0, 0, 0, 1);
const BANNED: Ipv4Addr = Ipv4Addr::new(91, 0, 0, 1);
const RESET: Ipv4Addr = Ipv4Addr::new(91, 0, 0, 2);
const OBSERVED: Ipv4Addr = Ipv4Addr::new(91, 0, 0, 3);
/// `XDP_TX` (linux/bpf.h).
const TX: u32 = 3;

/// What xdp-filter does beside a case.
pub(crate) enum Peer {
    /// Passes the same packet.
    Same,
    /// Drops a packet of an address in its table.
    Drop,
}

/// A packet and its verdict.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Alike but for the source: where that lies in a hash table differs from address to address and from run to run.
    pub(crate) packets: Vec<Vec<u8>>,
    pub(crate) want: u32,
    pub(crate) peer: Peer,
    /// The program changes the packet, so that a repetition would see another one.
    pub(crate) rewrites: bool,
    /// New connections per second; the limit is on for all cases.
    rate: RateLimit,
}

/// The loaded firewall.
pub(crate) struct Tables {
    kernel: Kernel,
    firewall: Firewall,
    geoip: Arc<GeoIp>,
    /// Packets that both firewalls drop by their source addresses.
    pub(crate) blocked: Vec<Vec<u8>>,
}

/// What loading the database cost.
#[derive(Serialize)]
pub(crate) struct GeoIpLoad {
    milliseconds: f64,
    /// The table in the kernel.
    table_mib: f64,
    /// This process at its peak, above what it had before.
    peak_mib: f64,
}

impl Tables {
    pub(crate) fn fill(pins: &Path, mmdb: &Path) -> Result<(Self, GeoIpLoad)> {
        let mut kernel = Kernel::open(pins)?;
        let geoip = Arc::new(GeoIp::open(&mut kernel, Some(mmdb.to_owned()))?);
        let located = Arc::clone(&geoip);
        let firewall =
            Firewall::open(&mut kernel, Arc::new(move |address| located.index(address)))?;
        for name in ["firewall", "empty"] {
            xdp(&mut kernel.ebpf, name)?
                .load()
                .with_context(|| format!("cannot load {name}"))?;
        }
        let load = load(&geoip)?;
        firewall.set_guarded(&[PORT], &[])?;
        let prefixes = (0..RULES).map(|i| prefix(i).into());
        let hosts = (0..RULES).map(|i| IpNet::from(IpAddr::from(host(i))));
        let mut rules: Vec<Rule> = prefixes
            .chain(hosts)
            .map(|cidr| rule(RuleKind::Block, cidr, Action::Drop))
            .collect();
        rules.push(rule(
            RuleKind::Ban,
            IpAddr::from(BANNED).into(),
            Action::Drop,
        ));
        rules.push(rule(
            RuleKind::Block,
            IpAddr::from(RESET).into(),
            Action::Reset,
        ));
        rules.push(rule(
            RuleKind::Block,
            IpAddr::from(OBSERVED).into(),
            Action::Observe,
        ));
        for (rule, id) in rules.iter_mut().zip(FIRST_RULE_ID..) {
            rule.id = id;
        }
        let changes: Vec<Change> = rules.into_iter().map(Change::Set).collect();
        firewall.apply(&changes)?;
        let blocked = (0..BLOCKED).map(|i| packet::v4(host(i * (RULES / BLOCKED)), SYN));
        let blocked = blocked.collect();
        Ok((
            Self {
                kernel,
                firewall,
                geoip,
                blocked,
            },
            load,
        ))
    }

    pub(crate) fn program(&self, name: &str) -> Result<&Xdp> {
        let program = self.kernel.ebpf.program(name);
        Ok(program
            .with_context(|| format!("the eBPF object has no program {name}"))?
            .try_into()?)
    }

    /// All of them; those whose country is blocked get the only country that is.
    pub(crate) fn cases(&self) -> Result<Vec<Case>> {
        let other = self.other_country()?;
        let mut actions = [0; 256];
        actions[usize::from(self.geoip.index(other.into()))] = action::DROP;
        self.firewall.set_countries(actions)?;
        let high = RateLimit {
            per_second: 1e9,
            burst: u32::MAX,
            action: Action::Drop,
        };
        let low = RateLimit {
            per_second: 0.001,
            burst: 1,
            action: Action::Drop,
        };
        let case = |name, packet, want, peer| Case {
            name,
            packets: vec![packet],
            want,
            peer,
            rewrites: false,
            rate: high,
        };
        let syn = |source| packet::v4(source, SYN);
        Ok(vec![
            case("pass", packet::v4(CLEAN, ACK), PASS, Peer::Same),
            case("pass.v6", packet::v6(CLEAN6, ACK), PASS, Peer::Same),
            case("pass.syn", syn(CLEAN), PASS, Peer::Same),
            Case {
                packets: self.blocked.clone(),
                ..case("drop.ip", Vec::new(), DROP, Peer::Drop)
            },
            case(
                "drop.cidr",
                syn(Ipv4Addr::from(u32::from(prefix(RULES / 2).network()) + 77)),
                DROP,
                Peer::Drop,
            ),
            case("drop.ban", packet::v4(BANNED, ACK), DROP, Peer::Drop),
            case("drop.country", syn(other), DROP, Peer::Drop),
            Case {
                rate: low,
                ..case("drop.rate", syn(CLEAN), DROP, Peer::Drop)
            },
            Case {
                rewrites: true,
                ..case("reset", syn(RESET), TX, Peer::Drop)
            },
            case("observe", syn(OBSERVED), PASS, Peer::Same),
        ])
    }

    pub(crate) fn prepare(&self, case: &Case) -> Result<()> {
        let rates = RateLimits {
            connections: Some(case.rate),
            packets: None,
        };
        self.firewall.set_rates(&rates)?;
        if matches!(case.want, DROP) {
            // Uses up the burst of the low limit; one packet changes nothing for the others.
            crate::spend(self.program("firewall")?, &case.packets[0])?;
        }
        Ok(())
    }

    /// An address whose country is known and not [`CLEAN`]'s.
    fn other_country(&self) -> Result<Ipv4Addr> {
        let unknown = CountryCode(*b"??");
        let used = [CLEAN, OBSERVED].map(|address| self.geoip.lookup(address.into()));
        // Above all blocked prefixes and hosts.
        for first in 120..=223 {
            let address = Ipv4Addr::new(first, 7, 7, 7);
            let country = self.geoip.lookup(address.into());
            if country != unknown && !used.contains(&country) {
                return Ok(address);
            }
        }
        bail!("the database knows one country only")
    }
}

fn rule(kind: RuleKind, cidr: IpNet, action: Action) -> Rule {
    let now = SystemTime::now();
    let expires = (kind == RuleKind::Ban).then(|| now + Duration::from_secs(3600));
    Rule {
        id: 0,
        kind,
        cidr,
        action,
        expires,
        comment: String::new(),
        created: now,
    }
}

/// Distinct prefixes of /18 to /28 that keep clear of the named addresses.
fn prefix(i: u32) -> Ipv4Net {
    let length = 18 + (i % 11) as u8;
    Ipv4Net::new_assert(Ipv4Addr::from((100 << 24) + (i << 14)), length)
}

/// Distinct hosts, spread.
fn host(i: u32) -> Ipv4Addr {
    Ipv4Addr::from((60 << 24) + i * 1021)
}

fn load(geoip: &Arc<GeoIp>) -> Result<GeoIpLoad> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (maps, memory) = (map_bytes()?, status("VmRSS:")?);
    let begun = Instant::now();
    runtime.block_on(geoip.load())?;
    Ok(GeoIpLoad {
        milliseconds: begun.elapsed().as_secs_f64() * 1000.0,
        table_mib: (map_bytes()? - maps) / 1024.0 / 1024.0,
        peak_mib: (status("VmHWM:")? - memory) / 1024.0,
    })
}

/// KiB of a line of /proc/self/status.
fn status(key: &str) -> Result<f64> {
    let text = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    number(&text, key).with_context(|| format!("/proc/self/status has no {key}"))
}

/// Kernel memory of the maps that this process holds.
fn map_bytes() -> Result<f64> {
    let directory = fs::read_dir("/proc/self/fdinfo").context("cannot read /proc/self/fdinfo")?;
    let texts = directory.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    Ok(texts
        .filter(|text| text.contains("map_type:"))
        .filter_map(|text| number(&text, "memlock:"))
        .sum())
}

fn number(text: &str, key: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Fills xdp-filter's map with the hosts that ours has, with the flags of the one address that is there.
pub(crate) fn fill_xdp_filter(path: &Path) -> Result<()> {
    let map = Map::PerCpuHashMap(MapData::from_pin(path)?);
    let mut map: PerCpuHashMap<MapData, u32, u64> = map.try_into()?;
    let Some((first, flags)) = map.iter().next().transpose()? else {
        bail!("{} holds no address", path.display())
    };
    map.remove(&first)?;
    let cpus = flags.len();
    let flags = flags[0];
    for i in (0..FILTER_ENTRIES).map(|i| u32::from(host(i)).to_be()) {
        map.insert(i, PerCpuValues::try_from(vec![flags; cpus])?, 0)?;
    }
    Ok(())
}
