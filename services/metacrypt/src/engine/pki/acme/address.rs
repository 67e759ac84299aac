//! Which addresses are connected to, to see who controls a name: others must not have this service ask what they cannot.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// Of this host, of links, of nobody or of clouds' own services: a network that is said has to be within.
const SPECIAL: &[&str] = &[
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "192.0.0.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "fe80::/10",
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
    "ff00::/8",
];

/// Of nobody outside (IANA's special-purpose registries): a network that is said has to have it.
const PRIVATE: &[&str] = &[
    "10.0.0.0/8",
    "100.64.0.0/10",
    "172.16.0.0/12",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
];

/// Global unicast (RFC 4291 §2.4).
const GLOBAL: &str = "2000::/3";

/// Where a gateway leads to an address of IPv4, which is at the end (NAT64, RFC 6052 §2.1).
const NAT64: &str = "64:ff9b::/96";

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok()
}

/// The address that is reached there.
fn reached(address: IpAddr) -> IpAddr {
    let address = address.to_canonical();
    match address {
        IpAddr::V6(six) if network(NAT64).is_some_and(|net| net.contains(&address)) => {
            let [.., a, b, c, d] = six.octets();
            Ipv4Addr::new(a, b, c, d).into()
        }
        _ => address,
    }
}

/// Whether it may be connected to, where `networks` are allowed.
pub(crate) fn allowed(address: IpAddr, networks: &[IpNet]) -> bool {
    let address = reached(address);
    let special = SPECIAL.iter().filter_map(|text| network(text));
    let special: Vec<_> = special.filter(|net| net.contains(&address)).collect();
    let mut said = networks.iter().filter(|net| net.contains(&address));
    if !special.is_empty() {
        return said.any(|net| special.iter().any(|range| range.contains(net)));
    }
    let private = || {
        let mut all = PRIVATE.iter().filter_map(|text| network(text));
        let global = network(GLOBAL).is_some_and(|net| net.contains(&address));
        all.any(|net| net.contains(&address)) || (address.is_ipv6() && !global)
    };
    said.next().is_some() || !private()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_global_or_said() {
        let none: &[&str] = &[];
        for (address, networks, wanted) in [
            ("1.1.1.1", none, true),
            ("2606:4700::1111", none, true),
            ("10.1.2.3", none, false),
            ("10.1.2.3", &["10.1.0.0/16"], true),
            ("10.2.2.3", &["10.1.0.0/16"], false),
            ("::ffff:10.1.2.3", none, false),
            ("::ffff:10.1.2.3", &["10.1.0.0/16"], true),
            ("64:ff9b::1", none, false),
            ("64:ff9b::1.1.1.1", none, true),
            ("64:ff9b::10.1.2.3", none, false),
            ("64:ff9b::10.1.2.3", &["64:ff9b::/96"], false),
            ("64:ff9b::10.1.2.3", &["10.1.0.0/16"], true),
            ("64:ff9b::127.0.0.1", &["::/0", "0.0.0.0/0"], false),
            ("64:ff9b::169.254.169.254", &["64:ff9b::/96"], false),
            ("64:ff9b:1::10.1.2.3", none, false),
            ("2002:7f00:1::1", none, false),
            ("::127.0.0.1", none, false),
            ("fd00::1", none, false),
            ("fd00::1", &["fd00::/8"], true),
            ("127.0.0.1", none, false),
            ("127.0.0.1", &["0.0.0.0/0"], false),
            ("127.0.0.1", &["127.0.0.0/8"], true),
            ("::1", &["::/0"], false),
            ("::1", &["::1/128"], true),
            ("169.254.169.254", &["0.0.0.0/0"], false),
            ("169.254.169.254", &["169.254.169.254/32"], true),
            ("fe80::1", &["::/0"], false),
            ("fd00:ec2::254", &["fd00::/8"], false),
            ("fd20:ce::254", &["fd00::/8"], false),
            ("168.63.129.16", none, false),
            ("224.0.0.1", none, false),
            ("255.255.255.255", &["0.0.0.0/0"], false),
            ("0.0.0.0", none, false),
            ("203.0.113.1", none, false),
            ("2001:db8::1", none, false),
        ] {
            let nets: Vec<_> = networks.iter().map(|n| n.parse().unwrap()).collect();
            let got = allowed(address.parse().unwrap(), &nets);
            assert_eq!(got, wanted, "{address} {networks:?}");
        }
    }

    #[test]
    fn the_lists_are_networks() {
        for text in SPECIAL.iter().chain(PRIVATE).chain([&GLOBAL, &NAT64]) {
            assert!(
                network(text).is_some_and(|net| net.trunc() == net),
                "{text}"
            );
        }
    }
}
