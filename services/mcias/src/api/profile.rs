//! What people do to their own account.

use std::sync::Arc;

use mc_proto::mcias::v1::{
    BeginPasskeyRequest, BeginPasskeyResponse, BeginTotpRequest, BeginTotpResponse,
    ChangePasswordRequest, ChangePasswordResponse, ConfirmTotpRequest, ConfirmTotpResponse,
    EndSessionRequest, EndSessionResponse, FinishPasskeyRequest, GetFactorsRequest,
    GetFactorsResponse, ListSessionsRequest, ListSessionsResponse, NewRecoveryCodesRequest,
    NewRecoveryCodesResponse, Passkey, RemovePasskeyRequest, RemovePasskeyResponse,
    RemoveTotpRequest, RemoveTotpResponse, Session as Message, profile_server::Profile,
};
use mcdsl::server::Caller;
use rusqlite::Connection;
use tonic::{Request, Response, Status};

use super::Api;
use crate::{
    by::By,
    core::{Change, Mcias},
    error::Error,
    factors,
    session::{self, Session, sessions},
    time::at,
    token::identity,
};

#[tonic::async_trait]
impl Profile for Api {
    async fn change_password(
        &self,
        request: Request<ChangePasswordRequest>,
    ) -> Result<Response<ChangePasswordResponse>, Status> {
        let change = |mcias: Arc<Mcias>, caller: Caller, asked| async move {
            factors::change_password(&mcias, &By::from(&caller), asked).await
        };
        self.answer(request, change).await
    }

    async fn get_factors(
        &self,
        request: Request<GetFactorsRequest>,
    ) -> Result<Response<GetFactorsResponse>, Status> {
        let get = |mcias: Arc<Mcias>, caller: Caller, _| async move {
            factors::factors(&mcias, &By::from(&caller)).await
        };
        self.answer(request, get).await
    }

    async fn begin_totp(
        &self,
        request: Request<BeginTotpRequest>,
    ) -> Result<Response<BeginTotpResponse>, Status> {
        let begin = |mcias: Arc<Mcias>, caller: Caller, asked: BeginTotpRequest| async move {
            factors::begin_totp(&mcias, &By::from(&caller), asked.password).await
        };
        self.answer(request, begin).await
    }

    async fn confirm_totp(
        &self,
        request: Request<ConfirmTotpRequest>,
    ) -> Result<Response<ConfirmTotpResponse>, Status> {
        let confirm = |mcias: Arc<Mcias>, caller: Caller, asked: ConfirmTotpRequest| async move {
            factors::confirm_totp(&mcias, &By::from(&caller), asked.code).await?;
            Ok(ConfirmTotpResponse {})
        };
        self.answer(request, confirm).await
    }

    async fn remove_totp(
        &self,
        request: Request<RemoveTotpRequest>,
    ) -> Result<Response<RemoveTotpResponse>, Status> {
        let remove = |mcias: Arc<Mcias>, caller: Caller, asked: RemoveTotpRequest| async move {
            factors::remove_totp(&mcias, &By::from(&caller), asked.password).await?;
            Ok(RemoveTotpResponse {})
        };
        self.answer(request, remove).await
    }

    async fn begin_passkey(
        &self,
        request: Request<BeginPasskeyRequest>,
    ) -> Result<Response<BeginPasskeyResponse>, Status> {
        let begin = |mcias: Arc<Mcias>, caller: Caller, asked: BeginPasskeyRequest| async move {
            mcias
                .begin_passkey(&By::from(&caller), asked.password)
                .await
        };
        self.answer(request, begin).await
    }

    async fn finish_passkey(
        &self,
        request: Request<FinishPasskeyRequest>,
    ) -> Result<Response<Passkey>, Status> {
        let finish = |mcias: Arc<Mcias>, caller: Caller, asked| async move {
            mcias.finish_passkey(&By::from(&caller), asked).await
        };
        self.answer(request, finish).await
    }

    async fn remove_passkey(
        &self,
        request: Request<RemovePasskeyRequest>,
    ) -> Result<Response<RemovePasskeyResponse>, Status> {
        let remove = |mcias: Arc<Mcias>, caller: Caller, asked: RemovePasskeyRequest| async move {
            factors::remove_passkey(&mcias, &By::from(&caller), asked.id, asked.password).await?;
            Ok(RemovePasskeyResponse {})
        };
        self.answer(request, remove).await
    }

    async fn new_recovery_codes(
        &self,
        request: Request<NewRecoveryCodesRequest>,
    ) -> Result<Response<NewRecoveryCodesResponse>, Status> {
        let make = |mcias: Arc<Mcias>, caller: Caller, asked: NewRecoveryCodesRequest| async move {
            let by = By::from(&caller);
            let codes = factors::new_recovery_codes(&mcias, &by, asked.password).await?;
            Ok(NewRecoveryCodesResponse { codes })
        };
        self.answer(request, make).await
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let list = |mcias: Arc<Mcias>, caller: Caller, _| async move {
            let identity = identity(&caller)?.clone();
            let account = identity.account;
            let now = mcias.now();
            let read = move |db: &Connection| Ok::<_, Error>(sessions(db, &account, now)?);
            let sessions = mcias.store.read(read).await?;
            let sessions = sessions
                .into_iter()
                .map(|session| message(session, &identity.session));
            Ok(ListSessionsResponse {
                sessions: sessions.collect(),
            })
        };
        self.answer(request, list).await
    }

    async fn end_session(
        &self,
        request: Request<EndSessionRequest>,
    ) -> Result<Response<EndSessionResponse>, Status> {
        let end = |mcias: Arc<Mcias>, caller: Caller, asked: EndSessionRequest| async move {
            let who = identity(&caller)?.clone();
            let write = move |change: &mut Change<'_>| {
                change.resource.clone_from(&who.name);
                let id: String = asked.id.chars().take(64).collect();
                match session::end(change, &who.account, &id)? {
                    true => Ok(()),
                    false => Err(Error::not_found("login", &id)),
                }
            };
            mcias.write(&caller, write).await?;
            Ok(EndSessionResponse {})
        };
        self.answer(request, end).await
    }
}

fn message(session: Session, current: &str) -> Message {
    Message {
        current: session.id == current,
        id: session.id,
        created: Some(at(session.created).into()),
        used: Some(at(session.used).into()),
        source: session.source,
        device: session.device,
        service: session.service,
        methods: session.methods,
        new_device: session.new_device,
    }
}
