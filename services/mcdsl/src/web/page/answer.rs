//! Where a page sends the browser: on, in, out, to log in elsewhere.

use askama::Template;
use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse as _, Response},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{Page, html};
use crate::web::{
    ErrorPage, Flash, LocalPath, NewSession, assets,
    cookie::{self, SameSite},
    error::Wants,
    login_state,
    secret::Secret,
    session::Client,
};

const HX_REDIRECT: HeaderName = HeaderName::from_static("hx-redirect");

#[derive(Template)]
#[template(path = "again.html")]
struct Again<'a> {
    service: &'a str,
    path: &'a str,
    style: &'a str,
}

impl Page {
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
        self.log_in_under(&Secret::random(), new, to).await
    }

    /// Logs in under a cookie that is new.
    pub(in crate::web) async fn log_in_under(
        &self,
        secret: &Secret,
        new: NewSession,
        to: &LocalPath,
    ) -> Result<Response, ErrorPage> {
        let visit = &self.visit;
        let client = Client {
            source: visit.source,
            user_agent: visit.user_agent.clone(),
        };
        let old = visit.session.as_ref().map(|s| s.id);
        let state = &visit.state;
        state.site.sessions.start(secret, new, client, old).await?;
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
        let site = &self.visit.state;
        let now = site.site.sessions.clock().now();
        let sealed = site.login_states.seal(name, state, now);
        let sealed = sealed.ok_or_else(|| failed("the state is too long"))?;
        let seconds = login_state::LIFETIME.as_secs();
        let cookie = cookie::set(name, &sealed, SameSite::Lax, Some(seconds));
        let head = [(header::LOCATION, url), (header::SET_COOKIE, cookie)];
        Ok((StatusCode::SEE_OTHER, head).into_response())
    }

    /// Sends the browser elsewhere, also to another site, instead of to where `answer` leads.
    pub(in crate::web) fn lead_away(
        &self,
        mut answer: Response,
        url: &str,
    ) -> Result<Response, ErrorPage> {
        let url = HeaderValue::from_str(url).map_err(|_| ErrorPage::internal())?;
        let name = if self.is_htmx() {
            HX_REDIRECT
        } else {
            header::LOCATION
        };
        answer.headers_mut().insert(name, url);
        Ok(answer)
    }

    /// What [`Self::log_in_elsewhere`] was given, for ten minutes. [`Self::log_in`] removes it; until then it may be read again, so that
    /// what must happen once is what the other side gave (a code).
    #[must_use]
    pub fn login_state<T: DeserializeOwned>(&self) -> Option<T> {
        let (name, value) = (&self.visit.state.cookies.login, &self.visit.login_cookie);
        let (value, site) = (value.as_deref()?, &self.visit.state);
        let now = site.site.sessions.clock().now();
        site.login_states.open(name, value, now)
    }

    /// If a link of another site led here, so that the browser may have kept the session's cookie to itself: a page that loads this one
    /// again, from here. [`crate::web::CurrentSession`] answers it by itself.
    #[must_use]
    pub fn once_more(&self) -> Option<Response> {
        let visit = &self.visit;
        let held_back = visit.session.is_none() && visit.reads && visit.by_foreign_link;
        held_back.then(|| {
            self.again(&LocalPath::own(&visit.uri))
                .unwrap_or_else(|error| error.into_response())
        })
    }

    /// For who must be logged in and is not.
    pub(in crate::web) fn to_login(&self) -> Response {
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
}

fn see_other(to: &LocalPath) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, to.header())]).into_response()
}
