//! Logging in: what was shown, what the policy says, and the token that follows.

mod codes;

use std::{net::IpAddr, sync::Arc};

use mc_proto::mcias::v1::{LoginRequest, LoginResponse, SecondFactor};
use rusqlite::{Connection, Transaction};

use self::codes::Factor;
pub(crate) use self::codes::{recovery_hash, totp_name};
use crate::{
    SERVICE,
    account::{self, Account, Status},
    by::By,
    core::{Change, Mcias},
    device::{Used, remember},
    error::Error,
    gate::Gate,
    oidc,
    password::{self, Checked},
    policy::Verdict,
    service,
    session::find_session,
    sources::network,
    standing::Standing,
    token::NewSession,
};

/// Bytes of a code: more than any has, with what people type between.
const MAX_CODE: usize = 64;

/// In the log, whose login it was to be that names no account: what was typed there may be a password.
pub(crate) const NOBODY: &str = "(unknown)";

/// Why nobody is logged in, said alike for whatever was wrong.
const WRONG: &str = "the account or the password is wrong";

/// What was asked for.
pub(crate) struct Asked {
    code: String,
    service: String,
    device: String,
}

impl Asked {
    /// Without a service: this one.
    pub(crate) fn new(code: String, service: String, device: &str) -> Self {
        let own = service.is_empty();
        Self {
            code,
            service: if own { SERVICE.to_owned() } else { service },
            device: mcdsl::shown::visible(device),
        }
    }
}

/// What was shown, and was right.
pub(crate) enum Shown<'s> {
    /// The password.
    Password {
        /// Counts what else is wrong.
        gate: &'s Gate,
        /// Its hash of today's parameters.
        rehashed: Option<&'s str>,
    },
    /// A passkey that verified its user: both factors.
    Passkey {
        /// From where.
        source: IpAddr,
    },
}

