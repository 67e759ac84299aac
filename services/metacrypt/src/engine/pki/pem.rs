//! PEM (RFC 7468).

use x509_cert::{
    Certificate,
    der::{
        Encode as _,
        pem::{self, LineEnding},
    },
};
use zeroize::Zeroizing;

/// Of a certificate.
pub(super) const CERTIFICATE: &str = "CERTIFICATE";
/// PKCS #8.
pub(super) const PRIVATE_KEY: &str = "PRIVATE KEY";
/// Longest chain or key that is read.
const MAX: usize = 512 << 10;

pub(super) fn encode(label: &'static str, der: &[u8]) -> x509_cert::der::Result<String> {
    Ok(pem::encode_string(label, LineEnding::LF, der)?)
}

/// All of them, one behind the other.
pub(super) fn chain<'d>(
    certificates: impl IntoIterator<Item = &'d Vec<u8>>,
) -> x509_cert::der::Result<String> {
    let all = certificates.into_iter().map(|der| encode(CERTIFICATE, der));
    all.collect()
}

/// The DER of certificates.
pub(super) fn read_chain(text: &str) -> Result<Vec<Vec<u8>>, String> {
    if text.len() > MAX {
        return Err(format!("longer than {MAX} bytes"));
    }
    let all = Certificate::load_pem_chain(text.as_bytes());
    let all = all.map_err(|e| format!("no certificates in PEM: {e}"))?;
    let der = all.iter().map(Certificate::to_der);
    der.collect::<Result<_, _>>().map_err(|e| e.to_string())
}

/// The DER of a private key.
pub(super) fn read_key(text: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    if text.len() > MAX {
        return Err(format!("longer than {MAX} bytes"));
    }
    let wanted = "write PKCS #8 in PEM that is not encrypted (openssl pkcs8 -topk8 -nocrypt)";
    let (label, der) = pem::decode_vec(text.as_bytes()).map_err(|_| wanted.to_owned())?;
    let der = Zeroizing::new(der);
    match label {
        PRIVATE_KEY => Ok(der),
        other => Err(format!("it is a {other}; {wanted}")),
    }
}
