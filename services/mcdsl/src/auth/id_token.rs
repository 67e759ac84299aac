//! ID tokens (OpenID Connect Core §2, §3.1.3.7): what MCIAS tells a client of a login. They say who it was, and let nobody in.

use std::time::SystemTime;

use jsonwebtoken::Algorithm;
use serde::Deserialize;

use super::{
    AuthError, EXPIRED,
    token::{Keys, LEEWAY, form_alone, seconds},
};

/// `typ`: none of an access token's.
const TYPE: &str = "JWT";

/// What one says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct IdClaims {
    /// Who signed it.
    pub iss: String,
    /// The account's id.
    pub sub: String,
    /// The one client that it is for; MCIAS makes none for several.
    pub aud: String,
    /// When it was issued, seconds since the epoch.
    pub iat: u64,
    /// Until when.
    pub exp: u64,
    /// What the client gave the browser along.
    pub nonce: Option<String>,
    /// The client's login, as its access tokens have it.
    pub sid: String,
}

/// What an ID token has to say.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'e> {
    /// Its issuer.
    pub issuer: &'e str,
    /// The client.
    pub client: &'e str,
    /// The nonce of the login; `None`: it is of a refresh, which had none.
    pub nonce: Option<&'e str>,
}

impl Keys {
    /// The claims of an ID token that is good at `now`.
    ///
    /// # Errors
    /// [`AuthError::Invalid`].
    pub fn verify_id(
        &self,
        token: &str,
        expected: Expected<'_>,
        now: SystemTime,
    ) -> Result<IdClaims, AuthError> {
        let invalid = |why| Err(AuthError::Invalid(why));
        let Ok(header) = jsonwebtoken::decode_header(token) else {
            return invalid("not a JWT");
        };
        // Fixed, whatever the token says: neither `none` nor a MAC under a key that is public.
        if header.alg != Algorithm::EdDSA {
            return invalid("another algorithm");
        }
        if header.typ.as_deref() != Some(TYPE) {
            return invalid("another type of token");
        }
        let Some(key) = header.kid.and_then(|kid| self.get(&kid)) else {
            return invalid("an unknown key");
        };
        let Ok(decoded) = jsonwebtoken::decode::<IdClaims>(token, key, &form_alone()) else {
            return invalid("the signature or a claim");
        };
        let (claims, now) = (decoded.claims, seconds(now));
        if claims.iss != expected.issuer {
            return invalid("another issuer");
        }
        if claims.aud != expected.client {
            return invalid("for another client");
        }
        if now >= claims.exp.saturating_add(LEEWAY) {
            return invalid(EXPIRED);
        }
        if now.saturating_add(LEEWAY) < claims.iat {
            return invalid("not valid yet");
        }
        if expected.nonce.is_some() && claims.nonce.as_deref() != expected.nonce {
            return invalid("another login's: the nonce differs");
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::{Value, json};

    use super::{super::token::Signer, *};

    const NOW: u64 = 1_800_000_000;

    fn claims() -> Value {
        json!({
            "iss": "https://mcias.example", "sub": "id-of-ada", "aud": "notes", "iat": NOW, "exp": NOW + 3600,
            "nonce": "n", "sid": "login", "amr": ["pwd"], "name": "ada",
        })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = claims();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value;
        }
        claims
    }

    #[test]
    fn an_id_token_is_this_clients_of_this_login() {
        let pair = Ed25519KeyPair::generate().unwrap();
        let keys = Keys::new([("k", pair.public_key().as_ref())]);
        let signer = Signer::new("k".to_owned(), pair.to_pkcs8v1().unwrap().as_ref());
        let stranger = Ed25519KeyPair::generate().unwrap();
        let stranger = Signer::new("k".to_owned(), stranger.to_pkcs8v1().unwrap().as_ref());
        let expected = Expected {
            issuer: "https://mcias.example",
            client: "notes",
            nonce: Some("n"),
        };
        let sign = |claims: &Value| signer.sign_as(TYPE, claims).unwrap();
        let unsigned = |alg: &str| {
            let header = json!({ "alg": alg, "typ": TYPE, "kid": "k" }).to_string();
            let parts = [header, claims().to_string()].map(|part| BASE64.encode(part));
            format!("{}.{}.", parts[0], parts[1])
        };
        // As a MAC whose key is the public one.
        let mac = {
            let mut header = Header::new(Algorithm::HS256);
            header.kid = Some("k".to_owned());
            let key = EncodingKey::from_secret(pair.public_key().as_ref());
            jsonwebtoken::encode(&header, &claims(), &key).unwrap()
        };
        let fine = sign(&claims());
        let (head, signature) = fine.rsplit_once('.').unwrap();
        for (description, token, good) in [
            ("fine", fine.clone(), true),
            (
                "another issuer",
                sign(&with("iss", json!("https://evil.example"))),
                false,
            ),
            ("another client's", sign(&with("aud", json!("wiki"))), false),
            (
                "for several",
                sign(&with("aud", json!(["notes", "wiki"]))),
                false,
            ),
            ("another nonce", sign(&with("nonce", json!("m"))), false),
            ("no nonce", sign(&with("nonce", Value::Null)), false),
            ("no client", sign(&with("aud", Value::Null)), false),
            ("no login", sign(&with("sid", Value::Null)), false),
            ("no end", sign(&with("exp", Value::Null)), false),
            ("over", sign(&with("exp", json!(NOW - LEEWAY))), false),
            (
                "of the future",
                sign(&with("iat", json!(NOW + LEEWAY + 1))),
                false,
            ),
            (
                "an access token",
                signer.sign_as("at+jwt", &claims()).unwrap(),
                false,
            ),
            (
                "of another key",
                stranger.sign_as(TYPE, &claims()).unwrap(),
                false,
            ),
            ("alg none", unsigned("none"), false),
            ("alg None", unsigned("None"), false),
            ("alg EdDSA without a signature", unsigned("EdDSA"), false),
            ("a MAC under the public key", mac, false),
            ("its signature left out", format!("{head}."), false),
            (
                "another's claims",
                format!("{}x.{signature}", &head[..head.len() - 1]),
                false,
            ),
            ("nothing", String::new(), false),
        ] {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
            let verified = keys.verify_id(&token, expected, now);
            assert_eq!(verified.is_ok(), good, "{description}: {verified:?}");
        }
    }
}
