//! Who somebody is, by MCIAS's word.

pub mod client;
pub mod id_token;
mod identity;
mod revocations;
pub mod token;

use std::{future::Future, pin::Pin};

pub use identity::{ADMIN, AuthError, Identity};
pub(crate) use identity::{ELSEWHERE, EXPIRED};
pub use revocations::{Revocation, Revocations, Revoked, TooMany};

/// Tells whose a token is.
pub trait Authenticator: Send + Sync {
    /// The identity.
    ///
    /// # Errors
    /// [`AuthError`].
    fn authenticate<'a>(
        &'a self,
        token: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Identity, AuthError>> + Send + 'a>>;

    /// The same for a method whose definition takes tokens for other services (`other_audiences`). Who gives none to others takes none.
    ///
    /// # Errors
    /// [`AuthError`].
    fn authenticate_for_any<'a>(
        &'a self,
        token: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Identity, AuthError>> + Send + 'a>> {
        self.authenticate(token)
    }

    /// What somebody has to set right before his login has the roles of his account, as he is told who lacks the role for something. Only
    /// who issues tokens knows that.
    fn lacks<'a>(
        &'a self,
        _: &'a Identity,
    ) -> Pin<Box<dyn Future<Output = Option<&'static str>> + Send + 'a>> {
        Box::pin(std::future::ready(None))
    }
}
