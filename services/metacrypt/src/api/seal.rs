//! The seal.

use std::time::Duration;

use mc_proto::metacrypt::v1::{
    GetSealStatusRequest, RotateMasterKeyRequest, RotateMasterKeyResponse, SealRequest, SealSecret,
    SealStatus, SetPasswordRequest, UnsealRequest, sealing_server::Sealing,
};
use mcdsl::{
    audit::{self, Detail, Entry},
    server::{Attempt, Audit as _, Caller, little_left},
};
use tonic::{Code, Request, Response, Status, async_trait, metadata::MetadataValue};
use zeroize::Zeroizing;

use super::Api;
use crate::{
    barrier::{
        BY_PASSWORD, Fresh, Log, MAX_PASSWORD, SealError, Secret, SlotError, Unsealed, threshold,
    },
    core::{Rotation, Shares},
    engine, password, policy,
};

impl From<SealError> for Status {
    fn from(error: SealError) -> Self {
        let text = error.to_string();
        let code = match error {
            SealError::Store(error) => return error.into(),
            SealError::Audit(error) => return error.into(),
            SealError::Kept(_) => return engine::kept(text),
            SealError::Wait(wait) => return too_soon(text, wait),
            SealError::Busy => return too_soon(text, Duration::from_secs(2)),
            SealError::Slot(error) => slot_code(&error),
            SealError::Sealed => Code::Unavailable,
            SealError::Closed => Code::Aborted,
            SealError::NotInitialised
            | SealError::Initialised
            | SealError::Unsealed
            | SealError::Changed => Code::FailedPrecondition,
            SealError::NoPassword => Code::InvalidArgument,
            SealError::NoMount(_) => Code::NotFound,
            SealError::MountExists(_) => Code::AlreadyExists,
            SealError::Key(_) | SealError::Form(_) => Code::Internal,
        };
        if code == Code::Internal {
            tracing::error!(error = text, "the seal cannot be used");
        }
        Self::new(code, text)
    }
}

fn slot_code(error: &SlotError) -> Code {
    match error {
        // Not UNAUTHENTICATED, which is about tokens.
        SlotError::Wrong => Code::PermissionDenied,
        SlotError::Missing(_) => Code::FailedPrecondition,
        SlotError::Slip(_)
        | SlotError::Kind(_)
        | SlotError::Mixed
        | SlotError::Twice(_)
        | SlotError::Few { .. }
        | SlotError::Threshold { .. } => Code::InvalidArgument,
        SlotError::Hash(_) => Code::Unavailable,
        SlotError::Cost(_) | SlotError::Key(_) => Code::Internal,
    }
}

/// The clients say how long: the text does not.
fn too_soon(text: String, wait: Duration) -> Status {
    let mut status = Status::resource_exhausted(text);
    let seconds = MetadataValue::from(wait.as_secs() + 1);
    status.metadata_mut().insert("retry-after", seconds);
    status
}

/// The one secret that was sent.
fn secret(sent: SealSecret) -> Result<Secret, Status> {
    let password = Zeroizing::new(sent.password);
    let recovery_key = Zeroizing::new(sent.recovery_key);
    let shares: Vec<_> = sent.shares.into_iter().map(Zeroizing::new).collect();
    let given = (
        !password.is_empty(),
        !recovery_key.is_empty(),
        !shares.is_empty(),
    );
    match given {
        (true, false, false) if password.len() > MAX_PASSWORD => Err(Status::invalid_argument(
            format!("password: longer than {MAX_PASSWORD} bytes"),
        )),
        (true, false, false) => Ok(Secret::Password(password)),
        (false, true, false) => Ok(Secret::Recovery(recovery_key)),
        (false, false, true) => Ok(Secret::Shares(shares)),
        _ => Err(Status::invalid_argument(
            "one of password, recovery_key and shares opens the seal; send that one",
        )),
    }
}

/// The secret that a change is proven by.
fn current(sent: Option<SealSecret>) -> Result<Secret, Status> {
    let wrong =
        |status: Status| Status::new(status.code(), format!("current: {}", status.message()));
    secret(sent.unwrap_or_default()).map_err(wrong)
}

/// Who calls, for the log.
fn name(caller: &Caller) -> Option<&str> {
    Some(&*caller.identity.as_ref()?.name)
}

/// Writes to the log what came of a secret of the seal, and of whom: whoever guesses is seen there.
fn told<T>(
    caller: &Caller,
    what: &str,
    by: &str,
    came: Result<T, SealError>,
) -> Result<T, SealError> {
    let (account, source) = (name(caller), caller.source);
    match &came {
        Ok(_) => {
            caller.recorded();
            tracing::info!(account, %source, by, "the seal: {what}");
        }
        Err(error) => {
            if let SealError::Slot(SlotError::Wrong) = error {
                caller.tried(match by {
                    BY_PASSWORD => Attempt::Slowed,
                    _ => Attempt::Free,
                });
            }
            tracing::warn!(account, %source, by, %error, "the seal: {what} is refused");
        }
    }
    came
}

/// A password that is good enough to open the seal from now on.
fn new_password(
    password: Zeroizing<String>,
    names: Option<&Vec<String>>,
) -> Result<Zeroizing<String>, Status> {
    match password::check(&password, names.map_or(&[], Vec::as_slice)) {
        Ok(()) => Ok(password),
        Err(weak) => Err(Status::invalid_argument(format!("password: {weak}"))),
    }
}

fn shares(needed: Option<u32>, of: Option<u32>) -> Result<Shares, Status> {
    match (needed, of) {
        (None, None) => Ok(Shares::AsNow),
        (Some(0), Some(0)) => Ok(Shares::Dropped),
        (Some(needed), Some(of)) => {
            let (needed, of) = threshold(needed, of).map_err(SealError::from)?;
            Ok(Shares::Of(needed, of))
        }
        _ => Err(Status::invalid_argument(
            "shares_needed and shares: send both, or neither to have as many as now",
        )),
    }
}

