//! What strangers and clients send to the CA: names, requests for certificates (PKCS #10) and for their status (OCSP).

pub mod acme;
#[path = "../../metacrypt/src/engine/pki/csr.rs"]
mod csr;
#[path = "../../metacrypt/src/engine/pki/name/mod.rs"]
mod name;
#[path = "../../metacrypt/src/engine/pki/ocsp.rs"]
mod ocsp;
#[path = "../../metacrypt/src/engine/pki/oid.rs"]
mod oid;
#[path = "../../metacrypt/src/engine/pki/public_key.rs"]
mod public_key;

use csr::Csr;
use name::{AltName, MAX_NAMES, Names};
use ocsp::{Asked, Status};

/// A name has one spelling, and is read from a certificate as it was written there.
pub fn name(text: &str) {
    let Ok(name) = text.parse::<AltName>() else {
        return;
    };
    assert_eq!(name.to_string().parse(), Ok(name.clone()));
    let Ok(general) = name.general() else {
        panic!("{name:?} has no place in a certificate");
    };
    assert_eq!(AltName::certified(&general), Ok(name));
}

/// What is taken of a request can be certified as far as its form goes.
pub fn csr(der: &[u8]) {
    let Ok(csr) = Csr::from_der(der) else {
        return;
    };
    assert!(csr.names.len() <= MAX_NAMES);
    for name in &csr.names {
        assert_eq!(name.to_string().parse(), Ok(name.clone()));
    }
    let _ = Names::try_from(csr.names);
}

/// As texts.
pub fn pem(text: &str) {
    if let Ok(csr) = Csr::from_pem(text) {
        assert!(csr.names.len() <= MAX_NAMES);
    }
}

/// A request of which nothing is too long, or an answer that says why it is none.
pub fn status(der: &[u8]) {
    match Asked::from_der(der) {
        Ok(asked) => {
            assert!((1..=16).contains(&asked.about.len()));
            assert!(
                asked
                    .nonce
                    .is_none_or(|nonce| (1..=128).contains(&nonce.len()))
            );
        }
        Err(status) => {
            assert!(matches!(
                status,
                Status::MalformedRequest | Status::Unauthorized
            ));
            assert!(ocsp::refusal(status).is_ok());
        }
    }
}
