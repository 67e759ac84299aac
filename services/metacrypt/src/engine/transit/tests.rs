//! The engine's cryptography, key by key.

use std::time::UNIX_EPOCH;

use super::{
    algorithm::Algorithm,
    key::Key,
    ring::Ring,
    written::{NotWritten, Written},
};

const ENCRYPT: [Algorithm; 4] = [
    Algorithm::Aes256Gcm,
    Algorithm::Xchacha20Poly1305,
    Algorithm::Aes256Siv,
    Algorithm::X25519Mlkem768,
];
const SIGN: [Algorithm; 4] = [
    Algorithm::Ed25519,
    Algorithm::EcdsaP256,
    Algorithm::EcdsaP384,
    Algorithm::HmacSha256,
];

/// Each of these with one bit changed.
fn flipped(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..bytes.len() * 8).map(|bit| {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        (bit, changed)
    })
}

#[test]
fn what_is_encrypted_is_opened_as_it_was() {
    for algorithm in ENCRYPT {
        let key = algorithm.ready(&algorithm.generate().unwrap()).unwrap();
        for plaintext in [&b""[..], b"a", &[7; 16], &[7; 1024]] {
            let sealed = key.encrypt(plaintext, b"about").unwrap();
            let opened = key.decrypt(&sealed, b"about").unwrap();
            assert_eq!(&opened[..], plaintext, "{algorithm:?}");
            let again = key.encrypt(plaintext, b"about").unwrap() == sealed;
            assert_eq!(again, algorithm.is_deterministic(), "{algorithm:?}");
            assert_ne!(key.encrypt(plaintext, b"").unwrap(), sealed);
        }
        assert!(
            key.sign(b"").is_err() && !key.verify(b"", b""),
            "{algorithm:?}"
        );
        let secret = algorithm.generate().unwrap();
        for length in [0, secret.len() - 1] {
            assert!(algorithm.ready(&secret[..length]).is_err(), "{algorithm:?}");
        }
    }
}

#[test]
fn no_bit_of_a_ciphertext_may_change_and_no_byte_be_missing() {
    for algorithm in ENCRYPT {
        let key = algorithm.ready(&algorithm.generate().unwrap()).unwrap();
        let sealed = key.encrypt(b"some plaintext", b"about").unwrap();
        for (bit, changed) in flipped(&sealed) {
            let opened = key.decrypt(&changed, b"about");
            assert!(opened.is_none(), "{algorithm:?}: bit {bit}");
        }
        for (bit, about) in flipped(b"about") {
            let opened = key.decrypt(&sealed, &about);
            assert!(
                opened.is_none(),
                "{algorithm:?}: bit {bit} of associated data"
            );
        }
        for length in 0..sealed.len() {
            let cut = key.decrypt(&sealed[..length], b"about");
            assert!(cut.is_none(), "{algorithm:?}: {length} bytes");
        }
        let longer = [&sealed[..], &[0]].concat();
        assert!(key.decrypt(&longer, b"about").is_none(), "{algorithm:?}");
    }
}

#[test]
fn no_bit_of_a_signature_or_message_may_change() {
    for algorithm in SIGN {
        let key = algorithm.ready(&algorithm.generate().unwrap()).unwrap();
        let signature = key.sign(b"message").unwrap();
        assert!(key.verify(b"message", &signature), "{algorithm:?}");
        for (bit, changed) in flipped(&signature) {
            let valid = key.verify(b"message", &changed);
            assert!(!valid, "{algorithm:?}: bit {bit}");
        }
        for (bit, changed) in flipped(b"message") {
            let valid = key.verify(&changed, &signature);
            assert!(!valid, "{algorithm:?}: bit {bit} of the message");
        }
        for length in 0..signature.len() {
            let valid = key.verify(b"message", &signature[..length]);
            assert!(!valid, "{algorithm:?}: {length} bytes");
        }
    }
}

#[test]
fn what_one_version_made_is_no_others() {
    let of = |algorithm| {
        let mut key = Key::new(algorithm, UNIX_EPOCH).unwrap();
        key.rotate(UNIX_EPOCH).unwrap();
        Ring::new(&key, 10).unwrap()
    };
    for algorithm in ENCRYPT {
        let (ring, other) = (of(algorithm), of(algorithm));
        let (version, key) = ring.newest().unwrap();
        let sealed = key.encrypt(b"plaintext", b"about").unwrap();
        let open = |ring: &Ring, version, about: &[u8]| {
            let key = ring.version(version).unwrap();
            key.ok().and_then(|key| key.decrypt(&sealed, about))
        };
        for (description, ring, version, about, opens) in [
            ("as it was made", &ring, version, &b"about"[..], true),
            ("another version", &ring, 1, b"about", false),
            ("no version", &ring, 3, b"about", false),
            ("version 0", &ring, 0, b"about", false),
            ("another key", &other, version, b"about", false),
            ("other associated data", &ring, version, b"abouT", false),
            ("no associated data", &ring, version, b"", false),
            ("longer associated data", &ring, version, b"about\0", false),
        ] {
            let opened = open(ring, version, about).is_some();
            assert_eq!(opened, opens, "{algorithm:?}: {description}");
        }
    }
    for algorithm in SIGN {
        let (ring, other) = (of(algorithm), of(algorithm));
        let (version, key) = ring.newest().unwrap();
        let signature = key.sign(b"message").unwrap();
        for (description, ring, version, valid) in [
            ("as it was made", &ring, version, true),
            ("another version", &ring, 1, false),
            ("no version", &ring, 3, false),
            ("another key", &other, version, false),
        ] {
            let key = ring.version(version).unwrap();
            let verified = key.is_ok_and(|key| key.verify(b"message", &signature));
            assert_eq!(verified, valid, "{algorithm:?}: {description}");
        }
    }
}

#[test]
fn what_has_a_public_half_tells_it() {
    for algorithm in ENCRYPT.into_iter().chain(SIGN) {
        let key = Key::new(algorithm, UNIX_EPOCH).unwrap();
        let private = matches!(
            algorithm,
            Algorithm::Aes256Gcm
                | Algorithm::Xchacha20Poly1305
                | Algorithm::Aes256Siv
                | Algorithm::HmacSha256
        );
        assert_eq!(key.versions[0].public().is_empty(), private);
        assert_eq!(ENCRYPT.contains(&algorithm), algorithm.encrypts());
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
            assert_eq!(written.text(), text, "{description}");
        }
    }
}
