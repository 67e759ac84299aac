//! Whose a token is, or why nobody's.

use std::time::SystemTime;

use mc_proto::AccountType;

/// Why a token is not valid any more that was until its end; it may be refreshed.
pub(crate) const EXPIRED: &str = "expired";
/// Why a token is not valid that is, elsewhere.
pub(crate) const ELSEWHERE: &str = "for another service";

/// The role that may do everything.
pub const ADMIN: &str = "admin";

/// Whose token it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The account's id; it never changes and is never another's.
    pub account: String,
    /// Its name.
    pub name: String,
    /// A person or a service.
    pub account_type: AccountType,
    /// `admin`, `user`, `guest`.
    pub roles: Vec<String>,
    /// Its tags, for policies.
    pub tags: Vec<String>,
    /// The token's id (`jti`).
    pub token: String,
    /// The login that the token belongs to (`sid`).
    pub session: String,
    /// How it logged in (`amr`, RFC 8176).
    pub methods: Vec<String>,
    /// When the token was issued.
    pub issued: SystemTime,
    /// Until when it is valid.
    pub expires: SystemTime,
}

impl Identity {
    /// Has the role [`ADMIN`].
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.roles.iter().any(|role| role == ADMIN)
    }
}

/// Why nobody is known by a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// It is not valid: why, for the log alone.
    #[error("the token is not valid")]
    Invalid(&'static str),
    /// Whether it is cannot be found out now.
    #[error("tokens cannot be checked now: {0}")]
    Unavailable(String),
}
