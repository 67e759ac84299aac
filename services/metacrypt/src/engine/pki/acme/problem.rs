//! Why something is not done, as ACME's clients read it (RFC 8555 §6.7, RFC 9457).

use mcdsl::db::StoreError;
use serde::{Deserialize, Serialize};

use super::jws::JwsFault;
use crate::engine::EngineError;

/// A type of error (RFC 8555 §6.7, RFC 9773 §7.4, draft-ietf-acme-profiles §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Type {
    AccountDoesNotExist,
    AlreadyReplaced,
    AlreadyRevoked,
    #[serde(rename = "badCSR")]
    BadCsr,
    BadNonce,
    BadPublicKey,
    BadRevocationReason,
    BadSignatureAlgorithm,
    Connection,
    Dns,
    ExternalAccountRequired,
    IncorrectResponse,
    InvalidContact,
    InvalidProfile,
    Malformed,
    OrderNotReady,
    RateLimited,
    RejectedIdentifier,
    ServerInternal,
    Tls,
    Unauthorized,
    UnsupportedContact,
    UnsupportedIdentifier,
}

impl Type {
    /// In URNs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AccountDoesNotExist => "accountDoesNotExist",
            Self::AlreadyReplaced => "alreadyReplaced",
            Self::AlreadyRevoked => "alreadyRevoked",
            Self::BadCsr => "badCSR",
            Self::BadNonce => "badNonce",
            Self::BadPublicKey => "badPublicKey",
            Self::BadRevocationReason => "badRevocationReason",
            Self::BadSignatureAlgorithm => "badSignatureAlgorithm",
            Self::Connection => "connection",
            Self::Dns => "dns",
            Self::ExternalAccountRequired => "externalAccountRequired",
            Self::IncorrectResponse => "incorrectResponse",
            Self::InvalidContact => "invalidContact",
            Self::InvalidProfile => "invalidProfile",
            Self::Malformed => "malformed",
            Self::OrderNotReady => "orderNotReady",
            Self::RateLimited => "rateLimited",
            Self::RejectedIdentifier => "rejectedIdentifier",
            Self::ServerInternal => "serverInternal",
            Self::Tls => "tls",
            Self::Unauthorized => "unauthorized",
            Self::UnsupportedContact => "unsupportedContact",
            Self::UnsupportedIdentifier => "unsupportedIdentifier",
        }
    }

    /// Of HTTP, where nothing else is said.
    fn status(self) -> u16 {
        match self {
            Self::ExternalAccountRequired | Self::OrderNotReady | Self::Unauthorized => 403,
            Self::AlreadyReplaced => 409,
            Self::RateLimited => 429,
            Self::ServerInternal => 500,
            _ => 400,
        }
    }
}

/// An error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Problem {
    pub(crate) kind: Type,
    /// Of HTTP.
    pub(crate) status: u16,
    /// What is wrong, and what to do.
    pub(crate) detail: String,
    /// The name that it is about.
    pub(crate) identifier: Option<String>,
    pub(crate) subproblems: Vec<Problem>,
    /// Seconds after which it may be tried again.
    pub(crate) retry_after_s: Option<u64>,
    /// What is in the way.
    #[serde(default)]
    pub(crate) location: Option<String>,
}

impl Problem {
    pub(crate) fn new(kind: Type, detail: impl Into<String>) -> Self {
        Self {
            kind,
            status: kind.status(),
            detail: detail.into(),
            identifier: None,
            subproblems: Vec::new(),
            retry_after_s: None,
            location: None,
        }
    }

