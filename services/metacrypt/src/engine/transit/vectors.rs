//! Project Wycheproof's vectors, by the functions that the methods call.

use aws_lc_rs::{
    agreement::{PrivateKey, X25519},
    signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, VerificationAlgorithm},
};
use ml_kem::ml_kem_768;
use wycheproof::{aead, ecdsa, eddsa, mac, mlkem, xdh};

use super::{
    algorithm::{Algorithm, siv_open, verified},
    hpke::{self, Receiver},
};
use crate::testing::agrees;

#[test]
fn encryption_agrees_with_the_vectors() {
    for (algorithm, name, nonce) in [
        (Algorithm::Aes256Gcm, aead::TestName::AesGcm, 96),
        (
            Algorithm::Xchacha20Poly1305,
            aead::TestName::XChaCha20Poly1305,
            192,
        ),
    ] {
        let mut tested = 0;
        let groups = aead::TestSet::load(name).unwrap().test_groups;
        let ours = |group: &&aead::TestGroup| {
            (group.key_size, group.nonce_size, group.tag_size) == (256, nonce, 128)
        };
        for test in groups.iter().filter(ours).flat_map(|group| &group.tests) {
            let key = algorithm.ready(&test.key).unwrap();
            let sealed = [&test.nonce[..], &test.ct, &test.tag].concat();
            let opened = key.decrypt(&sealed, &test.aad);
            let taken = opened
                .as_ref()
                .is_some_and(|opened| opened[..] == test.pt[..]);
            assert_eq!(opened.is_some(), taken, "{algorithm:?} {test:?}");
            assert!(agrees(test.result, taken), "{algorithm:?} {test:?}");
            tested += 1;
        }
        assert!(tested > 60, "{algorithm:?}: {tested}");
    }
}

/// The vectors are of AEAD_AES_SIV_CMAC_512 (RFC 5297 §6), whose nonce is a header behind the associated data.
#[test]
fn deterministic_encryption_agrees_with_the_vectors() {
    let mut tested = 0;
    let groups = aead::TestSet::load(aead::TestName::AesSivCmac)
        .unwrap()
        .test_groups;
    for group in groups.iter().filter(|group| group.key_size == 512) {
        for test in &group.tests {
            let key: [u8; 64] = test.key[..].try_into().unwrap();
            let sealed = [&test.tag[..], &test.ct].concat();
            let opened = siv_open(&key, &[&test.aad, &test.nonce], &sealed);
            let taken = opened.is_some_and(|opened| opened[..] == test.pt[..]);
            assert!(agrees(test.result, taken), "{test:?}");
            tested += 1;
        }
    }
    assert!(tested > 250, "{tested}");
}

#[test]
fn signatures_agree_with_the_vectors() {
    let mut tested = 0;
    let mut check = |algorithm: &'static dyn VerificationAlgorithm,
                     key: &[u8],
                     message: &[u8],
                     signature: &[u8],
                     result| {
        let taken = verified(algorithm, key, message, signature);
        assert!(
            agrees(result, taken),
            "{algorithm:?} {message:?} {signature:?} {result:?}"
        );
        tested += 1;
    };
    let ecdsa: [(_, &'static dyn VerificationAlgorithm); 2] = [
        (
            ecdsa::TestName::EcdsaSecp256r1Sha256,
            &ECDSA_P256_SHA256_ASN1,
        ),
        (
            ecdsa::TestName::EcdsaSecp384r1Sha384,
            &ECDSA_P384_SHA384_ASN1,
        ),
    ];
    for (name, algorithm) in ecdsa {
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            for test in &group.tests {
                check(algorithm, &group.der, &test.msg, &test.sig, test.result);
            }
        }
    }
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    for group in set.test_groups {
        for test in &group.tests {
            check(&ED25519, &group.der, &test.msg, &test.sig, test.result);
        }
    }
    assert!(tested > 1000, "{tested}");
}

