//! Values as people write them, in the configuration and on command lines. An error says what would be right; which key or
//! argument it was is the reader's to say.

use std::{fmt, marker::PhantomData, net::SocketAddr, time::Duration};

use ipnet::IpNet;
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

pub use mcdsl::cidr::parse as network;

/// A number of bytes, with a unit or without.
///
/// # Errors
/// What would be right.
pub fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 4] = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("B", 1),
    ];
    let (number, unit) = UNITS
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))
        .unwrap_or((text, 1));
    number
        .trim_end()
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(unit))
        .ok_or_else(|| "write a whole number of bytes, KiB, MiB or GiB, like 10MiB".to_owned())
}

/// What is written as text.
trait Written: Sized {
    /// What a value is expected to be.
    const WHAT: &str;
    fn read(text: &str) -> Result<Self, String>;
}

impl Written for Duration {
    const WHAT: &str = "a duration like \"30s\"";
    fn read(text: &str) -> Result<Self, String> {
        humantime_serde::re::humantime::parse_duration(text)
            .map_err(|_| "write a duration like 250ms, 30s, 10m or 1h30m".to_owned())
    }
}

impl Written for SocketAddr {
    const WHAT: &str = "an IP address and a port like \"10.0.0.2:8443\"";
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| {
            "write an IP address and a port, like 10.0.0.2:8443 or [fd00::2]:8443 (names are not resolved)".to_owned()
        })
    }
}

impl Written for IpNet {
    const WHAT: &str = "an address or a network like \"192.0.2.0/24\"";
    fn read(text: &str) -> Result<Self, String> {
        network(text)
    }
}

/// Within the deserializer, and not after it, so that the error is of the key.
struct Reader<T>(PhantomData<T>);

impl<T: Written> Visitor<'_> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::WHAT)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::read(text).map_err(|advice| E::custom(format_args!("{text:?}: {advice}")))
    }
}

struct Item<T>(T);

impl<'de, T: Written> Deserialize<'de> for Item<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(Reader(PhantomData)).map(Self)
    }
}

/// For `#[serde(deserialize_with)]`, here and below.
pub(crate) trait Text<'de>: Sized {
    fn text<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error>;
}

macro_rules! text {
    ($($ty:ty),+) => {$(
        impl<'de> Text<'de> for $ty {
            fn text<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Item::deserialize(d).map(|item| item.0)
            }
        }
    )+};
}
text!(Duration, SocketAddr, IpNet);

impl<'de, T: Written> Text<'de> for Option<T> {
    fn text<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Item::deserialize(d).map(|item| Some(item.0))
    }
}

impl<'de, T: Written> Text<'de> for Vec<T> {
    fn text<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let items = Vec::<Item<T>>::deserialize(d)?;
        Ok(items.into_iter().map(|item| item.0).collect())
    }
}

/// A size, which may be a bare number as well.
struct Size;

impl Visitor<'_> for Size {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of bytes or a size like \"10MiB\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        bytes(text).map_err(|advice| E::custom(format_args!("{text:?}: {advice}")))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<u64, E> {
        let found = de::Unexpected::Signed(number);
        u64::try_from(number).map_err(|_| E::invalid_value(found, &self))
    }
}

/// Reads a size.
pub(crate) fn size<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    d.deserialize_any(Size).map(Some)
}

/// Reads a duration, an address, a network, or a list of them.
pub(crate) fn de<'de, T: Text<'de>, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
    T::text(d)
}
