//! Arguments that are more than text. Errors say what would be right.

use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv6Net};
use mc_proto::mcproxy::v1 as pb;
use mc_proxy::hostname::HostPattern;
use mcdsl::human::parse_duration;

type Parsed<T> = Result<T, String>;

/// `--action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Action {
    /// Discards silently
    #[default]
    Drop,
    /// Answers TCP with a RST, discards anything else
    Reset,
    /// Counts and samples what would have been dropped, and lets it pass
    Observe,
}

impl Action {
    pub(crate) fn wire(self) -> pb::Action {
        match self {
            Self::Drop => pb::Action::Drop,
            Self::Reset => pb::Action::Reset,
            Self::Observe => pb::Action::Observe,
        }
    }
}

pub(crate) fn hostname(text: &str) -> Parsed<String> {
    let pattern: Result<HostPattern, _> = text.parse();
    pattern.map(|p| p.to_string()).map_err(|e| e.to_string())
}

pub(crate) fn listen_address(text: &str) -> Parsed<SocketAddr> {
    text.parse()
        .map_err(|_| "write an address and a port, like 0.0.0.0:443 or [::]:443".to_owned())
}

pub(crate) fn backend(text: &str) -> Parsed<SocketAddr> {
    let address: SocketAddr = text.parse().map_err(|_| {
        "write an IP address and a port, like 10.0.0.2:8443 or [fd00::2]:8443 (names are not resolved)"
    })?;
    match address {
        a if a.port() == 0 => Err("port 0 cannot be connected to".to_owned()),
        a if a.ip().is_unspecified() => Err(format!("{} is not an address to connect to", a.ip())),
        a => Ok(a),
    }
}

/// One address.
pub(crate) fn address(text: &str) -> Parsed<IpAddr> {
    text.parse()
        .map_err(|_| "write an IP address, like 192.0.2.7 or 2001:db8::7".to_owned())
}

/// An address or a network without host bits.
pub(crate) fn network(text: &str) -> Parsed<IpNet> {
    mc_proxy::spec::text::network(text)
}

/// What can be banned: an IPv4 address or an IPv6 /64; longer IPv6 prefixes are widened.
pub(crate) fn banned(text: &str) -> Parsed<IpNet> {
    match network(text)? {
        IpNet::V4(net) if net.prefix_len() == 32 => Ok(net.into()),
        IpNet::V6(net) if net.prefix_len() >= 64 => Ipv6Net::new(net.addr(), 64)
            .map(|net| net.trunc().into())
            .map_err(|e| e.to_string()),
        net => Err(format!(
            "a ban is for one IPv4 address or an IPv6 /64, not {net}; use `firewall block` for networks"
        )),
    }
}

/// ISO 3166-1 alpha-2, or `??` for addresses without a country.
pub(crate) fn country(text: &str) -> Parsed<String> {
    let code = text.to_ascii_uppercase();
    let letters = code.len() == 2 && code.bytes().all(|b| b.is_ascii_uppercase());
    if letters || code == "??" {
        return Ok(code);
    }
    Err("write a two-letter country code like DE, or ?? for addresses without a country".to_owned())
}

/// A duration in whole milliseconds, above 0.
pub(crate) fn milliseconds(text: &str) -> Parsed<u32> {
    match milliseconds_or_none(text)? {
        0 => Err("must be above 0".to_owned()),
        ms => Ok(ms),
    }
}

/// A duration in whole milliseconds; 0 turns off what takes so long.
pub(crate) fn milliseconds_or_none(text: &str) -> Parsed<u32> {
    let duration = parse_duration(text).map_err(|e| e.to_string())?;
    u32::try_from(duration.as_millis()).map_err(|_| "at most 7 weeks".to_owned())
}

/// A duration in whole seconds, above 0.
pub(crate) fn seconds(text: &str) -> Parsed<u32> {
    let duration = parse_duration(text).map_err(|e| e.to_string())?;
    if duration.is_zero() || duration.subsec_nanos() != 0 {
        return Err("must be whole seconds, 1s or more".to_owned());
    }
    u32::try_from(duration.as_secs()).map_err(|_| "is too long".to_owned())
}

/// A rate; `None` = off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate(pub(crate) Option<f64>);

/// "50/s", "10/m", "0.5/s", "100/h" or "off".
pub(crate) fn rate(text: &str) -> Parsed<Rate> {
    if text == "off" {
        return Ok(Rate(None));
    }
    let syntax = || "write a rate like 50/s, 10/m or 100/h, or off".to_owned();
    let (number, unit) = text.split_once('/').ok_or_else(syntax)?;
    let number: f64 = number.parse().map_err(|_| syntax())?;
    let per = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(syntax()),
    };
    let per_second = number / per;
    if !per_second.is_finite() || per_second <= 0.0 {
        return Err("must be above 0; `off` removes the limit".to_owned());
    }
    Ok(Rate(Some(per_second)))
}

/// A number of bytes, with a unit or without.
pub(crate) fn bytes(text: &str) -> Parsed<u64> {
    mc_proxy::spec::text::bytes(text)
}
