//! Accounts, and what only administrators do to them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use mc_proto::{
    AccountType,
    mcias::v1::{
        Account as Message, AccountKind, AccountStatus, ClearSecondFactorsRequest,
        ClearSecondFactorsResponse, CreateAccountRequest, CreateAccountResponse,
        DeleteAccountRequest, DeleteAccountResponse, GetAccountRequest, IssueTokenRequest,
        IssueTokenResponse, ListAccountsRequest, ListAccountsResponse, ListTokensRequest,
        ListTokensResponse, Names, ResetPasswordRequest, ResetPasswordResponse, RevokeRequest,
        RevokeResponse, RotateTokenRequest, Token, UpdateAccountRequest, accounts_server::Accounts,
        revoke_request::What,
    },
};
use mcdsl::{auth::Revoked, server::Caller};
use rusqlite::{OptionalExtension as _, Row, params};
use tonic::{Request, Response, Status as GrpcStatus};

use super::{Api, page};
use crate::{
    SERVICE,
    account::{self, Account, MAX_TAGS, New, Status, json},
    core::{Change, LIFETIME, Mcias},
    error::Error,
    gate,
    name::{AccountName, Role, Tag},
    password::new_password,
    policy,
    service::{self, MAX_COMMENT},
    time::{at, unix},
    token::Issued,
};

/// Days that a system account's token lives, if nothing is said.
const DAYS: u32 = 365;
/// Days at most.
const MAX_DAYS: u32 = 3650;
/// Tokens of an account that are valid at once.
const MAX_TOKENS: i64 = 100;
/// Services that one token is for.
const MAX_SERVICES: usize = 32;

#[tonic::async_trait]
impl Accounts for Api {
    async fn list_accounts(
        &self,
        request: Request<ListAccountsRequest>,
    ) -> Result<Response<ListAccountsResponse>, GrpcStatus> {
        self.answer(request, |mcias, _, asked| list(mcias, asked))
            .await
    }

    async fn get_account(
        &self,
        request: Request<GetAccountRequest>,
    ) -> Result<Response<Message>, GrpcStatus> {
        let get = |mcias: Arc<Mcias>, _, asked: GetAccountRequest| async move {
            let read = move |db: &rusqlite::Connection| account::named(db, &asked.name);
            Ok(message(mcias.store.read(read).await?))
        };
        self.answer(request, get).await
    }

    async fn create_account(
        &self,
        request: Request<CreateAccountRequest>,
    ) -> Result<Response<CreateAccountResponse>, GrpcStatus> {
        self.answer(request, create).await
    }

    async fn update_account(
        &self,
        request: Request<UpdateAccountRequest>,
    ) -> Result<Response<Message>, GrpcStatus> {
        self.answer(request, update).await
    }

    async fn delete_account(
        &self,
        request: Request<DeleteAccountRequest>,
    ) -> Result<Response<DeleteAccountResponse>, GrpcStatus> {
        let delete = |mcias: Arc<Mcias>, caller, asked: DeleteAccountRequest| async move {
            let delete = move |change: &mut Change<'_>| {
                let account = about(change, &asked.name)?;
                change.revoke_account(&account.id)?;
                let sql = "DELETE FROM account WHERE id = ?1";
                change.tx.execute(sql, [&account.id])?;
                policy::check_admin_left(change.tx)
            };
            mcias.write(&caller, delete).await?;
            Ok(DeleteAccountResponse {})
        };
        self.answer(request, delete).await
    }

    async fn reset_password(
        &self,
        request: Request<ResetPasswordRequest>,
    ) -> Result<Response<ResetPasswordResponse>, GrpcStatus> {
        let reset = |mcias: Arc<Mcias>, caller, asked: ResetPasswordRequest| async move {
            let password = new_password()?;
            let hash = mcias.passwords.hash(password.clone()).await?;
            let write = move |change: &mut Change<'_>| {
                let account = person(about(change, &asked.name)?)?;
                account::set_password(change.tx, &account.id, &hash, true, change.now)?;
                gate::open(change.tx, &account.name)?;
                change.revoke_account(&account.id)
            };
            mcias.write(&caller, write).await?;
            Ok(ResetPasswordResponse { password })
        };
        self.answer(request, reset).await
    }

    async fn clear_second_factors(
        &self,
        request: Request<ClearSecondFactorsRequest>,
    ) -> Result<Response<ClearSecondFactorsResponse>, GrpcStatus> {
        let clear = |mcias: Arc<Mcias>, caller, asked: ClearSecondFactorsRequest| async move {
            let write = move |change: &mut Change<'_>| {
                let account = person(about(change, &asked.name)?)?;
                account::remove_factors(change.tx, &account.id)?;
                policy::check_admin_left(change.tx)?;
                change.revoke_account(&account.id)
            };
            mcias.write(&caller, write).await?;
            Ok(ClearSecondFactorsResponse {})
        };
        self.answer(request, clear).await
    }

    async fn issue_token(
        &self,
        request: Request<IssueTokenRequest>,
    ) -> Result<Response<IssueTokenResponse>, GrpcStatus> {
        self.answer(request, issue).await
    }

    async fn rotate_token(
        &self,
        request: Request<RotateTokenRequest>,
    ) -> Result<Response<IssueTokenResponse>, GrpcStatus> {
        self.answer(request, rotate).await
    }

    async fn list_tokens(
        &self,
        request: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensResponse>, GrpcStatus> {
        let list = |mcias: Arc<Mcias>, _, asked: ListTokensRequest| async move {
            let read = move |db: &rusqlite::Connection| {
                let account = account::named(db, &asked.name)?;
                let sql = "SELECT id, issued_s, expires_s, services, comment, revoked FROM token WHERE account = ?1
                    ORDER BY issued_s DESC, id";
                let mut tokens = db.prepare_cached(sql)?;
                let tokens = tokens.query_map([account.id], token)?;
                Ok::<_, Error>(tokens.collect::<Result<Vec<_>, _>>()?)
            };
            let tokens = mcias.store.read(read).await?;
            Ok(ListTokensResponse { tokens })
        };
        self.answer(request, list).await
    }

    async fn revoke(
        &self,
        request: Request<RevokeRequest>,
    ) -> Result<Response<RevokeResponse>, GrpcStatus> {
        self.answer(request, revoke).await
    }
}