#[test]
fn codes_agree_with_the_vectors() {
    let mut tested = 0;
    let groups = mac::TestSet::load(mac::TestName::HmacSha256)
        .unwrap()
        .test_groups;
    for group in groups {
        // A shorter code is none to us, whatever it is a part of.
        let whole = group.tag_size == 256;
        for test in &group.tests {
            let key = Algorithm::HmacSha256.ready(&test.key).unwrap();
            let taken = key.verify(&test.msg, &test.tag);
            assert!(agrees(test.result, taken) || !whole && !taken, "{test:?}");
            tested += 1;
        }
    }
    assert!(tested > 100, "{tested}");
}

/// A private key of X-Wing's with this one of ML-KEM's.
fn receiver(dk: &[u8]) -> Option<Receiver> {
    Receiver::of(&[dk, &[7; 32]].concat()).ok()
}

/// In FIPS 203 keys are seeds of 64 bytes, which aws-lc-rs does not read.
#[expect(deprecated, reason = "the form that aws-lc-rs reads")]
fn expanded(seed: &[u8]) -> Option<Vec<u8>> {
    use ml_kem::ExpandedKeyEncoding as _;
    let key = ml_kem_768::DecapsulationKey::from_seed(seed.try_into().ok()?);
    Some(key.to_expanded_bytes().to_vec())
}

#[test]
fn decapsulation_agrees_with_the_vectors() {
    let mut tested = 0;
    for name in [
        mlkem::TestName::MlKem768,
        mlkem::TestName::MlKem768SemiExpandedDecaps,
    ] {
        for test in mlkem::TestSet::load(name)
            .unwrap()
            .test_groups
            .iter()
            .flat_map(|group| &group.tests)
        {
            let dk = match (&test.decaps_key, &test.seed) {
                (Some(dk), _) => Some(dk.to_vec()),
                (None, seed) => expanded(seed.as_ref().unwrap()),
            };
            let receiver = dk.and_then(|dk| receiver(&dk));
            let ct = test.ct.as_ref().unwrap();
            let shared = receiver.as_ref().and_then(|r| r.decapsulated(ct).ok());
            let taken = shared.as_ref().is_some_and(|shared| {
                let wanted = test.shared_secret.as_ref();
                wanted.is_some_and(|wanted| shared.as_ref() == &wanted[..])
            });
            assert_eq!(shared.is_some(), taken, "{name:?} {}", test.tc_id);
            assert!(agrees(test.result, taken), "{name:?} {}", test.tc_id);
            if let (true, Some(receiver), Some(ek)) = (taken, receiver, &test.encaps_key) {
                assert!(
                    receiver.public_key()[24..].starts_with(ek),
                    "{}",
                    test.tc_id
                );
            }
            tested += 1;
        }
    }
    assert!(tested > 200, "{tested}");
}

/// What is encapsulated is random: another implementation opens it (`hpke`), and here is to which keys it is.
#[test]
fn encapsulation_agrees_with_the_vectors() {
    let x = PrivateKey::generate(&X25519).unwrap();
    let x = x.compute_public_key().unwrap();
    let mut tested = 0;
    let set = mlkem::TestSet::load(mlkem::TestName::MlKem768Encaps).unwrap();
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let ek = test.encaps_key.as_ref().unwrap();
        let public = [&ek[..], x.as_ref()].concat();
        let taken = hpke::seal(&public, b"", b"").is_ok();
        assert!(
            agrees(test.result, taken),
            "{} {}",
            test.tc_id,
            test.comment
        );
        tested += 1;
    }
    assert!(tested > 200, "{tested}");
}

#[test]
fn agreement_agrees_with_the_vectors() {
    let mut tested = 0;
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let ours = PrivateKey::from_private_key(&X25519, &test.private_key).unwrap();
        let shared = hpke::agreed(&ours, &test.public_key).ok();
        // Of those that are only acceptable none is refused but what is no secret (RFC 7748 §6.1).
        let secret = test.shared_secret.iter().any(|byte| *byte != 0);
        let wanted = secret.then_some(&test.shared_secret[..]);
        assert_eq!(
            shared.as_ref().map(|shared| &shared[..]),
            wanted,
            "{test:?}"
        );
        tested += 1;
    }
    assert!(tested > 500, "{tested}");
}
