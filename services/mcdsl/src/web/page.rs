//! A request's page: who sees it, what its forms need, and the answers that a handler gives.

mod answer;

use std::{fmt, net::IpAddr, sync::Arc};

use askama::Template;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse as _, Response},
};

use super::{
    ErrorPage, Flash, LocalPath, NavItem, OriginError, Session, Tone, assets,
    cookie::{self, SameSite},
    error::Wants,
    guard,
    headers::FormAction,
    secret::Secret,
    visit::Visit,
};

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
    scripts: Vec<&'a str>,
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
        let sso = visit.state.site.sso.as_ref();
        Self {
            form_action: sso.map(|sso| sso.form_action()),
            visit: Arc::new(visit),
            messages: Vec::new(),
        }
    }

    /// Who is logged in.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        self.visit.session.as_ref()
    }

    /// The service has found that the session's login goes on: its connection is one of the account's from now on, and not a stranger's. A
    /// site with a login elsewhere (`sso`) needs not say so.
    pub fn login_goes_on(&self) {
        if let Some(session) = self.session() {
            self.visit.connection.known(&session.account);
        }
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

    /// What API calls for who is logged in (by [`super::Sso`]) need.
    pub(super) fn bearer(&self) -> Option<(HeaderValue, IpAddr)> {
        let session = self.session()?;
        Some((session.bearer.clone()?, self.source()?))
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
            scripts: visit
                .state
                .scripts
                .iter()
                .map(|script| &*script.path)
                .collect(),
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

    /// Of the session's cookie, if there is one.
    pub(super) fn secret(&self) -> &Secret {
        &self.visit.secret
    }

    pub(super) fn logout_path(&self) -> &'static str {
        self.visit.state.site.logout
    }

    pub(super) fn wants(&self) -> Wants {
        self.visit.wants
    }

    pub(super) fn is_token(&self, token: &str) -> bool {
        self.visit.secret.is_token(token)
    }

    pub(super) fn error(
        &self,
        status: StatusCode,
        title: &str,
        message: &str,
    ) -> Result<Response, ErrorPage> {
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
