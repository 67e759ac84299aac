//! A client gives a token back (RFC 7009): the login that it has ends, with its other tokens.

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse as _, Response},
};
use mcdsl::server::Source;

use super::{
    REVOKE,
    client::Credentials,
    error::{OAuthError, Refused},
    form::Form,
    grant::{self, RefreshToken},
    token::commit,
};
use crate::{
    account,
    by::By,
    core::{Change, Mcias},
    session::{end_session, find_session},
};

pub(super) async fn revoke(
    State(mcias): State<Arc<Mcias>>,
    Extension(Source(source)): Extension<Source>,
    headers: HeaderMap,
    Form(params): Form,
) -> Result<Response, OAuthError> {
    let credentials = Credentials::of(&headers, &params)?;
    let by = By::path(REVOKE, source, None);
    credentials.known(&mcias, &by).await?;
    let token = params.need("token")?.to_owned();
    let this = Arc::clone(&mcias);
    let write = move |change: &mut Change<'_>| {
        let client = credentials.name();
        change.note(|detail| detail.text("client", &client));
        let done = end(&this, change, &credentials, &token);
        commit(change, done)
    };
    mcias.write(&by, write).await??;
    Ok([(header::CACHE_CONTROL, "no-store")].into_response())
}

/// What is not valid is as good as revoked (RFC 7009 §2.2); what is another client's stays.
fn end(
    mcias: &Mcias,
    change: &mut Change<'_>,
    credentials: &Credentials,
    token: &str,
) -> Result<(), Refused> {
    let client = credentials.check(change.tx)?;
    let whose = match RefreshToken::parse(token) {
        Some(refresh) => {
            let found = grant::find(change.tx, &refresh)?;
            found.map(|(grant, _)| (grant.account, grant.session))
        }
        None => {
            let identity = mcias.identify(token, Some(&client.name)).ok();
            identity.map(|identity| (identity.account, identity.session))
        }
    };
    let Some((account, session)) = whose else {
        return Ok(());
    };
    let session = find_session(change.tx, &account, &session)?;
    let Some(session) = session.filter(|session| session.service == client.name) else {
        return Ok(());
    };
    if let Some(account) = account::by_id(change.tx, &account)? {
        change.resource = account.name;
    }
    end_session(change, &session)?;
    change.note(|detail| detail.flag("revoked", true));
    Ok(())
}
