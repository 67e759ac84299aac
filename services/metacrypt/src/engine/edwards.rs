//! Public keys of Ed25519 that somebody sent: libraries take any 32 bytes for one, and find out when they verify.

use curve25519_dalek::edwards::CompressedEdwardsY;

/// Whether these bytes are a point of the curve that is somebody's: in its one spelling, and not of small order, for which signatures can be made that verify
/// by many keys, or by no secret (RFC 8032 §5.1.3).
pub(crate) fn is_ed25519(bytes: &[u8]) -> bool {
    let Ok(written) = CompressedEdwardsY::from_slice(bytes) else {
        return false;
    };
    let point = written.decompress();
    point.is_some_and(|point| point.compress() == written && !point.is_small_order())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{Ed25519KeyPair, KeyPair as _},
    };

    use super::*;

    fn bytes(first: u8, middle: u8, last: u8) -> [u8; 32] {
        let mut bytes = [middle; 32];
        (bytes[0], bytes[31]) = (first, last);
        bytes
    }

    #[test]
    fn a_point_that_is_a_key_is_one_and_nothing_else() {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        assert!(is_ed25519(pair.public_key().as_ref()));
        // y = 4/5, of which the base point is.
        assert!(is_ed25519(&bytes(0x58, 0x66, 0x66)));
        let mut order_8 = [0; 32];
        let hex = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05";
        data_encoding::HEXLOWER
            .decode_mut(hex.as_bytes(), &mut order_8)
            .unwrap();
        for (description, bytes) in [
            ("the neutral element", &bytes(1, 0, 0)[..]),
            ("the neutral element with a sign", &bytes(1, 0, 0x80)),
            ("of order 2", &bytes(0xec, 0xff, 0x7f)),
            ("of order 4", &bytes(0, 0, 0)),
            ("of order 4, with a sign", &bytes(0, 0, 0x80)),
            ("of order 8", &order_8),
            ("y = 2, of no point", &bytes(2, 0, 0)),
            ("y = p, which is written 0", &bytes(0xed, 0xff, 0x7f)),
            ("y = p + 1, which is written 1", &bytes(0xee, 0xff, 0x7f)),
            ("too short", &[0x66; 31]),
            ("too long", &[0x66; 33]),
            ("nothing", &[]),
        ] {
            assert!(!is_ed25519(bytes), "{description}");
        }
    }
}
