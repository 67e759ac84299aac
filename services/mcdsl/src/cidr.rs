//! Networks as people write them (RFC 4632 §3.1, RFC 4291 §2.3), in configuration files, on command lines and in requests.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

/// An address, or a network without host bits, which are more often a mistake than meant; see [`canonical`].
///
/// # Errors
/// What would be right.
pub fn parse(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(canonical(address.into()));
    }
    let net: IpNet = text.parse().map_err(
        |_| "write an address or a network, like 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32",
    )?;
    if net != net.trunc() {
        return Err(format!(
            "{net} has host bits; did you mean {}?",
            net.trunc()
        ));
    }
    Ok(canonical(net))
}

/// A prefix without host bits, and as IPv4 if it is an IPv4-mapped one: the sources that it means are IPv4, and it would
/// match nothing.
#[must_use]
pub fn canonical(net: IpNet) -> IpNet {
    let net = net.trunc();
    match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => v6
            .addr()
            .to_ipv4_mapped()
            .and_then(|v4| IpNet::new(v4.into(), v6.prefix_len() - 96).ok())
            .unwrap_or(net),
        _ => net,
    }
}

/// For `#[serde(deserialize_with)]` of a list.
///
/// # Errors
/// As [`parse`], with the text.
pub fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let list = Vec::<Written>::deserialize(deserializer)?;
    Ok(list.into_iter().map(|Written(network)| network).collect())
}

/// One by itself, so that an error is told of its place in the list.
struct Written(IpNet);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Reader)
    }
}

struct Reader;

impl Visitor<'_> for Reader {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address or a network like \"192.0.2.0/24\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Written, E> {
        let network = parse(text).map_err(|why| E::custom(format!("{text:?}: {why}")));
        network.map(Written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_no_host_bits() {
        for (text, wanted) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::7", "2001:db8::7/128"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), wanted);
        }
        for (text, advice) in [
            ("192.0.2.7/24", "did you mean 192.0.2.0/24?"),
            ("10.0.0.1/8", "did you mean 10.0.0.0/8?"),
            ("2001:db8::1/64", "did you mean 2001:db8::/64?"),
            ("192.0.2.0/33", "192.0.2.0/24"),
            ("example.org", "192.0.2.0/24"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(advice), "{error}");
        }
    }
}