impl Mcias {
    /// Logs in by password.
    ///
    /// # Errors
    /// What the client is told.
    pub(crate) async fn log_in(
        self: &Arc<Self>,
        by: impl Into<By>,
        request: LoginRequest,
    ) -> Result<LoginResponse, Error> {
        let by = by.into();
        let LoginRequest {
            account,
            password,
            code,
            service,
            device,
        } = request;
        check_length("password", &password)?;
        if account.is_empty() {
            return Err(Error::invalid("account: it is missing"));
        }
        if code.len() > MAX_CODE {
            return Err(Error::invalid(format!(
                "code: longer than {MAX_CODE} bytes"
            )));
        }
        let asked = Asked::new(code, service, &device);
        let gate = self.enter(&by, &account).await?;
        let stored = gate.account.as_ref().and_then(|a| a.password.clone());
        let checked = self.passwords.check(password, stored, gate.origin).await?;
        let (this, gate) = (Arc::clone(self), Arc::new(gate));
        // Ours is kept until it is committed: the next attempt is to see what this one counted.
        let attempt = Arc::clone(&gate);
        let decide = move |change: &mut Change<'_>| {
            let gate = attempt;
            let Some(account) = right(change, &gate, &checked)? else {
                gate.failed(&this, change)?;
                change.outcome = tonic::Code::Unauthenticated;
                change.note(|detail| detail.text("message", WRONG));
                return Ok(Err(Error::unauthenticated(WRONG)));
            };
            let shown = Shown::Password {
                gate: &gate,
                rehashed: checked.rehashed.as_deref(),
            };
            this.admit(change, &account, &asked, &shown)
        };
        let decided = self.write(&by, decide).await;
        drop(gate);
        decided?
    }

    /// Logs an account in that has shown that it is the one. A refusal is committed as well: it counts, and is written down.
    pub(crate) fn admit(
        &self,
        change: &mut Change<'_>,
        account: &Account,
        asked: &Asked,
        shown: &Shown<'_>,
    ) -> Result<Result<LoginResponse, Error>, Error> {
        let service = asked.service.clone();
        change.note(|detail| detail.text("service", &service));
        let admitted = self.judge(change, account, asked, shown)?;
        if let Err(refused) = &admitted {
            change.outcome = refused.code();
            let text = refused.to_string();
            change.note(|detail| detail.text("message", &text));
        }
        Ok(admitted)
    }

    fn judge(
        &self,
        change: &mut Change<'_>,
        account: &Account,
        asked: &Asked,
        shown: &Shown<'_>,
    ) -> Result<Result<LoginResponse, Error>, Error> {
        if let Some(refused) = refused_status(account) {
            return Ok(Err(refused));
        }
        let Some(service) = service::find(change.tx, &asked.service)? else {
            return Ok(Err(Error::not_found("service", &asked.service)));
        };
        let verdict = match self.policy().judge(account, &service) {
            Ok(verdict) => verdict,
            Err(refused) => return Ok(Err(refused)),
        };
        if let Some(refused) = refused_policy(change, &verdict, &service.name) {
            return Ok(Err(refused));
        }
        let (factor, network) = match shown {
            Shown::Passkey { source } => {
                let methods = vec!["pop", "user", "mfa"];
                (Factor::Done(methods), network(*source).to_string())
            }
            Shown::Password { gate, .. } => {
                let factor = self.second_factor(change, account, &asked.code)?;
                (factor, gate.network.clone())
            }
        };
        let methods = match factor {
            Factor::Done(methods) => methods,
            Factor::Needed => {
                // Nobody is logged in yet: of a login there is one row that says so.
                change.outcome = tonic::Code::FailedPrecondition;
                change.note(|detail| detail.flag("second_factor_needed", true));
                return Ok(Ok(needed(account)));
            }
            Factor::Wrong => {
                if let Shown::Password { gate, .. } = shown {
                    gate.failed(self, change)?;
                }
                let text = "the code is wrong, or was used already";
                return Ok(Err(Error::unauthenticated(text)));
            }
        };
        let standing = Standing::of(account, &verdict, methods.contains(&"mfa"));
        if standing.is_restricted() && service.name != SERVICE {
            let what = if standing.enrol {
                "enrol a second factor"
            } else {
                "change the password"
            };
            let text = format!("{what} at {SERVICE} first, then log in here");
            return Ok(Err(Error::precondition(text)));
        }
        if let Shown::Password { gate, rehashed } = shown {
            if let Some(hash) = rehashed {
                let sql = "UPDATE account SET password = ?2 WHERE id = ?1";
                change.tx.execute(sql, [&*account.id, hash])?;
            }
            gate.succeeded(change.tx)?;
        }
        let used = Used {
            account: &account.id,
            network: &network,
            device: &asked.device,
            service: &service.name,
            methods: &methods,
        };
        let new_device = remember(change.tx, &used, change.now)?;
        let session = NewSession {
            account,
            service: &service.name,
            network: &network,
            device: &asked.device,
            methods: &methods,
            restricted: standing.is_restricted(),
        };
        let issued = self.open_session(change, &session)?;
        if session.service == SERVICE {
            oidc::follow(change.tx, &session, &issued.session, change.now)?;
        }
        let (id, name) = (account.id.clone(), account.name.clone());
        change.actor = Some((id, name, account.account_type));
        change.note(|detail| {
            let detail = detail.list("methods", methods.iter().copied());
            detail.flag("new_device", new_device)
        });
        Ok(Ok(LoginResponse {
            token: issued.token,
            expires: Some(issued.expires.into()),
            needed: Vec::new(),
            new_device,
            password_expired: standing.expired,
            enrol_second_factor: standing.enrol,
        }))
    }

    /// Whether the login of whoever asks has shown two factors; one that enrolled its second has.
    async fn has_shown_both(self: &Arc<Self>, by: &By) -> Result<bool, Error> {
        let Some(who) = by.identity.clone() else {
            return Ok(false);
        };
        let read =
            move |db: &Connection| Ok::<_, Error>(find_session(db, &who.account, &who.session)?);
        let session = self.store.read(read).await?;
        Ok(session.is_some_and(|session| session.has_shown_both()))
    }

    /// That whoever asks knows his password, for what a stolen token alone must not do.
    ///
    /// # Errors
    /// If it is another, or too many were.
    pub(crate) async fn confirm(
        self: &Arc<Self>,
        by: impl Into<By>,
        password: String,
    ) -> Result<Account, Error> {
        let by = by.into();
        check_length("password", &password)?;
        let name = by.who()?.name.clone();
        let gate = self.enter(&by, &name).await?;
        let stored = gate.account.as_ref().and_then(|a| a.password.clone());
        let checked = self.passwords.check(password, stored, gate.origin).await?;
        if checked.right
            && let Some(account) = gate.account.clone()
        {
            // A login from before there was a second factor knows no more than the password.
            if account.has_second_factor() && !self.has_shown_both(&by).await? {
                return Err(Error::denied(
                    "this login has shown no second factor, which the account has; log in with it",
                ));
            }
            if gate.had_failures() {
                let forget = move |tx: &Transaction<'_>| Ok::<_, Error>(gate.succeeded(tx)?);
                self.store.write(forget).await?;
            }
            return Ok(account);
        }
        let (this, gate) = (Arc::clone(self), Arc::new(gate));
        let attempt = Arc::clone(&gate);
        let failed = move |change: &mut Change<'_>| {
            let gate = attempt;
            change.resource = name;
            change.outcome = tonic::Code::Unauthenticated;
            change.note(|detail| detail.text("message", "the password is wrong"));
            gate.failed(&this, change)
        };
        let counted = self.write(&by, failed).await;
        drop(gate);
        counted?;
        Err(Error::denied("the password is wrong"))
    }
}

