//! Object identifiers, each with where it is defined.

use x509_cert::der::oid::ObjectIdentifier as Oid;

const fn oid(text: &str) -> Oid {
    Oid::new_unwrap(text)
}

/// RFC 8410 §3: key and signature alike.
pub(super) const ED25519: Oid = oid("1.3.101.112");
/// RFC 5480 §2.1.1.
pub(super) const EC_PUBLIC_KEY: Oid = oid("1.2.840.10045.2.1");
/// RFC 5480 §2.1.1.1.
pub(super) const P256: Oid = oid("1.2.840.10045.3.1.7");
pub(super) const P384: Oid = oid("1.3.132.0.34");
/// RFC 5758 §3.2.
pub(super) const ECDSA_SHA256: Oid = oid("1.2.840.10045.4.3.2");
pub(super) const ECDSA_SHA384: Oid = oid("1.2.840.10045.4.3.3");
pub(super) const ECDSA_SHA512: Oid = oid("1.2.840.10045.4.3.4");
/// RFC 8017 appendix A.1, A.2.4.
pub(super) const RSA: Oid = oid("1.2.840.113549.1.1.1");
pub(super) const RSA_SHA256: Oid = oid("1.2.840.113549.1.1.11");
pub(super) const RSA_SHA384: Oid = oid("1.2.840.113549.1.1.12");
pub(super) const RSA_SHA512: Oid = oid("1.2.840.113549.1.1.13");
/// RFC 2985 §5.4.2.
pub(super) const EXTENSION_REQUEST: Oid = oid("1.2.840.113549.1.9.14");