async fn list(
    mcias: Arc<Mcias>,
    asked: ListAccountsRequest,
) -> Result<ListAccountsResponse, Error> {
    let limit = page(asked.limit);
    let kind = match asked.kind() {
        AccountKind::Unspecified => None,
        AccountKind::Human => Some(AccountType::Human),
        AccountKind::System => Some(AccountType::System),
    };
    let read = move |db: &rusqlite::Connection| {
        // One more tells whether there are more.
        let found = account::list(db, &asked.prefix, kind, &asked.after, limit + 1)?;
        Ok::<_, Error>(found)
    };
    let mut found = mcias.store.read(read).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().map(|account| account.name.clone());
    Ok(ListAccountsResponse {
        accounts: found.into_iter().map(message).collect(),
        next: last.filter(|_| more).unwrap_or_default(),
    })
}

async fn create(
    mcias: Arc<Mcias>,
    caller: Caller,
    asked: CreateAccountRequest,
) -> Result<CreateAccountResponse, Error> {
    let account_type = match asked.kind() {
        AccountKind::Human => AccountType::Human,
        AccountKind::System => AccountType::System,
        AccountKind::Unspecified => {
            let text = "kind: ACCOUNT_KIND_HUMAN or ACCOUNT_KIND_SYSTEM has to be said";
            return Err(Error::invalid(text));
        }
    };
    let name: AccountName = asked.name.parse()?;
    let roles = roles(&asked.roles)?;
    let tags = tags(&asked.tags)?;
    let human = account_type == AccountType::Human;
    if !human && (!asked.password.is_empty() || asked.second_factor_required) {
        return Err(Error::invalid(
            "a system account has neither a password nor second factors; issue it a token",
        ));
    }
    let generated = match (human, asked.password.is_empty()) {
        (true, true) => Some(new_password()?),
        _ => None,
    };
    let hash = if let Some(password) = &generated {
        Some((mcias.passwords.hash(password.clone()).await?, true))
    } else if human {
        mcias.check_strength(&asked.password, name.as_str()).await?;
        Some((mcias.passwords.hash(asked.password).await?, false))
    } else {
        None
    };
    let second_factor_required = asked.second_factor_required;
    let write = move |change: &mut Change<'_>| {
        name.as_str().clone_into(&mut change.resource);
        change.note(|detail| detail.list("roles", roles.iter().map(|role| role.as_str())));
        let new = New {
            name: &name,
            account_type,
            roles: &roles,
            tags: &tags,
            second_factor_required,
            password: hash.as_ref().map(|(hash, expired)| (&**hash, *expired)),
        };
        account::create(change.tx, &new, change.now)
    };
    let made = mcias.write(&caller, write).await?;
    Ok(CreateAccountResponse {
        account: Some(message(made)),
        password: generated.unwrap_or_default(),
    })
}

