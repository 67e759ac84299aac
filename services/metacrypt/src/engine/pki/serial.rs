//! Serial numbers of certificates.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER_PERMISSIVE;
use serde::{Deserialize, Serialize};
use x509_cert::{der, serial_number::SerialNumber};

/// A positive number of 20 octets (RFC 5280 §4.1.2.2), 158 bits of which are random; as text 40 digits, hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Serial([u8; Self::BYTES]);

/// Why a text is no serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write its 40 hexadecimal digits, with or without colons between; the first one is 4 to 7 of what is issued here"
)]
pub(crate) struct SerialFault;

impl Serial {
    pub(crate) const BYTES: usize = 20;

    /// From random bytes.
    pub(crate) fn new(mut random: [u8; Self::BYTES]) -> Self {
        // Positive, and of one length.
        random[0] = random[0] & 0x7f | 0x40;
        Self(random)
    }

    /// As certificates have it.
    pub(crate) fn number(&self) -> der::Result<SerialNumber> {
        SerialNumber::new(&self.0)
    }

    /// From the bytes that certificates and requests for their status have; `None`: no certificate of ours.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; Self::BYTES] = bytes.try_into().ok()?;
        (bytes[0] & 0xc0 == 0x40).then_some(Self(bytes))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl FromStr for Serial {
    type Err = SerialFault;

    /// As tools show it, too: capital letters, colons.
    fn from_str(text: &str) -> Result<Self, SerialFault> {
        let colons = text.len() == Self::BYTES * 3 - 1
            && text.bytes().skip(2).step_by(3).all(|byte| byte == b':');
        let plain = if colons {
            text.replace(':', "")
        } else {
            text.to_owned()
        };
        let bytes = HEXLOWER_PERMISSIVE.decode(plain.as_bytes());
        let bytes = bytes.ok().filter(|bytes| bytes.len() == Self::BYTES);
        bytes.and_then(|bytes| Self::of(&bytes)).ok_or(SerialFault)
    }
}

impl TryFrom<String> for Serial {
    type Error = SerialFault;

    fn try_from(text: String) -> Result<Self, SerialFault> {
        text.parse()
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        serial.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_positive_and_of_one_length() {
        for random in [[0; 20], [0xff; 20], [0x80; 20]] {
            let serial = Serial::new(random);
            let number = serial.number().unwrap();
            assert_eq!(number.as_bytes().len(), 20);
            assert_eq!(Serial::of(number.as_bytes()), Some(serial.clone()));
            assert_eq!(serial.to_string().parse(), Ok(serial));
        }
        assert_eq!(Serial::of(&[0x80; 20]), None, "negative");
        assert_eq!(Serial::of(&[1; 19]), None, "short");
    }

    #[test]
    fn they_are_read_as_tools_write_them() {
        let wanted = Serial::new([0xab; 20]);
        let pairs = vec!["AB"; 19].join(":");
        for (description, text, good) in [
            ("small", format!("6b{}", "ab".repeat(19)), true),
            ("capital", format!("6B{}", "AB".repeat(19)), true),
            ("colons", format!("6B:{pairs}"), true),
            ("colons elsewhere", format!("6:B{pairs}"), false),
            ("short", "6b".to_owned(), false),
            ("long", format!("6b{}", "ab".repeat(20)), false),
            ("no digits", "z".repeat(40), false),
            ("a path", format!("../{}", "a".repeat(37)), false),
            ("nothing", String::new(), false),
        ] {
            let got = text.parse::<Serial>();
            assert_eq!(got.ok(), good.then(|| wanted.clone()), "{description}");
        }
    }
}
