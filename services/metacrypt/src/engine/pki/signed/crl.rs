//! Certificate revocation lists (RFC 5280 §5).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_cert::{
    Version,
    crl::{RevokedCert, TbsCertList},
    der::{
        Decode as _, Encode as _,
        asn1::OctetString,
        oid::{AssociatedOid as _, ObjectIdentifier, db::rfc5280::ID_CE_CRL_REASONS},
    },
    ext::{
        Extension,
        pkix::{AuthorityKeyIdentifier, CrlNumber, CrlReason},
    },
    time::Time,
};

use super::Refusal;
use crate::engine::pki::{issuer::Issuer, revocation::Revoked};

/// id-ce-cRLReasons is the OID of an entry's reason.
const REASON: ObjectIdentifier = ID_CE_CRL_REASONS;

/// A list that is wanted.
pub(in super::super) struct Crl<'a> {
    pub(in super::super) issuer: &'a Issuer,
    /// Greater than those of all lists before.
    pub(in super::super) number: u64,
    pub(in super::super) this_update: SystemTime,
    pub(in super::super) next_update: SystemTime,
    /// All of the issuer's that are revoked.
    pub(in super::super) revoked: &'a [Revoked],
}

fn time(seconds: u64) -> x509_cert::der::Result<Time> {
    Time::try_from(UNIX_EPOCH + Duration::from_secs(seconds))
}

fn extension(oid: ObjectIdentifier, value: Vec<u8>) -> x509_cert::der::Result<Extension> {
    Ok(Extension {
        extn_id: oid,
        critical: false,
        extn_value: OctetString::new(value)?,
    })
}

fn entry(revoked: &Revoked) -> x509_cert::der::Result<RevokedCert> {
    let reason = revoked.revocation.reason.code();
    let reason = reason.map(|reason| extension(REASON, reason.to_der()?));
    Ok(RevokedCert {
        serial_number: revoked.serial.number()?,
        revocation_date: time(revoked.revocation.at_s)?,
        crl_entry_extensions: reason.transpose()?.map(|reason| vec![reason]),
    })
}

/// The list, in DER: written, read again, compared, and signed.
///
/// # Errors
/// [`Refusal`].
pub(in super::super) fn crl(wanted: &Crl<'_>) -> Result<Vec<u8>, Refusal> {
    let entries: Vec<_> = wanted.revoked.iter().map(entry).collect::<Result<_, _>>()?;
    let identifier = AuthorityKeyIdentifier {
        key_identifier: Some(OctetString::new(wanted.issuer.key_identifier())?),
        ..AuthorityKeyIdentifier::default()
    };
    let number = CrlNumber::try_from(wanted.number)?;
    let list: TbsCertList = TbsCertList {
        version: Version::V2,
        signature: wanted.issuer.key().algorithm(),
        issuer: wanted.issuer.subject().clone(),
        this_update: Time::try_from(wanted.this_update)?,
        next_update: Some(Time::try_from(wanted.next_update)?),
        revoked_certificates: (!entries.is_empty()).then_some(entries),
        crl_extensions: Some(vec![
            extension(AuthorityKeyIdentifier::OID, identifier.to_der()?)?,
            extension(CrlNumber::OID, number.to_der()?)?,
        ]),
    };
    let der = list.to_der()?;
    check(wanted, &der)?;
    wanted.issuer.key().sign(&der)
}

fn is(good: bool, what: &str) -> Result<(), Refusal> {
    match good {
        true => Ok(()),
        false => Err(Refusal::flaw(what)),
    }
}

fn check(wanted: &Crl<'_>, der: &[u8]) -> Result<(), Refusal> {
    let list: TbsCertList = TbsCertList::from_der(der)?;
    is(list.version == Version::V2, "the CRL's version")?;
    is(
        list.signature == wanted.issuer.key().algorithm(),
        "the CRL's algorithm",
    )?;
    is(list.issuer == *wanted.issuer.subject(), "the CRL's issuer")?;
    let next = list.next_update.map(Time::to_unix_duration);
    is(
        next > Some(list.this_update.to_unix_duration()),
        "the CRL's times",
    )?;
    let entries = list.revoked_certificates.unwrap_or_default();
    is(entries.len() == wanted.revoked.len(), "the CRL's entries")?;
    for (entry, revoked) in entries.iter().zip(wanted.revoked) {
        let same = entry.serial_number == revoked.serial.number()?;
        let at = entry.revocation_date.to_unix_duration().as_secs() == revoked.revocation.at_s;
        let reason = match entry.crl_entry_extensions.as_deref() {
            None => None,
            Some([one]) if one.extn_id == REASON && !one.critical => {
                Some(CrlReason::from_der(one.extn_value.as_bytes())?)
            }
            Some(_) => return Err(Refusal::flaw("a CRL entry's extensions")),
        };
        let reason = reason == revoked.revocation.reason.code();
        is(same && at && reason, "a CRL entry")?;
    }
    let (identifier, number) = match list.crl_extensions.as_deref() {
        Some([identifier, number]) if !identifier.critical && !number.critical => {
            (identifier, number)
        }
        _ => return Err(Refusal::flaw("the CRL's extensions")),
    };
    let oids = (identifier.extn_id, number.extn_id);
    is(
        oids == (AuthorityKeyIdentifier::OID, CrlNumber::OID),
        "the CRL's extensions",
    )?;
    let number = CrlNumber::from_der(number.extn_value.as_bytes())?;
    is(
        number == CrlNumber::try_from(wanted.number)?,
        "the CRL's number",
    )?;
    let identifier = AuthorityKeyIdentifier::from_der(identifier.extn_value.as_bytes())?;
    let identifier = identifier.key_identifier;
    let identifier = identifier.as_ref().map(OctetString::as_bytes);
    is(
        identifier == Some(wanted.issuer.key_identifier()),
        "the CRL's key identifier",
    )
}
