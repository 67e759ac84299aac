//! CRLs and OCSP.

use x509_cert::{crl::CertificateList, der::Encode as _};

use super::*;
use crate::engine::pki::{
    ocsp::{Asked, Status},
    revocation::{Reason, Revocation, Revoked},
};

#[test]
fn lists_have_all_that_is_revoked() {
    let issuer = services();
    let revoked: Vec<_> = [
        Reason::Unspecified,
        Reason::KeyCompromise,
        Reason::CaCompromise,
        Reason::AffiliationChanged,
        Reason::Superseded,
        Reason::CessationOfOperation,
        Reason::PrivilegeWithdrawn,
    ]
    .into_iter()
    .enumerate()
    .map(|(n, reason)| Revoked {
        serial: Serial::new([u8::try_from(n).unwrap(); 20]),
        revocation: Revocation {
            at_s: 1_799_999_000,
            reason,
        },
    })
    .collect();
    for revoked in [&revoked[..], &[]] {
        let der = crl(&Crl {
            issuer: &issuer,
            number: 1 << 40,
            this_update: now(),
            next_update: now() + DAY,
            revoked,
        });
        let list: CertificateList = CertificateList::from_der(&der.unwrap()).unwrap();
        let tbs = list.tbs_cert_list.to_der().unwrap();
        let signature = list.signature.as_bytes().unwrap();
        assert!(
            issuer
                .key()
                .public()
                .verifies(&list.signature_algorithm, &tbs, signature)
        );
        let entries = list.tbs_cert_list.revoked_certificates.unwrap_or_default();
        assert_eq!(entries.len(), revoked.len());
    }
    let refused = crl(&Crl {
        issuer: &issuer,
        number: 1,
        this_update: now(),
        next_update: now(),
        revoked: &[],
    });
    assert!(refused.is_err(), "it ends as it begins");
}

#[test]
fn requests_of_status_are_bounded() {
    for (description, der, wanted) in [
        ("nothing", vec![], Status::MalformedRequest),
        ("too long", vec![0x30; 10_000], Status::MalformedRequest),
        ("no list", vec![0x30, 2, 0x30, 0], Status::MalformedRequest),
        (
            "an empty list",
            vec![0x30, 4, 0x30, 2, 0x30, 0],
            Status::MalformedRequest,
        ),
    ] {
        assert_eq!(Asked::from_der(&der), Err(wanted), "{description}");
    }
}
