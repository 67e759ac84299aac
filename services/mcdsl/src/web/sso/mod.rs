//! Logging in by MCIAS: the pages of every other service are an OpenID Connect client of it (authorization code with PKCE S256).
//!
//! Who has no session is sent to MCIAS and comes back with a code, which is exchanged for tokens over a connection of our own. The
//! session lives by its access token: each request verifies that as one of the API is verified, so that a page session ends when its
//! login does. Shortly before its end it is refreshed.
//!
//! What waits between redirect and callback is in the browser, encrypted ([`Page::log_in_elsewhere`]); the tokens are in the session's
//! row, encrypted under its cookie, which the database does not have.
//!
//! Rejected: the crate `openidconnect` (RSA, ECDSA and an Ed25519 of RustCrypto for a provider that signs with one algorithm, whose
//! access tokens [`Client`] verifies in any case), sessions that outlive their token, JWKS over HTTP beside the keys of [`Client`] (two
//! copies, of which one would learn late that a key is withdrawn).

mod http;
mod provider;
mod session;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use askama::Template;
use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};
use axum::{
    Router,
    extract::{RawQuery, State},
    http::Uri,
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use tokio_util::task::TaskTracker;

use self::{
    http::Http,
    provider::{Failed, Provider},
};
use super::{
    Answer, ErrorPage, LocalPath, OriginError, Page, SessionId, Site,
    headers::FormAction,
    secret::{Secret, random},
};
use crate::{
    auth::client::{self, Client},
    certificate::CertificateError,
    cli::{Exit, Failure, read_private},
    secret_file::SecretFile,
    shutdown::Shutdown,
};

/// Where MCIAS sends the browser back to, after `public_url`: the client's redirect URI.
pub const CALLBACK: &str = "/login/callback";
/// Bytes of a client's secret.
const MAX_SECRET: u64 = 1024;
/// Bytes of what the callback is told.
const MAX_QUERY: usize = 4096;
/// The query of the page of who is logged out here alone.
const ALONE: &str = "alone";

/// `[sso]`.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// MCIAS's pages: its `[token] issuer`, byte for byte. Its certificate leads to `[mcias] ca_cert`.
    pub issuer: String,
    /// Where browsers reach this service's pages: `https://notes.example.org`. With [`CALLBACK`] it is a redirect URI of the service
    /// at MCIAS, and with the path of the logout a post-logout redirect URI.
    pub public_url: String,
    /// Holds the client's secret (`mciasctl service put`); for its owner alone. It is read again when it changes.
    pub client_secret_file: PathBuf,
}

/// Why nobody could log in by MCIAS.
#[derive(Debug, thiserror::Error)]
pub enum SsoError {
    /// Not an origin.
    #[error("[sso] {0}: {1}, and nothing after that")]
    Url(&'static str, OriginError),
    /// Cookies and codes would go over it unencrypted.
    #[error("[sso] {0} {1:?} does not begin with https://")]
    Plain(&'static str, String),
    /// No name that a certificate could have.
    #[error("[sso] issuer {0:?} names no host")]
    Host(String),
    /// No secret.
    #[error(
        "[sso] client_secret_file: {}",
        .0.clone().or_hint("`mciasctl service put SERVICE` prints the secret, which belongs there, mode 600")
    )]
    Secret(Failure),
    /// No CA.
    #[error("[mcias] ca_cert cannot be used")]
    Ca(#[from] CertificateError),
    /// No TLS.
    #[error("TLS with MCIAS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// The client.
pub struct Sso {
    provider: Provider,
    mcias: Arc<Client>,
    public_url: String,
    form_action: FormAction,
    /// Refreshes go on without their browsers.
    tasks: TaskTracker,
    /// Sessions that are being refreshed; never more than there are requests.
    renewing: Mutex<HashMap<SessionId, Arc<tokio::sync::Mutex<()>>>>,
}

/// What waits in the browser.
#[derive(Serialize, Deserialize)]
struct Pending {
    state: String,
    nonce: String,
    verifier: String,
    next: String,
}

/// What MCIAS says by the browser (RFC 6749 §4.1.2, RFC 9207).
#[derive(Default, Deserialize)]
struct Told {
    code: Option<String>,
    state: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<div class="empty"><p>{{ text }}</p><p><a class="button" href="/">Log in</a></p></div>"#
)]
struct Out<'a> {
    text: &'a str,
}

