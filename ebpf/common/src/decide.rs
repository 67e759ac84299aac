//! The firewall's decision: one function for the XDP program, for `explain` and for clients that only userland
//! can see (PROXY protocol).
//!
//! Order: allow → block → ban → country → rates → pass; the first match decides, `observe` counts and goes on.
//! Evaluated lazily: the allow-list is asked only when something would deny (or be observed). That gives the same
//! verdicts, since an allowed source passes whatever else would have said, and an established flow costs one lookup.
//!
//! Among blocks the most specific decides, as in a routing table: an `observe` /24 within a dropped /16 is a hole.
//!
//! # Addresses within addresses
//! IPv4-mapped (`::ffff:0:0/96`) and NAT64 (`64:ff9b::/96`, RFC 6052) sources are judged as the IPv4 address that they
//! carry, so that no rule is evaded by spelling an address differently. 6to4 (`2002::/16`) is judged as IPv6: what it
//! carries is whatever a relay was told, and RFC 7526 has retired it, so block the prefix. IPv6 hosts are judged
//! by /64, since a host owns one.

use crate::firewall::{Config, HostEntry, PrefixEntry, Reason, Verdict, action, rule};

/// Who sent a packet. Host byte order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// IPv4.
    V4(u32),
    /// IPv6: upper and lower half.
    V6(u64, u64),
}

impl Source {
    /// An IPv6 source, or the IPv4 address that it carries (see the module).
    #[must_use]
    #[inline(always)]
    pub const fn from_v6(high: u64, low: u64) -> Self {
        let mapped = high == 0 && low >> 32 == 0xffff;
        let nat64 = high == 0x0064_ff9b_0000_0000 && low >> 32 == 0;
        if mapped || nat64 {
            Self::V4(low as u32)
        } else {
            Self::V6(high, low)
        }
    }

    /// Key of the rate maps: IPv4 addresses lie in `::/32` where no /64 of a real host is.
    #[must_use]
    #[inline(always)]
    pub const fn rate_key(self) -> u64 {
        match self {
            Self::V4(address) => address as u64,
            Self::V6(high, _) => high,
        }
    }
}

/// What a packet is to the rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// TCP with SYN and without ACK: a new connection.
    Syn,
    /// Any other TCP.
    Established,
    /// Anything else, and fragments without a header.
    Other,
    /// ICMPv6 neighbour discovery from a neighbour (hop limit 255).
    NeighbourDiscovery,
}

/// Of a packet without a port, or a fragment whose port is elsewhere. Not an `Option`: see [`Tables::host`].
pub const NO_PORT: u32 = u32::MAX;

/// A parsed packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Who sent it.
    pub source: Source,
    /// What it is.
    pub class: Class,
    /// Index into the bitmap of guarded ports: port, plus 65,536 for UDP; or [`NO_PORT`].
    pub port: u32,
    /// Bytes of the frame.
    pub length: u32,
}

/// What happens to a packet, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// Pass, drop or reset; never observe.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The rule that decided, or [`rule::NONE`].
    pub rule: u32,
}

impl Decision {
    /// Passes without a rule.
    #[must_use]
    #[inline(always)]
    pub const fn pass(reason: Reason) -> Self {
        Self {
            verdict: Verdict::Pass,
            reason,
            rule: rule::NONE,
        }
    }
}

/// Which rate limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// New TCP connections.
    Connections,
    /// SYNs and non-TCP packets.
    Packets,
}

/// Where the rules stand. Implementations look up and count, they do not judge.
pub trait Tables {
    /// The settings.
    fn config(&self) -> &Config;
    /// The entry of an IPv4 address or an IPv6 /64; the default if there is none (an `Option` would leave LLVM undefined
    /// registers to spill, which the verifier refuses).
    fn host(&self, source: Source) -> HostEntry;
    /// The longest blocking prefix.
    fn blocked(&self, source: Source) -> Option<PrefixEntry>;
    /// The longest allowing prefix.
    fn allowed(&self, source: Source) -> Option<PrefixEntry>;
    /// `CLOCK_MONOTONIC`, ns, at most a tick old.
    fn now(&self) -> u64;
    /// Country and rate rules judge this port.
    fn guarded(&self, port: u32) -> bool;
    /// The country index of an address; 0 = unknown.
    fn country(&self, source: Source) -> u8;
    /// One of [`action`].
    fn country_action(&self, country: u8) -> u8;
    /// An event against a limit that is set: does it conform?
    fn conforms(&self, limit: Limit, source: Source) -> bool;
    /// An observing rule matched.
    fn observed(&self, packet: &Packet, rule: u32, reason: Reason);
    /// The country policy judged.
    fn judged_country(&self, country: u8, denied: bool);
}

