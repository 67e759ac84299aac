//! Who asks, for handlers.

use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    http::request::Parts,
    response::{IntoResponse as _, Response},
};

use super::{ErrorPage, Page, Session};
use crate::auth::Identity;

/// Who is logged in. Who is not is sent to the login page, and back afterwards.
#[derive(Clone, Debug)]
pub struct CurrentSession(pub Session);

/// Who is logged in, by MCIAS's word; as [`CurrentSession`], on a site with [`super::Sso`].
#[derive(Clone, Debug)]
pub struct Person(pub Identity);

/// The request's page: there is one wherever [`super::wrap`] is around.
fn page(parts: &Parts) -> Page {
    let page = parts.extensions.get::<Page>().cloned();
    page.expect("the route is behind mcdsl::web::wrap")
}

impl<S: Send + Sync> FromRequestParts<S> for Page {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(page(parts))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for CurrentSession {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let page = page(parts);
        match page.session() {
            Some(session) => Ok(Self(session.clone())),
            None => Err(page.to_login()),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Person {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let CurrentSession(session) = CurrentSession::from_request_parts(parts, state).await?;
        let identity = session.identity.map(Self);
        identity.ok_or_else(|| {
            tracing::error!("a page asks who it is by MCIAS's word, and its site has no Sso");
            ErrorPage::internal().into_response()
        })
    }
}