impl Sso {
    /// Connects when somebody logs in. The client is the service that `mcias` names, whose tokens `client` verifies.
    ///
    /// # Errors
    /// [`SsoError`].
    pub fn new(
        config: &Config,
        mcias: &client::Config,
        client: Arc<Client>,
        shutdown: &Shutdown,
    ) -> Result<Arc<Self>, SsoError> {
        let issuer = origin("issuer", &config.issuer)?;
        origin("public_url", &config.public_url)?;
        let form_action = FormAction::of(&config.issuer).map_err(|e| SsoError::Url("issuer", e))?;
        let secret = SecretFile::open(&config.client_secret_file, secret);
        let secret = secret.map_err(SsoError::Secret)?;
        let http = Http::new(&issuer, &mcias.ca_cert)?;
        let (issuer, name) = (config.issuer.clone(), mcias.service_name.clone());
        Ok(Arc::new(Self {
            provider: Provider::new(issuer, name, secret, http),
            mcias: client,
            public_url: config.public_url.clone(),
            form_action,
            tasks: shutdown.tracker().clone(),
            renewing: Mutex::default(),
        }))
    }

    /// Asks MCIAS whether it knows this service, and its secret: for who looks before a start.
    ///
    /// # Errors
    /// Why not.
    pub async fn examine(&self) -> Result<(), String> {
        self.provider.knows_client().await
    }

    /// What a form here may lead to beside this site: browsers hold a form to where its redirects lead, and logging out leads there.
    pub(super) fn form_action(&self) -> FormAction {
        self.form_action.clone()
    }

    fn redirect_uri(&self) -> String {
        format!("{}{CALLBACK}", self.public_url)
    }
}

/// An https origin in the one spelling that is compared.
fn origin(key: &'static str, url: &str) -> Result<Uri, SsoError> {
    let FormAction(plain) = FormAction::of(url).map_err(|e| SsoError::Url(key, e))?;
    if !url.starts_with("https://") {
        return Err(SsoError::Plain(key, url.to_owned()));
    }
    let uri = plain.parse().ok().filter(|_| plain == url);
    uri.ok_or_else(|| SsoError::Url(key, OriginError(url.to_owned())))
}

/// Of the service, as MCIAS knows it.
const SECRET_ANEW: &str = "`mciasctl service put … --new-secret` makes another, and that one void";

fn secret(path: &Path) -> Result<SecretString, Failure> {
    let at = path.display();
    let text = read_private(path, MAX_SECRET, 0o077, SECRET_ANEW)?
        .ok_or_else(|| Failure::new(Exit::NotFound, format_args!("there is no file {at}")))?;
    let secret = text.expose_secret().trim();
    if secret.is_empty() {
        return Err(Failure::usage(format_args!("{at} is empty")));
    }
    Ok(secret.into())
}

/// The pages of a site that logs in so.
pub(super) fn routes(sso: &Arc<Sso>, site: &Site) -> Router {
    Router::new()
        .route(site.login, get(log_in))
        .route(CALLBACK, get(callback))
        .route(site.logout, get(logged_out).post(log_out))
        .with_state(Arc::clone(sso))
}

/// Sends the browser to MCIAS.
async fn log_in(State(sso): State<Arc<Sso>>, page: Page) -> Answer {
    let next = page.next();
    if page.session().is_some() {
        return page.redirect(&next, None).await;
    }
    let endpoints = sso.provider.endpoints().await.map_err(failed)?;
    let [state, nonce, verifier] = [(); 3].map(|()| BASE64.encode(random::<32>()));
    let challenge = BASE64.encode(digest(&SHA256, verifier.as_bytes()));
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("response_type", "code")
        .append_pair("client_id", &sso.provider.client)
        .append_pair("redirect_uri", &sso.redirect_uri())
        .append_pair("scope", "openid profile roles")
        .append_pair("state", &state)
        .append_pair("nonce", &nonce)
        .append_pair("code_challenge", &challenge)
        .append_pair("code_challenge_method", "S256")
        .finish();
    let pending = Pending {
        state,
        nonce,
        verifier,
        next: next.as_str().to_owned(),
    };
    page.log_in_elsewhere(&format!("{}?{query}", endpoints.authorization), &pending)
}

