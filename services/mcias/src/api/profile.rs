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
use rusqlite::{Connection, OptionalExtension as _, params};
use tonic::{Request, Response, Status};

use super::Api;
use crate::{
    account::{self, Account, Status as AccountStatus},
    by::By,
    core::{Change, Mcias},
    error::Error,
    login::{check_length, recovery_hash, totp_name},
    passkey, policy, random,
    session::{Session, end_others, end_session, find_session, has_shown, sessions},
    time::{at, unix},
    token::identity,
    totp::Shared,
};

/// Recovery codes that are given at once.
const RECOVERY_CODES: usize = 10;
/// What apps show beside the account's name.
const ISSUER: &str = "Metacircular";

#[tonic::async_trait]
impl Profile for Api {
    async fn change_password(
        &self,
        request: Request<ChangePasswordRequest>,
    ) -> Result<Response<ChangePasswordResponse>, Status> {
        let change = |mcias: Arc<Mcias>, caller: Caller, asked| async move {
            change_password(&mcias, &(&caller).into(), asked).await
        };
        self.answer(request, change).await
    }

    async fn get_factors(
        &self,
        request: Request<GetFactorsRequest>,
    ) -> Result<Response<GetFactorsResponse>, Status> {
        let get = |mcias: Arc<Mcias>, caller: Caller, _| async move {
            let id = identity(&caller)?.account.clone();
            let read =
                move |db: &Connection| Ok::<_, Error>((own(db, &id)?, passkey::list(db, &id)?));
            let (account, passkeys) = mcias.store.read(read).await?;
            Ok(GetFactorsResponse {
                totp: account.totp,
                passkeys,
                recovery_codes: account.recovery_codes,
                password_changed: account.password_changed.map(Into::into),
            })
        };
        self.answer(request, get).await
    }

    async fn begin_totp(
        &self,
        request: Request<BeginTotpRequest>,
    ) -> Result<Response<BeginTotpResponse>, Status> {
        self.answer(request, begin_totp).await
    }

    async fn confirm_totp(
        &self,
        request: Request<ConfirmTotpRequest>,
    ) -> Result<Response<ConfirmTotpResponse>, Status> {
        self.answer(request, confirm_totp).await
    }

    async fn remove_totp(
        &self,
        request: Request<RemoveTotpRequest>,
    ) -> Result<Response<RemoveTotpResponse>, Status> {
        let remove = |mcias: Arc<Mcias>, caller: Caller, asked: RemoveTotpRequest| async move {
            let account = mcias.confirm(&caller, asked.password).await?;
            let own = identity(&caller)?.session.clone();
            let write = move |change: &mut Change<'_>| {
                change.resource.clone_from(&account.name);
                // Who was logged in by what is taken away is not any more.
                end_others(change, &account.id, &own)?;
                let sql = "DELETE FROM totp WHERE account = ?1 AND confirmed";
                match change.tx.execute(sql, [&account.id])? {
                    0 => Err(Error::precondition(
                        "there is no authenticator app to remove",
                    )),
                    _ => forget_recovery_codes(change, &account.id),
                }
            };
            mcias.write(&caller, write).await?;
            Ok(RemoveTotpResponse {})
        };
        self.answer(request, remove).await
    }

    async fn begin_passkey(
        &self,
        request: Request<BeginPasskeyRequest>,
    ) -> Result<Response<BeginPasskeyResponse>, Status> {
        let begin = |mcias: Arc<Mcias>, caller, asked: BeginPasskeyRequest| async move {
            mcias.begin_passkey(&caller, asked.password).await
        };
        self.answer(request, begin).await
    }

    async fn finish_passkey(
        &self,
        request: Request<FinishPasskeyRequest>,
    ) -> Result<Response<Passkey>, Status> {
        let finish = |mcias: Arc<Mcias>, caller, asked| async move {
            mcias.finish_passkey(&caller, asked).await
        };
        self.answer(request, finish).await
    }

    async fn remove_passkey(
        &self,
        request: Request<RemovePasskeyRequest>,
    ) -> Result<Response<RemovePasskeyResponse>, Status> {
        let remove = |mcias: Arc<Mcias>, caller: Caller, asked: RemovePasskeyRequest| async move {
            let account = mcias.confirm(&caller, asked.password).await?;
            let own = identity(&caller)?.session.clone();
            let write = move |change: &mut Change<'_>| {
                change.resource.clone_from(&account.name);
                // Who was logged in by what is taken away is not any more.
                end_others(change, &account.id, &own)?;
                let sql = "DELETE FROM passkey WHERE account = ?1 AND id = ?2";
                match change.tx.execute(sql, [&account.id, &asked.id])? {
                    0 => {
                        let id: String = asked.id.chars().take(64).collect();
                        Err(Error::not_found("passkey", &id))
                    }
                    _ => {
                        forget_recovery_codes(change, &account.id)?;
                        policy::check_admin_left(change.tx)
                    }
                }
            };
            mcias.write(&caller, write).await?;
            Ok(RemovePasskeyResponse {})
        };
        self.answer(request, remove).await
    }

    async fn new_recovery_codes(
        &self,
        request: Request<NewRecoveryCodesRequest>,
    ) -> Result<Response<NewRecoveryCodesResponse>, Status> {
        self.answer(request, new_recovery_codes).await
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
                let session = find_session(change.tx, &who.account, &id)?;
                let session = session.ok_or_else(|| Error::not_found("login", &id))?;
                end_session(change, &session)
            };
            mcias.write(&caller, write).await?;
            Ok(EndSessionResponse {})
        };
        self.answer(request, end).await
    }
}

