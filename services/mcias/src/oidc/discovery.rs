//! What this provider can (OpenID Connect Discovery §3, RFC 8414).

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
};
use serde_json::json;

use super::{AUTHORIZE, INTROSPECT, LOGOUT, REVOKE, TOKEN, USERINFO, scope};
use crate::core::Mcias;

/// Where it is.
pub(crate) const PATH: &str = "/.well-known/openid-configuration";

pub(super) async fn show(State(mcias): State<Arc<Mcias>>) -> Response {
    let at = |path: &str| format!("{}{path}", mcias.issuer);
    let by_secret = ["client_secret_basic", "client_secret_post"];
    let document = json!({
        "issuer": mcias.issuer,
        "authorization_endpoint": at(AUTHORIZE),
        "token_endpoint": at(TOKEN),
        "userinfo_endpoint": at(USERINFO),
        "introspection_endpoint": at(INTROSPECT),
        "revocation_endpoint": at(REVOKE),
        "end_session_endpoint": at(LOGOUT),
        "jwks_uri": at("/.well-known/jwks.json"),
        "scopes_supported": scope::ALL,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["EdDSA"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "introspection_endpoint_auth_methods_supported": by_secret,
        "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "code_challenge_methods_supported": ["S256"],
        "claims_supported": [
            "iss", "sub", "aud", "iat", "exp", "auth_time", "nonce", "amr", "sid", "name", "preferred_username", "email",
            "email_verified", "roles", "groups"
        ],
        "prompt_values_supported": ["none", "login"],
        "authorization_response_iss_parameter_supported": true,
        "claims_parameter_supported": false,
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
    });
    let headers = [(header::CACHE_CONTROL, "max-age=300")];
    (headers, Json(document)).into_response()
}
