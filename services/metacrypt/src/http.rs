//! What engines answer over plain HTTP: no definition, no token, and nothing while it is sealed.

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};

use mcdsl::server::refusal;
use serde_json::json;
use tonic::{Code, Status};

use crate::{
    api::Api,
    engine::{EngineError, KINDS, Kind},
};

/// All of it, below `/v1/<kind>`.
pub(crate) fn router(api: &Api) -> Router {
    of(KINDS, api, |kind| kind.http)
}

/// What of it may be had without TLS.
pub(crate) fn public(api: &Api) -> Router {
    of(KINDS, api, |kind| kind.public)
}

fn of(kinds: &[&Kind], api: &Api, what: fn(&Kind) -> fn(&Api) -> Router) -> Router {
    let all = kinds.iter().fold(Router::new(), |all, kind| {
        all.nest(&format!("/v1/{}", kind.name), what(kind)(api))
    });
    let metacrypt = Arc::clone(&api.0);
    all.layer(middleware::from_fn(move |request: Request, next: Next| {
        let sealed = metacrypt.is_sealed();
        // `/v1/<kind>/<mount>/acme/…`
        let acme = request.uri().path().split('/').nth(4) == Some("acme");
        async move {
            match sealed {
                true => sealed_answer(acme),
                false => next.run(request).await,
            }
        }
    }))
}

/// As REST says it; ACME's clients expect a problem (RFC 8555 §6.7, RFC 9457).
fn sealed_answer(acme: bool) -> Response {
    const TEXT: &str = "Metacrypt is sealed; unseal it first";
    let wait = [(header::RETRY_AFTER, "60")];
    if !acme {
        return (wait, refusal(Status::unavailable(TEXT))).into_response();
    }
    let media = [(header::CONTENT_TYPE, "application/problem+json")];
    let problem = json!({ "status": 503, "title": "sealed", "detail": TEXT });
    let status = StatusCode::SERVICE_UNAVAILABLE;
    (status, wait, media, problem.to_string()).into_response()
}

/// Why what everybody may have is not there. Who may not see whether it is there is told that it is not; why the service cannot answer is its log's.
pub(crate) fn missing(error: EngineError) -> Response {
    let status = Status::from(error);
    refusal(match status.code() {
        Code::NotFound => status,
        Code::InvalidArgument | Code::PermissionDenied => Status::not_found(status.message()),
        Code::Unavailable | Code::ResourceExhausted => Status::unavailable("not now; try again"),
        code => {
            tracing::error!(
                ?code,
                error = status.message(),
                "what everybody may have cannot be answered"
            );
            Status::internal("an internal error; see the service's log")
        }
    })
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, extract::Path, routing::get};
    use tower::ServiceExt as _;

    use super::*;
    use crate::{engine::transit, testing::World};

    const PUBLIC: Kind = Kind {
        http: |api| {
            let metacrypt = Arc::clone(&api.0);
            let named = async move |Path(mount): Path<String>| {
                let found = metacrypt.public(&transit::KIND, &mount, &[]);
                found.map_or_else(
                    |error| tonic::Status::from(error).message().to_owned(),
                    |public| public.mount().name().to_owned(),
                )
            };
            Router::new().route("/{mount}/name", get(named))
        },
        ..transit::KIND
    };

    #[tokio::test]
    async fn what_an_engine_answers_is_behind_its_name_and_the_seal() {
        let world = World::vault().await;
        let router = of(&[&PUBLIC], &Api(Arc::clone(&world.metacrypt)), |kind| {
            kind.http
        });
        let ask = async |path: &str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            let status = answer.status().as_u16();
            let body = axum::body::to_bytes(answer.into_body(), 1024).await;
            (status, String::from_utf8(body.unwrap().to_vec()).unwrap())
        };
        for (path, status, said) in [
            ("/v1/transit/vault/name", 200, "vault"),
            (
                "/v1/transit/system/name",
                200,
                "there is no transit \"system\"",
            ),
            ("/v1/transit/a%2Fb/name", 200, "that is nothing"),
            ("/v1/other/vault/name", 404, ""),
            ("/vault/name", 404, ""),
        ] {
            let (code, body) = ask(path).await;
            assert_eq!(code, status, "{path}: {body}");
            assert!(body.contains(said), "{path}: {body}");
        }
        world.metacrypt.close().await;
        let (code, body) = ask("/v1/transit/vault/name").await;
        assert!(code == 503 && body.contains("sealed"), "{code} {body}");
        let error: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (&error["code"], &error["status"]),
            (&503.into(), &"UNAVAILABLE".into())
        );
        let (_, body) = ask("/v1/transit/vault/acme/directory").await;
        let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["status"], 503);
        let (_, body) = ask("/v1/transit/acme/name").await;
        let error: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(error["code"], 503, "a mount of that name");
    }
}
