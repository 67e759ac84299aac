//! The engine's cryptography, key by key.

use super::{
    algorithm::Algorithm,
    written::{NotWritten, Written},
};

const ENCRYPT: [Algorithm; 2] = [Algorithm::Aes256Gcm, Algorithm::Xchacha20Poly1305];
const SIGN: [Algorithm; 4] = [
    Algorithm::Ed25519,
    Algorithm::EcdsaP256,
    Algorithm::EcdsaP384,
    Algorithm::HmacSha256,
];

#[test]
fn what_is_encrypted_is_opened_as_it_was_and_no_bit_may_change() {
    for algorithm in ENCRYPT {
        let key = algorithm.ready(&algorithm.generate().unwrap()).unwrap();
        for plaintext in [&b""[..], b"a", &[7; 1024]] {
            let sealed = key.encrypt(plaintext, b"about").unwrap();
            let opened = key.decrypt(&sealed, b"about").unwrap();
            assert_eq!(&opened[..], plaintext, "{algorithm:?}");
            assert!(key.decrypt(&sealed, b"other").is_none(), "{algorithm:?}");
            assert_ne!(
                key.encrypt(plaintext, b"about").unwrap(),
                sealed,
                "another nonce"
            );
            for bit in 0..sealed.len().min(64) * 8 {
                let mut changed = sealed.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(
                    key.decrypt(&changed, b"about").is_none(),
                    "{algorithm:?} {bit}"
                );
            }
            for length in 0..sealed.len().min(64) {
                let cut = key.decrypt(&sealed[..length], b"about");
                assert!(cut.is_none(), "{algorithm:?} {length}");
            }
        }
        assert!(
            key.sign(b"").is_err() && !key.verify(b"", b""),
            "{algorithm:?}"
        );
    }
}

#[test]
fn what_is_signed_is_verified_as_it_was() {
    for algorithm in SIGN {
        let secret = algorithm.generate().unwrap();
        let key = algorithm.ready(&secret).unwrap();
        let signature = key.sign(b"message").unwrap();
        assert!(key.verify(b"message", &signature), "{algorithm:?}");
        assert!(!key.verify(b"messag", &signature), "{algorithm:?}");
        assert!(!key.verify(b"message", &signature[1..]), "{algorithm:?}");
        let mut changed = signature.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert!(!key.verify(b"message", &changed), "{algorithm:?}");
        let other = algorithm.ready(&algorithm.generate().unwrap()).unwrap();
        assert!(!other.verify(b"message", &signature), "{algorithm:?}");
        assert!(key.encrypt(b"", b"").is_err(), "{algorithm:?}");
        let public = key.public_key().unwrap();
        assert_eq!(public.is_none(), algorithm == Algorithm::HmacSha256);
        assert!(algorithm.ready(&secret[1..]).is_err() || algorithm == Algorithm::HmacSha256);
    }
}

#[test]
fn there_is_one_way_to_write_what_a_key_made() {
    for (description, text, wanted) in [
        (
            "as it is written",
            "metacrypt:v12:AAE=",
            Some((12, vec![0, 1])),
        ),
        ("of nothing", "metacrypt:v1:", Some((1, vec![]))),
        ("no version", "metacrypt:v:AAE=", None),
        ("version 0", "metacrypt:v0:AAE=", None),
        ("a zero before it", "metacrypt:v01:AAE=", None),
        ("a sign before it", "metacrypt:v+1:AAE=", None),
        ("too large", "metacrypt:v4294967296:AAE=", None),
        ("not padded", "metacrypt:v1:AAE", None),
        ("bits that are lost", "metacrypt:v1:AAF=", None),
        ("another alphabet", "metacrypt:v1:-_-_", None),
        ("space", "metacrypt:v1: AAE=", None),
        ("another's", "vault:v1:AAE=", None),
        ("nothing", "", None),
    ] {
        let written = wanted.map(|(version, bytes)| Written { version, bytes });
        let parsed: Result<Written, NotWritten> = text.parse();
        assert_eq!(parsed.ok(), written, "{description}");
        if let Some(written) = written {
            assert_eq!(written.to_string(), text, "{description}");
        }
    }
}
