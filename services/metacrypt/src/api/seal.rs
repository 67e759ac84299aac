//! The seal.

use std::time::Duration;

use mc_proto::metacrypt::v1::{
    GetSealStatusRequest, RotateMasterKeyRequest, RotateMasterKeyResponse, SealRequest, SealStatus,
    SetPasswordRequest, UnsealRequest, sealing_server::Sealing,
};
use mcdsl::{cli::chain, server::Caller};
use tonic::{Code, Request, Response, Status, async_trait, metadata::MetadataValue};
use zeroize::Zeroizing;

use super::Api;
use crate::{
    barrier::{Cost, Fresh, MAX_PASSWORD, SealError, Secret, SlotError, Wanted},
    password,
};

impl From<SealError> for Status {
    fn from(error: SealError) -> Self {
        let text = error.to_string();
        let slot = |error: &SlotError| match error {
            SlotError::Wrong => Code::Unauthenticated,
            SlotError::Missing(_) => Code::FailedPrecondition,
            SlotError::Slip(_)
            | SlotError::Kind(_)
            | SlotError::Mixed
            | SlotError::Twice(_)
            | SlotError::Few { .. }
            | SlotError::Threshold { .. } => Code::InvalidArgument,
            SlotError::Hash(_) => Code::Unavailable,
            SlotError::Cost(_) | SlotError::Key(_) => Code::Internal,
        };
        let code = match &error {
            SealError::Wait(wait) => return too_soon(text, *wait),
            SealError::Busy => return too_soon(text, Duration::from_secs(2)),
            SealError::Store(_) => {
                let SealError::Store(error) = error else {
                    return Self::internal(text);
                };
                return error.into();
            }
            SealError::Slot(error) => slot(error),
            SealError::Sealed => Code::Unavailable,
            SealError::NotInitialised
            | SealError::Initialised
            | SealError::Unsealed
            | SealError::Changed => Code::FailedPrecondition,
            SealError::Mount { what, .. } if what.starts_with("not") => Code::NotFound,
            SealError::Mount { .. } => Code::AlreadyExists,
            SealError::Key(_) | SealError::Form(_) => Code::Internal,
        };
        if code == Code::Internal {
            tracing::error!(error = chain(&error), "the seal cannot be used");
        }
        Self::new(code, text)
    }
}

fn too_soon(text: String, wait: Duration) -> Status {
    let mut status = Status::resource_exhausted(text);
    let seconds = MetadataValue::from(wait.as_secs() + 1);
    status.metadata_mut().insert("retry-after", seconds);
    status
}

/// The one secret that was sent.
fn secret(request: UnsealRequest) -> Result<Secret, Status> {
    let UnsealRequest {
        password,
        recovery_key,
        shares,
    } = request;
    let given = (
        !password.is_empty(),
        !recovery_key.is_empty(),
        !shares.is_empty(),
    );
    match given {
        (true, false, false) if password.len() > MAX_PASSWORD => Err(Status::invalid_argument(
            format!("password: longer than {MAX_PASSWORD} bytes"),
        )),
        (true, false, false) => Ok(Secret::Password(password.into())),
        (false, true, false) => Ok(Secret::Recovery(recovery_key.into())),
        (false, false, true) => {
            let shares = shares.into_iter().map(Zeroizing::from).collect();
            Ok(Secret::Shares(shares))
        }
        _ => Err(Status::invalid_argument(
            "one of password, recovery_key and shares opens the seal; send that one",
        )),
    }
}

impl Api {
    async fn status(&self) -> Result<SealStatus, Status> {
        let status = self.0.seal.status().await?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let (needed, of) = status.as_ref().and_then(|s| s.shares).unwrap_or_default();
        Ok(SealStatus {
            initialized: status.is_some(),
            sealed: self.0.is_sealed(),
            generation: status.as_ref().map_or(0, |status| status.generation),
            recovery_key: status.is_some_and(|status| status.recovery),
            shares_needed: needed.into(),
            shares: of.into(),
            version,
        })
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
        let secret = secret(request.into_inner())?;
        caller.about.say(secret.kind());
        self.0.unseal(secret, caller.source).await?;
        tracing::info!(source = %caller.source, "unsealed");
        self.answer().await
    }

    async fn seal(&self, _: Request<SealRequest>) -> Result<Response<SealStatus>, Status> {
        self.0.close().await;
        tracing::info!("sealed");
        self.answer().await
    }

    async fn set_password(
        &self,
        request: Request<SetPasswordRequest>,
    ) -> Result<Response<SealStatus>, Status> {
        let caller = Caller::of(&request)?;
        let SetPasswordRequest { current, password } = request.into_inner();
        let (current, password) = (Zeroizing::new(current), Zeroizing::new(password));
        password::check(&password)
            .map_err(|e| Status::invalid_argument(format!("password: {e}")))?;
        self.0
            .set_password(current, password, caller.source)
            .await?;
        self.answer().await
    }

    async fn rotate_master_key(
        &self,
        request: Request<RotateMasterKeyRequest>,
    ) -> Result<Response<RotateMasterKeyResponse>, Status> {
        let caller = Caller::of(&request)?;
        let asked = request.into_inner();
        let number = |count: u32| u8::try_from(count).unwrap_or(u8::MAX);
        let shares = (number(asked.shares_needed), number(asked.shares));
        let wanted = Wanted {
            cost: Cost::DEFAULT,
            recovery: asked.recovery_key,
            shares: (shares != (0, 0)).then_some(shares),
        };
        let rotated = self.0.rotate(asked.password.into(), wanted, caller.source);
        let Fresh { recovery, shares } = rotated.await?;
        Ok(Response::new(RotateMasterKeyResponse {
            seal: Some(self.status().await?),
            recovery_key: recovery.map(|key| key.to_string()).unwrap_or_default(),
            shares: shares.iter().map(|share| share.to_string()).collect(),
        }))
    }
}