async fn update(
    mcias: Arc<Mcias>,
    caller: Caller,
    asked: UpdateAccountRequest,
) -> Result<Message, Error> {
    let status = match asked.status() {
        AccountStatus::Unspecified => None,
        AccountStatus::Active => Some(Status::Active),
        AccountStatus::Disabled => Some(Status::Disabled),
        AccountStatus::Locked => Some(Status::Locked),
    };
    let names = |names: &Option<Names>| names.as_ref().map(|names| names.names.clone());
    let new_roles = names(&asked.roles).as_deref().map(roles).transpose()?;
    let new_tags = names(&asked.tags).as_deref().map(tags).transpose()?;
    let write = move |change: &mut Change<'_>| {
        let before = about(change, &asked.name)?;
        let (tx, id) = (change.tx, &before.id);
        if let Some(status) = status {
            let sql = "UPDATE account SET status = ?2 WHERE id = ?1";
            tx.execute(sql, [id, status.as_str()])?;
            change.note(|detail| detail.text("status", status.as_str()));
        }
        if let Some(roles) = &new_roles {
            account::set_roles(tx, id, roles)?;
            change.note(|detail| detail.list("roles", roles.iter().map(|role| role.as_str())));
        }
        if let Some(tags) = &new_tags {
            account::set_tags(tx, id, tags)?;
            change.note(|detail| detail.list("tags", tags.iter().map(Tag::as_str)));
        }
        if let Some(required) = asked.second_factor_required {
            if !before.is_human() {
                return Err(Error::invalid(
                    "second_factor_required: a system account has none",
                ));
            }
            let sql = "UPDATE account SET second_factor_required = ?2 WHERE id = ?1";
            tx.execute(sql, params![id, required])?;
            change.note(|detail| detail.flag("second_factor_required", required));
        }
        policy::check_admin_left(tx)?;
        let after = account::by_id(tx, id)?.ok_or(Error::Internal("an account is gone"))?;
        // A token says what its account was: one that says too much is valid no more. Tags may deny, so that any change of them counts.
        let lost = before.roles.iter().any(|role| !after.roles.contains(role));
        let asks_more = after.second_factor_required && !before.second_factor_required;
        if after.status != Status::Active || lost || asks_more || before.tags != after.tags {
            change.revoke_account(&before.id)?;
        }
        Ok(after)
    };
    Ok(message(mcias.write(&caller, write).await?))
}

async fn issue(
    mcias: Arc<Mcias>,
    caller: Caller,
    asked: IssueTokenRequest,
) -> Result<IssueTokenResponse, Error> {
    let days = if asked.days == 0 { DAYS } else { asked.days };
    if days > MAX_DAYS {
        return Err(Error::invalid(format!("days: more than {MAX_DAYS}")));
    }
    if asked.comment.len() > MAX_COMMENT {
        return Err(Error::invalid(format!(
            "comment: longer than {MAX_COMMENT} bytes"
        )));
    }
    if asked.services.len() > MAX_SERVICES {
        return Err(Error::invalid(format!(
            "services: more than {MAX_SERVICES}"
        )));
    }
    let lifetime = Duration::from_secs(u64::from(days) * 24 * 3600);
    let this = Arc::clone(&mcias);
    let write = move |change: &mut Change<'_>| {
        let account = system(about(change, &asked.name)?)?;
        let mut services = asked.services;
        if services.is_empty() {
            services.push(SERVICE.to_owned());
        }
        for name in &services {
            service::named(change.tx, name)?;
        }
        let sql =
            "SELECT count(*) FROM token WHERE account = ?1 AND NOT revoked AND expires_s > ?2";
        let values = params![account.id, unix(change.now)];
        let count: i64 = change.tx.query_row(sql, values, |row| row.get(0))?;
        if count >= MAX_TOKENS {
            return Err(Error::precondition(format!(
                "{} has {MAX_TOKENS} tokens; revoke those that are not used",
                account.name
            )));
        }
        note_token(change, &services, days);
        this.issue_system(change, &account, &services, lifetime, &asked.comment)
    };
    Ok(answer(mcias.write(&caller, write).await?))
}

async fn rotate(
    mcias: Arc<Mcias>,
    caller: Caller,
    asked: RotateTokenRequest,
) -> Result<IssueTokenResponse, Error> {
    let this = Arc::clone(&mcias);
    let write = move |change: &mut Change<'_>| {
        let account = system(about(change, &asked.name)?)?;
        let sql = "SELECT id, issued_s, expires_s, services, comment, revoked FROM token
            WHERE account = ?1 AND id = ?2 AND expires_s > ?3";
        let values = params![account.id, asked.id, unix(change.now)];
        let old = change.tx.query_row(sql, values, token).optional()?;
        let id: String = asked.id.chars().take(64).collect();
        let old = old.ok_or_else(|| Error::not_found("valid token", &id))?;
        if old.revoked {
            return Err(Error::precondition("the token is revoked; issue a new one"));
        }
        let whole = |time: Option<prost_types::Timestamp>| time.map_or(0, |time| time.seconds);
        let seconds = whole(old.expires) - whole(old.issued);
        let lifetime = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        for name in &old.services {
            service::named(change.tx, name)?;
        }
        revoke_token(change, &account.id, &old.id)?;
        this.issue_system(change, &account, &old.services, lifetime, &old.comment)
    };
    Ok(answer(mcias.write(&caller, write).await?))
}

