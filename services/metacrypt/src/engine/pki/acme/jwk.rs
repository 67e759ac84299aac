//! Account keys (RFC 7517, RFC 8037) and what they are known by (RFC 7638).

use std::{fmt, str::FromStr};

use aws_lc_rs::digest;
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use x509_cert::{
    der::{
        Encode as _, Sequence,
        asn1::{Any, BitString, UintRef},
    },
    spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned},
};

use super::super::{
    oid,
    public_key::{KeyAlgorithm, PublicKey},
};

/// Longest modulus: 4096 bits. Checking signatures by longer ones is somebody else's way to keep us busy.
const MAX_RSA: usize = 512;

/// Why a key is none that an account can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("jwk: {0}")]
pub(crate) struct JwkFault(String);

fn fault(why: impl Into<String>) -> JwkFault {
    JwkFault(why.into())
}

/// As it is sent.
#[derive(Deserialize)]
struct Form {
    kty: String,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    #[serde(default, deserialize_with = "present")]
    d: bool,
    #[serde(default, deserialize_with = "present")]
    k: bool,
}

/// That a field is there, whatever it says.
pub(super) fn present<'de, D: serde::Deserializer<'de>>(of: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(of).map(|_| true)
}

/// A public key that was looked at, in one spelling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Jwk {
    /// The members that are needed, in their order, without white space (RFC 7638 §3).
    canonical: String,
    key: PublicKey,
}

#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

fn member(name: &str, value: Option<&String>) -> Result<Vec<u8>, JwkFault> {
    let text = value.ok_or_else(|| fault(format!("{name} is missing")))?;
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes());
    bytes.map_err(|_| fault(format!("{name} is no base64url without padding")))
}

fn coordinate(name: &str, value: Option<&String>, bytes: usize) -> Result<Vec<u8>, JwkFault> {
    let found = member(name, value)?;
    if found.len() != bytes {
        return Err(fault(format!("{name} is not of {bytes} bytes")));
    }
    Ok(found)
}

fn number(name: &str, value: Option<&String>) -> Result<Vec<u8>, JwkFault> {
    let found = member(name, value)?;
    if found.is_empty() || found[0] == 0 || found.len() > MAX_RSA {
        return Err(fault(format!(
            "{name} is no number of 1 to {} bits without leading zeros",
            MAX_RSA * 8
        )));
    }
    Ok(found)
}

impl Form {
    fn read(&self) -> Result<Jwk, JwkFault> {
        let text = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        let form = |error: x509_cert::der::Error| fault(error.to_string());
        if self.d || self.k {
            return Err(fault("it has a secret part; send the public key alone"));
        }
        let (canonical, oid, parameters, key) = match (&*self.kty, self.crv.as_deref()) {
            ("EC", Some(curve @ ("P-256" | "P-384"))) => {
                let (bytes, oid) = match curve {
                    "P-256" => (32, oid::P256),
                    _ => (48, oid::P384),
                };
                let x = coordinate("x", self.x.as_ref(), bytes)?;
                let y = coordinate("y", self.y.as_ref(), bytes)?;
                let canonical = format!(
                    r#"{{"crv":"{curve}","kty":"EC","x":"{}","y":"{}"}}"#,
                    text(&x),
                    text(&y)
                );
                let curve = Any::encode_from(&oid).map_err(form)?;
                let point = [&[4][..], &x, &y].concat();
                (canonical, oid::EC_PUBLIC_KEY, Some(curve), point)
            }
            ("OKP", Some("Ed25519")) => {
                let x = coordinate("x", self.x.as_ref(), 32)?;
                let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, text(&x));
                (canonical, oid::ED25519, None, x)
            }
            ("RSA", None) => {
                let n = number("n", self.n.as_ref())?;
                let e = number("e", self.e.as_ref())?;
                let canonical = format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, text(&e), text(&n));
                let key = RsaPublicKey {
                    modulus: UintRef::new(&n).map_err(form)?,
                    exponent: UintRef::new(&e).map_err(form)?,
                };
                let key = key.to_der().map_err(form)?;
                (canonical, oid::RSA, Some(Any::null()), key)
            }
            _ => {
                return Err(fault(
                    "keys are EC on P-256 or P-384, OKP of Ed25519, and RSA of 2048 to 4096 bits",
                ));
            }
        };
        let spki = SubjectPublicKeyInfoOwned {
            algorithm: AlgorithmIdentifierOwned { oid, parameters },
            subject_public_key: BitString::from_bytes(&key).map_err(form)?,
        };
        let key = PublicKey::new(spki).map_err(|e| fault(e.to_string()))?;
        Ok(Jwk { canonical, key })
    }
}

