//! What people do to their own account.

use std::sync::Arc;

use mc_proto::mcias::v1::{
    AcknowledgeDeviceRequest, AcknowledgeDeviceResponse, BeginPasskeyRequest, BeginPasskeyResponse,
    BeginTotpRequest, BeginTotpResponse, ChangePasswordRequest, ChangePasswordResponse,
    ConfirmTotpRequest, ConfirmTotpResponse, Device as DeviceMessage, EndSessionRequest,
    EndSessionResponse, FinishPasskeyRequest, ForgetDeviceRequest, ForgetDeviceResponse,
    GetFactorsRequest, GetFactorsResponse, ListDevicesRequest, ListDevicesResponse,
    ListSessionsRequest, ListSessionsResponse, NewRecoveryCodesRequest, NewRecoveryCodesResponse,
    Passkey, RemovePasskeyRequest, RemovePasskeyResponse, RemoveTotpRequest, RemoveTotpResponse,
    Session as Message, profile_server::Profile,
};
use mcdsl::{auth::Identity, server::Caller};
use rusqlite::Connection;
use tonic::{Request, Response, Status};

use super::Api;
use crate::{
    by::By,
    core::{Change, Mcias},
    device::{self, Device},
    error::Error,
    factors,
    session::{self, Session, find_session, sessions},
    shown,
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
                match session::end(change, &who.account, &asked.id)? {
                    true => Ok(()),
                    false => Err(Error::not_found("login", &asked.id)),
                }
            };
            mcias.write(&caller, write).await?;
            Ok(EndSessionResponse {})
        };
        self.answer(request, end).await
    }

    async fn list_devices(
        &self,
        request: Request<ListDevicesRequest>,
    ) -> Result<Response<ListDevicesResponse>, Status> {
        let list = |mcias: Arc<Mcias>, caller: Caller, _| async move {
            let who = identity(&caller)?.clone();
            let read = move |db: &Connection| {
                let login = login(db, &who)?;
                let may_acknowledge = device::may_answer(db, &who.account, &login)?;
                let devices = device::devices(db, &who.account)?;
                let message = |device| device_message(device, &who.account, &login);
                Ok::<_, Error>(ListDevicesResponse {
                    devices: devices.into_iter().map(message).collect(),
                    may_acknowledge,
                })
            };
            mcias.store.read(read).await
        };
        self.answer(request, list).await
    }

    async fn acknowledge_device(
        &self,
        request: Request<AcknowledgeDeviceRequest>,
    ) -> Result<Response<AcknowledgeDeviceResponse>, Status> {
        let acknowledge = |mcias, caller: Caller, asked: AcknowledgeDeviceRequest| async move {
            about_device(mcias, caller, asked.id, true).await?;
            Ok(AcknowledgeDeviceResponse {})
        };
        self.answer(request, acknowledge).await
    }

    async fn forget_device(
        &self,
        request: Request<ForgetDeviceRequest>,
    ) -> Result<Response<ForgetDeviceResponse>, Status> {
        let forget = |mcias, caller: Caller, asked: ForgetDeviceRequest| async move {
            let ended = about_device(mcias, caller, asked.id, false).await?;
            Ok(ForgetDeviceResponse { ended })
        };
        self.answer(request, forget).await
    }
}

/// The login that somebody asks by.
fn login(db: &Connection, who: &Identity) -> Result<Session, Error> {
    let login = find_session(db, &who.account, &who.session)?;
    login.ok_or_else(|| Error::unauthenticated("the login is over; log in again"))
}

/// What somebody says of a device: that it is his, or that it is not. How many logins that ended.
async fn about_device(
    mcias: Arc<Mcias>,
    caller: Caller,
    id: String,
    mine: bool,
) -> Result<u32, Error> {
    let who = identity(&caller)?.clone();
    let write = move |change: &mut Change<'_>| {
        change.resource.clone_from(&who.name);
        let login = login(change.tx, &who)?;
        let found = device::named(change.tx, &who.account, &id)?;
        change.note(|detail| {
            let detail = detail.text("network", &found.network);
            detail.text("device", &found.device).flag("mine", mine)
        });
        if mine {
            let (network, device) = (&found.network, &found.device);
            device::accept(change.tx, &who.account, &login, network, device)?;
            return Ok(0);
        }
        device::drop_device(change, &who.account, &login, &found)
    };
    mcias.write(&caller, write).await
}

fn device_message(device: Device, account: &str, login: &Session) -> DeviceMessage {
    let new = device.new.is_some();
    DeviceMessage {
        id: device.id(account),
        current: device.is_of(login),
        network: device.network,
        name: shown::device(&device.device),
        last_login: Some(at(device.last).into()),
        new_since: device.new.map(|since| at(since).into()),
        service: if new { device.service } else { String::new() },
        methods: if new { device.methods } else { Vec::new() },
    }
}

fn message(session: Session, current: &str) -> Message {
    Message {
        current: session.id == current,
        id: session.id,
        created: Some(at(session.created).into()),
        used: Some(at(session.used).into()),
        source: session.source,
        device: shown::device(&session.device),
        service: session.service,
        methods: session.methods,
        new_device: session.new_device,
    }
}
