//! MCIAS as an OpenID provider: where its endpoints are, and what its token endpoint gives.

use std::{
    fmt,
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    http::{Request, StatusCode, header},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, MutexGuard};

use super::http::Http;
use crate::secret_file::SecretFile;

/// How long an answer holds, one that there is none as well: whoever asks to log in costs MCIAS no more than a request in that time.
const FRESH: Duration = Duration::from_secs(5);
/// OpenID Connect Discovery §4.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// The provider.
pub(super) struct Provider {
    pub(super) issuer: String,
    pub(super) client: String,
    secret: SecretFile<SecretString>,
    http: Http,
    known: Mutex<Known>,
}

/// The last answer, and of when.
type Known = Option<(Instant, Result<Endpoints, Failed>)>;

/// URLs of the issuer.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Endpoints {
    issuer: String,
    #[serde(rename = "authorization_endpoint")]
    pub(super) authorization: String,
    #[serde(rename = "token_endpoint")]
    token: String,
    #[serde(rename = "end_session_endpoint")]
    pub(super) end_session: String,
}

/// Tokens of a login, as a session keeps them: sealed. What they are is nobody's to see.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Tokens {
    #[serde(rename = "access_token")]
    pub(super) access: String,
    #[serde(rename = "refresh_token")]
    pub(super) refresh: String,
    #[serde(rename = "id_token")]
    pub(super) id: String,
}

/// Why there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// Not now, for all that is known.
    Unavailable(String),
    /// Not for this code or refresh token.
    Refused,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) => f.write_str(why),
            Self::Refused => f.write_str("the code or refresh token is refused"),
        }
    }
}

/// RFC 6749 §5.2.
#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl Provider {
    pub(super) fn new(
        issuer: String,
        client: String,
        secret: SecretFile<SecretString>,
        http: Http,
    ) -> Self {
        Self {
            issuer,
            client,
            secret,
            http,
            known: Mutex::default(),
        }
    }

    /// Where the endpoints are, as it says now.
    pub(super) async fn endpoints(&self) -> Result<Endpoints, Failed> {
        let known = self.known.lock().await;
        match &*known {
            Some((at, answer)) if at.elapsed() < FRESH => answer.clone(),
            _ => self.ask(known).await,
        }
    }

    /// The same, asked for now: for who is to be sent there whether it answers or not, and would see nothing but his browser's error.
    pub(super) async fn endpoints_now(&self) -> Result<Endpoints, Failed> {
        self.ask(self.known.lock().await).await
    }

    async fn ask(&self, mut known: MutexGuard<'_, Known>) -> Result<Endpoints, Failed> {
        let answer = self.discover().await.map_err(|why| {
            let why = format!("{} does not say how to log in: {why}", self.issuer);
            tracing::warn!("{why}");
            Failed::Unavailable(why)
        });
        *known = Some((Instant::now(), answer.clone()));
        answer
    }

    async fn discover(&self) -> Result<Endpoints, String> {
        let request = Request::get(DISCOVERY);
        let (status, body) = self.http.send(request, String::new()).await?;
        if status != StatusCode::OK {
            return Err(format!("it answers {status}"));
        }
        let found: Endpoints = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        // An issuer that names another's endpoints would be sent what is meant for that one.
        let here = |url: &str| {
            url.strip_prefix(&self.issuer)
                .is_some_and(|path| path.starts_with('/'))
        };
        if found.issuer != self.issuer {
            return Err(format!("it calls itself {:?}", found.issuer));
        }
        let all = [&found.authorization, &found.token, &found.end_session];
        if !all.into_iter().all(|url| here(url)) {
            return Err("an endpoint is not its own".to_owned());
        }
        Ok(found)
    }

    /// Tokens for a code.
    pub(super) async fn exchange(
        &self,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
    ) -> Result<Tokens, Failed> {
        self.tokens(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("code_verifier", verifier),
            ("redirect_uri", redirect_uri),
        ])
        .await
    }

    /// The next tokens, for a refresh token that is good this once.
    pub(super) async fn refresh(&self, token: &str) -> Result<Tokens, Failed> {
        self.tokens(&[("grant_type", "refresh_token"), ("refresh_token", token)])
            .await
    }

    /// Whether this client is known there, by a question that has no good answer.
    pub(super) async fn knows_client(&self) -> Result<(), String> {
        let asked =
            self.token_answer(&[("grant_type", "refresh_token"), ("refresh_token", "none")]);
        let (status, body) = asked.await?;
        match &*refusal(&body) {
            "invalid_grant" => Ok(()),
            "invalid_client" => Err(format!(
                "it does not know the service {:?}, or the client's secret is not that one's",
                self.client
            )),
            other => Err(format!("it answers {status} {other:?}")),
        }
    }

    async fn tokens(&self, fields: &[(&str, &str)]) -> Result<Tokens, Failed> {
        let unavailable = |why: String| {
            tracing::warn!(why, "{} gives no tokens", self.issuer);
            Failed::Unavailable(format!("{} gives no tokens", self.issuer))
        };
        // Why it does not say where they are is told by itself.
        self.endpoints().await?;
        let (status, body) = self.token_answer(fields).await.map_err(unavailable)?;
        if status == StatusCode::OK {
            // Its text is not told: there are tokens in it.
            let tokens = serde_json::from_slice(&body);
            return tokens.map_err(|_| unavailable("its answer is none".to_owned()));
        }
        let error = refusal(&body);
        if error == "invalid_grant" {
            return Err(Failed::Refused);
        }
        Err(unavailable(format!("{status} {error:?}")))
    }

    async fn token_answer(&self, fields: &[(&str, &str)]) -> Result<(StatusCode, Bytes), String> {
        let path = self.endpoints().await.map_err(|failed| match failed {
            Failed::Unavailable(why) => why,
            Failed::Refused => "it is refused".to_owned(),
        })?;
        let path = path.token;
        let path = path.strip_prefix(&self.issuer).unwrap_or_default();
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .append_pair("client_id", &self.client)
            .append_pair("client_secret", self.secret.now().expose_secret())
            .finish();
        let request =
            Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.http.send(request, body).await
    }
}

/// Why tokens are refused (RFC 6749 §5.2).
fn refusal(body: &[u8]) -> String {
    let refusal: Option<Refusal> = serde_json::from_slice(body).ok();
    refusal.map(|refusal| refusal.error).unwrap_or_default()
}
