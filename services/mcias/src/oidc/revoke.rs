//! A client gives a token back (RFC 7009): the login that it has ends, with its other tokens.

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse as _, Response},
};
use mcdsl::{auth::AuthError, server::Source};

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
    error::Error,
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
        None => match mcias.identify(token, Some(&client.name)) {
            Ok(identity) => Some((identity.account, identity.session)),
            Err(AuthError::Invalid(_)) => None,
            // It may be good, and the client is to try again (RFC 7009 §2.2.1).
            Err(AuthError::Unavailable(why)) => return Err(Error::unavailable(why).into()),
        },
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

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use mcdsl::auth::token::Claims;
    use rusqlite::Transaction;

    use super::*;
    use crate::{core::testing::mcias, oidc::params::Params, time::unix};

    #[tokio::test]
    async fn a_token_that_cannot_be_checked_is_not_said_to_be_revoked() {
        let (_directory, mcias) = mcias().await;
        let insert = |tx: &Transaction<'_>| {
            let sql = r#"INSERT INTO service VALUES ('app', '[]', '["https://app.example/"]', '[]', 1, NULL, '')"#;
            Ok::<_, Error>(tx.execute(sql, [])?)
        };
        mcias.store.write(insert).await.unwrap();
        let now = unix(mcias.now()).cast_unsigned();
        let claims = Claims {
            iss: mcias.issuer.clone(),
            sub: "ada".to_owned(),
            aud: vec!["app".to_owned()],
            iat: now,
            nbf: now,
            exp: now + 3600,
            jti: "token".to_owned(),
            sid: "login".to_owned(),
            name: "ada".to_owned(),
            account_type: mc_proto::AccountType::Human,
            roles: Vec::new(),
            tags: Vec::new(),
            amr: Vec::new(),
        };
        let valid = mcias.keys().signer.sign(&claims).unwrap();
        for (description, token, incomplete, wanted) in [
            ("nobody's", "nonsense", false, StatusCode::OK),
            ("of a login that is over", &*valid, false, StatusCode::OK),
            ("nobody's, at a bad time", "nonsense", true, StatusCode::OK),
            (
                "nobody can say",
                &*valid,
                true,
                StatusCode::SERVICE_UNAVAILABLE,
            ),
        ] {
            mcias.revocations.state().incomplete = incomplete;
            let params = Params::parse(format!("client_id=app&token={token}").as_bytes());
            let source = Extension(Source([192, 0, 2, 1].into()));
            let mcias = State(Arc::clone(&mcias));
            let answer = revoke(mcias, source, HeaderMap::new(), Form(params.unwrap())).await;
            let status = answer.map_or_else(|told| told.status, |answer| answer.status());
            assert_eq!(status, wanted, "{description}");
        }
    }
}
