//! Who may see pages for administrators.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{StatusCode, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use mcdsl::{
    cli::chain,
    web::{ErrorPage, Page},
};
use tonic::Code;

use super::{HOME, by};
use crate::{by::By, core::Mcias, pages::Person};

/// Who may do what only administrators may: the gate alone makes one.
#[derive(Clone)]
pub(in crate::pages) struct Admin(Person);

impl Admin {
    /// What he does at `action`.
    pub(super) fn by(&self, page: &Page, action: &'static str) -> Result<By, ErrorPage> {
        by(page, action, Some(&self.0))
    }

    /// The login that this page is of.
    pub(super) fn login(&self) -> &str {
        &self.0.login.id
    }
}

impl<S: Sync> FromRequestParts<S> for Admin {
    type Rejection = ErrorPage;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ErrorPage> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            tracing::error!("a page for administrators is not behind their gate");
            ErrorPage::internal()
        })
    }
}

/// As before methods for administrators: who is not logged in is sent to log in, who has not the role by now, or something to set right
/// first, is told nothing but no.
pub(super) async fn gate(
    State(mcias): State<Arc<Mcias>>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let person = match Person::from_request_parts(&mut parts, &mcias).await {
        Ok(person) => person,
        Err(to_login) => return to_login,
    };
    if !person.identity().is_admin() {
        let text = "You may not do that.";
        if !parts.method.is_safe() {
            let page = Page::from_request_parts(&mut parts, &mcias).await;
            let page = page.unwrap_or_else(|never| match never {});
            match by(&page, HOME, Some(&person)) {
                Ok(by) => write_down(&mcias, &by, Code::PermissionDenied, text).await,
                Err(error) => return error.into_response(),
            }
        }
        return ErrorPage::of(StatusCode::FORBIDDEN).into_response();
    }
    parts.extensions.insert(Admin(person));
    next.run(Request::from_parts(parts, body)).await
}

/// Writes down what was refused. If that fails, it stays refused.
pub(super) async fn write_down(mcias: &Arc<Mcias>, by: &By, outcome: Code, text: &str) {
    let resource = by.resource().unwrap_or_default().to_owned();
    let written = crate::pages::write_down(mcias, by, resource, outcome, text);
    if let Err(error) = written.await {
        tracing::error!(error = chain(&error), "a refusal is not in the audit log");
    }
}
