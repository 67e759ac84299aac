//! Logging in, and what others need to know of tokens.

use std::sync::Arc;

use mc_proto::{
    AccountType,
    mcias::v1::{
        BanEvent, BeginPasskeyLoginRequest, BeginPasskeyLoginResponse, CheckAccountRequest,
        CheckAccountResponse, CheckTokenRequest, CheckTokenResponse, FinishPasskeyLoginRequest,
        GetKeysRequest, GetKeysResponse, LoginRequest, LoginResponse, LogoutRequest,
        LogoutResponse, PublicKey, RenewRequest, RevocationEvent, WatchBansRequest,
        WatchRevocationsRequest, WhoAmIRequest, WhoAmIResponse, auth_server::Auth,
    },
};
use mcdsl::{
    auth::{AuthError, Revoked, token::type_name},
    server::Caller,
};
use rusqlite::Connection;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::Api;
use crate::{
    account, bans,
    by::By,
    core::Mcias,
    error::Error,
    revocation,
    session::{self, MARGIN},
    token::identity,
};

#[tonic::async_trait]
impl Auth for Api {
    type WatchRevocationsStream = ReceiverStream<Result<RevocationEvent, Status>>;
    type WatchBansStream = ReceiverStream<Result<BanEvent, Status>>;

    async fn login(
        &self,
        request: Request<LoginRequest>,
    ) -> Result<Response<LoginResponse>, Status> {
        let log_in =
            |mcias: Arc<Mcias>, caller, asked| async move { mcias.log_in(&caller, asked).await };
        self.answer(request, log_in).await
    }

    async fn begin_passkey_login(
        &self,
        request: Request<BeginPasskeyLoginRequest>,
    ) -> Result<Response<BeginPasskeyLoginResponse>, Status> {
        let begin = |mcias: Arc<Mcias>, _, _| async move { mcias.begin_passkey_login() };
        self.answer(request, begin).await
    }

    async fn finish_passkey_login(
        &self,
        request: Request<FinishPasskeyLoginRequest>,
    ) -> Result<Response<LoginResponse>, Status> {
        let finish = |mcias: Arc<Mcias>, caller: Caller, asked| async move {
            mcias.finish_passkey_login(&By::from(&caller), asked).await
        };
        self.answer(request, finish).await
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<LoginResponse>, Status> {
        let renew = |mcias: Arc<Mcias>, caller, _| async move { mcias.renew(&caller).await };
        self.answer(request, renew).await
    }

    async fn logout(
        &self,
        request: Request<LogoutRequest>,
    ) -> Result<Response<LogoutResponse>, Status> {
        self.answer(request, |mcias, caller, _| log_out(mcias, caller))
            .await
    }

    async fn who_am_i(
        &self,
        request: Request<WhoAmIRequest>,
    ) -> Result<Response<WhoAmIResponse>, Status> {
        let whose = |mcias: Arc<Mcias>, caller: Caller, _| async move {
            let identity = identity(&caller)?.clone();
            let standing = mcias.standing(&identity).await?;
            let standing = standing.map(|(_, standing)| standing);
            Ok(WhoAmIResponse {
                account_id: identity.account,
                account: identity.name,
                account_type: type_name(identity.account_type).to_owned(),
                roles: identity.roles,
                tags: identity.tags,
                methods: identity.methods,
                expires: Some(identity.expires.into()),
                password_expired: standing.is_some_and(|s| s.expired),
                enrol_second_factor: standing.is_some_and(|s| s.enrol),
                show_second_factor: standing.is_some_and(|s| s.unshown),
            })
        };
        self.answer(request, whose).await
    }

    async fn get_keys(
        &self,
        request: Request<GetKeysRequest>,
    ) -> Result<Response<GetKeysResponse>, Status> {
        let keys = |mcias: Arc<Mcias>, _, _| async move {
            let keys = mcias.keys().public.clone();
            let keys = keys.into_iter().map(|(kid, key)| PublicKey { kid, key });
            Ok(GetKeysResponse {
                keys: keys.collect(),
                issuer: mcias.issuer.clone(),
            })
        };
        self.answer(request, keys).await
    }

    async fn check_token(
        &self,
        request: Request<CheckTokenRequest>,
    ) -> Result<Response<CheckTokenResponse>, Status> {
        let check = |mcias: Arc<Mcias>, _, asked: CheckTokenRequest| async move {
            match mcias.identify(&asked.token, None) {
                Ok(_) => Ok(CheckTokenResponse { valid: true }),
                Err(AuthError::Invalid(_)) => Ok(CheckTokenResponse { valid: false }),
                Err(AuthError::Unavailable(why)) => Err(Error::unavailable(why)),
            }
        };
        self.answer(request, check).await
    }

    async fn check_account(
        &self,
        request: Request<CheckAccountRequest>,
    ) -> Result<Response<CheckAccountResponse>, Status> {
        let check = |mcias: Arc<Mcias>, _, asked: CheckAccountRequest| async move {
            let read = move |db: &Connection| -> Result<_, Error> {
                Ok(match (&*asked.account_id, &*asked.name) {
                    ("", name) => account::by_name(db, name)?,
                    (id, "") => account::by_id(db, id)?,
                    _ => return Err(Error::invalid("account_id, name: say one of both")),
                })
            };
            let found = mcias.store.read(read).await?;
            Ok(CheckAccountResponse {
                active: found
                    .as_ref()
                    .is_some_and(|account| account.status == account::Status::Active),
                account_id: found.map(|account| account.id).unwrap_or_default(),
            })
        };
        self.answer(request, check).await
    }

    async fn watch_revocations(
        &self,
        request: Request<WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        let (mcias, caller) = (&self.0, Caller::of(&request)?);
        let account = &caller.identity()?.account;
        let all = |state: &revocation::State| state.revocations.iter().collect();
        let stop = mcias.shutdown.token().child_token();
        let tasks = mcias.shutdown.tracker();
        let stream = mcias
            .revocations
            .watch(account, all, revocation::messages(), tasks, stop)?;
        Ok(Response::new(stream))
    }

    async fn watch_bans(
        &self,
        request: Request<WatchBansRequest>,
    ) -> Result<Response<Self::WatchBansStream>, Status> {
        let (mcias, caller) = (&self.0, Caller::of(&request)?);
        let account = &caller.identity()?.account;
        let now = mcias.now();
        let all = |state: &bans::State| {
            let bans = state.values().filter(|ban| ban.until > now);
            bans.copied().map(bans::Told::Ban).collect()
        };
        let stop = mcias.shutdown.token().child_token();
        let tasks = mcias.shutdown.tracker();
        let stream = mcias
            .bans
            .watch(account, all, bans::messages(), tasks, stop)?;
        Ok(Response::new(stream))
    }
}

async fn log_out(mcias: Arc<Mcias>, caller: Caller) -> Result<LogoutResponse, Error> {
    let identity = identity(&caller)?.clone();
    mcias
        .write(&caller, move |change| {
            change.resource.clone_from(&identity.name);
            let until = identity.expires + MARGIN;
            if identity.account_type == AccountType::System {
                let sql = "UPDATE token SET revoked = 1 WHERE id = ?1";
                change.tx.execute(sql, [&identity.token])?;
                return change.revoke(Revoked::Token(identity.token.clone()), until, until);
            }
            match session::end(change, &identity.account, &identity.session)? {
                true => Ok(()),
                false => change.revoke(Revoked::Session(identity.session.clone()), until, until),
            }
        })
        .await?;
    Ok(LogoutResponse {})
}
