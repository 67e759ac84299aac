//! OCSP responses (RFC 6960 §4.2), by the CA itself.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_cert::{
    der::{
        Decode as _, Encode as _,
        asn1::{GeneralizedTime, Null, OctetString},
    },
    ext::Extension,
};

use super::{BACKDATED, Refusal};
use crate::engine::pki::{
    issuer::Issuer,
    ocsp::{Asked, CertStatus, ID_NONCE, ResponderId, ResponseData, RevokedInfo, Single, Version},
    revocation::Revocation,
};

/// What is known of a certificate that was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Answer {
    Good,
    Revoked(Revocation),
    /// The issuer issued none of that number.
    Unknown,
}

/// How long an answer may be kept.
const KEPT: Duration = Duration::from_secs(3600);

fn time(time: SystemTime) -> x509_cert::der::Result<GeneralizedTime> {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    GeneralizedTime::from_unix_duration(Duration::from_secs(since.as_secs()))
}

fn status(answer: Answer) -> x509_cert::der::Result<CertStatus> {
    Ok(match answer {
        Answer::Good => CertStatus::Good(Null),
        Answer::Unknown => CertStatus::Unknown(Null),
        Answer::Revoked(revocation) => CertStatus::Revoked(RevokedInfo {
            at: time(UNIX_EPOCH + Duration::from_secs(revocation.at_s))?,
            reason: revocation.reason.code(),
        }),
    })
}

/// The response's DER, with an answer for each certificate that was asked about, in that order: written, read again, compared, and signed.
///
/// # Errors
/// [`Refusal`].
pub(in super::super) fn ocsp(
    issuer: &Issuer,
    asked: &Asked,
    answers: &[Answer],
    now: SystemTime,
) -> Result<Vec<u8>, Refusal> {
    let single = |(id, answer): (_, &Answer)| -> Result<Single, Refusal> {
        Ok(Single {
            id: Clone::clone(id),
            status: status(*answer)?,
            this_update: time(now - BACKDATED)?,
            next_update: Some(time(now + KEPT)?),
            extensions: None,
        })
    };
    let responses = asked.about.iter().zip(answers).map(single);
    let nonce = asked.nonce.as_deref().map(|nonce| -> Result<_, Refusal> {
        Ok(vec![Extension {
            extn_id: ID_NONCE,
            critical: false,
            extn_value: OctetString::new(OctetString::new(nonce)?.to_der()?)?,
        }])
    });
    let data = ResponseData {
        version: Version::V1,
        responder: ResponderId::Name(issuer.subject().clone()),
        produced_at: time(now - BACKDATED)?,
        responses: responses.collect::<Result<_, _>>()?,
        extensions: nonce.transpose()?,
    };
    let der = data.to_der()?;
    let read = ResponseData::from_der(&der)?;
    let whole = read.responses.len() == asked.about.len() && answers.len() == asked.about.len();
    if read != data || !whole {
        return Err(Refusal::flaw("the response"));
    }
    Ok(crate::engine::pki::ocsp::response(
        issuer.key().sign(&der)?,
    )?)
}
