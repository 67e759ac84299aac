//! A request's page: who sees it, what its forms need, and the answers that a handler gives.

use std::{fmt, net::IpAddr, sync::Arc, time::SystemTime};

use askama::Template;
use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse as _, Response},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    ErrorPage, Flash, LocalPath, NavItem, NewSession, OriginError, Session, Tone, assets,
    cookie::{self, SameSite},
    error::Wants,
    guard,
    headers::FormAction,
    login_state,
    session::Client,
    visit::Visit,
};

const HX_REDIRECT: HeaderName = HeaderName::from_static("hx-redirect");

/// `<input type="hidden" …>` with the token; in a template it is `{{ csrf }}` in each form that posts.
#[derive(Clone, Debug)]
pub struct CsrfField(String);

impl fmt::Display for CsrfField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, token) = (guard::FIELD, &self.0);
        write!(f, r#"<input type="hidden" name="{name}" value="{token}">"#)
    }
}

/// A name and Base64, neither of which HTML reads otherwise.
impl askama::filters::HtmlSafe for CsrfField {}

/// In a response: it carries tokens, so that the browser needs their cookie; and it may have shown the session's message.
#[derive(Clone, Copy)]
struct Rendered {
    flash: bool,
}

/// The page of a request, which handlers take as an argument. A handler's own template is what is between header and footer, below
/// the title, which is the `h1`.
#[derive(Clone)]
pub struct Page {
    visit: Arc<Visit>,
    messages: Vec<Flash>,
    form_action: Option<FormAction>,
}

#[derive(Template)]
#[template(path = "base.html")]
struct Layout<'a> {
    title: &'a str,
    service: &'a str,
    nav: Vec<Link>,
    account: Vec<Link>,
    session: Option<&'a Session>,
    token: String,
    csrf: CsrfField,
    messages: Vec<&'a Flash>,
    content: &'a str,
    login: Option<&'a str>,
    logout: &'a str,
    style: &'a str,
    icon: &'a str,
    htmx: &'a str,
    script: Option<&'a str>,
}

struct Link {
    label: &'static str,
    path: &'static str,
    current: bool,
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorContent<'a> {
    status: u16,
    message: &'a str,
}

#[derive(Template)]
#[template(path = "message.html")]
struct Message<'a> {
    message: &'a Flash,
}

#[derive(Template)]
#[template(path = "again.html")]
struct Again<'a> {
    service: &'a str,
    path: &'a str,
    style: &'a str,
}

fn html<T: Template>(template: &T) -> Result<String, ErrorPage> {
    template.render().map_err(|error| {
        tracing::error!(%error, "a template failed");
        ErrorPage::internal()
    })
}

/// A message alone, for htmx.
pub(super) fn render_message(page: &Page, message: &Flash) -> Result<Response, ErrorPage> {
    page.fragment(&Message { message })
}

impl Page {
    pub(super) fn new(visit: Visit) -> Self {
        Self {
            visit: Arc::new(visit),
            messages: Vec::new(),
            form_action: None,
        }
    }