impl Jwk {
    /// From JSON that was parsed already.
    ///
    /// # Errors
    /// [`JwkFault`].
    pub(crate) fn from_value(value: &serde_json::Value) -> Result<Self, JwkFault> {
        let form = Form::deserialize(value).map_err(|e| fault(e.to_string()))?;
        form.read()
    }

    pub(crate) fn algorithm(&self) -> KeyAlgorithm {
        self.key.algorithm()
    }

    /// The key itself, as requests and certificates have it.
    pub(crate) fn public(&self) -> &PublicKey {
        &self.key
    }

    /// As signatures are checked with it: a point, an Ed25519 key, or an RSAPublicKey in DER.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.key.spki().subject_public_key.raw_bytes()
    }

    /// What it is known by (RFC 7638): base64url of SHA-256.
    pub(crate) fn thumbprint(&self) -> String {
        let hash = digest::digest(&digest::SHA256, self.canonical.as_bytes());
        BASE64URL_NOPAD.encode(hash.as_ref())
    }
}

impl FromStr for Jwk {
    type Err = JwkFault;

    fn from_str(text: &str) -> Result<Self, JwkFault> {
        let form: Form = serde_json::from_str(text).map_err(|e| fault(e.to_string()))?;
        form.read()
    }
}

impl fmt::Display for Jwk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical)
    }
}

impl TryFrom<String> for Jwk {
    type Error = JwkFault;

    fn try_from(text: String) -> Result<Self, JwkFault> {
        text.parse()
    }
}

impl From<Jwk> for String {
    fn from(key: Jwk) -> Self {
        key.canonical
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8037 appendix A.2 and A.3.
    #[test]
    fn a_key_is_known_by_what_it_is() {
        let key: Jwk = r#"{"kty":"OKP","crv":"Ed25519","use":"sig","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#.parse().unwrap();
        assert_eq!(
            key.thumbprint(),
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
        let again: Jwk = key.to_string().parse().unwrap();
        assert_eq!(again, key);
    }

    #[test]
    fn what_is_no_key_of_an_account_is_refused() {
        for (description, text) in [
            ("no JSON", "{"),
            ("nothing", "{}"),
            ("a secret", r#"{"kty":"oct","k":"AAAA"}"#),
            (
                "its secret half",
                r#"{"kty":"OKP","crv":"Ed25519","d":"AA","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
            ),
            (
                "a secret that is null",
                r#"{"kty":"OKP","crv":"Ed25519","d":null,"x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
            ),
            (
                "padding",
                r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo="}"#,
            ),
            ("short", r#"{"kty":"OKP","crv":"Ed25519","x":"11qY"}"#),
            (
                "another curve",
                r#"{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}"#,
            ),
            (
                "not on its curve",
                r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a1"}"#,
            ),
            (
                "a small modulus",
                r#"{"kty":"RSA","n":"_wAAAAE","e":"AQAB"}"#,
            ),
            (
                "a member twice",
                r#"{"kty":"OKP","kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
            ),
        ] {
            assert!(text.parse::<Jwk>().is_err(), "{description}");
        }
        let long = BASE64URL_NOPAD.encode(&[0xff; 513]);
        let text = format!(r#"{{"kty":"RSA","n":"{long}","e":"AQAB"}}"#);
        assert!(text.parse::<Jwk>().is_err(), "more than 4096 bits");
    }
}