impl Api {
    async fn status(&self) -> Result<SealStatus, Status> {
        let status = self.0.seal.status().await?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let (needed, of) = status.as_ref().and_then(|s| s.shares).unwrap_or_default();
        let unusable = |open: &Unsealed| policy::in_force(open).is_ok_and(|p| p.unusable.is_some());
        Ok(SealStatus {
            policy_unusable: self.0.open().is_ok_and(|open| unusable(&open)),
            audit_broken: self.0.log_flaw.load().is_some(),
            mcias_away: self.0.mcias.get().is_some_and(|mcias| !mcias.is_live()),
            unwritable: self.0.seal.store().unwritable().is_some(),
            little_room: little_left(self.0.seal.store().path()).is_some(),
            initialized: status.is_some(),
            sealed: self.0.is_sealed(),
            generation: status.as_ref().map_or(0, |status| status.generation),
            recovery_key: status.is_some_and(|status| status.recovery),
            shares_needed: needed.into(),
            shares: of.into(),
            version,
        })
    }

    /// Writes that a call succeeds.
    pub(super) fn log(&self, caller: &Caller, detail: Detail) -> Log {
        let (caller, clock) = (caller.clone(), self.0.seal.clock().clone());
        Box::new(move |tx| {
            let entry = Entry {
                actor: caller.identity.as_ref().into(),
                source: Some(caller.source),
                action: caller.method,
                resource: caller.about.said().unwrap_or_default(),
                outcome: Code::Ok,
                detail,
            };
            audit::append(tx, &entry, clock.now())?;
            Ok(())
        })
    }

    /// Writes what was answered down, before it is.
    pub(super) async fn done(&self, caller: &Caller, detail: Detail) -> Result<(), SealError> {
        let log = self.log(caller, detail);
        self.0.seal.store().write(log).await?;
        caller.recorded();
        Ok(())
    }

    async fn answer(&self) -> Result<Response<SealStatus>, Status> {
        Ok(Response::new(self.status().await?))
    }
}

#[async_trait]
impl Sealing for Api {
    async fn get_seal_status(
        &self,
        _: Request<GetSealStatusRequest>,
    ) -> Result<Response<SealStatus>, Status> {
        self.answer().await
    }

    async fn unseal(
        &self,
        request: Request<UnsealRequest>,
    ) -> Result<Response<SealStatus>, Status> {
        let caller = Caller::of(&request)?;
        let UnsealRequest {
            password,
            recovery_key,
            shares,
        } = request.into_inner();
        let sent = SealSecret {
            password,
            recovery_key,
            shares,
        };
        let secret = secret(sent)?;
        caller.about.say(secret.kind());
        let (kind, log) = (secret.kind(), self.log(&caller, Detail::new()));
        told(
            &caller,
            "unseal",
            kind,
            self.0.unseal(secret, caller.source, log).await,
        )?;
        self.answer().await
    }

    async fn seal(&self, request: Request<SealRequest>) -> Result<Response<SealStatus>, Status> {
        let caller = Caller::of(&request)?;
        self.0.close().await;
        tracing::info!(account = name(&caller), source = %caller.source, "sealed");
        let written = self.0.audit.record(&caller, Code::Ok, "").await;
        // Or it cannot be: the server need not try again.
        caller.recorded();
        written.map_err(|refused| {
            let why = refused.message();
            Status::internal(format!(
                "it is sealed, and no row of the audit log says so: {why}"
            ))
        })?;
        self.answer().await
    }

    async fn set_password(
        &self,
        request: Request<SetPasswordRequest>,
    ) -> Result<Response<SealStatus>, Status> {
        let caller = Caller::of(&request)?;
        let asked = request.into_inner();
        let detail = self.0.open()?.prints().noted(Detail::new(), &asked);
        let detail = detail.map_err(SealError::from)?;
        let password = Zeroizing::new(asked.password);
        let current = current(asked.current)?;
        caller.about.say(current.kind());
        let password = new_password(password, self.0.names.get())?;
        let (kind, log) = (current.kind(), self.log(&caller, detail));
        let set = self.0.set_password(current, password, caller.source, log);
        told(&caller, "another password", kind, set.await)?;
        self.answer().await
    }

    async fn rotate_master_key(
        &self,
        request: Request<RotateMasterKeyRequest>,
    ) -> Result<Response<RotateMasterKeyResponse>, Status> {
        let caller = Caller::of(&request)?;
        let asked = request.into_inner();
        let detail = self.0.open()?.prints().noted(Detail::new(), &asked);
        let detail = detail.map_err(SealError::from)?;
        let password = Zeroizing::new(asked.password);
        let current = current(asked.current)?;
        caller.about.say(current.kind());
        let password = match password.is_empty() {
            true => None,
            false => Some(new_password(password, self.0.names.get())?),
        };
        let rotation = Rotation {
            password,
            recovery: asked.recovery_key,
            shares: shares(asked.shares_needed, asked.shares)?,
        };
        let (kind, log) = (current.kind(), self.log(&caller, detail));
        let rotated = self.0.rotate(current, rotation, caller.source, log);
        let rotated = told(&caller, "another master key", kind, rotated.await);
        let Fresh { recovery, shares } = rotated?;
        Ok(Response::new(RotateMasterKeyResponse {
            seal: Some(self.status().await?),
            recovery_key: recovery.map(|key| key.to_string()).unwrap_or_default(),
            shares: shares.iter().map(|share| share.to_string()).collect(),
        }))
    }
}
