//! What anybody may read: the authorities' keys, and what is revoked.

use axum::{
    Router,
    extract::{Path, State},
    http::header,
    response::{IntoResponse as _, Response},
    routing::get,
};
use bytes::Bytes;

use super::{KIND, Memory, authority, authority::Kind as Of, revoked};
use crate::{api::Api, engine::EngineError, http::missing};

/// Below `/v1/ssh`.
pub(super) fn router(api: &Api) -> Router {
    let keys = |of| {
        move |State(api): State<Api>, Path(mount): Path<String>| async move {
            answer("text/plain; charset=utf-8", keys(&api, &mount, of).await)
        }
    };
    Router::new()
        .route("/{mount}/user-ca", get(keys(Of::User)))
        .route("/{mount}/host-ca", get(keys(Of::Host)))
        .route("/{mount}/krl", get(list))
        .with_state(api.clone())
}

/// Nobody is to keep it: what is revoked is to be known at once.
fn answer(media: &'static str, made: Result<Bytes, EngineError>) -> Response {
    let never = (header::CACHE_CONTROL, "no-store");
    match made {
        Ok(bytes) => ([(header::CONTENT_TYPE, media), never], bytes).into_response(),
        Err(error) => ([never], missing(error)).into_response(),
    }
}

/// An authority's keys as sshd's TrustedUserCAKeys (users) or known_hosts (hosts) has them, a line each.
pub(super) async fn keys(api: &Api, mount: &str, of: Of) -> Result<Bytes, EngineError> {
    let public = api.0.public(&KIND, mount, &["ca", of.name()])?;
    let read = move |items: &crate::barrier::Items<'_>| -> Result<_, EngineError> {
        let mut lines = String::new();
        for key in &authority(items, of)?.keys {
            let line = key.ready()?.line();
            lines += &match of {
                Of::User => format!("{line}\n"),
                Of::Host => format!("@cert-authority * {line}\n"),
            };
        }
        Ok(lines.into())
    };
    public.read(read).await
}

async fn list(State(api): State<Api>, Path(mount): Path<String>) -> Response {
    answer("application/octet-stream", krl(&api, &mount).await)
}

/// What is revoked: as it was made last, if nothing changed since. All who read it have the same bytes.
pub(super) async fn krl(api: &Api, mount: &str) -> Result<Bytes, EngineError> {
    let public = api.0.public(&KIND, mount, &["krl"])?;
    let published = &Memory::of(public.mount())?.published;
    let _turn = published.making.lock().await;
    let changes = {
        let kept = published.kept();
        if let Some(krl) = &kept.krl {
            return Ok(krl.clone());
        }
        kept.changes
    };
    let krl = public.read(revoked::krl).await?;
    let mut kept = published.kept();
    if kept.changes == changes {
        kept.krl = Some(krl.clone());
    }
    Ok(krl)
}