    /// What was sent is no such thing.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Type::Malformed, detail)
    }

    /// The same as another status of HTTP.
    pub(crate) fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// There is nothing there.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::malformed(format!("there is no such {what}")).with_status(404)
    }

    /// It may be tried again in a while.
    pub(crate) fn later(kind: Type, detail: impl Into<String>, seconds: u64) -> Self {
        Self {
            retry_after_s: Some(seconds.max(1)),
            ..Self::new(kind, detail)
        }
    }

    /// It may be tried again soon.
    fn not_now() -> Self {
        Self::later(Type::ServerInternal, "not now; try again", 5).with_status(503)
    }

    /// Because of what is there.
    pub(crate) fn at(self, location: String) -> Self {
        Self {
            location: Some(location),
            ..self
        }
    }

    /// About a name.
    pub(crate) fn about(self, name: impl ToString) -> Self {
        Self {
            identifier: Some(name.to_string()),
            ..self
        }
    }

    /// As it is answered; names are told as DNS names or addresses.
    pub(crate) fn json(&self) -> serde_json::Value {
        let mut object = serde_json::json!({
            "type": format!("urn:ietf:params:acme:error:{}", self.kind.name()),
            "detail": self.detail,
            "status": self.status,
        });
        if let Some(name) = &self.identifier {
            let kind = match name.parse::<std::net::IpAddr>() {
                Ok(_) => "ip",
                Err(_) => "dns",
            };
            object["identifier"] = serde_json::json!({"type": kind, "value": name});
        }
        if !self.subproblems.is_empty() {
            object["subproblems"] = self.subproblems.iter().map(Self::json).collect();
        }
        if self.kind == Type::BadSignatureAlgorithm {
            object["algorithms"] = serde_json::json!(["ES256", "ES384", "EdDSA", "RS256"]);
        }
        object
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        let text = error.to_string();
        match error {
            EngineError::Refused(_) => Self::new(
                Type::Unauthorized,
                "the policy does not allow it to the account of MCIAS that the key was bound to",
            ),
            EngineError::Invalid(_)
            | EngineError::Precondition(_)
            | EngineError::Kept(_)
            | EngineError::Exists(..)
            | EngineError::Policy(_) => Self::malformed(text),
            EngineError::NotFound(..) => Self::malformed(text).with_status(404),
            // Strangers bring these about, as often as they like.
            EngineError::Seal(_)
            | EngineError::Store(StoreError::Busy)
            | EngineError::Changed
            | EngineError::Busy => {
                tracing::debug!(error = text, "an ACME request cannot be answered now");
                Self::not_now()
            }
            EngineError::Store(_) | EngineError::Audit(_) | EngineError::Unavailable(_) => {
                tracing::warn!(error = text, "an ACME request cannot be answered");
                Self::not_now()
            }
            EngineError::Item(_) | EngineError::Key(_) | EngineError::Unsound(_) => {
                tracing::error!(error = text, "an ACME request cannot be answered");
                Self::new(Type::ServerInternal, "an internal error")
            }
        }
    }
}

impl From<JwsFault> for Problem {
    fn from(fault: JwsFault) -> Self {
        let kind = match &fault {
            JwsFault::Form(_) | JwsFault::Signature => Type::Malformed,
            JwsFault::Algorithm(_) => Type::BadSignatureAlgorithm,
            JwsFault::Key(_) => Type::BadPublicKey,
        };
        Self::new(kind, fault.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_as_the_rfc_has_it() {
        let one = Problem::new(Type::RejectedIdentifier, "not allowed").about("10.0.0.1");
        let mut all = Problem::new(Type::RejectedIdentifier, "some");
        all.subproblems = vec![one];
        assert_eq!(
            all.json(),
            serde_json::json!({
                "type": "urn:ietf:params:acme:error:rejectedIdentifier",
                "detail": "some",
                "status": 400,
                "subproblems": [{
                    "type": "urn:ietf:params:acme:error:rejectedIdentifier",
                    "detail": "not allowed",
                    "status": 400,
                    "identifier": {"type": "ip", "value": "10.0.0.1"},
                }],
            })
        );
        for kind in [Type::BadCsr, Type::OrderNotReady, Type::Dns] {
            let text = serde_json::to_value(kind).unwrap();
            assert_eq!(text, kind.name());
        }
    }
}