/// Judges a packet.
#[inline(always)]
pub fn decide<T: Tables>(tables: &T, packet: &Packet) -> Decision {
    let host = tables.host(packet.source);
    let judged = matches!(packet.class, Class::Syn | Class::Other);
    if judged
        && let Some(found) = block(tables, packet.source, host)
        && let Some(decision) = apply(tables, packet, found.action, found.rule, Reason::Block)
    {
        return decision;
    }
    if host.ban_action != action::PASS
        && host.ban_expires > tables.now()
        && let Some(decision) = apply(tables, packet, host.ban_action, host.ban_rule, Reason::Ban)
    {
        return decision;
    }
    match packet.class {
        Class::Established => return Decision::pass(Reason::Established),
        Class::NeighbourDiscovery => return Decision::pass(Reason::NeighbourDiscovery),
        Class::Syn | Class::Other => {}
    }
    if packet.port == NO_PORT || !tables.guarded(packet.port) {
        return Decision::pass(Reason::Unguarded);
    }
    if let Some(decision) = country(tables, packet) {
        return decision;
    }
    if let Some(decision) = rates(tables, packet) {
        return decision;
    }
    Decision::pass(Reason::NoMatch)
}

/// The most specific block.
#[inline(always)]
fn block<T: Tables>(tables: &T, source: Source, exact: HostEntry) -> Option<PrefixEntry> {
    if exact.block_action == action::PASS {
        return tables.blocked(source);
    }
    if exact.longer != 0
        && let Some(found) = tables.blocked(source)
        && found.length > 64
    {
        return Some(found);
    }
    let length = if let Source::V4(_) = source { 32 } else { 64 };
    Some(PrefixEntry {
        rule: exact.block_rule,
        action: exact.block_action,
        length,
        reserved: 0,
    })
}

/// The decision of a rule that matched; `None` = it observes.
#[inline(always)]
fn apply<T: Tables>(
    tables: &T,
    packet: &Packet,
    action: u8,
    rule: u32,
    reason: Reason,
) -> Option<Decision> {
    if let Some(entry) = tables.allowed(packet.source) {
        return Some(Decision {
            verdict: Verdict::Pass,
            reason: Reason::Allow,
            rule: entry.rule,
        });
    }
    let verdict = match action {
        action::OBSERVE => {
            tables.observed(packet, rule, reason);
            return None;
        }
        // Nothing but TCP can be reset, and a fragment without a header is not known to be TCP.
        action::RESET if matches!(packet.class, Class::Syn | Class::Established) => Verdict::Reset,
        _ => Verdict::Drop,
    };
    Some(Decision {
        verdict,
        reason,
        rule,
    })
}

#[inline(always)]
fn country<T: Tables>(tables: &T, packet: &Packet) -> Option<Decision> {
    let country = tables.country(packet.source);
    let action = tables.country_action(country);
    if action == action::PASS {
        tables.judged_country(country, false);
        return None;
    }
    let decision = apply(tables, packet, action, rule::COUNTRY, Reason::Country);
    let allowed = matches!(
        decision,
        Some(Decision {
            verdict: Verdict::Pass,
            ..
        })
    );
    tables.judged_country(country, !allowed);
    decision
}

#[inline(always)]
fn rates<T: Tables>(tables: &T, packet: &Packet) -> Option<Decision> {
    let config = tables.config();
    if packet.class == Class::Syn
        && config.connections.interval != 0
        && !tables.conforms(Limit::Connections, packet.source)
        && let Some(decision) = apply(
            tables,
            packet,
            config.connections.action,
            rule::RATE_CONNECTIONS,
            Reason::RateConnections,
        )
    {
        return Some(decision);
    }
    if config.packets.interval != 0 && !tables.conforms(Limit::Packets, packet.source) {
        return apply(
            tables,
            packet,
            config.packets.action,
            rule::RATE_PACKETS,
            Reason::RatePackets,
        );
    }
    None
}
