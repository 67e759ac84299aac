//! Answers, as ACME's clients read them.

use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderName, HeaderValue, Request, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use super::{
    super::{
        name::AltName,
        store::{profile, profiles},
    },
    here::Here,
    order::{Order, Progress},
    problem::Problem,
    source,
};
use crate::api::Api;

const REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");
/// What is answered if nothing is wrong.
pub(super) struct Answer {
    status: u16,
    kind: &'static str,
    body: Vec<u8>,
    location: Option<String>,
    links: Vec<(String, &'static str)>,
    retry_after_s: Option<u64>,
}

impl Answer {
    pub(super) fn empty(status: u16) -> Self {
        Self {
            status,
            kind: "",
            body: Vec::new(),
            location: None,
            links: Vec::new(),
            retry_after_s: None,
        }
    }

    pub(super) fn json(status: u16, value: &Value) -> Self {
        Self {
            kind: "application/json",
            body: value.to_string().into_bytes(),
            ..Self::empty(status)
        }
    }

    pub(super) fn pem(text: String) -> Self {
        Self {
            kind: "application/pem-certificate-chain",
            body: text.into_bytes(),
            ..Self::empty(200)
        }
    }

    pub(super) fn at(self, location: String) -> Self {
        Self {
            location: Some(location),
            ..self
        }
    }

    pub(super) fn up(mut self, to: String) -> Self {
        self.links.push((to, "up"));
        self
    }

    pub(super) fn after(self, seconds: Option<u64>) -> Self {
        Self {
            retry_after_s: seconds,
            ..self
        }
    }
}

fn value(text: &str) -> HeaderValue {
    // Of our own making: bases and ids are ASCII.
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// What is sent. `None`: there is no such directory.
pub(super) fn finish(here: Option<&Here>, answer: Result<Answer, Problem>) -> Response {
    let answer = answer.unwrap_or_else(|problem| Answer {
        kind: "application/problem+json",
        body: problem.json().to_string().into_bytes(),
        retry_after_s: problem.retry_after_s,
        location: problem.location,
        ..Answer::empty(problem.status)
    });
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Body::from(answer.body)).into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    if !answer.kind.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.kind));
    }
    if let Some(location) = &answer.location {
        headers.insert(header::LOCATION, value(location));
    }
    if let Some(seconds) = answer.retry_after_s {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    for (to, relation) in &answer.links {
        let text = format!("<{to}>;rel=\"{relation}\"");
        headers.append(header::LINK, value(&text));
    }
    if let Some(here) = here {
        let text = format!("<{}/directory>;rel=\"index\"", here.base);
        headers.append(header::LINK, value(&text));
        if let Some(nonce) = here.nonce() {
            headers.insert(REPLAY_NONCE, value(&nonce));
        }
    }
    response
}

/// RFC 8555 §7.1.1: anybody may read it.
pub(super) async fn directory(
    State(api): State<Api>,
    Path(mount): Path<String>,
    request: Request<Body>,
) -> Response {
    let from = source(&request);
    let answer = async move {
        let here = Here::of(&api, &mount).await?;
        here.stranger(from?)?;
        let told = here
            .read(|items| {
                let mut told = serde_json::Map::new();
                for name in profiles(items)? {
                    if let Some(acme) = profile(items, &name)?.acme {
                        let text = match &*acme.description {
                            "" => name.clone(),
                            text => text.to_owned(),
                        };
                        told.insert(name, text.into());
                    }
                }
                Ok(told)
            })
            .await?;
        let at = |what: &str| format!("{}/{what}", here.base);
        let all = json!({
            "newNonce": at("new-nonce"),
            "newAccount": at("new-account"),
            "newOrder": at("new-order"),
            "revokeCert": at("revoke-cert"),
            "keyChange": at("key-change"),
            "renewalInfo": at("renewal-info"),
            "meta": {"externalAccountRequired": true, "profiles": told},
        });
        Ok(Answer::json(200, &all))
    };
    finish(None, answer.await)
}

/// `2026-11-23T01:00:00Z`.
pub(super) fn rfc3339(seconds: u64) -> String {
    mcdsl::human::utc(i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX))
}

/// As clients name it (RFC 8555 §9.7.7, RFC 8738).
pub(super) fn identifier(name: &AltName) -> Value {
    match name {
        AltName::Dns(name) => json!({"type": "dns", "value": name.to_string()}),
        AltName::Ip(address) => json!({"type": "ip", "value": address.to_string()}),
        AltName::Uri(id) => json!({"type": "uri", "value": id.to_string()}),
    }
}

/// An order (RFC 8555 §7.1.3).
pub(super) fn order(here: &Here, id: &str, order: &Order, status: u16) -> Answer {
    let now_s = here.now_s();
    let at = |what: &str| format!("{}/{what}", here.base);
    let authorizations: Vec<_> = (0..order.authorizations.len())
        .map(|n| at(&format!("authz/{id}/{n}")))
        .collect();
    let mut value = json!({
        "status": order.status(now_s).name(),
        "expires": rfc3339(order.ends_s),
        "identifiers": order.names.iter().map(identifier).collect::<Vec<_>>(),
        "profile": order.profile,
        "authorizations": authorizations,
        "finalize": at(&format!("order/{id}/finalize")),
    });
    if let Some(error) = order.error(now_s) {
        value["error"] = error.json();
    }
    if let Some(replaces) = &order.replaces {
        value["replaces"] = replaces.id.clone().into();
    }
    if let Some(serial) = order.serial() {
        value["certificate"] = at(&format!("cert/{serial}")).into();
    }
    Answer::json(status, &value).at(at(&format!("order/{id}")))
}

/// A challenge (RFC 8555 §7.1.5).
pub(super) fn challenge(here: &Here, id: &str, order: &Order, n: usize, at: usize) -> Value {
    let one = &order.authorizations[n];
    let challenge = &one.challenges[at];
    let url = format!("{}/chall/{id}/{n}/{}", here.base, challenge.method.name());
    let mut value = json!({
        "type": challenge.method.name(),
        "url": url,
        "token": one.token,
    });
    let status = match &challenge.progress {
        Progress::Pending => "pending",
        Progress::Processing => "processing",
        Progress::Valid(at_s) => {
            value["validated"] = rfc3339(*at_s).into();
            "valid"
        }
        Progress::Invalid(problem) => {
            value["error"] = problem.json();
            "invalid"
        }
    };
    value["status"] = status.into();
    value
}

/// An authorization (RFC 8555 §7.1.4).
pub(super) fn authorization(here: &Here, id: &str, order: &Order, n: usize) -> Option<Answer> {
    let one = order.authorizations.get(n)?;
    let status = order.authorization(n, here.now_s())?;
    let name = match &one.name {
        AltName::Dns(name) => json!({"type": "dns", "value": name.host()}),
        other => identifier(other),
    };
    let all = 0..one.challenges.len();
    let mut value = json!({
        "status": status.name(),
        "expires": rfc3339(order.ends_s),
        "identifier": name,
        "challenges": all.map(|at| challenge(here, id, order, n, at)).collect::<Vec<_>>(),
    });
    if matches!(&one.name, AltName::Dns(name) if name.is_wildcard()) {
        value["wildcard"] = true.into();
    }
    Some(Answer::json(200, &value))
}