    /// Who is logged in.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        self.visit.session.as_ref()
    }

    /// The account's roles now, by which this page's navigation goes instead of those at its login.
    pub fn has_roles(&self, roles: &[String]) {
        // Said twice, it is the same request: the first holds.
        let _ = self.visit.roles.set(roles.to_vec());
    }

    /// For forms that post.
    #[must_use]
    pub fn csrf(&self) -> CsrfField {
        CsrfField(self.csrf_token())
    }

    /// For scripts that send it as `X-CSRF-Token`; htmx does by itself.
    #[must_use]
    pub fn csrf_token(&self) -> String {
        self.visit.secret.token()
    }

    /// Where somebody wants to be after the login: the query's `next` if it is a path of this site, else `/`.
    #[must_use]
    pub fn next(&self) -> LocalPath {
        LocalPath::next(&self.visit.uri)
    }

    /// Where the request comes from, if a server of this crate took it.
    #[must_use]
    pub fn source(&self) -> Option<IpAddr> {
        self.visit.source
    }

    /// Whether htmx asks for a part of a page.
    #[must_use]
    pub fn is_htmx(&self) -> bool {
        self.visit.wants == Wants::Fragment
    }

    /// Shows a message on this page.
    #[must_use]
    pub fn with(mut self, message: Flash) -> Self {
        self.messages.push(message);
        self
    }

    /// Lets this page's forms lead to the origin of `url`, where their answer redirects to (an OIDC client's redirect URI).
    ///
    /// # Errors
    /// If that is no https origin.
    pub fn with_form_action(mut self, url: &str) -> Result<Self, OriginError> {
        self.form_action = Some(FormAction::of(url)?);
        Ok(self)
    }

    /// The whole page.
    ///
    /// # Errors
    /// If the template fails.
    pub fn render(&self, title: &str, content: &impl Template) -> Result<Response, ErrorPage> {
        let content = html(content)?;
        let visit = &self.visit;
        let site = &visit.state.site;
        let session = visit.session.as_ref();
        let flash = session.and_then(|s| s.flash.as_ref());
        let layout = Layout {
            title,
            service: site.title,
            nav: self.links(&site.nav),
            account: self.links(&site.account),
            session,
            token: self.csrf_token(),
            csrf: self.csrf(),
            messages: flash.into_iter().chain(&self.messages).collect(),
            content: &content,
            login: (session.is_none() && !is_below(visit.uri.path(), site.login))
                .then_some(site.login),
            logout: site.logout,
            style: &assets::STYLE.path,
            icon: &assets::ICON.path,
            htmx: &assets::HTMX.path,
            script: visit.state.script.as_ref().map(|script| &*script.path),
        };
        let flash = flash.is_some();
        Ok(self.response(html(&layout)?, Rendered { flash }))
    }

    /// A part of a page, for htmx.
    ///
    /// # Errors
    /// If the template fails.
    pub fn fragment(&self, content: &impl Template) -> Result<Response, ErrorPage> {
        Ok(self.response(html(content)?, Rendered { flash: false }))
    }

    /// Sends the browser on (303), where it shows the message.
    ///
    /// # Errors
    /// If the message cannot be stored.
    pub async fn redirect(
        &self,
        to: &LocalPath,
        message: Option<Flash>,
    ) -> Result<Response, ErrorPage> {
        if let (Some(message), Some(session)) = (message, &self.visit.session) {
            self.visit
                .state
                .site
                .sessions
                .flash(session.id, message)
                .await?;
        }
        Ok(self.to(to))
    }

    /// Logs in, under a new cookie whatever came with the request, and sends the browser on.
    ///
    /// # Errors
    /// If the session cannot be stored.
    pub async fn log_in(&self, new: NewSession, to: &LocalPath) -> Result<Response, ErrorPage> {
        let visit = &self.visit;
        let client = Client {
            source: visit.source,
            user_agent: visit.user_agent.clone(),
        };
        let old = visit.session.as_ref().map(|s| s.id);
        let state = &visit.state;
        let secret = state.site.sessions.start(new, client, old).await?;
        // Who returns from a login elsewhere came by a foreign link, and so would what a redirect leads to.
        let mut response = if visit.reads {
            self.again(to)?
        } else {
            self.to(to)
        };
        let cookies = &state.cookies;
        for cookie in [
            cookie::set(&cookies.session, &secret.text(), SameSite::Strict, None),
            cookie::remove(&cookies.form, SameSite::Strict),
            cookie::remove(&cookies.login, SameSite::Lax),
        ] {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        Ok(response)
    }

    /// Ends the session and sends the browser on.
    ///
    /// # Errors
    /// If the session cannot be ended.
    pub async fn log_out(&self, to: &LocalPath) -> Result<Response, ErrorPage> {
        let state = &self.visit.state;
        if let Some(session) = &self.visit.session {
            state
                .site
                .sessions
                .end(&session.account, session.id)
                .await?;
        }
        let mut response = self.to(to);
        let cookie = cookie::remove(&state.cookies.session, SameSite::Strict);
        response.headers_mut().append(header::SET_COOKIE, cookie);
        Ok(response)
    }

    /// Sends the browser to log in elsewhere (303); `state` is there when it comes back, [`Self::login_state`].
    ///
    /// # Errors
    /// If `url` is none, or `state` is more than a cookie carries (about 2 KiB).
    pub fn log_in_elsewhere(
        &self,
        url: &str,
        state: &impl Serialize,
    ) -> Result<Response, ErrorPage> {
        let failed = |what| {
            tracing::error!(what, "nobody can be sent to log in");
            ErrorPage::internal()
        };
        let url = HeaderValue::from_str(url).map_err(|_| failed("the URL is no header"))?;
        let name = &self.visit.state.cookies.login;
        let sealed = self
            .visit
            .state
            .login_states
            .seal(name, state, SystemTime::now());
        let sealed = sealed.ok_or_else(|| failed("the state is too long"))?;
        let seconds = login_state::LIFETIME.as_secs();
        let cookie = cookie::set(name, &sealed, SameSite::Lax, Some(seconds));
        let head = [(header::LOCATION, url), (header::SET_COOKIE, cookie)];
        Ok((StatusCode::SEE_OTHER, head).into_response())
    }

    /// What [`Self::log_in_elsewhere`] was given, for ten minutes. [`Self::log_in`] removes it; until then it may be read again, so that
    /// what must happen once is what the other side gave (a code).
    #[must_use]
    pub fn login_state<T: DeserializeOwned>(&self) -> Option<T> {
        let (name, value) = (&self.visit.state.cookies.login, &self.visit.login_cookie);
        let value = value.as_deref()?;
        self.visit
            .state
            .login_states
            .open(name, value, SystemTime::now())
    }

    /// If a link of another site led here, so that the browser may have kept the session's cookie to itself: a page that loads this one
    /// again, from here. [`super::CurrentSession`] answers it by itself.
    #[must_use]
    pub fn once_more(&self) -> Option<Response> {
        let visit = &self.visit;
        let held_back = visit.session.is_none() && visit.reads && visit.by_foreign_link;
        held_back.then(|| {
            self.again(&visit.path())
                .unwrap_or_else(|error| error.into_response())
        })
    }

    /// For who must be logged in and is not.
    pub(super) fn to_login(&self) -> Response {
        let visit = &self.visit;
        let login = visit.state.site.login;
        if visit.wants != Wants::Fragment
            && let Some(again) = self.once_more()
        {
            return again;
        }
        match visit.wants {
            Wants::Fragment => {
                let mut response = StatusCode::UNAUTHORIZED.into_response();
                let to = visit.around.after(login).header();
                response.headers_mut().insert(HX_REDIRECT, to);
                response
            }
            _ if visit.reads => see_other(&visit.path().after(login)),
            // What was to be changed cannot be asked for again.
            _ => see_other(&LocalPath::home().after(login)),
        }
    }

    pub(super) fn wants(&self) -> Wants {
        self.visit.wants
    }

    pub(super) fn is_token(&self, token: &str) -> bool {
        self.visit.secret.is_token(token)
    }

    pub(super) fn error(&self, status: StatusCode, message: &str) -> Result<Response, ErrorPage> {
        let title = status.canonical_reason().unwrap_or("Error");
        let status = status.as_u16();
        self.render(title, &ErrorContent { status, message })
    }

    /// What a response that was rendered brings with it.
    pub(super) async fn settle(&self, response: &mut Response) {
        let visit = &self.visit;
        let Some(rendered) = response.extensions().get::<Rendered>().copied() else {
            return;
        };
        let state = &visit.state;
        if visit.secret_is_new {
            let (name, value) = (&state.cookies.form, visit.secret.text());
            let cookie = cookie::set(name, &value, SameSite::Strict, None);
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        let shown = visit.session.as_ref().filter(|_| rendered.flash);
        if let Some((id, flash)) = shown.and_then(|s| Some((s.id, s.flash.clone()?)))
            && let Err(error) = state.site.sessions.flash_was_shown(id, flash).await
        {
            tracing::error!(%error, "a message will be shown twice");
        }
    }

    fn response(&self, text: String, rendered: Rendered) -> Response {
        let mut response = Html(text).into_response();
        response.extensions_mut().insert(rendered);
        if let Some(origin) = &self.form_action {
            response.extensions_mut().insert(origin.clone());
        }
        response
    }

    /// htmx follows 303 itself and would put a whole page into a part of one.
    fn to(&self, to: &LocalPath) -> Response {
        if self.is_htmx() {
            return [(HX_REDIRECT, to.header())].into_response();
        }
        see_other(to)
    }

    /// A page that goes on to `to` by itself: what begins here gets `SameSite=Strict` cookies, a redirect of a foreign link does not.
    fn again(&self, to: &LocalPath) -> Result<Response, ErrorPage> {
        let page = html(&Again {
            service: self.visit.state.site.title,
            path: to.as_str(),
            style: &assets::STYLE.path,
        })?;
        Ok(Html(page).into_response())
    }

    fn links(&self, items: &[NavItem]) -> Vec<Link> {
        let Some(session) = &self.visit.session else {
            return Vec::new();
        };
        let here = self.visit.uri.path();
        let roles = self.visit.roles.get().unwrap_or(&session.roles);
        let has = |role: &str| roles.iter().any(|r| r == role);
        let visible = |item: &&NavItem| item.role.is_none_or(has);
        let links = items.iter().filter(visible).map(|item| Link {
            label: item.label,
            path: item.path,
            current: is_below(here, item.path),
        });
        links.collect()
    }
}

/// Whether a path is that of a page, or below it; everything is not below `/`.
fn is_below(path: &str, page: &str) -> bool {
    let below = path.strip_prefix(page);
    below.is_some_and(|rest| rest.is_empty() || page != "/" && rest.starts_with('/'))
}

fn see_other(to: &LocalPath) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, to.header())]).into_response()
}
