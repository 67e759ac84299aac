//! OCSP (RFC 6960): requests from bytes, and the forms of both.

use aws_lc_rs::digest;
use x509_cert::{
    der::{
        Choice, Decode as _, Encode as _, Enumerated, Sequence,
        asn1::{AnyRef, GeneralizedTime, Int, Null, ObjectIdentifier, OctetString},
    },
    ext::{Extensions, pkix::CrlReason},
    name::Name,
    spki::AlgorithmIdentifierOwned,
};

/// Longest request.
pub(crate) const MAX_REQUEST: usize = 8 << 10;
/// Most certificates that one asks about.
const MAX_ASKED: usize = 16;
/// Bytes of a nonce (RFC 9654 §2.1).
const NONCE: std::ops::RangeInclusive<usize> = 1..=128;
/// id-pkix-ocsp-nonce (RFC 9654 §2.1).
pub(crate) const ID_NONCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.2");
/// id-pkix-ocsp-basic (RFC 6960 §4.2.1).
pub(crate) const ID_BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");
/// Hashes by which issuers are named. SHA-1 (RFC 3174) names alone and protects nothing; most clients have no other.
const HASHES: [(ObjectIdentifier, &digest::Algorithm); 4] = [
    (
        ObjectIdentifier::new_unwrap("1.3.14.3.2.26"),
        &digest::SHA1_FOR_LEGACY_USE_ONLY,
    ),
    (
        ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1"),
        &digest::SHA256,
    ),
    (
        ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2"),
        &digest::SHA384,
    ),
    (
        ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3"),
        &digest::SHA512,
    ),
];

/// OCSPRequest. Whether it is signed changes nothing: everybody may ask.
#[derive(Sequence)]
struct OcspRequest<'a> {
    tbs: TbsRequest<'a>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    _signature: Option<AnyRef<'a>>,
}

#[derive(Sequence)]
struct TbsRequest<'a> {
    #[asn1(
        context_specific = "0",
        tag_mode = "EXPLICIT",
        default = "Version::default"
    )]
    version: Version,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    _name: Option<AnyRef<'a>>,
    list: Vec<One>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", optional = "true")]
    extensions: Option<Extensions>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Enumerated)]
#[asn1(type = "INTEGER")]
#[repr(u8)]
pub(crate) enum Version {
    #[default]
    V1 = 0,
}

#[derive(Sequence)]
struct One {
    id: CertId,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    extensions: Option<Extensions>,
}

/// Which certificate.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(crate) struct CertId {
    hash: AlgorithmIdentifierOwned,
    issuer_name: OctetString,
    issuer_key: OctetString,
    pub(crate) serial: Int,
}

impl CertId {
    /// Whether it is one of the issuer of this name and of this key, in DER and as bytes of the BIT STRING.
    pub(crate) fn is_of(&self, name: &[u8], key: &[u8]) -> bool {
        let by = HASHES.iter().find(|(oid, _)| *oid == self.hash.oid);
        let parameters = self.hash.parameters.as_ref();
        by.is_some_and(|(_, hash)| {
            parameters.is_none_or(|any| any.is_null())
                && digest::digest(hash, name).as_ref() == self.issuer_name.as_bytes()
                && digest::digest(hash, key).as_ref() == self.issuer_key.as_bytes()
        })
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// 1 to 16.
    pub(crate) about: Vec<CertId>,
    /// What the answer has to say again.
    pub(crate) nonce: Option<Vec<u8>>,
}

/// Why a request is not answered (RFC 6960 §4.2.1, OCSPResponseStatus).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumerated)]
#[repr(u8)]
pub(crate) enum Status {
    Successful = 0,
    MalformedRequest = 1,
    InternalError = 2,
    TryLater = 3,
    SigRequired = 5,
    Unauthorized = 6,
}

impl Asked {
    /// From DER.
    ///
    /// # Errors
    /// [`Status::MalformedRequest`], or [`Status::Unauthorized`] of what asks for more than is answered.
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, Status> {
        if der.len() > MAX_REQUEST {
            return Err(Status::MalformedRequest);
        }
        let request = OcspRequest::from_der(der).map_err(|_| Status::MalformedRequest)?;
        let Version::V1 = request.tbs.version;
        let about = request.tbs.list;
        if about.is_empty() {
            return Err(Status::MalformedRequest);
        }
        let critical = |all: &Option<Extensions>| {
            all.iter()
                .flatten()
                .any(|e| e.critical && e.extn_id != ID_NONCE)
        };
        let too_much =
            critical(&request.tbs.extensions) || about.iter().any(|one| critical(&one.extensions));
        if about.len() > MAX_ASKED || too_much {
            return Err(Status::Unauthorized);
        }
        let mut nonces = request
            .tbs
            .extensions
            .iter()
            .flatten()
            .filter(|e| e.extn_id == ID_NONCE);
        let (nonce, again) = (nonces.next(), nonces.next());
        let nonce = nonce.map(|nonce| {
            let nonce = OctetString::from_der(nonce.extn_value.as_bytes()).ok()?;
            let nonce = nonce.into_bytes().into_vec();
            NONCE.contains(&nonce.len()).then_some(nonce)
        });
        if again.is_some() || nonce == Some(None) {
            return Err(Status::MalformedRequest);
        }
        Ok(Self {
            about: about.into_iter().map(|one| one.id).collect(),
            nonce: nonce.flatten(),
        })
    }
}

/// OCSPResponse.
#[derive(Sequence)]
struct OcspResponse {
    status: Status,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    bytes: Option<ResponseBytes>,
}

#[derive(Sequence)]
struct ResponseBytes {
    kind: ObjectIdentifier,
    response: OctetString,
}

/// A response that says only why there is none.
pub(crate) fn refusal(status: Status) -> x509_cert::der::Result<Vec<u8>> {
    OcspResponse {
        status,
        bytes: None,
    }
    .to_der()
}

/// A response that has a signed one.
pub(crate) fn response(basic: Vec<u8>) -> x509_cert::der::Result<Vec<u8>> {
    let bytes = ResponseBytes {
        kind: ID_BASIC,
        response: OctetString::new(basic)?,
    };
    let bytes = Some(bytes);
    OcspResponse {
        status: Status::Successful,
        bytes,
    }
    .to_der()
}

/// ResponseData: what is signed.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(crate) struct ResponseData {
    #[asn1(
        context_specific = "0",
        tag_mode = "EXPLICIT",
        default = "Version::default"
    )]
    pub(crate) version: Version,
    pub(crate) responder: ResponderId,
    pub(crate) produced_at: GeneralizedTime,
    pub(crate) responses: Vec<Single>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    pub(crate) extensions: Option<Extensions>,
}

#[derive(Clone, Debug, PartialEq, Eq, Choice)]
pub(crate) enum ResponderId {
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", constructed = "true")]
    Name(Name),
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", constructed = "true")]
    Key(OctetString),
}

#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(crate) struct Single {
    pub(crate) id: CertId,
    pub(crate) status: CertStatus,
    pub(crate) this_update: GeneralizedTime,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    pub(crate) next_update: Option<GeneralizedTime>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    pub(crate) extensions: Option<Extensions>,
}

#[derive(Clone, Debug, PartialEq, Eq, Choice)]
pub(crate) enum CertStatus {
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    Good(Null),
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", constructed = "true")]
    Revoked(RevokedInfo),
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT")]
    Unknown(Null),
}

#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(crate) struct RevokedInfo {
    pub(crate) at: GeneralizedTime,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    pub(crate) reason: Option<CrlReason>,
}