/// Changes the password of whoever asks, and ends his other logins.
///
/// # Errors
/// What he is told.
pub(crate) async fn change_password(
    mcias: &Arc<Mcias>,
    by: &By,
    asked: ChangePasswordRequest,
) -> Result<ChangePasswordResponse, Error> {
    check_length("new_password", &asked.new_password)?;
    let who = by.identity.clone();
    let who = who.ok_or_else(|| Error::unauthenticated("a token is needed"))?;
    let before = mcias.confirm(by, asked.old_password.clone()).await?;
    if asked.old_password == asked.new_password {
        return Err(Error::invalid("new_password: it is the old one"));
    }
    mcias.check_strength(&asked.new_password, &who.name).await?;
    let hash = mcias.passwords.hash(asked.new_password).await?;
    let write = move |change: &mut Change<'_>| {
        let account = own(change.tx, &who.account)?;
        if account.status != AccountStatus::Active || account.password != before.password {
            return Err(Error::precondition(
                "the account or its password was changed in between; begin anew",
            ));
        }
        change.resource.clone_from(&account.name);
        account::set_password(change.tx, &account.id, &hash, false, change.now)?;
        // Whoever else is logged in may know the old one.
        end_others(change, &account.id, &who.session)
    };
    mcias.write(by, write).await?;
    Ok(ChangePasswordResponse {})
}

async fn begin_totp(
    mcias: Arc<Mcias>,
    caller: Caller,
    asked: BeginTotpRequest,
) -> Result<BeginTotpResponse, Error> {
    let account = mcias.confirm(&caller, asked.password).await?;
    let shared = Shared::generate()?;
    let uri = shared.uri(ISSUER, &account.name)?;
    let secret = shared.base32();
    let sealed = mcias
        .seal
        .seal(&totp_name(&account.id), shared.as_bytes())?;
    let write = move |change: &mut Change<'_>| {
        change.resource.clone_from(&account.name);
        if own(change.tx, &account.id)?.totp {
            return Err(Error::precondition(
                "there is an authenticator app already; remove it first",
            ));
        }
        change.tx.execute(
            "INSERT OR REPLACE INTO totp (account, secret, confirmed, last_step, created_s) VALUES (?1, ?2, 0, 0, ?3)",
            params![account.id, sealed, unix(change.now)],
        )?;
        Ok(())
    };
    mcias.write(&caller, write).await?;
    Ok(BeginTotpResponse {
        secret,
        qr: qr(&uri)?,
        uri,
    })
}

