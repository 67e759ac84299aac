//! The firewall's map keys and values, its bounds, and the names of its verdicts.

use crate::map_types;

/// Counter slots: rule ids are below this.
pub const MAX_RULES: u32 = 32_768;
/// Hosts (bans and exact blocks) per address family. Not preallocated.
pub const MAX_HOSTS: u32 = 1_048_576;
/// Prefixes per trie. Each has a rule id, so more than [`MAX_RULES`] never exist.
pub const MAX_PREFIXES: u32 = MAX_RULES;
/// Sources whose rates are remembered; the least recently used is forgotten.
pub const MAX_RATES: u32 = 262_144;
/// Samples of observed sources.
pub const MAX_SAMPLES: u32 = 4_096;
/// Rows of the IPv4 prefilter: one per /16.
pub const FILTER4_ROWS: u32 = 65_536;
/// Bits of the IPv6 prefilter are `64 << FILTER6_BITS`.
pub const FILTER6_BITS: u32 = 11;
/// Rows of the IPv6 prefilter.
pub const FILTER6_ROWS: u32 = 1 << FILTER6_BITS;
/// Words of the bitmap of guarded ports: 65,536 TCP ports, then as many UDP ports.
pub const GUARDED_WORDS: u32 = 2 * 65_536 / 64;
/// Country indices; 0 = unknown.
pub const COUNTRIES: u32 = 256;

/// Ids of the rules that are not address rules.
pub mod rule {
    /// No rule.
    pub const NONE: u32 = 0;
    /// Every ban, whatever its own id.
    pub const BAN: u32 = 1;
    /// The country policy.
    pub const COUNTRY: u32 = 2;
    /// The limit on new connections.
    pub const RATE_CONNECTIONS: u32 = 3;
    /// The limit on packets.
    pub const RATE_PACKETS: u32 = 4;
    /// The policy for what cannot be parsed.
    pub const UNPARSED: u32 = 5;
    /// Ids of the operator's rules start here.
    pub const FIRST: u32 = 16;

    /// The name of a built-in rule.
    #[must_use]
    pub const fn name(id: u32) -> Option<&'static str> {
        Some(match id {
            BAN => "ban",
            COUNTRY => "country",
            RATE_CONNECTIONS => "rate-connections",
            RATE_PACKETS => "rate-packets",
            UNPARSED => "unparsed",
            _ => return None,
        })
    }
}

/// Actions as they stand in maps.
pub mod action {
    /// No rule, or pass.
    pub const PASS: u8 = 0;
    /// Silently.
    pub const DROP: u8 = 1;
    /// An RST for TCP, else drop.
    pub const RESET: u8 = 2;
    /// Count, sample and go on.
    pub const OBSERVE: u8 = 3;
}

/// What happens to a packet.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Goes up the stack.
    Pass = 0,
    /// Dropped.
    Drop = 1,
    /// Answered with an RST.
    Reset = 2,
    /// Would have been denied; evaluation went on.
    Observe = 3,
}

impl Verdict {
    /// In order of their numbers.
    pub const ALL: [Self; 4] = [Self::Pass, Self::Drop, Self::Reset, Self::Observe];

