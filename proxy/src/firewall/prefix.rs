//! What a rule's prefix may be, and an address as the decision sees it. Apart from the maps, so that the configuration can be
//! checked without them.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use mc_edge_common::decide::Source;

use crate::spec::RuleKind;

/// A prefix that no rule can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// An IPv4 address spelled as IPv6.
    #[error("{0} stands for IPv4 addresses, which are judged as IPv4; write the rule as IPv4")]
    Embedded(IpNet),
    /// A ban of more than a host.
    #[error("a ban is an IPv4 /32 or an IPv6 /64, not {0}; block it instead")]
    BanPrefix(IpNet),
}

/// An address as the decision sees it.
#[must_use]
pub fn source(address: IpAddr) -> Source {
    match address {
        IpAddr::V4(v4) => Source::V4(v4.to_bits()),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            Source::from_v6((bits >> 64) as u64, bits as u64)
        }
    }
}

/// The address that is judged: of IPv4 within IPv6 (IPv4-mapped, NAT64) the inner one.
#[must_use]
pub fn judged(address: IpAddr) -> IpAddr {
    match source(address) {
        Source::V4(bits) => Ipv4Addr::from_bits(bits).into(),
        Source::V6(..) => address,
    }
}

/// Refuses prefixes that could never match, since their sources are judged as IPv4, and bans of more than a host. To be
/// asked before a rule is stored: the daemon does not start with one that the maps cannot hold.
///
/// # Errors
/// [`PrefixError::Embedded`], [`PrefixError::BanPrefix`].
pub fn check_prefix(kind: RuleKind, cidr: IpNet) -> Result<(), PrefixError> {
    // A ban is of the whole /64 that such a source would be in.
    if let IpNet::V6(net) = cidr
        && (net.prefix_len() >= 96 || kind == RuleKind::Ban)
        && let Source::V4(_) = source(IpAddr::V6(net.network()))
    {
        return Err(PrefixError::Embedded(cidr));
    }
    let full = match cidr {
        IpNet::V4(_) => 32,
        IpNet::V6(_) => 64,
    };
    if kind == RuleKind::Ban && cidr.prefix_len() != full {
        return Err(PrefixError::BanPrefix(cidr));
    }
    Ok(())
}