impl Verdict {
    /// Whether this account needs a second factor here.
    pub(crate) fn asks(&self, account: &Account) -> bool {
        self.second_factor || account.second_factor_required
    }
}

/// Refuses what can be nobody's password before it costs anything.
pub(crate) fn check_length(field: &str, password: &str) -> Result<(), Error> {
    if password.is_empty() {
        return Err(Error::invalid(format!("{field}: it is missing")));
    }
    if password.chars().count() > password::MAX_LENGTH {
        return Err(Error::invalid(format!(
            "{field}: {}",
            password::Weak::TooLong
        )));
    }
    Ok(())
}

/// The account as it is now, if the password is its.
fn right(
    change: &mut Change<'_>,
    gate: &Gate,
    checked: &Checked,
) -> Result<Option<Account>, Error> {
    let Some(before) = &gate.account else {
        NOBODY.clone_into(&mut change.resource);
        return Ok(None);
    };
    change.resource.clone_from(&before.name);
    if !checked.right {
        return Ok(None);
    }
    let now = account::by_id(change.tx, &before.id)?;
    Ok(now.filter(|account| account.password == before.password))
}

fn refused_status(account: &Account) -> Option<Error> {
    let why = match account.status {
        Status::Active => return None,
        Status::Disabled => "the account is disabled; ask an administrator",
        Status::Locked => "the account is locked; ask an administrator for a new password",
    };
    Some(Error::denied(why))
}

fn refused_policy(change: &mut Change<'_>, verdict: &Verdict, service: &str) -> Option<Error> {
    let reason = verdict.explanation.decision.reason.to_string();
    change.note(|detail| detail.text("policy", &reason));
    let text = format!("the login policy does not let this account log in to {service}");
    (!verdict.allowed).then(|| Error::denied(text))
}

fn needed(account: &Account) -> LoginResponse {
    let factors = [
        (account.totp, SecondFactor::Totp),
        (account.passkeys > 0, SecondFactor::Passkey),
        (account.recovery_codes > 0, SecondFactor::RecoveryCode),
    ];
    let needed = factors.into_iter().filter(|(has, _)| *has);
    LoginResponse {
        needed: needed.map(|(_, factor)| factor.into()).collect(),
        ..LoginResponse::default()
    }
}