    /// The label in metrics and listings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::Reset => "reset",
            Self::Observe => "observe",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])+ $variant:ident = $value:literal $name:literal,)+) => {
        /// Why a packet got its verdict.
        #[repr(u8)]
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Reason { $($(#[$doc])+ $variant = $value,)+ }

        impl Reason {
            /// In order of their numbers, which have no gaps.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The label in metrics and listings.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}
reasons! {
    /// Neither IPv4 nor IPv6 (ARP, LLDP, …): not judged.
    NotIp = 0 "not-ip",
    /// TCP other than a SYN: judged by bans only.
    Established = 1 "established",
    /// IPv6 neighbour discovery (RFC 4861), judged by bans only.
    NeighbourDiscovery = 2 "neighbour-discovery",
    /// To a port that country and rate rules do not judge.
    Unguarded = 3 "unguarded",
    /// No rule denied it.
    NoMatch = 4 "no-match",
    /// On the allow-list.
    Allow = 5 "allow",
    /// A block.
    Block = 6 "block",
    /// A ban.
    Ban = 7 "ban",
    /// The country policy.
    Country = 8 "country",
    /// Above the limit on new connections.
    RateConnections = 9 "rate-connections",
    /// Above the limit on packets.
    RatePackets = 10 "rate-packets",
    /// Ends within a header.
    Truncated = 11 "truncated",
    /// More VLAN tags than are walked.
    TooManyTags = 12 "too-many-tags",
    /// An IPv4 header with a wrong version or length.
    BadHeader = 13 "bad-header",
    /// An IPv6 extension header that is not on the list.
    UnknownExtension = 14 "unknown-extension",
    /// More IPv6 extension headers than are walked.
    TooManyExtensions = 15 "too-many-extensions",
    /// A first TCP fragment without the flags (RFC 1858 §3).
    TinyFragment = 16 "tiny-fragment",
    /// A TCP fragment that would overwrite the flags (RFC 1858 §4, RFC 3128).
    OverlappingFragment = 17 "overlapping-fragment",
}

impl Reason {
    /// The built-in rule that this is the reason of, or [`rule::NONE`]: what it counted is what its reasons counted.
    #[must_use]
    pub const fn built_in(self) -> u32 {
        match self {
            Self::Ban => rule::BAN,
            Self::Country => rule::COUNTRY,
            Self::RateConnections => rule::RATE_CONNECTIONS,
            Self::RatePackets => rule::RATE_PACKETS,
            Self::Truncated
            | Self::TooManyTags
            | Self::BadHeader
            | Self::UnknownExtension
            | Self::TooManyExtensions
            | Self::TinyFragment
            | Self::OverlappingFragment => rule::UNPARSED,
            Self::NotIp
            | Self::Established
            | Self::NeighbourDiscovery
            | Self::Unguarded
            | Self::NoMatch
            | Self::Allow
            | Self::Block => rule::NONE,
        }
    }
}

/// Slots of one verdict's counters: fixed, with room for more reasons, so that a new one moves no counter of a pinned map.
pub const REASON_STRIDE: u32 = 32;
const _: () = assert!(Reason::ALL.len() <= REASON_STRIDE as usize);
/// Slots of the verdict counters.
pub const VERDICT_SLOTS: u32 = Verdict::ALL.len() as u32 * REASON_STRIDE;

/// The slot of a verdict for a reason.
#[must_use]
#[inline(always)]
pub const fn verdict_slot(verdict: Verdict, reason: Reason) -> u32 {
    verdict as u32 * REASON_STRIDE + reason as u32
}

/// What is known of one host: an IPv4 address, or an IPv6 /64.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HostEntry {
    /// `CLOCK_MONOTONIC`, ns; the ban ends then, or with the tick.
    pub ban_expires: u64,
    /// The ban's rule.
    pub ban_rule: u32,
    /// The block's rule.
    pub block_rule: u32,
    /// One of [`action`]; `PASS` = no ban.
    pub ban_action: u8,
    /// One of [`action`]; `PASS` = no exact block.
    pub block_action: u8,
    /// 1 = the block trie holds longer prefixes within this /64, which come first.
    pub longer: u8,
    /// Always zero.
    pub reserved: [u8; 5],
}

/// Value of the tries.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PrefixEntry {
    /// The rule.
    pub rule: u32,
    /// One of [`action`]; `PASS` in the allow tries.
    pub action: u8,
    /// Length of the prefix that matched.
    pub length: u8,
    /// Always zero.
    pub reserved: u16,
}

/// IPv4 prefilter, one /16: a bit per /24 for each kind of trie.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Filter4Row {
    /// Which /24 the block trie concerns.
    pub block: [u64; 4],
    /// Which /24 the allow trie concerns.
    pub allow: [u64; 4],
}

/// IPv6 prefilter: 64 hashed bits for each kind of trie.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Filter6Row {
    /// Which /32 the block trie may concern.
    pub block: u64,
    /// Which /32 the allow trie may concern.
    pub allow: u64,
}

/// Row and bit of an IPv6 /32 (host order).
#[must_use]
#[inline(always)]
pub const fn filter6_bit(prefix: u32) -> (u32, u32) {
    let hash = prefix.wrapping_mul(0x9e37_79b1); // Fibonacci hashing: the high bits are the good ones
    (hash >> (32 - FILTER6_BITS), (hash >> 15) & 63)
}

/// A token bucket as GCRA.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rate {
    /// ns between events; 0 = no limit.
    pub interval: u64,
    /// ns that a source may be ahead: interval × (burst − 1), and a tick of the clock.
    pub tolerance: u64,
    /// One of [`action`].
    pub action: u8,
    /// Always zero.
    pub reserved: [u8; 7],
}

impl Rate {
    /// GCRA: given the theoretical arrival time of the next event (0 = new source), the one to remember
    /// if the event conforms.
    #[must_use]
    #[inline(always)]
    pub const fn conforms(&self, arrival: u64, now: u64) -> Option<u64> {
        let arrival = if arrival > now { arrival } else { now };
        if arrival - now > self.tolerance {
            return None;
        }
        Some(arrival + self.interval)
    }
}

/// Settings of the program. A single entry.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// New TCP connections to guarded ports.
    pub connections: Rate,
    /// TCP SYNs and non-TCP packets to guarded ports.
    pub packets: Rate,
    /// One in this many denials is logged; 0 = none.
    pub log_every: u32,
    /// One of [`action`] for what cannot be parsed; `RESET` acts as drop.
    pub unparsed: u8,
    /// 1 = the IPv6 block trie holds prefixes shorter than /32.
    pub short_block: u8,
    /// 1 = the IPv6 allow trie holds prefixes shorter than /32.
    pub short_allow: u8,
    /// Always zero.
    pub reserved: u8,
}

/// Action per country index. A single entry, so that a policy is one map write.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CountryActions {
    /// One of [`action`] each.
    pub actions: [u8; COUNTRIES as usize],
}

/// Packets and bytes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes of the frames.
    pub bytes: u64,
}

/// What the country policy did.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CountryCounter {
    /// Packets that it let pass.
    pub passed: u64,
    /// Packets that it denied or would have denied.
    pub denied: u64,
}

/// Key of the samples.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SampleKey {
    /// Network order; IPv4 is IPv4-mapped.
    pub address: [u8; 16],
    /// The observing rule.
    pub rule: u32,
}

/// Value of the samples.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sample {
    /// Packets.
    pub packets: u64,
    /// `CLOCK_MONOTONIC`, ns.
    pub last_seen: u64,
}

map_types!(
    HostEntry = 24,
    PrefixEntry = 8,
    Filter4Row = 64,
    Filter6Row = 16,
    Rate = 24,
    Config = 56,
    CountryActions = 256,
    Counter = 16,
    CountryCounter = 16,
    SampleKey = 20,
    Sample = 16,
);
