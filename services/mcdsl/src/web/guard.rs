//! Around every page: who asks, and whether a request that changes something began on one of our pages (OWASP's cheat sheet on CSRF:
//! tokens that are bound to the session, and Fetch metadata).

use std::{mem, sync::Arc};

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{
    ErrorPage, MAX_FORM, error,
    form::{is_form, unread},
    origin::began_here,
    page::Page,
    visit::Visit,
};

/// The field of forms with the token.
pub(super) const FIELD: &str = "csrf_token";
/// The header in which htmx sends it.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-csrf-token");

pub(super) async fn guard(
    State(state): State<Arc<super::State>>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let (visit, known) = Visit::of(state, &parts).await;
    let page = Page::new(visit);
    let checked = match known {
        Ok(()) => check(&page, Request::from_parts(parts, body)).await,
        Err(error) => Err(error),
    };
    let response = match checked {
        Ok(mut request) => {
            request.extensions_mut().insert(page.clone());
            next.run(request).await
        }
        Err(error) => error.into_response(),
    };
    let mut response = error::present(&page, response);
    page.settle(&mut response).await;
    response
}

/// The request, if it may do what it asks for.
async fn check(page: &Page, mut request: Request) -> Result<Request, ErrorPage> {
    if request.method().is_safe() {
        return Ok(request);
    }
    // No page: a slip in the address of something else, which is not to be told of forms.
    if request.uri().path().starts_with("//") {
        return Err(ErrorPage::not_found());
    }
    if !began_here(request.uri(), request.headers()) {
        tracing::debug!(
            path = request.uri().path(),
            "a request of another site was refused"
        );
        return Err(ErrorPage::forbidden("The request came from another site."));
    }
    let valid = match token_in_header(request.headers()) {
        Some(token) => page.is_token(token),
        None if is_form(request.headers()) => {
            let body = mem::take(request.body_mut());
            let body = to_bytes(body, MAX_FORM).await;
            let body = body.map_err(|error| unread(&error))?;
            let valid = form_urlencoded::parse(&body)
                .find(|(name, _)| name == FIELD)
                .is_some_and(|(_, token)| page.is_token(&token));
            *request.body_mut() = Body::from(body);
            valid
        }
        None => false,
    };
    if valid {
        return Ok(request);
    }
    tracing::debug!(
        path = request.uri().path(),
        "a request without a valid token was refused"
    );
    Err(ErrorPage::forbidden(
        "The form is not valid any more: your session may have ended. Go back, load the page again and send it once more.",
    ))
}

fn token_in_header(headers: &HeaderMap) -> Option<&str> {
    // What is no text is no token either.
    headers.get(HEADER).map(|v| v.to_str().unwrap_or_default())
}
