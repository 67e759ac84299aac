//! Accounts, and what only administrators do to them.

use std::{sync::Arc, time::SystemTime};

use mc_proto::{
    AccountType,
    mcias::v1::{
        Account as Message, AccountStatus, AccountType as MessageType, ClearFailedLoginsRequest,
        ClearFailedLoginsResponse, ClearSecondFactorsRequest, ClearSecondFactorsResponse,
        CreateAccountRequest, CreateAccountResponse, DeleteAccountRequest, DeleteAccountResponse,
        FailedLogins, GetAccountRequest, IssueTokenRequest, IssueTokenResponse,
        ListAccountsRequest, ListAccountsResponse, ListTokensRequest, ListTokensResponse, Names,
        ResetPasswordRequest, ResetPasswordResponse, RevokeRequest, RevokeResponse,
        RotateTokenRequest, Token as TokenMessage, UpdateAccountRequest, UpdateAccountResponse,
        accounts_server::Accounts, revoke_request::What,
    },
};
use mcdsl::server::Caller;
use tonic::{Request, Response, Status as GrpcStatus};

use super::{Api, page};
use crate::{
    account::{
        self, Account, Find, Status,
        change::{NewAccount, Update},
        contact::Contact,
        tokens::{self, NewToken, Token},
    },
    by::By,
    core::Mcias,
    error::Error,
    gate::{self, Failures},
    token::Issued,
};

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
            let now = mcias.now();
            let read = move |db: &rusqlite::Connection| {
                let account = account::named(db, &asked.name)?;
                let failed = gate::failures(db, &account.name, now)?;
                Ok::<_, Error>((account, failed))
            };
            let (account, failed) = mcias.store.read(read).await?;
            Ok(Message {
                failed_logins: failed.into_iter().map(failed_logins).collect(),
                ..message(account)
            })
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
    ) -> Result<Response<UpdateAccountResponse>, GrpcStatus> {
        self.answer(request, update).await
    }

    async fn delete_account(
        &self,
        request: Request<DeleteAccountRequest>,
    ) -> Result<Response<DeleteAccountResponse>, GrpcStatus> {
        let delete = |mcias: Arc<Mcias>, caller: Caller, asked: DeleteAccountRequest| async move {
            mcias.delete_account(&By::from(&caller), asked.name).await?;
            Ok(DeleteAccountResponse {})
        };
        self.answer(request, delete).await
    }

    async fn reset_password(
        &self,
        request: Request<ResetPasswordRequest>,
    ) -> Result<Response<ResetPasswordResponse>, GrpcStatus> {
        let reset = |mcias: Arc<Mcias>, caller: Caller, asked: ResetPasswordRequest| async move {
            let password = mcias.reset_password(&By::from(&caller), asked.name).await?;
            Ok(ResetPasswordResponse { password })
        };
        self.answer(request, reset).await
    }

    async fn clear_second_factors(
        &self,
        request: Request<ClearSecondFactorsRequest>,
    ) -> Result<Response<ClearSecondFactorsResponse>, GrpcStatus> {
        let clear = |mcias: Arc<Mcias>, caller: Caller, asked: ClearSecondFactorsRequest| async move {
            let by = By::from(&caller);
            mcias.clear_second_factors(&by, asked.name).await?;
            Ok(ClearSecondFactorsResponse {})
        };
        self.answer(request, clear).await
    }

    async fn clear_failed_logins(
        &self,
        request: Request<ClearFailedLoginsRequest>,
    ) -> Result<Response<ClearFailedLoginsResponse>, GrpcStatus> {
        let clear = |mcias: Arc<Mcias>, caller: Caller, asked: ClearFailedLoginsRequest| async move {
            let by = By::from(&caller);
            let failures = mcias.clear_failed_logins(&by, asked.name).await?;
            Ok(ClearFailedLoginsResponse { failures })
        };
        self.answer(request, clear).await
    }

    async fn issue_token(
        &self,
        request: Request<IssueTokenRequest>,
    ) -> Result<Response<IssueTokenResponse>, GrpcStatus> {
        let issue = |mcias: Arc<Mcias>, caller: Caller, asked: IssueTokenRequest| async move {
            let asked = NewToken {
                name: asked.name,
                services: asked.services,
                days: asked.days,
                comment: asked.comment,
            };
            Ok(answer(mcias.issue_token(&By::from(&caller), asked).await?))
        };
        self.answer(request, issue).await
    }

    async fn rotate_token(
        &self,
        request: Request<RotateTokenRequest>,
    ) -> Result<Response<IssueTokenResponse>, GrpcStatus> {
        let rotate = |mcias: Arc<Mcias>, caller: Caller, asked: RotateTokenRequest| async move {
            let by = By::from(&caller);
            Ok(answer(mcias.rotate_token(&by, asked.name, asked.id).await?))
        };
        self.answer(request, rotate).await
    }

    async fn list_tokens(
        &self,
        request: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensResponse>, GrpcStatus> {
        let list = |mcias: Arc<Mcias>, _, asked: ListTokensRequest| async move {
            let read = move |db: &rusqlite::Connection| {
                let account = account::named(db, &asked.name)?;
                Ok::<_, Error>(tokens::list(db, &account.id)?)
            };
            let tokens = mcias.store.read(read).await?;
            let tokens = tokens.into_iter().map(token).collect();
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
    let find = Find {
        account_type: match asked.account_type() {
            MessageType::Unspecified => None,
            MessageType::Human => Some(AccountType::Human),
            MessageType::System => Some(AccountType::System),
        },
        limit: page(asked.limit),
        prefix: asked.prefix,
        after: asked.after,
        ..Find::default()
    };
    let read = move |db: &rusqlite::Connection| Ok::<_, Error>(account::list(db, &find)?);
    let (found, more) = mcias.store.read(read).await?;
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
    let account_type = match asked.account_type() {
        MessageType::Human => AccountType::Human,
        MessageType::System => AccountType::System,
        MessageType::Unspecified => {
            let text = "account_type: ACCOUNT_TYPE_HUMAN or ACCOUNT_TYPE_SYSTEM has to be said";
            return Err(Error::invalid(text));
        }
    };
    let asked = NewAccount {
        name: asked.name,
        contact: Contact {
            display_name: Some(asked.display_name),
            email: Some(asked.email),
        },
        account_type,
        roles: asked.roles,
        tags: asked.tags,
        second_factor_required: asked.second_factor_required,
        password: asked.password,
    };
    let (made, password) = mcias.create_account(&By::from(&caller), asked).await?;
    Ok(CreateAccountResponse {
        account: Some(message(made)),
        password: password.unwrap_or_default(),
    })
}

async fn update(
    mcias: Arc<Mcias>,
    caller: Caller,
    asked: UpdateAccountRequest,
) -> Result<UpdateAccountResponse, Error> {
    let names = |names: Option<Names>| names.map(|names| names.names);
    let asked = Update {
        status: match asked.status() {
            AccountStatus::Unspecified => None,
            AccountStatus::Active => Some(Status::Active),
            AccountStatus::Disabled => Some(Status::Disabled),
            AccountStatus::Locked => Some(Status::Locked),
        },
        name: asked.name,
        contact: Contact {
            display_name: asked.display_name,
            email: asked.email,
        },
        roles: names(asked.roles),
        tags: names(asked.tags),
        second_factor_required: asked.second_factor_required,
    };
    let by = By::from(&caller);
    let (account, ended_logins) = mcias.update_account(&by, asked).await?;
    Ok(UpdateAccountResponse {
        account: Some(message(account)),
        ended_logins,
    })
}

async fn revoke(
    mcias: Arc<Mcias>,
    caller: Caller,
    asked: RevokeRequest,
) -> Result<RevokeResponse, Error> {
    let what = asked
        .what
        .ok_or_else(|| Error::invalid("what: token, account or everything has to be said"))?;
    let until = asked.issued_until.map(SystemTime::try_from).transpose();
    let until = until.map_err(|_| Error::invalid("issued_until: it is no time"))?;
    let by = By::from(&caller);
    match what {
        What::Token(_) if until.is_some() => {
            return Err(Error::invalid(
                "issued_until: of an account or everything; a token is revoked as a whole",
            ));
        }
        What::Token(id) => mcias.revoke_token(&by, id).await?,
        What::Account(name) => mcias.end_logins(&by, name, until).await?,
        What::Everything(true) => mcias.revoke_all(&by, until).await?,
        What::Everything(false) => {
            return Err(Error::invalid("everything: true, or something else"));
        }
    }
    Ok(RevokeResponse {})
}

fn answer(issued: Issued) -> IssueTokenResponse {
    IssueTokenResponse {
        token: issued.token,
        id: issued.id,
        expires: Some(issued.expires.into()),
    }
}

fn token(token: Token) -> TokenMessage {
    TokenMessage {
        id: token.id,
        issued: Some(token.issued.into()),
        expires: Some(token.expires.into()),
        services: token.services,
        comment: token.comment,
        revoked: token.revoked,
    }
}

/// As clients read it.
fn message(account: Account) -> Message {
    let account_type = match account.account_type {
        AccountType::Human => MessageType::Human,
        AccountType::System => MessageType::System,
    };
    let status = match account.status {
        Status::Active => AccountStatus::Active,
        Status::Disabled => AccountStatus::Disabled,
        Status::Locked => AccountStatus::Locked,
    };
    Message {
        id: account.id,
        name: account.name,
        account_type: account_type.into(),
        status: status.into(),
        roles: account.roles,
        tags: account.tags,
        second_factor_required: account.second_factor_required,
        created: Some(account.created.into()),
        last_login: account.last_login.map(Into::into),
        has_totp: account.totp,
        passkeys: account.passkeys,
        recovery_codes: account.recovery_codes,
        display_name: account.display_name,
        email: account.email,
        failed_logins: Vec::new(),
    }
}

fn failed_logins(failed: Failures) -> FailedLogins {
    FailedLogins {
        network: failed.network.unwrap_or_default(),
        failures: failed.failures,
        last: Some(failed.last.into()),
        closed_until: failed.closed_until.map(Into::into),
    }
}