/// The browser is back.
async fn callback(State(sso): State<Arc<Sso>>, page: Page, RawQuery(query): RawQuery) -> Answer {
    let query = query.unwrap_or_default();
    let told = (query.len() <= MAX_QUERY)
        .then(|| serde_html_form::from_str::<Told>(&query).ok())
        .flatten();
    // Nobody else knows the state, so whoever sends somebody here with a code of his own is found out.
    let pending = page.login_state::<Pending>().filter(|pending| {
        let state = told.as_ref().and_then(|told| told.state.as_deref());
        let same =
            |state: &str| verify_slices_are_equal(state.as_bytes(), pending.state.as_bytes());
        state.is_some_and(|state| same(state).is_ok())
    });
    let (Some(told), Some(pending)) = (told, pending) else {
        // By the history, or from a second window in which somebody logged in meanwhile.
        if let Some(again) = page.once_more() {
            return Ok(again);
        }
        if page.session().is_some() {
            return page.redirect(&LocalPath::home(), None).await;
        }
        return Err(ErrorPage::bad_request(
            "This login was not begun in this browser, was finished already, or took too long. Go to the start page and log in again.",
        ));
    };
    if told.iss.as_deref() != Some(&*sso.provider.issuer) {
        return Err(ErrorPage::bad_request(
            "The answer is not of the service that you were sent to to log in.",
        ));
    }
    let Some(code) = told.code.filter(|_| told.error.is_none()) else {
        return Err(refused(told.error.as_deref().unwrap_or_default()));
    };
    let redirect_uri = sso.redirect_uri();
    let tokens = sso
        .provider
        .exchange(&code, &pending.verifier, &redirect_uri)
        .await;
    let tokens = tokens.map_err(failed)?;
    let identity = sso.check(&tokens, Some(&pending.nonce)).await?;
    let secret = Secret::random();
    let new = session::new(&secret, identity, &tokens);
    page.log_in_under(&secret, new, &LocalPath::or_home(Some(&pending.next)))
        .await
}

/// Ends the session here, and sends the browser on to end the login there. The first comes first: whatever MCIAS does, it is over here.
async fn log_out(State(sso): State<Arc<Sso>>, page: Page) -> Answer {
    let hint = page
        .session()
        .and_then(|session| session::id_token(session, page.secret()));
    let logout = page.logout_path();
    let answer = page.log_out(&LocalPath::or_home(Some(logout))).await?;
    let Some(hint) = hint else {
        return Ok(answer);
    };
    let Ok(endpoints) = sso.provider.endpoints_now().await else {
        return page.lead_away(answer, &format!("{logout}?{ALONE}"));
    };
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", &sso.provider.client)
        .append_pair("id_token_hint", &hint)
        .append_pair(
            "post_logout_redirect_uri",
            &format!("{}{logout}", sso.public_url),
        )
        .finish();
    page.lead_away(answer, &format!("{}?{query}", endpoints.end_session))
}

/// Where MCIAS sends the browser afterwards.
async fn logged_out(page: Page, RawQuery(query): RawQuery) -> Answer {
    if page.session().is_some() {
        return page.redirect(&LocalPath::home(), None).await;
    }
    let alone = query.as_deref() == Some(ALONE);
    let text = if alone {
        "You are logged out here. MCIAS does not answer: your login there, and at other services, goes on until you log out there."
    } else {
        "You are logged out."
    };
    page.render("Logged out", &Out { text })
}

/// What of the provider a person is told.
fn failed(failed: Failed) -> ErrorPage {
    match failed {
        Failed::Refused => ErrorPage::bad_request(
            "This login is not valid any more: it was finished already, or took too long. Go to the start page and log in again.",
        ),
        Failed::Unavailable(_) => unavailable(),
    }
}

fn unavailable() -> ErrorPage {
    ErrorPage::unavailable(
        "Nobody can log in at the moment: MCIAS, which knows who you are, does not answer. Try again in a minute.",
    )
}

/// MCIAS's error codes in words of our own (RFC 6749 §4.1.2.1): what comes by the browser may be anybody's.
fn refused(error: &str) -> ErrorPage {
    let known = ["access_denied", "temporarily_unavailable", "server_error"];
    let known = known.iter().find(|known| **known == error);
    tracing::info!(error = known, "MCIAS lets somebody not log in");
    match known {
        Some(&"access_denied") => {
            ErrorPage::forbidden("MCIAS does not let you use this service. Ask its administrator.")
        }
        Some(_) => unavailable(),
        None => ErrorPage::bad_gateway(
            "MCIAS refused this login. Its administrator finds in its audit log why.",
        ),
    }
}
