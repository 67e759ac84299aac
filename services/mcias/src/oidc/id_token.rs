//! ID tokens (OpenID Connect Core §2): what a client is told of a login.

use std::time::SystemTime;

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::{Deserialize, Serialize};

use super::scope;
use crate::{account::Account, core::Mcias, error::Error, name::Role, time::unix};

/// `typ`: none of an access token's.
const TYPE: &str = "JWT";

/// What is said of an account, by the scopes that were granted.
#[derive(Serialize)]
pub(super) struct About<'a> {
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred_username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    /// Nobody has asked there.
    #[serde(skip_serializing_if = "Option::is_none")]
    email_verified: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    roles: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Vec<&'a str>>,
}

impl<'a> About<'a> {
    /// Of this account.
    pub(super) fn new(account: &'a Account, scopes: &str) -> Self {
        let profile = scope::has(scopes, "profile");
        let email = scope::has(scopes, "email") && !account.email.is_empty();
        Self {
            sub: &account.id,
            preferred_username: profile.then_some(&*account.name),
            name: profile.then_some(account.called()),
            email: email.then_some(&*account.email),
            email_verified: email.then_some(false),
            roles: scope::has(scopes, "roles").then_some(&*account.roles),
            groups: scope::has(scopes, "groups").then(|| groups(account)),
        }
    }
}

/// What applications map to teams and rights of their own: roles, and tags. A tag that is spelled like a role is none here, or it would pass for
/// it. At most three roles and [`crate::account::MAX_TAGS`] tags of 64 bytes.
fn groups(account: &Account) -> Vec<&str> {
    let is_role = |tag: &&String| tag.to_ascii_lowercase().parse::<Role>().is_ok();
    let tags = account.tags.iter().filter(|tag| !is_role(tag));
    account
        .roles
        .iter()
        .chain(tags)
        .map(String::as_str)
        .collect()
}

/// The login that a token is about.
pub(super) struct Login<'l> {
    pub(super) client: &'l str,
    pub(super) account: &'l Account,
    pub(super) scopes: &'l str,
    pub(super) session: &'l str,
    pub(super) methods: &'l [String],
    pub(super) nonce: Option<&'l str>,
    /// When the person logged in.
    pub(super) auth: i64,
    pub(super) expires: SystemTime,
}

#[derive(Serialize)]
struct Claims<'c> {
    iss: &'c str,
    aud: &'c str,
    iat: i64,
    exp: i64,
    auth_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'c str>,
    amr: &'c [String],
    sid: &'c str,
    #[serde(flatten)]
    about: About<'c>,
}

/// Signs one.
///
/// # Errors
/// If the key cannot sign.
pub(super) fn sign(mcias: &Mcias, login: &Login<'_>, now: SystemTime) -> Result<String, Error> {
    let claims = Claims {
        iss: &mcias.issuer,
        aud: login.client,
        iat: unix(now),
        exp: unix(login.expires),
        auth_time: login.auth,
        nonce: login.nonce,
        amr: login.methods,
        sid: login.session,
        about: About::new(login.account, login.scopes),
    };
    Ok(mcias.keys().signer.sign_as(TYPE, &claims)?)
}

/// Whom a client means that shows an ID token which it once got.
#[derive(Debug, Deserialize)]
pub(super) struct Hint {
    iss: String,
    pub(super) sub: String,
    pub(super) aud: String,
    pub(super) sid: String,
}

/// Reads an ID token of this service; it may have expired (RP-Initiated Logout §2).
pub(super) fn read(mcias: &Mcias, token: &str) -> Option<Hint> {
    let header = jsonwebtoken::decode_header(token).ok()?;
    if header.alg != Algorithm::EdDSA || header.typ.as_deref() != Some(TYPE) {
        return None;
    }
    let (kid, keys) = (header.kid?, mcias.keys());
    let (_, public) = keys.public.iter().find(|(known, _)| *known == kid)?;
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    let key = DecodingKey::from_ed_der(public);
    let hint = jsonwebtoken::decode::<Hint>(token, &key, &validation).ok()?;
    Some(hint.claims).filter(|hint| hint.iss == mcias.issuer)
}
