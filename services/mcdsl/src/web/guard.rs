//! Around every page: who asks, and whether a request that changes something began on one of our pages (OWASP's cheat sheet on CSRF:
//! tokens that are bound to the session, and Fetch metadata).

use std::{mem, sync::Arc};

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{
    ErrorPage, MAX_FORM, error,
    form::{is_form, unread},
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
    if !began_here(&request) {
        tracing::info!(
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
    tracing::info!(
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

/// By what the browser says of it. Browsers that say nothing send the token alone.
fn began_here(request: &Request) -> bool {
    let headers = request.headers();
    if let Some(site) = headers.get("sec-fetch-site") {
        // `none`: the person began it, by restoring a tab.
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let authority = request.uri().authority().map(|a| a.as_str());
    let host = authority.or_else(|| headers.get(header::HOST)?.to_str().ok());
    let origin = origin
        .to_str()
        .ok()
        .and_then(|o| o.strip_prefix("https://"));
    matches!((origin, host), (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_begin_here() {
        for (what, uri, headers, here) in [
            ("a program", "/", &[][..], true),
            ("a page", "/", &[("sec-fetch-site", "same-origin")], true),
            ("a restored tab", "/", &[("sec-fetch-site", "none")], true),
            (
                "another site",
                "/",
                &[("sec-fetch-site", "cross-site")],
                false,
            ),
            (
                "another host of the domain",
                "/",
                &[("sec-fetch-site", "same-site")],
                false,
            ),
            (
                "a word of the future",
                "/",
                &[("sec-fetch-site", "x")],
                false,
            ),
            (
                "an old browser",
                "/",
                &[("host", "a.example"), ("origin", "https://a.example")],
                true,
            ),
            (
                "HTTP/2",
                "https://a.example:8443/",
                &[("origin", "https://A.example:8443")],
                true,
            ),
            (
                "another origin",
                "/",
                &[("host", "a.example"), ("origin", "https://b.example")],
                false,
            ),
            (
                "another port",
                "/",
                &[("host", "a.example"), ("origin", "https://a.example:1")],
                false,
            ),
            (
                "no TLS",
                "/",
                &[("host", "a.example"), ("origin", "http://a.example")],
                false,
            ),
            (
                "a sandbox",
                "/",
                &[("host", "a.example"), ("origin", "null")],
                false,
            ),
            ("no host", "/", &[("origin", "https://a.example")], false),
        ] {
            let mut request = Request::builder().uri(uri);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(Body::empty()).unwrap();
            assert_eq!(began_here(&request), here, "{what}");
        }
    }
}
