//! Access tokens (RFC 9068): JWTs of MCIAS, signed with Ed25519.
//!
//! jsonwebtoken checks form and signature; what the claims must be is checked here, against a time that the caller gives. Every claim
//! is required: one that is missing is a token of something else.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use mc_proto::AccountType;
use serde::{Deserialize, Serialize};

use super::{AuthError, ELSEWHERE, EXPIRED, Identity};

/// `typ` of an access token: an ID token of the same issuer is none.
const TYPE: &str = "at+jwt";
/// Clocks differ by as much, seconds.
pub(super) const LEEWAY: u64 = 5;
/// Keys at once: one that signs and those that still verify.
const MAX_KEYS: usize = 16;
/// The last second that a token may tell of: of the year 9999.
const MAX_TIME: u64 = 253_402_300_799;
/// Names of a token's lists.
const MAX_NAMES: usize = 64;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who signed it; never changes.
    pub iss: String,
    /// The account's id.
    pub sub: String,
    /// The services that it is for.
    pub aud: Vec<String>,
    /// When it was issued, seconds since the epoch.
    pub iat: u64,
    /// From when it is valid.
    pub nbf: u64,
    /// Until when.
    pub exp: u64,
    /// Its own id.
    pub jti: String,
    /// The login that it belongs to; of a system account's token, `jti`.
    pub sid: String,
    /// The account's name.
    pub name: String,
    /// `human` or `system`.
    #[serde(with = "account_type")]
    pub account_type: AccountType,
    /// The account's roles.
    pub roles: Vec<String>,
    /// The account's tags.
    pub tags: Vec<String>,
    /// How it logged in (RFC 8176).
    pub amr: Vec<String>,
}

mod account_type {
    use super::{AccountType, Deserialize};

    pub(super) fn serialize<S: serde::Serializer>(
        of: &AccountType,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(super::type_name(*of))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        from: D,
    ) -> Result<AccountType, D::Error> {
        match &*std::borrow::Cow::<'de, str>::deserialize(from)? {
            "human" => Ok(AccountType::Human),
            "system" => Ok(AccountType::System),
            _ => Err(serde::de::Error::custom("neither human nor system")),
        }
    }
}

/// As tokens and policies write it.
#[must_use]
pub fn type_name(of: AccountType) -> &'static str {
    match of {
        AccountType::Human => "human",
        AccountType::System => "system",
    }
}

/// A key that signs.
pub struct Signer {
    kid: String,
    key: EncodingKey,
}

impl Signer {
    /// From PKCS#8, DER.
    #[must_use]
    pub fn new(kid: String, pkcs8: &[u8]) -> Self {
        Self {
            kid,
            key: EncodingKey::from_ed_der(pkcs8),
        }
    }

    /// The token.
    ///
    /// # Errors
    /// If the key is none.
    pub fn sign(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        self.sign_as(TYPE, claims)
    }

    /// Another JWT of the issuer, with a `typ` that says what it is.
    ///
    /// # Errors
    /// If the key is none.
    pub fn sign_as<T: Serialize>(
        &self,
        typ: &str,
        claims: &T,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(typ.to_owned());
        header.kid = Some(self.kid.clone());
        jsonwebtoken::encode(&header, claims, &self.key)
    }
}

/// The keys that verify, by their `kid`.
#[derive(Clone, Default)]
pub struct Keys(HashMap<String, DecodingKey>);

impl Keys {
    /// Ed25519 public keys of 32 bytes; others are left out, and those beyond the bound.
    pub fn new<'a>(keys: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let usable = keys.into_iter().filter(|(_, key)| key.len() == 32);
        let decoded = usable.map(|(kid, key)| (kid.to_owned(), DecodingKey::from_ed_der(key)));
        Self(decoded.take(MAX_KEYS).collect())
    }

    pub(super) fn get(&self, kid: &str) -> Option<&DecodingKey> {
        self.0.get(kid)
    }

    /// The claims of a token that is valid at `now` for `audience` (`None`: for whichever), revocation aside.
    ///
    /// # Errors
    /// [`AuthError::Invalid`].
    pub fn verify(
        &self,
        token: &str,
        issuer: &str,
        audience: Option<&str>,
        now: SystemTime,
    ) -> Result<Claims, AuthError> {
        let claims = self.signed(token)?;
        claims.check(issuer, audience, now)?;
        Ok(claims)
    }

    /// The claims of a token that one of these keys signed, which are still to be checked.
    ///
    /// # Errors
    /// [`AuthError::Invalid`].
    pub(super) fn signed(&self, token: &str) -> Result<Claims, AuthError> {
        let invalid = AuthError::Invalid;
        let header = jsonwebtoken::decode_header(token).map_err(|_| invalid("not a JWT"))?;
        if header.alg != Algorithm::EdDSA {
            return Err(invalid("another algorithm"));
        }
        if header.typ.as_deref() != Some(TYPE) {
            return Err(invalid("another type of token"));
        }
        let kid = header.kid.ok_or(invalid("no kid"))?;
        let key = self.0.get(&kid).ok_or(invalid("an unknown key"))?;
        let decoded = jsonwebtoken::decode::<Claims>(token, key, &form_alone());
        let decoded = decoded.map_err(|_| invalid("the signature or a claim"))?;
        Ok(decoded.claims)
    }
}

/// The claims are checked by [`Claims::check`].
pub(super) fn form_alone() -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

impl Claims {
    /// Whether a token that says this is valid at `now` for `audience`.
    ///
    /// # Errors
    /// [`AuthError::Invalid`].
    pub(super) fn check(
        &self,
        issuer: &str,
        audience: Option<&str>,
        now: SystemTime,
    ) -> Result<(), AuthError> {
        let invalid = |why| Err(AuthError::Invalid(why));
        let now = seconds(now);
        if self.iss != issuer {
            return invalid("another issuer");
        }
        if now >= self.exp.saturating_add(LEEWAY) {
            return invalid(EXPIRED);
        }
        if now.saturating_add(LEEWAY) < self.nbf.max(self.iat) {
            return invalid("not valid yet");
        }
        if self.sub.is_empty() || self.jti.is_empty() || self.sid.is_empty() || self.name.is_empty()
        {
            return invalid("an empty claim");
        }
        if self.exp > MAX_TIME || self.iat > self.exp {
            return invalid("a time that is none");
        }
        if [&self.aud, &self.roles, &self.tags, &self.amr]
            .iter()
            .any(|list| list.len() > MAX_NAMES)
        {
            return invalid("too long a list");
        }
        // Last: who has a token that is right otherwise is told.
        if audience.is_some_and(|audience| !self.aud.iter().any(|name| name == audience)) {
            return invalid(ELSEWHERE);
        }
        Ok(())
    }
}

impl From<Claims> for Identity {
    fn from(claims: Claims) -> Self {
        Self {
            account: claims.sub,
            name: claims.name,
            account_type: claims.account_type,
            roles: claims.roles,
            tags: claims.tags,
            token: claims.jti,
            session: claims.sid,
            methods: claims.amr,
            issued: UNIX_EPOCH + Duration::from_secs(claims.iat),
            expires: UNIX_EPOCH + Duration::from_secs(claims.exp),
        }
    }
}

/// Since the epoch.
#[must_use]
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}
