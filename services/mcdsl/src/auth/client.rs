//! A service's side of MCIAS: tokens are verified here, by keys and revocations that are kept up to date.
//!
//! In the steady state a token costs one Ed25519 verification, the first time that it comes, and no network: a stream brings every revocation as it happens. While the
//! stream is down each token is asked for, and the answer holds for [`CHECK`]. What cannot be found out is refused.

mod verified;
mod watch;

use std::{
    collections::HashMap,
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, digest};
use hyper_util::rt::TokioIo;
use mc_proto::mcias::v1::{
    CheckAccountRequest, CheckTokenRequest, GetKeysRequest, PublicKey, auth_client::AuthClient,
};
use serde::Deserialize;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Uri},
};

use self::verified::Verified;
use super::{
    AuthError, Authenticator, Identity, Revocations,
    id_token::{Expected, IdClaims},
    token::{Claims, Keys},
};

use crate::{
    certificate::{self, CertificateError},
    cli::{Failure, bearer, status_failure, token_file},
    clock::Clock,
    dial::{ServerUrl, ServerUrlError},
    secret_file::SecretFile,
};

/// How long an answer holds that was asked for.
const CHECK: Duration = Duration::from_secs(30);
/// A stream that says nothing for so long is down; MCIAS says something every 10 s.
const SILENCE: Duration = Duration::from_secs(25);
/// For an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Keys are not asked for more often, whatever tokens come.
const KEYS: Duration = Duration::from_secs(5);
/// Answers that are kept.
const MAX_ANSWERS: usize = 10_000;

/// `[mcias]`.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// MCIAS's gRPC address, with its port: `https://mcias.example:9443`.
    pub server_url: String,
    /// What its certificate leads to, PEM.
    pub ca_cert: PathBuf,
    /// This service, as it is registered with MCIAS: what tokens are for (`aud`).
    pub service_name: String,
    /// Holds the token of this service's system account, for its owner and group alone. It is read again when it changes.
    pub token_file: PathBuf,
}

impl Config {
    /// Whether a client can be made of it: its files are read, and nobody is asked.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn check(&self) -> Result<(), ClientError> {
        let server: ServerUrl = self.server_url.parse()?;
        server.dialer(certificate::anchors(&self.ca_cert)?)?;
        own(&self.token_file).map_err(ClientError::Token)?;
        Ok(())
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not an address.
    #[error("[mcias] server_url: {0}")]
    Address(#[from] ServerUrlError),
    /// No CA.
    #[error("[mcias] ca_cert cannot be used")]
    Ca(#[from] CertificateError),
    /// No TLS.
    #[error("TLS with MCIAS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// No token, or others may read it.
    #[error(
        "[mcias] token_file: {}",
        .0.clone().or_hint("`mciasctl token issue ACCOUNT --service mcias --to FILE` writes one, mode 600 or 640")
    )]
    Token(Failure),
}

/// The client.
pub struct Client {
    service: String,
    /// Where MCIAS is, for errors.
    server: ServerUrl,
    grpc: AuthClient<Channel>,
    own: SecretFile<MetadataValue<Ascii>>,
    clock: Clock,
    state: Mutex<State>,
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    keys: Arc<Verified>,
    /// As MCIAS gave them.
    published: Vec<PublicKey>,
    issuer: Arc<str>,
    /// When keys were asked for last, and whether they came.
    asked_keys: Option<(Instant, bool)>,
    revocations: Revocations,
    /// The stream has said all, and when it last said something.
    heard: Option<Instant>,
    /// SHA-256 of tokens and of accounts' ids that were asked for: until when they are known to be good, or not.
    answers: HashMap<[u8; 32], (Instant, bool)>,
    /// How often something was revoked since the start: what was asked before is not kept after it.
    revoked: u64,
}

impl State {
    /// Something was revoked: what was told before may not hold.
    fn forget_answers(&mut self) {
        self.revoked += 1;
        self.answers.clear();
    }
}