async fn confirm_totp(
    mcias: Arc<Mcias>,
    caller: Caller,
    asked: ConfirmTotpRequest,
) -> Result<ConfirmTotpResponse, Error> {
    let who = identity(&caller)?.clone();
    let this = Arc::clone(&mcias);
    let write = move |change: &mut Change<'_>| {
        change.resource.clone_from(&who.name);
        let sql = "SELECT secret, last_step FROM totp WHERE account = ?1 AND NOT confirmed";
        let found: Option<(Vec<u8>, i64)> = change
            .tx
            .query_row(sql, [&who.account], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let (sealed, last) =
            found.ok_or_else(|| Error::precondition("there is nothing to confirm; begin first"))?;
        let secret = this.seal.open(&totp_name(&who.account), &sealed)?;
        let last = u64::try_from(last).unwrap_or(0);
        let step = Shared::from_bytes(secret).check(&asked.code, last, change.now)?;
        let step = step.ok_or_else(|| {
            Error::invalid("code: it is not the one that the app shows now; are both clocks right?")
        })?;
        let step = i64::try_from(step).map_err(|_| Error::Internal("a step beyond all"))?;
        let sql =
            "UPDATE totp SET confirmed = 1, last_step = ?2 WHERE account = ?1 AND NOT confirmed";
        change.tx.execute(sql, params![who.account, step])?;
        // Who else is logged in has shown less.
        end_others(change, &who.account, &who.session)?;
        has_shown(change, &who.account, &who.session, "otp")
    };
    mcias.write(&caller, write).await?;
    Ok(ConfirmTotpResponse {})
}

async fn new_recovery_codes(
    mcias: Arc<Mcias>,
    caller: Caller,
    asked: NewRecoveryCodesRequest,
) -> Result<NewRecoveryCodesResponse, Error> {
    let account = mcias.confirm(&caller, asked.password).await?;
    let codes = (0..RECOVERY_CODES).map(|_| random::readable::<20>());
    let codes: Vec<String> = codes.collect::<Result<_, _>>()?;
    let kept: Vec<_> = codes
        .iter()
        .map(|code| recovery_hash(&account.id, code))
        .collect();
    let write = move |change: &mut Change<'_>| {
        change.resource.clone_from(&account.name);
        if !own(change.tx, &account.id)?.has_second_factor() {
            return Err(Error::precondition(
                "recovery codes replace a second factor: enrol an authenticator app or a passkey first",
            ));
        }
        let sql = "DELETE FROM recovery_code WHERE account = ?1";
        change.tx.execute(sql, [&account.id])?;
        for hash in kept {
            let sql = "INSERT INTO recovery_code VALUES (?1, ?2)";
            change.tx.execute(sql, params![account.id, hash])?;
        }
        Ok(())
    };
    mcias.write(&caller, write).await?;
    Ok(NewRecoveryCodesResponse { codes })
}

/// Those of an account that has no second factor any more, which they could replace.
fn forget_recovery_codes(change: &Change<'_>, account: &str) -> Result<(), Error> {
    if !own(change.tx, account)?.has_second_factor() {
        let sql = "DELETE FROM recovery_code WHERE account = ?1";
        change.tx.execute(sql, [account])?;
    }
    Ok(())
}

/// Of whoever asks.
fn own(db: &Connection, id: &str) -> Result<Account, Error> {
    account::by_id(db, id)?.ok_or_else(|| Error::unauthenticated("the account is gone"))
}

/// A QR code, as SVG.
fn qr(text: &str) -> Result<String, Error> {
    let code = qrcode::QrCode::new(text).map_err(|_| Error::Internal("no QR code can hold it"))?;
    let svg = code.render::<qrcode::render::svg::Color<'_>>();
    Ok({ svg }.min_dimensions(200, 200).build())
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
    }
}
