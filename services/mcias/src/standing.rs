//! What a login still lacks before it is good for what its account may: the one place that says so, for the API, pages and OpenID Connect.

use std::sync::Arc;

use mcdsl::auth::Identity;
use rusqlite::Connection;

use crate::{
    SERVICE,
    account::{self, Account},
    core::Mcias,
    error::Error,
    policy::Verdict,
    service,
    session::find_session,
};

/// How a login stands where the policy lets its account in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The password was given by somebody else: it has to be changed.
    pub(crate) expired: bool,
    /// A second factor is asked for, and the account has none: it has to be enrolled, whatever the login showed before it was taken away.
    pub(crate) enrol: bool,
    /// The account has a second factor, which this login has not shown.
    pub(crate) unshown: bool,
}

impl Standing {
    /// Of a login that has shown two factors or not, by what the policy says of its account and the service.
    pub(crate) fn of(account: &Account, verdict: &Verdict, shown_both: bool) -> Self {
        let has = account.has_second_factor();
        Self {
            expired: account.password_expired,
            enrol: !has && verdict.asks(account),
            unshown: has && !shown_both,
        }
    }

    /// Something has to be set right first: until then it is good for nothing else.
    pub(crate) fn is_restricted(self) -> bool {
        self.expired || self.enrol || self.unshown
    }

    /// What is to be done about it, the first thing of several.
    pub(crate) fn what_to_do(self) -> Option<&'static str> {
        let lacks = [
            (self.expired, "change the password first"),
            (self.enrol, "enrol a second factor first"),
            (self.unshown, "log in again, with the second factor"),
        ];
        let first = lacks.into_iter().find(|(lacks, _)| *lacks);
        first.map(|(_, what)| what)
    }
}

impl Mcias {
    /// How the login here of whoever asks stands now, and its account; `None`: it is over, or a system account's token.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn standing(
        self: &Arc<Self>,
        who: &Identity,
    ) -> Result<Option<(Account, Standing)>, Error> {
        let (id, session, policy) = (who.account.clone(), who.session.clone(), self.policy());
        let read = move |db: &Connection| {
            let login = find_session(db, &id, &session)?;
            let Some((account, login)) = account::by_id(db, &id)?.zip(login) else {
                return Ok(None);
            };
            let own = service::named(db, SERVICE)?;
            let verdict = policy.judge(&account, &own)?;
            let standing = Standing::of(&account, &verdict, login.has_shown_both());
            Ok::<_, Error>(Some((account, standing)))
        };
        self.store.read(read).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use mc_proto::AccountType;

    use super::*;
    use crate::{account::Status, policy::LoginPolicy, service::Service};

    /// Of a policy without rules, which denies and asks for nothing.
    fn verdict(account: &Account, second_factor: bool) -> Verdict {
        let service = Service {
            name: "wiki".to_owned(),
            tags: Vec::new(),
            redirect_uris: Vec::new(),
            post_logout_redirect_uris: Vec::new(),
            public_client: false,
            secret: None,
            comment: String::new(),
        };
        let policy = LoginPolicy::new(Vec::new()).unwrap();
        let verdict = policy.judge(account, &service).unwrap();
        Verdict {
            second_factor,
            ..verdict
        }
    }

    #[test]
    fn a_login_is_good_once_it_lacks_nothing() {
        let ada = Account {
            id: "ada-id".to_owned(),
            name: "ada".to_owned(),
            display_name: String::new(),
            email: String::new(),
            account_type: AccountType::Human,
            status: Status::Active,
            second_factor_required: false,
            created: SystemTime::UNIX_EPOCH,
            last_login: None,
            password: None,
            password_changed: None,
            password_expired: false,
            roles: Vec::new(),
            tags: Vec::new(),
            totp: false,
            passkeys: 0,
            recovery_codes: 0,
        };
        let with = |totp, passkeys, expired, required| Account {
            totp,
            passkeys,
            password_expired: expired,
            second_factor_required: required,
            ..ada.clone()
        };
        let lacks = |expired, enrol, unshown| Standing {
            expired,
            enrol,
            unshown,
        };
        // (description, account, the policy asks, both were shown, what it lacks)
        for (description, account, asks, shown, lacking) in [
            (
                "the password alone, and that is enough",
                with(false, 0, false, false),
                false,
                false,
                lacks(false, false, false),
            ),
            (
                "a password of somebody else's",
                with(false, 0, true, false),
                false,
                false,
                lacks(true, false, false),
            ),
            (
                "a rule asks, and there is none",
                with(false, 0, false, false),
                true,
                false,
                lacks(false, true, false),
            ),
            (
                "the account has to, and has none",
                with(false, 0, false, true),
                false,
                false,
                lacks(false, true, false),
            ),
            (
                "both at once",
                with(false, 0, true, true),
                false,
                false,
                lacks(true, true, false),
            ),
            (
                "an app that nobody asks for is asked for",
                with(true, 0, false, false),
                false,
                false,
                lacks(false, false, true),
            ),
            (
                "a passkey that was not shown",
                with(false, 1, false, false),
                true,
                false,
                lacks(false, false, true),
            ),
            (
                "all that is asked for",
                with(true, 1, false, true),
                true,
                true,
                lacks(false, false, false),
            ),
            (
                "shown, but taken away since",
                with(false, 0, false, true),
                false,
                true,
                lacks(false, true, false),
            ),
            (
                "shown, and gone, and asked for by nobody",
                with(false, 0, false, false),
                false,
                true,
                lacks(false, false, false),
            ),
        ] {
            let standing = Standing::of(&account, &verdict(&account, asks), shown);
            assert_eq!(standing, lacking, "{description}");
            let good = lacking == lacks(false, false, false);
            assert_eq!(standing.is_restricted(), !good, "{description}");
            assert_eq!(standing.what_to_do().is_none(), good, "{description}");
        }
    }
}
