//! What a client may know of who logged in (OpenID Connect Core §5.3).

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse as _, Response},
};
use mcdsl::{auth::AuthError, server::bearer};
use rusqlite::Connection;

use super::{error::OAuthError, grant, id_token::About};
use crate::{
    account::{self, Status},
    core::Mcias,
    error::Error,
};

/// In forms and queries no token is looked for (RFC 6750 §2.2, §2.3).
pub(super) async fn show(
    State(mcias): State<Arc<Mcias>>,
    headers: HeaderMap,
) -> Result<Response, OAuthError> {
    let token = bearer(&headers).ok().flatten();
    let token = token.ok_or_else(OAuthError::invalid_token)?;
    let identity = mcias.identify(token, None).map_err(|error| match error {
        AuthError::Invalid(_) => OAuthError::invalid_token(),
        AuthError::Unavailable(why) => OAuthError::unavailable(why),
    })?;
    let read = move |db: &Connection| {
        let grant = grant::of_session(db, &identity.session)?;
        let account = account::by_id(db, &identity.account)?;
        Ok::<_, Error>((grant, account))
    };
    let (grant, account) = mcias.store.read(read).await?;
    // A token that no client was given says nothing of what its owner lets be told.
    let account = account.filter(|account| account.status == Status::Active);
    let (Some(grant), Some(account)) = (grant, account) else {
        return Err(OAuthError::invalid_token());
    };
    let headers = [(header::CACHE_CONTROL, "no-store")];
    Ok((headers, Json(About::new(&account, &grant.scopes))).into_response())
}
