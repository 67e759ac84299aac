//! Signed requests: flattened JWS (RFC 7515 §7.2.2) as ACME has it (RFC 8555 §6.2). Bytes in, values out.

use aws_lc_rs::{
    hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
        UnparsedPublicKey, VerificationAlgorithm,
    },
};
use data_encoding::BASE64URL_NOPAD;
use serde::{
    Deserialize,
    de::{DeserializeOwned, Error as _},
};
use serde_json::Value;

use super::super::public_key::KeyAlgorithm;
use super::jwk::{Jwk, JwkFault, present};

/// Longest request; a certificate request of most names and the longest key fits.
pub(crate) const MAX_BODY: usize = 64 << 10;
/// Longest protected header, in base64url: an RSA key of 4096 bits and two addresses fit.
const MAX_PROTECTED: usize = 8 << 10;
/// Of RSA with 4096 bits, in base64url.
const MAX_SIGNATURE: usize = 683;
/// Longest text of a header.
const MAX_TEXT: usize = 2048;

/// Why a request is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JwsFault {
    #[error("{0}")]
    Form(String),
    #[error("alg: {0:?} is not taken here")]
    Algorithm(String),
    #[error(transparent)]
    Key(#[from] JwkFault),
    #[error("the signature is not by this key")]
    Signature,
}

fn form(why: impl Into<String>) -> JwsFault {
    JwsFault::Form(why.into())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Es256,
    Es384,
    EdDsa,
    Rs256,
    Hs256,
}

/// Whose key it is signed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// This one.
    Key(Box<Jwk>),
    /// The one that is known as this.
    Kid(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Flattened {
    protected: String,
    payload: String,
    signature: String,
}

#[derive(Deserialize)]
struct Protected {
    alg: String,
    url: String,
    nonce: Option<String>,
    kid: Option<String>,
    jwk: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
    #[serde(default, deserialize_with = "present")]
    b64: bool,
}

/// A signed request, whose signature was not looked at yet.
#[derive(Clone, Debug)]
pub(crate) struct Jws {
    algorithm: Algorithm,
    /// What it is for.
    pub(crate) url: String,
    pub(crate) by: By,
    pub(crate) nonce: Option<String>,
    /// Empty of a POST that is a GET (RFC 8555 §6.3).
    pub(crate) payload: Vec<u8>,
    signed: Vec<u8>,
    signature: Vec<u8>,
}

fn decoded(what: &str, text: &str, most: usize) -> Result<Vec<u8>, JwsFault> {
    if text.len() > most {
        return Err(form(format!("{what}: longer than {most} bytes")));
    }
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes());
    bytes.map_err(|_| form(format!("{what}: no base64url without padding")))
}

/// From a JSON object: serde reads what has fields from lists, too.
pub(crate) fn object<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    match bytes.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(bytes),
        _ => Err(serde_json::Error::custom("it is no object")),
    }
}

fn text(what: &str, text: Option<String>) -> Result<Option<String>, JwsFault> {
    match text {
        Some(long) if long.len() > MAX_TEXT || long.is_empty() => {
            Err(form(format!("{what}: 1 to {MAX_TEXT} bytes")))
        }
        text => Ok(text),
    }
}

impl Jws {
    /// From a request's body.
    ///
    /// # Errors
    /// [`JwsFault`].
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, JwsFault> {
        if bytes.len() > MAX_BODY {
            return Err(form(format!("longer than {MAX_BODY} bytes")));
        }
        let flattened = object(bytes).map_err(|e| {
            form(format!(
                "no JWS in flattened JSON (protected, payload, signature): {e}"
            ))
        })?;
        Self::read(flattened)
    }

    /// From what is inside another.
    ///
    /// # Errors
    /// [`JwsFault`].
    pub(crate) fn from_value(value: &Value) -> Result<Self, JwsFault> {
        let no = |why: &str| {
            form(format!(
                "no JWS in flattened JSON (protected, payload, signature): {why}"
            ))
        };
        if !value.is_object() {
            return Err(no("it is no object"));
        }
        let flattened = Flattened::deserialize(value).map_err(|e| no(&e.to_string()))?;
        Self::read(flattened)
    }

