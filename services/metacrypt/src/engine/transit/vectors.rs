//! Project Wycheproof's vectors, by the functions that the methods call.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, VerificationAlgorithm,
};
use wycheproof::{TestResult, aead, ecdsa, eddsa, mac};

use super::algorithm::{Algorithm, siv_open, verified};

/// What is only acceptable may be taken or not; this is what must be.
fn agrees(result: TestResult, taken: bool) -> bool {
    match result {
        TestResult::Valid => taken,
        TestResult::Invalid => !taken,
        TestResult::Acceptable => true,
    }
}

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
