//! What a token is (RFC 7662), for the client that it is for.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse as _, Response},
};
use mcdsl::auth::{AuthError, token::type_name};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::{
    client::Credentials,
    error::{OAuthError, Refused},
    form::Form,
    grant::{self, RefreshToken},
};
use crate::{core::Mcias, error::Error, service::Service, session::find_session, time::unix};

pub(super) async fn introspect(
    State(mcias): State<Arc<Mcias>>,
    headers: HeaderMap,
    Form(params): Form,
) -> Result<Response, OAuthError> {
    let credentials = Credentials::of(&headers, &params)?;
    let token = params.need("token")?.to_owned();
    let this = Arc::clone(&mcias);
    let read = move |db: &Connection| {
        let found = credentials.check(db).and_then(|client| {
            if client.public_client {
                let text = "a client without a secret may not ask";
                return Err(OAuthError::invalid_client(text).into());
            }
            about(&this, db, &client, &token)
        });
        match found {
            Ok(about) => Ok(Ok(about)),
            Err(Refused::Told(error)) => Ok(Err(error)),
            Err(Refused::Failed(error)) => Err::<_, Error>(error),
        }
    };
    let about = mcias.store.read(read).await??;
    let about = about.unwrap_or_else(|| json!({ "active": false }));
    let headers = [(header::CACHE_CONTROL, "no-store")];
    Ok((headers, Json(about)).into_response())
}

/// `None`: it is not valid, or not for this client.
fn about(
    mcias: &Mcias,
    db: &Connection,
    client: &Service,
    token: &str,
) -> Result<Option<Value>, Refused> {
    if let Some(refresh) = RefreshToken::parse(token) {
        let Some((grant, true)) = grant::find(db, &refresh)? else {
            return Ok(None);
        };
        let session = find_session(db, &grant.account, &grant.session)?;
        let now = unix(mcias.now());
        let session = session.filter(|s| s.service == client.name && s.ends > now);
        return Ok(session.map(|session| {
            json!({
                "active": true, "client_id": client.name, "sub": grant.account, "scope": grant.scopes, "exp": session.ends,
            })
        }));
    }
    let identity = match mcias.identify(token, Some(&client.name)) {
        Ok(identity) => identity,
        Err(AuthError::Invalid(_)) => return Ok(None),
        Err(AuthError::Unavailable(why)) => return Err(OAuthError::unavailable(why).into()),
    };
    let grant = grant::of_session(db, &identity.session)?;
    let mut about = json!({
        "active": true,
        "token_type": "Bearer",
        "iss": mcias.issuer,
        "aud": client.name,
        "sub": identity.account,
        "username": identity.name,
        "account_type": type_name(identity.account_type),
        "roles": identity.roles,
        "amr": identity.methods,
        "jti": identity.token,
        "sid": identity.session,
        "iat": unix(identity.issued),
        "exp": unix(identity.expires),
    });
    if let Some(grant) = grant {
        about["client_id"] = client.name.clone().into();
        about["scope"] = grant.scopes.into();
    }
    Ok(Some(about))
}