async fn revoke(
    mcias: Arc<Mcias>,
    caller: Caller,
    asked: RevokeRequest,
) -> Result<RevokeResponse, Error> {
    let what = asked
        .what
        .ok_or_else(|| Error::invalid("what: token, account or everything has to be said"))?;
    let write = move |change: &mut Change<'_>| match what {
        What::Token(id) => {
            change.resource = id.chars().take(64).collect();
            let sql = "SELECT account FROM token WHERE id = ?1 AND expires_s > ?2";
            let values = params![id, unix(change.now)];
            let account: Option<String> = change
                .tx
                .query_row(sql, values, |row| row.get(0))
                .optional()?;
            let account = account.ok_or_else(|| {
                Error::not_found("valid token of a system account", &change.resource)
            })?;
            revoke_token(change, &account, &id)
        }
        What::Account(name) => {
            let account = about(change, &name)?;
            change.revoke_account(&account.id)
        }
        What::Everything(true) => {
            "everything".clone_into(&mut change.resource);
            change.revoke_everything()
        }
        What::Everything(false) => Err(Error::invalid("everything: true, or something else")),
    };
    mcias.write(&caller, write).await?;
    Ok(RevokeResponse {})
}

fn revoke_token(change: &mut Change<'_>, account: &str, id: &str) -> Result<(), Error> {
    let sql = "UPDATE token SET revoked = 1 WHERE id = ?1 AND account = ?2 RETURNING expires_s";
    let expires = change.tx.query_row(sql, [id, account], |row| row.get(0));
    let end = at(expires?) + LIFETIME;
    change.revoke(Revoked::Token(id.to_owned()), end, end)
}

/// The account that a change is about.
fn about(change: &mut Change<'_>, name: &str) -> Result<Account, Error> {
    let account = account::named(change.tx, name)?;
    change.resource.clone_from(&account.name);
    Ok(account)
}

fn person(account: Account) -> Result<Account, Error> {
    if account.is_human() {
        return Ok(account);
    }
    let name = account.name;
    Err(Error::precondition(format!(
        "{name} is a system account: it has neither a password nor second factors"
    )))
}

/// A system account that may have tokens.
fn system(account: Account) -> Result<Account, Error> {
    let name = &account.name;
    if account.is_human() {
        return Err(Error::precondition(format!(
            "{name} is a person's account: people get their tokens by logging in"
        )));
    }
    if account.status != Status::Active {
        return Err(Error::precondition(format!(
            "{name} is {}; make it active first",
            account.status.as_str()
        )));
    }
    Ok(account)
}

fn roles(names: &[String]) -> Result<Vec<Role>, Error> {
    Ok(names
        .iter()
        .map(|name| name.parse())
        .collect::<Result<_, _>>()?)
}

fn tags(names: &[String]) -> Result<Vec<Tag>, Error> {
    if names.len() > MAX_TAGS {
        return Err(Error::invalid(format!("tags: more than {MAX_TAGS}")));
    }
    Ok(names
        .iter()
        .map(|name| name.parse())
        .collect::<Result<_, _>>()?)
}

fn note_token(change: &mut Change<'_>, services: &[String], days: u32) {
    change.note(|detail| {
        let detail = detail.list("services", services.iter().map(String::as_str));
        detail.number("days", i64::from(days))
    });
}

fn answer(issued: Issued) -> IssueTokenResponse {
    IssueTokenResponse {
        token: issued.token,
        id: issued.id,
        expires: Some(issued.expires.into()),
    }
}

fn token(row: &Row<'_>) -> rusqlite::Result<Token> {
    let time = |column| Ok::<SystemTime, rusqlite::Error>(at(row.get(column)?));
    Ok(Token {
        id: row.get(0)?,
        issued: Some(time(1)?.into()),
        expires: Some(time(2)?.into()),
        services: json(row, 3)?,
        comment: row.get(4)?,
        revoked: row.get(5)?,
    })
}

/// As clients read it.
fn message(account: Account) -> Message {
    let kind = match account.account_type {
        AccountType::Human => AccountKind::Human,
        AccountType::System => AccountKind::System,
    };
    let status = match account.status {
        Status::Active => AccountStatus::Active,
        Status::Disabled => AccountStatus::Disabled,
        Status::Locked => AccountStatus::Locked,
    };
    Message {
        id: account.id,
        name: account.name,
        kind: kind.into(),
        status: status.into(),
        roles: account.roles,
        tags: account.tags,
        second_factor_required: account.second_factor_required,
        created: Some(account.created.into()),
        last_login: account.last_login.map(Into::into),
        has_totp: account.totp,
        passkeys: account.passkeys,
        recovery_codes: account.recovery_codes,
    }
}
