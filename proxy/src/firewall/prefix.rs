//! What a rule's prefix may be, and an address as the decision sees it. Apart from the maps, so that the configuration can be
//! checked without them.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use mc_edge_common::decide::Source;

use crate::spec::RuleKind;

/// A prefix that no rule can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// IPv4 addresses spelled as IPv6.
    #[error(
        "{0} stands for IPv4 addresses (NAT64, IPv4-mapped), which are judged as IPv4; write the rule as IPv4"
    )]
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

/// Prefixes of 64:ff9b:: from here on hold nothing beside NAT64's /96. Shorter ones also hold others' addresses, of NAT64's
/// they say nothing.
const SPECIAL: u8 = 48;

/// Refuses prefixes that could never match, since their sources are judged as IPv4, and bans of more than a host. To be
/// asked before a rule is stored: the daemon does not start with one that the maps cannot hold.
///
/// # Errors
/// [`PrefixError::Embedded`], [`PrefixError::BanPrefix`].
pub fn check_prefix(kind: RuleKind, cidr: IpNet) -> Result<(), PrefixError> {
    // A ban is of the whole /64 that such a source would be in.
    if let IpNet::V6(net) = cidr
        && (net.prefix_len() >= SPECIAL || kind == RuleKind::Ban)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_of_nothing_but_embedded_addresses_is_refused() {
        for (cidr, refused) in [
            ("64:ff9b::192.0.2.1/128", true),
            ("64:ff9b::/96", true),
            ("64:ff9b::/95", true),
            ("64:ff9b::/64", true),
            ("64:ff9b::/48", true),
            ("::ffff:0:0/96", true),
            ("64:ff9b::/47", false), // holds 64:ff9b:1::/48 (RFC 8215), which is judged as IPv6
            ("64:ff9b:1::/48", false),
            ("::/64", false),
            ("::/0", false),
        ] {
            let cidr: IpNet = cidr.parse().unwrap();
            for kind in [RuleKind::Block, RuleKind::Allow] {
                let found = check_prefix(kind, cidr) == Err(PrefixError::Embedded(cidr));
                assert_eq!(found, refused, "{cidr}");
            }
        }
    }
}
