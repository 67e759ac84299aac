//! Whether a login at this service is good enough for a client's.

use crate::{
    account::Account, core::Mcias, error::Error, service::Service, session::Session,
    standing::Standing,
};

/// What a login lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lacking {
    /// The policy's leave.
    Leave,
    /// A password that is the person's own.
    Password,
    /// A second factor, which the account has not.
    Factor,
    /// A second factor, which was not shown.
    Second,
}

impl Lacking {
    /// What the client is told.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Leave => "the login policy does not let this account log in here",
            Self::Password => "the password has to be changed first",
            Self::Factor => "a second factor has to be enrolled first",
            Self::Second => "a second factor is needed; log in again",
        }
    }
}

/// What a login lacks to log in to a service.
///
/// # Errors
/// If the policy cannot judge.
pub(super) fn lacking(
    mcias: &Mcias,
    account: &Account,
    login: &Session,
    service: &Service,
) -> Result<Option<Lacking>, Error> {
    let verdict = mcias.policy().judge(account, service)?;
    if !verdict.allowed {
        return Ok(Some(Lacking::Leave));
    }
    let standing = Standing::of(account, &verdict, login.has_shown_both());
    let lacks = [
        (standing.expired, Lacking::Password),
        (standing.enrol, Lacking::Factor),
        (standing.unshown, Lacking::Second),
    ];
    let first = lacks.into_iter().find(|(lacks, _)| *lacks);
    Ok(first.map(|(_, lacking)| lacking))
}