impl Client {
    /// Connects when it is needed; see [`Self::watch`]. Tokens are valid by `clock`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn new(config: &Config, clock: Clock) -> Result<Arc<Self>, ClientError> {
        let server: ServerUrl = config.server_url.parse()?;
        let dialer = Arc::new(server.dialer(certificate::anchors(&config.ca_cert)?)?);
        let connector = tower::service_fn(move |_: Uri| {
            let dialer = Arc::clone(&dialer);
            async move { dialer.dial().await.map(TokioIo::new) }
        });
        let channel = server
            .endpoint()
            .connect_timeout(TIMEOUT)
            .http2_keep_alive_interval(SILENCE)
            .connect_with_connector_lazy(connector);
        let own = SecretFile::open(&config.token_file, own).map_err(ClientError::Token)?;
        Ok(Arc::new(Self {
            service: config.service_name.clone(),
            server,
            grpc: AuthClient::new(channel),
            own,
            clock,
            state: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }))
    }

    /// Whether every revocation is known as it happens.
    #[must_use]
    pub fn is_live(&self) -> bool {
        let heard = self.state().heard;
        heard.is_some_and(|heard| self.since(heard) < SILENCE)
    }

    /// Whether what was given to an account is revoked, as tokens of that time are; `None`: nobody can say, as the stream is down.
    #[must_use]
    pub fn is_revoked(&self, identity: &Identity) -> Option<bool> {
        if self.state().revocations.has(identity) {
            return Some(true);
        }
        self.is_live().then_some(false)
    }

    /// Whether an account, by its id, may be used now; an answer holds for 30 s, or until something is revoked.
    ///
    /// # Errors
    /// [`AuthError::Unavailable`].
    pub async fn is_active(&self, account: &str) -> Result<bool, AuthError> {
        let message = CheckAccountRequest {
            account_id: account.to_owned(),
            ..CheckAccountRequest::default()
        };
        let mut grpc = self.grpc.clone();
        let ask = async {
            let request = self.request(message, Some(TIMEOUT));
            Ok(grpc.check_account(request).await?.into_inner().active)
        };
        self.answer(account, ask).await
    }

    /// The id of the account that has this name now; `None`: nobody has it.
    ///
    /// # Errors
    /// [`AuthError::Unavailable`].
    pub async fn id_of(&self, name: &str) -> Result<Option<String>, AuthError> {
        let message = CheckAccountRequest {
            name: name.to_owned(),
            ..CheckAccountRequest::default()
        };
        let mut grpc = self.grpc.clone();
        let answer = grpc.check_account(self.request(message, Some(TIMEOUT)));
        let answer = answer.await.map_err(|status| self.unavailable(&status))?;
        let id = answer.into_inner().account_id;
        Ok((!id.is_empty()).then_some(id))
    }

    /// By which tokens are valid.
    #[cfg(feature = "web")]
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    fn since(&self, then: Instant) -> Duration {
        self.clock.steady().saturating_duration_since(then)
    }

    async fn refresh_keys(&self, always: bool) -> Result<(), Status> {
        let _one = self.asking.lock().await;
        let asked = self.state().asked_keys;
        if let Some((at, came)) = asked
            && !always
            && self.since(at) < KEYS
        {
            let unknown = || Status::unavailable("its keys are not known");
            return came.then_some(()).ok_or_else(unknown);
        }
        self.state().asked_keys = Some((self.clock.steady(), false));
        let mut answer = self
            .grpc
            .clone()
            .get_keys(self.request(GetKeysRequest {}, Some(TIMEOUT)))
            .await?
            .into_inner();
        answer.keys.sort_by(|a, b| a.kid.cmp(&b.kid));
        let mut state = self.state();
        // Else it begins without the tokens that it knows.
        if state.published != answer.keys {
            let keys = answer.keys.iter().map(|key| (key.kid.as_str(), &*key.key));
            state.keys = Arc::new(Verified::new(Keys::new(keys)));
            state.published = answer.keys;
        }
        state.issuer = answer.issuer.into();
        state.asked_keys = Some((self.clock.steady(), true));
        Ok(())
    }

    /// The claims of an ID token, by the keys that are known.
    ///
    /// # Errors
    /// [`AuthError::Invalid`].
    pub fn verify_id(&self, token: &str, expected: Expected<'_>) -> Result<IdClaims, AuthError> {
        let keys = Arc::clone(&self.state().keys);
        let keys = keys.keys();
        keys.verify_id(token, expected, self.clock.now())
    }

    /// Asks MCIAS whether it answers, and takes this service's own token: for who looks before a start.
    ///
    /// # Errors
    /// Why not.
    pub async fn examine(&self) -> Result<(), String> {
        let failed = |status: Status| status_failure(&status).message;
        let keys = self.refresh_keys(true).await;
        keys.map_err(|status| match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => format!(
                "does not take the token of this service's account, which has to be for the service mcias: {}",
                failed(status)
            ),
            _ => format!("does not answer: {}", failed(status)),
        })?;
        let own = self.own.now();
        let own = own
            .to_str()
            .ok()
            .and_then(|text| text.strip_prefix("Bearer "));
        let message = CheckTokenRequest {
            token: own.unwrap_or_default().to_owned(),
        };
        let request = self.request(message, Some(TIMEOUT));
        let answer = self.grpc.clone().check_token(request).await;
        match answer {
            Ok(answer) if answer.get_ref().valid => Ok(()),
            Ok(_) => Err("does not take the token of this service's account".to_owned()),
            Err(status) => Err(format!(
                "does not take the token of this service's account: {}",
                failed(status)
            )),
        }
    }

    /// MCIAS's methods, for [requests](Self::request) of this service's own.
    #[must_use]
    pub fn grpc(&self) -> AuthClient<Channel> {
        self.grpc.clone()
    }

    /// A request with this service's own token.
    pub fn request<T>(&self, message: T, timeout: Option<Duration>) -> Request<T> {
        let mut request = Request::new(message);
        request
            .metadata_mut()
            .insert("authorization", self.own.now());
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
        }
        request
    }

    fn unavailable(&self, status: &Status) -> AuthError {
        AuthError::Unavailable(format!("MCIAS at {}: {}", self.server, status.message()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn verify(&self, token: &str) -> Result<Identity, AuthError> {
        let (keys, issuer) = {
            let state = self.state();
            (Arc::clone(&state.keys), Arc::clone(&state.issuer))
        };
        let claims = keys.signed(token)?;
        claims.check(&issuer, Some(&self.service), self.clock.now())?;
        Ok(Claims::clone(&claims).into())
    }

    /// Asks for one token, unless that was done just now.
    async fn ask(&self, token: &str) -> Result<bool, AuthError> {
        let message = CheckTokenRequest {
            token: token.to_owned(),
        };
        let mut grpc = self.grpc.clone();
        let ask = async {
            let request = self.request(message, Some(TIMEOUT));
            Ok(grpc.check_token(request).await?.into_inner().valid)
        };
        self.answer(token, ask).await
    }

    /// What is known of a token or an account, or else what MCIAS says to `ask`.
    async fn answer(
        &self,
        of: &str,
        ask: impl Future<Output = Result<bool, Status>>,
    ) -> Result<bool, AuthError> {
        let hash = hash(of)?;
        let now = self.clock.steady();
        let revoked = {
            let state = self.state();
            if let Some((until, good)) = state.answers.get(&hash)
                && now < *until
            {
                return Ok(*good);
            }
            state.revoked
        };
        let good = ask.await.map_err(|status| self.unavailable(&status))?;
        let mut state = self.state();
        if state.answers.len() >= MAX_ANSWERS {
            state.answers.retain(|_, (until, _)| *until > now);
        }
        if state.answers.len() < MAX_ANSWERS && state.revoked == revoked {
            state.answers.insert(hash, (now + CHECK, good));
        }
        Ok(good)
    }
}

impl Authenticator for Client {
    fn authenticate<'a>(
        &'a self,
        token: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Identity, AuthError>> + Send + 'a>> {
        Box::pin(async move {
            let mut verified = self.verify(token);
            if verified == Err(AuthError::Invalid("an unknown key")) {
                // MCIAS may sign with a new one.
                let asked = self.refresh_keys(false).await;
                asked.map_err(|status| self.unavailable(&status))?;
                verified = self.verify(token);
            }
            let identity = verified?;
            // What is known to be revoked is, whether the stream is up or not.
            let revoked = self.state().revocations.has(&identity);
            if revoked || !(self.is_live() || self.ask(token).await?) {
                return Err(AuthError::Invalid("revoked"));
            }
            Ok(identity)
        })
    }
}

fn hash(of: &str) -> Result<[u8; 32], AuthError> {
    let hash = digest(&SHA256, of.as_bytes());
    let hash = hash.as_ref().try_into();
    hash.map_err(|_| AuthError::Invalid("its hash"))
}

fn own(path: &Path) -> Result<MetadataValue<Ascii>, Failure> {
    bearer(&token_file(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::PrivateFile;

    #[tokio::test]
    async fn what_was_asked_before_a_revocation_is_not_kept_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        std::fs::write(file("ca.pem"), mc_testkit::ca::Ca::new().unwrap().pem()).unwrap();
        let token = PrivateFile::create(&file("token")).unwrap();
        token.write(b"own\n").unwrap();
        let config = Config {
            server_url: "https://localhost:1".to_owned(),
            ca_cert: file("ca.pem"),
            service_name: "notes".to_owned(),
            token_file: file("token"),
        };
        let client = Client::new(&config, Clock::default()).unwrap();
        let told = |good| std::future::ready(Ok(good));
        // While the answer is on its way, something is revoked.
        let late = async {
            client.state().forget_answers();
            Ok(true)
        };
        assert_eq!(client.answer("1", late).await, Ok(true));
        assert_eq!(client.answer("1", told(false)).await, Ok(false), "not kept");
        assert_eq!(client.answer("1", told(true)).await, Ok(false), "kept");
    }
}
