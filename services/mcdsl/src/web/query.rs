//! The query of a page's address.

use axum::{extract::FromRequestParts, http::request::Parts};
use serde::de::DeserializeOwned;

use super::ErrorPage;

/// What an address says behind `?`: of fields that `T` does not have nothing is read, repeated ones make a `Vec`.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ErrorPage;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ErrorPage> {
        let query = parts.uri.query().unwrap_or_default();
        serde_html_form::from_str(query).map(Self).map_err(|error| {
            tracing::debug!(%error, "a query does not fit");
            ErrorPage::bad_request("The address of this page is not complete.")
        })
    }
}