    fn read(of: Flattened) -> Result<Self, JwsFault> {
        let header = decoded("protected", &of.protected, MAX_PROTECTED)?;
        let header: Protected = object(&header).map_err(|e| form(format!("protected: {e}")))?;
        if header.crit || header.b64 {
            return Err(form("protected: crit and b64 are not understood here"));
        }
        let algorithm = match &*header.alg {
            "ES256" => Algorithm::Es256,
            "ES384" => Algorithm::Es384,
            "EdDSA" => Algorithm::EdDsa,
            "RS256" => Algorithm::Rs256,
            "HS256" => Algorithm::Hs256,
            other => {
                return Err(JwsFault::Algorithm(other.chars().take(32).collect()));
            }
        };
        let by = match (text("kid", header.kid)?, header.jwk) {
            (None, Some(jwk)) => By::Key(Box::new(Jwk::from_value(&jwk)?)),
            (Some(kid), None) => By::Kid(kid),
            _ => return Err(form("protected: exactly one of jwk and kid is needed")),
        };
        let url = text("url", Some(header.url))?.unwrap_or_default();
        Ok(Self {
            algorithm,
            url,
            by,
            nonce: text("nonce", header.nonce)?,
            payload: decoded("payload", &of.payload, MAX_BODY)?,
            signature: decoded("signature", &of.signature, MAX_SIGNATURE)?,
            signed: format!("{}.{}", of.protected, of.payload).into_bytes(),
        })
    }

    /// Whether the owner of `key` signed it.
    ///
    /// # Errors
    /// [`JwsFault`]; also of algorithms that are not the key's.
    pub(crate) fn verify(&self, key: &Jwk) -> Result<(), JwsFault> {
        let algorithm: &'static dyn VerificationAlgorithm = match (self.algorithm, key.algorithm())
        {
            (Algorithm::Es256, KeyAlgorithm::EcdsaP256) => &ECDSA_P256_SHA256_FIXED,
            (Algorithm::Es384, KeyAlgorithm::EcdsaP384) => &ECDSA_P384_SHA384_FIXED,
            (Algorithm::EdDsa, KeyAlgorithm::Ed25519) => &ED25519,
            (Algorithm::Rs256, KeyAlgorithm::Rsa) => &RSA_PKCS1_2048_8192_SHA256,
            (Algorithm::Hs256, _) => return Err(JwsFault::Algorithm("HS256".to_owned())),
            _ => return Err(form("alg: it is not the key's")),
        };
        UnparsedPublicKey::new(algorithm, key.bytes())
            .verify(&self.signed, &self.signature)
            .map_err(|_| JwsFault::Signature)
    }

    /// Whether who has the secret `key` made it (HS256, in constant time).
    ///
    /// # Errors
    /// [`JwsFault`].
    pub(crate) fn verify_mac(&self, key: &[u8]) -> Result<(), JwsFault> {
        if self.algorithm != Algorithm::Hs256 {
            return Err(form("alg: HS256 is needed here"));
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::verify(&key, &self.signed, &self.signature).map_err(|_| JwsFault::Signature)
    }
}

#[cfg(test)]
#[path = "jws/vectors.rs"]
mod vectors;

#[cfg(test)]
pub(super) mod tests {
    use aws_lc_rs::{
        encoding::AsDer as _,
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
    };
    use serde_json::json;

    use super::*;

    /// A P-256 key of a client.
    pub(in super::super) struct Signer(EcdsaKeyPair);

    impl Signer {
        pub(in super::super) fn new() -> Self {
            Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
        }

