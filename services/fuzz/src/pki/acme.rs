//! What strangers send to ACME: signed requests, nonces, and answers of resolvers.

#[path = "../../../metacrypt/src/engine/pki/acme/dns.rs"]
mod dns;
#[path = "../../../metacrypt/src/engine/pki/acme/jwk.rs"]
mod jwk;
#[path = "../../../metacrypt/src/engine/pki/acme/jws.rs"]
mod jws;
#[path = "../../../metacrypt/src/engine/pki/acme/nonce.rs"]
mod nonce;

use dns::{DnsFault, Kind};
use jwk::Jwk;
use jws::{By, Jws};
use nonce::Nonces;

/// Whatever is read is bounded, and no made-up request is anybody's.
pub fn request(bytes: &[u8]) {
    let Ok(jws) = Jws::from_bytes(bytes) else {
        return;
    };
    assert!(bytes.len() <= jws::MAX_BODY && jws.payload.len() <= bytes.len());
    assert!(jws.verify_mac(b"a secret that nobody has").is_err());
    if let By::Key(key) = &jws.by {
        let _ = jws.verify(key);
        same(key);
    }
}

fn same(key: &Jwk) {
    let again: Result<Jwk, _> = key.to_string().parse();
    assert_eq!(again.as_ref(), Ok(key));
    assert_eq!(key.thumbprint().len(), 43);
}

/// A key has one spelling.
pub fn key(text: &str) {
    if let Ok(key) = text.parse::<Jwk>() {
        same(&key);
    }
}

/// None is made up.
pub fn nonce(text: &str) {
    assert_eq!(Nonces::new(b"a secret that nobody has").read(text, 0), None);
}

/// An answer is of the question, or none.
pub fn answer(bytes: &[u8]) {
    for kind in [Kind::A, Kind::Txt, Kind::Aaaa] {
        let Ok(found) = dns::answer(7, "a.example", kind, bytes) else {
            continue;
        };
        let length: usize = found.iter().map(Vec::len).sum();
        assert!(length <= bytes.len());
        for data in &found {
            match dns::text(data) {
                Ok(text) => assert!(text.len() <= data.len()),
                Err(fault) => assert_eq!(fault, DnsFault::Form),
            }
        }
    }
    if let Ok(name) = std::str::from_utf8(bytes)
        && let Ok(asked) = dns::question(7, name, Kind::A)
    {
        assert!(asked.len() <= 12 + 255 + 4 + 11 && bytes.len() <= dns::MAX_MESSAGE);
        assert!(asked.len() <= dns::MAX_UDP);
    }
}
