//! Certificate requests (PKCS #10, RFC 2986): what is taken of them, which is a public key and names.

use x509_cert::{
    der::{
        Decode as _, Encode as _, Sequence,
        asn1::{AnyRef, BitStringRef},
    },
    ext::{
        Extensions,
        pkix::{SubjectAltName, name::DirectoryString},
    },
    request::{CertReqInfo, Version},
    spki::{AlgorithmIdentifierOwned, ObjectIdentifier},
};

use super::{
    name::{AltName, MAX_NAMES, NameFault},
    oid,
    public_key::{KeyFault, PublicKey},
};

/// Longest request, in PEM or DER: an RSA key of 8192 bits and as many names as there may be fit.
pub(crate) const MAX_CSR: usize = 64 << 10;

/// What PEM calls one; the second is older.
const LABELS: [&str; 2] = ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"];

/// A request whose sender has the key that it is for.
#[derive(Clone, Debug)]
pub(crate) struct Csr {
    pub(crate) key: PublicKey,
    /// Those of its subjectAltName, in its order; it may have none.
    pub(crate) names: Vec<AltName>,
    /// That of its subject, if it is a name; it counts where it is asked for.
    pub(crate) common_name: Option<AltName>,
}

/// Why a request is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CsrFault {
    #[error("it is longer than {MAX_CSR} bytes")]
    TooLong,
    #[error(
        "there is no request in it: send PEM, from -----BEGIN CERTIFICATE REQUEST----- to -----END CERTIFICATE REQUEST----- (openssl req -new makes it; openssl req -inform DER makes it of DER)"
    )]
    NoPem,
    #[error("it is a {0}, and no CERTIFICATE REQUEST; openssl req -new makes one of a key")]
    Label(String),
    #[error("its PEM is damaged ({0}); send it as it was made")]
    Pem(String),
    #[error(
        "it is damaged, or no certificate request (RFC 2986): {0}; make another (openssl req -new)"
    )]
    Form(String),
    #[error("its public key: {0}")]
    Key(#[from] KeyFault),
    #[error("its signature is not by the key that it is for; make another with that key")]
    Signature,
    #[error("it has the attribute or extension {0} twice")]
    Twice(ObjectIdentifier),
    #[error("its names: {0}")]
    Name(#[from] NameFault),
    #[error("it has more than {MAX_NAMES} names")]
    TooManyNames,
}

/// The request as it is signed: what is decoded again might be encoded otherwise.
#[derive(Sequence)]
struct Signed<'a> {
    info: AnyRef<'a>,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitStringRef<'a>,
}

impl Csr {
    /// From PEM (RFC 7468 §7).
    pub(crate) fn from_pem(text: &str) -> Result<Self, CsrFault> {
        if text.len() > MAX_CSR {
            return Err(CsrFault::TooLong);
        }
        if !text.contains("-----BEGIN ") {
            return Err(CsrFault::NoPem);
        }
        // Of a chain, too, which is no single text of PEM.
        let first = text.split("-----BEGIN ").nth(1);
        let label = first.and_then(|rest| rest.split("-----").next());
        if let Some(label) = label.filter(|label| !LABELS.contains(label)) {
            return Err(CsrFault::Label(label.chars().take(64).collect()));
        }
        let decoded = x509_cert::der::pem::decode_vec(text.as_bytes());
        let (_, der) = decoded.map_err(|e| CsrFault::Pem(e.to_string()))?;
        Self::from_der(&der)
    }

    /// From DER.
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, CsrFault> {
        if der.len() > MAX_CSR {
            return Err(CsrFault::TooLong);
        }
        let form = |error: x509_cert::der::Error| CsrFault::Form(error.to_string());
        let signed = Signed::from_der(der).map_err(form)?;
        let info = signed.info.to_der().map_err(form)?;
        let parsed = CertReqInfo::from_der(&info).map_err(form)?;
        let Version::V1 = parsed.version;
        let key = PublicKey::new(parsed.public_key.clone())?;
        let signature = signed.signature.as_bytes().ok_or(CsrFault::Signature)?;
        if !key.verifies(&signed.algorithm, &info, signature) {
            return Err(CsrFault::Signature);
        }
        let names = names(&parsed)?;
        let common_name = match parsed.subject.common_name() {
            Ok(Some(DirectoryString::Utf8String(name))) => name.parse().ok(),
            Ok(Some(DirectoryString::PrintableString(name))) => name.as_str().parse().ok(),
            _ => None,
        };
        Ok(Self {
            key,
            names,
            common_name,
        })
    }
}

/// What is at one OID; twice is none, for readers would take either.
fn one<T>(
    all: impl IntoIterator<Item = (ObjectIdentifier, T)>,
    wanted: ObjectIdentifier,
) -> Result<Option<T>, CsrFault> {
    let mut found = all.into_iter().filter(|(oid, _)| *oid == wanted);
    let first = found.next();
    if found.next().is_some() {
        return Err(CsrFault::Twice(wanted));
    }
    Ok(first.map(|(_, value)| value))
}

/// Those that the request asks for. What else it asks for (usages, a subject) is the profile's to say.
fn names(info: &CertReqInfo) -> Result<Vec<AltName>, CsrFault> {
    let form = |error: x509_cert::der::Error| CsrFault::Form(error.to_string());
    let attributes = info.attributes.iter().map(|a| (a.oid, &a.values));
    let Some(values) = one(attributes, oid::EXTENSION_REQUEST)? else {
        return Ok(Vec::new());
    };
    let value = match values.as_slice() {
        [value] => value,
        _ => return Err(CsrFault::Twice(oid::EXTENSION_REQUEST)),
    };
    let extensions: Extensions = value.decode_as().map_err(form)?;
    let extensions = extensions.iter().map(|e| (e.extn_id, &e.extn_value));
    let san = <SubjectAltName as x509_cert::der::oid::AssociatedOid>::OID;
    let Some(value) = one(extensions, san)? else {
        return Ok(Vec::new());
    };
    let names = SubjectAltName::from_der(value.as_bytes()).map_err(form)?.0;
    if names.len() > MAX_NAMES {
        return Err(CsrFault::TooManyNames);
    }
    Ok(names.iter().map(AltName::asked).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_request_is_told_what_it_is() {
        let pem = |label: &str, body: &str| {
            format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
        };
        for (description, text, wanted) in [
            ("nothing", String::new(), "there is no request in it"),
            ("a path", "request.pem".to_owned(), "there is no request"),
            (
                "a certificate",
                pem("CERTIFICATE", "MAA="),
                "it is a CERTIFICATE, and no",
            ),
            (
                "a chain",
                pem("CERTIFICATE", "MAA=").repeat(2),
                "it is a CERTIFICATE, and no",
            ),
            (
                "damaged base64",
                pem(LABELS[0], "M*A="),
                "its PEM is damaged",
            ),
            ("half of it", pem(LABELS[0], "MAA"), "its PEM is damaged"),
            ("nothing in it", pem(LABELS[1], "MAA="), "it is damaged, or"),
            (
                "too long",
                "a".repeat(MAX_CSR + 1),
                "it is longer than 65536",
            ),
        ] {
            let refused = Csr::from_pem(&text).unwrap_err().to_string();
            assert!(refused.starts_with(wanted), "{description}: {refused}");
        }
    }
}