        pub(in super::super) fn jwk(&self) -> Value {
            let _ = self.0.public_key().as_der();
            let point = self.0.public_key().as_ref();
            let text = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
            json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])})
        }

        pub(in super::super) fn sign(&self, header: &Value, payload: &str) -> Value {
            let protected = BASE64URL_NOPAD.encode(header.to_string().as_bytes());
            let payload = BASE64URL_NOPAD.encode(payload.as_bytes());
            let signed = format!("{protected}.{payload}");
            let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes());
            let signature = BASE64URL_NOPAD.encode(signature.unwrap().as_ref());
            json!({"protected": protected, "payload": payload, "signature": signature})
        }
    }

    fn parse(value: &Value) -> Result<Jws, JwsFault> {
        Jws::from_bytes(value.to_string().as_bytes())
    }

    #[test]
    fn what_is_signed_is_read_and_verified() {
        let (signer, other) = (Signer::new(), Signer::new());
        let header =
            json!({"alg": "ES256", "url": "https://a/b", "nonce": "n", "jwk": signer.jwk()});
        let jws = parse(&signer.sign(&header, "{}")).unwrap();
        let By::Key(key) = &jws.by else {
            panic!("{jws:?}")
        };
        assert_eq!(jws.verify(key), Ok(()));
        assert_eq!((&*jws.url, &*jws.payload), ("https://a/b", &b"{}"[..]));
        let another = Jwk::from_value(&other.jwk()).unwrap();
        assert_eq!(jws.verify(&another), Err(JwsFault::Signature));
        let mut changed = signer.sign(&header, "{}");
        changed["payload"] = json!("");
        assert_eq!(
            parse(&changed).unwrap().verify(key),
            Err(JwsFault::Signature)
        );
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let signer = Signer::new();
        let good = json!({"alg": "ES256", "url": "https://a/b", "kid": "k"});
        let with = |name: &str, value: Value| {
            let mut header = good.clone();
            header[name] = value;
            signer.sign(&header, "")
        };
        assert!(parse(&signer.sign(&good, "")).is_ok());
        let mut unprotected = signer.sign(&good, "");
        unprotected["header"] = json!({"kid": "other"});
        let mut general = signer.sign(&good, "");
        general["signatures"] = json!([]);
        let mut padded = signer.sign(&good, "");
        padded["signature"] = json!("AA==");
        for (description, value) in [
            ("none", with("alg", json!("none"))),
            ("another algorithm", with("alg", json!("ES512"))),
            ("both keys", with("jwk", signer.jwk())),
            (
                "no key",
                signer.sign(&json!({"alg": "ES256", "url": "u"}), ""),
            ),
            (
                "no url",
                signer.sign(&json!({"alg": "ES256", "kid": "u"}), ""),
            ),
            ("crit", with("crit", json!(["b64"]))),
            ("crit that is null", with("crit", Value::Null)),
            ("b64", with("b64", json!(true))),
            ("a long text", with("nonce", json!("n".repeat(3000)))),
            ("a long header", with("other", json!("n".repeat(9000)))),
            ("an unprotected header", unprotected),
            ("the general form", general),
            ("padding", padded),
            ("a list", json!([])),
        ] {
            assert!(parse(&value).is_err(), "{description}");
        }
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        assert!(Jws::from_bytes(deep.as_bytes()).is_err(), "depth");
        assert!(Jws::from_bytes(&[b' '; MAX_BODY + 1]).is_err(), "length");
    }

    #[test]
    fn secrets_are_for_bindings_alone() {
        let text = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        let protected = text(br#"{"alg":"HS256","kid":"k","url":"u"}"#);
        let payload = text(b"{}");
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        let tag = hmac::sign(&key, format!("{protected}.{payload}").as_bytes());
        let value =
            json!({"protected": protected, "payload": payload, "signature": text(tag.as_ref())});
        let jws = parse(&value).unwrap();
        assert_eq!(jws.verify_mac(b"secret"), Ok(()));
        assert_eq!(jws.verify_mac(b"other"), Err(JwsFault::Signature));
        let key = Jwk::from_value(&Signer::new().jwk()).unwrap();
        assert!(matches!(jws.verify(&key), Err(JwsFault::Algorithm(_))));
    }
}
