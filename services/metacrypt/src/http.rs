//! What engines answer over plain HTTP: no definition, no token, and nothing while it is sealed.

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};

use crate::{api::Api, engine::KINDS};

/// All of it, below `/v1/<kind>`.
pub(crate) fn router(api: &Api) -> Router {
    let all = KINDS.iter().fold(Router::new(), |all, kind| {
        all.nest(&format!("/v1/{}", kind.name), (kind.http)(api))
    });
    let metacrypt = Arc::clone(&api.0);
    all.layer(middleware::from_fn(move |request: Request, next: Next| {
        let sealed = metacrypt.is_sealed();
        async move {
            match sealed {
                true => sealed_answer(),
                false => next.run(request).await,
            }
        }
    }))
}

/// RFC 9457, as ACME's clients expect it too (RFC 8555 §6.7).
fn sealed_answer() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/problem+json"),
        (header::RETRY_AFTER, "60"),
    ];
    let problem =
        r#"{"status":503,"title":"sealed","detail":"Metacrypt is sealed; unseal it first"}"#;
    (StatusCode::SERVICE_UNAVAILABLE, headers, problem).into_response()
}
